"""The directory that an expert's command works in: filled from the workspace, and its changes stored back.

The copy is of the moment at which the command starts; what others change in the workspace meanwhile does not reach it.
What the command makes, changes and deletes is found by scanning and stored while it runs:

- A file is stored when two scans in a row saw the same size and time, so that nobody reads half of it; one that never
  comes to rest (a log) is stored as it is every few seconds all the same; and everything is stored at the end.
- **Bytes of others are never overwritten or deleted.** If the item is no longer the one that the copy was made from,
  the expert's version goes beside it, as ``name (from the expert).ext``, and its deletion is left undone. A default of
  the application is never changed or deleted: what the expert makes of it is the job's own item, which shadows it.
- Links and special files are left out, and so is what the workspace does not take; both are named in ``left_out``.

Statements about the workspace hold between two awaits; whatever was looked at before one is looked at again after it.
"""

from __future__ import annotations

import asyncio
import errno
import filecmp
import mimetypes
import os
import re
import shutil
import stat
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, unique
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jobfs.server.content import ContentWriter
from jobfs.server.items import ItemRecord
from jobfs.server.refusals import Refused
from jobfs.server.sandbox import Sandbox
from jobfs.server.times import Clock

RESTLESS_MS = 2000
"""A file that changes all the time is stored this long after it was first seen to change."""

_CHUNK_BYTES = 1 << 20
_FILL_ATTEMPTS = 3

_UNFINISHED = re.compile(r"\..+\.jobfs-[0-9a-z]{8}\.(?:new|old)", re.DOTALL)
"""Names under which a client keeps a file while it replaces another: nobody's files yet, or no longer."""

_UNFIT = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EEXIST, errno.EISDIR, errno.ENOTDIR}
"""What this system answers to a name, or to a file that stands where a directory must be. It concerns one path only."""


class Stat(NamedTuple):
    """What tells one state of a file from the next without reading it. Of a directory only its kind counts."""

    is_directory: bool
    size: int = 0
    mtime_ns: int = 0
    inode: int = 0


@unique
class Deed(Enum):
    """What the expert did, in the words of checkpoint actions (contract C-8)."""

    WRITE = "writeTextFile"
    DELETE = "deleteFile"
    MAKE_DIRECTORY = "createDirectory"


@dataclass(frozen=True, slots=True)
class Change:
    """One change that the workspace now has.

    :param path: in the workspace.
    """

    deed: Deed
    path: str


@dataclass(frozen=True, slots=True)
class _Known:
    """A path as it was when copy and workspace last agreed on it.

    :param stored: the item's path; differs from the path in the copy for a version that went beside.
    """

    stat: Stat
    item: str
    key: str
    stored: str

    def is_still(self, record: ItemRecord) -> bool:
        """Tell whether the workspace still has what it had."""
        return (record.id, record.key) == (self.item, self.key)


@dataclass(frozen=True, slots=True)
class _Restless:
    """A path that was seen to change.

    :param stat: at the last scan; None for one that was gone.
    """

    stat: Stat | None
    since_ms: int


