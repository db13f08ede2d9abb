"""Contents as local files: ``blobs/XX/NNNN``, one file a content, named by number.

A blob is written by one owner (a download, or the one file node that names it) and is *pinned* while something reads
it that must not see it change: an upload, a hash, a copy. Writers copy a pinned blob first.

**Invariant: a blob file that no row names is garbage and is removed at the next start; a row never names a blob file
that was not there before the row was committed.**

**Invariant: the file of a removed blob goes once no power cut can bring back a row that names it.** A commit is on the
disk later than it is made, and one that failed may be there all the same; a file that is gone may be gone at once. So
removed blobs wait, and ``State`` says when they go.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import logging
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from jobfs.errors import StateError, StateFull
from jobfs.model import BlobId
from jobfs.store.system import System

_CHUNK = 1 << 20
_FAN_OUT = 256
_FICLONE = 0x40049409
"""The ioctl by which two files of Linux come to share their bytes until one of them changes (ioctl_ficlone(2))."""

_log = logging.getLogger(__name__)


class Blobs:
    """The blob files of one store.

    :param root: the directory; made where it is missing.
    :param system: what is asked of the operating system.
    :raises StateFull: from every method that writes, where the disk is full.
    :raises StateError: from every method that reads or writes bytes, where the disk fails.
    """

    def __init__(self, root: Path, system: System = os) -> None:
        self.system = system
        self._root = root
        self._folder = f"{root}{os.sep}"
        self._pins: Counter[BlobId] = Counter()
        self._condemned: set[BlobId] = set()
        self._waiting: set[BlobId] = set()
        self.is_in_doubt = False
        """Whether a commit that failed may be on the disk all the same."""
        self.on_waiting: Callable[[], None] = lambda: None
        """Told that a removed blob waits for its end."""
        self._clones = sys.platform == "linux"
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.scandir(root) as found:
            self._parts = {part.name for part in found if part.is_dir()}
        self._next = max((number for number, _ in self._files()), default=0) + 1

    def _files(self) -> Iterator[tuple[int, Path]]:
        for part in sorted(self._parts):
            with os.scandir(self._root / part) as found:
                for file in found:
                    if file.name.isdecimal():
                        yield int(file.name), Path(file.path)

    def path(self, blob: BlobId) -> Path:
        """Return where a blob's bytes are."""
        return Path(self._file(blob))

    def _file(self, blob: BlobId) -> str:
        """Return the same as text: a path object takes ten times as long to make, and a new file needs several."""
        return f"{self._folder}{blob % _FAN_OUT:02x}{os.sep}{blob}"

    def _place(self, blob: BlobId) -> str:
        """Return where a new blob goes; its directory is there."""
        part = f"{blob % _FAN_OUT:02x}"
        if part not in self._parts:
            with suppress(FileExistsError):
                self.system.mkdir(f"{self._folder}{part}", 0o700)
            self._parts.add(part)
        return self._file(blob)

    def free_bytes(self) -> int:
        """Return how much room the disk has left; where the system does not tell, all that there could be."""
        if sys.platform != "win32" and not hasattr(os, "statvfs"):
            return sys.maxsize
        return shutil.disk_usage(self._root).free

    def allocate(self) -> BlobId:
        """Return a number that no blob has had since the store was opened. Makes no file."""
        blob = BlobId(self._next)
        self._next += 1
        return blob

    def open(self, blob: BlobId, *, create: bool = False) -> int:
        """Open a blob for reading and writing and return the descriptor."""
        flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        with disk_errors():
            if not create:
                return self.system.open(self._file(blob), flags)
            return self.system.open(self._place(blob), flags | os.O_CREAT | os.O_EXCL, 0o600)

    def _reader(self, blob: BlobId) -> FileIO:
        """Open a blob as a file that is closed after a block."""
        return os.fdopen(self.open(blob), "rb", buffering=0)

    def _writer(self, blob: BlobId) -> FileIO:
        """Make a blob and open it likewise; what is written goes through the seam, to its descriptor."""
        return os.fdopen(self.open(blob, create=True), "r+b", buffering=0)

    def sync(self, blob: BlobId) -> None:
        """Wait until the disk has a blob."""
        with self._reader(blob) as file, disk_errors():
            self.system.fsync(file.fileno())

    def sync_name(self, blob: BlobId) -> None:
        """Wait until the disk has the name of a blob."""
        with disk_errors():
            descriptor = os.open(self.path(blob).parent, os.O_RDONLY)
            try:
                self.system.fsync(descriptor)
            finally:
                os.close(descriptor)

    def size(self, blob: BlobId) -> int:
        """Return a blob's length in bytes; ``FileNotFoundError`` where it is gone."""
        with disk_errors():
            return self.system.stat(self._file(blob)).st_size

    def has(self, blob: BlobId) -> bool:
        """Tell whether the bytes are there."""
        return self.path(blob).exists()

    def clone(self, blob: BlobId) -> BlobId | None:
        """Make a blob that shares its bytes with another one until either changes, in no time and without room.

        :return: None where the file system cannot do that.
        """
        if not self._clones:
            return None
        target = self.allocate()
        with self._whole(target), self._reader(blob) as source, self._writer(target) as sink:
            try:
                importlib.import_module("fcntl").ioctl(sink.fileno(), _FICLONE, source.fileno())
            except ImportError:
                self._clones = False
            except OSError as error:
                if error.errno in FULL:
                    raise
                self._clones = False
        if not self._clones:
            self._unlink(target)
            return None
        return target

    def copy(self, blob: BlobId) -> BlobId:
        """Copy a blob and return the copy's number. Blocks for the length of the copy; holes stay holes."""
        cloned = self.clone(blob)
        if cloned is not None:
            return cloned
        target = self.allocate()
        with self._whole(target), self._reader(blob) as source, self._writer(target) as sink:
            _copy_sparse(self.system, source.fileno(), sink.fileno())
        return target

    @contextmanager
    def _whole(self, target: BlobId) -> Iterator[None]:
        """Leave nothing of a blob that could not be made whole."""
        with self.unless_failed(target), disk_errors():
            yield

    @contextmanager
    def unless_failed(self, blob: BlobId | None) -> Iterator[None]:
        """Remove a blob where the block fails that is to give it to somebody, such as a transaction with its row.

        The next start would, but on a full disk it takes the last room until then, and each new try leaves another. See
        ``discard`` for where it waits.
        """
        try:
            yield
        except BaseException:
            if blob is not None:
                self.discard(blob)
            raise

    def import_file(self, source: FileIO) -> tuple[BlobId, str, int]:
        """Copy the rest of an open file into a new blob; return its number, SHA-256 and size in bytes. Blocks."""
        target = self.allocate()
        digest = hashlib.sha256()
        size = 0
        with self._whole(target), self._writer(target) as sink:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                write_all(self.system, sink.fileno(), chunk)
                size += len(chunk)
        return target, digest.hexdigest(), size

    def adopt(self, give_name: Callable[[str], bool]) -> BlobId | None:
        """Take an outside file for a blob that is about to lose its own name; None where that cannot be.

        Who has it open still, and writes on, writes into the blob.

        :param give_name: gives the file a second name, or says that it cannot.
        """
        target = self.allocate()
        try:
            place = self._place(target)
        except OSError:
            return None
        return target if give_name(place) and self.has(target) else None

    def read(self, blob: BlobId) -> bytes:
        """Return all bytes of a small blob."""
        descriptor = self.open(blob)
        try:
            with disk_errors():
                return os.read(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)

    def sha256(self, blob: BlobId) -> str:
        """Return the SHA-256 of a blob, lower-case hex. Blocks; run it in a thread for large blobs."""
        with self._reader(blob) as reader, disk_errors():
            if os.fstat(reader.fileno()).st_size <= _CHUNK:
                return hashlib.sha256(reader.read()).hexdigest()
            return hashlib.file_digest(reader, "sha256").hexdigest()

    def pinned(self, blob: BlobId) -> Pin:
        """Keep a blob as it is for the length of a block: writers copy it, removals wait."""
        return Pin(self, blob)

    def pin(self, blob: BlobId) -> None:
        """Keep a blob as it is until ``unpin``, which is called as often; better is ``pinned``."""
        self._pins[blob] += 1

    def unpin(self, blob: BlobId) -> None:
        """Let a blob go."""
        self._pins[blob] -= 1
        if not self._pins[blob]:
            del self._pins[blob]
            if blob in self._condemned:
                self._condemned.discard(blob)
                self._wait(blob)

    def is_pinned(self, blob: BlobId) -> bool:
        """Tell whether somebody reads this blob as it is."""
        return blob in self._pins

    def remove(self, blob: BlobId) -> None:
        """Have a blob's file go, after the last pin, with the next ``finish_removals``.

        Descriptors that are open on it keep working.
        """
        if self.is_pinned(blob):
            self._condemned.add(blob)
        else:
            self._wait(blob)

    def discard(self, blob: BlobId) -> None:
        """Remove a blob that no row came to name: at once, unless that is in doubt."""
        if self.is_pinned(blob) or self.is_in_doubt:
            self.remove(blob)
        else:
            self._unlink(blob)

    def _wait(self, blob: BlobId) -> None:
        self._waiting.add(blob)
        self.on_waiting()

    @property
    def has_waiting(self) -> bool:
        """Whether a removed blob waits for its end."""
        return bool(self._waiting)

    def waiting_bytes(self) -> int:
        """Return how much room the end of removed blobs will free."""
        freed = 0
        for blob in self._waiting:
            with suppress(FileNotFoundError):
                freed += self.size(blob)
        return freed

    def finish_removals(self) -> None:
        """Let the files of removed blobs go: the disk has whatever forgot them."""
        while self._waiting:
            self._unlink(self._waiting.pop())

    def _unlink(self, blob: BlobId) -> None:
        """Remove a file; nobody fails for one that stays: no row names it, and the next start removes it."""
        try:
            self.system.unlink(self._file(blob))
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.info("blob %d could not be removed, and is at the next start: %s", blob, error)

    def sweep(self, named: Collection[BlobId]) -> int:
        """Remove every blob file that no row names; return how many. Only at start, before anything is opened."""
        removed = 0
        for number, _ in list(self._files()):
            if BlobId(number) not in named:
                self._unlink(BlobId(number))
                removed += 1
        return removed


