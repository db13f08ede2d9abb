"""Bytes: open, read, write, truncate, and what must hold at close and fsync.

Where the bytes are (design, section 6): a clean file that was never read has none here, and a read of it waits for its
download; the first write brings the whole file here unless it truncates (``writable``). From then on the blob is the
file.
"""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
from collections.abc import Callable
from dataclasses import replace

from jobfs.engine.hydrator import Hydrator
from jobfs.engine.workspace import Workspace
from jobfs.errors import DeadlineExceeded
from jobfs.model import Content, Kind, LocalNode, NodeId, Permission
from jobfs.store.blobs import disk_errors
from jobfs.vfs.inodes import Handle, InodeTable, OpenInode
from jobfs.vfs.namespace import EMPTY_SHA256, MAX_FILE_BYTES, Namespace, fail
from jobfs.vfs.writable import Writable

_FALLOC_KEEP_SIZE = 1
_FALLOC_PUNCH_HOLE = 2
_FALLOC_ZERO_RANGE = 16


class Files:
    """The contents of one workspace's files."""

    def __init__(self, workspace: Workspace, table: InodeTable, namespace: Namespace, hydrator: Hydrator) -> None:
        self._workspace = workspace
        self._state = workspace.state
        self._blobs = workspace.state.blobs
        self._system = workspace.state.blobs.system
        self._table = table
        self._namespace = namespace
        self._hydrator = hydrator
        self._history = workspace.history
        self._writable = Writable(workspace, namespace, hydrator)

    # -- handles

    def open(self, node: NodeId, flags: int) -> Handle:
        """Open a file.

        :param flags: of open(2); O_CREAT and O_EXCL are the caller's matter.
        :raises OSError: EISDIR, EACCES for writing what is read-only, EROFS.
        """
        record = self._namespace.record(node)
        if record.kind is Kind.DIRECTORY:
            raise fail(errno.EISDIR)
        access = flags & os.O_ACCMODE
        writable = access in (os.O_WRONLY, os.O_RDWR)
        if writable or flags & os.O_TRUNC:
            self._check_writable(record)
        handle = self._table.open(
            node, readable=access != os.O_WRONLY, writable=writable, append=bool(flags & os.O_APPEND)
        )
        if writable:
            self._workspace.writers[node] += 1
        if flags & os.O_TRUNC:
            try:
                self._empty(handle.inode)
            except BaseException:
                self.release(handle)
                raise
            handle.has_written = True
        return handle

    def create(self, parent: NodeId, name: str, *, mode: int, flags: int) -> Handle:
        """Make a file and open it. One that can be written is ready for it: making it is its only change in the store
        before it is closed.

        :raises OSError: see ``Namespace.make``.
        """
        access = flags & os.O_ACCMODE
        if access == os.O_RDONLY:
            made = self._namespace.make(parent, name, Kind.FILE, mode=mode)
            return self._table.open(made.id, readable=True, writable=False, append=False)
        blob = self._blobs.allocate()
        descriptor = self._blobs.open(blob, create=True)
        try:
            made = self._namespace.make(parent, name, Kind.FILE, mode=mode, blob=blob)
        except BaseException:
            os.close(descriptor)
            self._blobs.discard(blob)
            raise
        handle = self._table.open(
            made.id, readable=access != os.O_WRONLY, writable=True, append=bool(flags & os.O_APPEND)
        )
        handle.inode.descriptor, handle.inode.blob = descriptor, blob
        handle.inode.is_kept = handle.has_written = True
        self._workspace.writers[made.id] += 1
        return handle

    def _check_writable(self, record: LocalNode) -> None:
        if self._workspace.is_read_only:
            raise fail(errno.EROFS)
        if record.is_local_only:
            return
        if record.permission is Permission.READ_ONLY or self._workspace.is_protected(record.id):
            raise fail(errno.EACCES)

    def release(self, handle: Handle) -> None:
        """Close a handle; the last one of a detached inode takes its bytes with it."""
        inode = handle.inode
        try:
            self._save(inode)
        finally:
            if handle.is_writable:
                self._forget_writer(inode.node)
            if self._table.close(handle):
                self._finish(inode)
        if handle.has_written and not inode.is_detached:
            self._workspace.touch(inode.node)

    def _forget_writer(self, node: NodeId) -> None:
        self._workspace.writers[node] -= 1
        if not self._workspace.writers[node]:
            del self._workspace.writers[node]

    def forget(self, node: NodeId) -> None:
        """Note that the transport's caches no longer name a node."""
        inode = self._table.forget(node)
        if inode is not None:
            self._finish(inode)

    def _finish(self, inode: OpenInode) -> None:
        inode.close_descriptor()
        if inode.is_detached and inode.record is not None:
            self._hydrator.drop_kept(inode.node)
            if inode.record.blob is not None and not self._history.owns(inode.record.blob):
                self._blobs.remove(inode.record.blob)

    def flush(self, handle: Handle) -> None:
        """Make what was written durable against the death of the process; called before close(2) returns."""
        self._save(handle.inode)
        if handle.has_written and not handle.inode.is_detached:
            self._workspace.touch(handle.inode.node)

    def _save(self, inode: OpenInode) -> None:
        if inode.is_unsaved and not inode.is_detached:
            with self._state.transaction():
                self._state.put_local(self._namespace.record(inode.node))
        inode.is_unsaved = False

    def fsync(self, handle: Handle) -> None:
        """Make content, directory entry and state durable against a power cut. Blocks for the local disk."""
        with disk_errors():
            if handle.inode.descriptor is not None:
                self._system.fsync(handle.inode.descriptor)
            record = self._namespace.record(handle.inode.node)
            if record.blob is not None:
                self._blobs.sync_name(record.blob)
        if not handle.inode.is_detached:
            with self._state.transaction(durable=True):
                self._state.put_local(record)
        handle.inode.is_unsaved = False

    # -- reading

    def read_now(self, handle: Handle, size: int, offset: int) -> bytes | None:
        """Return bytes that are here already, or None where ``read`` must wait for the network."""
        if handle.snapshot is not None:
            return handle.snapshot[offset : offset + size]
        descriptor = self._descriptor(handle.inode)
        if descriptor is None:
            return None if self._namespace.record(handle.inode.node).content != Content(0, EMPTY_SHA256) else b""
        with disk_errors():
            return os.pread(descriptor, size, offset)

    async def read(
        self, handle: Handle, size: int, offset: int, *, is_shared: Callable[[], bool] | None = None
    ) -> bytes:
        """Return bytes, waiting for their download where they are not here.

        :param is_shared: given where the kernel holds pages of the file locked until it has the bytes: whoever wants
            one of these sleeps uninterruptibly. That can be all who have the file open; this tells of others.
        :raises ApiError: the download failed within its deadline.
        """
        while (here := self.read_now(handle, size, offset)) is None:
            record = self._namespace.record(handle.inode.node)
            if record.content is None or offset >= record.content.size:
                return b""
            length = min(size, record.content.size - offset)
            found = await self._await_bytes(handle.inode, record, offset, length, is_shared)
            if found is not None:
                return found
        return here

    async def _await_bytes(
        self, inode: OpenInode, record: LocalNode, offset: int, length: int, is_shared: Callable[[], bool] | None
    ) -> bytes | None:
        """Wait for bytes; return None where somebody has cut the file meanwhile.

        More than a page is read ahead where it goes through the page cache: if that fails, the kernel tells nobody,
        and asks for the page that is wanted. It may have longer ones, so what it asks for again is waited for.
        """
        end = offset + length
        try:
            return await self._hydrator.read(
                record,
                offset,
                length,
                is_locked=lambda: is_shared is not None and (inode.handles > 1 or is_shared()),
                is_optional=length > mmap.PAGESIZE and not inode.read_in_vain.holds(offset, end),
                is_overtaken=lambda: inode.descriptor is not None,
            )
        except DeadlineExceeded:
            inode.read_in_vain.add(offset, end)
            raise

    def _descriptor(self, inode: OpenInode) -> int | None:
        """Return a descriptor on the inode's present blob, opening it where that is possible at once."""
        record = inode.record if inode.is_detached else self._state.local.get(inode.node)
        if record is None:
            raise fail(errno.ESTALE)
        if record.blob is None and inode.is_detached:
            record = self._writable.adopt_kept(inode, record)
        if inode.descriptor is not None and inode.blob == record.blob:
            return inode.descriptor
        inode.close_descriptor()
        if record.blob is None:
            return None
        inode.descriptor = self._blobs.open(record.blob)
        inode.blob = record.blob
        return inode.descriptor

    # -- writing

    def write_now(self, handle: Handle, data: bytes | memoryview, offset: int) -> int | None:
        """Write at once and return the count, or return None where ``write`` must bring bytes here first."""
        inode = handle.inode
        record = self._namespace.record(inode.node)
        if not self._writable.make_ready_now(inode, record):
            return None
        return self._write_ready(handle, data, offset)

    async def write(self, handle: Handle, data: bytes | memoryview, offset: int) -> int:
        """Write; brings the whole file here before its first change.

        :param offset: ignored where the handle appends.
        :raises OSError: EFBIG, ENOSPC.
        :raises ApiError: the old bytes could not be had.
        """
        await self._writable.make_ready(handle.inode)
        return self._write_ready(handle, data, offset)

    def _write_ready(self, handle: Handle, data: bytes | memoryview, offset: int) -> int:
        inode = handle.inode
        record = self._namespace.record(inode.node)
        assert inode.descriptor is not None  # noqa: S101 - what ready means
        assert record.content is not None  # noqa: S101
        at = record.content.size if handle.is_append else offset
        if at + len(data) > MAX_FILE_BYTES:
            raise fail(errno.EFBIG)
        with disk_errors():
            written = self._system.pwrite(inode.descriptor, data, at)
        handle.has_written = True
        self._note(inode, record, max(record.content.size, at + written))
        return written

    def _note(self, inode: OpenInode, record: LocalNode, size: int) -> None:
        """Set size and times in memory after bytes changed; the store learns them at flush."""
        now = self._workspace.clock.wall_ns()
        changed = replace(record, content=Content(size), mtime_ns=now, ctime_ns=now)
        if inode.is_detached:
            inode.record = changed
            return
        self._state.show_local(changed)
        inode.is_unsaved = True
        self._workspace.touch(inode.node)

    # -- length

    def truncate_now(self, node: NodeId, size: int) -> bool:
        """Set the length at once, or return False where ``truncate`` must bring bytes here first."""
        record = self._check_truncate(node, size)
        with self._borrowed(node) as handle:
            inode = handle.inode
            if size == 0:
                self._empty(inode)
                return True
            if record.content is not None and record.content.size == size:
                self._stamp(inode, record)
                return True
            if not self._writable.make_ready_now(inode, record):
                return False
            self._cut(inode, size)
            return True

    async def truncate(self, node: NodeId, size: int) -> None:
        """Set the length; growing fills with zeros.

        :raises OSError: EFBIG at once for lengths that no file system here can hold; EACCES; EISDIR.
        """
        if self.truncate_now(node, size):
            return
        with self._borrowed(node) as handle:
            await self._writable.make_ready(handle.inode)
            self._cut(handle.inode, size)

    def _check_truncate(self, node: NodeId, size: int) -> LocalNode:
        record = self._namespace.record(node)
        if record.kind is Kind.DIRECTORY:
            raise fail(errno.EISDIR)
        if size < 0 or record.content is None:
            raise fail(errno.EINVAL)
        if size > MAX_FILE_BYTES:
            raise fail(errno.EFBIG)
        self._check_writable_unless_open(record)
        return record

    def _check_writable_unless_open(self, record: LocalNode) -> None:
        """A descriptor opened for writing keeps its right to write, as in POSIX."""
        inode = self._table.inodes.get(record.id)
        if inode is None or not inode.writers:
            self._check_writable(record)

    def _cut(self, inode: OpenInode, size: int) -> None:
        assert inode.descriptor is not None  # noqa: S101 - the caller made it ready
        with disk_errors():
            self._system.ftruncate(inode.descriptor, size)
        self._note(inode, self._namespace.record(inode.node), size)

    def _empty(self, inode: OpenInode) -> None:
        """Truncate to nothing: needs no old bytes, so it never waits."""
        record = self._namespace.record(inode.node)
        if record.content == Content(0, EMPTY_SHA256) and record.blob is None:
            self._stamp(inode, record)
            return
        if inode.is_detached:
            record = self._writable.without_bytes(inode, record)
        if self._writable.is_ready(inode, record):
            self._cut(inode, 0)
            return
        self._writable.begin_anew(inode, record)
        self._note(inode, self._namespace.record(inode.node), 0)

    def _stamp(self, inode: OpenInode, record: LocalNode) -> None:
        """Set the times of a file that was cut to the length that it has: that counts as a change (truncate(2))."""
        now = self._workspace.clock.wall_ns()
        changed = replace(record, mtime_ns=now, ctime_ns=now)
        if inode.is_detached:
            inode.record = changed
            return
        self._state.show_local(changed)
        inode.is_unsaved = True

    def _borrowed(self, node: NodeId) -> _Borrowed:
        return _Borrowed(self, self._table.open(node, readable=False, writable=False, append=False))

    # -- space

    async def allocate(self, handle: Handle, mode: int, offset: int, length: int) -> None:
        """Serve fallocate(2): reserve, keep the size, punch holes, zero ranges; other modes are EOPNOTSUPP."""
        if mode & ~(_FALLOC_KEEP_SIZE | _FALLOC_PUNCH_HOLE | _FALLOC_ZERO_RANGE):
            raise fail(errno.EOPNOTSUPP)
        if offset + length > MAX_FILE_BYTES:
            raise fail(errno.EFBIG)
        await self._writable.make_ready(handle.inode)
        record = self._namespace.record(handle.inode.node)
        assert handle.inode.descriptor is not None  # noqa: S101 - just made ready
        assert record.content is not None  # noqa: S101
        size = record.content.size
        if mode & (_FALLOC_PUNCH_HOLE | _FALLOC_ZERO_RANGE):
            await asyncio.to_thread(self._zero, handle.inode.descriptor, offset, min(offset + length, size))
        end = size if mode & (_FALLOC_KEEP_SIZE | _FALLOC_PUNCH_HOLE) else max(size, offset + length)
        handle.has_written = True
        self._cut(handle.inode, end)

    def _zero(self, descriptor: int, start: int, end: int) -> None:
        zeros = memoryview(bytes(1 << 20))
        at = start
        with disk_errors():
            while at < end:
                at += self._system.pwrite(descriptor, zeros[: end - at], at)

    def seek(self, handle: Handle, offset: int, whence: int) -> int:
        """Serve SEEK_DATA and SEEK_HOLE; without local bytes all of a file is data."""
        record = self._namespace.record(handle.inode.node)
        size = record.content.size if record.content is not None else 0
        if offset >= size:
            raise fail(errno.ENXIO)
        descriptor = self._descriptor(handle.inode)
        if descriptor is not None:
            return os.lseek(descriptor, offset, whence)
        return offset if whence == os.SEEK_DATA else size


class _Borrowed:
    """A handle for the length of one operation on a node that need not be open."""

    def __init__(self, files: Files, handle: Handle) -> None:
        self._files = files
        self._handle = handle

    def __enter__(self) -> Handle:
        return self._handle

    def __exit__(self, *exc: object) -> None:
        self._files.release(self._handle)