class WorkingCopy:
    """One command's working directory.

    :param root: an empty directory.
    :param max_files: most files that may be added to the workspace.
    """

    def __init__(self, root: Path, sandbox: Sandbox, *, clock: Clock, max_files: int) -> None:
        self.root = root
        self.left_out: dict[str, str] = {}
        self.has_too_many_files = False
        self._sandbox = sandbox
        self._clock = clock
        self._room = max_files
        self._known: dict[str, _Known] = {}
        self._restless: dict[str, _Restless] = {}
        self._refused: dict[str, Stat] = {}

    # ------------------------------------------------------------------ from the workspace

    async def fill(self) -> None:
        """Copy the workspace here. Content that is replaced while it is being copied is looked up again."""
        for _ in range(_FILL_ATTEMPTS):
            wanted = [record for record in self._missing() if record.path not in self.left_out]
            if not wanted:
                return
            copies = {record.path: self._sandbox.content(record.key) for record in wanted if not record.is_directory}
            self._known |= await asyncio.to_thread(self._copy_in, wanted, copies)
        self.left_out = {record.path: "it kept changing" for record in self._missing()} | self.left_out

    def _missing(self) -> list[ItemRecord]:
        return [
            record
            for record in self._sandbox.items()
            if record.path not in self._known
            and not any(_UNFINISHED.fullmatch(name) for name in record.path.split("/"))
        ]

    def _copy_in(self, records: list[ItemRecord], contents: Mapping[str, Path]) -> dict[str, _Known]:
        """Runs in a thread: make files and directories, and return what was made."""
        made: dict[str, _Known] = {}
        for record in records:
            try:
                found = _make(self.root / record.path, record, contents.get(record.path))
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in _UNFIT:
                    raise
                self.left_out[record.path] = os.strerror(error.errno)
                continue
            made[record.path] = _Known(found, record.id, record.key, record.path)
        return made

    # ------------------------------------------------------------------ to the workspace

    async def store(self, *, is_final: bool = False) -> list[Change]:
        """Scan once, and store what has come to rest; at the end, everything. Returns what was done."""
        found = await asyncio.to_thread(self._scan)
        changes = [change async for change in self._store_present(found, is_final=is_final)]
        changes += self._store_absent(found, is_final=is_final)
        self._restless = {path: seen for path, seen in self._restless.items() if path in found or path in self._known}
        return changes

    def _scan(self) -> dict[str, Stat]:
        """Runs in a thread: what is there, by path, parents first."""
        return dict(sorted(self._walk(self.root, "")))

    def _walk(self, folder: Path, prefix: str) -> Iterator[tuple[str, Stat]]:
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return
        for entry in entries:
            path = prefix + entry.name
            try:
                entry.name.encode()
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except UnicodeEncodeError:
                self.left_out[path] = "its name is not UTF-8"
                continue
            if stat.S_ISDIR(found.st_mode):
                yield path, Stat(is_directory=True)
                yield from self._walk(folder / entry.name, path + "/")
            elif stat.S_ISREG(found.st_mode):
                yield path, _file_stat(found)
            else:
                self.left_out[path] = "a link or a special file"

    async def _store_present(self, found: Mapping[str, Stat], *, is_final: bool) -> AsyncIterator[Change]:
        for path, now in found.items():
            known = self._known.get(path)
            if (known is not None and known.stat == now) or self._refused.get(path) == now:
                self._restless.pop(path, None)
            elif now.is_directory:
                if change := self._store_directory(path, now):
                    yield change
            elif (is_due := self._is_due(path, now)) or is_final or self._is_overdue(path):
                change = await self._store_file(path, now, is_torn_allowed=is_final or not is_due)
                if change:
                    yield change

    def _is_due(self, path: str, now: Stat | None) -> bool:
        """Note what a scan saw; true when the one before saw the same."""
        before = self._restless.get(path)
        self._restless[path] = _Restless(now, before.since_ms if before else self._clock())
        return before is not None and before.stat == now

    def _is_overdue(self, path: str) -> bool:
        return self._clock() - self._restless[path].since_ms >= RESTLESS_MS

    def _store_directory(self, path: str, now: Stat) -> Change | None:
        current = self._sandbox.at(path)
        if current is not None and current.is_directory:
            self._know(path, now, current)
            return None
        return self._put(path, now, None)

    async def _store_file(self, path: str, now: Stat, *, is_torn_allowed: bool) -> Change | None:
        with self._sandbox.writer() as writer:
            is_whole = await asyncio.to_thread(_copy_out, self.root / path, now, writer)
            if is_whole is None or not (is_whole or is_torn_allowed):
                return None
            # One that changed under the copy is stored, but not as known: the next scan takes it again.
            seen = now if is_whole else now._replace(mtime_ns=-1)
            self._restless.pop(path, None)
            current = self._sandbox.at(self._target(path))
            if current is not None and await asyncio.to_thread(self._has_same_bytes, current, writer):
                self._know(path, seen, current)
                return None
            return self._put(path, seen, writer)

    def _has_same_bytes(self, current: ItemRecord, writer: ContentWriter) -> bool:
        """Runs in a thread: compare a content with that of an item."""
        if current.is_directory or current.size != writer.size:
            return False
        try:
            new, old = self._sandbox.content(writer.key), self._sandbox.content(current.key)
            return filecmp.cmp(new, old, shallow=False)
        except FileNotFoundError:
            return False

    def _put(self, path: str, now: Stat, writer: ContentWriter | None) -> Change | None:
        """Store a file, or without a writer a directory: at its own path or, where others were faster, beside it."""
        target = self._free_target(path)
        is_new = self._sandbox.at(target) is None
        if writer and is_new and self._room <= 0:
            self.has_too_many_files = True
            return None
        try:
            record = self._put_at(target, writer)
        except Refused as error:
            self._refused[path] = now
            self.left_out[path] = str(error.reason)
            return None
        self._room -= bool(writer and is_new)
        self._know(path, now, record, stored=target)
        return Change(Deed.WRITE if writer else Deed.MAKE_DIRECTORY, target)

    def _put_at(self, target: str, writer: ContentWriter | None) -> ItemRecord:
        if writer is None:
            return self._sandbox.put_directory(target)
        mime_type = mimetypes.guess_type(target)[0] or "application/octet-stream"
        record = self._sandbox.put_file(target, key=writer.key, size=writer.size, mime_type=mime_type)
        writer.keep()
        return record

    def _target(self, path: str) -> str:
        known = self._known.get(path)
        return known.stored if known else path

    def _free_target(self, path: str) -> str:
        """Return where a path's version may go: its own place, unless somebody else's bytes stand there."""
        known, target = self._known.get(path), self._target(path)
        current = self._sandbox.at(target)
        if current is None or (known is not None and known.is_still(current)):
            return target
        number = 1
        while self._sandbox.at(beside(path, number)) is not None:
            number += 1
        return beside(path, number)

    def _know(self, path: str, now: Stat, record: ItemRecord, *, stored: str | None = None) -> None:
        self._known[path] = _Known(now, record.id, record.key, stored or record.path)
        self._refused.pop(path, None)

    def _store_absent(self, found: Mapping[str, Stat], *, is_final: bool) -> list[Change]:
        """Delete what the expert deleted: what two scans did not find, the deepest first."""
        changes: list[Change] = []
        for path in sorted(self._known.keys() - found.keys(), reverse=True):
            # One scan may fall between the two halves of a save by way of a temporary name.
            if not is_final and not self._is_due(path, None):
                continue
            self._restless.pop(path, None)
            change = self._delete(self._known.pop(path))
            if change:
                changes.append(change)
        return changes

    def _delete(self, known: _Known) -> Change | None:
        current = self._sandbox.at(known.stored)
        if current is None or not known.is_still(current) or self._sandbox.is_shared(current):
            return None
        if current.is_directory and self._sandbox.has_items_below(known.stored):
            return None
        try:
            self._sandbox.delete(current)
        except Refused as error:
            self.left_out[known.stored] = str(error.reason)
            return None
        return Change(Deed.DELETE, known.stored)


