"""The FUSE kernel protocol, numbers and requests: every message that the transport reads. Pure.

The layouts are those of ``include/uapi/linux/fuse.h``, versions 7.31 (Linux 5.4) to 7.45 (Linux 6.18); in that range
structures only grow at their ends, so one table serves all of them. Numbers are little-endian: the protocol uses the
machine's own order, and big-endian machines take the portable transport (``kernel.is_supported``).

A request is a header and a body. What cannot be read raises ``MalformedRequest``. Replies are in ``replies``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum, IntFlag, unique
from functools import partial
from typing import Generic, NamedTuple, TypeAlias, TypeVar

MAJOR = 7
OLDEST_MINOR = 31
NEWEST_MINOR = 45

MAX_TRANSFER_BYTES = 1 << 20
"""Of one READ or WRITE: 256 pages, the most that an unprivileged mount gets without a change of system settings."""

REQUEST_BUFFER_BYTES = MAX_TRANSFER_BYTES + (64 << 10)
"""The longest request, a WRITE with its header, with room to spare; the kernel refuses to fill a shorter buffer."""


Buffer: TypeAlias = bytes | bytearray | memoryview


class MalformedRequest(ValueError):
    """A request that does not have the shape of its opcode."""


@unique
class Opcode(IntEnum):
    """What a request asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    IOCTL = 39
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46


class InitFlag(IntFlag):
    """What the kernel offers and the transport accepts at INIT; bits from 32 up travel in ``flags2``."""

    ASYNC_READ = 1 << 0
    ATOMIC_O_TRUNC = 1 << 3
    BIG_WRITES = 1 << 5
    DO_READDIRPLUS = 1 << 13
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    EXPLICIT_INVAL_DATA = 1 << 25
    HANDLE_KILLPRIV_V2 = 1 << 28
    INIT_EXT = 1 << 30
    DIRECT_IO_ALLOW_MMAP = 1 << 36


