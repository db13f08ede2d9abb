"""The mount's local side of the engine: bytes come from blobs, and changes are applied at once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

from jobfs.engine.applier import Applier
from jobfs.engine.hydrator import Hydrator
from jobfs.engine.pusher import Gone, Snapshot
from jobfs.engine.trees import Trees
from jobfs.engine.workspace import Workspace
from jobfs.model import ROOT, BlobId, Content, Kind, LocalNode, NodeId
from jobfs.planner.plan import LocalChange

INLINE_HASH_BYTES = 256 << 10
"""Up to here a hash on the loop is quicker than a thread's round trip, and a content is sent from memory."""

_AT_ONCE_S = 0.01
"""Hashes on the loop take so long together before others are let in."""


class Mirror:
    """The local tree as a side of the synchronisation. Satisfies ``side.LocalSide``."""

    is_instant = True

    def __init__(self, workspace: Workspace, trees: Trees, hydrator: Hydrator) -> None:
        self._workspace = workspace
        self._state = workspace.state
        self._trees = trees
        self._blobs = workspace.state.blobs
        self._hydrator = hydrator
        self.applier = Applier(workspace, trees)

    async def apply(self, changes: Iterable[LocalChange]) -> set[NodeId]:
        """Apply changes; suspends nowhere. One transaction for all: a first listing has a hundred thousand of them."""
        with self._state.transaction():
            return self.applier.apply_local(changes)

    async def prepare(self, nodes: Iterable[NodeId]) -> None:
        """Make the hashes of dirty files known, so that a save with equal bytes is recognised.

        Whoever asks for something meanwhile is answered between two of them: an archive unpacks to hundreds.
        """
        clock = self._workspace.clock
        began_s = clock.monotonic_s()
        for node in nodes:
            if clock.monotonic_s() - began_s > _AT_ONCE_S:
                await asyncio.sleep(0)
                began_s = clock.monotonic_s()
            record = self._state.synced.get(node)
            if record is None or not record.is_dirty or self._workspace.writers.get(node):
                continue
            if not self._is_first_there(record):
                await self._hashed(record)

    def _is_first_there(self, record: LocalNode) -> bool:
        """Tell whether a file is new and its place too, so that there is nothing that its bytes could be equal to.

        It is hashed when it is sent, and then read only once.
        """
        known, there = self._trees.state.base, self._trees.remote
        if known.get(record.id) is not None or there.get(record.id) is not None:
            return False
        if record.parent != ROOT and known.get(record.parent) is None:
            return False  # its directory may come to be a known one that was made anew
        places = (tree.child(record.parent, record.name) for tree in (known, there))
        return all(node is None for node in places)

    async def settle_hash(self, node: NodeId) -> None:
        """Make the hash of a file's present bytes known, also while it is open for writing."""
        record = self._state.synced.get(node)
        if record is not None and record.is_dirty:
            await self._hashed(record)

    async def _hashed(self, record: LocalNode) -> Content:
        """Return the content of a dirty file with its hash, remembered unless the file changes meanwhile."""
        content = record.content
        if content is None or content.sha256 is not None or record.blob is None:
            return content or Content(0)
        if content.size <= INLINE_HASH_BYTES:
            return self._learn(record, content, self._blobs.sha256(record.blob))
        with self._blobs.pinned(record.blob):
            sha256 = await asyncio.to_thread(self._blobs.sha256, record.blob)
        with self._state.transaction():
            return self._learn(record, content, sha256, is_lasting=True)

    def _learn(self, record: LocalNode, content: Content, sha256: str, *, is_lasting: bool = False) -> Content:
        """Return a content with its hash, and remember that for the node if it still has this content.

        :param is_lasting: in the store. In memory it stays until the next start, which costs a small file nothing.
        """
        known = Content(content.size, sha256, content.revision)
        now = self._state.local.get(record.id)
        if now is not None and now.content is content and now.blob == record.blob:
            keep = self._state.put_local if is_lasting else self._state.show_local
            keep(replace(now, content=known))
        return known

    @asynccontextmanager
    async def snapshot(self, node: NodeId) -> AsyncIterator[Snapshot]:
        """Hold the present version of a file: a small one in memory, of another one the blob, which writers copy.

        :raises Gone: there is no such file any more.
        """
        await self._hydrator.fetch(node)
        record = self._state.local.get(node)
        if record is None or record.kind is not Kind.FILE or record.content is None:
            raise Gone
        if record.blob is None:
            if record.content.size:
                raise Gone
            yield Snapshot(b"", record.content)
        elif record.content.size <= INLINE_HASH_BYTES:
            yield self._small(record, record.blob, record.content)
        else:
            with self._blobs.pinned(record.blob):
                yield Snapshot(self._blobs.path(record.blob), await self._hashed(record))

    def _small(self, record: LocalNode, blob: BlobId, content: Content) -> Snapshot:
        data = self._blobs.read(blob)
        if content.sha256 is None:
            content = self._learn(record, content, hashlib.sha256(data).hexdigest())
        return Snapshot(data, content)

    def pushed(self, node: NodeId, sent: Content, acknowledged: Content) -> None:
        """Mark the node clean if it still has the bytes that were sent."""
        record = self._state.local.get(node)
        if record is None or record.content is None or record.content.sha256 is None:
            return
        if (record.content.sha256, record.content.size) == (sent.sha256, sent.size):
            with self._state.transaction():
                self._state.put_local(replace(record, content=acknowledged))
