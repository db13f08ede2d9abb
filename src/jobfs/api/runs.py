"""Runs and their artifacts (endpoints 28 to 32), and the files of one run as something to mount.

The base of the transport holds host and prefix (contract E-1); ``address.base_of_runs`` adds the prefix
where only a host is given.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

from jobfs import errors
from jobfs.api import wire
from jobfs.api.address import segment
from jobfs.api.answer import WRONG_ANSWER, ItemPage, normal_path, read_rows
from jobfs.api.call import Call
from jobfs.api.items import PAGE_ROWS, Download, open_download
from jobfs.api.transport import Transport
from jobfs.api.uploads import FilePool, bytes_call, run_call
from jobfs.api.wire import Artifact, Run
from jobfs.model import Item, ItemId, Kind, Lifecycle, Permission

log = logging.getLogger("jobfs.api")

_PARALLEL_SIZES = 4


@dataclass(frozen=True, slots=True)
class RunPage:
    """One page of runs. A short one is not the last; only one without ``next_cursor`` is (contract E-16)."""

    runs: Sequence[Run]
    next_cursor: str | None


class Runs:
    """The calls on runs.

    :ivar files: the pool of reusable files.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._has_encoded_slashes = False
        self.files = FilePool(transport)

    async def get_run(self, run_id: str, *, expand: Sequence[str] = ()) -> Run:
        """Return a run.

        :param expand: sections beyond the slim ones: input, usage, execution, debug. Ask only for what is shown;
            the first and the last may hold private data (contract E-12).
        """
        query = {"expand": ",".join(expand)} if expand else {}
        subject = f"run {run_id}"
        answer = await self._transport.json(run_call("GET", f"/runs/{segment(run_id)}", subject, query=query))
        return wire.read_one(Run, answer, subject)

    async def list_runs(
        self, *, cursor: str | None = None, limit: int | None = None, filters: Mapping[str, str] | None = None
    ) -> RunPage:
        """Return one page of runs.

        :param filters: further query parameters of the contract, such as ``status``.
        """
        query = {name: value for name, value in (filters or {}).items() if name not in ("cursor", "offset")}
        query |= {"cursor": cursor} if cursor is not None else {}
        query |= {"limit": str(limit)} if limit is not None else {}
        answer = await self._transport.json(run_call("GET", "/runs", "runs", query=query))
        runs, _ = read_rows(_member(answer, "runs"), Run.model_validate, "runs")
        following = answer.get("nextCursor") if isinstance(answer, Mapping) else None
        return RunPage(runs, following if isinstance(following, str) and following else None)

    async def iter_runs(self, *, filters: Mapping[str, str] | None = None) -> AsyncIterator[Run]:
        """Yield every run, each once, page by page as they are consumed."""
        seen: set[str] = set()
        cursors: set[str | None] = set()
        cursor: str | None = None
        while cursor not in cursors:
            cursors.add(cursor)
            page = await self.list_runs(cursor=cursor, filters=filters)
            for run in page.runs:
                if run.id not in seen:
                    seen.add(run.id)
                    yield run
            cursor = page.next_cursor
            if cursor is None:
                return

    async def list_artifacts(self, run_id: str) -> list[Artifact]:
        """Return the artifacts of a run, each path once; rows that cannot be read are left out with a warning."""
        return (await self.list_with_malformed(run_id))[0]

    async def list_with_malformed(self, run_id: str) -> tuple[list[Artifact], int]:
        """Return the same, and how many rows could not be read."""
        subject = f"artifacts of run {run_id}"
        answer = await self._transport.json(run_call("GET", f"/runs/{segment(run_id)}/artifacts", subject))
        return _artifacts(_member(answer, "artifacts"), subject)

    @asynccontextmanager
    async def download_artifact(
        self, run_id: str, path: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[Download]:
        """Open an artifact; a range is a wish, as for items.

        Its path is sent with literal slashes first; where that is not found, once with encoded ones, and what worked is
        remembered for this server (contract E-2).

        :raises InvalidPath: for a path with empty parts or dots alone, which HTTP stacks would collapse.
        """
        base = f"/runs/{segment(run_id)}/artifacts/"
        literal = "/".join(segment(part) for part in path.split("/"))
        spellings = {False: literal, True: quote(path, safe="")}
        first, second = self._has_encoded_slashes, not self._has_encoded_slashes
        async with AsyncExitStack() as opened:

            async def open_as(has_encoded: bool) -> Download:
                def call(headers: Mapping[str, str]) -> Call:
                    return bytes_call(f"{base}{spellings[has_encoded]}", f"artifact {path!r}", headers)

                return await opened.enter_async_context(open_download(self._transport, call, offset, length))

            try:
                download = await open_as(first)
            except errors.NotFound:
                if spellings[first] == spellings[second]:
                    raise
                download = await open_as(second)
                self._has_encoded_slashes = second
            yield download


class RunFiles:
    """The artifacts of one run; satisfies ``engine.remote.Remote``, reading only.

    An item's id is its path, as the server spells it. Directories are implied by the paths. An artifact whose size the
    server does not know is read to its end, once, when it is first listed, and its length kept for as long as this
    object lives and the run's state stays (contract E-7): a listing never shows a wrong size, at the price of a
    download for each such artifact.
    """

    def __init__(self, runs: Runs, run_id: str) -> None:
        self._runs = runs
        self._learnt: dict[tuple[str, str], int] = {}
        self._listed: list[Item] = []
        self._malformed = 0
        self.run_id = run_id

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be written there at all: always so for a run."""
        return True

    async def status(self) -> str:
        """Return ``completed`` for a finished run, however it ended, else ``processing`` (contract E-10)."""
        return "completed" if (await self._runs.get_run(self.run_id)).finished else "processing"

    async def hints(self) -> AsyncIterator[object]:
        """Yield nothing: nobody tells of a run's artifacts but its listing."""
        none: tuple[object, ...] = ()
        for hint in none:
            yield hint

    async def list_page(self, *, skip: int, take: int = PAGE_ROWS) -> ItemPage:
        """Return one page. The first page asks the server; later ones go on in what it said then.

        What could not be read counts as rows of the last page, so that nothing is taken for deleted from it.
        """
        if skip == 0 or not self._listed:
            self._listed, self._malformed = await self._list()
        is_last = skip + take >= len(self._listed)
        page = self._listed[skip : skip + take]
        return ItemPage(page, len(self._listed) + self._malformed, self._malformed if is_last else 0)

    async def find(self, path: str) -> Sequence[Item]:
        """Return the items whose normal path is exactly this one."""
        return [item for item in (await self._list())[0] if item.path == path]

    async def get(self, item: ItemId) -> Item:
        """Return one item; ``NotFound`` where it is gone.

        :raises ProtocolViolation: it is not among the rows that can be read, and may be one of those that cannot.
        """
        items, malformed = await self._list()
        for found in items:
            if found.id == item:
                return found
        if malformed:
            cause = f"artifact {item!r}: {malformed} rows of run {self.run_id} cannot be read"
            raise errors.ProtocolViolation(cause, WRONG_ANSWER)
        raise errors.NotFound(f"artifact {item!r}: not in run {self.run_id}", "list the run again", status=404)

    @asynccontextmanager
    async def download(self, item: ItemId, *, offset: int = 0, length: int | None = None) -> AsyncIterator[Download]:
        """Open the content. A range is a wish: see ``Download.offset``."""
        path = normal_path(item)
        async with self._runs.download_artifact(self.run_id, path, offset=offset, length=length) as download:
            yield download

    async def create_directory(self, path: str, permission: Permission) -> Item:
        """Refuse."""
        self._refuse(path)

    async def create_file(self, path: str, permission: Permission, source: Path | bytes, mime_type: str) -> Item:
        """Refuse."""
        self._refuse(path)

    async def update(
        self,
        item: ItemId,
        *,
        path: str | None = None,
        permission: Permission | None = None,
        lifecycle: Lifecycle | None = None,
    ) -> Item:
        """Refuse."""
        self._refuse(item)

    async def delete(self, item: ItemId) -> None:
        """Refuse."""
        self._refuse(item)

    def _refuse(self, path: str) -> NoReturn:
        raise errors.Refused(f"{path!r}: the files of a run cannot be changed", "copy them to a place of your own")

    async def _list(self) -> tuple[list[Item], int]:
        """Return the artifacts as items, and how many rows could not be read.

        The list is the authority, ``files`` of the run the fallback (contract E-5).

        One whose size is unknown and that no request can name is counted with the rows that could not be read.
        """
        run = await self._runs.get_run(self.run_id)
        try:
            artifacts, malformed = await self._runs.list_with_malformed(self.run_id)
        except (errors.NotFound, errors.ProtocolViolation):
            artifacts, malformed = _artifacts(run.files, f"files of run {self.run_id}")
        state = run.timing.completed_at or ("finished" if run.finished else "")
        places = asyncio.Semaphore(_PARALLEL_SIZES)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._item(artifact, state, places)) for artifact in artifacts]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        items = [item for task in tasks if (item := task.result()) is not None]
        return items, malformed + len(tasks) - len(items)

    async def _item(self, artifact: Artifact, state: str, places: asyncio.Semaphore) -> Item | None:
        size = artifact.size
        if size is None:
            try:
                async with places:
                    size = await self._learn_size(artifact.path, state)
            except errors.InvalidPath as unnamed:
                log.warning("run %s: an artifact of unknown size is left out: %s", self.run_id, unnamed.cause)
                return None
        return Item(
            id=ItemId(artifact.path),
            kind=Kind.FILE,
            path=normal_path(artifact.path),
            raw_path=artifact.path,
            permission=Permission.READ_ONLY,
            lifecycle=Lifecycle.EXPERT_JOB,
            owner="expert",
            created_at="",
            updated_at=state,
            size=size,
            mime_type=artifact.content_type,
        )

    async def _learn_size(self, path: str, state: str) -> int:
        size = self._learnt.get((path, state))
        if size is None:
            size = 0
            async with self.download(ItemId(path)) as download:
                async for chunk in download.chunks():
                    size += len(chunk)
            self._learnt[path, state] = size
        return size


def _member(answer: object, name: str) -> object:
    return answer.get(name) if isinstance(answer, Mapping) else None


def _artifacts(values: object, subject: str) -> tuple[list[Artifact], int]:
    """Return the artifacts, the first of each path, and how many rows could not be read."""
    rows, malformed = read_rows(values, _artifact, subject)
    first: dict[str, Artifact] = {}
    for artifact in rows:
        first.setdefault(artifact.path, artifact)
    return list(first.values()), malformed


def _artifact(value: object) -> Artifact:
    artifact = Artifact.model_validate(value)
    artifact.path.encode()
    return artifact
