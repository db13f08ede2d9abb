"""Files that are being written: kept here until they are whole, then sent as one, so that nobody sees half a file."""

from __future__ import annotations

import io
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from jobfs.store.blobs import disk_errors

WRITING_MODES = frozenset({"wb", "xb", "ab"})
"""Over what is there, only where nothing is, and after what is there."""


class Draft:
    """A local file that is being written, until it is sent as a whole or dropped.

    :raises StateFull: the disk is full.
    """

    def __init__(self) -> None:
        with disk_errors():
            descriptor, name = tempfile.mkstemp(prefix="jobfs-")
        self.path = Path(name)
        self.file: BinaryIO = os.fdopen(descriptor, "w+b")

    def add(self, data: Any) -> None:
        """Write bytes at its end, and see to it that a reader of the file finds them.

        :raises StateFull: the disk is full.
        """
        with disk_errors():
            self.file.write(data)
            self.file.flush()

    def drop(self) -> None:
        """Delete it. May be called twice."""
        self.file.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()


class DraftFile(io.BufferedIOBase):
    """A draft as a file of Python's: written and sought like any other, sent when it is closed.

    Leaving a ``with`` block by an exception drops what was written, and so does never closing it: what a program was
    not able to finish is not published.

    :param send: sends the draft, which is whole then; returns once it is visible, or raises.
    :param sends_on_close: else it waits for ``commit`` or ``discard`` (a transaction).
    """

    def __init__(self, draft: Draft, mode: str, send: Callable[[Path], object], *, sends_on_close: bool = True) -> None:
        self._draft: Draft | None = draft
        self._send = send
        self._sends_on_close = sends_on_close
        self.mode = mode
        if mode == "ab":
            draft.file.seek(0, io.SEEK_END)

    @property
    def _file(self) -> BinaryIO:
        if self.closed or self._draft is None:
            raise ValueError("I/O operation on closed file")
        return self._draft.file

    @property
    def name(self) -> str:
        """The local file that holds what was written so far."""
        return str(self._draft.path) if self._draft is not None else ""

    def readable(self) -> bool:
        """Tell that nothing can be read."""
        return False

    def writable(self) -> bool:
        """Tell whether it can be written, which is so until it is closed."""
        return not self.closed

    def seekable(self) -> bool:
        """Tell whether it can be sought: not where everything goes to the end."""
        return not self.closed and self.mode != "ab"

    def write(self, data: Any) -> int:
        """Write bytes, or any object that holds bytes; they stay here until the file is closed."""
        return self._file.write(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, and return it."""
        if self.mode == "ab":
            raise io.UnsupportedOperation("a file that is opened to append cannot be sought")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place where the next bytes go."""
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        """Cut it, or fill it with zeros, up to a length."""
        return self._file.truncate(size)

    def flush(self) -> None:
        """Do nothing towards the server: there is no half of a file there."""
        if not self.closed and self._draft is not None:
            self._draft.file.flush()

    def close(self) -> None:
        """Send what was written; return once it is visible.

        :raises JobfsError: it could not be sent; nothing of it is visible.
        """
        if self.closed:
            return
        try:
            self.flush()
            if self._sends_on_close:
                self.commit()
        finally:
            super().close()
            if self._sends_on_close:
                self.discard()

    def commit(self) -> None:
        """Send a closed file whose sending was put off."""
        if self._draft is not None:
            try:
                self._send(self._draft.path)
            finally:
                self.discard()

    def discard(self) -> None:
        """Drop what was written."""
        draft, self._draft = self._draft, None
        if draft is not None:
            draft.drop()
        super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
        self.close()

    def __del__(self) -> None:
        if self._draft is not None:
            warnings.warn("a file was never closed, and is not sent", ResourceWarning, stacklevel=2, source=self)
            self.discard()


class DraftText(io.TextIOWrapper):
    """A file that is being written, as text.

    :param file: takes the bytes; has a ``name`` and is closed along.
    :param discard: drops what was written.
    """

    def __init__(
        self,
        file: Any,
        discard: Callable[[], object],
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> None:
        super().__init__(file, encoding=encoding or "utf-8", errors=errors, newline=newline)
        self._discard = discard

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._discard()
        self.close()
