"""Bring content here: one download per content, however many readers, and each served as its bytes arrive.

A download writes into a blob of its own. When it is complete and its length is the listed one, the blob becomes the
node's; when the node has meanwhile got other bytes, the download is dropped, except for an open file whose name is
gone: its bytes are *kept* until its last handle is closed.

**Invariant: no byte of an incomplete or doubtful download is ever in a node's blob.** Readers are served from the
blob of the running download, of which only bytes are shown that are known to be of one version (``landing``). A
download that would have to start over fails where any of its bytes were given to a reader, rather than mix two. And a
revision of which a reader got bytes, from a download that did not end or whose bytes were evicted, is *distrusted*: the
next download of it shows nothing before the item was looked at again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from jobfs.engine.patience import DEFAULT_DEADLINE_S, Patience
from jobfs.engine.remote import Remote
from jobfs.engine.transfer import RevisionGone, Transfer
from jobfs.engine.workspace import Workspace
from jobfs.errors import DeadlineExceeded, StateError
from jobfs.model import BlobId, Content, LocalNode, NodeId, Revision
from jobfs.store.blobs import disk_errors

_log = logging.getLogger(__name__)

_SLOWEST_BYTES_PER_S = 1024
"""A download that is slower than this makes no progress."""

_MOST_DISTRUSTED = 1 << 16
"""So many revisions are distrusted; those for longest are forgotten."""

_RANGE = "range"
"""The setting that says whether the server honours ranges."""

_HONOURED = {True: "honour", False: "ignore"}
_TOLD = {word: is_honoured for is_honoured, word in _HONOURED.items()}


class StillComing(DeadlineExceeded):
    """The bytes come, but too slowly for a wait that keeps others waiting and need not succeed."""


class _Mark(NamedTuple):
    """How far a download had come at a moment."""

    at_s: float
    steps: int
    received: int


class _Hydration:
    """One download under way."""

    transfer: Transfer

    def __init__(self, node: NodeId, revision: Revision, blob: BlobId, descriptor: int) -> None:
        self.node = node
        self.revision = revision
        self.blob = blob
        self.descriptor = descriptor
        self.task: asyncio.Task[None] | None = None
        self.readers = 0
        self.is_done = False
        self._error: BaseException | None = None
        self._waiters: dict[asyncio.Future[None], Callable[[], bool]] = {}

    async def wait(self, is_there: Callable[[], bool], patience: Patience) -> None:
        """Wait until something is there; the deadline starts anew with every sign of life.

        A few bytes are none: a server that drips would keep everybody waiting for ever. For who keeps others waiting
        nothing but bytes is one, until all of them are here and only their hash is not.

        :raises DeadlineExceeded: there was none. :raises StillComing: see ``Patience.is_optional``.
        """
        began = looked = self._mark()
        while not is_there():
            if self._error is not None:
                raise self._error
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters[future] = is_there
            try:
                async with asyncio.timeout_at(min(began.at_s + patience.deadline_s, looked.at_s + patience.look_s)):
                    await future
            except TimeoutError:
                began, looked = self._look(began, looked, patience)
            finally:
                del self._waiters[future]

    def _mark(self) -> _Mark:
        return _Mark(asyncio.get_running_loop().time(), self.transfer.steps, self.transfer.received)

    def _look(self, began: _Mark, looked: _Mark, patience: Patience) -> tuple[_Mark, _Mark]:
        """See how a wait goes on; return from when on its deadline, and its time for others, count."""
        now = self._mark()
        if now.at_s >= looked.at_s + patience.look_s:
            if patience.is_locked():
                self._check(looked, now, counts_steps=self.transfer.arrived == self.revision.size)
                if patience.is_optional:
                    raise StillComing("the bytes come slowly, and others wait", "read fewer at once")
            looked = now
        if now.at_s >= began.at_s + patience.deadline_s:
            self._check(began, now, counts_steps=True)
            began = now
        return began, looked

    @staticmethod
    def _check(since: _Mark, now: _Mark, *, counts_steps: bool) -> None:
        passed_s = now.at_s - since.at_s
        has_stepped = counts_steps and now.steps != since.steps
        if not has_stepped and now.received < since.received + _SLOWEST_BYTES_PER_S * passed_s:
            raise DeadlineExceeded(
                f"hardly a byte from the server within {passed_s:.0f} s", "try again when the server answers"
            )

    def wake(self) -> None:
        """Wake whoever has now what he waits for."""
        for future, is_there in self._waiters.items():
            if not future.done() and is_there():
                future.set_result(None)

    def finish(self) -> None:
        """Note that the bytes have found their place."""
        self.is_done = True
        self.wake()

    def fail(self, error: BaseException) -> None:
        """Give every waiter the error."""
        self._error = error
        for future in self._waiters:
            if not future.done():
                future.set_exception(error)


class Hydrator:
    """The downloads of one workspace.

    :param deadline_s: how long a read waits without any progress before it fails.
    """

    def __init__(self, workspace: Workspace, remote: Remote, *, deadline_s: float = DEFAULT_DEADLINE_S) -> None:
        self._workspace = workspace
        self._state = workspace.state
        self._remote = remote
        self._deadline_s = deadline_s
        self._running: dict[Revision, _Hydration] = {}
        self._kept: dict[NodeId, BlobId | None] = {}
        self._distrusted: dict[Revision, None] = {}
        self._is_range_honoured = _TOLD.get(self._state.setting(_RANGE) or "")
        self.on_gone: Callable[[NodeId], None] = lambda node: None
        self.on_arrived: Callable[[], object] = lambda: None
        self.on_read: Callable[[LocalNode], None] = lambda record: None

    # -- what the faces ask for

    async def fetch(self, node: NodeId, *, is_locked: bool = False) -> None:
        """Return once the node's bytes are here. Returns at once for dirty, hydrated, empty or vanished nodes.

        :param is_locked: see ``patience.LOCKED_DEADLINE_S``. The download goes on after that.
        :raises ApiError: the download failed. :raises DeadlineExceeded: no progress within the deadline.
        """
        record = self._state.local.get(node)
        if record is None or record.blob is not None or record.content is None:
            return
        if record.content.revision is not None and record.content.size:
            hydration = self._start(node, record.content.revision)
            await self._wait_for_end(hydration, is_locked)

    async def _wait_for_end(self, hydration: _Hydration, is_locked: bool) -> None:
        await hydration.wait(lambda: hydration.is_done, Patience(self._deadline_s, lambda: is_locked))

    async def read(
        self,
        record: LocalNode,
        offset: int,
        size: int,
        *,
        is_locked: Callable[[], bool] = lambda: False,
        is_optional: bool = False,
        is_overtaken: Callable[[], bool] = lambda: False,
    ) -> bytes | None:
        """Return bytes of a file that is not hydrated, as soon as they have arrived.

        :param is_locked: see ``Patience``, like the next one.
        :param is_overtaken: tells whether the file has other bytes by now (see ``overtake``): the result is None then.
        :raises ApiError: the download failed. :raises DeadlineExceeded: no progress within the deadline.
        """
        if record.content is None or record.content.revision is None:
            raise AssertionError("only clean content can be hydrated")
        self.on_read(record)
        hydration = self._start(record.id, record.content.revision)
        transfer, end = hydration.transfer, offset + size
        hydration.readers += 1
        try:
            if not transfer.shows(offset, end):
                with transfer.wanted(offset, end):
                    patience = Patience(self._deadline_s, is_locked, is_optional)
                    await hydration.wait(lambda: transfer.shows(offset, end) or is_overtaken(), patience)
            if is_overtaken():
                return None
            transfer.is_read = True
            with disk_errors():
                return os.pread(hydration.descriptor, size, offset)
        finally:
            hydration.readers -= 1
            self._close_when_idle(hydration)

    def overtake(self, node: NodeId) -> None:
        """Note that a file got other bytes while its own were on their way: who waits for those need not."""
        for hydration in self._running.values():
            if hydration.node == node:
                hydration.wake()

    # -- open files whose name is gone

    def keep_for_open(self, record: LocalNode) -> None:
        """Note that an open file lost its name: its bytes, still on the way or only on the server, are wanted here.

        Called before the deletion is pushed; ``holds_deletion`` keeps the push waiting until the bytes are here.
        """
        if record.blob is None and record.content is not None and record.content.revision and record.content.size:
            self._kept[record.id] = None
            self._workspace.keepers[record.id] += 1
            with suppress(StateError):  # whoever reads it tries again
                self._start(record.id, record.content.revision)

    def keep_arriving(self, record: LocalNode) -> None:
        """Note that an open file lost its name to another version: what is arriving for it stays its own."""
        revision = record.content.revision if record.content is not None else None
        if record.blob is None and revision is not None and revision in self._running:
            self._kept.setdefault(record.id, None)

    async def fetch_kept(self, record: LocalNode, *, is_locked: bool = False) -> None:
        """Return once the bytes of a detached, open file are here; see ``fetch``."""
        if record.content is not None and record.content.revision is not None and self._kept.get(record.id) is None:
            self._kept.setdefault(record.id, None)
            hydration = self._start(record.id, record.content.revision)
            await self._wait_for_end(hydration, is_locked)

    def take_kept(self, node: NodeId) -> BlobId | None:
        """Hand over the bytes of a detached file, once; None while they are not here."""
        blob = self._kept.get(node)
        if blob is not None:
            del self._kept[node]
        return blob

    def drop_kept(self, node: NodeId) -> None:
        """Note that the last handle of a detached file is closed."""
        blob = self._kept.pop(node, None)
        if blob is not None:
            self._state.blobs.discard(blob)
        self._release_keeper(node)

    def _release_keeper(self, node: NodeId) -> None:
        if self._workspace.keepers.pop(node, 0):
            self._workspace.touch(node)

    # -- downloads

    def _start(self, node: NodeId, revision: Revision) -> _Hydration:
        running = self._running.get(revision)
        if running is None:
            blob = self._state.blobs.allocate()
            running = _Hydration(node, revision, blob, self._state.blobs.open(blob, create=True))
            running.transfer = Transfer(
                self._remote,
                revision,
                running.descriptor,
                system=self._state.blobs.system,
                is_honoured=bool(self._is_range_honoured),
                on_learnt=self._learn_range,
                on_offer=self._hear_of_range,
                on_change=running.wake,
                is_same=partial(self._is_same, node, revision),
                was_read=revision in self._distrusted,
            )
            self._running[revision] = running
            running.task = asyncio.create_task(self._run(running), name=f"hydrate-{node}")
        return running

    def _learn_range(self, is_honoured: bool) -> None:
        self._is_range_honoured = is_honoured
        if self._state.setting(_RANGE) != _HONOURED[is_honoured]:
            with self._state.transaction():
                self._state.remember(_RANGE, _HONOURED[is_honoured])

    def _hear_of_range(self) -> None:
        """Take the server's word for it that it honours ranges, where no answer has shown what it does."""
        if self._is_range_honoured is None:
            self._is_range_honoured = True

    def _is_same(self, node: NodeId, asked: Revision, found: Revision) -> bool:
        """Tell whether a later revision has the same bytes: a change of ours to name or permission made it, as the node
        names it, and what a change of the bytes would change is as before."""
        if not asked.key or replace(found, updated_at=asked.updated_at) != asked:
            return False
        record = self._state.local.get(node)
        if record is None or record.blob is not None or record.content is None:
            return False
        return record.content.revision == found

    async def _run(self, hydration: _Hydration) -> None:
        node = hydration.node
        try:
            self._arrived(hydration, await hydration.transfer.run())
        except BaseException as error:
            self._running.pop(hydration.revision, None)
            self._drop(hydration)
            hydration.fail(error if isinstance(error, Exception) else DeadlineExceeded("the download was stopped"))
            self._close_when_idle(hydration)
            self._release_keeper(node)
            if isinstance(error, RevisionGone):
                self.on_gone(node)
            if not isinstance(error, Exception):
                raise
            _log.info("download of node %d failed: %s", node, error)
            return
        self._running.pop(hydration.revision, None)
        hydration.finish()
        self._close_when_idle(hydration)
        self.on_arrived()

    def _arrived(self, hydration: _Hydration, sha256: str) -> None:
        """Give a complete download to whom it belongs.

        :raises StateFull: that cannot be recorded; the download has then failed like any other.
        """
        node, revision = hydration.node, hydration.transfer.revision
        content = Content(revision.size, sha256, revision)
        with self._state.transaction():
            base = self._state.base.get(node)
            if base is not None and base.content is not None and base.content.revision == revision:
                self._state.put_base(replace(base, content=content))
            record = self._state.local.get(node)
            belongs = record is not None and record.blob is None and record.content is not None
            if belongs and record is not None and record.content is not None and record.content.revision == revision:
                self._state.put_local(replace(record, content=content, blob=hydration.blob))
                self._state.after_commit(partial(self._distrusted.pop, hydration.revision, None))
                return
        if node in self._kept:
            self._kept[node] = hydration.blob
            self._release_keeper(node)
        else:
            self._drop(hydration)

    def _drop(self, hydration: _Hydration) -> None:
        """Throw away what a download brought."""
        self._state.blobs.discard(hydration.blob)
        if hydration.transfer.is_read:
            self.distrust(hydration.revision)

    def distrust(self, revision: Revision) -> None:
        """Note that readers were given bytes of a revision which are no longer here."""
        self._distrusted.pop(revision, None)
        self._distrusted[revision] = None
        if len(self._distrusted) > _MOST_DISTRUSTED:
            del self._distrusted[next(iter(self._distrusted))]

    def _close_when_idle(self, hydration: _Hydration) -> None:
        done = self._running.get(hydration.revision) is not hydration
        if done and not hydration.readers and hydration.descriptor >= 0:
            os.close(hydration.descriptor)
            hydration.descriptor = -1

    def arriving(self) -> list[tuple[NodeId, int, int]]:
        """Return each download under way: its node, how many bytes are here, and how many there will be."""
        return [(one.node, one.transfer.arrived, one.revision.size) for one in self._running.values()]

    async def stop(self) -> None:
        """End every download. What had arrived completely stays."""
        tasks = [hydration.task for hydration in self._running.values() if hydration.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
