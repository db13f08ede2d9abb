"""The real folder: look at it, and change it without ever overwriting what was not looked at.

The only module of folder mode that touches the user's files, and portable: nothing here exists on one system only. A
*place* is a path from the folder's root with slashes, "" being the root itself. Nothing here knows the trees; all
methods block for as long as the disk takes and may be called from any thread.

**Invariant: nothing outside of the root is read or changed.** Symbolic links and junctions are never followed, and what
lies below one is not there (``is_real``).
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import stat
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from jobfs.folder.names import folded, why_not_on_windows
from jobfs.folder.system import System
from jobfs.model import Kind, LocalNode, Trouble
from jobfs.planner.naming import OWN_FOLDER

_CHUNK = 1 << 20
_SMALL_BYTES = 1 << 16
"""Up to here a file is hashed in one piece: the buffer for more takes half as long again as all the rest."""

_PLAIN = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_IS_WINDOWS = os.name == "nt"
_INODE_BITS = (1 << 63) - 1  # what SQLite's integers hold
_MOUNT_POINT_TAG = 0xA0000003  # a Windows junction
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
_MISSING = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at a place told.

    :param kind: None for devices and whatever else has no name in jobfs.
    :param changed_ns: the later of the last change of the bytes and, where the system knows it, of the record.
    """

    kind: Kind | None
    size: int
    mtime_ns: int
    inode: int
    mode: int
    changed_ns: int

    def is_same_file(self, other: Seen | LocalNode) -> bool:
        """Tell whether this is the same file, wherever it is: inode, size and time of change (design, section 8)."""
        size = other.size if isinstance(other, Seen) else (other.content.size if other.content is not None else 0)
        return (self.inode, self.mtime_ns, self.size) == (other.inode, other.mtime_ns, size)

    def is_untouched(self, record: LocalNode) -> bool:
        """Tell whether a file is as it was when it was recorded: nothing was done to it at all.

        The time of the last change of the record counts as well, where the system has one: it is what a program cannot
        set back after it has written as many bytes as were there. So does the mode, since two changes within one tick
        of the system's clock have one time. In doubt the file is hashed.
        """
        return self.is_same_file(record) and (self.changed_ns, self.mode) == (record.ctime_ns, record.mode)


@dataclass(slots=True)
class Listed:
    """One directory as a walk found it.

    :param odd: names that cannot be kept in step, with the reason; never to be taken for missing.
    :param error: why the directory could not be read; then nothing is known about what is in it.
    :param is_gone: it vanished before it could be read; whoever looks at its own place finds out.
    """

    place: str
    entries: dict[str, Seen] = field(default_factory=dict)
    odd: dict[str, tuple[Trouble, str]] = field(default_factory=dict)
    error: str = ""
    is_gone: bool = False


PROBE = f"{OWN_FOLDER}/probe-\N{LATIN SMALL LETTER E WITH ACUTE}"
"""The file that tells whether names which are composed differently are one."""


