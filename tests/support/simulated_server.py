"""A workspace under the embedded server's own rules, in memory, and the bad line that each client has to it.

Every request takes time; in bad weather it is lost, answered with a failure, answered after the client gave up, or done
although its answer is lost. What a request does, it does at one moment of the simulated time, as in a transaction.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from virtual_loop import EPOCH_NS, FIRST_MOMENT_S, VirtualLoop

from jobfs.api.failures import Answer, failure
from jobfs.api.keys import KeyKind
from jobfs.errors import OutcomeUnknown, RateLimited, ServerFailure, Unreachable
from jobfs.model import Item, ItemId, Kind, Lifecycle, Permission
from jobfs.server.ids import seeded_ids
from jobfs.server.items import ItemRecord, View
from jobfs.server.memory import MemoryItems
from jobfs.server.refusals import Refused
from jobfs.server.switches import Switches
from jobfs.server.times import iso
from jobfs.server.workspace import Change, Draft, WorkspaceRules

T = TypeVar("T")

VIEW = View("application", "instance")


class SimulatedServer:
    """The items of one job. Plain calls: each is done at once."""

    def __init__(self, loop: VirtualLoop, switches: Switches) -> None:
        self._loop = loop
        self.switches = switches
        self._store = _Recorded(loop.dice, self)
        ids = random.Random(loop.dice.random())
        self.rules = WorkspaceRules(
            self._store, clock=self._now_ms, new_id=seeded_ids(ids), switches=lambda: self.switches
        )
        self.contents: dict[str, bytes] = {}
        """Every content there ever was, by storage key."""
        self.born_s: dict[bytes, float] = {}
        """When bytes came to a place at which they are now."""
        self.versions: dict[str, list[str]] = {}
        """The storage keys that each item has had, in order."""
        self.destroyed_unseen: set[bytes] = set()
        """Bytes younger than the listing on whose word they were deleted: no request of the API is conditional."""
        self._keys = 0
        self.status = "completed"
        self.page_rows = 100

    def _now_ms(self) -> int:
        return EPOCH_NS // 1_000_000 + int((self._loop.time() - FIRST_MOMENT_S) * 1000)

    def store_bytes(self, data: bytes) -> str:
        """Keep a content and return its key."""
        self._keys += 1
        key = f"key{self._keys}"
        self.contents[key] = data
        return key

    def everything(self) -> list[Item]:
        """Return all items, by path."""
        return sorted(
            map(item_of, self._store.page(VIEW, order="created", skip=0, take=-1)), key=lambda item: item.path
        )

    def tree(self) -> dict[str, bytes | None]:
        """Return what is there: path to bytes, None for directories, the implicit ones (view rule 3) among them."""
        found = {item.path: self.contents[item.key] if item.key else None for item in self.everything()}
        for path in list(found):
            while path := path.rpartition("/")[0]:
                found.setdefault(path, None)
        return found

    def page(self, skip: int, take: int) -> tuple[list[Item], int]:
        order = "created" if self.switches.list_order == "created" else "shuffled"
        rows = self._store.page(VIEW, order=order, skip=skip, take=min(take, self.page_rows))  # type: ignore[arg-type]
        return list(map(item_of, rows)), self._store.count(VIEW)

    def put(self, path: str, data: bytes | None) -> list[bytes]:
        """Write as the expert does in its sandbox; return the bytes that are no more."""
        old = [self.contents[record.key] for record in self._store.at(VIEW.own, path) if record.key]
        draft = Draft(path, data is None, owner="expert")
        if data is not None:
            draft = Draft(path, is_directory=False, owner="expert", key=self.store_bytes(data), size=len(data))
            self.born_s[data] = self._loop.time()
        self.rules.overwrite(VIEW, draft)
        return old

    def delete(self, path: str) -> None:
        """Delete what is at a path, as the expert does."""
        for record in self._store.at(VIEW.own, path):
            self.rules.delete(VIEW, record.id)

    def below(self, path: str) -> list[bytes]:
        """Return the contents at and below a path."""
        return [
            data for at, data in self.tree().items() if data is not None and (at == path or at.startswith(path + "/"))
        ]


class _Recorded(MemoryItems):
    """Remembers which contents each item has had."""

    def __init__(self, shuffle: random.Random, server: SimulatedServer) -> None:
        super().__init__(shuffle)
        self._server = server

    def put(self, record: ItemRecord) -> None:
        versions = self._server.versions.setdefault(record.id, [])
        if record.key and record.key not in versions[-1:]:
            versions.append(record.key)
        super().put(record)


@lru_cache(maxsize=64)
def item_of(record: ItemRecord) -> Item:
    return Item(
        ItemId(record.id),
        Kind.DIRECTORY if record.is_directory else Kind.FILE,
        record.path,
        record.shown,
        Permission(record.permission),
        Lifecycle.EXPERT_JOB if record.space == VIEW.own else Lifecycle.APPLICATION,
        record.owner,
        iso(record.created_ms),
        iso(record.updated_ms),
        record.size,
        record.key,
        record.mime_type,
    )


@dataclass(slots=True)
class Weather:
    """How bad the line is, as probabilities for each request.

    :param delay_s: the longest way there, and the longest way back.
    :param late_s: how long after a client gave up its request may still be done.
    """

    delay_s: float = 0.02
    lost: float = 0.0
    lost_reply: float = 0.0
    failed: float = 0.0
    failed_after: float = 0.0
    limited: float = 0.0
    late: float = 0.0
    cut: float = 0.0
    late_s: float = 0.0

    def clear(self) -> None:
        """Let the faults stop."""
        self.lost = self.lost_reply = self.failed = self.failed_after = self.limited = self.late = self.cut = 0.0


@dataclass(frozen=True)
class SimulatedPage:
    items: Sequence[Item]
    total: int | None
    malformed: int = 0


class SimulatedDownload:
    def __init__(self, line: Line, data: bytes, offset: int) -> None:
        self._line = line
        self._data = data
        self.offset = offset
        self.length: int | None = len(data)
        self.offers_ranges = line.server.switches.range == "honour"

    async def chunks(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self._data), 700):
            await self._line.travel()
            if self._line.throw(self._line.weather.cut):
                raise Unreachable("the body was cut")
            yield self._data[at : at + 700]


@dataclass
class Line:
    """One client's requests. Satisfies ``engine.remote.Remote``.

    :param note: takes one line for the trace. :param on_step: called wherever the client could die.
    """

    name: str
    loop: VirtualLoop
    server: SimulatedServer
    weather: Weather
    note: Callable[[str], None]
    on_step: Callable[[], None] = lambda: None
    is_read_only: bool = False
    is_dead: bool = False
    listed_s: float = 0.0
    """When the first page of the newest listing was made."""
    trusted_s: float = 0.0
    _late: set[asyncio.Task[None]] = field(default_factory=set)

    def throw(self, probability: float) -> bool:
        """Let the dice decide."""
        return probability > 0 and self.loop.dice.random() < probability

    async def travel(self) -> None:
        """Take the time of one way, for ever where the client is dead."""
        if self.is_dead:
            await self.loop.create_future()
        await asyncio.sleep(self.loop.dice.random() * self.weather.delay_s)

    async def _ask(self, name: str, subject: str, effect: Callable[[], T], *, writes: bool = False) -> T:
        self.note(f"{self.name} > {name} {subject}")
        self.on_step()
        await self.travel()
        weather = self.weather
        if self.throw(weather.lost):
            self._fail(name, OutcomeUnknown("lost") if writes else Unreachable("lost"))
        if self.throw(weather.limited):
            self._fail(name, RateLimited("too many", status=429))
        if self.throw(weather.failed):
            self._fail(name, ServerFailure("failed", status=503))
        if writes and self.throw(weather.late):
            self._do_late(name, effect)
            self._fail(name, OutcomeUnknown("late"))
        try:
            result = effect()
        except Refused as refused:
            self.note(f"{self.name} < {name} {refused.reason}")
            await self.travel()
            raise _error(refused, name) from None
        if self.throw(weather.lost_reply):
            self._fail(name, OutcomeUnknown("reply lost") if writes else Unreachable("reply lost"))
        if self.throw(weather.failed_after):
            self._fail(name, ServerFailure("failed after", status=502))
        if not self.is_dead:
            self.on_step()
        await self.travel()
        self.note(f"{self.name} < {name} {_shown(result)}")
        if not self.is_dead:
            self.on_step()
        await self.travel() if self.is_dead else None
        return result

    def _fail(self, name: str, error: Exception) -> None:
        self.note(f"{self.name} < {name} ! {error!r}")
        raise error

    def _do_late(self, name: str, effect: Callable[[], object]) -> None:
        async def later() -> None:
            await asyncio.sleep(self.loop.dice.random() * self.weather.late_s)
            try:
                effect()
                self.note(f"{self.name} ~ {name} done late")
            except Refused as refused:
                self.note(f"{self.name} ~ {name} late: {refused.reason}")

        task = self.loop.create_task(later())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    # -- the protocol

    async def hints(self) -> AsyncIterator[str]:
        await self.travel()
        for _ in range(self.loop.dice.randrange(3)):
            await asyncio.sleep(self.loop.dice.random() * 5)
            yield "something"

    async def status(self) -> str:
        return await self._ask("status", "", lambda: self.server.status)

    async def list_page(self, *, skip: int, take: int) -> SimulatedPage:
        def page() -> SimulatedPage:
            if not skip:
                self.listed_s = self.loop.time()
            return SimulatedPage(*self.server.page(skip, take))

        return await self._ask("list", f"{skip}", page)

    async def find(self, path: str) -> list[Item]:
        return await self._ask("find", path, lambda: list(map(item_of, self.server.rules.seen_at(VIEW, path))))

    async def get(self, item: ItemId) -> Item:
        return await self._ask("get", item, lambda: item_of(self.server.rules.get(VIEW, item)))

    async def create_directory(self, path: str, permission: Permission) -> Item:
        draft = Draft(path, is_directory=True, permission=permission.value)
        return await self._ask("mkdir", path, lambda: item_of(self.server.rules.create(VIEW, draft)), writes=True)

    async def create_file(self, path: str, permission: Permission, source: Path | bytes, mime_type: str) -> Item:
        data = source if isinstance(source, bytes) else source.read_bytes()  # read where an upload begins ...

        def create() -> Item:
            key = self.server.store_bytes(data)
            draft = Draft(path, False, permission.value, key=key, mime_type=mime_type, size=len(data))
            made = item_of(self.server.rules.create(VIEW, draft))
            self.server.born_s[data] = self.loop.time()
            return made

        made = await self._ask("create", f"{path} {label(data)}", create, writes=True)
        # ... and it must not change before it ends.
        assert isinstance(source, bytes) or not source.exists() or source.read_bytes() == data
        return made

    async def update(
        self,
        item: ItemId,
        *,
        path: str | None = None,
        permission: Permission | None = None,
        lifecycle: Lifecycle | None = None,
    ) -> Item:
        change = Change(path, permission.value if permission is not None else None)

        def update() -> Item:
            changed = item_of(self.server.rules.update(VIEW, item, change))
            if path is not None:
                self.server.born_s.update(dict.fromkeys(self.server.below(path), self.loop.time()))
            return changed

        subject = f"{item[:6]} {path or ''} {permission.value if permission is not None else ''}"
        return await self._ask("update", subject, update, writes=True)

    async def delete(self, item: ItemId) -> None:
        def delete() -> None:
            record = self.server.rules.get(VIEW, item)
            for data in self.server.below(record.path):
                if self.server.born_s.get(data, 0.0) >= trusted_s:
                    self.server.destroyed_unseen.add(data)
            self.server.rules.delete(VIEW, item)

        trusted_s = self.trusted_s
        await self._ask("delete", f"{item[:6]} {self._path(item)}", delete, writes=True)

    def _path(self, item: ItemId) -> str:
        try:
            return self.server.rules.get(VIEW, item).path
        except Refused:
            return "(gone)"

    @asynccontextmanager
    async def download(
        self, item: ItemId, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[SimulatedDownload]:
        def content() -> bytes:
            return self.server.contents[self.server.rules.get(VIEW, item).key]

        data = await self._ask("download", f"{item[:6]} {self._path(item)} {offset}", content)
        if self.server.switches.range == "honour" and offset < len(data):
            yield SimulatedDownload(self, data[offset:][:length], offset)
        else:
            yield SimulatedDownload(self, data, 0)


def _error(refused: Refused, name: str) -> Exception:
    body = json.dumps({"error": "Refused", "code": refused.status, "reason": refused.reason}).encode()
    return failure(Answer(refused.status, {}, body), name, key=KeyKind.API, method="PATCH")


def label(data: bytes) -> str:
    """Return the mark that a content of the simulation begins with."""
    return data.split(b".", 1)[0].decode() or "empty"


def _shown(result: object) -> str:
    if isinstance(result, Item):
        return f"{result.id[:6]} {result.path} {result.key} {result.updated_at[14:23]}"
    if isinstance(result, SimulatedPage):
        return " ".join(f"{item.path}={item.id[:6]}:{item.key}" for item in result.items)
    if isinstance(result, list):
        return " ".join(f"{item.id[:6]}:{item.key}" for item in result)
    if isinstance(result, bytes):
        return label(result)
    return str(result or "")
