"""Open files as fsspec's users know them."""

from __future__ import annotations

import io
from pathlib import Path
from types import TracebackType
from typing import Any

from fsspec.asyn import AbstractAsyncStreamedFile, sync
from fsspec.spec import AbstractBufferedFile

from jobfs.filesystem.failures import told_as_os_errors
from jobfs.workspace.drafts import Draft, DraftFile
from jobfs.workspace.files import Terms
from jobfs.workspace.reading import Reader


class ReadFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """A file that is read: one version of it from the opening to the end, whatever others do meanwhile."""

    def __init__(self, fs: Any, path: str, reader: Reader, **options: Any) -> None:
        self._reader = reader
        options.pop("size", None)  # of whoever opened it before it was pickled
        super().__init__(fs, path, "rb", size=reader.size, **options)

    def _fetch_range(self, start: int, end: int) -> bytes:
        with told_as_os_errors(self.path):
            part: bytes = sync(self.fs.loop, self._reader.read, start, end - start)
            return part

    def close(self) -> None:
        """Let go of what was fetched. May be called twice."""
        super().close()
        self._reader.close()


class WriteFile(DraftFile):
    """A file that is written: on the server once it is closed, or its transaction has ended."""

    def __init__(self, fs: Any, path: str, mode: str, draft: Draft, terms: Terms, *, autocommit: bool) -> None:
        super().__init__(draft, mode, self._deliver, sends_on_close=autocommit)
        self.fs = fs
        self.path = path
        self._terms = terms

    def _deliver(self, source: Path) -> None:
        sync(self.fs.loop, self.fs.deliver, self.path, source, self._terms)


class CompressedFile(io.BufferedIOBase):
    """What compresses into a file that is written, and closes it along; else nobody would.

    :param compressor: writes into ``file``.
    """

    def __init__(self, compressor: Any, file: WriteFile) -> None:
        self._compressor = compressor
        self._file = file

    @property
    def name(self) -> str:
        """The path in the file system."""
        return self._file.path

    def writable(self) -> bool:
        """Tell whether it can be written, which is so until it is closed."""
        return not self.closed

    def write(self, data: Any) -> int:
        """Compress bytes."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        written: int = self._compressor.write(data)
        return written

    def close(self) -> None:
        """Send what was written; return once it is visible."""
        if not self.closed:
            try:
                self._compressor.close()
                self._file.close()
            finally:
                self.discard()

    def discard(self) -> None:
        """Drop what was written; what waits for the end of a transaction stays."""
        if not self._file.closed:
            self._file.discard()
        super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
        self.close()


class StreamedReadFile(AbstractAsyncStreamedFile):  # type: ignore[misc]  # fsspec has no types
    """A file that is read by those who await: one version of it."""

    def __init__(self, fs: Any, path: str, reader: Reader) -> None:
        self._reader = reader
        super().__init__(fs, path, "rb", size=reader.size)

    async def _fetch_range(self, start: int, end: int) -> bytes:
        with told_as_os_errors(self.path):
            return await self._reader.read(start, end - start)

    async def close(self) -> None:
        """Let go of what was fetched. May be called twice."""
        await super().close()
        self._reader.close()

    def __del__(self) -> None:
        self._reader.close()


class StreamedWriteFile(AbstractAsyncStreamedFile):  # type: ignore[misc]  # fsspec has no types
    """A file that is written by those who await: kept here, and sent when it is closed."""

    def __init__(self, fs: Any, path: str, mode: str, draft: Draft, terms: Terms) -> None:
        self._draft = draft
        self._terms = terms
        super().__init__(fs, path, mode)

    async def _upload_chunk(self, final: bool = False) -> bool:
        with told_as_os_errors(self.path):
            self._draft.add(self.buffer.getvalue())
        if final:
            await self.fs.deliver(self.path, self._draft.path, self._terms)
        return True

    async def close(self) -> None:
        """Send what was written; return once it is visible. May be called twice."""
        try:
            await super().close()
        finally:
            self._drop()

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            self._drop()
        await self.close()

    def __del__(self) -> None:
        self._drop()

    def _drop(self) -> None:
        self.closed = True
        self._draft.drop()
