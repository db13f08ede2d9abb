"""The inodes that are open: what keeps a file alive after its name is gone, and where its bytes are.

An open inode outlives its name. It is *detached* when its node left the local tree: unlinked by the user, or replaced
by a remote version. A detached inode keeps the record and the bytes that it had; they go with its last handle.

**Invariant: while a node is in the local tree, the tree's record is the truth; a detached inode's record is its own.**
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from jobfs.model import BlobId, LocalNode, NodeId


@dataclass(slots=True)
class OpenInode:
    """A node that has handles.

    :param record: the node's record, valid only while ``is_detached``.
    :param descriptor: open on the blob named ``blob``; None until the bytes are needed or here.
    :param is_unsaved: size or times in the tree are newer than in the store.
    :param was_replaced: detached because a remote version took the name: what is written here becomes a conflict copy.
    """

    node: NodeId
    handles: int = 0
    writers: int = 0
    descriptor: int | None = None
    blob: BlobId | None = None
    record: LocalNode | None = None
    is_detached: bool = False
    was_replaced: bool = False
    is_unsaved: bool = False

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
        """Remove a handle; return whether it was the inode's last one."""
        del self.handles[handle.number]
        handle.inode.handles -= 1
        handle.inode.writers -= handle.is_writable
        if handle.inode.handles:
            return False
        del self.inodes[handle.inode.node]
        return True

    def detach(self, record: LocalNode, *, was_replaced: bool = False) -> bool:
        """Note that a node left the tree; return whether an open inode keeps its bytes."""
        inode = self.inodes.get(record.id)
        if inode is None:
            return False
        inode.record = record
        inode.is_detached = True
        inode.was_replaced = was_replaced
        return True