@unique
class OpenFlag(IntEnum):
    """How the kernel treats an open file. Plain numbers, like ``SetAttr``: they are used in every request."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1
    NOFLUSH = 1 << 5


@unique
class SetAttr(IntEnum):
    """Which fields of a SETATTR count."""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2
    SIZE = 1 << 3
    ATIME = 1 << 4
    MTIME = 1 << 5
    FH = 1 << 6
    ATIME_NOW = 1 << 7
    MTIME_NOW = 1 << 8
    KILL_SUIDGID = 1 << 11


WRITE_KILL_SUIDGID = 1 << 2
OPEN_KILL_SUIDGID = 1 << 0
READ_LOCKOWNER = 1 << 1


# -- requests


class RequestHeader(NamedTuple):
    """What every request begins with. ``pid`` is the thread that asks, 0 where it is in another pid namespace."""

    length: int
    opcode: int
    unique: int
    node: int
    uid: int
    gid: int
    pid: int


class InitIn(NamedTuple):
    major: int
    minor: int
    max_readahead: int
    flags: int


class GetattrIn(NamedTuple):
    flags: int
    fh: int


class SetattrIn(NamedTuple):
    valid: int
    fh: int
    size: int
    atime: int
    mtime: int
    atime_ns: int
    mtime_ns: int
    mode: int
    uid: int
    gid: int


class MknodIn(NamedTuple):
    mode: int
    rdev: int


class MkdirIn(NamedTuple):
    mode: int


class RenameIn(NamedTuple):
    new_parent: int


class Rename2In(NamedTuple):
    new_parent: int
    flags: int


class LinkIn(NamedTuple):
    node: int


class OpenIn(NamedTuple):
    flags: int
    open_flags: int


class CreateIn(NamedTuple):
    flags: int
    mode: int
    open_flags: int


class ReadIn(NamedTuple):
    fh: int
    offset: int
    size: int
    read_flags: int


class WriteIn(NamedTuple):
    fh: int
    offset: int
    size: int
    write_flags: int


class HandleIn(NamedTuple):
    """RELEASE, FLUSH, FSYNC and FSYNCDIR: the handle is all that counts."""

    fh: int


class SetxattrIn(NamedTuple):
    size: int
    flags: int


class GetxattrIn(NamedTuple):
    size: int


class InterruptIn(NamedTuple):
    unique: int


class FallocateIn(NamedTuple):
    fh: int
    offset: int
    length: int
    mode: int


class LseekIn(NamedTuple):
    fh: int
    offset: int
    whence: int


class ForgetIn(NamedTuple):
    lookups: int


class BatchForgetIn(NamedTuple):
    nodes: int


T = TypeVar("T", bound=tuple[int, ...])


class Layout(Generic[T]):
    """How the fixed part of a request body is read."""

    __slots__ = ("_make", "_shape", "_unpack_from", "size")

    def __init__(self, shape: type[T], layout: str) -> None:
        fields = struct.Struct("<" + layout)
        self._shape = shape
        self._make: Callable[[tuple[int, ...]], T] = partial(tuple.__new__, shape)  # a third of the time of ``_make``
        self._unpack_from = fields.unpack_from
        self.size = fields.size

    def read(self, body: Buffer) -> T:
        """Return the fields.

        :raises MalformedRequest: the body is too short.
        """
        try:
            return self._make(self._unpack_from(body))
        except struct.error as error:
            raise MalformedRequest(f"{self._shape.__name__}: {error}") from None


HEADER = Layout(RequestHeader, "IIQQIII4x")
INIT_IN = Layout(InitIn, "IIII")
GETATTR_IN = Layout(GetattrIn, "I4xQ")
SETATTR_IN = Layout(SetattrIn, "I4xQQ8xqq8xII4xI4xII4x")
MKNOD_IN = Layout(MknodIn, "II8x")
MKDIR_IN = Layout(MkdirIn, "I4x")
RENAME_IN = Layout(RenameIn, "Q")
RENAME2_IN = Layout(Rename2In, "QI4x")
LINK_IN = Layout(LinkIn, "Q")
OPEN_IN = Layout(OpenIn, "II")
CREATE_IN = Layout(CreateIn, "II4xI")
READ_IN = Layout(ReadIn, "QQII16x")
WRITE_IN = Layout(WriteIn, "QQII16x")
HANDLE_IN = Layout(HandleIn, "Q")
SETXATTR_IN = Layout(SetxattrIn, "II")
GETXATTR_IN = Layout(GetxattrIn, "I4x")
INTERRUPT_IN = Layout(InterruptIn, "Q")
FALLOCATE_IN = Layout(FallocateIn, "QQQI4x")
LSEEK_IN = Layout(LseekIn, "QQI4x")
FORGET_IN = Layout(ForgetIn, "Q")
BATCH_FORGET_IN = Layout(BatchForgetIn, "I4x")

_FORGET_ONE = struct.Struct("<QQ")
_FLAGS2 = struct.Struct("<I")


def read_header(request: Buffer) -> RequestHeader:
    """Return the header of a request; its body follows at ``HEADER.size``.

    :raises MalformedRequest: it is too short, or its length is not the one that it states.
    """
    header = HEADER.read(request)
    if header.length != len(request):
        raise MalformedRequest(f"a request of {len(request)} bytes says that it has {header.length}")
    return header


def read_names(body: memoryview, offset: int, count: int) -> list[str]:
    """Return the NUL-terminated names from an offset on, as ``os.fsdecode`` would.

    :raises MalformedRequest: there are fewer.
    """
    parts = bytes(body[offset:]).split(b"\0", count)
    if len(parts) <= count:
        raise MalformedRequest(f"{count} names expected, {len(parts) - 1} found")
    return [part.decode("utf-8", "surrogateescape") for part in parts[:count]]


def read_setxattr(body: memoryview) -> tuple[str, bytes, int]:
    """Return name, value and flags of a SETXATTR."""
    size, flags = SETXATTR_IN.read(body)
    rest = bytes(body[SETXATTR_IN.size :])
    name, separator, value = rest.partition(b"\0")
    if not separator or len(value) < size:
        raise MalformedRequest(f"SETXATTR: {size} bytes of value expected, {len(value)} found")
    return name.decode("utf-8", "surrogateescape"), value[:size], flags


def read_batch_forget(body: memoryview) -> list[tuple[int, int]]:
    """Return (node, lookups) pairs."""
    count = BATCH_FORGET_IN.read(body).nodes
    pairs = body[BATCH_FORGET_IN.size :]
    if len(pairs) < count * _FORGET_ONE.size:
        raise MalformedRequest(f"BATCH_FORGET: {count} pairs expected, {len(pairs)} bytes found")
    return list(_FORGET_ONE.iter_unpack(pairs[: count * _FORGET_ONE.size]))


def read_init_flags(init: InitIn, body: memoryview) -> InitFlag:
    """Return every flag that the kernel offers."""
    flags = init.flags
    if flags & InitFlag.INIT_EXT and len(body) >= INIT_IN.size + _FLAGS2.size:
        flags |= _FLAGS2.unpack_from(body, INIT_IN.size)[0] << 32
    return InitFlag(flags)
