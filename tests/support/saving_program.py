"""A program that saves a file as others do, call by call, and tells what it then finds: run as a process of its own.

    saving_program.py PATTERN FILE STOP...

It saves once for each STOP, a shell command that returns when the save is on the server, and prints as JSON what of the
file it finds changed afterwards, and what inotify reported meanwhile: after its own save a program expects neither.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

CHANGES = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
"""Every event of inotify(7) that tells of a change: all but opening, reading, and closing what was read."""

NON_BLOCKING = 0o4000


class Known(NamedTuple):
    """What a program remembers of a file to see whether somebody else has changed it."""

    inode: int
    modified_ns: int
    size: int
    mode: int

    @classmethod
    def of(cls, path: Path) -> Known:
        found = path.stat()
        return cls(found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode)


def put(path: Path, data: bytes, flags: int = os.O_TRUNC, mode: int = 0o644) -> None:
    """Write a file and wait for the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flags, mode)
    try:
        for at in range(0, len(data), 4096):
            os.write(descriptor, data[at : at + 4096])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def vs_code(path: Path, data: bytes) -> None:
    os.stat(path)
    put(path, data)


def vs_code_atomic(path: Path, data: bytes) -> None:
    put(path.with_name(f"{path.name}.vsctmp"), data, os.O_EXCL)
    path.with_name(f"{path.name}.vsctmp").rename(path)


def jet_brains(path: Path, data: bytes) -> None:
    new, old = (path.with_name(f"{path.name}___jb_{which}___") for which in ("tmp", "old"))
    put(new, data, os.O_EXCL)
    new.chmod(path.stat().st_mode & 0o777)
    path.rename(old)
    new.rename(path)
    old.unlink()


def gedit(path: Path, data: bytes) -> None:
    """As g_file_replace of GLib, with a backup."""
    before = path.stat()
    new = path.with_name(".goutputstream-7XQ2R1")
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.fchown(descriptor, before.st_uid, before.st_gid)
    os.fchmod(descriptor, before.st_mode & 0o777)
    os.write(descriptor, data)
    os.fsync(descriptor)
    backup = path.with_name(f"{path.name}~")
    backup.unlink(missing_ok=True)
    try:
        os.link(path, backup)
    except PermissionError:  # no links here: the fall-back of GLib
        path.rename(backup)
    new.rename(path)
    os.close(descriptor)


def word(path: Path, data: bytes) -> None:
    office(path, data, lock=f"~${path.name[2:]}", new="~WRD0001.tmp", old="~WRL0002.tmp")


def excel(path: Path, data: bytes) -> None:
    office(path, data, lock=f"~${path.name}", new="5C3A1F00", old="A1B2C3D4.tmp")


def office(path: Path, data: bytes, *, lock: str, new: str, old: str) -> None:
    with path.with_name(lock).open("xb", buffering=0) as held:
        held.write(b"\x04User" + bytes(157))
        put(path.with_name(new), data, os.O_EXCL)
        path.rename(path.with_name(old))
        path.with_name(new).rename(path)
        path.with_name(old).unlink()
    path.with_name(lock).unlink()


def temporary_beside(name: str) -> Callable[[Path, bytes], None]:
    """Return the pattern of a program that writes beside a file, under such a name, and renames."""

    def save(path: Path, data: bytes) -> None:
        new = path.with_name(name.replace("NAME", path.name))
        put(new, data, os.O_EXCL)
        new.rename(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(directory)
        os.close(directory)

    return save


def python_replace(path: Path, data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as new:
        new.write(data)
    os.chmod(new.name, 0o644)
    os.replace(new.name, path)


def in_place(path: Path, data: bytes) -> None:
    """As who edits the middle of a file: it is written over, and cut afterwards."""
    with path.open("r+b", buffering=0) as file:
        file.write(data)
        file.truncate(len(data))


def unlink_and_write(path: Path, data: bytes) -> None:
    """As patch(1) and git do."""
    path.unlink()
    put(path, data, os.O_EXCL)


PATTERNS: dict[str, Callable[[Path, bytes], None]] = {
    "VS Code": vs_code,
    "VS Code, atomic": vs_code_atomic,
    "JetBrains": jet_brains,
    "gedit": gedit,
    "Word": word,
    "Excel": excel,
    "an agent (NAME.tmp.PID)": temporary_beside("NAME.tmp.4711.1795330781476"),
    "an agent (.tmpRANDOM)": temporary_beside(".tmpA1b2C3"),
    "write-file-atomic": temporary_beside("NAME.3735928559"),
    "renameio": temporary_beside(".NAME8675309"),
    "os.replace": python_replace,
    "in place": in_place,
    "patch": unlink_and_write,
}
KEEPING_INODE = {"VS Code", "in place"}


class Watch:
    """inotify on a directory."""

    def __init__(self, directory: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(NON_BLOCKING)
        if libc.inotify_add_watch(self._descriptor, os.fsencode(directory), CHANGES) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")

    def events(self) -> list[str]:
        """Return what has come since the last time, as masks and names."""
        found = []
        while True:
            try:
                data = os.read(self._descriptor, 1 << 16)
            except BlockingIOError:
                return found
            at = 0
            while at < len(data):
                _, mask, _, length = struct.unpack_from("iIII", data, at)
                name = data[at + 16 : at + 16 + length].rstrip(b"\0")
                found.append(f"{mask:#x} {os.fsdecode(name)}")
                at += 16 + length


def main(pattern: str, name: str, *stops: str) -> None:
    path = Path(name).absolute()
    watch = Watch(path.parent)
    report = []
    for count, stop in enumerate(stops, 1):
        before = Known.of(path)
        watch.events()
        PATTERNS[pattern](path, f"version {count} ".encode() * 1000)
        saved = Known.of(path)
        own = watch.events()
        subprocess.run(["sh", "-c", stop], check=True)
        report.append(
            {
                "was seen by watchers": bool(own),
                "kept its inode": saved.inode == before.inode,
                "kept its mode": saved.mode == before.mode,
                "changed after the save": Known.of(path) != saved,
                "events after the save": watch.events(),
            }
        )
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
