"""Contents as local files: ``blobs/XX/NNNN``, one file a content, named by number.

A blob is written by one owner (a download, or the one file node that names it) and is *pinned* while something reads
it that must not see it change: an upload, a hash, a copy. Writers copy a pinned blob first.

**Invariant: a blob file that no row names is garbage and is removed at the next start; a row never names a blob file
that was not there before the row was committed.**
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from jobfs.errors import StateFull
from jobfs.model import BlobId

_CHUNK = 1 << 20
_FAN_OUT = 256
_FICLONE = 0x40049409
"""The ioctl by which two files of Linux come to share their bytes until one of them changes (ioctl_ficlone(2))."""


class Blobs:
    """The blob files of one store.

    :param root: the directory; made where it is missing.
    :raises StateFull: from every method that writes, where the disk is full.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = f"{root}{os.sep}"
        self._pins: Counter[BlobId] = Counter()
        self._condemned: set[BlobId] = set()
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
            (self._root / part).mkdir(exist_ok=True, mode=0o700)
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
        if not create:
            return os.open(self._file(blob), flags)
        with full_disk():
            return os.open(self._place(blob), flags | os.O_CREAT | os.O_EXCL, 0o600)

    def size(self, blob: BlobId) -> int:
        """Return a blob's length in bytes; ``FileNotFoundError`` where it is gone."""
        return os.stat(self._file(blob)).st_size  # noqa: PTH116

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
        with self._whole(target), self.path(blob).open("rb") as source, Path(self._place(target)).open("xb") as sink:
            try:
                importlib.import_module("fcntl").ioctl(sink.fileno(), _FICLONE, source.fileno())
            except ImportError:
                self._clones = False
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                self._clones = False
        if not self._clones:
            self.path(target).unlink()
            return None
        return target

    def copy(self, blob: BlobId) -> BlobId:
        """Copy a blob and return the copy's number. Blocks for the length of the copy; holes stay holes."""
        cloned = self.clone(blob)
        if cloned is not None:
            return cloned
        target = self.allocate()
        with self._whole(target), self.path(blob).open("rb") as source, Path(self._place(target)).open("xb") as sink:
            _copy_sparse(source.fileno(), sink.fileno())
        return target

    @contextmanager
    def _whole(self, target: BlobId) -> Iterator[None]:
        """Leave nothing of a blob that could not be made whole: on a full disk its part would take the last room."""
        try:
            with full_disk():
                yield
        except BaseException:
            self.path(target).unlink(missing_ok=True)
            raise

    def import_file(self, source: FileIO) -> tuple[BlobId, str, int]:
        """Copy the rest of an open file into a new blob; return its number, SHA-256 and size in bytes. Blocks."""
        target = self.allocate()
        digest = hashlib.sha256()
        size = 0
        with self._whole(target), Path(self._place(target)).open("xb") as sink:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                sink.write(chunk)
                size += len(chunk)
        return target, digest.hexdigest(), size

    def adopt(self, give_name: Callable[[str], bool]) -> BlobId | None:
        """Take an outside file for a blob that is about to lose its own name; None where that cannot be.

        Who has it open still, and writes on, writes into the blob.

        :param give_name: gives the file a second name, or says that it cannot.
        """
        target = self.allocate()
        return target if give_name(self._place(target)) and self.has(target) else None

    def read(self, blob: BlobId) -> bytes:
        """Return all bytes of a small blob."""
        descriptor = self.open(blob)
        try:
            size = os.fstat(descriptor).st_size
            return os.read(descriptor, size)
        finally:
            os.close(descriptor)

    def sha256(self, blob: BlobId) -> str:
        """Return the SHA-256 of a blob, lower-case hex. Blocks; run it in a thread for large blobs."""
        with open(self._file(blob), "rb", buffering=0) as reader:  # noqa: PTH123
            if os.fstat(reader.fileno()).st_size <= _CHUNK:
                return hashlib.sha256(reader.readall()).hexdigest()
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
                self._unlink(blob)

    def is_pinned(self, blob: BlobId) -> bool:
        """Tell whether somebody reads this blob as it is."""
        return blob in self._pins

    def remove(self, blob: BlobId) -> None:
        """Remove a blob's file, after the last pin. Descriptors that are open on it keep working."""
        if self.is_pinned(blob):
            self._condemned.add(blob)
        else:
            self._unlink(blob)

    def _unlink(self, blob: BlobId) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._file(blob))  # noqa: PTH108

    def sweep(self, named: Collection[BlobId]) -> int:
        """Remove every blob file that no row names; return how many. Only at start, before anything is opened."""
        removed = 0
        for number, file in list(self._files()):
            if BlobId(number) not in named:
                file.unlink(missing_ok=True)
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


def _copy_sparse(source: int, sink: int) -> None:
    size = os.fstat(source).st_size
    os.ftruncate(sink, size)
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
            view = memoryview(chunk)
            while view:
                view = view[os.write(sink, view) :]
            left -= len(chunk)
        at = end


@contextmanager
def full_disk() -> Iterator[None]:
    """Turn "no space left" of the operating system into ``StateFull``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StateFull(
                "no space left for the local store", "free some disk space; nothing that was saved is lost"
            ) from error
        raise
