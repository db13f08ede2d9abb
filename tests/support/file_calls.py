"""System calls that the standard library lacks, or gives in another shape; Linux only."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
FALLOC_KEEP_SIZE = 1
FALLOC_PUNCH_HOLE = 2
FALLOC_ZERO_RANGE = 16

_AT_FDCWD = -100
_UTIME_OMIT = (1 << 30) - 2
_CAPABILITIES_VERSION = 0x20080522
_OVERRIDING = (0, 1, 2)
"""CAP_CHOWN, CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: what root may do to files that their owner may not."""

Rights: TypeAlias = AbstractContextManager[None]

_libc = ctypes.CDLL(None, use_errno=True)


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def rename_with(old: str, new: str, flags: int) -> None:
    """Call renameat2(2)."""
    _checked(_libc.renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags))


def allocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    """Call fallocate(2)."""
    _checked(_libc.fallocate(descriptor, mode, ctypes.c_long(offset), ctypes.c_long(length)))


def set_times(path: str, *, accessed_ns: int | None, modified_ns: int | None) -> None:
    """Call utimensat(2); None leaves a time as it is."""
    specs = (_TimeSpec * 2)()
    for spec, moment in zip(specs, (accessed_ns, modified_ns), strict=True):
        spec.seconds, spec.nanoseconds = (0, _UTIME_OMIT) if moment is None else divmod(moment, 1_000_000_000)
    _checked(_libc.utimensat(_AT_FDCWD, os.fsencode(path), specs, 0))


def read_entries(descriptor: int, size: int) -> list[tuple[str, int, int]]:
    """Call getdents64(2) once; return name, inode number and cookie of what fits into so many bytes.

    With a small size each call makes the file system take up the listing anew, at its last cookie.
    """
    buffer = ctypes.create_string_buffer(size)
    length = _checked(_libc.getdents64(descriptor, buffer, size))
    found = []
    at = 0
    while at < length:
        inode, cookie, record = struct.unpack_from("<QqH", buffer, at)
        name = ctypes.string_at(ctypes.addressof(buffer) + at + 19)
        found.append((os.fsdecode(name), inode, cookie))
        at += record
    return found


@contextmanager
def rights_of_an_owner() -> Iterator[None]:
    """Let this thread do to files what their owner may do, also where it belongs to root.

    A plain directory obeys its permission bits then. For other users nothing changes.
    """
    if os.geteuid() != 0:
        yield
        return
    before = _capabilities()
    _set_capabilities([before[0] & ~sum(1 << number for number in _OVERRIDING), *before[1:]])
    try:
        yield
    finally:
        _set_capabilities(before)


def _capabilities() -> list[int]:
    """Return effective, permitted and inheritable capabilities of this thread, twice: low and high halves."""
    header = struct.pack("<Ii", _CAPABILITIES_VERSION, 0)
    data = ctypes.create_string_buffer(24)
    _checked(_libc.capget(header, data))
    return list(struct.unpack("<6I", data.raw))


def _set_capabilities(words: list[int]) -> None:
    header = struct.pack("<Ii", _CAPABILITIES_VERSION, 0)
    _checked(_libc.capset(header, struct.pack("<6I", *words)))
