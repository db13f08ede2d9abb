"""Translate requests of the kernel into calls of the vfs, and their results into payloads: one method an opcode.

A handler returns the payload where the vfs can answer at once, a coroutine where it has to wait, and None where the
kernel wants no reply. It raises what the vfs raises; ``fuse.errno`` knows the numbers. Bodies are views of a buffer
that is used again: a coroutine takes copies.

How the kernel is kept from asking (design, section 7), and why it may believe what it has:

- Names and attributes are given for a year. Every change that a request of this mount makes is known to the kernel;
  every other one is told to it (``connection``). Names that are not there are remembered the same way.
- Directories are opened without asking (OPENDIR is ENOSYS): the vfs keeps nothing for an open directory.
- Files *are* opened with a request. The vfs must know who has a file open: an unlinked or replaced file keeps its bytes
  exactly as long, a file open for writing is pushed when it is closed, a read-only one refuses even root. The kernel's
  switch for doing without is for the whole mount and takes RELEASE away as well. Closing a file that was only read
  costs nothing all the same: it is opened with NOFLUSH, and RELEASE is not waited for.
- Pages stay valid for as long as the inode: other bytes from the server come under another inode number.
- There is no write-back cache: a write that a program saw succeed is in the store's file, and survives this process.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from jobfs.fuse import protocol, replies
from jobfs.fuse.listing import Listings
from jobfs.fuse.open_files import Answer, Handler, OpenFileRequests, drop_privileges, nothing_after, opened
from jobfs.fuse.options import MountOptions
from jobfs.fuse.protocol import Opcode, RequestHeader, SetAttr, SetattrIn
from jobfs.fuse.replies import Lifetime, Stat
from jobfs.model import Kind, NodeId
from jobfs.vfs.attributes import Attributes
from jobfs.vfs.namespace import RenameFlags, fail
from jobfs.vfs.operations import Vfs

_YEAR_S = 365 * 24 * 3600
LASTING = Lifetime(_YEAR_S, _YEAR_S)
UNSETTLED = Lifetime(0, _YEAR_S)
PASSING = Lifetime(0, 0)
"""For ``.jobfs``, whose files say something else each time."""

_MODE_BITS = 0o7777
_USER = b"user."
"""The only namespace of extended attributes that there is. That the others are not supported, rather than that a file
has none, is what ls remembers: otherwise ``ls -l`` asks for two of each file. The kernel itself asks for
security.capability before the first write to a file and before each change of its owner."""

_NAME_AT = protocol.GETXATTR_IN.size
_MAX_NAME_BYTES = 255

_FILE_TYPES = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
}
_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFIFO: Kind.FIFO, stat.S_IFSOCK: Kind.SOCKET}


class Requests:
    """The requests of one mount. All calls on the loop's thread.

    ``lookups`` counts, for each node, how often the kernel was told of it and has not yet forgotten it. The names of
    the nodes in ``passing``, and that others are not in the directories ``unsettled``, it is told for no time at all
    (``wakes``).
    """

    def __init__(self, vfs: Vfs, options: MountOptions) -> None:
        self._vfs = vfs
        self._options = options
        self._listings = Listings(self, self._stat_and_lifetime)
        self.lookups: dict[NodeId, int] = {}
        self.passing: set[NodeId] = set()
        self.unsettled: set[NodeId] = set()
        self.open_files = OpenFileRequests(vfs)
        self._handlers: dict[int, Handler] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.FORGET: self._forget,
            Opcode.BATCH_FORGET: self._batch_forget,
            Opcode.GETATTR: self._getattr,
            Opcode.SETATTR: self._setattr,
            Opcode.READLINK: self._readlink,
            Opcode.SYMLINK: self._symlink,
            Opcode.MKNOD: self._mknod,
            Opcode.MKDIR: self._mkdir,
            Opcode.UNLINK: self._unlink,
            Opcode.RMDIR: self._rmdir,
            Opcode.RENAME: self._rename,
            Opcode.RENAME2: self._rename2,
            Opcode.LINK: self._link,
            Opcode.CREATE: self._create,
            Opcode.FSYNCDIR: self._fsyncdir,
            Opcode.READDIR: self._readdir,
            Opcode.READDIRPLUS: self._readdirplus,
            Opcode.STATFS: self._statfs,
            Opcode.SETXATTR: self._setxattr,
            Opcode.GETXATTR: self._getxattr,
            Opcode.LISTXATTR: self._listxattr,
            Opcode.REMOVEXATTR: self._removexattr,
            Opcode.IOCTL: self._ioctl,
            **self.open_files.handlers,
        }

    def answer(self, header: RequestHeader, body: memoryview) -> Answer:
        """Serve one request.

        :raises MalformedRequest: the body does not fit the opcode.
        :raises OSError: ENOSYS for an opcode that is not served; the kernel then does without it, for good.
        """
        handler = self._handlers.get(header.opcode)
        if handler is None:
            raise fail(errno.ENOSYS)
        return handler(header, body)

    def end(self) -> None:
        """Close what programs left open when the mount was taken away from them, and forget what the kernel knew."""
        for handle in list(self._vfs.table.handles.values()):
            self._vfs.release(handle)
        for node in list(self.lookups):
            self._uncount(node, self.lookups[node])

    # -- what listings ask (``listing.Directories``)

    def names(self, directory: NodeId) -> Iterable[tuple[str, NodeId]]:
        """Return the names of a directory."""
        return self._vfs.names(directory)

    def parent(self, directory: NodeId) -> NodeId:
        """Return the directory above."""
        return self._vfs.parent(directory)

    def is_there(self, directory: NodeId, name: str, node: NodeId) -> bool:
        """Tell whether a name still stands for a node."""
        return self._vfs.has(directory, name, node)

    # -- attributes

    def _stat(self, found: Attributes) -> Stat:
        return Stat(
            found.inode,
            found.size,
            found.mtime_ns,
            found.ctime_ns,
            found.mode | _FILE_TYPES[found.kind],
            found.links,
            self._options.uid,
            self._options.gid,
        )

    def _lifetime(self, node: NodeId) -> Lifetime:
        if node in self.passing:
            return UNSETTLED
        return PASSING if self._vfs.control.owns(node) else LASTING

    def _stat_and_lifetime(self, node: NodeId) -> tuple[Stat, Lifetime]:
        return self._stat(self._vfs.attributes(node)), self._lifetime(node)

    def _getattr(self, header: RequestHeader, body: memoryview) -> Answer:
        return self._attributes(NodeId(header.node))

    def _attributes(self, node: NodeId) -> bytes:
        stat_, lifetime = self._stat_and_lifetime(node)
        return replies.attributes(stat_, lifetime.attributes_s)

    def _setattr(self, header: RequestHeader, body: memoryview) -> Answer:
        change = protocol.SETATTR_IN.read(body)
        node = NodeId(header.node)
        self._check_owner(change)
        if change.valid & SetAttr.SIZE and not self._vfs.truncate_now(node, change.size):
            return self._truncate(node, change)
        return self._set_others(node, change)

    def _check_owner(self, change: SetattrIn) -> None:
        """Everything in a mount has one owner: giving it to that one changes nothing, to another is refused."""
        other_user = change.valid & SetAttr.UID and change.uid != self._options.uid
        other_group = change.valid & SetAttr.GID and change.gid != self._options.gid
        if other_user or other_group:
            raise fail(errno.EPERM)

    async def _truncate(self, node: NodeId, change: SetattrIn) -> bytes:
        await self._vfs.truncate(node, change.size)
        return self._set_others(node, change)

    def _set_others(self, node: NodeId, change: SetattrIn) -> bytes:
        valid = change.valid
        if valid & SetAttr.MODE:
            self._vfs.set_mode(node, change.mode & _MODE_BITS)
        elif valid & SetAttr.KILL_SUIDGID:
            drop_privileges(self._vfs, node)
        if valid & (SetAttr.MTIME | SetAttr.ATIME):
            self._vfs.set_times(node, mtime_ns=self._wanted_mtime(change))
        return self._attributes(node)

    def _wanted_mtime(self, change: SetattrIn) -> int | None:
        if not change.valid & SetAttr.MTIME:
            return None
        if change.valid & SetAttr.MTIME_NOW:
            return self._vfs.workspace.clock.wall_ns()
        return change.mtime * 1_000_000_000 + change.mtime_ns

    # -- names

    def _entry(self, found: Attributes) -> bytes:
        """Return a lookup's payload, and count it."""
        self._count(found.inode)
        return replies.entry(self._stat(found), self._lifetime(found.inode))

    def _count(self, node: NodeId) -> None:
        self.lookups[node] = self.lookups.get(node, 0) + 1

    def _forget(self, header: RequestHeader, body: memoryview) -> Answer:
        self._uncount(NodeId(header.node), protocol.FORGET_IN.read(body).lookups)
        return None

    def _batch_forget(self, header: RequestHeader, body: memoryview) -> Answer:
        for node, lookups in protocol.read_batch_forget(body):
            self._uncount(NodeId(node), lookups)
        return None

    def _uncount(self, node: NodeId, lookups: int) -> None:
        left = self.lookups.get(node, 0) - lookups
        if left > 0:
            self.lookups[node] = left
        else:
            self.lookups.pop(node, None)
            self._vfs.forget(node)

    def _lookup(self, header: RequestHeader, body: memoryview) -> Answer:
        (name,) = protocol.read_names(body, 0, 1)
        try:
            found = self._vfs.lookup(NodeId(header.node), name)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            parent = NodeId(header.node)
            return replies.negative_entry(0 if parent in self.unsettled else self._lifetime(parent).entry_s)
        return self._entry(found)

    def _mkdir(self, header: RequestHeader, body: memoryview) -> Answer:
        wanted = protocol.MKDIR_IN.read(body)
        (name,) = protocol.read_names(body, protocol.MKDIR_IN.size, 1)
        mode = wanted.mode & _MODE_BITS
        return self._entry(self._vfs.make(NodeId(header.node), name, Kind.DIRECTORY, mode=mode))

    def _mknod(self, header: RequestHeader, body: memoryview) -> Answer:
        wanted = protocol.MKNOD_IN.read(body)
        (name,) = protocol.read_names(body, protocol.MKNOD_IN.size, 1)
        kind = _KINDS.get(stat.S_IFMT(wanted.mode))
        if kind is None:
            raise fail(errno.EPERM)
        return self._entry(self._vfs.make(NodeId(header.node), name, kind, mode=wanted.mode & _MODE_BITS))

    def _symlink(self, header: RequestHeader, body: memoryview) -> Answer:
        name, target = protocol.read_names(body, 0, 2)
        return self._entry(self._vfs.make(NodeId(header.node), name, Kind.SYMLINK, mode=0o777, target=target))

    def _readlink(self, header: RequestHeader, body: memoryview) -> Answer:
        return self._vfs.read_link(NodeId(header.node)).encode("utf-8", "surrogateescape")

    def _link(self, header: RequestHeader, body: memoryview) -> Answer:
        source = protocol.LINK_IN.read(body)
        (name,) = protocol.read_names(body, protocol.LINK_IN.size, 1)
        return self._entry(self._vfs.link(NodeId(source.node), NodeId(header.node), name))

    def _unlink(self, header: RequestHeader, body: memoryview) -> Answer:
        (name,) = protocol.read_names(body, 0, 1)
        self._vfs.unlink(NodeId(header.node), name)
        return b""

    def _rmdir(self, header: RequestHeader, body: memoryview) -> Answer:
        (name,) = protocol.read_names(body, 0, 1)
        self._vfs.rmdir(NodeId(header.node), name)
        return b""

    def _rename(self, header: RequestHeader, body: memoryview) -> Answer:
        wanted = protocol.RENAME_IN.read(body)
        old, new = protocol.read_names(body, protocol.RENAME_IN.size, 2)
        return self._move(NodeId(header.node), old, NodeId(wanted.new_parent), new, RenameFlags.NONE)

    def _rename2(self, header: RequestHeader, body: memoryview) -> Answer:
        wanted = protocol.RENAME2_IN.read(body)
        old, new = protocol.read_names(body, protocol.RENAME2_IN.size, 2)
        if wanted.flags & ~(RenameFlags.NOREPLACE | RenameFlags.EXCHANGE):
            raise fail(errno.EINVAL)
        return self._move(NodeId(header.node), old, NodeId(wanted.new_parent), new, RenameFlags(wanted.flags))

    async def _move(self, parent: NodeId, old: str, new_parent: NodeId, new: str, flags: RenameFlags) -> bytes:
        await self._vfs.rename(parent, old, new_parent, new, flags)
        return b""

    def _create(self, header: RequestHeader, body: memoryview) -> Answer:
        wanted = protocol.CREATE_IN.read(body)
        (name,) = protocol.read_names(body, protocol.CREATE_IN.size, 1)
        try:
            made, handle = self._vfs.create(
                NodeId(header.node), name, mode=wanted.mode & _MODE_BITS, flags=wanted.flags
            )
        except FileExistsError:
            if wanted.flags & os.O_EXCL:
                raise
            # The kernel did not know the name yet; told that its knowledge is stale, it looks again and opens.
            raise fail(errno.ESTALE) from None
        return self._entry(made) + opened(handle)

    def _readdir(self, header: RequestHeader, body: memoryview) -> Answer:
        wanted = protocol.READ_IN.read(body)
        return self._listings.read(NodeId(header.node), wanted.offset, wanted.size)

    def _readdirplus(self, header: RequestHeader, body: memoryview) -> Answer:
        wanted = protocol.READ_IN.read(body)
        return self._listings.read_plus(NodeId(header.node), wanted.offset, wanted.size, self._count)

    def _fsyncdir(self, header: RequestHeader, body: memoryview) -> Answer:
        self._vfs.fsync_directory(NodeId(header.node))
        return b""

    # -- the rest

    def _statfs(self, header: RequestHeader, body: memoryview) -> Answer:
        block_bytes, blocks, free = self._vfs.space()
        return replies.space(block_bytes, blocks, free, _MAX_NAME_BYTES)

    def _setxattr(self, header: RequestHeader, body: memoryview) -> Answer:
        name, value, _ = protocol.read_setxattr(body)
        if self._vfs.control.owns(NodeId(header.node)):
            raise fail(errno.EPERM)
        return nothing_after(self._vfs.extended.set(NodeId(header.node), name, value))

    def _getxattr(self, header: RequestHeader, body: memoryview) -> Answer:
        if body[_NAME_AT : _NAME_AT + len(_USER)] != _USER:
            return errno.EOPNOTSUPP
        wanted = protocol.GETXATTR_IN.read(body)
        (name,) = protocol.read_names(body, protocol.GETXATTR_IN.size, 1)
        if self._vfs.control.owns(NodeId(header.node)):
            raise fail(errno.ENODATA)
        return _sized(self._vfs.extended.get(NodeId(header.node), name), wanted.size)

    def _listxattr(self, header: RequestHeader, body: memoryview) -> Answer:
        wanted = protocol.GETXATTR_IN.read(body)
        if self._vfs.control.owns(NodeId(header.node)):
            return _sized(b"", wanted.size)
        names = self._vfs.extended.names(NodeId(header.node))
        return _sized(b"".join(name.encode("utf-8") + b"\0" for name in names), wanted.size)

    def _removexattr(self, header: RequestHeader, body: memoryview) -> Answer:
        (name,) = protocol.read_names(body, 0, 1)
        if self._vfs.control.owns(NodeId(header.node)):
            raise fail(errno.EPERM)
        self._vfs.extended.remove(NodeId(header.node), name)
        return b""

    def _ioctl(self, header: RequestHeader, body: memoryview) -> Answer:
        raise fail(errno.ENOTTY)  # what programs expect that ask a file whether it is a terminal


def _sized(value: bytes, size: int) -> bytes:
    """Answer getxattr(2) and listxattr(2): with size 0 the question is how long the value is."""
    if not size:
        return replies.xattr_size(len(value))
    if len(value) > size:
        raise fail(errno.ERANGE)
    return value
