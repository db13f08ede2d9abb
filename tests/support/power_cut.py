"""A disk with a cache that a power cut empties: what is on it at each moment, and whether a state opens on that.

Of the database's two files the disk has what SQLite has waited for; of the blobs it has everything at once, and their
removal above all, since a file system may be that quick with names while it takes its time with data. Where a wait for
the disk fails, the system takes what was not written for written: no later wait brings it there unless it is written
again, and what the disk has of it is what it had before.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from failing_disk import FailingDisk

from jobfs.store import database as databases
from jobfs.store.state import State

_PAGE_BYTES = 4096
_CHANGES = ("INSERT", "UPDATE", "DELETE")


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
        self.all_synced()

    # -- what the store asks

    def connect(self, path: Path) -> sqlite3.Connection:
        connection = databases.connect(path, lambda *all, **named: _Watched(self, *all, **named))  # type: ignore[arg-type]
        self.all_synced()
        return connection

    def fault(self, call: str, *, needs_room: bool) -> int:
        self.on_call(call)
        return super().fault(call, needs_room=needs_room)

    def unlink(self, path: str) -> None:
        super().unlink(path)
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
    def after_power_cut(self) -> Iterator[State]:
        """Open what a power cut would leave now."""
        with self._opened(self._kept) as state:
            yield state

    @contextmanager
    def after_death(self) -> Iterator[State]:
        """Open what the death of the process would leave now."""
        with self._opened({name: self.look(self.directory / name) for name in self._kept}) as state:
            yield state

    @contextmanager
    def _opened(self, database: dict[str, bytes]) -> Iterator[State]:
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / "state"
            shutil.copytree(self.directory, image, ignore=shutil.ignore_patterns("state.db*", "lock", "reserve"))
            for name, data in database.items():
                (image / name).write_bytes(data)
            with closing(State.open(image)) as state:
                yield state


def told_wrong(state: State) -> list[str]:
    """Return the clean files whose bytes are others than the store says."""
    wrong = []
    for node in state.local.entries():
        known = node.content.sha256 if node.content is not None and not node.is_dirty else None
        if node.blob is not None and known is not None and state.blobs.sha256(node.blob) != known:
            wrong.append(node.name)
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