class Disk:
    """A folder on the local disk.

    :param root: an absolute path; the directory need not exist yet.
    :param system: what it is asked of.

    ``folds_names`` tells whether this file system takes names for one that differ in case, or in how their characters
    are composed (``learn_folding``).
    """

    def __init__(self, root: Path, system: System = os) -> None:
        self.root = root
        self._system = system
        self.folds_names = False
        self._prefix = f"{root}{os.sep}"

    def path(self, place: str) -> Path:
        """Return where a place is."""
        return self.root / place if place else self.root

    def _at(self, place: str) -> str:
        return str(self.path(place))

    # -- looking

    def identity(self) -> str | None:
        """Return what this directory is to the system, whatever is in it; None where there is none."""
        try:
            found = self._system.stat(self._at(""))
        except OSError:
            return None
        return f"{found.st_dev}:{found.st_ino}" if stat.S_ISDIR(found.st_mode) else None

    def look(self, place: str) -> Seen | None:
        """Return what is at a place, without following a link there; None where there is nothing.

        :raises OSError: it cannot be told.
        """
        try:
            return _seen(self._system.lstat(self._prefix + place))  # no Path: thousands of looks are one scan
        except _MISSING:
            return None

    def look_at(self, descriptor: int) -> Seen:
        """Return a look at an open file."""
        return _seen(self._system.fstat(descriptor))

    def is_real(self, place: str) -> bool:
        """Tell whether a directory and all above it, up to the root, are directories and no links."""
        while place:
            seen = self.look(place)
            if seen is None or seen.kind is not Kind.DIRECTORY:
                return False
            place = place.rpartition("/")[0]
        return True

    def names(self, place: str) -> set[str]:
        """Return the names in a directory; empty where it cannot be read."""
        try:
            with self._system.scandir(self._at(place)) as found:
                return {entry.name for entry in found}
        except OSError:
            return set()

    def walk(self, top: str, is_ignored: Callable[[str, bool], bool]) -> Iterator[Listed]:
        """Yield a directory and every one below it, each before what is in it. Ignored places are passed over."""
        pending = [top]
        while pending:
            listed = self._list(pending.pop(), is_ignored)
            yield listed
            prefix = f"{listed.place}/" if listed.place else ""
            pending += [prefix + name for name, seen in listed.entries.items() if seen.kind is Kind.DIRECTORY]

    def _list(self, place: str, is_ignored: Callable[[str, bool], bool]) -> Listed:
        listed = Listed(place)
        prefix = f"{place}/" if place else ""
        try:
            with self._system.scandir(self._at(place)) as found:
                for entry in found:
                    self._take(listed, entry, prefix + entry.name, is_ignored)
        except _MISSING:
            listed.is_gone = True
        except OSError as error:
            listed.error = reason_of(error)
        return listed

    def _take(
        self, listed: Listed, entry: os.DirEntry[str], place: str, is_ignored: Callable[[str, bool], bool]
    ) -> None:
        try:
            # Windows fills in no inode numbers while listing.
            seen = _seen(self._system.lstat(entry.path) if _IS_WINDOWS else entry.stat(follow_symlinks=False))
        except FileNotFoundError:
            return
        if is_ignored(place, seen.kind is Kind.DIRECTORY):
            return
        trouble = trouble_of(entry.name, seen)
        if trouble is None:
            listed.entries[entry.name] = seen
        else:
            listed.odd[entry.name] = trouble

    def open(self, place: str) -> io.FileIO:
        """Open a file to read it."""
        return io.FileIO(self._system.open(self._at(place), os.O_RDONLY | _PLAIN), "rb")

    def read(self, place: str) -> bytes:
        """Return the bytes of a small file."""
        with self.open(place) as reader:
            return reader.read()

    def digest(self, place: str) -> tuple[Seen, str] | None:
        """Return a file's SHA-256 with the look that it belongs to; None where it changed meanwhile or is no file.

        :raises OSError: it cannot be read.
        """
        before = self.look(place)
        if before is None or before.kind is not Kind.FILE:
            return None
        try:
            with self.open(place) as reader:
                if before.size <= _SMALL_BYTES:
                    sha256 = hashlib.sha256(reader.read()).hexdigest()
                else:
                    sha256 = hashlib.file_digest(reader, "sha256").hexdigest()
        except _MISSING:
            return None
        after = self.look(place)
        return (before, sha256) if after is not None and after.is_same_file(before) else None

    def learn_folding(self) -> None:
        """Find out whether names that differ in case or composition are one here. Needs the control directory."""
        if self.look(OWN_FOLDER) is None:
            return
        self.folds_names = self.look(OWN_FOLDER.upper()) is not None or self._composes_names()

    def _composes_names(self) -> bool:
        """Look for a file of ours under another form of its name. It stays: a folder in step is not written."""
        with suppress(OSError):
            if self.look(PROBE) is None:
                os.close(self._system.open(self._at(PROBE), os.O_WRONLY | os.O_CREAT | _PLAIN, 0o666))
            return self.look(unicodedata.normalize("NFD", PROBE)) is not None
        return False

    def why_not(self, name: str) -> str:
        """Tell why nothing can have a name here; empty where something can."""
        return why_not_on_windows(name) if _IS_WINDOWS else ""

    # -- changing

    def create(self, place: str) -> int:
        """Make a new, empty file with the user's usual mode, and return a descriptor to write it.

        :raises FileExistsError: something is there.
        """
        return self._system.open(self._at(place), os.O_RDWR | os.O_CREAT | os.O_EXCL | _PLAIN, 0o666)

    def write_own(self, place: str, data: bytes) -> None:
        """Give a small file of ours its content, whole or not at all; its directory is made."""
        with suppress(FileExistsError):
            self._system.mkdir(self._at(place.rpartition("/")[0]))
        fresh = self._at(f"{place}.new")
        with os.fdopen(self._system.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _PLAIN, 0o666), "wb") as sink:
            sink.write(data)
        self._system.replace(fresh, self._at(place))

    def sync(self, descriptor: int) -> None:
        """Wait until an open file is on the disk."""
        self._system.fsync(descriptor)

    def put_new(self, source: str, target: str) -> None:
        """Move a file to a place where nothing is; ``FileExistsError``, and nothing done, where something is."""
        if not _IS_WINDOWS and self._link(source, target):
            self._take_name(source, target)
            return
        if not _IS_WINDOWS and self.look(target) is not None:
            raise _taken(self._at(target))
        self._system.rename(self._at(source), self._at(target))  # on Windows this never replaces

    def _take_name(self, source: str, target: str) -> None:
        """Take the first of its two names from a file; where that cannot be, the second one."""
        try:
            self._system.unlink(self._at(source))
        except FileNotFoundError:
            return  # somebody took it away meanwhile
        except OSError:
            self.take_back(source, target)
            raise

    def take_back(self, place: str, second: str) -> None:
        """Take the second of its two names from a file; nothing is done where it has not got both."""
        here, there = self.look(place), self.look(second)
        if here is not None and there is not None and here.inode == there.inode:
            self._system.unlink(self._at(second))

    def put_over(self, source: str, target: str) -> None:
        """Move a file over another one, atomically."""
        if _IS_WINDOWS:
            self._loosen(target)
        self._system.replace(self._at(source), self._at(target))

    def duplicate(self, source: str, target: str) -> None:
        """Make a file's bytes appear at a second place too.

        :raises FileExistsError: something is there.
        """
        if self._link(source, target):
            return
        descriptor = self.create(target)
        with os.fdopen(descriptor, "wb") as sink, self.open(source) as reader:
            shutil.copyfileobj(reader, sink, _CHUNK)
            sink.flush()
            self.sync(sink.fileno())
        found = self._system.lstat(self._at(source))
        self.set_mtime(target, found.st_mtime_ns)
        self.set_mode(target, stat.S_IMODE(found.st_mode))

    def _link(self, source: str, target: str) -> bool:
        """Give a file a second name; False where this file system has no such thing."""
        try:
            self._system.link(self._at(source), self._at(target), follow_symlinks=False)
        except NotImplementedError:
            return False
        except OSError as error:
            if error.errno in _NO_LINKS:
                return False
            raise
        return True

    def lend(self, place: str, outside: str) -> bool:
        """Give a file a second name that is not in this folder; False where that cannot be, or it has two already.

        Under another name of the user's it might change at any time.
        """
        try:
            if self._system.lstat(self._at(place)).st_nlink > 1:
                return False
            self._system.link(self._at(place), outside, follow_symlinks=False)
        except (OSError, NotImplementedError):
            return False  # another disk, a file of somebody else, a file system without links
        return True

    def make_directory(self, place: str) -> None:
        """Make a directory; ``FileExistsError`` where something is."""
        self._system.mkdir(self._at(place))

    def move(self, source: str, target: str, *, is_directory: bool) -> None:
        """Move something to a place where nothing is; ``FileExistsError`` where something is."""
        there, own = self.look(target), self.look(source)
        is_itself = there is not None and own is not None and there.inode == own.inode
        if is_itself and folded(source) == folded(target):
            # Only the spelling differs, and this system sees one name.
            self._system.rename(self._at(source), self._at(target))
        elif there is not None:
            raise _taken(self._at(target))
        elif is_directory:
            self._system.rename(self._at(source), self._at(target))  # never replaces what holds anything
        else:
            self.put_new(source, target)

    def remove_file(self, place: str) -> None:
        """Remove a file."""
        if _IS_WINDOWS:
            self._loosen(place)
        self._system.unlink(self._at(place))

    def remove_directory(self, place: str) -> bool:
        """Remove a directory; False where it is not empty."""
        try:
            self._system.rmdir(self._at(place))
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        return True

    def set_mtime(self, place: str, mtime_ns: int) -> None:
        """Set the time of a file's last change, in nanoseconds since the epoch."""
        self._system.utime(self._at(place), ns=(mtime_ns, mtime_ns))

    def set_mode(self, place: str, mode: int) -> None:
        """Set a file's permission bits, as far as the system has them."""
        self._system.chmod(self._at(place), mode)

    def _loosen(self, place: str) -> None:
        seen = self.look(place)
        if seen is not None and not seen.mode & stat.S_IWUSR:
            self._system.chmod(self._at(place), seen.mode | stat.S_IWUSR)

    def sync_directory(self, place: str) -> None:
        """Wait until the names in a directory are on the disk; where the system cannot, it journals them itself."""
        if _IS_WINDOWS:
            return
        try:
            descriptor = self._system.open(self._at(place), os.O_RDONLY)
        except _MISSING:
            return  # it was moved away; whoever moves it syncs the directories concerned
        try:
            self._system.fsync(descriptor)
        finally:
            os.close(descriptor)


