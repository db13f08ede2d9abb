"""The portable transport: libfuse through mfusepy, the maintained successor of fusepy (same API, libfuse 2 and 3).

Linux, macOS and BSD. libfuse's own threads call ``_Operations`` by path; every call is handed to the loop and waited
for, so the vfs stays single-threaded. Caching is short; a program that wants to end its wait for the network is noticed
when its thread looks, which it does five times a second.

The only importer of ``mfusepy``. Importing this module fails with ``FuseUnavailable`` where there is no libfuse.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes.util
import errno
import logging
import os
import stat
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from jobfs.errors import FuseUnavailable, MountError, MountPointBusy
from jobfs.fuse import mounting
from jobfs.fuse.errno import errno_of, is_expected
from jobfs.fuse.interrupt import is_to_stop
from jobfs.fuse.options import MountOptions
from jobfs.fuse.sleepers import threads_sleep_beside
from jobfs.model import ROOT, Kind, NodeId
from jobfs.vfs.attributes import BLOCK_BYTES, Attributes
from jobfs.vfs.inodes import Handle
from jobfs.vfs.namespace import RenameFlags, fail
from jobfs.vfs.operations import Vfs

if sys.platform == "linux" and ctypes.util.find_library("fuse3"):
    os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")  # mfusepy takes libfuse 2 first, which has no rename flags
try:
    import mfusepy
except (OSError, AttributeError, NotImplementedError) as error:
    raise FuseUnavailable(
        f"libfuse cannot be loaded ({error})", "install it ('apt-get install fuse3', or macFUSE), or use 'jobfs sync'"
    ) from error

_log = logging.getLogger(__name__)

T = TypeVar("T")

_CACHE_S = 1.0
_LOOK_S = 0.2
_THREADS, _IDLE_THREADS = 256, 8
"""As many programs as that can wait for the network before others wait for them; libfuse itself takes ten."""

_UTIME_NOW = (1 << 30) - 1
_UTIME_OMIT = (1 << 30) - 2
_HAS_MAX_THREADS = (3, 12)
_KEEP_OWNER = (-1, 0xFFFFFFFF)
_ASYNC_READ, _ASYNC_DIO = 1 << 0, 1 << 15
"""FUSE_CAP_ASYNC_READ and FUSE_CAP_ASYNC_DIO of libfuse 3."""

_TYPE_BITS = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
}
_KINDS = {bits: kind for kind, bits in _TYPE_BITS.items()}


class FusepyTransport:
    """One mount through libfuse."""

    name = "fusepy"

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._mountpoint = Path()
        self._ended = asyncio.Event()
        self._failure: BaseException | None = None
        self._operations: _Operations | None = None

    async def mount(self, vfs: Vfs, mountpoint: Path, options: MountOptions) -> None:
        """Mount, and return when the kernel has been answered and the mount serves.

        A dead mount of ours at the place is taken away first.

        :raises MountPointBusy: there is no such directory, it is not empty, or something is mounted on it.
        :raises MountError: libfuse could not mount there.
        """
        if sys.platform == "linux":
            mountpoint = mounting.real_place(mountpoint)
            await asyncio.to_thread(mounting.make_room, mountpoint)
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        operations = self._operations = _Operations(vfs, loop, options, ready)
        self._mountpoint = mountpoint
        self._thread = threading.Thread(
            target=self._serve, args=(operations, options, loop, ready), name="jobfs-fuse", daemon=True
        )
        self._thread.start()
        await ready

    def _serve(
        self,
        operations: _Operations,
        options: MountOptions,
        loop: asyncio.AbstractEventLoop,
        ready: asyncio.Future[None],
    ) -> None:
        """Run libfuse's own loop until the mount ends; in a thread of its own."""
        flags: dict[str, Any] = {"ro": True} if options.read_only else {}
        if options.allow_other:
            flags["allow_other"] = True
        if (mfusepy.fuse_version_major, mfusepy.fuse_version_minor) >= _HAS_MAX_THREADS:
            flags |= {"max_threads": _THREADS, "max_idle_threads": _IDLE_THREADS}
        try:
            _Binding(
                operations,
                str(self._mountpoint),
                foreground=True,
                fsname=options.name,
                subtype="jobfs",
                default_permissions=True,
                **flags,
            )
        except (RuntimeError, OSError) as error:
            self._failure = error
        finally:
            loop.call_soon_threadsafe(self._finish, operations, ready)

    def _finish(self, operations: _Operations, ready: asyncio.Future[None]) -> None:
        operations.end()
        if not ready.done():
            ready.set_exception(
                MountError(
                    f"libfuse could not mount on {self._mountpoint} ({self._failure})",
                    "see the message above; 'jobfs doctor' tells what is missing",
                )
            )
        self._ended.set()

    async def wait_unmounted(self) -> None:
        """Return once the mount is gone, by whomever."""
        await self._ended.wait()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    async def unmount(self) -> None:
        """Unmount, and return when libfuse has ended. On Linux also while programs use the mount: they get errors then.

        :raises MountPointBusy: programs use it, on another system.
        """
        if not self._ended.is_set():
            await asyncio.to_thread(self._detach)
            if self._operations is not None:
                self._operations.give_up()
        await self.wait_unmounted()

    async def detach(self) -> None:
        """Unmount; does not wait for the end.

        :raises MountPointBusy: programs use it; it is mounted as before.
        """
        await asyncio.to_thread(mounting.detach, self._mountpoint)

    def _detach(self) -> None:
        try:
            mounting.detach(self._mountpoint)
        except MountPointBusy:
            if sys.platform != "linux":
                raise
            mounting.take_away(self._mountpoint)
        except MountError:
            if sys.platform != "linux" or mounting.mount_at(self._mountpoint) is not None:
                raise  # otherwise somebody else unmounted it at the same moment


