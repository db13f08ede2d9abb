"""Content files of the server: one file for each content, named by its key, never changed after it was written.

Written before the row that names it is committed, deleted after the last row that named it is gone. A process killed in
between leaves a file without a row, which ``sweep`` removes. Nothing here calls fsync: a killed process loses nothing,
a power cut may.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from jobfs.server.ids import IdSource

_FOLDER = 1
"""Leading characters of a key that name its folder: 26 folders, so that none grows huge."""


class ContentWriter:
    """A content on its way in: every byte written is in the file at once.

    A context manager: what was not kept when it ends is discarded.
    """

    def __init__(self, key: str, path: Path) -> None:
        self.key = key
        self.size = 0
        self._path = path
        self._fd = _create(path)
        self._is_kept = False

    def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes. Blocks for the time of a local write."""
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._fd, view) :]
        self.size += len(chunk)

    def keep(self) -> None:
        """Say that a committed row names this content."""
        self._is_kept = True
        self._close()

    def discard(self) -> None:
        """Remove what was written."""
        self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> ContentWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_kept:
            self.discard()


class ContentFolder:
    """All contents of one data folder."""

    def __init__(self, root: Path, new_id: IdSource) -> None:
        self._root = root
        self._new_id = new_id
        root.mkdir(parents=True, exist_ok=True)

    def writer(self) -> ContentWriter:
        """Open a new content."""
        key = self._new_id()
        return ContentWriter(key, self.path(key))

    def path(self, key: str) -> Path:
        """Return where a content lies."""
        return self._root / key[:_FOLDER] / key

    def delete(self, key: str) -> None:
        """Remove a content; one that is being read stays readable to its reader."""
        self.path(key).unlink(missing_ok=True)

    def sweep(self, is_wanted: Callable[[str], bool]) -> int:
        """Remove every content that no row names; returns how many."""
        orphans = [path for path in self._all() if not is_wanted(path.name)]
        for path in orphans:
            path.unlink()
        return len(orphans)

    def _all(self) -> Iterator[Path]:
        for folder in self._root.iterdir():
            yield from folder.iterdir()


def _create(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(exist_ok=True)
        return os.open(path, flags, 0o600)
