"""The file system as transports see it: one call for each operation of the FUSE low-level protocol, by inode number.

A transport translates and nothing else. Plain functions answer at once from memory and the local disk; coroutines may
wait for the network. For reading and writing there are both: ``read_now`` and ``write_now`` return None where the
coroutine of the same name is needed, so that a transport can answer without a task whatever is here.

Failures are ``OSError`` with the POSIX errno, or ``ApiError`` and ``StateError``, which ``fuse.errno`` maps.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple, Protocol

from jobfs.engine.hydrator import StillComing
from jobfs.engine.patience import LOCKED_DEADLINE_S
from jobfs.engine.session import Session
from jobfs.engine.transfer import SMALL_BYTES
from jobfs.engine.workspace import Happening, LocalChange
from jobfs.errors import DeadlineExceeded, JobfsError, NotFound
from jobfs.model import ROOT, Kind, LocalNode, NodeId
from jobfs.vfs.attributes import Attributes
from jobfs.vfs.control import CONTROL, CONTROL_NAME, ControlDirectory, Report
from jobfs.vfs.extended import ExtendedAttributes
from jobfs.vfs.files import Files
from jobfs.vfs.inodes import Handle, InodeTable
from jobfs.vfs.namespace import Namespace, RenameFlags, fail
from jobfs.vfs.room import retried, retried_later

_CONFIRM_S = 1.0
_SLOWEST_UPLOAD_BYTES_PER_S = 16 * 1024

_SAME_FAILURE_S = 1.0

Names = list[tuple[str, NodeId]]


def _wants_all(handle: Handle, record: LocalNode) -> bool:
    """Tell whether who opened a cold file needs the whole of it: he writes, and is not likely to read a part of much.

    Where another writes, or may, whoever opens it for writing waits before he wants the file's lock: it may be taken
    for as long as the whole file takes.
    """
    size = record.content.size if record.content is not None else 0
    is_small = size <= SMALL_BYTES or not handle.is_readable
    return handle.is_writable and (is_small or handle.inode.writers > 1 or bool(handle.inode.waiting))


class _Failure(NamedTuple):
    """Why bytes could not be had, and until when that stands."""

    until_s: float
    error: JobfsError


class NameChange(NamedTuple):
    """What happened to a name by no request of a transport.

    :param old: the node that it stood for, if any that was shown. :param new: the one that it stands for.
    :param kind: of that one, or of the old one where there is none.
    """

    parent: NodeId
    name: str
    old: NodeId | None
    new: NodeId | None
    kind: Kind


class Audience(Protocol):
    """A transport's caches: what they name is kept, and they must know of changes that no request of theirs made."""

    def knows(self, node: NodeId) -> bool:
        """Tell whether the caches may name a node. When they no longer do, ``Vfs.forget`` is called."""

    def name_changed(self, change: NameChange) -> None:
        """A name came, went, or stands for another node."""

    def attributes_changed(self, node: NodeId) -> None:
        """The stat of a node is another one; its bytes are the same."""


