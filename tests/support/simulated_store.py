"""The store of the machines of the simulation (``simulation``): quick, begun from one image of an empty one, and,
with some seeds, on a disk that fails.

Nothing here tells whether a power cut spares what SQLite has written: tests with real processes and real disks do. A
machine that dies leaves what was committed, so no journal is needed on the disk, nor the locks for a second process.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jobfs.store.state import State


@dataclass(slots=True)
class StoreWeather:
    """How bad the disk of a store is, as probabilities for each call.

    :param broken: a call fails with EIO. :param full: one that needs room fails with ENOSPC, or does half of it.
    """

    broken: float = 0.0
    full: float = 0.0

    def clear(self) -> None:
        """Let the faults stop."""
        self.broken = self.full = 0.0


class BadDisk:
    """The disk of one machine's store. Satisfies ``store.system.System``, and opens its database.

    :param weather: tells how bad it is at this moment.
    """

    def __init__(self, weather: Callable[[], StoreWeather], throw: Callable[[float], bool]) -> None:
        self._weather = weather
        self._throw = throw
        self._is_spared = False

    @contextmanager
    def spared(self) -> Iterator[None]:
        """Fail nothing for the length of a block: it is the observer that looks."""
        self._is_spared, before = True, self._is_spared
        try:
            yield
        finally:
            self._is_spared = before

    def undoes(self) -> bool:
        """Tell whether SQLite has undone the transaction in which something failed."""
        return self._throw(0.5)

    def fault(self, call: str, *, needs_room: bool) -> int:
        """Return how a call fails, a number of ``errno``; 0 where it does not.

        :param call: of ``System``, or the first word of a statement.
        """
        if self._is_spared:
            return 0
        if self._throw(self._weather().broken):
            return errno.EIO
        return errno.ENOSPC if needs_room and self._throw(self._weather().full) else 0

    def connect(self, path: Path) -> sqlite3.Connection:
        """Open the machine's database; satisfies ``store.state.Connect``."""
        return connect(path, lambda *arguments, **options: _BadDatabase(self, *arguments, **options))

    def _may_fail(self, call: str, *, needs_room: bool = False) -> None:
        if number := self.fault(call, needs_room=needs_room):
            raise OSError(number, os.strerror(number))

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        self._may_fail("open", needs_room=bool(flags & os.O_CREAT))
        return os.open(path, flags, mode)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self._may_fail("mkdir", needs_room=True)
        os.mkdir(path, mode)

    def unlink(self, path: str) -> None:
        self._may_fail("unlink")
        os.unlink(path)

    def stat(self, path: str) -> os.stat_result:
        self._may_fail("stat")
        return os.stat(path)

    def _taken(self, call: str, data: bytes | memoryview) -> bytes | memoryview:
        """Return what of some bytes there is room for; none at all is an error."""
        number = self.fault(call, needs_room=True)
        if number == errno.ENOSPC and len(data) > 1 and self._throw(0.5):
            return data[: len(data) // 2]
        if number:
            raise OSError(number, os.strerror(number))
        return data

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        return os.write(descriptor, self._taken("write", data))

    def pwrite(self, descriptor: int, data: bytes | memoryview, at: int) -> int:
        return os.pwrite(descriptor, self._taken("pwrite", data), at)

    def ftruncate(self, descriptor: int, length: int) -> None:
        self._may_fail("ftruncate")
        os.ftruncate(descriptor, length)

    def fsync(self, descriptor: int) -> None:
        self._may_fail("fsync", needs_room=True)


class _BadDatabase(sqlite3.Connection):
    """A database on a bad disk. SQLite undoes the transaction by itself with some of its errors."""

    def __init__(self, disk: BadDisk, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._disk = disk

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        verb = statement.partition(" ")[0]
        if verb not in ("PRAGMA", "ROLLBACK"):
            number = self._disk.fault(verb, needs_room=verb not in ("BEGIN", "SELECT"))
            if number == errno.ENOSPC:
                self._fail("database or disk is full", sqlite3.SQLITE_FULL)
            elif number:
                self._fail("disk I/O error", sqlite3.SQLITE_IOERR)
        return super().execute(statement, values)

    def _fail(self, words: str, code: int) -> None:
        if self.in_transaction and self._disk.undoes():
            super().execute("ROLLBACK")
        error = sqlite3.OperationalError(words)
        error.sqlite_errorcode = code
        raise error


def connect(path: Path, factory: Callable[..., sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    """Open a machine's database; satisfies ``store.state.Connect``."""
    if not path.exists():
        path.write_bytes(_empty_store())
    return _connect(path, factory)


def _connect(path: Path, factory: Callable[..., sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    database: sqlite3.Connection = sqlite3.connect(
        path,
        isolation_level=None,
        check_same_thread=False,
        factory=factory,  # type: ignore[arg-type]
    )
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("PRAGMA journal_mode = MEMORY")
    database.execute("PRAGMA synchronous = OFF")
    return database


@cache
def _empty_store() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        State.open(Path(directory), connect=_connect).close()
        return (Path(directory) / "state.db").read_bytes()
