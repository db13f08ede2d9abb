"""A file system in simulated time, as a user's folder is on it, and what a process sees of it.

``Files`` is the file system: inodes with links, permissions and times by the system's coarse clock, numbers that are
given out again. Programs of the simulation call it directly. ``SimulatedSystem`` is what a synchronising process calls
(``folder.system``): it can fail, it is where the process can die, and what it does after its death reaches nobody. It
also holds the promise of the folder: **no bytes of the user are destroyed that are nowhere else.**
"""

from __future__ import annotations

import errno
import heapq
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from virtual_loop import EPOCH_NS, FIRST_MOMENT_S, VirtualLoop

TICK_NS = 4_000_000
"""Two changes within one tick of the system's clock have one time."""

_DEVICE = 7


@dataclass(slots=True, eq=False)
class Inode:
    """A file, with its bytes in a real file, or a directory, with its names."""

    number: int
    mode: int
    mtime_ns: int
    ctime_ns: int
    bytes_at: Path | None
    names: dict[str, Inode]
    links: int = 0
    openers: int = 0
    is_download: bool = False
    """Whether the bytes are a download's, which no user has written."""

    @property
    def is_directory(self) -> bool:
        return self.bytes_at is None

    def read(self) -> bytes:
        """Return a file's bytes; nothing for a directory."""
        return self.bytes_at.read_bytes() if self.bytes_at is not None else b""


@dataclass(frozen=True, slots=True)
class Happening:
    """A change as the system tells of it.

    :param target: where something was moved; else empty.
    """

    place: str
    is_directory: bool
    is_new: bool = False
    target: str = ""


