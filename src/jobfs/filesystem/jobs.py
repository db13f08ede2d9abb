"""``jobfs://JOB/path``: the workspaces of all jobs as one file system, and ``jobfs://run:RUN/path`` for runs.

The root lists the jobs. A listing of a workspace is believed for ten seconds (``listings_expiry_time``), except that
what is changed through this file system is seen at once, and that nothing is ever taken for missing on its word alone.
Writing replaces a file as a whole once it is closed; ``workspace.files`` says what that promises.
"""

from __future__ import annotations

import asyncio
import errno
import os
import weakref
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fsspec.asyn import AsyncFileSystem, sync, sync_wrapper
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.compression import compr
from fsspec.core import get_compression
from fsspec.utils import isfilelike, stringify_path

from jobfs.errors import IsDirectory, NotEmpty, PathExists, Refused, SettingsError
from jobfs.filesystem.failures import told_as_os_errors
from jobfs.filesystem.opened import CompressedFile, ReadFile, StreamedReadFile, StreamedWriteFile, WriteFile
from jobfs.workspace.arguments import NUMBER, check
from jobfs.workspace.awaiting import Server, check_server, connect
from jobfs.workspace.connection import Connection
from jobfs.workspace.drafts import Draft, DraftText
from jobfs.workspace.files import Files, Terms
from jobfs.workspace.reading import Reader
from jobfs.workspace.snapshot import Found

BELIEVED_S = 10.0
"""So long a listing is believed, as a mount does for an ended job."""

OF_FSSPEC = frozenset({"asynchronous", "loop", "batch_size", "max_paths", "add_docs", "add_aliases"})
"""What fsspec takes for every file system, besides what ``JobFileSystem`` looks at."""