def _taken(path: str) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)


def trouble_of(name: str, seen: Seen) -> tuple[Trouble, str] | None:
    """Tell why something cannot be kept in step at all, or None."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return Trouble.INVALID_NAME, "the name is not UTF-8; rename it"
    if seen.kind is Kind.SYMLINK:
        return Trouble.UNSUPPORTED_KIND, "symbolic links stay here and are not followed; copy the file instead"
    if seen.kind not in (Kind.FILE, Kind.DIRECTORY):
        kind = seen.kind.value if seen.kind is not None else "device"
        return Trouble.UNSUPPORTED_KIND, f"the server cannot hold a {kind}; it stays here only"
    return None


def _seen(found: os.stat_result) -> Seen:
    changed_ns = found.st_mtime_ns if _IS_WINDOWS else max(found.st_mtime_ns, found.st_ctime_ns)
    inode = found.st_ino & _INODE_BITS
    return Seen(_kind(found), found.st_size, found.st_mtime_ns, inode, stat.S_IMODE(found.st_mode) & 0o777, changed_ns)


def _kind(found: os.stat_result) -> Kind | None:
    if getattr(found, "st_reparse_tag", 0) == _MOUNT_POINT_TAG:
        return Kind.SYMLINK
    return _KINDS.get(stat.S_IFMT(found.st_mode))


def reason_of(error: OSError) -> str:
    """Return the system's words for an error, without the path that the caller names anyway."""
    return error.strerror or str(error)


_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
}
