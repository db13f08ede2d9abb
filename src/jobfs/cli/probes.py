"""Find out what a server does where its documentation is silent (contract, section 9): for ``jobfs doctor --probe``.

Everything happens in a directory of its own in the workspace of one job, which is removed again. Answers are named as
the settings that they become; none of them is assumed where nobody has probed.
"""

from __future__ import annotations

import base64
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from jobfs.api.address import segment
from jobfs.api.answer import inside
from jobfs.api.body import Json, Multipart
from jobfs.api.call import Call
from jobfs.api.items import Items
from jobfs.api.studio import Studio
from jobfs.api.transport import Transport
from jobfs.api.workspace import PREFIX
from jobfs.errors import NotFound, PathExists, Refused, Unauthenticated
from jobfs.model import Item, Lifecycle, Permission

_EVERY_BYTE = bytes(range(256))
_FIRST, _LENGTH = 16, 32
_UNKNOWN_JOB = "z" * 24


class Probe:
    """The probes of one workspace.

    :param folder: path of the directory of its own, which is there.
    :param scratch: a local directory for what is sent.
    """

    def __init__(self, transport: Transport, job: str, folder: str, scratch: Path) -> None:
        self._transport = transport
        self._job = job
        self._folder = folder
        self._scratch = scratch
        self._path = f"{PREFIX}/expert_jobs/{segment(job)}/workspace_instance/items/"
        self._items = Items(transport, self._path, f"workspace of job {job}", Lifecycle.EXPERT_JOB)

    def probes(self) -> dict[str, Callable[[], Awaitable[str]]]:
        """Return what can be asked, by the name of the setting, in the order in which to ask."""
        return {
            "create_existing": self._create_existing,
            "dir_move": self._dir_move,
            "bytes": self._bytes,
            "find_mode": self._find_mode,
            "leading_slash": self._leading_slash,
            "range": self._range,
            "delete_body": self._delete_body,
            "content_update": self._content_update,
            "readonly": self._readonly,
            "unknown_job_list": self._unknown_job_list,
        }

    async def _file(self, name: str, content: bytes = b"", permission: Permission = Permission.READ_WRITE) -> Item:
        source = self._scratch / "content"
        source.write_bytes(content)
        path = f"{self._folder}/{name}"
        return await self._items.create_file(path, permission, source, "application/octet-stream")

    async def _content(self, item: Item) -> bytes:
        async with self._items.download(item.id) as download:
            return b"".join([chunk async for chunk in download.chunks()])

    async def _create_existing(self) -> str:
        first = await self._file("twice", b"1")
        try:
            await self._file("twice", b"22")
        except PathExists:
            return "error"
        return "duplicate" if len(await self._items.find(first.path)) > 1 else "replace"

    async def _dir_move(self) -> str:
        directory = await self._items.create_directory(f"{self._folder}/before", Permission.READ_WRITE)
        child = await self._file("before/child")
        await self._items.update(directory.id, path=f"{self._folder}/after")
        return "cascade" if (await self._items.get(child.id)).path.endswith("/after/child") else "orphan"

    async def _bytes(self) -> str:
        return "exact" if await self._content(await self._file("bytes", _EVERY_BYTE)) == _EVERY_BYTE else "changed"

    async def _find_mode(self) -> str:
        await self._file("found")
        if await self._count_found(f"{self._folder}/*"):
            return "glob"
        return "prefix" if await self._count_found(self._folder) > 1 else "exact"

    async def _count_found(self, path: str) -> int:
        call = Call(method="GET", path=f"{self._path}find", subject=repr(path), query={"path": path})
        try:
            answer = await self._transport.json(call)
        except (NotFound, Refused):
            return 0
        rows = inside(answer, ("workspaceItems", "items"), call.subject)
        return len(rows) if isinstance(rows, list) else 0

    async def _leading_slash(self) -> str:
        path = f"{self._folder}/slash"
        fields = [("type", "workspaceItemDirectory"), ("path", f"/{path}"), ("permission", Permission.READ_WRITE.value)]
        call = Call(method="POST", path=self._path, subject=repr(path), body=Multipart(fields))
        try:
            await self._transport.json(call)
        except Refused:
            return "reject"
        (item,) = await self._items.find(path)
        return "keep" if item.raw_path.startswith("/") else "strip"

    async def _range(self) -> str:
        item = await self._file("range", _EVERY_BYTE)
        async with self._items.download(item.id, offset=_FIRST, length=_LENGTH) as download:
            found = b"".join([chunk async for chunk in download.chunks()])
            is_honoured = download.offset == _FIRST and found == _EVERY_BYTE[_FIRST : _FIRST + _LENGTH]
        return "honour" if is_honoured else "ignore"

    async def _delete_body(self) -> str:
        item = await self._file("deleted")
        call = Call(method="DELETE", path=f"{self._path}{segment(item.id)}", subject=f"item {item.id}")
        async with self._transport.stream(call) as stream:
            body = b"".join([chunk async for chunk in stream.chunks()])
        return "no_content" if stream.status == 204 else "json" if body.strip() else "empty"

    async def _content_update(self) -> str:
        item = await self._file("updated", b"before")
        content = {"content": base64.b64encode(b"after").decode()}
        call = Call(
            method="POST", path=f"{self._path}{segment(item.id)}", subject=f"item {item.id}", body=Json(content)
        )
        try:
            await self._transport.json(call)
        except Refused:
            return "off"
        return "on" if await self._content(await self._items.get(item.id)) == b"after" else "off"

    async def _readonly(self) -> str:
        item = await self._file("readonly", b"1", Permission.READ_ONLY)
        try:
            await self._items.update(item.id, path=f"{self._folder}/renamed")
        except (Refused, Unauthenticated):
            return "enforced"
        return "advisory"

    async def _unknown_job_list(self) -> str:
        path = f"{PREFIX}/expert_jobs/{_UNKNOWN_JOB}/workspace_instance/items/"
        try:
            await Items(self._transport, path, "an unknown job", Lifecycle.EXPERT_JOB).list_page(skip=0, take=1)
        except NotFound:
            return "404"
        return "empty"


@asynccontextmanager
async def probing(transport: Transport, job: str) -> AsyncIterator[Probe]:
    """Make a directory for probes in a job's workspace, and remove it in the end.

    :raises ApiError: that was refused, or the server does not answer.
    """
    items = Studio(transport).items(job)
    folder = await items.create_directory(f"jobfs-probe-{secrets.token_hex(4)}", Permission.READ_WRITE)
    try:
        with tempfile.TemporaryDirectory(prefix="jobfs-probe-") as scratch:
            yield Probe(transport, job, folder.path, Path(scratch))
    finally:
        await items.delete(folder.id)
