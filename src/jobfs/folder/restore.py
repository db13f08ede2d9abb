"""Put versions of the history back into a real folder, as a program would: written beside, then renamed into place.

The next scan finds the file and has it pushed like any save. What it replaces becomes a version first, durably, whether
it was sent or not.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from jobfs.engine.restore import OTHER_PLACE, SEE_HISTORY, PutBack, check_place, check_unsent, is_there
from jobfs.engine.workspace import Workspace
from jobfs.errors import HistoryError, NoSuchVersion
from jobfs.folder.arrivals import Arrivals
from jobfs.folder.attempt import Changed
from jobfs.folder.disk import Disk, Seen
from jobfs.folder.keeping import Keeping
from jobfs.model import ROOT, Content, Kind, LocalNode, Permission, node_at
from jobfs.planner.naming import Suffix, hidden_name
from jobfs.store.blobs import disk_errors
from jobfs.store.history import NOBODY, Reason, Version


class FolderRestorer:
    """Puts versions back into one folder, kept in step just now or not. Satisfies ``engine.restore.Restorer``.

    :param arrivals: what is told of each version until it is in its place.
    :param on_changed: told of each place, so that it is looked at.
    """

    def __init__(self, workspace: Workspace, disk: Disk, arrivals: Arrivals, on_changed: Callable[[str], None]) -> None:
        self._workspace = workspace
        self._state = workspace.state
        self._disk = disk
        self._keeping = Keeping(workspace, disk)
        self._arrivals = arrivals
        self._on_changed = on_changed

    async def restore(self, version: Version, path: str, *, is_undelete: bool = False) -> PutBack:
        """Put the bytes of a version at a place; see ``engine.restore.Restorer``."""
        check_place(path)
        present = self._check(path, version, may_replace=not is_undelete)
        if await self._has(path, present, version):
            return PutBack(path, version, is_changed=False)
        if self._state.versions.get(version.number) is None:
            raise NoSuchVersion(f"version {version.number} of {version.path} is no longer kept", SEE_HISTORY)
        parent, _, name = path.rpartition("/")
        self._make_directories(parent)
        with self._arrivals.one() as token:
            hidden = hidden_name(name, token, Suffix.NEW)
            temporary = f"{parent}/{hidden}" if parent else hidden
            try:
                await self._write(temporary, version, present, is_undelete=is_undelete)
                await self._put(temporary, path, present)
            except BaseException:
                with suppress(FileNotFoundError):
                    self._disk.remove_file(temporary)
                raise
        self._disk.sync_directory(parent)
        self._on_changed(path)
        return PutBack(path, version)

    def _check(self, path: str, version: Version, *, may_replace: bool) -> Seen | None:
        """Look at a place; return what is there.

        :raises HistoryError: nothing can be put there.
        """
        above, _, name = path.rpartition("/")
        if reason := self._disk.why_not(name):
            raise HistoryError(f"{path} cannot exist here: {reason}", OTHER_PLACE)
        while above and self._disk.look(above) is None:
            above = above.rpartition("/")[0]
        if not self._disk.is_real(above):
            raise HistoryError(f"{above} is no directory", OTHER_PLACE)
        present = self._disk.look(path)
        if present is None:
            return None
        if not may_replace or present.kind is not Kind.FILE:
            raise is_there(path, version)
        record = self._record(path)
        if record is not None and record.permission is Permission.READ_ONLY:
            raise HistoryError(f"{path} is read-only", f"allow writing first (chmod u+w), or {OTHER_PLACE}")
        return present

    def _record(self, path: str) -> LocalNode | None:
        node = node_at(self._state.local, path)
        return self._state.local.get(node) if node is not None else None

    async def _has(self, path: str, present: Seen | None, version: Version) -> bool:
        """Tell whether the file that is there has the same bytes."""
        if present is None or present.size != version.content.size or version.content.sha256 is None:
            return False
        told = await asyncio.to_thread(self._disk.digest, path)
        return told is not None and told[1] == version.content.sha256

    def _make_directories(self, place: str) -> None:
        if place and self._disk.look(place) is None:
            self._make_directories(place.rpartition("/")[0])
            self._disk.make_directory(place)

    async def _write(self, temporary: str, version: Version, present: Seen | None, *, is_undelete: bool) -> None:
        descriptor = self._disk.create(temporary)
        with os.fdopen(descriptor, "wb") as sink, disk_errors():
            if version.blob is not None:
                blobs = self._state.blobs
                with blobs.pinned(version.blob), blobs.path(version.blob).open("rb") as reader:
                    await asyncio.to_thread(shutil.copyfileobj, reader, sink, 1 << 20)
            sink.flush()
            await asyncio.to_thread(self._disk.sync, sink.fileno())
        self._disk.set_mode(temporary, version.mode if present is None else present.mode)
        if is_undelete and version.mtime_ns:
            self._disk.set_mtime(temporary, version.mtime_ns)

    async def _put(self, temporary: str, path: str, present: Seen | None) -> None:
        """Give the new file its name; what had it is kept first."""
        try:
            if present is None:
                self._disk.put_new(temporary, path)
                return
            await self._keep(path, present)
        except (Changed, FileExistsError):
            raise HistoryError(f"{path} changes just now", "try again when it rests") from None
        self._disk.put_over(temporary, path)

    async def _keep(self, path: str, present: Seen) -> None:
        blob, seen = await self._keeping.save(path)
        with self._state.blobs.unless_failed(blob):
            if not seen.is_same_file(present):
                raise Changed(path)
            kept = replace(self._as_it_is(path, seen), blob=blob)
            check_unsent(self._workspace, kept)
            self._keeping.hand_over(kept, Reason.REPLACED, path)

    def _as_it_is(self, path: str, seen: Seen) -> LocalNode:
        """Return the record of a file; as one that was never sent where no scan has seen it as it is."""
        record = self._record(path)
        if record is not None and record.content is not None and seen.is_untouched(record):
            return record
        node = record.id if record is not None else NOBODY
        content = Content(seen.size)
        name = path.rpartition("/")[2]
        return LocalNode(node, ROOT, name, Kind.FILE, content=content, mode=seen.mode, mtime_ns=seen.mtime_ns)
