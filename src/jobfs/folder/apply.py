"""Apply to the real folder what the planner wants shown: folder mode's half of "pull".

The disk is changed first, durably, then the record and base in one transaction; between the two nothing is awaited. A
crash in between leaves the disk ahead of the record, which the next scan finds: equal bytes are no conflict. Before
anything of the user's is touched the place is looked at once more, and where it is not as recorded it is left alone,
scanned, and planned again. Contents, which must be downloaded first, are the business of ``contents``.

**Invariant: nothing is removed unless it is exactly what was scanned and the server acknowledged its bytes, or the
local history has them.**
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import assert_never

from jobfs.engine.applier import Applier, remote_node, writable_as
from jobfs.engine.workspace import Workspace
from jobfs.folder.attempt import Attempts, Changed, Observer, Outdated
from jobfs.folder.contents import Contents, Pull, as_seen, known, settled
from jobfs.folder.disk import Disk
from jobfs.folder.keeping import Keeping
from jobfs.folder.report import SyncEvent, What
from jobfs.folder.where import Where
from jobfs.model import BlobId, Kind, LocalNode, NodeId, path_of
from jobfs.planner import plan as planned
from jobfs.planner.naming import Suffix, hidden_name
from jobfs.planner.plan import is_same_content, shown
from jobfs.store.history import Reason


class FolderApplier:
    """Applies the local half of plans to one folder."""

    def __init__(
        self,
        workspace: Workspace,
        applier: Applier,
        disk: Disk,
        *,
        contents: Contents,
        attempts: Attempts,
        observer: Observer,
        tokens: Callable[[], str],
    ) -> None:
        self._where = Where(workspace, disk)
        self._workspace = workspace
        self._state = workspace.state
        self._local = workspace.state.local
        self._applier = applier
        self._disk = disk
        self._contents = contents
        self._attempts = attempts
        self._observer = observer
        self._tokens = tokens
        self._keeping = Keeping(workspace, disk)

    async def apply(self, changes: Iterable[planned.LocalChange]) -> set[NodeId]:
        """Apply changes: those of the structure in order and at once, then the contents beside each other.

        A new content comes before the permission that goes with it: the conflict copy of the old one keeps its own.

        Expected failures are told to the observer, one node at a time.

        :return: the nodes to plan again now.
        """
        touched: set[NodeId] = set()
        pulls: dict[NodeId, Pull] = {}
        permissions: dict[NodeId, planned.SetLocalPermission] = {}
        for change in changes:
            match change:
                case planned.AddLocal(entry) if entry.kind is not Kind.DIRECTORY:
                    pulls[change.node] = change
                case planned.ReplaceContent() | planned.SplitConflict():
                    pulls[change.node] = change
                case planned.SetLocalPermission(node) if node in pulls:
                    permissions[node] = change
                case _:
                    touched |= self._attempt(change)
        for again in await asyncio.gather(*(self._pull(pull, permissions.get(node)) for node, pull in pulls.items())):
            touched |= again
        return touched

    def _attempt(self, change: planned.LocalChange) -> set[NodeId]:
        return self._attempts.run(change.node, self._place(change), partial(self._restructure, change))

    async def _pull(self, pull: Pull, permission: planned.SetLocalPermission | None) -> set[NodeId]:
        """Bring a content here, and set the permission that goes with it if that could be done."""
        touched = await self._contents.pull(pull, self._place(pull))
        record = self._local.get(pull.node)
        if permission is None or record is None or not is_same_content(record.content, pull.entry.content):
            return touched
        return touched | self._attempt(permission)

    def _place(self, change: planned.LocalChange) -> str:
        """Return the place that a change fills or changes, for messages and scans."""
        match change:
            case planned.AddLocal(entry):
                return self._where.below(entry.parent, entry.name)
            case planned.MoveLocal(_, parent, name):
                return self._where.below(parent, name)
            case _:
                return path_of(self._local, change.node) or ""

    def _restructure(self, change: planned.LocalChange) -> set[NodeId]:
        match change:
            case planned.AddLocal(entry):
                self._make_directory(change, self._where.target(entry.parent, entry.name, entry.id))
            case planned.MoveLocal(node, parent, name):
                self._move(change, self._where.target(parent, name, node))
            case planned.SetLocalPermission():
                self._set_permission(change)
            case planned.MarkClean():
                self._mark_clean(change)
            case planned.RemoveLocal():
                self._remove(change)
            case planned.ReplaceContent() | planned.SplitConflict():
                raise AssertionError("contents are not part of the structure")
            case _:
                assert_never(change)
        return {change.node}

    # -- the changes

    def _make_directory(self, change: planned.AddLocal, place: str) -> None:
        entry = change.entry
        self._disk.make_directory(place)
        self._disk.sync_directory(place.rpartition("/")[0])
        record = remote_node(entry, self._workspace.clock.wall_ns())
        with self._state.transaction():
            self._state.put_local(as_seen(record, self._where.look(place)))
            self._applier.record(change, entry.id)
        self._observer.done(SyncEvent(What.MADE_HERE, place))

    def _move(self, change: planned.MoveLocal, target: str) -> None:
        record = self._where.present(change.node)
        source = self._where.own(record)
        seen = self._disk.look(source)
        if seen is None or seen.kind is not record.kind or seen.inode != record.inode:
            raise Changed(source)
        self._disk.move(source, target, is_directory=record.kind is Kind.DIRECTORY)
        for directory in dict.fromkeys((source.rpartition("/")[0], target.rpartition("/")[0])):
            self._disk.sync_directory(directory)
        record = settled(record, self._where.look(target))
        with self._state.transaction():
            self._state.put_local(replace(record, parent=change.parent, name=change.name))
            self._applier.record(change, change.node)
        self._observer.done(SyncEvent(What.MOVED_HERE, target, detail=f"from {source}"))
        if record.kind is Kind.DIRECTORY:
            self._observer.revisit(target, change.node)  # files that were not at rest wait under their old places

    def _set_permission(self, change: planned.SetLocalPermission) -> None:
        """Set the write bit. A directory's is only recorded: a real one without it could not be kept in step."""
        record = self._where.present(change.node)
        place = self._where.own(record)
        if record.kind is Kind.FILE:
            seen = self._where.look(place)
            if seen.inode != record.inode:
                raise Changed(place)
            self._disk.set_mode(place, writable_as(seen.mode, change.permission))
            record = settled(record, self._where.look(place))
        with self._state.transaction():
            self._state.put_local(replace(record, permission=change.permission))
            self._applier.record(change, change.node)
        self._observer.done(SyncEvent(What.CHANGED_HERE, place, detail=change.permission.value))

    def _mark_clean(self, change: planned.MarkClean) -> None:
        record = self._where.present(change.node)
        if not is_same_content(record.content, change.entry.content):
            raise Outdated  # a scan found other bytes since the plan was made
        clean = shown(record, change)
        if not isinstance(clean, LocalNode):
            raise AssertionError("the local tree holds local nodes")
        with self._state.transaction():
            self._state.put_local(clean)
            self._applier.record(change, change.node)

    def _remove(self, change: planned.RemoveLocal) -> None:
        record = known(self._where.present(change.node), self._state.base.get(change.node))
        place = self._where.own(record)
        blob: BlobId | None = None
        is_gone = True
        if record.kind is Kind.DIRECTORY:
            is_gone = self._remove_directory(record, place)
        else:
            blob = self._remove_file(record, place, keeps=change.keeps)
        with self._state.blobs.unless_failed(blob), self._state.transaction():
            self._state.drop_base(change.node)
            if is_gone:
                self._state.drop_local(change.node)
                self._applier.removed(change.node)
                self._keep(replace(record, blob=blob))
        if not is_gone:
            # It holds what is not kept in step, or what no scan has seen: it stays, and is made anew on the server.
            raise Changed(place)
        self._observer.done(SyncEvent(What.DELETED_HERE, place))

    def _keep(self, record: LocalNode) -> None:
        """Keep a file that was removed. A crash since then costs it: the server had it, and deleted it."""
        is_kept = self._workspace.history.deleted(record, Reason.DELETED_THERE)
        blob = record.blob
        if blob is not None and not is_kept:
            self._state.after_commit(lambda: self._state.blobs.remove(blob))

    def _remove_directory(self, record: LocalNode, place: str) -> bool:
        if self._local.children(record.id):
            return False
        return self._disk.remove_directory(place)

    def _remove_file(self, record: LocalNode, place: str, *, keeps: bool) -> BlobId | None:
        """Remove a file that is exactly what was scanned; return its bytes, as far as they are still to be kept.

        It is first moved aside and looked at there: a program that replaced or wrote it a moment ago is found out. Not
        waited for on the disk: a file that a power cut brings back is pushed as a new one, which loses nothing.
        """
        if record.is_dirty and not keeps:
            raise Outdated
        parent, _, name = place.rpartition("/")
        hidden = hidden_name(name, self._tokens(), Suffix.OLD)
        aside = f"{parent}/{hidden}" if parent else hidden
        with suppress(FileNotFoundError):
            self._disk.move(place, aside, is_directory=False)
            try:
                return self._take_away(record, aside, place, keeps=keeps)
            except FileNotFoundError:
                raise
            except BaseException:
                self._put_back(aside, place, record.id)
                raise
        return None

    def _take_away(self, record: LocalNode, aside: str, place: str, *, keeps: bool) -> BlobId | None:
        if not self._where.look(aside).is_same_file(record):
            raise Changed(place)
        if keeps:
            self._keeping.keep(record, aside, place)
        blob = None if keeps else self._keeping.take(record, aside)
        with self._state.blobs.unless_failed(blob):
            self._disk.remove_file(aside)
        return blob

    def _put_back(self, aside: str, place: str, node: NodeId) -> None:
        """Give a file its name back. Where that cannot be, a scan finds it under the hidden one, as moved there."""
        try:
            self._disk.move(aside, place, is_directory=False)
        except OSError:
            self._observer.revisit(aside, node)
            self._observer.revisit(place, node)
            raise
