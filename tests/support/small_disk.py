"""A disk that is full when a test says so: a small file system, or, where none can be mounted, a pretended one."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import pytest

from jobfs.store.state import State

MIB = 1 << 20
SIZE = 3 * MIB
_TABLES = ("meta", "local", "base", "link", "aside", "creation", "refusal", "approval", "history")
_NO_LIMIT = 1 << 30
_BLOCK_BYTES = 512


class Disk(Protocol):
    """Where a state lies.

    ``directory`` is empty at first.
    """

    directory: Path

    def fill(self, state: State | None, *, room: int = 0) -> None:
        """Leave no room, or so many bytes of it.

        :param state: the one that is open there.
        """

    def free(self, state: State | None) -> None:
        """Let there be room again."""


class MountedDisk:
    """A file system of three MiB, filled by a file on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "state"
        self._ballast = directory / "ballast"

    def fill(self, state: State | None, *, room: int = 0) -> None:
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT)
        try:
            with suppress(OSError):
                while os.write(descriptor, bytes(4096)):
                    pass
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 4096 * 4096 - room)
        finally:
            os.close(descriptor)

    def free(self, state: State | None) -> None:
        self._ballast.unlink(missing_ok=True)


class PretendedDisk:
    """A directory in which the system's calls say that there is no room, and SQLite with them."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.directory = directory / "state"
        self._room: int | None = None
        for name in ("write", "pwrite"):
            patch.setattr(os, name, self._refusing(getattr(os, name)))

    def _refusing(self, call: Callable[..., int]) -> Callable[..., int]:
        def refuse(descriptor: int, data: Any, *place: int) -> int:
            if self._room is None or not self._is_here(descriptor):
                return call(descriptor, data, *place)
            at = place[0] if place else os.lseek(descriptor, 0, os.SEEK_CUR)
            stat = os.fstat(descriptor)
            if at + len(data) <= stat.st_size <= stat.st_blocks * _BLOCK_BYTES:
                return call(descriptor, data, *place)  # there is no hole: the room is the file's already
            if not self._room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = call(descriptor, data[: self._room], *place)
            self._room -= written
            return written

        return refuse

    def _is_here(self, descriptor: int) -> bool:
        with suppress(OSError):
            return Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_relative_to(self.directory)
        return False

    def fill(self, state: State | None, *, room: int = 0) -> None:
        self._room = room
        if state is not None:
            fill_database(state)

    def free(self, state: State | None) -> None:
        self._room = None
        if state is not None:
            free_database(state)


def fill_database(state: State) -> None:
    """Let SQLite, and nothing else, find no room: every change needs a page, and there is none."""
    database: sqlite3.Connection = state._database
    database.execute("CREATE TABLE IF NOT EXISTS ballast (data BLOB)")
    for table in _TABLES:
        for change in ("INSERT", "UPDATE", "DELETE"):
            database.execute(
                f"CREATE TEMP TRIGGER fill_{table}_{change} AFTER {change} ON main.{table} "
                "BEGIN INSERT INTO ballast VALUES (randomblob(20000)); END"
            )
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")


def free_database(state: State) -> None:
    """Let SQLite find room again."""
    database: sqlite3.Connection = state._database
    database.execute(f"PRAGMA max_page_count = {_NO_LIMIT}")
    for table in _TABLES:
        for change in ("INSERT", "UPDATE", "DELETE"):
            database.execute(f"DROP TRIGGER IF EXISTS temp.fill_{table}_{change}")
    database.execute("DELETE FROM ballast")


def can_mount() -> bool:
    """Tell whether a file system can be mounted here: by root, and not in every container."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


@contextmanager
def mounted_disk(point: Path) -> Iterator[MountedDisk]:
    """Mount a small file system; it is gone afterwards, whatever the test did."""
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(point)], check=True)
    try:
        yield MountedDisk(point)
    finally:
        subprocess.run(["umount", "--lazy", str(point)], check=True)
