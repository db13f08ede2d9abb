"""A network of a test's own, with nothing but loopback in it, on which every packet can be dropped.

A network namespace belongs to threads: what a room's thread opens or starts (sockets, threads, processes) is inside,
and so is what those start. Everything else of the test, the files and mounts above all, is as outside. Only root can
make one, and not in every container: ``can_be_made`` tells.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000

_SIOCSIFFLAGS = 0x8914
_IFF_UP_RUNNING = 0x41
"""See netdevice(7)."""

_ADD, _DELETE = 36, 37
_REQUEST_ACK, _CREATE = 0x5, 0x400
_KIND = 1
_ROOT_HANDLE, _ROOT = 0x10000, 0xFFFFFFFF
"""See rtnetlink(7)."""


class NetworkRoom:
    """One network namespace and the thread that is in it; a context manager."""

    def __init__(self) -> None:
        self._inside = ThreadPoolExecutor(1, "network-room", initializer=_enter)

    def __enter__(self) -> NetworkRoom:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside.shutdown()

    def call(self, work: Callable[[], T]) -> T:
        """Run something inside and return what it returns."""
        return self._inside.submit(work).result()

    def drop_packets(self) -> None:
        """Drop every packet from now on, without a word to anybody."""
        self.call(drop_packets)

    def pass_packets(self) -> None:
        """Let packets pass again; what was dropped is sent anew by TCP."""
        self.call(pass_packets)


def drop_packets() -> None:
    """Drop every packet of the network that this thread is in; it must be a room's."""
    _queue(_ADD, _CREATE)


def pass_packets() -> None:
    """Let packets pass again in the network that this thread is in."""
    _queue(_DELETE, 0)


@functools.cache
def can_be_made() -> bool:
    """Tell whether this user may make such a room, on this kernel."""
    if os.geteuid() != 0:
        return False
    with NetworkRoom() as room:
        try:
            room.drop_packets()
        except (OSError, RuntimeError):
            return False
    return True


def _enter() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "no network namespace can be made")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP_RUNNING))


def _queue(message: int, flags: int) -> None:
    """Give loopback a queue that swallows everything, or take it away again (rtnetlink(7), tc-blackhole)."""
    kind = b"blackhole\0"
    body = struct.pack("=BxxxiIII", socket.AF_UNSPEC, socket.if_nametoindex("lo"), _ROOT_HANDLE, _ROOT, 0)
    body += struct.pack("=HH", 4 + len(kind), _KIND) + kind + bytes(-len(kind) % 4)
    header = struct.pack("=IHHII", 16 + len(body), message, _REQUEST_ACK | flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.send(header + body)
        answer = kernel.recv(4096)
    (error,) = struct.unpack_from("=i", answer, 16)
    if error:
        raise OSError(-error, os.strerror(-error))
