"""Replies and notifications, byte by byte as ``struct fuse_*_out`` of the kernel's header has them."""

from __future__ import annotations

import errno
import struct

from jobfs.fuse import replies
from jobfs.fuse.protocol import Buffer, InitFlag
from jobfs.fuse.replies import InitOut, Lifetime, Stat

STAT = Stat(node=7, size=4097, mtime_ns=3_000_000_005, ctime_ns=4_000_000_006, mode=0o100644, links=1, uid=10, gid=11)
ATTR = (
    "0700000000000000 0110000000000000 0900000000000000"  # inode, size, 512-byte blocks
    "0300000000000000 0300000000000000 0400000000000000"  # atime, mtime, ctime
    "05000000 05000000 06000000 a4810000 01000000 0a000000 0b000000 00000000 00100000 00000000"
)


def joined(message: list[Buffer]) -> bytes:
    return b"".join(bytes(part) for part in message)


def test_a_reply_states_its_length_and_whose_it_is() -> None:
    assert joined(replies.reply(6, b"abc")) == bytes.fromhex("13000000 00000000 0600000000000000 616263")
    assert joined(replies.reply(6)) == bytes.fromhex("10000000 00000000 0600000000000000")


def test_a_refusal_carries_the_negative_errno() -> None:
    assert joined(replies.error_reply(6, errno.ENOENT)) == bytes.fromhex("10000000 feffffff 0600000000000000")


def test_attributes_are_given_with_their_lifetime() -> None:
    assert replies.attributes(STAT, 100) == bytes.fromhex("6400000000000000 00000000 00000000" + ATTR)


def test_an_entry_is_node_generation_lifetimes_and_attributes() -> None:
    head = "0700000000000000 0000000000000000 6400000000000000 c800000000000000 00000000 00000000"
    assert replies.entry(STAT, Lifetime(100, 200)) == bytes.fromhex(head + ATTR)
    assert len(replies.entry(STAT, Lifetime(1, 1))) == replies.ENTRY_SIZE == 128


def test_a_time_before_1970_keeps_its_nanoseconds_positive() -> None:
    early = STAT._replace(mtime_ns=-1)
    assert struct.unpack_from("<q", replies.attributes(early, 0), 16 + 32)[0] == -1
    assert struct.unpack_from("<I", replies.attributes(early, 0), 16 + 52)[0] == 999_999_999


def test_a_missing_name_is_an_entry_without_a_node_that_may_be_remembered() -> None:
    assert replies.negative_entry(100) == bytes(16) + bytes.fromhex("6400000000000000") + bytes(104)


def test_open_and_write_and_seek_and_xattr_answers() -> None:
    assert replies.opened(5, 2) == bytes.fromhex("0500000000000000 02000000 00000000")
    assert replies.written(4096) == bytes.fromhex("00100000 00000000")
    assert replies.sought(4096) == bytes.fromhex("0010000000000000")
    assert replies.xattr_size(9) == bytes.fromhex("09000000 00000000")


def test_free_space_is_80_bytes() -> None:
    assert replies.space(4096, 1000, 400, 255) == bytes.fromhex(
        "e803000000000000 9001000000000000 9001000000000000 e803000000000000 9001000000000000"
        "00100000 ff000000 00100000 00000000" + "00" * 24
    )


def test_init_settles_versions_sizes_and_flags_in_both_words() -> None:
    answer = InitOut(45, 1 << 20, InitFlag.ASYNC_READ | InitFlag(1 << 33), 12, 9)
    assert replies.init(answer) == bytes.fromhex(
        "07000000 2d000000 00001000 01000000 0c00 0900 00001000 01000000 0001 0000 02000000" + "00" * 28
    )
    assert len(replies.init(answer)) == len(replies.old_major()) == 64


def test_directory_records_are_padded_to_eight_bytes() -> None:
    assert replies.directory_entry(7, 64, 8, b"abc") == bytes.fromhex(
        "0700000000000000 4000000000000000 03000000 08000000 6162630000000000"
    )
    assert len(replies.directory_entry(7, 64, 8, b"12345678")) == 32
    plus = replies.directory_entry_plus(replies.NO_ENTRY, 7, 64, 4, b".")
    assert plus == bytes(128) + replies.directory_entry(7, 64, 4, b".")


def test_notifications_have_their_code_where_replies_have_the_error() -> None:
    assert joined(replies.invalidate_attributes(7)) == bytes.fromhex(
        "28000000 02000000 0000000000000000 0700000000000000 ffffffffffffffff 0000000000000000"
    )
    assert joined(replies.invalidate_entry(7, "ä")) == bytes.fromhex(
        "23000000 03000000 0000000000000000 0700000000000000 02000000 00000000 c3a400"
    )