class Vfs:
    """One mounted workspace.

    :param session: started by the caller; the vfs neither starts nor stops it.
    :param reports: the files of ``.jobfs/`` (see ``control``).
    :param durable_remotely: ``fsync`` waits until the server has the file (``--fsync remote``).
    :param write_through: closing a written file waits for the server and reports its error.
    """

    def __init__(
        self,
        session: Session,
        *,
        reports: Mapping[str, Report],
        durable_remotely: bool = False,
        write_through: bool = False,
    ) -> None:
        workspace = session.workspace
        self.session = session
        self.workspace = workspace
        self.table = InodeTable()
        self.namespace = Namespace(workspace, self.table, session.hydrator)
        self.files = Files(workspace, self.table, self.namespace, session.hydrator)
        self.extended = ExtendedAttributes(session, self.namespace)
        self.control = ControlDirectory(reports, workspace.clock.wall_ns)
        self.durable_remotely = durable_remotely
        self.write_through = write_through
        self._failures: dict[NodeId, _Failure] = {}
        workspace.on_replaced = self._detach
        workspace.is_open = self.table.inodes.__contains__
        workspace.history.blobs_in_use = self.table.detached_blobs
        workspace.is_known = lambda node: node in self.table.inodes or self.table.is_known(node)

    def _detach(self, record: LocalNode) -> bool:
        is_kept = self.table.detach(record, was_replaced=True)
        if is_kept:
            self.session.hydrator.keep_arriving(record)
            # Whoever has it open can see that its name is gone: it has one link less.
            links = LocalChange(Happening.ATTRIBUTES, record.parent, record.name, record.id, record.kind)
            self.workspace.announce(links)
        return is_kept

    def tell(self, audience: Audience) -> None:
        """Tell an audience, from now on, of every change that comes from outside; on the loop, so it must not wait."""

        def listener(change: LocalChange) -> None:
            old, new = (change.node, None) if change.happening is Happening.VANISHED else (change.old, change.node)
            if change.happening is Happening.ATTRIBUTES:
                audience.attributes_changed(change.node)
            else:
                audience.name_changed(NameChange(change.parent, change.name, old, new, change.kind))

        self.workspace.listeners.append(listener)
        self.table.is_known = self.table.is_seen = audience.knows

    def is_gone(self, node: NodeId) -> bool:
        """Tell whether a node has no name any more and no program has it open for writing."""
        inode = self.table.inodes.get(node)
        return self.workspace.state.local.get(node) is None and (inode is None or not inode.writers)

    def forget(self, node: NodeId) -> None:
        """Note that the audience no longer knows a node."""
        self.files.forget(node)

    # -- looking

    def lookup(self, parent: NodeId, name: str) -> Attributes:
        """Find a name in a directory; ENOENT."""
        if parent == CONTROL:
            found = self.control.find(name)
            if found is None:
                raise fail(errno.ENOENT)
            return self.control.attributes(found)
        if parent == ROOT and name == CONTROL_NAME:
            return self.control.attributes(CONTROL)
        return self.namespace.attributes(self.namespace.lookup(parent, name))

    def attributes(self, node: NodeId) -> Attributes:
        """Return the stat of a node; ESTALE for one that is gone and not open."""
        return self.control.attributes(node) if self.control.owns(node) else self.namespace.attributes(node)

    def parent(self, node: NodeId) -> NodeId:
        """Return the directory that holds a directory, for ``..``."""
        return ROOT if node == CONTROL else self.namespace.record(node).parent

    def names(self, directory: NodeId) -> Names:
        """Return the names of a directory as they are now, without ``.`` and ``..``."""
        if directory == CONTROL:
            return self.control.children()
        self.session.feed.opened()
        return list(self.namespace.children(directory))

    def has(self, directory: NodeId, name: str, node: NodeId) -> bool:
        """Tell whether a name in a directory stands for a node."""
        found = self.control.find(name) if directory == CONTROL else self.namespace.find(directory, name)
        return found == node

    def read_link(self, node: NodeId) -> str:
        """Return the target of a symlink."""
        return self.namespace.read_link(node)

    # -- names

    @retried
    def make(self, parent: NodeId, name: str, kind: Kind, *, mode: int, target: str = "") -> Attributes:
        """Make a file, directory, symlink, fifo or socket. ``mode`` is without the umask's bits."""
        self._refuse_control(parent, name)
        return self.namespace.attributes(self.namespace.make(parent, name, kind, mode=mode, target=target).id)

    @retried
    def link(self, node: NodeId, parent: NodeId, name: str) -> Attributes:
        """Give a local-only file a further name; EPERM elsewhere."""
        self._refuse_control(parent, name)
        self.namespace.link(node, parent, name)
        return self.namespace.attributes(node)

    @retried
    def unlink(self, parent: NodeId, name: str) -> None:
        """Remove a name of a file."""
        self._refuse_control(parent, name)
        self.namespace.unlink(parent, name)

    @retried
    def rmdir(self, parent: NodeId, name: str) -> None:
        """Remove an empty directory."""
        self._refuse_control(parent, name)
        self.namespace.rmdir(parent, name)

    @retried_later
    async def rename(
        self, parent: NodeId, name: str, new_parent: NodeId, new_name: str, flags: RenameFlags = RenameFlags.NONE
    ) -> None:
        """Move a name, as renameat2(2)."""
        self._refuse_control(parent, name)
        self._refuse_control(new_parent, new_name)
        await self.namespace.rename(parent, name, new_parent, new_name, flags)

    def _refuse_control(self, parent: NodeId, name: str) -> None:
        if parent == CONTROL or (parent == ROOT and name == CONTROL_NAME):
            raise fail(errno.EPERM)

    # -- attributes

    @retried
    def set_mode(self, node: NodeId, mode: int) -> None:
        """Change the permission bits (chmod)."""
        if self.control.owns(node):
            raise fail(errno.EPERM)
        self.namespace.set_mode(node, mode)

    @retried
    def set_times(self, node: NodeId, *, mtime_ns: int | None) -> None:
        """Set the time of the last change; None leaves it. The time of the last access is not kept."""
        if self.control.owns(node):
            raise fail(errno.EPERM)
        self.namespace.set_times(node, mtime_ns=mtime_ns)

    @retried
    def truncate_now(self, node: NodeId, size: int) -> bool:
        """Set the length of a file, or return False where ``truncate`` has to wait."""
        if self.control.owns(node):
            raise fail(errno.EPERM)
        return self.files.truncate_now(node, size)

    @retried_later
    async def truncate(self, node: NodeId, size: int) -> None:
        """Set the length of a file."""
        if self.control.owns(node):
            raise fail(errno.EPERM)
        if not self.files.truncate_now(node, size):
            with self._remembering_failure(node):
                await self.files.truncate(node, size)

    # -- files

    @retried
    def open(self, node: NodeId, flags: int) -> Handle:
        """Open a file; with O_TRUNC also empty it. Never waits for the network."""
        if not self.control.owns(node):
            self.session.cache.use(node)
            return self.files.open(node, flags)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise fail(errno.EACCES)
        handle = self.table.open(node, readable=True, writable=False, append=False)
        handle.snapshot = self.control.content(node)
        return handle

    def is_cold(self, handle: Handle, flags: int = 0) -> bool:
        """Tell whether nothing of an open file is here, and its open has to wait for that: see ``confirm``.

        :param flags: of open(2). Who writes but does not want to wait (``touch``) does not wait, nor does anybody who
            writes while the server is known not to answer: he may well cut the file, or only set its times.
        """
        if handle.snapshot is not None:
            return False
        if handle.is_writable and (flags & os.O_NONBLOCK or self.session.offline is not None):
            return False
        record = self.namespace.record(handle.inode.node)
        return record.blob is None and record.content is not None and record.content.size > 0

    async def confirm(self, handle: Handle, *, is_locked: bool = False) -> bool:
        """Wait for a cold file while it is being opened: no lock of the kernel is held then, and signals end the wait.

        Who only reads waits for the first byte, for a moment. Who writes waits for the whole file, without which
        nothing can be changed in it, as long as it comes; but for a large file that is opened for reading too, of which
        programs such as databases may want a few pages.

        A version that the server no longer has cannot be had by anybody. Found out here, the open fails with ESTALE,
        upon which the kernel looks the name up anew, and finds the version that the listing taken meanwhile shows.
        Where the server cannot be reached, or takes too long, the open succeeds; reading and writing meet the error.

        :param is_locked: others wait uninterruptibly for this open.
        :return: whether the first byte is here.
        :raises OSError: ESTALE; the handle is closed then, as by any other exception that leaves this.
        """
        if not self.is_cold(handle):
            return True  # its bytes came meanwhile
        record = self.namespace.record(handle.inode.node)
        try:
            if _wants_all(handle, record):
                with self._remembering_failure(record.id):
                    await self.session.hydrator.fetch(record.id, is_locked=is_locked)
            else:
                async with asyncio.timeout(_CONFIRM_S):
                    await self.session.hydrator.read(record, 0, 1)
            return True
        except NotFound:
            self.release(handle)
            patience_s = self.session.options.read_deadline_s
            with suppress(JobfsError, TimeoutError):  # there is no listing: the name shows what it showed
                async with asyncio.timeout(min(LOCKED_DEADLINE_S, patience_s) if is_locked else patience_s):
                    await self.session.feed.refresh(is_urgent=True)
            raise fail(errno.ESTALE) from None
        except (JobfsError, TimeoutError):
            return False
        except BaseException:
            self.release(handle)
            raise

    @retried
    def create(self, parent: NodeId, name: str, *, mode: int, flags: int) -> tuple[Attributes, Handle]:
        """Make and open a file; EEXIST where the name is taken, the caller having looked it up before."""
        self._refuse_control(parent, name)
        handle = self.files.create(parent, name, mode=mode, flags=flags)
        return self.namespace.attributes(handle.inode.node), handle

    def handle(self, number: int) -> Handle:
        """Return an open handle; EBADF."""
        handle = self.table.handles.get(number)
        if handle is None:
            raise fail(errno.EBADF)
        return handle

    def read_now(self, handle: Handle, size: int, offset: int) -> bytes | None:
        """Return bytes that are here, or None where ``read`` has to wait."""
        return self.files.read_now(handle, size, offset)

    @retried_later
    async def read(
        self, handle: Handle, size: int, offset: int, *, is_shared: Callable[[], bool] | None = None
    ) -> bytes:
        """Return bytes, waiting for their download where they are not here, unless that was just done in vain.

        When reading ahead fails, the kernel reads the first page once more to learn the reason; waiting for another
        deadline then would make the program wait for two.

        :param is_shared: see ``Files.read``.
        """
        with self._remembering_failure(handle.inode.node):
            return await self.files.read(handle, size, offset, is_shared=is_shared)

    @contextmanager
    def _remembering_failure(self, node: NodeId) -> Iterator[None]:
        """Wait for a file's bytes in the block. Where that was just done in vain it fails as it did, at once."""
        known = self._failures.get(node)
        is_here = self.namespace.record(node).blob is not None
        if known is not None and not is_here and self.workspace.clock.monotonic_s() < known.until_s:
            raise known.error
        try:
            yield
        except StillComing:
            raise  # it was too much at once, and less may well be had
        except JobfsError as error:
            self._failures[node] = _Failure(self.workspace.clock.monotonic_s() + _SAME_FAILURE_S, error)
            raise

    @retried
    def write_now(self, handle: Handle, data: bytes | memoryview, offset: int) -> int | None:
        """Write, or return None where ``write`` has to wait."""
        return self.files.write_now(handle, data, offset)

    @retried_later
    async def write(self, handle: Handle, data: bytes | memoryview, offset: int) -> int:
        """Write, bringing the file here before its first change.

        Those who wait for the file's lock while one waits for its bytes meet his failure, not each another deadline.
        """
        with self._remembering_failure(handle.inode.node):
            return await self.files.write(handle, data, offset)

    @retried
    def flush_now(self, handle: Handle) -> bool:
        """Serve close(2) at once, or return False where ``flush`` has to wait for the server."""
        if handle.snapshot is not None:
            return True
        if self.write_through and handle.has_written:
            return False
        self.files.flush(handle)
        return True

    @retried_later
    async def flush(self, handle: Handle) -> None:
        """Serve close(2): what was written is in the store before this returns."""
        if handle.snapshot is not None:
            return
        self.files.flush(handle)
        if self.write_through and handle.has_written:
            await self._push(handle)

    @retried_later
    async def fsync(self, handle: Handle) -> None:
        """Serve fsync(2): on the local disk, or on the server where that was asked for."""
        if handle.snapshot is not None:
            return
        self.files.fsync(handle)
        if self.durable_remotely:
            await self._push(handle)

    async def _push(self, handle: Handle) -> None:
        """Wait until the server has a file.

        :raises DeadlineExceeded: that takes longer than even a slow server takes. It is kept, and sent later.
        """
        node = handle.inode.node
        record = self.namespace.record(node)
        size = record.content.size if record.content is not None else 0
        patience_s = self.session.options.read_deadline_s + size / _SLOWEST_UPLOAD_BYTES_PER_S
        try:
            async with asyncio.timeout(patience_s):
                await self.session.push_now(node)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the server has not taken the file within {patience_s:.0f} s", "it is kept here, and sent later"
            ) from None

    @retried
    def fsync_directory(self, directory: NodeId) -> None:
        """Make the names of a directory durable against a power cut. Blocks for the local disk."""
        if not self.control.owns(directory):
            self.namespace.fsync(directory)

    def release(self, handle: Handle) -> None:
        """Close a handle."""
        node = handle.inode.node
        if handle.snapshot is not None:
            self.table.close(handle)
        else:
            self.files.release(handle)
        if node not in self.table.inodes:
            self._failures.pop(node, None)  # who opens it now tries anew

    @retried_later
    async def allocate(self, handle: Handle, mode: int, offset: int, length: int) -> None:
        """Serve fallocate(2)."""
        with self._remembering_failure(handle.inode.node):
            await self.files.allocate(handle, mode, offset, length)

    def seek(self, handle: Handle, offset: int, whence: int) -> int:
        """Serve lseek(2) with SEEK_DATA and SEEK_HOLE."""
        return self.files.seek(handle, offset, whence)

    def make_room(self, subject: object) -> bool:
        """Let clean copies give way on a full disk: see ``room``."""
        size = 0
        if isinstance(subject, Handle):
            record = self.namespace.record(subject.inode.node)
            size = record.content.size if record.content is not None else 0
            self._failures.pop(subject.inode.node, None)
        return self.session.cache.make_room(size)

    def space(self) -> tuple[int, int, int]:
        """Return block size, blocks and free blocks of the local store, which bounds what can be written."""
        found = os.statvfs(self.session.state.directory)
        return found.f_frsize, found.f_blocks, found.f_bavail
