"""Bring remote contents into the real folder: download beside the target, make durable, look again, rename.

Downloads run beside each other; what they end with does not: ``_finish`` gives the targets their new bytes, syncs each
directory once, and records the results, with nothing awaited. Whatever became ready while that waited for the disk is
finished together next time.

**Invariant: no file is replaced unless it is exactly what was scanned and the server acknowledged its bytes.** Where it
is not, as in a conflict or a revert, its bytes have a second name, or a place in the history, before the first name is
given away.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from jobfs.engine.applier import Applier, mtime_of, remote_node, writable_as
from jobfs.engine.remote import Remote
from jobfs.engine.transfer import receive
from jobfs.engine.workspace import Workspace
from jobfs.folder.arrivals import Arrivals
from jobfs.folder.attempt import EXPECTED, Attempts, Changed, Observer, Outdated
from jobfs.folder.disk import Disk, Seen
from jobfs.folder.keeping import Keeping
from jobfs.folder.names import is_copy_name
from jobfs.folder.report import SyncEvent, What
from jobfs.folder.where import Where
from jobfs.model import BlobId, Content, Entry, Kind, LocalNode, NodeId, Revision
from jobfs.planner import plan as planned
from jobfs.planner.naming import Suffix, hidden_name
from jobfs.store.history import Reason

PARALLEL_DOWNLOADS = 16

Pull: TypeAlias = planned.AddLocal | planned.ReplaceContent | planned.SplitConflict


@dataclass(slots=True)
class _Ready:
    """A complete and durable download beside its target.

    :param content: with the digest. :param temporary: where the bytes are.
    :param seen: the look that will be the target's.
    :param history: of a conflict without a copy, and of a revert: a blob with the local version, and the look that it
        belongs to; None once the history has it.
    :param replaced: the bytes that lost their name to this, as far as they are to be kept.
    :param copy: of a conflict with a copy that was made now: where.
    """

    change: Pull
    content: Content
    place: str
    temporary: str
    seen: Seen
    done: asyncio.Future[set[NodeId]]
    history: tuple[BlobId, Seen] | None = None
    replaced: BlobId | None = None
    copy: str | None = None


class Contents:
    """The downloads of one folder.

    :param arrivals: what is told of each download until it is in its place.
    """

    def __init__(
        self,
        workspace: Workspace,
        applier: Applier,
        disk: Disk,
        remote: Remote,
        *,
        attempts: Attempts,
        observer: Observer,
        arrivals: Arrivals,
    ) -> None:
        self._where = Where(workspace, disk)
        self._workspace = workspace
        self._state = workspace.state
        self._local = workspace.state.local
        self._applier = applier
        self._disk = disk
        self._remote = remote
        self._attempts = attempts
        self._observer = observer
        self._keeping = Keeping(workspace, disk)
        self._arrivals = arrivals
        self._slots = asyncio.Semaphore(PARALLEL_DOWNLOADS)
        self._ready: list[_Ready] = []

    async def pull(self, change: Pull, place: str) -> set[NodeId]:
        """Bring a content to its place; return the nodes to plan again now.

        Expected failures are told to the observer.

        :param place: for messages and scans.
        """
        async with self._slots:
            with self._arrivals.one() as token:
                try:
                    ready = await self._prepare(change, token)
                except EXPECTED as error:
                    return self._attempts.fail(change.node, place, error)
                return await ready.done

    # -- before the target is touched

    async def _prepare(self, change: Pull, token: str) -> _Ready:
        place, record = self._aim(change)
        parent, _, name = place.rpartition("/")
        hidden = hidden_name(name, token, Suffix.NEW)
        temporary = f"{parent}/{hidden}" if parent else hidden
        mode = None if record is None else record.mode
        descriptor = self._disk.create(temporary)
        try:
            content, seen = await self._download(descriptor, temporary, change.entry, mode)
        except BaseException:
            self._discard(change, temporary)
            raise
        done: asyncio.Future[set[NodeId]] = asyncio.get_running_loop().create_future()
        known = replace(change, entry=replace(change.entry, content=content))
        ready = _Ready(known, content, place, temporary, seen, done)
        if _reason(change):
            try:
                ready.history = await self._keeping.save(place)
            except BaseException:
                self._discard(change, temporary)
                raise
        if not self._ready:
            asyncio.get_running_loop().call_soon(self._finish)
        self._ready.append(ready)
        return ready

    def _aim(self, change: Pull) -> tuple[str, LocalNode | None]:
        """Return where a content goes, and the record of what it replaces."""
        if isinstance(change, planned.AddLocal):
            entry = change.entry
            return self._where.target(entry.parent, entry.name, entry.id), None
        record = self._where.present(change.node)
        return self._where.own(record), record

    async def _download(self, descriptor: int, temporary: str, entry: Entry, mode: int | None) -> tuple[Content, Seen]:
        """Download an entry's bytes into a new file, with its time and mode, and wait until the disk has them.

        :param mode: of the file that is replaced, whose permission is another change's matter; None: of a new file.
        """
        revision = _revision(entry)
        try:
            sha256 = await receive(self._remote, revision, descriptor)
            if mtime_ns := mtime_of(entry):
                self._disk.set_mtime(temporary, mtime_ns)
            usual = self._disk.look_at(descriptor).mode
            self._disk.set_mode(temporary, writable_as(usual, entry.permission) if mode is None else mode)
            await asyncio.to_thread(self._disk.sync, descriptor)
            return Content(revision.size, sha256, revision), self._disk.look_at(descriptor)
        finally:
            os.close(descriptor)

    # -- the end, for all that are ready, with nothing awaited

    def _finish(self) -> None:
        everything, self._ready = self._ready, []
        try:
            self._finish_all(everything)
        except Exception as error:  # noqa: BLE001 - raised where these pulls are awaited; nobody would end them otherwise
            for ready in everything:
                if not ready.done.done():
                    ready.done.set_exception(error)

    def _finish_all(self, everything: Sequence[_Ready]) -> None:
        placed = [ready for ready in everything if self._is_placed(ready)]
        failed: dict[str, OSError] = {}
        for directory in dict.fromkeys(ready.place.rpartition("/")[0] for ready in placed):
            try:
                self._disk.sync_directory(directory)
            except OSError as error:
                failed[directory] = error
        for ready in placed:
            unsynced = failed.get(ready.place.rpartition("/")[0])
            if unsynced is not None:
                self._withdraw(ready)
            record = partial(self._record, ready) if unsynced is None else partial(_throw, unsynced)
            self._tell(ready, self._attempts.run(ready.change.node, ready.place, record))

    def _is_placed(self, ready: _Ready) -> bool:
        """Give a target its new bytes; where that cannot be, tell why."""
        try:
            self._place(ready)
        except EXPECTED as error:
            self._discard(ready.change, ready.temporary)
            self._take_back(ready)
            for blob in (ready.history[0] if ready.history is not None else None, ready.replaced):
                if blob is not None:
                    self._state.blobs.discard(blob)
            self._tell(ready, self._attempts.fail(ready.change.node, ready.place, error))
            return False
        return True

    def _withdraw(self, ready: _Ready) -> None:
        """Take a new file back whose name may not outlive a power cut, and which is therefore not recorded.

        Wherever the user moved it, it would be taken for one of his. What it replaced is given up: the server had it.
        """
        if ready.replaced is not None:
            self._state.blobs.discard(ready.replaced)
        with suppress(OSError):  # where the disk fails in this too, the next scan finds it
            seen = self._disk.look(ready.place) if isinstance(ready.change, planned.AddLocal) else None
            if seen is not None and seen.is_same_file(ready.seen):
                self._disk.remove_file(ready.place)

    @staticmethod
    def _tell(ready: _Ready, touched: set[NodeId]) -> None:
        if not ready.done.done():
            ready.done.set_result(touched)

    def _discard(self, change: Pull, temporary: str) -> None:
        """Remove a download that found no place; also where its directory was renamed under it.

        Where even that fails, as where no scan has seen yet where the directory is now, a scan removes it.
        """
        record = self._local.get(change.node)
        parent = record.parent if record is not None else change.entry.parent
        for place in (temporary, self._where.below(parent, temporary.rpartition("/")[2])):
            with suppress(OSError):
                self._disk.remove_file(place)
                return
        self._observer.revisit("", change.node)

    def _place(self, ready: _Ready) -> None:
        place, record = self._aim(ready.change)
        if place != ready.place:
            raise Outdated
        if record is None:
            self._disk.put_new(ready.temporary, place)
            return
        seen = self._where.look(place)
        if seen.kind is not Kind.FILE or not seen.is_untouched(record):
            raise Changed(place)
        if ready.history is not None:
            self._secure(ready, record, *ready.history)
        elif isinstance(ready.change, planned.SplitConflict):
            self._copy(ready, ready.change, record)
        elif record.content is None or known(record, self._state.base.get(record.id)).is_dirty:
            raise Outdated  # edited, as a scan has found since the plan was made
        elif (record.content.sha256, record.content.size) == (ready.content.sha256, ready.content.size):
            self._disk.remove_file(ready.temporary)  # another revision of the same bytes: the file stays as it is
            ready.seen = seen
            return
        if ready.seen.mode != seen.mode:  # set since the download began
            self._disk.set_mode(ready.temporary, seen.mode)
            ready.seen = self._where.look(ready.temporary)
        if isinstance(ready.change, planned.ReplaceContent) and not ready.change.keeps:
            ready.replaced = self._keeping.take(record, place)
        self._disk.put_over(ready.temporary, place)

    def _secure(self, ready: _Ready, record: LocalNode, blob: BlobId, saved: Seen) -> None:
        """Put the local version into the history before its name is given away."""
        if not saved.is_same_file(record):
            raise Changed(ready.place)
        loser = replace(record, blob=blob, content=Content(saved.size))
        self._keeping.hand_over(loser, _reason(ready.change) or Reason.LOST, ready.place)
        ready.history = None

    def _copy(self, ready: _Ready, change: planned.SplitConflict, record: LocalNode) -> None:
        """Give the local version of a conflict another name before its own is given away."""
        copy_name = change.copy_name or ""
        if not self._has_copy(record):
            copy = self._where.target(record.parent, copy_name, NodeId(0))
            self._disk.duplicate(ready.place, copy)
            ready.copy = copy

    def _take_back(self, ready: _Ready) -> None:
        """Take the copy's name back where the winner did not get its own: a program that still writes the file would
        write both. A copy of the bytes may stay; it is found the next time.
        """
        if ready.copy is not None:
            with suppress(OSError):  # where the disk fails in this too, the file stays at both places
                self._disk.take_back(ready.place, ready.copy)

    def _has_copy(self, record: LocalNode) -> bool:
        """Tell whether a conflict copy of these bytes is there already: a crash may have come after it was made."""
        for name, node in self._local.children(record.parent).items():
            copy = self._local.get(node)
            if copy is None or copy.id == record.id or not is_copy_name(name, record.name):
                continue
            if copy.content is None or record.content is None or copy.content.sha256 is None:
                continue
            seen = self._disk.look(self._where.below(record.parent, name))
            is_equal = (copy.content.sha256, copy.content.size) == (record.content.sha256, record.content.size)
            if is_equal and seen is not None and seen.is_untouched(copy):
                return True
        return False

    # -- the record

    def _record(self, ready: _Ready) -> set[NodeId]:
        change = ready.change
        touched = {change.node}
        with self._state.blobs.unless_failed(ready.replaced), self._state.transaction():
            if isinstance(change, planned.AddLocal):
                record = remote_node(change.entry, self._workspace.clock.wall_ns())
            else:
                record = self._where.present(change.node)
            if isinstance(change, planned.SplitConflict):
                touched |= self._record_loser(ready, change, record)
            if ready.replaced is not None:
                self._record_replaced(ready.replaced, record)
            seen = self._disk.look(ready.place)
            record = as_seen(replace(record, content=ready.content), ready.seen)
            self._state.put_local(record if seen is None else settled(record, seen))
            self._applier.record(change, change.node)
        self._observer.done(SyncEvent(What.PULLED, ready.place, ready.content.size))
        if isinstance(change, planned.SplitConflict):
            kept = f"is kept as {change.copy_name}" if change.copy_name else "is in the history"
            self._observer.done(SyncEvent(What.CONFLICT, ready.place, detail=f"the version from here {kept}"))
        return touched

    def _record_replaced(self, blob: BlobId, record: LocalNode) -> None:
        """Keep what lost its name. A crash since then costs it: the server had it."""
        loser = replace(known(record, self._state.base.get(record.id)), blob=blob)
        if not self._workspace.history.replaced(loser, Reason.REPLACED_THERE):
            self._state.after_commit(lambda: self._state.blobs.remove(blob))

    def _record_loser(self, ready: _Ready, change: planned.SplitConflict, record: LocalNode) -> set[NodeId]:
        """Record the copy of a conflict's local version."""
        content = record.content or Content(0)
        if change.copy_name is not None and ready.copy is not None:
            fresh = self._state.allocate()
            copy = replace(record, id=fresh, name=change.copy_name, content=Content(content.size, content.sha256))
            there = self._disk.look(self._where.below(record.parent, change.copy_name))
            self._state.put_local(copy if there is None else settled(copy, there))
            return {fresh}
        return set()