class Files:
    """The file system. Plain calls: each is done at once; errors as POSIX has them. Places as in ``folder.disk``."""

    def __init__(self, loop: VirtualLoop, directory: Path, *, reuses_numbers: bool) -> None:
        self._loop = loop
        self._directory = directory
        self._reuses_numbers = reuses_numbers
        self._free: list[int] = []
        self._last = 1
        self._stored = 0
        self.tell: Callable[[Happening], None] = lambda happening: None
        directory.mkdir()
        self.root = Inode(1, 0o755, self._now(), self._now(), None, {}, links=1)

    def _now(self) -> int:
        now_ns = EPOCH_NS + int((self._loop.time() - FIRST_MOMENT_S) * 1e9)
        return now_ns // TICK_NS * TICK_NS

    def ghost(self) -> Files:
        """Return a copy in which the dead may go on."""
        copy = object.__new__(Files)
        copy.__dict__.update(self.__dict__)
        known: dict[Inode, Inode] = {}

        def copied(inode: Inode) -> Inode:
            if inode not in known:
                twin = Inode(inode.number, inode.mode, inode.mtime_ns, inode.ctime_ns, inode.bytes_at, {}, inode.links)
                known[inode] = twin
                twin.names = {name: copied(child) for name, child in inode.names.items()}
            return known[inode]

        copy._free, copy.root, copy.tell = list(self._free), copied(self.root), lambda happening: None
        copy._stored += 1_000_000  # its new files are nobody else's
        return copy

    # -- looking

    def find(self, place: str) -> Inode:
        """Return what is at a place."""
        inode = self.root
        for name in place.split("/") if place else ():
            if not inode.is_directory:
                raise _error(errno.ENOTDIR, place)
            found = inode.names.get(name)
            if found is None:
                raise _error(errno.ENOENT, place)
            inode = found
        return inode

    def _above(self, place: str) -> tuple[Inode, str]:
        above, _, name = place.rpartition("/")
        directory = self.find(above)
        if not directory.is_directory:
            raise _error(errno.ENOTDIR, place)
        return directory, name

    def status(self, inode: Inode) -> os.stat_result:
        """Return what ``stat`` tells."""
        kind = stat.S_IFDIR if inode.is_directory else stat.S_IFREG
        size = 0 if inode.bytes_at is None else os.stat(inode.bytes_at).st_size
        times = (inode.mtime_ns // 10**9, inode.mtime_ns // 10**9, inode.ctime_ns // 10**9)
        plain = (kind | inode.mode, inode.number, _DEVICE, inode.links, 0, 0, size, *times)
        return os.stat_result(plain, {"st_mtime_ns": inode.mtime_ns, "st_ctime_ns": inode.ctime_ns})

    def tree(self) -> dict[str, bytes | None]:
        """Return everything but what jobfs keeps in the root: path to bytes, None for directories."""
        found: dict[str, bytes | None] = {}
        pending = [(f"{name}", inode) for name, inode in self.root.names.items() if name != ".jobfs"]
        while pending:
            place, inode = pending.pop()
            found[place] = None if inode.is_directory else inode.read()
            pending += [(f"{place}/{name}", child) for name, child in inode.names.items()]
        return found

    # -- changing

    def create(self, place: str, mode: int) -> Inode:
        """Make an empty file."""
        directory, name = self._above(place)
        if name in directory.names:
            raise _error(errno.EEXIST, place)
        self._stored += 1
        at = self._directory / f"{self._stored}"
        at.touch()
        inode = self._new(mode, at)
        self._enter(directory, name, inode)
        self.tell(Happening(place, False, is_new=True))
        return inode

    def mkdir(self, place: str) -> None:
        """Make a directory."""
        directory, name = self._above(place)
        if name in directory.names:
            raise _error(errno.EEXIST, place)
        self._enter(directory, name, self._new(0o755, None))
        self.tell(Happening(place, True, is_new=True))

    def write(self, inode: Inode, data: bytes, at: int, place: str) -> None:
        """Write into an open file.

        :param place: where it was opened, of which the system will tell.
        """
        assert inode.bytes_at is not None
        with inode.bytes_at.open("r+b") as file:
            file.seek(at)
            file.write(data)
        self._touch(inode, place)

    def truncate(self, inode: Inode, place: str) -> None:
        """Empty an open file."""
        assert inode.bytes_at is not None
        os.truncate(inode.bytes_at, 0)
        self._touch(inode, place)

    def _touch(self, inode: Inode, place: str) -> None:
        inode.mtime_ns = inode.ctime_ns = self._now()
        inode.is_download = False
        self.tell(Happening(place, False))

    def link(self, source: str, target: str) -> None:
        """Give a file a second name."""
        inode = self.find(source)
        directory, name = self._above(target)
        if inode.is_directory:
            raise _error(errno.EPERM, source)
        if name in directory.names:
            raise _error(errno.EEXIST, target)
        self._enter(directory, name, inode)
        inode.ctime_ns = self._now()
        self.tell(Happening(target, False, is_new=True))

    def rename(self, source: str, target: str) -> Inode | None:
        """Move something, over a file or an empty directory where there is one; return what is no more."""
        inode, (old, old_name), (new, new_name) = self.find(source), self._above(source), self._above(target)
        there = new.names.get(new_name)
        if there is inode:
            return None
        if inode.is_directory and (target + "/").startswith(source + "/"):
            raise _error(errno.EINVAL, target)
        if there is not None:
            self._check_replaceable(there, inode, target)
            self._leave(new, new_name, there)
        del old.names[old_name]
        inode.links -= 1
        self._enter(new, new_name, inode)
        old.mtime_ns = old.ctime_ns = inode.ctime_ns = self._now()
        self.tell(Happening(source, inode.is_directory, target=target))
        return there

    @staticmethod
    def _check_replaceable(there: Inode, inode: Inode, target: str) -> None:
        if there.is_directory and not inode.is_directory:
            raise _error(errno.EISDIR, target)
        if inode.is_directory and not there.is_directory:
            raise _error(errno.ENOTDIR, target)
        if there.names:
            raise _error(errno.ENOTEMPTY, target)

    def unlink(self, place: str) -> Inode:
        """Remove a file; return it."""
        inode = self.find(place)
        if inode.is_directory:
            raise _error(errno.EISDIR, place)
        self._leave(*self._above(place), inode)
        self.tell(Happening(place, False))
        return inode

    def rmdir(self, place: str) -> None:
        """Remove an empty directory."""
        inode = self.find(place)
        if not inode.is_directory:
            raise _error(errno.ENOTDIR, place)
        if inode.names:
            raise _error(errno.ENOTEMPTY, place)
        self._leave(*self._above(place), inode)
        self.tell(Happening(place, True))

    def chmod(self, place: str, mode: int) -> None:
        """Set permission bits."""
        inode = self.find(place)
        inode.mode, inode.ctime_ns = mode, self._now()
        self.tell(Happening(place, inode.is_directory))

    def utime(self, place: str, mtime_ns: int) -> None:
        """Set the time of the last change."""
        inode = self.find(place)
        inode.mtime_ns, inode.ctime_ns = mtime_ns, self._now()
        self.tell(Happening(place, inode.is_directory))

    def close(self, inode: Inode) -> None:
        """Note that one program fewer has a file open; what has neither name nor opener is gone."""
        inode.openers -= 1
        self._free_number(inode)

    def _new(self, mode: int, at: Path | None) -> Inode:
        if self._free and self._reuses_numbers:
            number = heapq.heappop(self._free)
        else:
            number = self._last = self._last + 1
        return Inode(number, mode, self._now(), self._now(), at, {})

    def _enter(self, directory: Inode, name: str, inode: Inode) -> None:
        directory.names[name] = inode
        inode.links += 1
        directory.mtime_ns = directory.ctime_ns = self._now()

    def _leave(self, directory: Inode, name: str, inode: Inode) -> None:
        del directory.names[name]
        inode.links -= 1
        inode.ctime_ns = directory.mtime_ns = directory.ctime_ns = self._now()
        self._free_number(inode)

    def _free_number(self, inode: Inode) -> None:
        if not inode.links and not inode.openers:
            heapq.heappush(self._free, inode.number)


@dataclass(slots=True)
class DiskWeather:
    """How bad a disk is, as probabilities for each call.

    :param broken: a call fails with EIO. :param full: one that needs room fails with ENOSPC.
    """

    broken: float = 0.0
    full: float = 0.0

    def clear(self) -> None:
        """Let the faults stop."""
        self.broken = self.full = 0.0


@dataclass(frozen=True, slots=True)
class _Found:
    """Of ``os.DirEntry`` what ``folder.disk`` uses."""

    name: str
    path: str
    status: os.stat_result

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return self.status


class SimulatedSystem:
    """One process's view of the file system. Satisfies ``folder.system.System``.

    :param root: the path under which the process knows the folder. :param on_step: called before each change: the
        process may die there. :param is_kept: tells whether bytes are on the server or in a history. :param on_loss:
        told what was destroyed though it was nowhere else.
    """

    def __init__(
        self,
        files: Files,
        root: Path,
        weather: DiskWeather,
        *,
        throw: Callable[[float], bool],
        on_step: Callable[[], None],
        is_kept: Callable[[bytes], bool],
        on_loss: Callable[[str, bytes], None],
    ) -> None:
        self._files = files
        self._is_alive = True
        self._root = str(root)
        self.weather = weather
        self._throw = throw
        self._on_step = on_step
        self._is_kept = is_kept
        self._on_loss = on_loss
        self._open: dict[int, Inode] = {}

    def die(self) -> None:
        """Let nothing that is done from now on have any effect."""
        self._files = self._files.ghost()
        self._is_alive = False

    def _place(self, path: str, *, needs_room: bool = False) -> str:
        place = path[len(self._root) + 1 :].replace(os.sep, "/")
        self._may_fail(place, needs_room=needs_room)
        return place

    def _may_fail(self, place: str, *, needs_room: bool = False) -> None:
        if place.startswith(".jobfs"):
            return
        if self._throw(self.weather.broken):
            raise _error(errno.EIO, place)
        if needs_room and self._throw(self.weather.full):
            raise _error(errno.ENOSPC, place)

    def _lost(self, place: str, inode: Inode | None) -> None:
        """Note what has lost its last name."""
        if inode is None or inode.links or inode.is_directory or inode.is_download or not self._is_alive:
            return
        data = inode.read()
        if data and not self._is_kept(data):
            self._on_loss(place, data)

    # -- the system's calls

    def stat(self, path: str) -> os.stat_result:
        return self._files.status(self._files.find(self._place(path)))

    lstat = stat

    def fstat(self, descriptor: int) -> os.stat_result:
        return self._files.status(self._open[descriptor])

    @contextmanager
    def _scan(self, path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        inode = self._files.find(self._place(path))
        if not inode.is_directory:
            raise _error(errno.ENOTDIR, path)
        found = [_Found(name, f"{path}/{name}", self._files.status(child)) for name, child in inode.names.items()]
        yield cast("Iterator[os.DirEntry[str]]", iter(found))

    def scandir(self, path: str) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        return self._scan(path)

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        place = self._place(path, needs_room=bool(flags & os.O_CREAT))
        if flags & os.O_CREAT:
            self._on_step()
        try:
            inode = self._files.find(place)
            if flags & os.O_EXCL:
                raise _error(errno.EEXIST, place)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
            inode = self._files.create(place, mode & ~0o022)
            inode.is_download = True
        kept = flags & (os.O_RDWR | os.O_WRONLY | os.O_TRUNC)
        descriptor = os.open(inode.bytes_at or "/", os.O_RDONLY if inode.is_directory else kept | os.O_CLOEXEC)
        self._open[descriptor] = inode
        return descriptor

    def fsync(self, descriptor: int) -> None:
        self._may_fail("", needs_room=True)

    def link(self, source: str, target: str, *, follow_symlinks: bool) -> None:
        places = self._place(source), self._place(target, needs_room=True)
        self._on_step()
        self._files.link(*places)

    def rename(self, source: str, target: str) -> None:
        places = self._place(source), self._place(target, needs_room=True)
        self._on_step()
        self._lost(places[1], self._files.rename(*places))

    replace = rename

    def unlink(self, path: str) -> None:
        place = self._place(path)
        self._on_step()
        self._lost(place, self._files.unlink(place))

    def mkdir(self, path: str) -> None:
        place = self._place(path, needs_room=True)
        self._on_step()
        self._files.mkdir(place)

    def rmdir(self, path: str) -> None:
        place = self._place(path)
        self._on_step()
        self._files.rmdir(place)

    def chmod(self, path: str, mode: int) -> None:
        place = self._place(path)
        self._on_step()
        self._files.chmod(place, mode)

    def utime(self, path: str, *, ns: tuple[int, int]) -> None:
        place = self._place(path)
        self._on_step()
        self._files.utime(place, ns[1])


def _error(number: int, place: str) -> OSError:
    return OSError(number, os.strerror(number), place)
