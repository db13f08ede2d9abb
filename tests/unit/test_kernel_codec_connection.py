"""A connection without a kernel: requests go in by a socket that keeps message boundaries, replies come out.

What no kernel sends is sent here: whatever comes in, the next request is answered.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from engine_harness import QUICK, mounted, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_remote import ModelRemote

from jobfs.engine.session import Options
from jobfs.errors import FuseUnavailable
from jobfs.fuse.connection import Connection
from jobfs.fuse.options import MountOptions
from jobfs.fuse.protocol import Opcode
from jobfs.model import NodeId

HEADER = struct.Struct("<IIQQIIIHH")
OUT = struct.Struct("<IiQ")
NOBODY_ASKS = 0


class Kernel:
    """The other end of a connection."""

    def __init__(self, end: socket.socket, connection: Connection) -> None:
        self._end = end
        self._unique = 0
        self.connection = connection

    def send(self, opcode: int, body: bytes = b"", node: int = 1, *, pid: int = NOBODY_ASKS) -> int:
        """Send one request; return the number that its reply will have."""
        self._unique += 2
        self._end.send(HEADER.pack(40 + len(body), opcode, self._unique, node, 0, 0, pid, 0, 0) + body)
        return self._unique

    def send_raw(self, message: bytes) -> None:
        self._end.send(message)

    async def reply(self) -> tuple[int, int, bytes]:
        """Return number, errno and payload of the next reply."""
        async with asyncio.timeout(10):
            message = await asyncio.get_running_loop().sock_recv(self._end, 1 << 21)
        length, error, unique = OUT.unpack_from(message)
        assert length == len(message)
        return unique, -error, message[OUT.size :]

    async def ask(self, opcode: int, body: bytes = b"", node: int = 1) -> tuple[int, bytes]:
        """Send one request and return errno and payload of its reply."""
        unique = self.send(opcode, body, node)
        answered, error, payload = await self.reply()
        assert answered == unique
        return error, payload

    async def is_alive(self) -> bool:
        """Tell whether the root's attributes are still given."""
        error, payload = await self.ask(Opcode.GETATTR, bytes(16))
        return (error, len(payload)) == (0, 104)


Conversation = Callable[[Kernel, Any], Awaitable[None]]


DEADLINE_S = 0.5


def converse(
    folder: Path, conversation: Conversation, remote: ModelRemote | None = None, options: Options | None = None
) -> None:
    """Hold a conversation with a connection that serves a workspace."""

    async def scenario() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            ours.setblocking(False)
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
            async with mounted(folder, remote or ModelRemote(), options=options) as mount:
                connection = Connection(theirs.detach(), mount.vfs, MountOptions("jobfs#test", uid=10, gid=11))
                connection.start()
                kernel = Kernel(ours, connection)
                await conversation(kernel, mount)
                await connection.close()

    run(scenario())


def named(text: str) -> bytes:
    return text.encode() + b"\0"


def create(name: str) -> bytes:
    return struct.pack("<IIII", os.O_CREAT | os.O_RDWR, 0o100644, 0o022, 0) + named(name)


def write(fh: int, offset: int, data: bytes) -> bytes:
    return struct.pack("<QQIIQII", fh, offset, len(data), 0, 0, 0, 0) + data


def read(fh: int, offset: int, size: int) -> bytes:
    return struct.pack("<QQIIQII", fh, offset, size, 0, 0, 0, 0)


def init(minor: int, major: int = 7, flags: int = 0xFFFFFFFF) -> bytes:
    return struct.pack("<IIIII", major, minor, 131072, flags, 0xFFFFFFFF) + bytes(44)


@pytest.mark.parametrize(("offered", "settled"), [(31, 31), (38, 38), (45, 45), (99, 45)])
def test_the_smaller_minor_version_is_settled(tmp_path: Path, offered: int, settled: int) -> None:
    async def conversation(kernel: Kernel, mount: Any) -> None:
        error, payload = await kernel.ask(Opcode.INIT, init(offered))
        assert (error, struct.unpack_from("<II", payload)) == (0, (7, settled))
        assert kernel.connection.initialised.result() is None
        assert kernel.connection.minor == settled

    converse(tmp_path, conversation)


def test_only_flags_that_the_kernel_offers_are_accepted(tmp_path: Path) -> None:
    async def conversation(kernel: Kernel, mount: Any) -> None:
        _, payload = await kernel.ask(Opcode.INIT, init(45, flags=1 << 13))
        assert struct.unpack_from("<I", payload, 12)[0] == 1 << 13

    converse(tmp_path, conversation)


def test_an_old_kernel_is_refused_with_the_way_out(tmp_path: Path) -> None:
    async def conversation(kernel: Kernel, mount: Any) -> None:
        error, _ = await kernel.ask(Opcode.INIT, init(30))
        assert error == errno.EPROTO
        refusal = kernel.connection.initialised.exception()
        assert isinstance(refusal, FuseUnavailable)
        assert refusal.cause == "the kernel speaks FUSE 7.30, 7.31 is needed"

    converse(tmp_path, conversation)


