"""The inodes that are open: what keeps a file alive after its name is gone, and where its bytes are.

An open inode outlives its name. It is *detached* when its node left the local tree: unlinked by the user, or replaced
by a remote version. A detached inode keeps the record and the bytes that it had; they go with its last handle.

A transport's caches may name a node for a moment after it left the tree: a program that found a file just before
another one was renamed over it opens it just after. So a node that a transport *knows* is detached too, handles or
not, if its bytes are here; it goes when it has no handle and the transport forgets it.

**Invariant: while a node is in the local tree, the tree's record is the truth; a detached inode's record is its own.**
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from jobfs.engine.extents import Extents
from jobfs.model import BlobId, LocalNode, NodeId


@dataclass(slots=True)
class OpenInode:
    """A node that has handles.

    :param record: the node's record, valid only while ``is_detached``.
    :param descriptor: open on the blob named ``blob``; None until the bytes are needed or here.
    :param waiting: so many changes of bytes wait for the whole file, and keep others waiting.
    :param read_in_vain: stretches of which a read was given up.
    :param is_unsaved: size or times in the tree are newer than in the store.
    :param is_kept: the version before the writing that is under way is in the history, or was none.
    :param was_replaced: detached by a remote change, not by a program: what is written here becomes a conflict copy.
    """

    node: NodeId
    handles: int = 0
    writers: int = 0
    waiting: int = 0
    read_in_vain: Extents = field(default_factory=Extents)
    descriptor: int | None = None
    blob: BlobId | None = None
    record: LocalNode | None = None
    is_detached: bool = False
    was_replaced: bool = False
    is_unsaved: bool = False
    is_kept: bool = False

    def close_descriptor(self) -> None:
        """Close the blob; it is opened again when it is needed."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
            self.blob = None


@dataclass(slots=True)
class Handle:
    """One open of a file."""

    number: int
    inode: OpenInode
    is_readable: bool
    is_writable: bool
    is_append: bool
    has_written: bool = False
    snapshot: bytes | None = None
    """For files of the control directory: what they said when they were opened."""


@dataclass(slots=True)
class InodeTable:
    """Every open inode and handle, by number."""

    inodes: dict[NodeId, OpenInode] = field(default_factory=dict)
    handles: dict[int, Handle] = field(default_factory=dict)
    next_handle: int = 1
    is_known: Callable[[NodeId], bool] = lambda node: False
    """Whether a transport's caches name a node."""
    is_seen: Callable[[NodeId], bool] = lambda node: True
    """Whether a program can have meant this node by its name. A transport with caches says no for what it never looked
    up: a program that goes by the cache's word deletes or replaces what stood there before, or nothing."""

    def open(self, node: NodeId, *, readable: bool, writable: bool, append: bool) -> Handle:
        """Add a handle."""
        inode = self.inodes.get(node)
        if inode is None:
            inode = self.inodes[node] = OpenInode(node)
        inode.handles += 1
        inode.writers += writable
        handle = Handle(self.next_handle, inode, readable, writable, append)
        self.handles[handle.number] = handle
        self.next_handle += 1
        return handle

    def close(self, handle: Handle) -> bool:
        """Remove a handle; return whether that was the end of its inode."""
        del self.handles[handle.number]
        handle.inode.handles -= 1
        handle.inode.writers -= handle.is_writable
        if not handle.inode.writers:
            handle.inode.is_kept = False
        return self._drop_unused(handle.inode)

    def detached_blobs(self) -> set[BlobId]:
        """Return the blobs of files that lost their name and can still be read."""
        records = [inode.record for inode in self.inodes.values() if inode.record is not None]
        return {record.blob for record in records if record.blob is not None}

    def forget(self, node: NodeId) -> OpenInode | None:
        """Note that no transport knows a node any more; return its inode if that was its end."""
        inode = self.inodes.get(node)
        return inode if inode is not None and self._drop_unused(inode) else None

    def _drop_unused(self, inode: OpenInode) -> bool:
        if inode.handles or (inode.is_detached and self.is_known(inode.node)):
            return False
        del self.inodes[inode.node]
        return True

    def detach(self, record: LocalNode, *, was_replaced: bool = False) -> bool:
        """Note that a node left the tree; return whether its inode keeps its bytes."""
        inode = self.inodes.get(record.id)
        if inode is None:
            is_elsewhere = record.blob is None and record.content is not None and record.content.size
            if is_elsewhere or not self.is_known(record.id):
                return False
            inode = self.inodes[record.id] = OpenInode(record.id)
        inode.record = record
        inode.is_detached = True
        inode.was_replaced = was_replaced
        return True
