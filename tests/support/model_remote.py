"""A workspace in memory that satisfies ``engine.remote.Remote``: for tests of the engine without a server.

It follows the reference server's default profile (contract, section 8). ``calls`` lists what was asked for;
``before`` and ``after`` are hooks of one call each, which may raise what a network raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from jobfs.errors import NotFound, ParentMissing, PathExists, Unreachable
from jobfs.model import Item, ItemId, Kind, Lifecycle, Permission


@dataclass(frozen=True)
class ModelPage:
    items: Sequence[Item]
    total: int | None
    malformed: int = 0


class ModelDownload:
    def __init__(self, remote: ModelRemote, data: bytes, offset: int) -> None:
        self._remote = remote
        self._data = data
        self.offset = offset
        self.length: int | None = len(data)
        self.offers_ranges = remote.offers_ranges
        self.behind_first: Callable[[], Awaitable[object]] | None = None
        """Awaited before each chunk of this one but the first."""

    async def chunks(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self._data), self._remote.chunk_bytes):
            await self._remote.gate.wait()
            if at and self.behind_first is not None:
                await self.behind_first()
            if self._remote.before_chunk is not None:
                await self._remote.before_chunk(self.offset + at)
            yield self._data[at : at + self._remote.chunk_bytes]


class ModelRemote:
    """The items of one job."""

    def __init__(
        self, *, is_read_only: bool = False, children_follow: bool = True, honours_ranges: bool = False
    ) -> None:
        self.is_read_only = is_read_only
        self.children_follow = children_follow
        self.honours_ranges = honours_ranges
        self.offers_ranges = False
        self.ranges: list[tuple[int, int | None]] = []
        """What each download asked for: offset and length."""
        self.items: dict[ItemId, Item] = {}
        self.bytes: dict[ItemId, bytes] = {}
        self.calls: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda call, subject: None
        self.after: Callable[[str, str], None] = lambda call, subject: None
        self.job_status = "completed"
        self.hinted: asyncio.Queue[str | None] = asyncio.Queue()
        """What the server hints at; None ends the stream."""
        self.chunk_bytes = 1 << 16
        self.gate = asyncio.Event()
        self.gate.set()
        self.before_chunk: Callable[[int], Awaitable[None]] | None = None
        """Awaited before each chunk of a download, with its place in the file; may raise what a network raises."""
        self._next = 0
        self._born: dict[ItemId, int] = {}
        self.destroyed_unseen: set[bytes] = set()
        """Bytes deleted along with a directory although they were younger than anybody's last listing."""

    # -- what a test arranges

    def put(self, path: str, data: bytes | None, *, owner: str = "user", shared: bool = False) -> Item:
        """Put a file (or, with None, a directory) there as the expert or another client would."""
        old = self.at(path)
        if old is not None and data is not None and old.kind is Kind.FILE:
            stamp = self._stamp()
            item = replace(old, size=len(data), key=f"k{stamp}", updated_at=stamp)
        else:
            item = self._new(path, Kind.FILE if data is not None else Kind.DIRECTORY, data or b"", owner)
        if shared:
            item = replace(item, lifecycle=Lifecycle.APPLICATION)
        self.items[item.id] = item
        if data is not None:
            self.bytes[item.id] = data
        return item

    def at(self, path: str) -> Item | None:
        """Return the item at a path."""
        return next((item for item in self.items.values() if item.path == path), None)

    def tree(self) -> dict[str, bytes | None]:
        """Return what is there: path to bytes, None for directories."""
        return {item.path: self.bytes.get(item.id) for item in sorted(self.items.values(), key=lambda item: item.path)}

    def remove(self, path: str) -> None:
        """Remove an item, with everything below it, as another client would."""
        for item in list(self.items.values()):
            if item.path == path or item.path.startswith(path + "/"):
                del self.items[item.id]
                self.bytes.pop(item.id, None)

    def asked(self, *names: str) -> list[tuple[str, str]]:
        """Return the calls of these names, or every call that is no look at the status or list."""
        if names:
            return [call for call in self.calls if call[0] in names]
        return [call for call in self.calls if call[0] not in ("status", "list_page", "hints")]

    # -- the protocol

    async def hints(self) -> AsyncIterator[str]:
        self.calls.append(("hints", ""))
        while (hint := await self.hinted.get()) is not None:
            yield hint

    async def status(self) -> str:
        async with self._call("status", ""):
            return self.job_status

    async def list_page(self, *, skip: int, take: int) -> ModelPage:
        async with self._call("list_page", str(skip)):
            rows = list(self.items.values())
            return ModelPage(rows[skip : skip + take], len(rows))

    async def find(self, path: str) -> list[Item]:
        async with self._call("find", path):
            return [item for item in self.items.values() if item.path == path]

    async def get(self, item: ItemId) -> Item:
        async with self._call("get", item):
            return self._get(item)

    async def create_directory(self, path: str, permission: Permission) -> Item:
        async with self._call("create_directory", path):
            self._check_place(path)
            made = replace(self._new(path, Kind.DIRECTORY, b"", "user"), permission=permission)
            self.items[made.id] = made
            return made

    async def create_file(self, path: str, permission: Permission, source: Path | bytes, mime_type: str) -> Item:
        async with self._call("create_file", path):
            data = source if isinstance(source, bytes) else source.read_bytes()
            await asyncio.sleep(0)
            self._check_place(path)
            made = replace(self._new(path, Kind.FILE, data, "user"), permission=permission, mime_type=mime_type)
            self.items[made.id] = made
            self.bytes[made.id] = data
            self._born[made.id] = len(self.calls)
            return made

    async def update(
        self,
        item: ItemId,
        *,
        path: str | None = None,
        permission: Permission | None = None,
        lifecycle: Lifecycle | None = None,
    ) -> Item:
        async with self._call("update", f"{item} {path or permission or lifecycle}"):
            changed = self._get(item)
            if path is not None and path != changed.path:
                self._check_place(path)
                self._carry(changed.path, path)
                changed = replace(changed, path=path, raw_path=path)
            if permission is not None:
                changed = replace(changed, permission=permission)
            if lifecycle is not None:
                changed = replace(changed, lifecycle=lifecycle)
            changed = replace(changed, updated_at=self._stamp())
            self.items[item] = changed
            self._born[item] = len(self.calls)
            return changed

    async def delete(self, item: ItemId) -> None:
        async with self._call("delete", item):
            path = self._get(item).path
            listed = max((at for at, (call, _) in enumerate(self.calls) if call == "list_page"), default=0)
            for below in self.items.values():
                if below.path.startswith(path + "/") and self._born.get(below.id, 0) > listed:
                    self.destroyed_unseen.add(self.bytes.get(below.id, b""))
            self.remove(path)

    @asynccontextmanager
    async def download(
        self, item: ItemId, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[ModelDownload]:
        async with self._call("download", item):
            self._get(item)
            self.ranges.append((offset, length))
            data = self.bytes[item]
            if self.honours_ranges and offset < len(data):
                yield ModelDownload(self, data[offset:][:length], offset)
            else:
                yield ModelDownload(self, data, 0)

    # -- pieces

    @asynccontextmanager
    async def _call(self, name: str, subject: str) -> AsyncIterator[None]:
        self.calls.append((name, subject))
        await asyncio.sleep(0)
        self.before(name, subject)
        yield
        self.after(name, subject)

    def _stamp(self) -> str:
        self._next += 1
        return f"2026-01-01T00:{self._next // 60000:02d}:{self._next // 1000 % 60:02d}.{self._next % 1000:03d}Z"

    def _new(self, path: str, kind: Kind, data: bytes, owner: str) -> Item:
        stamp = self._stamp()
        number = f"i{self._next:023d}"
        return Item(
            ItemId(number),
            kind,
            path,
            path,
            Permission.READ_WRITE,
            Lifecycle.EXPERT_JOB,
            owner,
            stamp,
            stamp,
            len(data),
            f"k{stamp}" if kind is Kind.FILE else "",
        )

    def _get(self, item: ItemId) -> Item:
        if item not in self.items:
            raise NotFound("no such item", status=404)
        return self.items[item]

    def _check_place(self, path: str) -> None:
        existing = self.at(path)
        if existing is not None and existing.lifecycle is Lifecycle.EXPERT_JOB:
            raise PathExists("the path is taken", status=400)
        above = path.rpartition("/")[0]
        parent = self.at(above)
        if above and (parent is None or parent.kind is not Kind.DIRECTORY):
            raise ParentMissing("the directory is not there", status=400)

    def _carry(self, old: str, new: str) -> None:
        if not self.children_follow:
            return
        for item in list(self.items.values()):
            if item.path.startswith(old + "/"):
                path = new + item.path[len(old) :]
                self.items[item.id] = replace(item, path=path, raw_path=path)


def refuse_changes(call: str, subject: str) -> None:
    """Let nothing through that changes the server; for ``ModelRemote.before``."""
    if call in ("create_file", "create_directory", "update", "delete"):
        raise Unreachable("no route")