def test_a_newer_major_version_is_asked_to_begin_again_with_ours(tmp_path: Path) -> None:
    async def conversation(kernel: Kernel, mount: Any) -> None:
        error, payload = await kernel.ask(Opcode.INIT, init(0, major=8))
        assert (error, struct.unpack_from("<II", payload)) == (0, (7, 45))
        assert not kernel.connection.initialised.done()

    converse(tmp_path, conversation)


def test_a_file_is_created_written_read_and_closed(tmp_path: Path) -> None:
    async def conversation(kernel: Kernel, mount: Any) -> None:
        error, made = await kernel.ask(Opcode.CREATE, create("a"))
        assert (error, len(made)) == (0, 128 + 16)
        node, fh = struct.unpack_from("<Q", made)[0], struct.unpack_from("<Q", made, 128)[0]
        assert struct.unpack_from("<II", made, 40 + 68) == (10, 11)
        assert await kernel.ask(Opcode.WRITE, write(fh, 0, b"hello"), node) == (0, struct.pack("<II", 5, 0))
        assert await kernel.ask(Opcode.READ, read(fh, 1, 100), node) == (0, b"ello")
        assert await kernel.ask(Opcode.FLUSH, struct.pack("<QIIQ", fh, 0, 0, 0), node) == (0, b"")
        assert await kernel.ask(Opcode.RELEASE, struct.pack("<QIIQ", fh, 0, 0, 0), node) == (0, b"")
        assert (await kernel.ask(Opcode.READ, read(fh, 0, 1), node))[0] == errno.EBADF
        assert await mount.read("a") == b"hello"

    converse(tmp_path, conversation)


@pytest.mark.parametrize("opcode", [Opcode.OPENDIR, 31, 34, 40, 47, 51, 52, 53, 4096, 0, 999_999])
def test_an_opcode_that_is_not_served_is_enosys_so_that_the_kernel_does_without(tmp_path: Path, opcode: int) -> None:
    async def conversation(kernel: Kernel, mount: Any) -> None:
        assert (await kernel.ask(opcode, bytes(64)))[0] == errno.ENOSYS
        assert await kernel.is_alive()

    converse(tmp_path, conversation)


@pytest.mark.allow_log("a request that cannot be answered|opcode")
def test_a_message_that_is_no_request_is_passed_over(tmp_path: Path) -> None:
    async def conversation(kernel: Kernel, mount: Any) -> None:
        for message in (b"x", b"\0" * 39, HEADER.pack(41, 3, 2, 1, 0, 0, 0, 0, 0)):
            kernel.send_raw(message)
        assert await kernel.is_alive()
        assert (await kernel.ask(Opcode.READ, b"short"))[0] == errno.EINVAL
        assert (await kernel.ask(Opcode.WRITE, write(1, 0, b"x")[:-1]))[0] == errno.EINVAL
        assert await kernel.is_alive()

    converse(tmp_path, conversation)


@pytest.mark.allow_log("unexpected, in opcode 3")
def test_an_unexpected_exception_is_logged_with_its_traceback_and_answered_with_eio(
    tmp_path: Path, expected_logs: Any
) -> None:
    async def conversation(kernel: Kernel, mount: Any) -> None:
        def broken(node: NodeId) -> None:
            raise RuntimeError("a defect")

        mount.vfs.attributes = broken
        assert (await kernel.ask(Opcode.GETATTR, bytes(16)))[0] == errno.EIO
        del mount.vfs.attributes
        assert await kernel.is_alive()

    converse(tmp_path, conversation)
    assert [record.exc_info[0] for record in expected_logs.records] == [RuntimeError]


def test_lookups_are_counted_and_forgotten(tmp_path: Path) -> None:
    async def conversation(kernel: Kernel, mount: Any) -> None:
        await mount.write("a", b"x")
        node = mount.node("a")
        for _ in range(3):
            await kernel.ask(Opcode.LOOKUP, named("a"))
        assert kernel.connection.knows(node)
        kernel.send(Opcode.FORGET, struct.pack("<Q", 2), node)
        assert await kernel.is_alive()
        assert kernel.connection.knows(node)
        kernel.send(Opcode.BATCH_FORGET, struct.pack("<IIQQ", 1, 0, node, 1))
        assert await kernel.is_alive()
        assert not kernel.connection.knows(node)

    converse(tmp_path, conversation)


def test_a_replaced_file_is_opened_until_the_kernel_forgets_it(tmp_path: Path) -> None:
    async def conversation(kernel: Kernel, mount: Any) -> None:
        await mount.write("a", b"old")
        await mount.write("b", b"new")
        old = mount.node("a")
        await kernel.ask(Opcode.LOOKUP, named("a"))
        await mount.rename("b", "a")
        error, opened = await kernel.ask(Opcode.OPEN, struct.pack("<II", os.O_RDONLY, 0), old)
        fh = struct.unpack_from("<Q", opened)[0]
        assert (error, await kernel.ask(Opcode.READ, read(fh, 0, 10), old)) == (0, (0, b"old"))
        kernel.send(Opcode.FORGET, struct.pack("<Q", 1), old)
        assert await kernel.ask(Opcode.READ, read(fh, 0, 10), old) == (0, b"old")
        await kernel.ask(Opcode.RELEASE, struct.pack("<QIIQ", fh, 0, 0, 0), old)
        assert (await kernel.ask(Opcode.OPEN, struct.pack("<II", os.O_RDONLY, 0), old))[0] == errno.ESTALE
        assert mount.vfs.table.inodes == {}

    converse(tmp_path, conversation)


