"""The FUSE kernel protocol, replies and notifications: every message that the transport writes. Pure.

A reply is a header and a payload; most functions here make payloads. The layouts are those of the kernel's header (see
``protocol``).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from jobfs.fuse.protocol import MAJOR, MAX_TRANSFER_BYTES, NEWEST_MINOR, Buffer, InitFlag

_NOTIFY_INVAL_INODE = 2
_NOTIFY_INVAL_ENTRY = 3
_NOTIFY_DELETE = 6

_OUT_HEADER = struct.Struct("<IiQ")
_ATTR = "QQQqqqIIIIIIIIII"
_ATTR_OUT = struct.Struct("<QI4x" + _ATTR)
_ENTRY_OUT = struct.Struct("<QQQQII" + _ATTR)
_OPEN_OUT = struct.Struct("<QII")
_WRITE_OUT = struct.Struct("<I4x")
_STATFS_OUT = struct.Struct("<QQQQQIII28x")
_GETXATTR_OUT = struct.Struct("<I4x")
_LSEEK_OUT = struct.Struct("<Q")
_INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
_DIRENT = struct.Struct("<QQII")
_INVAL_INODE = struct.Struct("<Qqq")
_INVAL_ENTRY = struct.Struct("<QII")
_DELETE = struct.Struct("<QQII")

DIRENT_SIZE = _DIRENT.size
ENTRY_SIZE = _ENTRY_OUT.size

_NS = 1_000_000_000
_BLOCK = 4096
_SECTOR = 512


class Stat(NamedTuple):
    """The attributes of a node as the kernel wants them. ``mode`` includes the file type; times in nanoseconds."""

    node: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    links: int
    uid: int
    gid: int


class Lifetime(NamedTuple):
    """How long the kernel may believe a name and the attributes, in seconds."""

    entry_s: int
    attributes_s: int


def _attr(stat: Stat) -> tuple[int, ...]:
    mtime_s, mtime_ns = divmod(stat.mtime_ns, _NS)
    ctime_s, ctime_ns = divmod(stat.ctime_ns, _NS)
    sectors = (stat.size + _SECTOR - 1) // _SECTOR
    # The time of the last access is not kept; the kernel is given that of the last change.
    times = (mtime_s, mtime_s, ctime_s, mtime_ns, mtime_ns, ctime_ns)
    return (stat.node, stat.size, sectors, *times, stat.mode, stat.links, stat.uid, stat.gid, 0, _BLOCK, 0)


def reply(unique: int, payload: Buffer = b"") -> list[Buffer]:
    """Return a successful reply as what is to be written in one call."""
    return [_OUT_HEADER.pack(_OUT_HEADER.size + len(payload), 0, unique), payload]


def error_reply(unique: int, number: int) -> list[Buffer]:
    """Return a refusal with a positive errno."""
    return [_OUT_HEADER.pack(_OUT_HEADER.size, -number, unique)]


def attributes(stat: Stat, valid_s: int) -> bytes:
    """Return the payload of GETATTR and SETATTR."""
    return _ATTR_OUT.pack(valid_s, 0, *_attr(stat))


def entry(stat: Stat, lifetime: Lifetime) -> bytes:
    """Return the payload of LOOKUP and of everything that makes a node. The node number is the inode number."""
    return _ENTRY_OUT.pack(stat.node, 0, lifetime.entry_s, lifetime.attributes_s, 0, 0, *_attr(stat))


def negative_entry(valid_s: int) -> bytes:
    """Return the payload of a LOOKUP that says, for a time: there is no such name."""
    return _ENTRY_OUT.pack(0, 0, valid_s, 0, 0, 0, *(0,) * 16)


def opened(fh: int, flags: int) -> bytes:
    """Return the payload of OPEN, and what follows the entry in CREATE."""
    return _OPEN_OUT.pack(fh, flags, 0)


def written(size: int) -> bytes:
    """Return the payload of WRITE."""
    return _WRITE_OUT.pack(size)


def space(block_bytes: int, blocks: int, free: int, name_bytes: int) -> bytes:
    """Return the payload of STATFS. The number of files has no bound of its own: it is given as that of blocks."""
    return _STATFS_OUT.pack(blocks, free, free, blocks, free, block_bytes, name_bytes, block_bytes)


def xattr_size(size: int) -> bytes:
    """Return the answer to the question how long an extended attribute, or the list of them, is."""
    return _GETXATTR_OUT.pack(size)


def sought(offset: int) -> bytes:
    """Return the payload of LSEEK."""
    return _LSEEK_OUT.pack(offset)


class InitOut(NamedTuple):
    """What the transport settles with the kernel."""

    minor: int
    max_readahead: int
    flags: InitFlag
    max_background: int
    congestion_threshold: int


def init(answer: InitOut) -> bytes:
    """Return the payload of INIT."""
    return _INIT_OUT.pack(
        MAJOR,
        answer.minor,
        answer.max_readahead,
        answer.flags & 0xFFFFFFFF,
        answer.max_background,
        answer.congestion_threshold,
        MAX_TRANSFER_BYTES,
        1,  # times are exact to the nanosecond
        MAX_TRANSFER_BYTES // _BLOCK,
        0,
        answer.flags >> 32,
    )


def old_major() -> bytes:
    """Return the payload that asks a kernel with a newer major version to begin again with ours."""
    return _INIT_OUT.pack(MAJOR, NEWEST_MINOR, *(0,) * 9)


def directory_entry(node: int, cookie: int, kind: int, name: bytes) -> bytes:
    """Return one record of READDIR.

    :param cookie: where the listing goes on after this one.
    :param kind: the file type, as in bits 12 to 15 of a mode.
    """
    record = _DIRENT.pack(node, cookie, len(name), kind) + name
    return record + bytes(-len(record) % 8)


def directory_entry_plus(found: bytes, node: int, cookie: int, kind: int, name: bytes) -> bytes:
    """Return one record of READDIRPLUS: the payload of a lookup with a record of READDIR."""
    return found + directory_entry(node, cookie, kind, name)


NO_ENTRY = bytes(ENTRY_SIZE)
"""Stands where READDIRPLUS gives no attributes: the kernel then counts no lookup."""


# -- notifications


def invalidate_attributes(node: int) -> list[Buffer]:
    """Return the message that makes the kernel ask for a node's attributes anew; its pages stay."""
    return _notification(_NOTIFY_INVAL_INODE, _INVAL_INODE.pack(node, -1, 0))


