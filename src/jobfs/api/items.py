"""The calls on one collection of items: a job's instance, or the application's workspace (endpoints 7 to 13, 21 to 24).

Paths are given and returned in the normal form, without slashes at the ends. How the server spells them is learnt here
(contract I-9). What a path may be towards the server is checked before anything is sent (I-10).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobfs import errors
from jobfs.api.address import segment
from jobfs.api.answer import WRONG_ANSWER, ItemPage, inside, read_rows, to_item, total_of
from jobfs.api.body import FilePart, Json, Multipart
from jobfs.api.call import Call
from jobfs.api.failures import AnswerTooLarge
from jobfs.api.stream import Stream
from jobfs.api.transport import Transport
from jobfs.model import MAX_PATH_UNITS, MOST_ITEMS, Item, ItemId, Lifecycle, Permission

PAGE_ROWS = 100
_MOST_FIND_BYTES = 4 * 1024 * 1024
_PATTERN_CHARACTERS = frozenset("*?[]{}\\%_")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:\d{1,18}|\*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Download:
    """An open download; satisfies ``engine.remote.Download``.

    :param offset: first byte that will come: the one asked for, or 0 where the server ignored the range.
    :param length: number of bytes announced, or None.
    """

    offset: int
    length: int | None
    _stream: Stream

    @property
    def offers_ranges(self) -> bool:
        """Whether the server says of itself that it honours ranges (RFC 9110, 14.3)."""
        return self._stream.headers.get("accept-ranges", "").strip().lower() == "bytes"

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes, once. The end of the body is the end; what its length should be, the caller knows.

        :raises Unreachable: where the body was cut, or nothing came for the idle limit.
        """
        return self._stream.chunks()


def check_path(path: str) -> None:
    """Refuse a path that no server should be asked for (contract I-10): empty, dots, double slashes, control
    characters, more than 1024 UTF-16 units.

    :raises InvalidPath:
    """
    cause = ""
    if not path or any(part in ("", ".", "..") for part in path.split("/")):
        cause = "an empty part, a single or a double dot"
    elif _CONTROL.search(path) is not None:
        cause = "a control character"
    else:
        try:
            units = len(path.encode("utf-16-le")) // 2
        except UnicodeEncodeError:
            cause = "bytes that are not UTF-8"
        else:
            cause = f"{units} UTF-16 units, more than {MAX_PATH_UNITS}" if units > MAX_PATH_UNITS else ""
    if cause:
        raise errors.InvalidPath(f"{path[:80]!r}: the server cannot hold a path with {cause}", "choose another name")


@asynccontextmanager
async def open_download(
    transport: Transport, call: Callable[[Mapping[str, str]], Call], offset: int, length: int | None
) -> AsyncIterator[Download]:
    """Open a download, with a range where one is wished (contract I-42).

    A range is opportunistic: an answer of 200 is the whole body, a 206 counts only with the matching Content-Range, and
    after a 416 or a wrong 206 the whole is fetched.

    :param call: makes the call from further headers.
    """
    async with AsyncExitStack() as opened:
        download = None
        if offset or length is not None:
            download = await _open_range(opened, transport, call, offset, length)
        if download is None:
            stream = await opened.enter_async_context(transport.stream(call({})))
            download = Download(0, stream.length, stream)
        yield download


async def _open_range(
    opened: AsyncExitStack,
    transport: Transport,
    call: Callable[[Mapping[str, str]], Call],
    offset: int,
    length: int | None,
) -> Download | None:
    last = "" if length is None else str(offset + max(length, 1) - 1)
    try:
        stream = await opened.enter_async_context(transport.stream(call({"Range": f"bytes={offset}-{last}"})))
    except errors.Refused as refused:
        if refused.status != 416:
            raise
        return None
    download = _ranged(stream, offset, length)
    if download is None:
        await opened.aclose()
    return download


def _ranged(stream: Stream, offset: int, length: int | None) -> Download | None:
    """Return the download of a ranged answer, or None where the answer contradicts the request."""
    if stream.status != 206:
        return Download(0, stream.length, stream)
    match = _CONTENT_RANGE.fullmatch(stream.headers.get("content-range", ""))
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    is_asked = first == offset and last >= first and (length is None or last < offset + max(length, 1))
    return Download(offset, last - first + 1, stream) if is_asked else None


