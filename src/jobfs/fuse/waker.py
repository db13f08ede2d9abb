"""The waker: a process that makes system calls in a mount for no other end than that the kernel tells watchers of them.

The kernel raises inotify events for what programs do, and for nothing that a FUSE daemon tells it. So the daemon has
this child do, as a program would, what happened remotely: create, change, rename, delete. It knows the child by the
number of its process, answers its requests from a script (``phantoms``), and nothing happens but the events.

Run by ``messenger``, which sends errands through the standard input, a socket: a message is some of them, and the reply
the errno, or 0, of each. Between two messages nothing of the mount is open here, so that it can be unmounted.

**It must never touch anything but its mount**, which may be gone, or hidden under another one, when an errand comes. So
every call is relative to a directory that was found by its device and inode number, and crosses no mount. It ends with
its parent: the end of the socket tells it, or the kernel.

This module imports nothing but the standard library: it is a small program, started while somebody waits.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress

MAX_MESSAGE_BYTES = 256 << 10
"""Enough for 32 errands with the longest paths."""

SEPARATOR = b"\0"

PROBE = b"probe"
CREATE = b"create"
MKDIR = b"mkdir"
CHANGE = b"change"
UNLINK = b"unlink"
RMDIR = b"rmdir"
RENAME = b"rename"

PLACES = {RENAME: 2}
"""How many places an errand is about, if not one. Of a place three words are sent: the path of the directory, its inode
number, and the name."""

_WORDS = 3
_PR_SET_PDEATHSIG = 1
_SYS_OPENAT2 = 437  # the same on every architecture
_NO_XDEV = 0x01
_NO_SYMLINKS = 0x04
_BENEATH = 0x08
_OPEN_HOW = struct.Struct("<QQQ")

_libc = ctypes.CDLL(None, use_errno=True)


def errands_of(message: bytes) -> Iterator[tuple[bytes, list[list[bytes]]]]:
    """Yield the verb and the places of each errand of a message."""
    words = message.split(SEPARATOR)
    at = 0
    while at < len(words):
        verb = words[at]
        end = at + 1 + _WORDS * PLACES.get(verb, 1)
        yield verb, [words[place : place + _WORDS] for place in range(at + 1, end, _WORDS)]
        at = end


class _Directories:
    """The directories of the mount that the errands of one message need, each opened once."""

    def __init__(self, place: bytes, device: int) -> None:
        self._place = place
        self._device = device
        self._opened: dict[tuple[bytes, int], int] = {}
        self._all = ExitStack()
        self._root: int | None = None

    def open(self, path: bytes, inode: int) -> int:
        """Return a descriptor of a directory.

        :raises OSError: EXDEV where the mount is not there any more; ESTALE where the directory is not.
        """
        found = self._opened.get((path, inode))
        if found is None:
            found = self._keep(open_beneath(self._find_root(), path or b".", os.O_PATH | os.O_DIRECTORY))
            if os.fstat(found).st_ino != inode:
                raise OSError(errno.ESTALE, "another directory is there now")
            self._opened[path, inode] = found
        return found

    def _find_root(self) -> int:
        if self._root is None:
            root = self._keep(os.open(self._place, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
            if os.fstat(root).st_dev != self._device:
                raise OSError(errno.EXDEV, "something else is mounted here")
            self._root = root
        return self._root

    def _keep(self, descriptor: int) -> int:
        self._all.callback(os.close, descriptor)
        return descriptor

    def close(self) -> None:
        """Close them all."""
        self._all.close()


class Waker:
    """Does errands in one mount.

    :param place: where it is mounted.
    :param device: its ``st_dev``.
    """

    def __init__(self, place: bytes, device: int) -> None:
        self._place = place
        self._device = device

    def do(self, message: bytes) -> list[int]:
        """Do the errands of a message; return for each 0, or why the kernel or the daemon did not let it be done."""
        directories = _Directories(self._place, self._device)
        try:
            return [self._try(directories, verb, places) for verb, places in errands_of(message)]
        finally:
            directories.close()

    def _try(self, directories: _Directories, verb: bytes, places: Sequence[Sequence[bytes]]) -> int:
        try:
            opened = [directories.open(path, int(inode)) for path, inode, _ in places]
            self._act(verb, opened, [name for _, _, name in places])
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    @staticmethod
    def _act(verb: bytes, directories: Sequence[int], names: Sequence[bytes]) -> None:
        directory, name = directories[0], names[0]
        if verb == PROBE:
            with suppress(FileNotFoundError):
                os.close(open_beneath(directory, name, os.O_PATH))
        elif verb == CREATE:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o600, dir_fd=directory))
        elif verb == MKDIR:
            os.mkdir(name, dir_fd=directory)
            _look(directory, name)
        elif verb == CHANGE:
            _change(directory, name)
        elif verb == UNLINK:
            os.unlink(name, dir_fd=directory)
        elif verb == RMDIR:
            os.rmdir(name, dir_fd=directory)
        elif verb == RENAME:
            os.rename(name, names[1], src_dir_fd=directory, dst_dir_fd=directories[1])
            _look(directories[1], names[1])
        else:
            raise OSError(errno.EINVAL, "no such errand")


def _change(directory: int, name: bytes) -> None:
    descriptor = open_beneath(directory, name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.ftruncate(descriptor, 0)  # a phantom is empty
    finally:
        os.close(descriptor)


def _look(directory: int, name: bytes) -> None:
    """Let the kernel find what is really there.

    A program that works in a directory whose entry in the kernel's cache made room for a phantom has no working
    directory until somebody has looked it up again.
    """
    with suppress(OSError):  # it is gone again: then the kernel knows that now
        os.close(open_beneath(directory, name, os.O_PATH | os.O_NOFOLLOW))


def open_beneath(directory: int, path: bytes, flags: int) -> int:
    """Open what is below a directory, going through no link and into no other mount (openat2(2), Linux 5.6)."""
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, 0, _NO_XDEV | _NO_SYMLINKS | _BENEATH)
    descriptor: int = _libc.syscall(_SYS_OPENAT2, directory, path, how, ctypes.c_size_t(len(how)))
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return descriptor


def main() -> None:
    """Do errands until the parent is gone. Arguments: the mount point, its device, the parent's process number."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    place, device, parent = sys.argv[1:]
    if os.getppid() != int(parent):
        return  # it died before it could be said that we die with it
    waker = Waker(os.fsencode(place), int(device))
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as errands:
        while message := errands.recv(MAX_MESSAGE_BYTES):
            errands.send(b" ".join(b"%d" % number for number in waker.do(message)))


if __name__ == "__main__":
    main()
