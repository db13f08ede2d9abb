"""Programs that edit a workspace at random, and the record of what they closed and of what they knowingly gave up."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import threading
import time
from pathlib import Path

NAMES = ("a.txt", "b.md", "c")
PLACES = ("", "one", "two", "one/deep")

_AT_FDCWD, _RENAME_NOREPLACE = -100, 1

_LARGE = 0.1
_LARGE_BYTES = 300_000


class Record:
    """What was closed, and what was knowingly given up. Used by several threads."""

    def __init__(self) -> None:
        self.closed: set[bytes] = set()
        self.given_up: set[bytes] = set()
        self.acts: dict[bytes, list[str]] = {}
        self._lock = threading.Lock()

    def close(self, data: bytes, path: Path) -> None:
        """Note that a version was closed at a path."""
        with self._lock:
            self.closed.add(data)
            self.acts[data] = [f"    {time.time():.3f} closed at {path}"]

    def give_up(self, data: bytes) -> None:
        """Note that a version that was seen is about to be replaced or deleted."""
        with self._lock:
            self.given_up.add(data)

    def lost(self, contents: dict[str, bytes | None]) -> list[bytes]:
        """Return the versions that nobody gave up and that a workspace does not hold."""
        with self._lock:
            return sorted(self.closed - self.given_up - set(filter(None, contents.values())))


class Editor:
    """One program that edits a directory, in a thread, until ``stop``.

    :param label: makes its versions different from all others.
    :param has_large: whether some versions are large enough to take a while.
    :param rest_s: the longest pause between two edits.

    Its errors are a program's everyday life: what it edits may vanish or fail at any moment. While somebody holds
    ``pause`` it does nothing.
    """

    def __init__(
        self,
        directory: Path,
        label: str,
        record: Record,
        dice: random.Random,
        *,
        has_large: bool = False,
        rest_s: float = 0.2,
    ) -> None:
        self.name = f"editor-{label}"
        self.done = 0
        self.pause = threading.Lock()
        self._directory = directory
        self._label = label
        self._record = record
        self._dice = dice
        self._has_large = has_large
        self._rest_s = rest_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._edit, name=self.name, daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        """End; return whether it has ended, after so many seconds at the latest."""
        self._is_over.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _edit(self) -> None:
        while not self._is_over.wait(self._dice.random() * self._rest_s):
            with self.pause, contextlib.suppress(OSError):
                self.done += 1
                self._act(self._version(self.done))

    def _version(self, count: int) -> bytes:
        data = f"{self._label}-{count}".encode()
        is_large = self._has_large and self._dice.random() < _LARGE
        return data + b" large" * self._dice.randrange(_LARGE_BYTES // 6) if is_large else data

    def _act(self, data: bytes) -> None:
        path = self._directory / self._dice.choice(PLACES) / self._dice.choice(NAMES)
        what = self._dice.choice(("write", "write", "write", "save", "delete", "rename", "mkdir"))
        if what == "mkdir":
            path.parent.mkdir(parents=True, exist_ok=True)
        elif what == "write":
            self._overwrite(path, data)
        elif what == "save":
            temporary = path.with_name(f".{path.name}.{data[:20].decode()}.tmp")
            temporary.write_bytes(data)
            if self._move(temporary, path):
                self._record.close(data, path)
            else:
                temporary.unlink()
        elif what == "delete":
            if self._gives_up(path):
                path.unlink()
        elif (target := self._directory / self._dice.choice(PLACES) / self._dice.choice(NAMES)) != path:
            self._move(path, target)

    def _move(self, source: Path, target: Path) -> bool:
        """Rename over what was looked at, or to where nothing was; tell whether it was done."""
        seen = self._gives_up(target)
        if seen is None:
            _rename_to_new(source, target)
        elif seen:
            source.replace(target)
        return seen is not False

    def _overwrite(self, path: Path, data: bytes) -> None:
        """Write a file in place; what is given up is what the descriptor shows, whoever takes the name meanwhile."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._record.give_up(_read(descriptor))
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, data, 0)
            is_still_there = os.fstat(descriptor).st_nlink > 0
        finally:
            os.close(descriptor)
        if is_still_there:  # a version that took the name of a folder's file leaves the writer with a nameless one
            self._record.close(data, path)

    def _gives_up(self, path: Path) -> bool | None:
        """Note that what a path shows is about to go; tell whether it still shows what was looked at.

        None: there is nothing, and whatever comes a moment later is a version that nobody saw.

        Reading may take the time of a download, and another version may take the name meanwhile: nobody saw that one.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            self._record.give_up(_read(descriptor))
            return os.fstat(descriptor).st_ino == path.stat().st_ino
        finally:
            os.close(descriptor)


def _rename_to_new(source: Path, target: Path) -> None:
    """Rename where nothing is in the way; FileExistsError. See renameat2(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def _read(descriptor: int) -> bytes:
    return os.read(descriptor, 1 << 20)


def tree(directory: Path) -> dict[str, bytes | None]:
    """Return what a directory shows: bytes of files, None for directories; not what jobfs itself has in it.

    One that changes meanwhile is read again.
    """
    while True:
        found: dict[str, bytes | None] = {}
        with contextlib.suppress(FileNotFoundError):
            for path in sorted(directory.rglob("*")):
                name = path.relative_to(directory).as_posix()
                if not name.startswith(".jobfs"):
                    found[name] = path.read_bytes() if path.is_file() else None
            return found
