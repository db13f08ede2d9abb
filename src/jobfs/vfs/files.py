"""Bytes: open, read, write, truncate, and what must hold at close and fsync.

Where the bytes are (design, section 6): a clean file that was never read has none here, and a read of it waits for its
download; the first write brings the whole file here unless it truncates. From then on the blob is the file.

**Invariant: before the first byte of a clean blob changes, the store says durably (against the death of the process)
that the file is dirty.** A crash can therefore lose no write that a program saw acknowledged, nor pass off changed
bytes as clean.

**Invariant: a pinned blob never changes**: who writes copies it first, so an upload sends one version.
"""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from jobfs.engine.history import MOST_COPIED_BYTES
from jobfs.engine.hydrator import Hydrator
from jobfs.engine.workspace import Workspace
from jobfs.errors import DeadlineExceeded, StateError
from jobfs.model import BlobId, Content, Kind, LocalNode, NodeId, Permission
from jobfs.store.blobs import disk_errors
from jobfs.vfs.inodes import Handle, InodeTable, OpenInode
from jobfs.vfs.namespace import EMPTY_SHA256, MAX_FILE_BYTES, Namespace, fail

_INLINE_COPY_BYTES = 4 << 20
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
            self._blobs.remove(blob)
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
            record = self._adopt_kept(inode, record)
        if inode.descriptor is not None and inode.blob == record.blob:
            return inode.descriptor
        inode.close_descriptor()
        if record.blob is None:
            return None
        inode.descriptor = self._blobs.open(record.blob)
        inode.blob = record.blob
        return inode.descriptor

    def _adopt_kept(self, inode: OpenInode, record: LocalNode) -> LocalNode:
        """Take over bytes that arrived after the name was gone."""
        blob = self._hydrator.take_kept(inode.node)
        if blob is not None:
            record = replace(record, blob=blob)
            inode.record = record
        return record

    # -- writing

    def write_now(self, handle: Handle, data: bytes | memoryview, offset: int) -> int | None:
        """Write at once and return the count, or return None where ``write`` must bring bytes here first."""
        inode = handle.inode
        record = self._namespace.record(inode.node)
        if not self._is_ready(inode, record) and not self._make_ready_now(inode, record):
            return None
        return self._write_ready(handle, data, offset)

    async def write(self, handle: Handle, data: bytes | memoryview, offset: int) -> int:
        """Write; brings the whole file here before its first change.

        :param offset: ignored where the handle appends.
        :raises OSError: EFBIG, ENOSPC.
        :raises ApiError: the old bytes could not be had.
        """
        await self._make_ready(handle.inode)
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

    def _is_ready(self, inode: OpenInode, record: LocalNode) -> bool:
        """Tell whether bytes may be changed in place: dirty in the store, open, and read by nobody as it is."""
        content = record.content
        return (
            inode.descriptor is not None
            and inode.blob == record.blob
            and content is not None
            and content.revision is None
            and content.sha256 is None
            and not self._blobs.is_pinned(inode.blob)  # type: ignore[arg-type]
            and not (inode.is_detached and self._history.owns(inode.blob))
        )

    def _make_ready_now(self, inode: OpenInode, record: LocalNode) -> bool:
        if inode.is_detached:
            record = self._adopt_kept(inode, record)
            if record.blob is None and record.content is not None and record.content.size:
                return False  # a name is for a file that has its bytes, and these are still on the way
            record = self._own_again(inode, record)
        if record.content is None:
            raise fail(errno.EINVAL)
        if record.blob is None:
            if record.content.size:
                return False
            self._set_blob(inode, record, self._new_blob(), 0)
            return True
        blob: BlobId | None = record.blob
        if self._blobs.is_pinned(record.blob) or self._is_wanted(inode, record):
            blob = self._copy_now(inode, record.blob, record.content.size)
        if blob is None:
            return False
        self._set_blob(inode, record, blob, record.content.size)
        return True

    def _is_wanted(self, inode: OpenInode, record: LocalNode) -> bool:
        """Tell whether the bytes as they are become a version: once for all writing until the last close.

        A program that writes for hours sends many versions to the server; for its user that is one save.
        """
        return not (inode.is_kept or inode.is_detached) and self._history.wants_copy(record)

    def _copy_now(self, inode: OpenInode, blob: BlobId, size: int) -> BlobId | None:
        """Return a copy of a blob, or None where that would keep other programs waiting.

        A copy for the history alone is not worth a failure: where there is no room for it the blob itself is returned.
        """
        try:
            return self._blobs.copy(blob) if size <= _INLINE_COPY_BYTES else self._blobs.clone(blob)
        except StateError:
            if self._blobs.is_pinned(blob):
                raise
            inode.is_kept = True
            return blob

    def _own_again(self, inode: OpenInode, record: LocalNode) -> LocalNode:
        """Give a file that lost its name bytes that it may change, and a name where a remote version took its own."""
        shared = record.blob
        if shared is None or not self._history.owns(shared):
            return self._rescue(inode, record) if inode.was_replaced else record
        size = record.content.size if record.content is not None else 0
        copy: BlobId | None = None
        with suppress(StateError):  # then the version gives way, and not the program
            copy = self._blobs.copy(shared) if size <= MOST_COPIED_BYTES else self._blobs.clone(shared)
        try:
            with self._state.transaction():
                if copy is None:
                    self._history.give_back(shared)
                record = replace(record, blob=copy or shared)
                if inode.was_replaced:
                    record = self._workspace.place_conflict_copy(record)
        except StateError:
            if copy is not None:
                self._blobs.remove(copy)  # no row came to name it
            raise
        inode.record = record
        if inode.was_replaced:
            self._attach(inode)
        return record

    async def _make_ready(self, inode: OpenInode) -> None:
        """Bring the file to where its bytes may be changed. What was read before an await is read again after it.

        The kernel holds the file's lock meanwhile. Most of what has to wait did so when the file was opened.
        """
        inode.waiting += 1
        try:
            await self._await_ready(inode)
        finally:
            inode.waiting -= 1

    async def _await_ready(self, inode: OpenInode) -> None:
        while True:
            record = self._namespace.record(inode.node)
            if self._is_ready(inode, record) or self._make_ready_now(inode, record):
                return
            record = self._namespace.record(inode.node)
            if record.blob is None:
                if inode.is_detached:
                    await self._hydrator.fetch_kept(record, is_locked=True)
                    self._adopt_kept(inode, record)
                else:
                    await self._hydrator.fetch(record.id, is_locked=True)
                continue
            await self._copy_aside(inode, record.blob)

    async def _copy_aside(self, inode: OpenInode, blob: BlobId) -> None:
        try:
            with self._blobs.pinned(blob):
                copy = await asyncio.to_thread(self._blobs.copy, blob)
        except StateError:
            if self._blobs.is_pinned(blob):
                raise
            inode.is_kept = True  # it was for the history alone
            return
        record = self._namespace.record(inode.node)
        if record.blob != blob or record.content is None:
            self._blobs.remove(copy)
            return
        self._set_blob(inode, record, copy, record.content.size)

    def _new_blob(self) -> BlobId:
        blob = self._blobs.allocate()
        os.close(self._blobs.open(blob, create=True))
        return blob

    def _set_blob(self, inode: OpenInode, record: LocalNode, blob: BlobId, size: int) -> None:
        """Make a blob the inode's own, dirty in the store before it changes, and open it."""
        old = record.blob if record.blob != blob else None
        changed = replace(record, content=Content(size), blob=blob)
        descriptor = inode.descriptor if inode.blob == blob else None
        try:
            if descriptor is None:
                descriptor = self._blobs.open(blob)
            if not inode.is_detached:
                with self._state.transaction():
                    self._state.put_local(changed)
                    self._state.drop_refusal(record.id)
                    if old is not None:
                        self._history.replaced(record)
        except BaseException:
            if descriptor is not None and descriptor != inode.descriptor:
                os.close(descriptor)
            if record.blob != blob:
                self._blobs.remove(blob)  # no row came to name it
            raise
        if inode.is_detached:
            inode.record = changed
        else:
            inode.is_kept = inode.writers > 0
            self._workspace.touch(record.id)  # also where nothing comes to be written: it is dirty now
        if old is not None and not self._history.owns(old):
            self._blobs.remove(old)
        if descriptor != inode.descriptor:
            inode.close_descriptor()
            inode.descriptor, inode.blob = descriptor, blob
        if record.blob is None:
            self._hydrator.overtake(record.id)

    def _rescue(self, inode: OpenInode, record: LocalNode) -> LocalNode:
        """Give a place to an open file whose name a remote version took, before the first write after that.

        What a program then writes and closes is kept as a conflict copy instead of vanishing with its last handle.
        """
        rescued = self._workspace.place_conflict_copy(record)
        self._attach(inode)
        return rescued

    @staticmethod
    def _attach(inode: OpenInode) -> None:
        """Note that an open file has a name again."""
        inode.is_detached = False
        inode.was_replaced = False
        inode.record = None

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
            if not self._is_ready(inode, record) and not self._make_ready_now(inode, record):
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
            await self._make_ready(handle.inode)
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
            record = self._without_bytes(inode, record)
        if self._is_ready(inode, record):
            self._cut(inode, 0)
            return
        self._set_blob(inode, record, self._new_blob(), 0)
        self._note(inode, self._namespace.record(inode.node), 0)

    def _without_bytes(self, inode: OpenInode, record: LocalNode) -> LocalNode:
        """Take from a file that lost its name what the history has, for it is cut to nothing; see ``_own_again``."""
        if self._history.owns(record.blob):
            record = inode.record = replace(record, content=Content(0, EMPTY_SHA256), blob=None)
        return self._rescue(inode, record) if inode.was_replaced else record

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
        await self._make_ready(handle.inode)
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
