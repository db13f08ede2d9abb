"""The waker touches nothing but its mount: here that is a plain directory, in which its errands have effects."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobfs.fuse import waker
from jobfs.fuse.waker import SEPARATOR, Waker
from jobfs.fuse.watches import watched_inodes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="as is the waker")

NUMBERS = {0: "done", errno.EXDEV: "EXDEV", errno.ESTALE: "ESTALE", errno.ELOOP: "ELOOP", errno.ENOENT: "ENOENT"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_bytes(b"bytes")
    return tmp_path


def errand(verb: bytes, *places: Path) -> bytes:
    """Return an errand as it is sent."""
    words = [verb]
    for place in places:
        words += [os.fsencode(place.parent.name), b"%d" % place.parent.stat().st_ino, os.fsencode(place.name)]
    return SEPARATOR.join(words)


def done(folder: Path, *errands: bytes, device: int | None = None) -> list[str]:
    made = Waker(os.fsencode(folder), folder.stat().st_dev if device is None else device)
    return [NUMBERS[number] for number in made.do(SEPARATOR.join(errands))]


def test_errands_are_done_one_after_the_other(folder: Path) -> None:
    d = folder / "d"
    every = [errand(waker.CREATE, d / "new"), errand(waker.MKDIR, d / "sub"), errand(waker.RENAME, d / "new", d / "b")]
    every += [errand(waker.CHANGE, d / "a"), errand(waker.RMDIR, d / "sub"), errand(waker.PROBE, d / "nothing")]
    assert done(folder, *every) == ["done"] * 6
    assert {path.name: path.read_bytes() for path in d.iterdir()} == {"a": b"", "b": b""}


def test_one_that_cannot_be_done_keeps_none_of_the_others_back(folder: Path) -> None:
    d = folder / "d"
    assert done(folder, errand(waker.UNLINK, d / "none"), errand(waker.UNLINK, d / "a")) == ["ENOENT", "done"]


@pytest.mark.parametrize("verb", [waker.CHANGE, waker.UNLINK, waker.CREATE])
def test_where_something_else_is_mounted_nothing_is_touched(folder: Path, verb: bytes) -> None:
    assert done(folder, errand(verb, folder / "d" / "a"), device=folder.stat().st_dev + 1) == ["EXDEV"]
    assert (folder / "d" / "a").read_bytes() == b"bytes"


def test_in_another_directory_of_the_same_name_nothing_is_touched(folder: Path) -> None:
    sent = errand(waker.UNLINK, folder / "d" / "a")
    (folder / "d").rename(folder / "old")
    (folder / "d").mkdir()
    (folder / "d" / "a").write_bytes(b"other")
    assert done(folder, sent) == ["ESTALE"]
    assert (folder / "d" / "a").read_bytes() == b"other"


def test_no_link_is_followed(folder: Path) -> None:
    (folder / "l").symlink_to("d")
    (folder / "d" / "link").symlink_to("a")
    assert done(folder, errand(waker.CHANGE, folder / "d" / "link")) == ["ELOOP"]
    assert done(folder, errand(waker.UNLINK, folder / "l" / "a")) == ["ELOOP"]
    assert (folder / "d" / "a").read_bytes() == b"bytes"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts something inside")
def test_no_other_mount_is_entered(folder: Path) -> None:
    inside = folder / "d" / "inside"
    inside.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", inside], check=True)
    try:
        (inside / "file").write_bytes(b"bytes")
        words = [waker.UNLINK, b"d/inside", b"%d" % inside.stat().st_ino, b"file"]
        assert done(folder, SEPARATOR.join(words)) == ["EXDEV"]
        assert (inside / "file").read_bytes() == b"bytes"
    finally:
        subprocess.run(["umount", inside], check=True)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(10)
    with ours, theirs:
        yield ours, theirs


def start(theirs: socket.socket, folder: Path, parent: int) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-I", "-S", waker.__file__, str(folder), str(folder.stat().st_dev), str(parent)]
    return subprocess.Popen(words, stdin=theirs.fileno())


def test_the_process_answers_and_ends_when_its_parent_hangs_up(
    folder: Path, ends: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = ends
    with start(theirs, folder, os.getpid()) as process:
        theirs.close()
        ours.send(errand(waker.UNLINK, folder / "d" / "a"))
        assert ours.recv(100) == b"0"
        descriptors = [os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert [name for name in descriptors if name.startswith(str(folder))] == []
        ours.close()
        assert process.wait(10) == 0


def test_the_process_ends_at_once_where_its_parent_is_dead_already(
    folder: Path, ends: tuple[socket.socket, socket.socket]
) -> None:
    with start(ends[1], folder, parent=1) as process:
        assert process.wait(10) == 0


def test_watches_are_found_by_device_and_inode(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WATCHING, folder / "d"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        assert program.stdout.read(1) == b"."
        device, inode = folder.stat().st_dev, (folder / "d").stat().st_ino
        assert inode in watched_inodes(device)
        assert inode not in watched_inodes(device + 1)
        assert folder.stat().st_ino not in watched_inodes(device)
        program.communicate()
    assert inode not in watched_inodes(device)


_WATCHING = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.inotify_add_watch(libc.inotify_init(), os.fsencode(sys.argv[1]), 0xfff)
print(end=".", flush=True)
sys.stdin.read()
"""
