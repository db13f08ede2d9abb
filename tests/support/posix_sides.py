"""The same file operations in two directories, and what is compared of them: the two sides of the POSIX model."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import file_calls
from mapping_child import MappingChild

EXPLICIT_BEFORE_NS = 10**18
"""Times before this (2001) were set by a test; all others count as "now", and are compared as that."""

SMALL_BUFFER = 80
"""Of getdents64: room for two short names, so that nearly every name begins at a cookie."""


class Refused(NamedTuple):
    """What became of an operation that failed."""

    errno_name: str


def attempt(action: Callable[[], object]) -> object:
    """Return the result of an operation, or how it was refused."""
    try:
        return action()
    except OSError as error:
        return Refused(errno.errorcode[error.errno or 0])


class Shown(NamedTuple):
    """What stat says, as far as it must be the same on both sides."""

    kind: str
    mode: int
    size: int
    links: int
    mtime_ns: int | str
    target: str


def shown(found: os.stat_result, target: str = "") -> Shown:
    """Return what is compared of a stat.

    Not a directory's size and links, which each file system counts in its own way, nor the target's times of a link.
    """
    kind = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo"}
    is_directory = stat.S_ISDIR(found.st_mode)
    is_explicit = abs(found.st_mtime_ns) < EXPLICIT_BEFORE_NS
    return Shown(
        kind[stat.S_IFMT(found.st_mode)],
        stat.S_IMODE(found.st_mode),
        0 if is_directory else found.st_size,
        1 if is_directory else found.st_nlink,
        found.st_mtime_ns if is_explicit else "now",
        target,
    )


@dataclass
class Side:
    """One of the two directories, with the files that are open in it.

    :param root: the directory, without a final slash.
    """

    root: str
    mappings: MappingChild
    files: dict[int, int] = field(default_factory=dict)
    """Descriptors by the number that the model has for them."""
    mapped: set[int] = field(default_factory=set)

    def at(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    # -- open files

    def open(self, number: int, path: str, flags: int, mode: int) -> None:
        self.files[number] = os.open(self.at(path), flags, mode)

    def close(self, number: int) -> None:
        os.close(self.files.pop(number))

    def map(self, number: int, path: str) -> None:
        self.mappings.open(number, self.at(path))
        self.mapped.add(number)

    def unmap(self, number: int) -> None:
        self.mappings.close(number)
        self.mapped.discard(number)

    def end(self) -> None:
        """Close everything."""
        for number in list(self.files):
            with suppress(OSError):
                self.close(number)
        for number in list(self.mapped):
            self.unmap(number)

    # -- whole files

    def write(self, path: str, data: bytes, flags: int) -> None:
        """Write a file from its beginning (or end) to its close, as a shell's redirection does."""
        descriptor = os.open(self.at(path), os.O_WRONLY | os.O_CREAT | flags, 0o644)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)

    def read(self, path: str) -> bytes:
        descriptor = os.open(self.at(path), os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.read(descriptor, 1 << 20)
        finally:
            os.close(descriptor)

    # -- names

    def stat(self, path: str) -> Shown:
        found = os.lstat(self.at(path))
        return shown(found, os.readlink(self.at(path)) if stat.S_ISLNK(found.st_mode) else "")

    def names(self, directory: str) -> list[str]:
        return sorted(os.listdir(self.at(directory)))

    def scan(self, directory: str, between: Callable[[], object], *, after: int) -> list[str]:
        """List a directory a few names at a time; do something else after so many of these times."""
        descriptor = os.open(self.at(directory), os.O_RDONLY | os.O_DIRECTORY)
        listed: list[str] = []
        try:
            times = 0
            while entries := file_calls.read_entries(descriptor, SMALL_BUFFER + 272):
                listed += [name for name, _, _ in entries if name not in (".", "..")]
                times += 1
                if times == after:
                    between()
            if times < after:
                between()
        finally:
            os.close(descriptor)
        return listed

    def scan_from(self, directory: str, place: int) -> list[str]:
        """List a directory, seek back to behind one of its names, and return what is listed from there on."""
        descriptor = os.open(self.at(directory), os.O_RDONLY | os.O_DIRECTORY)
        try:
            listed: list[tuple[str, int, int]] = []
            while entries := file_calls.read_entries(descriptor, SMALL_BUFFER + 272):
                listed += entries
            index = place % len(listed)
            os.lseek(descriptor, listed[index][2], os.SEEK_SET)
            again: list[tuple[str, int, int]] = []
            while entries := file_calls.read_entries(descriptor, SMALL_BUFFER + 272):
                again += entries
            assert again == listed[index + 1 :], "a listing that goes on at an old place is another one"
        finally:
            os.close(descriptor)
        return sorted(name for name, _, _ in listed)

    def tree(self) -> dict[str, Shown]:
        """Return the stat of everything."""
        found: dict[str, Shown] = {}
        pending = [""]
        while pending:
            above = pending.pop()
            with os.scandir(self.at(above)) as entries:
                for entry in entries:
                    path = f"{above}/{entry.name}" if above else entry.name
                    found[path] = self.stat(path)
                    if found[path].kind == "directory":
                        pending.append(path)
        return found

    def listed_inodes(self) -> dict[str, bool]:
        """Tell of every path whether it is listed with its own inode number."""
        found = {}
        for above in ("", *(path for path, shown_ in self.tree().items() if shown_.kind == "directory")):
            with os.scandir(self.at(above)) as entries:
                found.update({e.path: e.inode() == os.lstat(e.path).st_ino for e in entries})
        return found

    def contents(self) -> dict[str, bytes]:
        """Return the bytes of every file."""
        return {path: self.read(path) for path, found in self.tree().items() if found.kind == "file"}

    def path_of(self, number: int) -> str | None:
        """Return a path of an open file, found by its inode."""
        inode = os.fstat(self.files[number]).st_ino
        return next((path for path in self.tree() if os.lstat(self.at(path)).st_ino == inode), None)

    def remove(self) -> None:
        """Remove the directory with everything in it, whatever its permissions."""
        for path, found in self.tree().items():
            if found.kind == "directory":
                os.chmod(self.at(path), 0o755)
        for path, found in sorted(self.tree().items(), reverse=True):
            (os.rmdir if found.kind == "directory" else os.unlink)(self.at(path))
        os.rmdir(self.root)


def is_within(path: str, directory: str) -> bool:
    """Tell whether a path is a directory or lies below it."""
    return path == directory or path.startswith(f"{directory}/")


def make_sides(plain: Path, mount: Path, mappings: tuple[MappingChild, MappingChild]) -> tuple[Side, Side]:
    """Make the two directories."""
    plain.mkdir()
    mount.mkdir()
    return Side(str(plain), mappings[0]), Side(str(mount), mappings[1])