def test_an_interrupt_gives_a_waiting_read_up_and_is_itself_not_answered(tmp_path: Path) -> None:
    remote = ModelRemote()
    remote.put("cold", b"x" * 1000)

    async def conversation(kernel: Kernel, mount: Any) -> None:
        remote.gate.clear()
        node = mount.node("cold")
        _, opened = await kernel.ask(Opcode.OPEN, struct.pack("<II", os.O_RDONLY, 0), node)
        waiting = kernel.send(Opcode.READ, read(struct.unpack_from("<Q", opened)[0], 0, 10), node)
        assert await kernel.is_alive()
        kernel.send(Opcode.INTERRUPT, struct.pack("<Q", waiting))
        kernel.send(Opcode.INTERRUPT, struct.pack("<Q", 12345))
        assert await kernel.reply() == (waiting, errno.EINTR, b"")
        assert await kernel.is_alive()
        remote.gate.set()

    converse(tmp_path, conversation, remote)


def test_bytes_that_were_just_waited_for_in_vain_are_not_waited_for_again(tmp_path: Path) -> None:
    remote = ModelRemote()
    remote.put("cold", b"x" * 1000)

    async def conversation(kernel: Kernel, mount: Any) -> None:
        remote.gate.clear()
        node = mount.node("cold")
        _, opened = await kernel.ask(Opcode.OPEN, struct.pack("<II", os.O_RDONLY, 0), node)
        fh = struct.unpack_from("<Q", opened)[0]
        assert await kernel.ask(Opcode.READ, read(fh, 0, 10), node) == (errno.ETIMEDOUT, b"")
        began = time.monotonic()
        assert await kernel.ask(Opcode.READ, read(fh, 0, 10), node) == (errno.ETIMEDOUT, b"")
        assert time.monotonic() - began < DEADLINE_S / 2
        await kernel.ask(Opcode.RELEASE, struct.pack("<QIIQ", fh, 0, 0, 0), node)
        remote.gate.set()
        assert await mount.read("cold") == b"x" * 1000

    converse(tmp_path, conversation, remote, Options(times=QUICK, read_deadline_s=DEADLINE_S))


def test_what_waits_is_given_up_when_the_connection_is_closed(tmp_path: Path) -> None:
    remote = ModelRemote()
    remote.put("cold", b"x" * 1000)

    async def conversation(kernel: Kernel, mount: Any) -> None:
        remote.gate.clear()
        node = mount.node("cold")
        _, opened = await kernel.ask(Opcode.OPEN, struct.pack("<II", os.O_RDONLY, 0), node)
        kernel.send(Opcode.READ, read(struct.unpack_from("<Q", opened)[0], 0, 10), node)
        assert await kernel.is_alive()

    converse(tmp_path, conversation, remote)


BODIES = st.one_of(
    st.binary(max_size=120),
    st.builds(
        lambda fields, name: struct.pack(f"<{len(fields)}Q", *fields) + name + b"\0",
        st.lists(st.integers(0, (1 << 64) - 1), max_size=12),
        st.binary(max_size=20),
    ),
    st.builds(
        lambda fields, name: struct.pack(f"<{len(fields)}Q", *fields) + name + b"\0b\0",
        st.lists(st.integers(0, 8), max_size=12),
        st.binary(max_size=300),
    ),
)
NEVER_ANSWERED = (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT)
NODES = st.one_of(st.integers(0, 12), st.integers(0, (1 << 64) - 1))
OPCODES = st.one_of(st.sampled_from([op for op in Opcode if op is not Opcode.INIT]), st.integers(0, (1 << 32) - 1))


@pytest.mark.allow_log("opcode|a request that cannot be answered")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(st.tuples(OPCODES, NODES, BODIES), min_size=1, max_size=25))
def test_whatever_is_asked_every_request_is_answered_once(
    tmp_path_factory: pytest.TempPathFactory, expected_logs: Any, requests: list[tuple[int, int, bytes]]
) -> None:
    async def conversation(kernel: Kernel, mount: Any) -> None:
        await mount.write("a", b"x")
        sent = [(opcode, kernel.send(opcode, body, node)) for opcode, node, body in requests]
        expected = {unique for opcode, unique in sent if opcode not in NEVER_ANSWERED}
        assert {(await kernel.reply())[0] for _ in expected} == expected
        assert await kernel.is_alive()

    converse(tmp_path_factory.mktemp("fuzz"), conversation)
    defects = [record.getMessage() for record in expected_logs.records if record.exc_info]
    assert defects == []
