"""The connection to the database of a state, and its write-ahead log, which takes room of its own.

A commit appends to the log. Once all of the log is in the database, the next commit begins it anew, over what it held:
until it is as long again, commits need no room.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobfs.errors import StateCorrupt, StateError, StateFull, StateLocked
from jobfs.store.system import System

_PAGE_BYTES = 4096
_MOST_PAGES = 4000
"""16 MB: the longer the log may grow, the fewer waits for the disk."""

_CHUNK = 1 << 20
_LEAST_PAGES = 64
_SHARE = 16


def connect(path: Path, factory: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    """Open a database, without transactions of its own, for calls from any thread."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=factory)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    pages = log_pages(_disk_bytes(path.parent))
    database.execute(f"PRAGMA wal_autocheckpoint = {pages}")
    database.execute(f"PRAGMA journal_size_limit = {pages * _PAGE_BYTES}")
    return database


def _disk_bytes(directory: Path) -> int:
    """Return the size of a disk; where the system does not tell, all that there could be."""
    if sys.platform != "win32" and not hasattr(os, "statvfs"):
        return sys.maxsize
    return shutil.disk_usage(directory).total


def log_pages(disk_bytes: int) -> int:
    """Return how long the log may grow before it is brought into the database, in pages.

    That is less than elsewhere where so much would be much of the disk.

    :param disk_bytes: the size of the disk, free or not.
    """
    return max(_LEAST_PAGES, min(_MOST_PAGES, disk_bytes // _SHARE // _PAGE_BYTES))


def fold_log(database: sqlite3.Connection, path: Path, room_bytes: int) -> bool:
    """Bring the log into the database, so that the next commits are written over it; tell whether there was any.

    :param room_bytes: by no more than this may the database's file grow for it. A log that would take more stays as it
        is: half done, it would have used the room and be as long as before.
    """
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
    if pages * page_bytes - path.stat().st_size > room_bytes:
        return False
    is_busy, frames, _ = database.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    return not is_busy and frames > 0


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def sync_log(system: System, path: Path) -> None:
    """Have the disk take what is in the log, so that the next durable commit waits for little. In any thread.

    :raises OSError: the disk fails.
    """
    if not _log_of(path).exists():
        return
    descriptor = system.open(os.fspath(_log_of(path)), os.O_RDWR)  # no lock is on this file that closing it could lose
    try:
        system.fsync(descriptor)
    finally:
        os.close(descriptor)


def rewrite_log(system: System, path: Path) -> None:
    """Write the log over itself, after a wait for the disk has failed.

    The system takes what it could not write then for written: the next wait would succeed without it.

    :raises OSError: the disk fails.
    """
    if not _log_of(path).exists():
        return
    descriptor = system.open(os.fspath(_log_of(path)), os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        at = 0
        while chunk := _read_at(descriptor, at):
            at += system.pwrite(descriptor, chunk, at)
    finally:
        os.close(descriptor)


def _read_at(descriptor: int, at: int) -> bytes:
    os.lseek(descriptor, at, os.SEEK_SET)
    return os.read(descriptor, _CHUNK)


def lengthen_log(database: sqlite3.Connection, path: Path, wanted_bytes: int) -> None:
    """Let the log be at least so long, by commits that mean nothing, for ``fold_log`` to have it written over.

    :raises sqlite3.OperationalError: there is no room for that; it is as long as there was.
    """
    log = _log_of(path)
    for number in range(wanted_bytes // _PAGE_BYTES):
        if not log.exists() or log.stat().st_size >= wanted_bytes:
            return
        database.execute(
            "INSERT INTO meta VALUES ('log', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (str(number % 2),),  # a page that stays as it was would not be written
        )


def is_io_error(error: BaseException) -> bool:
    """Tell whether SQLite says that the disk fails."""
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_IOERR


_NO_SPACE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
"""How SQLite says that the disk is full: in the database, in its log, in the index of the log."""


@contextmanager
def database_errors(directory: Path) -> Iterator[None]:
    """Turn what SQLite raises into ours."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise state_error(error, directory) from error


def state_error(error: sqlite3.DatabaseError, directory: Path) -> StateError:
    """Return our error for one of SQLite's."""
    if not isinstance(error, sqlite3.OperationalError):
        return StateCorrupt(f"the state in {directory} is damaged: {error}", "run 'jobfs fsck' on it")
    if error.sqlite_errorcode in _NO_SPACE:
        return StateFull("no space left for the local store", "free some disk space; nothing that was saved is lost")
    if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StateLocked(f"another program has {directory} open", "end it first")
    return StateCorrupt(f"the state in {directory} cannot be used: {error}", "run 'jobfs fsck' on it")
