"""A program that watches directories and files with inotify(7), for the tests."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntFlag
from pathlib import Path
from typing import NamedTuple

LATEST_S = 10.0

_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Mask(IntFlag):
    """The events of inotify, without those of reading."""

    MODIFY = 0x2
    ATTRIB = 0x4
    CLOSE_WRITE = 0x8
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    DELETE_SELF = 0x400
    MOVE_SELF = 0x800
    UNMOUNT = 0x2000
    Q_OVERFLOW = 0x4000
    IGNORED = 0x8000
    ISDIR = 0x40000000


_WATCHED = (
    *(Mask.MODIFY, Mask.ATTRIB, Mask.CLOSE_WRITE, Mask.MOVED_FROM, Mask.MOVED_TO),
    *(Mask.CREATE, Mask.DELETE, Mask.DELETE_SELF, Mask.MOVE_SELF),
)


class Event(NamedTuple):
    """One event: what happened, and at which path; the cookie joins the two halves of a move."""

    what: Mask
    path: Path
    cookie: int = 0


class Watcher:
    """Watches what it is told to; ``seen`` are the events up to now."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._places: dict[int, Path] = {}
        self.seen: list[Event] = []

    def watch(self, path: Path) -> None:
        """Watch a directory or a file."""
        number = _libc.inotify_add_watch(self._descriptor, os.fsencode(path), sum(_WATCHED))
        if number < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
        self._places[number] = path

    def read(self, timeout_s: float = 0.0) -> list[Event]:
        """Return the events that have arrived, waiting for the first one at most for a time."""
        if not select.select([self._descriptor], [], [], timeout_s)[0]:
            return []
        arrived = list(self._parsed(os.read(self._descriptor, 1 << 20)))
        self.seen += arrived
        return arrived

    def _parsed(self, data: bytes) -> Iterator[Event]:
        at = 0
        while at < len(data):
            number, what, cookie, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            name = os.fsdecode(data[at : at + length].rstrip(b"\0"))
            at += length
            place = self._places.get(number, Path("?"))
            yield Event(Mask(what), place / name if name else place, cookie)

    def wait(self, is_enough: Callable[[list[Event]], bool]) -> list[Event]:
        """Read until a condition on what was seen holds, and return that.

        :raises AssertionError: not within the deadline; the message has what was seen.
        """
        until_s = time.monotonic() + LATEST_S
        while not is_enough(self.seen):
            left_s = until_s - time.monotonic()
            assert left_s > 0, f"seen within {LATEST_S} s: {self.told()}"
            self.read(left_s)
        return self.seen

    def wait_for(self, what: Mask, path: Path) -> None:
        """Read until something has happened at a path."""
        self.wait(lambda seen: any(event.what & ~Mask.ISDIR == what and event.path == path for event in seen))

    def told(self) -> list[tuple[str, str]]:
        """Return what was seen as pairs of words and names."""
        return [(str(event.what).replace("Mask.", ""), event.path.name) for event in self.seen]


@contextmanager
def watching(*paths: Path) -> Iterator[Watcher]:
    """Watch some directories or files."""
    descriptor = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        watcher = Watcher(descriptor)
        for path in paths:
            watcher.watch(path)
        yield watcher
    finally:
        os.close(descriptor)
