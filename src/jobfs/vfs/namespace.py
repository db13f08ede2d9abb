"""Names: lookup, listing, and every operation that makes, moves, changes or removes a name.

Answers from memory and the local store; only what must bring bytes here first awaits (a file that leaves the
synchronised part keeps its bytes, so they are hydrated before the move). Failures are ``OSError`` with the errno that
POSIX gives for the case (IEEE 1003.1-2024); a transport only translates.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import IntFlag

from jobfs.engine.hydrator import Hydrator
from jobfs.engine.workspace import Happening, LocalChange, Workspace
from jobfs.errors import DeadlineExceeded
from jobfs.model import ROOT, BlobId, Content, Kind, LocalNode, NodeId, Permission, Trouble
from jobfs.planner.naming import check_name, check_path, conflict_name
from jobfs.vfs.attributes import Attributes, attributes_of, permission_of
from jobfs.vfs.inodes import InodeTable

MAX_FILE_BYTES = (1 << 63) - 1
_KEPT_WAITING_S = 1.0
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

_TROUBLE_ERRNO = {Trouble.NAME_TOO_LONG: errno.ENAMETOOLONG, Trouble.PATH_TOO_LONG: errno.ENAMETOOLONG}


class RenameFlags(IntFlag):
    """The flags of renameat2(2)."""

    NONE = 0
    NOREPLACE = 1
    EXCHANGE = 2


def fail(number: int) -> OSError:
    """Return the exception for an errno."""
    return OSError(number, os.strerror(number))


class Namespace:
    """The names of one workspace."""

    def __init__(self, workspace: Workspace, table: InodeTable, hydrator: Hydrator) -> None:
        self._workspace = workspace
        self._state = workspace.state
        self._table = table
        self._hydrator = hydrator

    # -- looking

    def record(self, node: NodeId) -> LocalNode:
        """Return the record of a node that is in the tree or open; ESTALE where it is neither."""
        found = self._state.local.get(node)
        if found is not None:
            return found
        inode = self._table.inodes.get(node)
        if inode is None or inode.record is None:
            raise fail(errno.ESTALE)
        return inode.record

    def attributes(self, node: NodeId) -> Attributes:
        """Return the stat of a node."""
        record = self._state.local.get(node)
        links = 1
        if record is None:
            record, links = self.record(node), 0
        elif others := self._state.other_names.get(node):
            links += len(others)
        return attributes_of(record, is_protected=self._workspace.is_protected(node), links=links)

    def find(self, parent: NodeId, name: str) -> NodeId | None:
        """Return the node of a name, or None where there is none."""
        found = self._state.local.child(parent, name)
        return found if found is not None else self._state.links.get(parent, {}).get(name)

    def lookup(self, parent: NodeId, name: str) -> NodeId:
        """Return the node of a name; ENOENT, ENOTDIR, ENAMETOOLONG."""
        found = self.find(parent, name)
        if found is not None:
            return found
        if self.record(parent).kind is not Kind.DIRECTORY:
            raise fail(errno.ENOTDIR)
        raise fail(errno.ENAMETOOLONG if len(name.encode("utf-8", "surrogateescape")) > 255 else errno.ENOENT)

    def children(self, directory: NodeId) -> Iterator[tuple[str, NodeId]]:
        """Yield the names of a directory; nothing that changes the tree may run meanwhile."""
        if self.record(directory).kind is not Kind.DIRECTORY:
            raise fail(errno.ENOTDIR)
        yield from self._state.local.children(directory).items()
        yield from self._state.links.get(directory, {}).items()

    def read_link(self, node: NodeId) -> str:
        """Return the target of a symlink; EINVAL for anything else."""
        record = self.record(node)
        if record.kind is not Kind.SYMLINK:
            raise fail(errno.EINVAL)
        return record.target

    # -- making

    def make(
        self,
        parent: NodeId,
        name: str,
        kind: Kind,
        *,
        mode: int = 0o644,
        target: str = "",
        blob: BlobId | None = None,
    ) -> LocalNode:
        """Make a node.

        :param mode: permission bits, the umask already taken off.
        :param target: for a symlink.
        :param blob: for a file that is about to be written: an empty blob, its own from then on.
        :raises OSError: EEXIST, EACCES in a read-only directory, EPERM for links and special files in the synchronised
            part, ENAMETOOLONG, EINVAL or EILSEQ for names that no workspace can hold.
        """
        self._check_new_place(parent, name)
        is_local_only = self._workspace.is_ignored(parent, name, is_directory=kind is Kind.DIRECTORY)
        if not is_local_only:
            if kind not in (Kind.FILE, Kind.DIRECTORY):
                raise fail(errno.EPERM)
            self._check_server_name(parent, name)
        now = self._workspace.clock.wall_ns()
        node = LocalNode(
            self._state.allocate(),
            parent,
            name,
            kind,
            permission_of(mode | 0o200 if not is_local_only else mode),
            Content(0, EMPTY_SHA256 if blob is None else None) if kind is Kind.FILE else None,
            mode=0o777 if kind is Kind.SYMLINK else mode,
            mtime_ns=now,
            ctime_ns=now,
            blob=blob,
            target=target,
            is_local_only=is_local_only,
        )
        with self._state.transaction():
            self._state.put_local(node)
            self._stamp_directory(parent, now)
        self._workspace.touch(node.id)
        return node

    def link(self, node: NodeId, parent: NodeId, name: str) -> None:
        """Give a file a further name; EPERM unless both names are local-only (design, section 6)."""
        record = self.record(node)
        self._check_new_place(parent, name)
        if record.kind is Kind.DIRECTORY or not record.is_local_only or self._state.local.get(node) is None:
            raise fail(errno.EPERM)
        if not self._workspace.is_ignored(parent, name, is_directory=False):
            raise fail(errno.EPERM)
        now = self._workspace.clock.wall_ns()
        with self._state.transaction():
            self._state.add_link(parent, name, node)
            self._state.put_local(replace(record, ctime_ns=now))
            self._stamp_directory(parent, now)

    # -- removing

    def unlink(self, parent: NodeId, name: str) -> None:
        """Remove the name of anything but a directory. Open handles keep the bytes.

        What took the name unseen a moment ago stays: the program deleted what was there before.
        """
        record = self.record(self.lookup(parent, name))
        if not self._table.is_seen(record.id):
            self._workspace.announce(LocalChange(Happening.APPEARED, parent, name, record.id, record.kind))
            return
        if record.kind is Kind.DIRECTORY:
            raise fail(errno.EISDIR)
        self._check_writable_directory(parent)
        self._check_not_shared(record.id)
        with self._state.transaction():
            self._drop_name(record, parent, name, self._workspace.history.deleted)
            self._stamp_directory(parent, self._workspace.clock.wall_ns())
        self._workspace.touch(record.id)

    def rmdir(self, parent: NodeId, name: str) -> None:
        """Remove an empty directory; ENOTEMPTY also for local-only content."""
        record = self.record(self.lookup(parent, name))
        if record.kind is not Kind.DIRECTORY:
            raise fail(errno.ENOTDIR)
        self._check_writable_directory(parent)
        self._check_empty(record.id)
        self._check_not_shared(record.id)
        with self._state.transaction():
            self._drop_name(record, parent, name, self._workspace.history.deleted)
            self._stamp_directory(parent, self._workspace.clock.wall_ns())
        self._workspace.touch(record.id)

    # -- moving

    async def rename(
        self,
        parent: NodeId,
        name: str,
        new_parent: NodeId,
        new_name: str,
        flags: RenameFlags = RenameFlags.NONE,
    ) -> None:
        """Move a name, replacing what is there as rename(2) does. Atomic: other programs see before or after.

        Awaits only where a file that is not hydrated leaves the synchronised part, and then not for long: the kernel
        lets nobody else into the two directories meanwhile.

        :raises OSError: EXDEV where that takes longer. A program then copies the file, as between two disks.
        """
        source = self.lookup(parent, name)
        try:
            async with asyncio.timeout(_KEPT_WAITING_S):
                await self._keep_bytes(source, new_parent, new_name)
                if flags & RenameFlags.EXCHANGE:
                    await self._keep_bytes(self.lookup(new_parent, new_name), parent, name)
        except (TimeoutError, DeadlineExceeded):
            raise fail(errno.EXDEV) from None
        if flags & RenameFlags.EXCHANGE:
            self._exchange(parent, name, new_parent, new_name)
        else:
            self._rename(parent, name, new_parent, new_name, no_replace=bool(flags & RenameFlags.NOREPLACE))

    def _rename(self, parent: NodeId, name: str, new_parent: NodeId, new_name: str, *, no_replace: bool) -> None:
        record = self.record(self.lookup(parent, name))
        target_id = self.find(new_parent, new_name)
        self._check_writable_directory(parent)
        self._check_writable_directory(new_parent)
        if target_id is not None and no_replace:
            raise fail(errno.EEXIST)
        if target_id == record.id:
            return
        self._check_move(record, new_parent, new_name)
        now = self._workspace.clock.wall_ns()
        touched = [record.id]
        with self._state.transaction():
            if target_id is not None:
                target = self.record(target_id)
                self._check_replaceable(record, target)
                if self._table.is_seen(target_id):
                    self._drop_name(target, new_parent, new_name, self._workspace.history.replaced)
                else:
                    self._give_way(target)
                touched.append(target.id)
            self._move(record, parent, name, new_parent, new_name, now)
            self._stamp_directory(parent, now)
            self._stamp_directory(new_parent, now)
        self._workspace.touch(*touched)

    def _give_way(self, record: LocalNode) -> None:
        """Give a node that took a name unseen, a moment before a program did, a conflict name beside it."""
        siblings = self._state.local.children(record.parent)
        is_directory = record.kind is Kind.DIRECTORY
        stamp = self._workspace.conflict_stamp()
        name = conflict_name(record.name, stamp, siblings.__contains__, is_directory=is_directory)
        self._state.put_local(replace(record, name=name))
        self._workspace.announce(LocalChange(Happening.APPEARED, record.parent, name, record.id, record.kind))

    def _exchange(self, parent: NodeId, name: str, new_parent: NodeId, new_name: str) -> None:
        one = self.record(self.lookup(parent, name))
        other = self.record(self.lookup(new_parent, new_name))
        if one.id == other.id:
            return
        self._check_writable_directory(parent)
        self._check_writable_directory(new_parent)
        self._check_move(one, new_parent, new_name)
        self._check_move(other, parent, name)
        now = self._workspace.clock.wall_ns()
        is_further_name = (other.parent, other.name) != (new_parent, new_name)
        with self._state.transaction():
            if is_further_name:
                self._state.drop_link(new_parent, new_name, other.id)
                self._move(one, parent, name, new_parent, new_name, now)
                self._state.add_link(parent, name, other.id)
                self._state.put_local(replace(other, ctime_ns=now))
            else:
                self._state.drop_local(other.id)
                self._move(one, parent, name, new_parent, new_name, now)
                self._move(other, new_parent, new_name, parent, name, now)
            self._stamp_directory(parent, now)
            self._stamp_directory(new_parent, now)
        self._workspace.touch(one.id, other.id)

    def _move(self, record: LocalNode, parent: NodeId, name: str, new_parent: NodeId, new_name: str, now: int) -> None:
        """Put a record at its new place and set what follows from the place: which nodes are local-only."""
        if (record.parent, record.name) != (parent, name):
            self._state.drop_link(parent, name, record.id)
            self._state.add_link(new_parent, new_name, record.id)
            self._state.put_local(replace(record, ctime_ns=now))
            return
        ignored = self._workspace.is_ignored(new_parent, new_name, is_directory=record.kind is Kind.DIRECTORY)
        moved = replace(record, parent=new_parent, name=new_name, ctime_ns=now, is_local_only=ignored)
        self._workspace.history.moved(record, moved)
        self._state.put_local(moved)
        if record.kind is Kind.DIRECTORY:
            self._reflag(moved)

    def _reflag(self, directory: LocalNode) -> None:
        """Set, below a moved directory, which nodes are local-only; those that changed sides are touched."""
        pending = [directory]
        while pending:
            above = pending.pop()
            for name, child_id in list(self._state.local.children(above.id).items()):
                child = self._state.local.get(child_id)
                if child is None:
                    continue
                is_directory = child.kind is Kind.DIRECTORY
                ignored = self._workspace.is_ignored(above.id, name, is_directory=is_directory)
                ignored = ignored or child.kind not in (Kind.FILE, Kind.DIRECTORY)
                if ignored != child.is_local_only:
                    child = replace(child, is_local_only=ignored)
                    self._state.put_local(child)
                    self._workspace.touch(child.id)
                    self._workspace.announce(LocalChange(Happening.ATTRIBUTES, above.id, name, child.id, child.kind))
                if is_directory:
                    pending.append(child)

    async def _keep_bytes(self, node: NodeId, new_parent: NodeId, new_name: str) -> None:
        """Bring every file of a branch here before it leaves the synchronised part."""
        record = self.record(node)
        is_directory = record.kind is Kind.DIRECTORY
        if record.is_local_only or not self._workspace.is_ignored(new_parent, new_name, is_directory=is_directory):
            return
        pending = [record]
        while pending:
            current = pending.pop()
            if current.content is not None and current.blob is None and current.content.size:
                await self._hydrator.fetch(current.id)
            pending += [self.record(child) for child in list(self._state.local.children(current.id).values())]

    # -- attributes

    def set_mode(self, node: NodeId, mode: int) -> None:
        """Change the permission bits; for synchronised nodes the owner's write bit is the server's permission."""
        record = self.record(node)
        now = self._workspace.clock.wall_ns()
        if record.is_local_only:
            changed = replace(record, mode=mode, permission=permission_of(mode), ctime_ns=now)
        else:
            if self._workspace.is_protected(node):
                raise fail(errno.EROFS if self._workspace.is_read_only else errno.EACCES)
            permission = permission_of(mode)
            if permission is not record.permission:
                self._check_not_shared(node)
            changed = replace(record, mode=mode, permission=permission, ctime_ns=now)
        self._save(changed, at_once=changed.permission is not record.permission)
        if changed.permission is not record.permission:
            self._workspace.touch(node)

    def set_times(self, node: NodeId, *, mtime_ns: int | None) -> None:
        """Set the time of the last change; it is kept locally, through pushes too."""
        record = self.record(node)
        now = self._workspace.clock.wall_ns()
        self._save(replace(record, mtime_ns=record.mtime_ns if mtime_ns is None else mtime_ns, ctime_ns=now))

    def fsync(self, directory: NodeId) -> None:
        """Wait until the disk has every name: a durable commit carries all earlier ones with it."""
        record = self._state.local.get(directory)
        if record is not None:
            with self._state.transaction(durable=True):
                self._state.put_local(record)

    def _save(self, record: LocalNode, *, at_once: bool = False) -> None:
        """Keep a changed record. That of a file that is open for writing is in the store when that is closed, as its
        size is: what an archiver sets before it closes is then one change of the store and not four.

        :param at_once: the server is told of the change, so the store must not be behind.
        """
        inode = self._table.inodes.get(record.id)
        if inode is not None and inode.is_detached:
            inode.record = record
            return
        if inode is not None and inode.writers and not at_once:
            self._state.show_local(record)
            inode.is_unsaved = True
            return
        with self._state.transaction():
            self._state.put_local(record)

    # -- rules

    def _check_new_place(self, parent: NodeId, name: str) -> None:
        if self.record(parent).kind is not Kind.DIRECTORY:
            raise fail(errno.ENOTDIR)
        if self._state.local.get(parent) is None:
            raise fail(errno.ENOENT)
        self._check_portable_name(name)
        if self.find(parent, name) is not None:
            raise fail(errno.EEXIST)
        self._check_writable_directory(parent)

    @staticmethod
    def _check_portable_name(name: str) -> None:
        try:
            encoded = name.encode("utf-8")
        except UnicodeEncodeError:
            raise fail(errno.EILSEQ) from None
        if len(encoded) > 255:
            raise fail(errno.ENAMETOOLONG)

    def _check_server_name(self, parent: NodeId, name: str) -> None:
        """Refuse at once what the server cannot hold, rather than fail at the push."""
        trouble = check_name(name) or check_path(self._workspace.place_path(parent, name))
        if trouble is not None:
            raise fail(_TROUBLE_ERRNO.get(trouble, errno.EINVAL))

    def _check_writable_directory(self, directory: NodeId) -> None:
        record = self.record(directory)
        if self._workspace.is_read_only:
            raise fail(errno.EROFS)
        if record.is_local_only:
            return
        if self._workspace.is_protected(directory) or record.permission is Permission.READ_ONLY:
            raise fail(errno.EACCES)

    def _check_not_shared(self, node: NodeId) -> None:
        record = self._state.local.get(node)
        if record is not None and not record.is_local_only and self._workspace.is_shared(node):
            raise fail(errno.EPERM)

    def _check_empty(self, directory: NodeId) -> None:
        if self._state.local.children(directory) or self._state.links.get(directory):
            raise fail(errno.ENOTEMPTY)

    def _check_replaceable(self, record: LocalNode, target: LocalNode) -> None:
        if target.kind is Kind.DIRECTORY:
            if record.kind is not Kind.DIRECTORY:
                raise fail(errno.EISDIR)
            self._check_empty(target.id)
        elif record.kind is Kind.DIRECTORY:
            raise fail(errno.ENOTDIR)
        elif target.permission is Permission.READ_ONLY and not target.is_local_only:
            raise fail(errno.EACCES)
        if target.kind is Kind.DIRECTORY or self._state.base.get(record.id) is not None:
            self._check_not_shared(target.id)  # a new file may cover a shared one (copy on write), nothing else may

    def _check_move(self, record: LocalNode, new_parent: NodeId, new_name: str) -> None:
        self._check_portable_name(new_name)
        if self.record(new_parent).kind is not Kind.DIRECTORY:
            raise fail(errno.ENOTDIR)
        above = new_parent
        while above != ROOT:
            if above == record.id:
                raise fail(errno.EINVAL)
            above = self.record(above).parent
        if not record.is_local_only:
            if self._workspace.is_protected(record.id):
                raise fail(errno.EACCES)
            if self._holds_shared(record):
                raise fail(errno.EPERM)
        if self._workspace.is_ignored(new_parent, new_name, is_directory=record.kind is Kind.DIRECTORY):
            return
        if record.kind not in (Kind.FILE, Kind.DIRECTORY):
            raise fail(errno.EPERM)
        if record.id in self._state.other_names:
            raise fail(errno.EXDEV)  # several names cannot leave the local-only part; programs copy instead
        self._check_server_name(new_parent, new_name)
        if record.kind is Kind.DIRECTORY:
            self._check_deep_paths(record.id, self._workspace.place_path(new_parent, new_name))

    def _check_deep_paths(self, directory: NodeId, path: str) -> None:
        """Every path below must still fit after the move (contract I-21)."""
        pending = [(directory, path)]
        while pending:
            above, above_path = pending.pop()
            for name, child in self._state.local.children(above).items():
                child_path = f"{above_path}/{name}"
                if check_path(child_path) is Trouble.PATH_TOO_LONG:
                    raise fail(errno.ENAMETOOLONG)
                pending.append((child, child_path))

    def _holds_shared(self, record: LocalNode) -> bool:
        if self._workspace.is_shared(record.id):
            return True
        return any(
            self._holds_shared(child)
            for child_id in self._state.local.children(record.id).values()
            if (child := self._state.local.get(child_id)) is not None
        )

    # -- dropping

    def _drop_name(self, record: LocalNode, parent: NodeId, name: str, keep: Callable[[LocalNode], bool]) -> None:
        """Take one name away; the node goes with its last one.

        :param keep: hands the bytes over to the history, if they are to be kept.
        """
        now = self._workspace.clock.wall_ns()
        if (record.parent, record.name) != (parent, name):
            self._state.drop_link(parent, name, record.id)
            self._state.put_local(replace(record, ctime_ns=now))
            return
        others = self._state.other_names.get(record.id)
        if others:
            heir_parent, heir_name = min(others)
            self._state.drop_link(heir_parent, heir_name, record.id)
            self._state.put_local(replace(record, parent=heir_parent, name=heir_name, ctime_ns=now))
            return
        self._state.drop_local(record.id)
        is_kept = keep(record)
        self._state.after_commit(lambda: self._let_go(replace(record, ctime_ns=now), is_kept=is_kept))

    def _let_go(self, record: LocalNode, *, is_kept: bool) -> None:
        """Leave the bytes of a node without a name to who has it open, or to the history."""
        if self._table.detach(record):
            self._hydrator.keep_for_open(record)
        elif record.blob is not None and not is_kept:
            self._state.blobs.remove(record.blob)

    def _stamp_directory(self, directory: NodeId, now: int) -> None:
        record = self._state.local.get(directory)
        if record is not None:
            self._state.show_local(replace(record, mtime_ns=now, ctime_ns=now))
