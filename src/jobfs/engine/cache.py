"""Keep the local copies of clean contents within a size: the longest unused ones go first. On a full disk they make
room for what cannot be had again: there the largest go first, so that few have to.

**Invariants.** Only bytes that the server has are evicted: never those of a dirty, local-only or open file. An evicted
file is listed as before and is brought here again when it is read. On a full disk all is done between two awaits, with
the room of the reserve (``store.reserve``), which is taken back before anything else can use it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from jobfs.engine.workspace import Workspace
from jobfs.errors import StateError
from jobfs.model import BlobId, LocalNode, NodeId, Revision

_SHRINK_TO = 0.9
"""Evict a little more than needed, so that a full cache is not searched at every arrival."""

_LEAST_ROOM_BYTES = 1 << 20
"""So much goes at least on a full disk, so that not every write has to make room."""

_AT_ONCE = 16
"""So many copies give way in one commit, which has to find its room in the reserve: of small ones each alone would
need more room in the log than it frees."""

_IN_VAIN_S = 1.0
"""For so long nothing is tried again after nothing could give way: looking costs time that grows with the workspace."""

_log = logging.getLogger(__name__)

_Copy = tuple[LocalNode, BlobId]


class Cache:
    """The clean contents of one workspace.

    :param limit_bytes: what all local contents may take; None: no limit.
    """

    def __init__(self, workspace: Workspace, limit_bytes: int | None) -> None:
        self._workspace = workspace
        self._limit = limit_bytes
        self._moment = 0
        self._in_vain_until_s = 0.0
        self._last_use: dict[NodeId, int] = {}
        self.on_evicted: Callable[[Revision], None] = lambda revision: None

    def use(self, node: NodeId) -> None:
        """Note that somebody reads a file."""
        if self._limit is not None:
            self._moment += 1
            self._last_use[node] = self._moment

    def shrink(self) -> int:
        """Evict until the limit is kept; return how many bytes went."""
        if self._limit is None:
            return 0
        held = self._workspace.state.local.held_bytes
        if held <= self._limit:
            return 0
        evicted = 0
        for node, blob in self._candidates():
            if held - evicted <= self._limit * _SHRINK_TO:
                break
            evicted += _size(node)
            self._evict([(node, blob)])
        return evicted

    def make_room(self, needed_bytes: int = 0) -> bool:
        """Let copies give way on a full disk; tell whether it is worth trying again what found no room.

        Also where no copy can, the log of the store may be written over from its beginning: small changes need no
        room then, so that what waits for the server can be sent, and give way afterwards.

        :param needed_bytes: so much is to go at least, where there is as much.
        """
        now_s = self._workspace.clock.monotonic_s()
        if now_s < self._in_vain_until_s and not self._workspace.state.blobs.has_waiting:
            return False
        copies = sorted(self._candidates(), key=lambda copy: _size(copy[0]), reverse=True)
        is_better = self._give_way(iter(copies), max(needed_bytes, _LEAST_ROOM_BYTES))
        if not is_better:
            self._in_vain_until_s = now_s + _IN_VAIN_S
        return is_better

    def _give_way(self, copies: Iterator[_Copy], wanted_bytes: int) -> bool:
        state, freed, is_folded = self._workspace.state, 0, False
        try:
            lent = state.reserve.give_up()
            freed += state.finish_removals() if state.blobs.has_waiting else 0
            while batch := list(_enough(copies, wanted_bytes - freed)):
                self._evict(batch, is_durable=True)
                freed += sum(_size(node) for node, _ in batch)
                is_folded |= state.fold_log(freed)
            is_folded |= state.fold_log(freed + lent // 2)  # the rest is for the commit by which a copy gives way later
        except StateError as error:
            _log.info("no more can give way: %s", error)
        finally:
            state.reserve.take()
        return freed > 0 or is_folded

    def _candidates(self) -> list[_Copy]:
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

    def _evict(self, copies: Sequence[_Copy], *, is_durable: bool = False) -> None:
        """Forget copies; their files go when that is on the disk: at once where the commit waits for it."""
        state = self._workspace.state
        with state.transaction(durable=is_durable):
            for node, blob in copies:
                state.put_local(replace(node, blob=None))
                state.after_commit(partial(state.blobs.remove, blob))
        for node, _ in copies:
            self._last_use.pop(node.id, None)
            if node.content is not None and node.content.revision is not None:
                self.on_evicted(node.content.revision)


def _enough(copies: Iterator[_Copy], wanted_bytes: int) -> Iterator[_Copy]:
    """Yield the next copies for one commit, no more than are wanted."""
    for _ in range(_AT_ONCE):
        copy = next(copies, None) if wanted_bytes > 0 else None
        if copy is None:
            return
        yield copy
        wanted_bytes -= _size(copy[0])


def _size(node: LocalNode) -> int:
    return node.content.size if node.content is not None else 0