def as_seen(record: LocalNode, seen: Seen) -> LocalNode:
    """Return a record with what a look told about it."""
    return replace(record, inode=seen.inode, mode=seen.mode, mtime_ns=seen.mtime_ns, ctime_ns=seen.changed_ns)


def known(record: LocalNode, base: Entry | None) -> LocalNode:
    """Return a record with its revision, where base knows the bytes by their hash alone.

    They were written here anew, or sent by a request whose answer was lost. The planner takes them for the server's.
    """
    is_there = record.is_dirty and base is not None and planned.is_same_content(record.content, base.content) is True
    return replace(record, content=base.content) if is_there and base is not None else record


def settled(record: LocalNode, seen: Seen) -> LocalNode:
    """Return a record with what our own renaming or change of mode did to the file; what anybody else did is left to
    the next scan to find.
    """
    return replace(record, ctime_ns=seen.changed_ns, mode=seen.mode) if seen.is_same_file(record) else record


def _reason(change: Pull) -> Reason | None:
    """Return why the history gets what a content replaces; None where it does not."""
    if isinstance(change, planned.SplitConflict) and change.copy_name is None:
        return Reason.LOST
    return Reason.REVERTED if isinstance(change, planned.ReplaceContent) and change.keeps else None


def _revision(entry: Entry) -> Revision:
    if entry.content is None or entry.content.revision is None:
        raise AssertionError("what comes from the server has a revision")
    return entry.content.revision


def _throw(error: OSError) -> set[NodeId]:
    raise error