class Pin:
    """A block during which a blob stays as it is. A class: a generator takes thrice as long to enter and leave."""

    __slots__ = ("_blob", "_blobs")

    def __init__(self, blobs: Blobs, blob: BlobId) -> None:
        self._blobs = blobs
        self._blob = blob

    def __enter__(self) -> None:
        self._blobs.pin(self._blob)

    def __exit__(self, *_: object) -> None:
        self._blobs.unpin(self._blob)


def write_all(system: System, descriptor: int, data: bytes | memoryview) -> None:
    """Write where a descriptor stands, until all is written."""
    view = memoryview(data)
    while view:
        view = view[system.write(descriptor, view) :]


def _copy_sparse(system: System, source: int, sink: int) -> None:
    size = os.fstat(source).st_size
    system.ftruncate(sink, size)
    at = 0
    while at < size:
        try:
            start = os.lseek(source, at, os.SEEK_DATA) if hasattr(os, "SEEK_DATA") else at
            end = os.lseek(source, start, os.SEEK_HOLE) if hasattr(os, "SEEK_HOLE") else size
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        os.lseek(source, start, os.SEEK_SET)
        os.lseek(sink, start, os.SEEK_SET)
        left = end - start
        while left > 0:
            chunk = os.read(source, min(left, _CHUNK))
            if not chunk:
                return
            write_all(system, sink, chunk)
            left -= len(chunk)
        at = end


FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""How the operating system says that a disk is full."""

_FAILED = frozenset({errno.EIO, errno.EROFS})
"""How it says that one does not work."""


class _DiskErrors:
    """See ``disk_errors``. A class: a generator takes thrice as long to enter and leave."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError):
            return
        if error.errno in FULL:
            raise StateFull(
                "no space left for the local store", "free some disk space; nothing that was saved is lost"
            ) from error
        if error.errno in _FAILED:
            raise StateError(f"the local disk fails: {error.strerror}", "look after the disk") from error


_DISK_ERRORS = _DiskErrors()


def disk_errors() -> _DiskErrors:
    """Turn "no space left" of the operating system into ``StateFull``, and that the disk fails into ``StateError``."""
    return _DISK_ERRORS