def beside(path: str, number: int) -> str:
    """Return the name under which the expert's version of a file is kept when its own name is taken."""
    place = PurePosixPath(path)
    mark = "from the expert" if number == 1 else f"from the expert {number}"
    return str(place.with_name(f"{place.stem} ({mark}){place.suffix}"))


def _make(path: Path, record: ItemRecord, content: Path | None) -> Stat:
    """Make one file or directory of the copy. Raises ``FileNotFoundError`` where the content is gone."""
    if content is None:
        path.mkdir(parents=True, exist_ok=True)
        return Stat(is_directory=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(content, path)
    # A time in the past makes the first change by the command visible, however soon it comes.
    os.utime(path, ns=(record.updated_ms * 1_000_000, record.updated_ms * 1_000_000))
    path.chmod(0o444 if record.permission == "readOnly" else 0o644)
    return _file_stat(path.stat())


def _file_stat(found: os.stat_result) -> Stat:
    return Stat(False, found.st_size, found.st_mtime_ns, found.st_ino)


def _copy_out(path: Path, expected: Stat, writer: ContentWriter) -> bool | None:
    """Runs in a thread: copy a file into a content.

    :return: whether it was the same from beginning to end; None where it cannot be opened: gone or changed in kind
        since the scan, and the next one sees what it is then.
    """
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    except OSError:
        return None
    with os.fdopen(fd, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            writer.write(chunk)
        return _file_stat(os.fstat(fd)) == expected
