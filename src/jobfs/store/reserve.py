"""Room kept back on the disk of a state: on a full one, even to make room needs some.

Letting a copy give way is a commit, and a commit needs room in the log. The reserve is a file of bytes that mean
nothing; it is given up for the length of one such attempt, and taken back at its end.

**Invariants.** Nothing is awaited between giving it up and taking it back, so that nothing else of this process uses
its room. It may be missing or short at any time, after a crash or where there was no room to take all of it back:
nothing is read from it, and the next start, or the next attempt, makes it whole where it can.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobfs.errors import StateError
from jobfs.store.blobs import disk_errors, write_all
from jobfs.store.system import System

RESERVE_BYTES = 128 * 1024
"""Room for a commit of sixteen changed rows, each in a page of its own, in the log and beside it."""

_BLOCK_BYTES = 4096

_FLAGS = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

_log = logging.getLogger(__name__)


class Reserve:
    """The reserve of one state.

    :param directory: of the state. :param system: what is asked of the operating system.
    """

    def __init__(self, directory: Path, system: System = os) -> None:
        self._path = os.fspath(directory / "reserve")
        self._system = system

    def take(self) -> bool:
        """Make it as large as there is room for, and tell whether it is whole.

        Its bytes are random: some file systems keep no room for zeros. They are written a block at a time: ext4 refuses
        the whole of a write for which it has room in part.
        """
        try:
            with disk_errors():
                descriptor = self._system.open(self._path, _FLAGS | os.O_CREAT, 0o600)
                try:
                    while (missing := RESERVE_BYTES - os.lseek(descriptor, 0, os.SEEK_END)) > 0:
                        write_all(self._system, descriptor, os.urandom(min(missing, _BLOCK_BYTES)))
                finally:
                    os.close(descriptor)
        except (StateError, OSError) as error:
            _log.info("no room is kept back: %s", error)
            return False
        return True

    def give_up(self) -> int:
        """Let its room be used, until ``take``; return how much that is, in bytes. Needs no room.

        :raises StateError: the disk fails.
        """
        with disk_errors():
            try:
                descriptor = self._system.open(self._path, _FLAGS)
            except FileNotFoundError:
                return 0
            try:
                held = os.lseek(descriptor, 0, os.SEEK_END)
                self._system.ftruncate(descriptor, 0)
                return held
            finally:
                os.close(descriptor)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let its room be used for the length of a block, in which nothing is awaited."""
        self.give_up()
        try:
            yield
        finally:
            self.take()