class _Binding(mfusepy.FUSE):  # type: ignore[misc]
    """mfusepy's table of callbacks, with what it leaves out: rename flags, handles of unlinked files, single times."""

    def _wrapper(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
        try:
            return function(*args, **kwargs) or 0
        except Exception as error:  # noqa: BLE001 - one table for every error; nothing may end libfuse's loop
            if not is_expected(error):
                _log.exception("unexpected error in %s", function.__name__)
            return -errno_of(error)

    def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> int:
        self.operations.move(_text(old), _text(new), flags)
        return 0

    def chmod_fuse_3(self, path: bytes | None, mode: int, info: Any) -> int:
        self.operations.set_mode(_text(path), mode, _number(info))
        return 0

    def truncate_fuse_3(self, path: bytes | None, length: int, info: Any) -> int:
        self.operations.truncate(_text(path), length, _number(info))
        return 0

    def utimens_fuse_3(self, path: bytes | None, times: Any, info: Any) -> int:
        self.operations.set_times(_text(path), _mtime(times), _number(info))
        return 0

    def utimens_fuse_2(self, path: bytes, times: Any) -> int:
        self.operations.set_times(_text(path), _mtime(times), None)
        return 0


def _text(path: bytes | None) -> str | None:
    return None if path is None else path.decode("utf-8", "surrogateescape")


def _number(info: Any) -> int | None:
    return info.contents.fh if info else None


def _mtime(times: Any) -> tuple[bool, int | None]:
    """Return whether the time of the last change is "now", and else its nanoseconds; None leaves it."""
    if not times:
        return True, None
    modified = times.contents.modtime
    if modified.tv_nsec == _UTIME_NOW:
        return True, None
    if modified.tv_nsec == _UTIME_OMIT:
        return False, None
    return False, modified.tv_sec * 1_000_000_000 + modified.tv_nsec


class _Operations(mfusepy.Operations):  # type: ignore[misc]
    """The vfs by path, for libfuse's threads."""

    use_ns = True
    flag_nullpath_ok = True
    flag_nopath = True
    flag_utime_omit_ok = True

    def __init__(
        self, vfs: Vfs, loop: asyncio.AbstractEventLoop, options: MountOptions, ready: asyncio.Future[None]
    ) -> None:
        self._vfs = vfs
        self._loop = loop
        self._options = options
        self._ready = ready
        self._waits: set[asyncio.Task[Any]] = set()

    # -- from libfuse's threads to the loop

    def _plain(self, function: Callable[[], T]) -> T:
        """Run a plain function on the loop and return its result."""
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                done.set_result(function())
            except BaseException as error:
                done.set_exception(error)  # raised again in the thread that asked
                if not isinstance(error, Exception):
                    raise

        self._loop.call_soon_threadsafe(run)
        return done.result()

    def _do(self, function: Callable[[], None]) -> int:
        """Run a plain function that has no result on the loop; 0 is libfuse's "done"."""
        self._plain(function)
        return 0

    def _wait(self, make: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine on the loop and return its result, which counts also where it is no longer wanted: a handle
        that was made has to be closed.

        :raises OSError: EINTR where the program gave up, or the mount ends.
        """
        begun: concurrent.futures.Future[asyncio.Task[Any]] = concurrent.futures.Future()
        done = asyncio.run_coroutine_threadsafe(self._run(make, begun), self._loop)
        while not concurrent.futures.wait((done,), _LOOK_S).done:
            if _is_given_up():
                self._loop.call_soon_threadsafe(begun.result().cancel)
        try:
            return done.result()
        except concurrent.futures.CancelledError:
            raise fail(errno.EINTR) from None

    async def _run(self, make: Callable[[], Awaitable[T]], begun: concurrent.futures.Future[asyncio.Task[Any]]) -> T:
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("a coroutine is run by a task")
        begun.set_result(task)
        self._waits.add(task)
        try:
            return await make()
        finally:
            self._waits.discard(task)

    def give_up(self) -> None:
        """End what programs wait for: libfuse ends only after its threads; on the loop."""
        for task in self._waits:
            task.cancel()

    def end(self) -> None:
        """Close what programs left open when the mount was taken away from them; on the loop."""
        for handle in list(self._vfs.table.handles.values()):
            self._vfs.release(handle)

    def _node(self, path: str | None, number: int | None = None) -> NodeId:
        """Return the node of a handle or path; on the loop only."""
        if number is not None:
            return self._vfs.handle(number).inode.node
        node = ROOT
        for name in (path or "").strip("/").split("/"):
            if name:
                node = self._vfs.lookup(node, name).inode
        return node

    def _place(self, path: str | None) -> tuple[NodeId, str]:
        above, _, name = (path or "").rpartition("/")
        return self._node(above), name

    # -- mfusepy's interface

    def init_with_config(self, connection: Any, config: Any) -> None:
        if config is not None:
            config.use_ino = True
            config.readdir_ino = True
            config.hard_remove = True
            config.nullpath_ok = True
            config.entry_timeout = config.attr_timeout = _CACHE_S
            config.negative_timeout = 0.0
        if connection is not None:
            _read_in_turn(connection)
        self._loop.call_soon_threadsafe(self._serves)

    def _serves(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    def getattr(self, path: str | None, fh: int | None = None) -> dict[str, Any]:
        return self._stat(self._plain(lambda: self._vfs.attributes(self._node(path, fh))))

    def _stat(self, found: Attributes) -> dict[str, Any]:
        return {
            "st_ino": found.inode,
            "st_mode": _TYPE_BITS[found.kind] | found.mode,
            "st_nlink": found.links,
            "st_uid": self._options.uid,
            "st_gid": self._options.gid,
            "st_size": found.size,
            "st_blocks": -(-found.size // 512),
            "st_blksize": BLOCK_BYTES,
            "st_atime": found.mtime_ns,
            "st_mtime": found.mtime_ns,
            "st_ctime": found.ctime_ns,
        }

    def opendir(self, path: str) -> int:
        return self._plain(lambda: self._node(path))

    def releasedir(self, path: str | None, fh: int) -> int:
        return 0

    def readdir(self, path: str | None, fh: int) -> Iterator[tuple[str, dict[str, int], int]]:
        def entries() -> list[tuple[str, dict[str, int], int]]:
            directory = NodeId(fh)  # libfuse gives no path where a handle says enough
            listed = [(".", directory), ("..", self._vfs.parent(directory)), *self._vfs.names(directory)]
            found = []
            for name, node in listed:
                kind = self._vfs.attributes(node).kind
                found.append((name, {"st_ino": node, "st_mode": _TYPE_BITS[kind]}, 0))
            return found

        return iter(self._plain(entries))

    def readlink(self, path: str) -> str:
        return self._plain(lambda: self._vfs.read_link(self._node(path)))

    def mknod(self, path: str, mode: int, dev: int) -> int:
        kind = _KINDS.get(stat.S_IFMT(mode) or stat.S_IFREG)
        if kind is None or kind is Kind.DIRECTORY:
            raise fail(errno.EPERM)
        return self._make(path, kind, mode)

    def mkdir(self, path: str, mode: int) -> int:
        return self._make(path, Kind.DIRECTORY, mode)

    def symlink(self, target: str, source: str) -> int:
        return self._make(target, Kind.SYMLINK, 0o777, source)

    def _make(self, path: str, kind: Kind, mode: int, target: str = "") -> int:
        def make() -> int:
            parent, name = self._place(path)
            self._vfs.make(parent, name, kind, mode=stat.S_IMODE(mode), target=target)
            return 0

        return self._plain(make)

    def link(self, target: str, source: str) -> int:
        def link() -> int:
            self._vfs.link(self._node(source), *self._place(target))
            return 0

        return self._plain(link)

    def unlink(self, path: str) -> int:
        return self._do(lambda: self._vfs.unlink(*self._place(path)))

    def rmdir(self, path: str) -> int:
        return self._do(lambda: self._vfs.rmdir(*self._place(path)))

    def rename(self, old: str, new: str) -> int:
        return self.move(old, new, 0)

    def move(self, old: str, new: str, flags: int) -> int:
        """Rename with the flags of renameat2(2)."""
        if flags & ~int(RenameFlags.NOREPLACE | RenameFlags.EXCHANGE):
            raise fail(errno.EINVAL)

        async def rename() -> int:
            await self._vfs.rename(*self._place(old), *self._place(new), RenameFlags(flags))
            return 0

        return self._wait(rename)

    def chmod(self, path: str, mode: int) -> int:
        return self.set_mode(path, mode, None)

    def set_mode(self, path: str | None, mode: int, fh: int | None) -> int:
        """Change the permission bits, by path or by handle."""
        return self._do(lambda: self._vfs.set_mode(self._node(path, fh), stat.S_IMODE(mode)))

    def chown(self, path: str, uid: int, gid: int) -> int:
        if uid not in (*_KEEP_OWNER, self._options.uid) or gid not in (*_KEEP_OWNER, self._options.gid):
            raise fail(errno.EPERM)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        return self.set_times(path, (times is None, None if times is None else times[1]), None)

    def set_times(self, path: str | None, wanted: tuple[bool, int | None], fh: int | None) -> int:
        """Set the time of the last change, by path or by handle."""
        is_now, mtime_ns = wanted

        def change() -> int:
            moment = self._vfs.workspace.clock.wall_ns() if is_now else mtime_ns
            self._vfs.set_times(self._node(path, fh), mtime_ns=moment)
            return 0

        return self._plain(change)

    def truncate(self, path: str | None, length: int, fh: int | None = None) -> int:
        async def cut() -> int:
            await self._vfs.truncate(self._node(path, fh), length)
            return 0

        return self._wait(cut)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        def create() -> int:
            parent, name = self._place(path)
            flags = fi if isinstance(fi, int) else os.O_RDWR
            return self._vfs.create(parent, name, mode=stat.S_IMODE(mode), flags=flags)[1].number

        return self._plain(create)

    def open(self, path: str, flags: int) -> int:
        async def open_and_confirm() -> int:
            handle = self._vfs.open(self._node(path), flags)
            if self._vfs.is_cold(handle, flags):
                await self._vfs.confirm(handle, is_locked=True)  # libfuse keeps the path until it is open
            return handle.number

        return self._wait(open_and_confirm)

    def read(self, path: str | None, size: int, offset: int, fh: int) -> bytes:
        here = self._plain(lambda: self._vfs.read_now(self._vfs.handle(fh), size, offset))
        if here is not None:
            return here
        is_shared = partial(threads_sleep_beside, mfusepy.fuse_get_context()[2])
        return self._wait(lambda: self._vfs.read(self._vfs.handle(fh), size, offset, is_shared=is_shared))

    def write(self, path: str | None, data: bytes, offset: int, fh: int) -> int:
        done = self._plain(lambda: self._vfs.write_now(self._vfs.handle(fh), data, offset))
        return done if done is not None else self._wait(lambda: self._vfs.write(self._vfs.handle(fh), data, offset))

    def flush(self, path: str | None, fh: int) -> int:
        return self._awaited(lambda: self._vfs.flush(self._vfs.handle(fh)))

    def fsync(self, path: str | None, datasync: int, fh: int) -> int:
        return self._awaited(lambda: self._vfs.fsync(self._vfs.handle(fh)))

    def fallocate(self, path: str | None, mode: int, offset: int, size: int, fh: int) -> int:
        return self._awaited(lambda: self._vfs.allocate(self._vfs.handle(fh), mode, offset, size))

    def _awaited(self, make: Callable[[], Awaitable[None]]) -> int:
        self._wait(make)
        return 0

    def release(self, path: str | None, fh: int) -> int:
        def release() -> int:
            handle: Handle = self._vfs.handle(fh)
            self._vfs.release(handle)
            return 0

        return self._plain(release)

    def statfs(self, path: str) -> dict[str, int]:
        size, total, free = self._plain(self._vfs.space)
        return {
            "f_bsize": size,
            "f_frsize": size,
            "f_blocks": total,
            "f_bfree": free,
            "f_bavail": free,
            "f_namemax": 255,
        }

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        return self._plain(lambda: self._vfs.extended.get(self._node(path), name))

    def listxattr(self, path: str) -> list[str]:
        return self._plain(lambda: self._vfs.extended.names(self._node(path)))

    def setxattr(self, path: str, name: str, value: bytes, options: int, position: int = 0) -> int:
        return self._awaited(lambda: self._vfs.extended.set(self._node(path), name, value))

    def removexattr(self, path: str, name: str) -> int:
        return self._do(lambda: self._vfs.extended.remove(self._node(path), name))


def _is_given_up() -> bool:
    """Tell whether the program whose request this thread serves wants to stop waiting for it."""
    return bool(mfusepy._libfuse.fuse_interrupted()) and is_to_stop(mfusepy.fuse_get_context()[2])


def _read_in_turn(connection: Any) -> None:
    """Have programs wait for their reads themselves: see ``connection`` on ASYNC_READ."""
    if hasattr(connection, "async_read"):  # libfuse 2
        connection.async_read = 0
    else:
        connection.want &= ~(_ASYNC_READ | _ASYNC_DIO)
