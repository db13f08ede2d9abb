"""``jobfs.Workspace``: the workspace of a job, or the files of a run, for scripts that do not await.

Everything is done by an ``AsyncWorkspace`` on a thread of its own; what each method promises is said there and in
``files``. May be used by several threads at once.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import IO, Any, Literal, Self, TypeVar, Unpack, overload

from jobfs.api.studio import JobFile, JobSettings
from jobfs.api.wire import Checkpoint, Job
from jobfs.errors import Refused
from jobfs.folder.report import Progress, Summary
from jobfs.model import Permission
from jobfs.workspace.arguments import TEXT, check
from jobfs.workspace.awaiting import AsyncWorkspace, ConflictName, DirectionName, Server
from jobfs.workspace.drafts import Draft, DraftFile, DraftText
from jobfs.workspace.files import Founds
from jobfs.workspace.portal import Portal
from jobfs.workspace.reading import PART_BYTES, Reader
from jobfs.workspace.snapshot import Found

_T = TypeVar("_T")

TextMode = Literal["r", "rt", "w", "wt", "x", "xt", "a", "at"]
BinaryMode = Literal["rb", "wb", "xb", "ab"]


class Workspace:
    """One workspace. A context manager; else call ``close`` in the end.

    Server and key are found as the command line finds them: arguments, ``JOBFS_URL`` and ``JOBFS_API_KEY``, the chosen
    or default profile. Every method asks the server anew: nothing is remembered between two calls.

    :param job: a job's id, or ``run:RUN`` for the files of a run, which can only be read.
    :param server: ``url``, ``api_key`` or ``api_key_file``, ``profile``, ``state``; see ``awaiting.Server``.
    :raises SettingsError: there is no key, or a setting is wrong.
    """

    def __init__(self, job: str, **server: Unpack[Server]) -> None:
        async def opened() -> AsyncWorkspace:
            return AsyncWorkspace(job, **server)

        self._open(opened())

    def _open(self, opened: Coroutine[Any, Any, AsyncWorkspace]) -> None:
        self._portal = Portal("jobfs-workspace")
        try:
            self._workspace = self._portal.run(opened)
        except BaseException:
            self._portal.close()
            raise

    @classmethod
    def start(
        cls,
        expert: str,
        query: str | None = None,
        *,
        files: Sequence[JobFile] = (),
        settings: JobSettings | None = None,
        **server: Unpack[Server],
    ) -> Self:
        """Start a job and return its workspace; see ``AsyncWorkspace.start``."""
        self = cls.__new__(cls)
        self._open(AsyncWorkspace.start(expert, query, files=files, settings=settings, **server))
        return self

    def close(self) -> None:
        """Close every connection; what other threads do meanwhile ends with ``Refused``. May be called twice."""
        if self._portal.is_open:
            try:
                self._run(self._workspace.aclose())
            finally:
                self._portal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.job!r})"

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        try:
            return self._portal.run(work)
        except CancelledError:
            if self._portal.is_open:
                raise
            raise Refused(f"{self!r} is closed", "open it anew") from None

    @property
    def job(self) -> str:
        """The id of the job, or ``run:RUN``."""
        return self._workspace.job

    # -- looking

    def stat(self, path: str) -> Found:
        """Return what is at a path. :raises NotFound: nothing is."""
        return self._run(self._workspace.stat(path))

    def exists(self, path: str) -> bool:
        """Tell whether something is at a path."""
        return self._run(self._workspace.exists(path))

    def list(self, path: str = "") -> Founds:
        """Return what a directory holds, by name; of a file, the file itself.

        :raises NotFound: there is no such path.
        """
        return self._run(self._workspace.list(path))

    def walk(self, path: str = "") -> Iterator[tuple[str, Founds, Founds]]:
        """Yield each directory's path with its directories and its files, from one listing, as ``os.walk`` does.

        A directory that is taken out of the list is not gone into. :raises NotFound: there is no such path.
        """
        return self._iterate(self._workspace.walk(path))

    def find(self, path: str = "", *, name: str | None = None, is_directory: bool | None = None) -> Founds:
        """Return what is below a directory and matches; see ``Files.find``."""
        return self._run(self._workspace.find(path, name=name, is_directory=is_directory))

    # -- reading and writing

    def read(self, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """Return the bytes of a file, or a part of them, all of one version; see ``Files.read``."""
        return self._run(self._workspace.read(path, offset=offset, length=length))

    def read_text(self, path: str, *, encoding: str = "utf-8") -> str:
        """Return a file as text."""
        return self._run(self._workspace.read_text(path, encoding=encoding))

    def download(self, path: str, target: Path | str) -> None:
        """Bring a file to a local path, whole or not at all; see ``Files.download``."""
        self._run(self._workspace.download(path, target))

    def write(
        self,
        path: str,
        data: bytes | str | Path,
        *,
        over: Found | None = None,
        may_replace: bool = True,
        parents: bool = False,
    ) -> Found:
        """Put bytes, text or a local file at a path; return it once it is visible; see ``Files.write``.

        :param over: replace this version only. :param may_replace: whether a file that is there may be replaced.
        :param parents: make the directories above where they are missing.
        :raises Changed: it is not the version that was to be replaced; nothing was stored.
        """
        return self._run(self._workspace.write(path, data, over=over, may_replace=may_replace, parents=parents))

    @overload
    def open(
        self, path: str, mode: TextMode = "r", *, encoding: str = "utf-8", newline: str | None = None
    ) -> IO[str]: ...

    @overload
    def open(
        self, path: str, mode: BinaryMode, *, encoding: str = "utf-8", newline: str | None = None
    ) -> IO[bytes]: ...

    def open(self, path: str, mode: str = "r", *, encoding: str = "utf-8", newline: str | None = None) -> Any:
        """Open a file as Python's ``open`` does.

        For reading: one version of it, whatever others do meanwhile, in any order. For writing: nothing is on the
        server until it is closed, and then all of it; leaving a ``with`` block by an exception drops it.

        :param mode: ``r``, ``w``, ``x`` or ``a``, with ``b`` for bytes.
        :raises NotFound: there is no such file. :raises PathExists: it is there, and the mode is ``x``.
        """
        check("mode", mode, TEXT)
        binary = mode.replace("t", "") if "b" in mode else mode.replace("t", "") + "b"
        if binary == "rb":
            reader = io.BufferedReader(_Raw(self._run, self._run(self._workspace.open_reader(path))), _BUFFER_BYTES)
            return reader if "b" in mode else io.TextIOWrapper(reader, encoding=encoding, newline=newline)
        writer = self._draft(path, binary)
        return writer if "b" in mode else DraftText(writer, writer.discard, encoding=encoding, newline=newline)

    def _draft(self, path: str, mode: str) -> DraftFile:
        draft = Draft()
        try:
            terms = self._run(self._workspace.begin(path, mode, draft))
        except BaseException:
            draft.drop()
            raise

        def send(source: Path) -> Found:
            return self.write(path, source, over=terms.over, may_replace=terms.may_replace)

        return DraftFile(draft, mode, send)

    # -- changing

    def make_directory(self, path: str, *, parents: bool = False) -> None:
        """Make a directory; see ``Files.make_directory``."""
        self._run(self._workspace.make_directory(path, parents=parents))

    def move(self, path: str, target: str) -> None:
        """Move or rename a file or directory to another path; a file that is there is replaced; see ``Files.move``."""
        self._run(self._workspace.move(path, target))

    def remove(self, path: str, *, recursive: bool = False) -> None:
        """Delete a file, or a directory that is empty or goes with all that it holds; see ``Files.remove``."""
        self._run(self._workspace.remove(path, recursive=recursive))

    def set_permission(self, path: str, permission: Permission) -> None:
        """Set or take the write bit; see ``Files.set_permission``."""
        self._run(self._workspace.set_permission(path, permission))

    # -- the job, and a folder

    def status(self) -> str:
        """Return the status of the job or run."""
        return self._run(self._workspace.status())

    def describe(self) -> Job:
        """Return the job as the server has it. :raises Refused: it is a run."""
        return self._run(self._workspace.describe())

    def wait(self, *, timeout_s: float | None = None, on_step: Callable[[Checkpoint], None] = lambda step: None) -> str:
        """Wait until the job has stopped, or the run has finished, and return its status; see ``AsyncWorkspace.wait``.

        :param on_step: called, on another thread, with each step of a job as it comes.
        :raises DeadlineExceeded: not in time; it goes on, and can be waited for again.
        """
        return self._run(self._workspace.wait(timeout_s=timeout_s, on_step=on_step))

    def resume(
        self,
        query: str | None = None,
        *,
        files: Sequence[JobFile] = (),
        settings: JobSettings | None = None,
        is_answer: bool | None = None,
    ) -> Job:
        """Have a stopped job go on with a new query, in the files as they are now; see ``AsyncWorkspace.resume``."""
        return self._run(self._workspace.resume(query, files=files, settings=settings, is_answer=is_answer))

    def outputs(self) -> Founds:
        """Return the files that the expert has written; of a run, all of them."""
        return self._run(self._workspace.outputs())

    def sync(
        self,
        folder: Path | str,
        *,
        direction: DirectionName = "both",
        delete: bool = True,
        conflict: ConflictName = "keep-both",
        ignore: Sequence[str] = (),
        max_deletions: int | None = 0,
        dry_run: bool = False,
        on_event: Progress | None = None,
    ) -> Summary:
        """Bring a real folder in step with the workspace, once; see ``AsyncWorkspace.sync``.

        :param on_event: called, on another thread, with everything that is done.
        """
        return self._run(
            self._workspace.sync(
                folder,
                direction=direction,
                delete=delete,
                conflict=conflict,
                ignore=ignore,
                max_deletions=max_deletions,
                dry_run=dry_run,
                on_event=on_event,
            )
        )

    def _iterate(self, items: AsyncIterator[_T]) -> Iterator[_T]:
        async def following() -> tuple[_T] | None:
            try:
                return (await anext(items),)
            except StopAsyncIteration:
                return None

        while (found := self._run(following())) is not None:
            yield found[0]


_BUFFER_BYTES = 1 << 20


class _Raw(io.RawIOBase):
    """An open file of the server as Python's files are built on."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, bytes]], bytes], reader: Reader) -> None:
        self._run = run
        self._reader = reader
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        part = self._run(self._reader.read(self._at, min(len(target), PART_BYTES)))
        target[: len(part)] = part
        self._at += len(part)
        return len(part)

    def readall(self) -> bytes:
        rest = self._run(self._reader.read(self._at))
        self._at += len(rest)
        return rest

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._reader.size}[whence]
        if start + offset < 0:
            raise ValueError("a place before the start of the file")
        self._at = start + offset
        return self._at

    def close(self) -> None:
        self._reader.close()
        super().close()