class JobFileSystem(AsyncFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The workspaces of a server's jobs.

    Server and key are found as the command line finds them: these options, the environment, the chosen or default
    profile. An instance that is pickled, as Dask does to send it to its workers, takes its options along: prefer the
    environment or ``api_key_file`` of the workers to ``api_key``.

    :param url, api_key, api_key_file, profile, state: as for ``jobfs.Workspace``.
    :param auto_mkdir: make the directories above a file that is written, where they are missing.
    :param use_listings_cache, listings_expiry_time: whether, and for how many seconds, listings are believed.
    :param options: fsspec's own: ``asynchronous``, ``loop``, ``batch_size``, ``skip_instance_cache``.
    :raises SettingsError: there is no such option, or its value is of a wrong type.
    """

    protocol = "jobfs"
    root_marker = ""
    most_open = 64
    """So many workspaces stay open for changes at once."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        api_key_file: str | None = None,
        profile: str | None = None,
        state: str | None = None,
        *,
        auto_mkdir: bool = True,
        use_listings_cache: bool = True,
        listings_expiry_time: float | None = None,
        **options: Any,
    ) -> None:
        _check_options(options)
        check("listings_expiry_time", listings_expiry_time, NUMBER, or_none=True)
        self._server = Server(url=url, api_key=api_key, api_key_file=api_key_file, profile=profile, state=state)
        check_server(self._server)
        super().__init__(**options)
        self.auto_mkdir = auto_mkdir
        wished_s = BELIEVED_S if listings_expiry_time is None else float(listings_expiry_time)
        self._believed_s = wished_s if use_listings_cache else 0.0
        self._connection: Connection | None = None
        self._files: dict[str, Files] = {}
        self._jobs: tuple[float, list[dict[str, Any]]] = (0.0, [])

    # -- life

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = connect(self._server)
            if self._loop is not None:
                weakref.finalize(self, _close, self._loop, self._connection, self._files).atexit = False
        return self._connection

    async def _at(self, path: str) -> tuple[Files, str]:
        """Return the files of a path's job, and the path among them."""
        job, _, inner = self._strip_protocol(path).partition("/")
        if not job:
            raise Refused(f"{path!r} names no job", "write jobfs://JOB/path")
        files = self._files.pop(job, None) or Files(self._connected(), job, believed_s=self._believed_s)
        self._files[job] = files  # the last of them is the one that was used last
        if len(self._files) > self.most_open:
            for other in [one for one in self._files.values() if one.is_open][: -self.most_open]:
                await other.rest()
        return files, inner

    async def aclose(self) -> None:
        """Close every connection; it connects again when it is used again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await _close_all(connection, self._files)

    def close(self) -> None:
        """Close every connection; it connects again when it is used again."""
        sync(self.loop, self.aclose)

    def invalidate_cache(self, path: str | None = None) -> None:
        """Believe nothing that was seen of a path's job, or of any."""
        job = self._strip_protocol(path).partition("/")[0] if path else ""
        for name, files in list(self._files.items()):
            if not job or name == job:
                files.forget()
        self._jobs = (0.0, [])
        super().invalidate_cache(path)

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Return how to make this instance again; without the key where passwords are to be left out."""
        made: dict[str, Any] = super().to_dict(include_password=include_password)
        if not include_password:
            made.pop("api_key", None)
        return made

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return super()._strip_protocol(path).lstrip("/")

    # -- looking

    async def _info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        if not path:
            return {"name": "", "size": 0, "type": "directory"}
        with told_as_os_errors(path):
            files, inner = await self._at(path)
            return _described(files.job, await files.stat(inner))

    async def _ls(self, path: str, detail: bool = True, refresh: bool = False, **kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        if refresh:
            self.invalidate_cache(path)
        with told_as_os_errors(path):
            if path:
                files, inner = await self._at(path)
                found = [_described(files.job, one) for one in await files.list(inner)]
            else:
                found = await self._list_jobs()
        return found if detail else [one["name"] for one in found]

    async def _list_jobs(self) -> list[dict[str, Any]]:
        """Return the jobs as directories, newest first."""
        now = asyncio.get_running_loop().time()
        until, jobs = self._jobs
        if now >= until:
            jobs = [_job_described(job.id, job.status) async for job in self._connected().studio.iter_jobs()]
            self._jobs = (now + self._believed_s, jobs)
        return [dict(job) for job in jobs]

    async def _find(self, path: str, maxdepth: int | None = None, withdirs: bool = False, **kwargs: Any) -> Any:
        if not self._strip_protocol(path) and maxdepth != 1:
            # fsspec goes through the jobs one after the other; their listings are taken side by side before it does.
            jobs = await self._ls("", detail=False)
            await asyncio.gather(*(self._ls(job) for job in jobs), return_exceptions=True)
        return await super()._find(path, maxdepth=maxdepth, withdirs=withdirs, **kwargs)

    def created(self, path: str) -> datetime | None:
        """Return when the server has a path from."""
        found: datetime | None = self.info(path).get("created")
        return found

    def modified(self, path: str) -> datetime | None:
        """Return when a path last changed, by the server's clock."""
        found: datetime | None = self.info(path).get("updated")
        return found

    # -- reading

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        with told_as_os_errors(path):
            files, inner = await self._at(path)
            if min(start or 0, end or 0) < 0:  # counted from the end, as in a slice
                size = (await files.stat(inner)).size
                start, end, _ = slice(start, end).indices(size)
            offset = start or 0
            return await files.read(inner, offset=offset, length=None if end is None else max(0, end - offset))

    async def _cat(self, path: Any, recursive: bool = False, **kwargs: Any) -> Any:
        """Return the bytes of files; of a directory, where it is gone into, those of the files in it."""
        if recursive:
            found = await self._expand_path(path, recursive=True)
            path = [one for one in found if not await self._isdir(one)]
        return await super()._cat(path, **kwargs)

    async def _get_file(self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, **kwargs: Any) -> None:
        with told_as_os_errors(rpath):
            files, inner = await self._at(rpath)
            found = await files.stat(inner)
            if isfilelike(lpath):
                async with files.reading(inner) as reader:
                    async for part in reader.chunks():
                        lpath.write(part)
            elif found.is_directory:
                Path(lpath).mkdir(parents=True, exist_ok=True)
            else:
                Path(lpath).parent.mkdir(parents=True, exist_ok=True)
                await files.download(inner, Path(lpath))
        callback.set_size(found.size)
        callback.relative_update(found.size)

    # -- writing

    async def deliver(self, path: str, source: Path, terms: Terms) -> None:
        """Send what was written to a path; return once it is visible and nothing of ours is left on the server."""
        with told_as_os_errors(path):
            files, inner = await self._at(path)
            await files.write(inner, source, over=terms.over, may_replace=terms.may_replace, parents=self.auto_mkdir)
            await files.settle()

    async def _pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        with Draft() as draft:
            draft.add(value)
            await self.deliver(path, draft.path, Terms(may_replace=mode != "create"))

    async def _put_file(
        self, lpath: str, rpath: str, mode: str = "overwrite", callback: Any = DEFAULT_CALLBACK, **kwargs: Any
    ) -> None:
        source = Path(lpath)
        if source.is_dir():
            await self._makedirs(rpath, exist_ok=True)
            return
        size = source.stat().st_size
        callback.set_size(size)
        await self.deliver(rpath, source, Terms(may_replace=mode != "create"))
        callback.relative_update(size)

    async def _cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy by way of this machine: the server has no copying of its own (contract, section 7)."""
        with told_as_os_errors(path1):
            files, inner = await self._at(path1)
            if (await files.stat(inner)).is_directory:
                await self._makedirs(path2, exist_ok=True)
                return
            with Draft() as draft:
                draft.file.close()
                await files.download(inner, draft.path)
                await self.deliver(path2, draft.path, Terms())

    # -- directories, deleting, moving

    async def _mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        path = self._strip_protocol(path)
        with told_as_os_errors(path):
            files, inner = await self._at(path)
            if not inner and await files.exists(""):
                raise PathExists(f"the job {files.job} is there already")
            above = inner.rpartition("/")[0]
            if create_parents and above:
                await files.make_directory(above, parents=True)
            await files.make_directory(inner)

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        path = self._strip_protocol(path)
        with told_as_os_errors(path):
            files, inner = await self._at(path)
            if await files.exists(inner):
                if not exist_ok or not (await files.stat(inner)).is_directory:
                    raise PathExists(f"{path} is there already")
            else:
                await files.make_directory(inner, parents=True)

    async def _rmdir(self, path: str) -> None:
        path = self._strip_protocol(path)
        with told_as_os_errors(path):
            files, inner = await self._at(path)
            if not (await files.stat(inner)).is_directory:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            await files.remove(inner)

    rmdir = sync_wrapper(_rmdir)

    async def _rm_file(self, path: str, **kwargs: Any) -> None:
        with told_as_os_errors(path):
            files, inner = await self._at(path)
            if (await files.stat(inner)).is_directory:
                raise IsDirectory(f"{path} is a directory")
            await files.remove(inner)

    async def _rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any) -> None:
        """Delete files, or whole directories at once. With ``maxdepth``, directories stay that still hold something."""
        is_deep = recursive and maxdepth is None
        paths = await self._expand_path(path, recursive=recursive and not is_deep, maxdepth=maxdepth)
        directories = [one for one in paths if await self._isdir(one)]
        if directories and not recursive:
            with told_as_os_errors(directories[0]):
                raise IsDirectory(f"{directories[0]} is a directory")
        await asyncio.gather(*(self._rm_file(one) for one in paths if one not in directories))
        for one in reversed(directories):
            with told_as_os_errors(one):
                files, inner = await self._at(one)
                try:
                    await files.remove(inner, recursive=is_deep)
                except NotEmpty:
                    continue

    async def _mv_file(self, path1: str, path2: str) -> None:
        with told_as_os_errors(path1):
            (files, inner), (others, target) = await self._at(path1), await self._at(path2)
            if files is not others:
                await super()._mv_file(path1, path2)
                return
            if self.auto_mkdir and "/" in target:
                await files.make_directory(target.rpartition("/")[0], parents=True)
            await files.move(inner, target)
            await files.settle()

    def mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any) -> None:
        """Move a file or directory: one request within a workspace; by copying elsewhere, and for several at once.

        Into the target where that is a directory or ends with a slash.
        """
        one, other = self._strip_protocol(path1), self._strip_protocol(path2)
        is_single = isinstance(one, str) and isinstance(other, str) and not set("*?[") & set(one)
        if not is_single or maxdepth is not None or one.partition("/")[0] != other.partition("/")[0]:
            super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth, **kwargs)
        elif one != other:
            if stringify_path(path2).endswith("/") or self.isdir(other):
                other = f"{other}/{one.rpartition('/')[2]}"
            sync(self.loop, self._mv_file, one, other)

    # -- open files

    def open(self, path: str, mode: str = "rb", *args: Any, **options: Any) -> Any:
        """Open a file; see ``fsspec``. What is written in a ``with`` block that an exception leaves is dropped."""
        if "r" in mode:
            return super().open(path, mode, *args, **options)
        compression = options.pop("compression", None)
        text = {name: options.pop(name, None) for name in ("encoding", "errors", "newline")}
        plain: WriteFile = super().open(path, mode.replace("t", "").replace("b", "") + "b", *args, **options)
        kind = get_compression(path, compression)
        file = CompressedFile(compr[kind](plain, mode="w"), plain) if kind is not None else plain
        return file if "b" in mode else DraftText(file, file.discard, **text)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> ReadFile | WriteFile:
        if mode == "rb":
            reader = sync(self.loop, self._open_reader, path)
            return ReadFile(self, path, reader, block_size=block_size, cache_options=cache_options, **options)
        draft, terms = sync(self.loop, self._begin, path, mode)
        return WriteFile(self, path, mode, draft, terms, autocommit=autocommit)

    async def open_async(self, path: str, mode: str = "rb", **kwargs: Any) -> StreamedReadFile | StreamedWriteFile:
        """Open a file of bytes for those who await."""
        path = self._strip_protocol(path)
        if mode == "rb":
            return StreamedReadFile(self, path, await self._open_reader(path))
        return StreamedWriteFile(self, path, mode, *await self._begin(path, mode))

    async def _open_reader(self, path: str) -> Reader:
        with told_as_os_errors(path):
            files, inner = await self._at(path)
            return await files.open_reader(inner)

    async def _begin(self, path: str, mode: str) -> tuple[Draft, Terms]:
        draft = Draft()
        try:
            with told_as_os_errors(path):
                files, inner = await self._at(path)
                return draft, await files.begin(inner, mode, draft)
        except BaseException:
            draft.drop()
            raise


def _check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that mean nothing: a misspelt one would be left out in silence.

    :raises SettingsError:
    """
    for name in options:
        if name not in OF_FSSPEC:
            known = ", ".join((*Server.__annotations__, "auto_mkdir", "use_listings_cache", "listings_expiry_time"))
            raise SettingsError(f"jobfs:// has no option {name!r}", f"there are {known}, and those of fsspec itself")


