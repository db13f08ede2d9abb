"""Keep the local copies of clean contents within a size: the longest unused ones go first.

**Invariant: only bytes that the server has are evicted**: never those of a dirty, local-only or open file. An evicted
file is listed as before and is brought here again when it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jobfs.engine.workspace import Workspace
from jobfs.model import BlobId, LocalNode, NodeId, Revision

_SHRINK_TO = 0.9
"""Evict a little more than needed, so that a full cache is not searched at every arrival."""


class Cache:
    """The clean contents of one workspace.

    :param limit_bytes: what all local contents may take; None: no limit.
    """

    def __init__(self, workspace: Workspace, limit_bytes: int | None) -> None:
        self._workspace = workspace
        self._limit = limit_bytes
        self._moment = 0
        self._last_use: dict[NodeId, int] = {}
        self.on_evicted: Callable[[Revision], None] = lambda revision: None

    def use(self, node: NodeId) -> None:
        """Note that somebody reads a file."""
        if self._limit is not None:
            self._moment += 1
            self._last_use[node] = self._moment

    def held_bytes(self) -> int:
        """Return what all local contents take."""
        nodes = self._workspace.state.local.entries()
        return sum(node.content.size for node in nodes if node.blob is not None and node.content is not None)

    def shrink(self) -> int:
        """Evict until the limit is kept; return how many bytes went."""
        if self._limit is None:
            return 0
        held = self.held_bytes()
        if held <= self._limit:
            return 0
        evicted = 0
        for node, blob in self._candidates():
            if held - evicted <= self._limit * _SHRINK_TO:
                break
            evicted += node.content.size if node.content is not None else 0
            self._evict(node, blob)
        return evicted

    def _candidates(self) -> list[tuple[LocalNode, BlobId]]:
        state, workspace = self._workspace.state, self._workspace
        found = [
            (node, node.blob)
            for node in state.local.entries()
            if node.blob is not None
            and node.content is not None
            and node.content.revision is not None
            and not node.is_local_only
            and not workspace.is_open(node.id)
            and not state.blobs.is_pinned(node.blob)
        ]
        return sorted(found, key=lambda pair: self._last_use.get(pair[0].id, 0))

    def _evict(self, node: LocalNode, blob: BlobId) -> None:
        state = self._workspace.state
        with state.transaction():
            state.put_local(replace(node, blob=None))
            state.after_commit(lambda: state.blobs.remove(blob))
        self._last_use.pop(node.id, None)
        if node.content is not None and node.content.revision is not None:
            self.on_evicted(node.content.revision)
