"""A disk with a cache that a power cut empties: what is on it at each moment, and whether a state opens on that.

Of the database's two files the disk has what SQLite has waited for, or all, since the system writes by itself, too. Of
a blob it has what was waited for, and of the rest whatever ``Lost`` says; it has removals at once, since a file system
may be that quick with names while it takes its time with data. Where a wait for the disk fails, the system takes what
was not written for written: no later wait brings it there unless it is written again, and what the disk has of it is
what it had before.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from enum import Enum, auto, unique
from pathlib import Path
from typing import Any

from failing_disk import FailingDisk

from jobfs.store import database as databases
from jobfs.store.state import State

_PAGE_BYTES = 4096
OTHER_BOOT = "the machine's next run"

_CHANGES = ("INSERT", "UPDATE", "DELETE")


@unique
class Lost(Enum):
    """What a power cut takes of those bytes of blobs for which nobody has waited."""

    NOTHING = auto()
    """They are all there."""
    BYTES = auto()
    """Files are as they were when somebody waited for them last, or empty."""
    PAGES = auto()
    """They are as long as they were made, with zeros where they grew."""
    HALF = auto()
    """The first half of each came to the disk."""
    NAMES = auto()
    """Files that nobody waited for are not there."""


class CachedDisk(FailingDisk):
    """The disk of one state.

    :ivar fails: tells, at each commit that waits for the disk, whether the wait fails.
    :ivar on_moment: called whenever a power cut, or the death of the process, would leave something else.
    :ivar on_call: called before each call of ``store.system.System`` and each statement, with its name.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory
        self.fails: Callable[[], bool] = lambda: False
        self.on_moment: Callable[[], None] = lambda: None
        self.on_call: Callable[[str], None] = lambda call: None
        self._blobs: dict[Path, bytes | None] = {}
        self.all_synced()

    # -- what the store asks

    def connect(self, path: Path) -> sqlite3.Connection:
        connection = databases.connect(path, lambda *all, **named: _Watched(self, *all, **named))  # type: ignore[arg-type]
        self.all_synced()
        return connection

    def fault(self, call: str, *, needs_room: bool) -> int:
        self.on_call(call)
        return super().fault(call, needs_room=needs_room)

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        descriptor = super().open(path, flags, mode)
        if flags & os.O_CREAT and self.directory / "blobs" in Path(path).parents:
            self._blobs[Path(path)] = None
        return descriptor

    def fsync(self, descriptor: int) -> None:
        super().fsync(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path in self._blobs:
            self._blobs[path] = path.read_bytes()

    def unlink(self, path: str) -> None:
        super().unlink(path)
        self._blobs.pop(Path(path), None)
        self.on_moment()

    def pwrite(self, descriptor: int, data: bytes | memoryview, at: int) -> int:
        written = super().pwrite(descriptor, data, at)
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")) == self.log:
            for page in range(at // _PAGE_BYTES, -(-(at + written) // _PAGE_BYTES)):
                self._unwritten.pop(page, None)
        return written

    # -- what SQLite has waited for

    @property
    def log(self) -> Path:
        return self.directory / "state.db-wal"

    def look(self, path: Path) -> bytes:
        return path.read_bytes() if path.exists() else b""

    def all_synced(self) -> None:
        """Note that the disk has all of the database: its log was brought into it."""
        self._kept = {name: self.look(self.directory / name) for name in ("state.db", "state.db-wal")}
        self._unwritten: dict[int, bytes] = {}

    def log_synced(self) -> None:
        """Note that the disk has the log, but for what it is wrong about."""
        pages = _pages(self.look(self.log))
        for number, page in enumerate(pages):
            if self._unwritten.get(number) == page:
                pages[number] = _page(self._kept["state.db-wal"], number)
            else:
                self._unwritten.pop(number, None)
        self._kept["state.db-wal"] = b"".join(pages)

    def log_failed(self) -> None:
        """Note that a wait for the log has failed."""
        for number, page in enumerate(_pages(self.look(self.log))):
            if page != _page(self._kept["state.db-wal"], number):
                self._unwritten[number] = page

    # -- what is found afterwards

    @contextmanager
    def left_by_power_cut(self, lost: Lost = Lost.NOTHING, *, is_log_written: bool = False) -> Iterator[Path]:
        """Give the directory that a power cut would leave now.

        :param is_log_written: whether the disk has all of the database, by luck, and not what was waited for.
        """
        with self._image(self._present() if is_log_written else self._kept) as image:
            for path, kept in self._blobs.items():
                self._spoil(image / path.relative_to(self.directory), path.read_bytes(), kept, lost)
            yield image

    @contextmanager
    def after_power_cut(self, lost: Lost = Lost.NOTHING, *, is_log_written: bool = False) -> Iterator[State]:
        """Open that."""
        with (
            self.left_by_power_cut(lost, is_log_written=is_log_written) as image,
            closing(State.open(image, boot=OTHER_BOOT)) as state,
        ):
            yield state

    @staticmethod
    def _spoil(file: Path, written: bytes, kept: bytes | None, lost: Lost) -> None:
        old = kept or b""
        match lost:
            case Lost.NOTHING:
                return
            case Lost.BYTES:
                left = old
            case Lost.PAGES:
                left = old[: len(written)].ljust(len(written), b"\0")
            case Lost.HALF:
                half = len(written) // 2
                left = written[:half] + old[half : len(written)].ljust(len(written) - half, b"\0")
            case Lost.NAMES:
                if kept is None:
                    file.unlink()
                    return
                left = old
        file.write_bytes(left)

    @contextmanager
    def after_death(self) -> Iterator[State]:
        """Open what the death of the process would leave now."""
        with self._image(self._present()) as image, closing(State.open(image)) as state:
            yield state

    def _present(self) -> dict[str, bytes]:
        return {name: self.look(self.directory / name) for name in self._kept}

    @contextmanager
    def _image(self, database: dict[str, bytes]) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / "state"
            shutil.copytree(self.directory, image, ignore=shutil.ignore_patterns("state.db*", "lock", "reserve"))
            for name, data in database.items():
                (image / name).write_bytes(data)
            yield image


def told_wrong(state: State) -> list[str]:
    """Return the files and versions whose bytes are others than the store says."""
    told = [(node.name, node.blob, node.content) for node in state.local.entries()]
    told += [(version.path, version.blob, version.content) for version in state.versions.all()]
    wrong = []
    for name, blob, content in told:
        if content is None or (blob is None and (content.revision is not None or not content.size)):
            continue  # a directory, what only the server has, an empty file
        if blob is None or not state.blobs.has(blob) or state.blobs.size(blob) != content.size:
            wrong.append(f"{name}: its length")
        elif content.sha256 is not None and state.blobs.sha256(blob) != content.sha256:
            wrong.append(f"{name}: its hash")
        elif content.revision is not None and content.sha256 is None:
            wrong.append(f"{name}: nobody can tell whether it is the server's")
    return wrong


def _pages(data: bytes) -> list[bytes]:
    return [data[at : at + _PAGE_BYTES] for at in range(0, len(data), _PAGE_BYTES)]


def _page(data: bytes, number: int) -> bytes:
    """Return a page of a file as the disk has it: what it never had reads as zeros."""
    return data[number * _PAGE_BYTES : (number + 1) * _PAGE_BYTES].ljust(_PAGE_BYTES, b"\0")


def _failure(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("the disk is full" if code == sqlite3.SQLITE_FULL else "disk I/O error")
    error.sqlite_errorcode = code
    return error


class _Watched(sqlite3.Connection):
    """A connection to a database on such a disk."""

    def __init__(self, disk: CachedDisk, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._disk = disk
        self._changes: list[tuple[str, Any]] = []
        self._waits = False

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        verb = statement.partition(" ")[0]
        if number := self._disk.fault(verb, needs_room=True):
            raise _failure(sqlite3.SQLITE_FULL if number == errno.ENOSPC else sqlite3.SQLITE_IOERR)
        if statement.startswith("PRAGMA synchronous"):
            self._waits = statement.endswith("FULL")
        elif verb in _CHANGES:
            self._changes.append((statement, values))
        elif verb == "COMMIT":
            return self._commit()
        cursor = super().execute(statement, values)
        if verb == "BEGIN":
            self._changes = []
        elif statement.startswith("PRAGMA wal_checkpoint"):
            row = cursor.fetchone()
            if not row[0]:
                self._disk.all_synced()
            return super().execute("SELECT ?, ?, ?", row)
        return cursor

    def _commit(self) -> sqlite3.Cursor:
        before = self._disk.look(self._disk.log)
        if self._waits and self._disk.fails():
            self._leave_commit_behind()
            self._disk.log_failed()
            self._disk.on_moment()
            raise _failure(sqlite3.SQLITE_IOERR_FSYNC)
        cursor = super().execute("COMMIT")
        if self._waits and self._disk.look(self._disk.log) != before:
            self._disk.log_synced()
        self._disk.on_moment()
        return cursor

    def _leave_commit_behind(self) -> None:
        """Undo the transaction, and have the log hold it: so SQLite leaves a commit whose wait for the disk failed."""
        disk = self._disk
        with tempfile.TemporaryDirectory() as folder:
            for name in ("state.db", "state.db-wal"):
                shutil.copy(disk.directory / name, folder)
            with closing(databases.connect(Path(folder) / "state.db")) as twin:
                twin.execute("BEGIN IMMEDIATE")
                for change in self._changes:
                    twin.execute(*change)
                twin.execute("COMMIT")
                log = (Path(folder) / "state.db-wal").read_bytes()
        super().execute("ROLLBACK")
        with disk.log.open("r+b") as file:
            file.write(log)