def _described(job: str, found: Found) -> dict[str, Any]:
    """Return what fsspec calls the info of a path."""
    about: dict[str, Any] = {
        "name": f"{job}/{found.path}" if found.path else job,
        "size": found.size,
        "type": "directory" if found.is_directory else "file",
        "created": found.created,
        "updated": found.updated,
        "mtime": found.updated.timestamp() if found.updated is not None else None,
    }
    if found.item is not None:
        about |= {
            "id": found.item.id,
            "key": found.item.key,
            "owner": found.owner,
            "permission": found.item.permission.value,
            "lifecycle": found.item.lifecycle.value,
            "mimetype": found.item.mime_type,
        }
    return about


def _job_described(job: str, status: str) -> dict[str, Any]:
    return {"name": job, "size": 0, "type": "directory", "status": status}


async def _close_all(connection: Connection, files: dict[str, Files]) -> None:
    try:
        while files:
            await files.popitem()[1].aclose()
    finally:
        await connection.aclose()


def _close(loop: asyncio.AbstractEventLoop, connection: Connection, files: dict[str, Files]) -> None:
    """Close what a forgotten instance has open. Waits for nothing: it may be called on the loop's own thread."""
    if loop.is_running():
        asyncio.run_coroutine_threadsafe(_close_all(connection, files), loop)