class Items:
    """One collection of items.

    :param path: of the collection, with its final slash.
    :param subject: for messages: ``workspace of job abc``.
    :param lifecycle: of items in an answer that names none.
    """

    def __init__(self, transport: Transport, path: str, subject: str, lifecycle: Lifecycle) -> None:
        self._transport = transport
        self._path = path
        self._subject = subject
        self._lifecycle = lifecycle
        self._has_leading_slash = False

    async def list_page(self, *, skip: int, take: int = PAGE_ROWS) -> ItemPage:
        """Return one page (contract I-33). Consistency over pages is the caller's matter (protocol P).

        :param take: 1 to 100.
        """
        query = {"take": str(take), "skip": str(skip)}
        answer = await self._transport.json(self._call("GET", self._path, self._subject, query=query))
        return self._page(answer)

    async def list_all(self, most: int = MOST_ITEMS) -> list[Item]:
        """Return the union of all pages, by id, in one pass without the proofs of protocol P.

        A total is only believed as far as pages bring what it promises.

        :raises ProtocolViolation: there are more than ``most``.
        """
        found: dict[ItemId, Item] = {}
        skip = 0
        while skip <= most:
            page = await self.list_page(skip=skip)
            before = len(found)
            found.update((item.id, item) for item in page.items)
            rows = len(page.items) + page.malformed
            skip += rows
            is_over = page.total is not None and skip >= page.total
            if not rows or is_over or len(found) == before:
                return list(found.values())
        cause = f"{self._subject}: the server lists more than {most} items"
        raise errors.ProtocolViolation(cause, "look at the workspace there; jobfs takes no more")

    async def find(self, path: str) -> Sequence[Item]:
        """Return the items whose normal path is exactly this one.

        A name with characters that some server may read as a pattern is looked up in the list instead, and so is
        one whose answer is absurdly long (contract I-30, I-31). An empty answer is no proof of absence.
        """
        check_path(path)
        if _PATTERN_CHARACTERS.isdisjoint(path):
            query = {"path": self._spelt(path)}
            call = self._call("GET", f"{self._path}find", repr(path), query=query, most_bytes=_MOST_FIND_BYTES)
            try:
                items: Sequence[Item] = self._page(await self._transport.json(call)).items
            except AnswerTooLarge:
                items = await self.list_all()
        else:
            items = await self.list_all()
        return [item for item in items if item.path == path]

    async def get(self, item: ItemId) -> Item:
        """Return one item; ``NotFound`` where it is gone."""
        return self._one(await self._transport.json(self._item_call("GET", item)), f"item {item}")

    async def create_directory(self, path: str, permission: Permission) -> Item:
        """Create a directory whose parent exists.

        :raises PathExists: where the path is taken, as far as the server checks (contract I-6).
        """
        return await self._create(path, "workspaceItemDirectory", permission)

    async def create_file(self, path: str, permission: Permission, source: Path | bytes, mime_type: str) -> Item:
        """Create a file from given bytes, or those of a local one: streamed, its length taken at the start.

        :raises PathExists: as for a directory.
        :raises StateError: where the source became shorter meanwhile.
        """
        name = path.rsplit("/", 1)[-1]
        part = FilePart("file", name, source, mime_type or "application/octet-stream")
        return await self._create(path, "workspaceItemFile", permission, part)

    async def update(
        self,
        item: ItemId,
        *,
        path: str | None = None,
        permission: Permission | None = None,
        lifecycle: Lifecycle | None = None,
    ) -> Item:
        """Change what is given, at least one thing (contract I-15); returns the item as it then is."""
        fields: dict[str, str] = {}
        if permission is not None:
            fields["permission"] = permission.value
        if lifecycle is not None:
            fields["lifecycle"] = lifecycle.value
        if path is None:
            if not fields:
                raise ValueError("an update needs at least one field")
            return await self._update(item, fields)
        check_path(path)
        return await self._in_either_spelling(path, lambda spelt: self._update(item, {**fields, "path": spelt}))

    async def delete(self, item: ItemId) -> None:
        """Delete an item, a directory with everything below it.

        Repeated after an unclear outcome; not finding it then is success (contract I-25).

        :raises NotFound: where it was gone before the first try.
        """
        await self._transport.done(self._item_call("DELETE", item))

    @asynccontextmanager
    async def download(self, item: ItemId, *, offset: int = 0, length: int | None = None) -> AsyncIterator[Download]:
        """Open the content. A range is a wish: see ``Download.offset``."""

        def call(headers: Mapping[str, str]) -> Call:
            return self._item_call("GET", item, "/download", headers=headers, is_transfer=True, content=item)

        async with open_download(self._transport, call, offset, length) as download:
            yield download

    async def _create(self, path: str, type_: str, permission: Permission, file: FilePart | None = None) -> Item:
        check_path(path)

        async def create(spelt: str) -> Item:
            fields = [("type", type_), ("path", spelt), ("permission", permission.value)]
            body = Multipart(fields, [file] if file else [])
            is_transfer = not body.is_small
            call = self._call("POST", self._path, repr(path), body=body, is_transfer=is_transfer, content=path)
            return self._one(await self._transport.json(call), repr(path))

        return await self._in_either_spelling(path, create)

    async def _update(self, item: ItemId, fields: Mapping[str, str]) -> Item:
        answer = await self._transport.json(self._item_call("POST", item, body=Json(fields)))
        return self._one(answer, f"item {item}")

    async def _in_either_spelling(self, path: str, send: Callable[[str], Awaitable[Item]]) -> Item:
        """Send a path as this server spells it; once in the other way where it refuses, for then nothing was done."""
        try:
            return await send(self._spelt(path))
        except errors.InvalidPath as refused:
            if refused.status == 0:
                raise
            other = path if self._has_leading_slash else f"/{path}"
            try:
                item = await send(other)
            except errors.InvalidPath:
                raise refused from None
            self._has_leading_slash = not self._has_leading_slash
            return item

    def _spelt(self, path: str) -> str:
        return f"/{path}" if self._has_leading_slash else path

    def _page(self, answer: object) -> ItemPage:
        values = inside(answer, ("workspaceItems", "items"), self._subject)
        items, malformed = read_rows(values, self._read, self._subject)
        if items:
            self._has_leading_slash = all(item.raw_path.startswith("/") for item in items)
        return ItemPage(items, total_of(answer), malformed)

    def _read(self, value: object) -> Item:
        return to_item(value, self._lifecycle)

    def _one(self, answer: object, subject: str) -> Item:
        value = inside(answer, ("workspaceItem", "item"), subject)
        try:
            return self._read(value)
        except ValueError:
            raise errors.ProtocolViolation(f"{subject}: the answer is no usable item", WRONG_ANSWER) from None

    def _item_call(self, method: str, item: ItemId, suffix: str = "", **more: Any) -> Call:
        return self._call(method, f"{self._path}{segment(item)}{suffix}", f"item {item}", **more)

    def _call(self, method: str, path: str, subject: str, **more: Any) -> Call:
        return Call(method=method, path=path, subject=subject, **more)
