"""Requests of the kernel, as bytes that a real one sends (Linux 6.18, x86-64), and what is not a request at all."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfs.fuse import protocol
from jobfs.fuse.protocol import InitFlag, MalformedRequest, Opcode

INIT = bytes.fromhex(
    "680000001a000000020000000000000000000000000000000000000000000000"
    "0000000000000000"
    "070000002d00000000000200fbffff73fd050000" + "00" * 44
)
"""The first message of Linux 6.18 on a new mount, as it was received."""


def test_the_first_message_of_a_real_kernel_is_understood() -> None:
    header = protocol.read_header(INIT)
    assert header == (104, Opcode.INIT, 2, 0, 0, 0, 0)
    body = memoryview(INIT)[protocol.HEADER.size :]
    init = protocol.INIT_IN.read(body)
    assert init == (7, 45, 131072, 0x73FFFFFB)
    assert protocol.read_init_flags(init, body) == 0x5FD_73FFFFFB


def test_flags_from_32_up_are_read_only_where_the_kernel_says_that_it_sent_them() -> None:
    init = protocol.InitIn(7, 31, 0, int(InitFlag.ASYNC_READ))
    assert protocol.read_init_flags(init, memoryview(INIT)[protocol.HEADER.size :]) == InitFlag.ASYNC_READ


def test_a_header_names_the_asking_thread_and_the_node() -> None:
    request = struct.pack("<IIQQIIIHH", 40, 3, 6, 1234, 1000, 1001, 4321, 0, 0)
    assert protocol.read_header(request) == (40, Opcode.GETATTR, 6, 1234, 1000, 1001, 4321)


@pytest.mark.parametrize("request_", [b"", INIT[:39], INIT[:-1], INIT + b"x"])
def test_a_request_of_another_length_than_it_says_is_malformed(request_: bytes) -> None:
    with pytest.raises(MalformedRequest):
        protocol.read_header(request_)


LAYOUTS = [
    (protocol.GETATTR_IN, "01000000 00000000 0500000000000000", (1, 5)),
    (
        protocol.SETATTR_IN,
        "28000000 00000000 0700000000000000 0010000000000000 0000000000000000"  # valid, fh, size, lock owner
        "ffffffffffffffff 0200000000000000 0300000000000000"  # atime, mtime, ctime
        "04000000 05000000 06000000 a4810000 00000000 e8030000 e9030000 00000000",
        (0x28, 7, 4096, -1, 2, 4, 5, 0o100644, 1000, 1001),
    ),
    (protocol.MKNOD_IN, "a4810000 01000000 12000000 00000000", (0o100644, 1)),
    (protocol.MKDIR_IN, "ed010000 12000000", (0o755,)),
    (protocol.RENAME_IN, "0900000000000000", (9,)),
    (protocol.RENAME2_IN, "0900000000000000 02000000 00000000", (9, 2)),
    (protocol.LINK_IN, "0900000000000000", (9,)),
    (protocol.OPEN_IN, "02020000 01000000", (0o1002, 1)),
    (protocol.CREATE_IN, "c1000000 a4810000 12000000 01000000", (0o301, 0o100644, 1)),
    (
        protocol.READ_IN,
        "0300000000000000 0010000000000000 00000200 02000000 0000000000000000 00800000 00000000",
        (3, 4096, 131072, 2),
    ),
    (
        protocol.WRITE_IN,
        "0300000000000000 0010000000000000 05000000 04000000 0000000000000000 00800000 00000000",
        (3, 4096, 5, 4),
    ),
    (protocol.HANDLE_IN, "0300000000000000", (3,)),
    (protocol.GETXATTR_IN, "00010000 00000000", (256,)),
    (protocol.INTERRUPT_IN, "0400000000000000", (4,)),
    (protocol.FALLOCATE_IN, "0300000000000000 0010000000000000 0020000000000000 03000000 00000000", (3, 4096, 8192, 3)),
    (protocol.LSEEK_IN, "0300000000000000 0010000000000000 04000000 00000000", (3, 4096, 4)),
    (protocol.FORGET_IN, "0200000000000000", (2,)),
]


@pytest.mark.parametrize(("layout", "body", "fields"), LAYOUTS)
def test_each_body_is_read_field_by_field(layout: protocol.Layout, body: str, fields: tuple[int, ...]) -> None:  # type: ignore[type-arg]
    data = bytes.fromhex(body)
    assert layout.size == len(data)
    assert layout.read(data) == fields
    with pytest.raises(MalformedRequest):
        layout.read(data[:-1])


def test_names_end_at_their_nul_and_may_hold_any_byte() -> None:
    body = memoryview(b"\0" * 8 + b"old \xff\0new\xc3\xa4\0")
    assert protocol.read_names(body, 8, 2) == ["old \udcff", "newä"]
    with pytest.raises(MalformedRequest):
        protocol.read_names(body, 8, 3)


def test_an_extended_attribute_may_hold_nul_bytes() -> None:
    body = struct.pack("<II", 3, 1) + b"user.x\0a\0b"
    assert protocol.read_setxattr(memoryview(body)) == ("user.x", b"a\0b", 1)
    for short in (body[:-1], struct.pack("<II", 0, 0) + b"user.x"):
        with pytest.raises(MalformedRequest):
            protocol.read_setxattr(memoryview(short))


def test_a_batch_of_forgets_is_read_pair_by_pair() -> None:
    body = struct.pack("<IIQQQQ", 2, 0, 10, 1, 11, 5)
    assert protocol.read_batch_forget(memoryview(body)) == [(10, 1), (11, 5)]
    with pytest.raises(MalformedRequest):
        protocol.read_batch_forget(memoryview(body)[:-8])


@given(st.binary(max_size=200))
def test_reading_never_fails_in_another_way_than_as_malformed(data: bytes) -> None:
    view = memoryview(data)
    readers = [
        lambda: protocol.read_header(view),
        lambda: protocol.read_names(view, 8, 2),
        lambda: protocol.read_setxattr(view),
        lambda: protocol.read_batch_forget(view),
        *[lambda layout=layout: layout.read(view) for layout, _, _ in LAYOUTS],
    ]
    for read in readers:
        try:
            read()
        except MalformedRequest:
            continue
