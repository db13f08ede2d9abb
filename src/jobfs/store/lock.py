"""One process a store: a lock on a file in the directory, released by the system when the process dies.

``fcntl`` on POSIX, ``msvcrt`` on Windows: both imported where they exist, so that folder mode runs everywhere.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobfs.errors import StateFull, StateLocked
from jobfs.store.blobs import disk_errors


class DirectoryLock:
    """A held lock. Made by ``DirectoryLock.take``."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, directory: Path) -> DirectoryLock:
        """Lock the directory for this process; never waits.

        :raises StateLocked: another process has it; the message names the process. :raises StateFull: no space left.
        """
        path = directory / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            _lock(descriptor)
        except OSError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() if sys.platform != "win32" else ""
            os.close(descriptor)
            raise StateLocked(
                f"this workspace is already mounted or synchronised here{f' by process {holder}' if holder else ''}",
                "see 'jobfs status', and end that one first ('jobfs umount DIR')",
            ) from error
        try:
            with telling_where(directory), disk_errors():
                written = os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))  # in place: that needs no room
                os.ftruncate(descriptor, written)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        """Give the lock up."""
        os.close(self._descriptor)


@contextmanager
def telling_where(directory: Path) -> Iterator[None]:
    """Where there is no room to open a state, say on which disk."""
    try:
        yield
    except StateFull as error:
        raise StateFull(
            f"no space left to open the local store in {directory}",
            "free a megabyte on that disk; nothing that was saved is lost",
        ) from error


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        msvcrt = importlib.import_module("msvcrt")
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl = importlib.import_module("fcntl")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