def invalidate_listing(directory: int) -> list[Buffer]:
    """Return the message that makes the kernel list a directory anew, and ask for its attributes."""
    return _notification(_NOTIFY_INVAL_INODE, _INVAL_INODE.pack(directory, 0, 0))


def invalidate_entry(parent: int, name: str) -> list[Buffer]:
    """Return the message that makes the kernel look a name up anew.

    Where it knows the name, it also lists the directory anew; see ``invalidate_listing`` for where it does not.
    """
    encoded = name.encode("utf-8", "surrogateescape")
    return _notification(_NOTIFY_INVAL_ENTRY, _INVAL_ENTRY.pack(parent, len(encoded), 0) + encoded + b"\0")


def delete_entry(parent: int, node: int, name: str) -> list[Buffer]:
    """Return the message that makes the kernel look a name up anew, and take the node that had it for deleted.

    Who watches that node hears of it (IN_DELETE_SELF) when nobody has it open any more. The kernel locks the node for
    this: there must be no request about it under way that has to wait.
    """
    encoded = name.encode("utf-8", "surrogateescape")
    return _notification(_NOTIFY_DELETE, _DELETE.pack(parent, node, len(encoded), 0) + encoded + b"\0")


def _notification(code: int, payload: bytes) -> list[Buffer]:
    return [_OUT_HEADER.pack(_OUT_HEADER.size + len(payload), code, 0), payload]
