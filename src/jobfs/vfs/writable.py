"""Bytes that a program may change: a file's own, all of them here, and dirty in the store.

**Invariant: before the first byte of a clean blob changes, the store says durably that the file is dirty**, against the
death of the process, and, where it is changed in place, against a power cut. A crash can therefore lose no write that a
program saw acknowledged, nor pass off changed bytes as clean.

**Invariant: a pinned blob never changes**: who writes copies it first, so an upload sends one version.
"""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import suppress
from dataclasses import replace

from jobfs.engine.history import MOST_COPIED_BYTES
from jobfs.engine.hydrator import Hydrator
from jobfs.engine.workspace import Workspace
from jobfs.errors import StateError
from jobfs.model import BlobId, Content, LocalNode
from jobfs.vfs.inodes import OpenInode
from jobfs.vfs.namespace import EMPTY_SHA256, Namespace, fail

_INLINE_COPY_BYTES = 4 << 20


class Writable:
    """Brings open files of one workspace to where their bytes may be changed."""

    def __init__(self, workspace: Workspace, namespace: Namespace, hydrator: Hydrator) -> None:
        self._workspace = workspace
        self._state = workspace.state
        self._blobs = workspace.state.blobs
        self._namespace = namespace
        self._hydrator = hydrator
        self._history = workspace.history

    def is_ready(self, inode: OpenInode, record: LocalNode) -> bool:
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

    def make_ready_now(self, inode: OpenInode, record: LocalNode) -> bool:
        """Bring a file to where its bytes may be changed, or return False where ``make_ready`` has to wait for them.

        :raises StateError: the disk has no room, or fails; nothing has changed then.
        """
        if self.is_ready(inode, record):
            return True
        if inode.is_detached:
            record = self.adopt_kept(inode, record)
            if record.blob is None and record.content is not None and record.content.size:
                return False  # a name is for a file that has its bytes, and these are still on the way
            record = self._own_again(inode, record)
        if record.content is None:
            raise fail(errno.EINVAL)
        if record.blob is None:
            if record.content.size:
                return False
            self.begin_anew(inode, record)
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
        with self._blobs.unless_failed(copy), self._state.transaction():
            if copy is None:
                self._history.give_back(shared)
            record = replace(record, blob=copy or shared)
            if inode.was_replaced:
                record = self._workspace.place_conflict_copy(record)
        inode.record = record
        if inode.was_replaced:
            self._attach(inode)
        return record

    async def make_ready(self, inode: OpenInode) -> None:
        """Bring the file to where its bytes may be changed. What was read before an await is read again after it.

        The kernel holds the file's lock meanwhile. Most of what has to wait did so when the file was opened.

        :raises ApiError: the old bytes could not be had.
        """
        inode.waiting += 1
        try:
            await self._await_ready(inode)
        finally:
            inode.waiting -= 1

    async def _await_ready(self, inode: OpenInode) -> None:
        while True:
            record = self._namespace.record(inode.node)
            if self.make_ready_now(inode, record):
                return
            record = self._namespace.record(inode.node)
            if record.blob is None:
                if inode.is_detached:
                    await self._hydrator.fetch_kept(record, is_locked=True)
                    self.adopt_kept(inode, record)
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
            self._blobs.discard(copy)
            return
        self._set_blob(inode, record, copy, record.content.size)

    def begin_anew(self, inode: OpenInode, record: LocalNode) -> None:
        """Make an empty blob the inode's own.

        :raises StateError: the disk has no room, or fails; nothing has changed then.
        """
        blob = self._blobs.allocate()
        os.close(self._blobs.open(blob, create=True))
        self._set_blob(inode, record, blob, 0)

    def _set_blob(self, inode: OpenInode, record: LocalNode, blob: BlobId, size: int) -> None:
        """Make a blob the inode's own, dirty in the store before it changes, and open it."""
        old = record.blob if record.blob != blob else None
        changed = replace(record, content=Content(size), blob=blob)
        descriptor = inode.descriptor if inode.blob == blob else None
        try:
            if descriptor is None:
                descriptor = self._blobs.open(blob)
            if not inode.is_detached:
                with self._state.transaction(durable=record.blob == blob and not record.is_dirty):
                    self._state.put_local(changed)
                    self._state.drop_refusal(record.id)
                    if old is not None:
                        self._history.replaced(record)
        except BaseException:
            if descriptor is not None and descriptor != inode.descriptor:
                os.close(descriptor)
            if record.blob != blob:
                self._blobs.discard(blob)  # no row came to name it
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

    def without_bytes(self, inode: OpenInode, record: LocalNode) -> LocalNode:
        """Take from a file that lost its name what the history has, for it is cut to nothing; see ``_own_again``."""
        if self._history.owns(record.blob):
            record = inode.record = replace(record, content=Content(0, EMPTY_SHA256), blob=None)
        return self._rescue(inode, record) if inode.was_replaced else record

    def adopt_kept(self, inode: OpenInode, record: LocalNode) -> LocalNode:
        """Take over bytes that arrived after the name was gone."""
        blob = self._hydrator.take_kept(inode.node)
        if blob is not None:
            record = replace(record, blob=blob)
            inode.record = record
        return record
