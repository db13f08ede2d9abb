"""Requests about open files: OPEN to RELEASE. The other half of ``dispatch``, which has the rules for both."""

from __future__ import annotations

import stat
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TypeAlias

from jobfs.fuse import protocol, replies
from jobfs.fuse.protocol import Opcode, OpenFlag, RequestHeader
from jobfs.fuse.sleepers import Sleepers
from jobfs.model import NodeId
from jobfs.vfs.inodes import Handle
from jobfs.vfs.operations import Vfs

Answer: TypeAlias = protocol.Buffer | Coroutine[object, object, protocol.Buffer] | int | None
"""A payload, what gives one later, the errno of a refusal, or None where nothing is answered. A refusal may as well be
raised; as a number it costs a tenth, which is felt where the kernel asks for what is not there again and again."""

Handler: TypeAlias = Callable[[RequestHeader, memoryview], Answer]


class OpenFileRequests:
    """The requests about open files of one mount."""

    def __init__(self, vfs: Vfs) -> None:
        self._vfs = vfs
        self._sleepers = Sleepers()
        self.may_bypass = False
        """Whether the kernel lets files be mapped that are read past its page cache; known after INIT."""
        self.handlers: dict[int, Handler] = {
            Opcode.OPEN: self._open,
            Opcode.READ: self._read,
            Opcode.WRITE: self._write,
            Opcode.FLUSH: self._flush,
            Opcode.RELEASE: self._release,
            Opcode.FSYNC: self._fsync,
            Opcode.FALLOCATE: self._fallocate,
            Opcode.LSEEK: self._lseek,
        }

    def _open(self, header: RequestHeader, body: memoryview) -> Answer:
        wanted = protocol.OPEN_IN.read(body)
        handle = self._vfs.open(NodeId(header.node), wanted.flags)
        if wanted.open_flags & protocol.OPEN_KILL_SUIDGID:
            drop_privileges(self._vfs, NodeId(header.node))
        return self._open_cold(handle) if self._vfs.is_cold(handle, wanted.flags) else opened(handle)

    async def _open_cold(self, handle: Handle) -> bytes:
        is_coming = await self._vfs.confirm(handle)
        return opened(handle, is_bypassing=self.may_bypass and not is_coming and not handle.is_writable)

    def _read(self, header: RequestHeader, body: memoryview) -> Answer:
        wanted = protocol.READ_IN.read(body)
        handle = self._vfs.handle(wanted.fh)
        here = self._vfs.read_now(handle, wanted.size, wanted.offset)
        if here is not None:
            return here
        if wanted.read_flags & protocol.READ_LOCKOWNER:  # the kernel says so of nothing but reads past its page cache
            return self._vfs.read(handle, wanted.size, wanted.offset)
        is_shared = partial(self._sleepers.are_beside, header.pid, handle.inode.node)
        return self._vfs.read(handle, wanted.size, wanted.offset, is_shared=is_shared)

    def _write(self, header: RequestHeader, body: memoryview) -> Answer:
        wanted = protocol.WRITE_IN.read(body)
        data = body[protocol.WRITE_IN.size :]
        if len(data) != wanted.size:
            raise protocol.MalformedRequest(f"WRITE: {wanted.size} bytes expected, {len(data)} found")
        handle = self._vfs.handle(wanted.fh)
        written = self._vfs.write_now(handle, data, wanted.offset)
        if written is None:
            return self._write_later(handle, bytes(data), wanted)
        return self._written(handle, written, wanted)

    async def _write_later(self, handle: Handle, data: bytes, wanted: protocol.WriteIn) -> bytes:
        return self._written(handle, await self._vfs.write(handle, data, wanted.offset), wanted)

    def _written(self, handle: Handle, count: int, wanted: protocol.WriteIn) -> bytes:
        if wanted.write_flags & protocol.WRITE_KILL_SUIDGID:
            drop_privileges(self._vfs, handle.inode.node)
        return replies.written(count)

    def _flush(self, header: RequestHeader, body: memoryview) -> Answer:
        handle = self._vfs.handle(protocol.HANDLE_IN.read(body).fh)
        return b"" if self._vfs.flush_now(handle) else nothing_after(self._vfs.flush(handle))

    def _release(self, header: RequestHeader, body: memoryview) -> Answer:
        handle = self._vfs.handle(protocol.HANDLE_IN.read(body).fh)
        self._vfs.release(handle)
        return b""

    def _fsync(self, header: RequestHeader, body: memoryview) -> Answer:
        return nothing_after(self._vfs.fsync(self._vfs.handle(protocol.HANDLE_IN.read(body).fh)))

    def _fallocate(self, header: RequestHeader, body: memoryview) -> Answer:
        wanted = protocol.FALLOCATE_IN.read(body)
        handle = self._vfs.handle(wanted.fh)
        return nothing_after(self._vfs.allocate(handle, wanted.mode, wanted.offset, wanted.length))

    def _lseek(self, header: RequestHeader, body: memoryview) -> Answer:
        wanted = protocol.LSEEK_IN.read(body)
        return replies.sought(self._vfs.seek(self._vfs.handle(wanted.fh), wanted.offset, wanted.whence))


def opened(handle: Handle, *, is_bypassing: bool = False) -> bytes:
    """Return the payload of OPEN for a handle: how the kernel treats the file.

    :param is_bypassing: past the page cache, for who may have to wait long. Of several programs that wait for one page
        there, all but the first would wait for that one, in state D, and not for us.
    """
    if handle.snapshot is not None:
        return replies.opened(handle.number, OpenFlag.DIRECT_IO)
    if is_bypassing:
        # Without KEEP_CACHE the kernel would throw the file's pages away, and wait for those that others wait for.
        return replies.opened(handle.number, OpenFlag.DIRECT_IO | OpenFlag.KEEP_CACHE)
    flags = OpenFlag.KEEP_CACHE if handle.is_writable else OpenFlag.KEEP_CACHE | OpenFlag.NOFLUSH
    return replies.opened(handle.number, flags)


def drop_privileges(vfs: Vfs, node: NodeId) -> None:
    """Take the set-id bits away after a write by somebody without the right to keep them (chmod(2))."""
    mode = vfs.attributes(node).mode
    lost = mode & (stat.S_ISUID | (stat.S_ISGID if mode & stat.S_IXGRP else 0))
    if lost:
        vfs.set_mode(node, mode & ~lost)


async def nothing_after(work: Coroutine[object, object, None]) -> bytes:
    """Answer with an empty payload once the work is done."""
    await work
    return b""
