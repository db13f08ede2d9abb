"""``jobfs.AsyncWorkspace``, and what is remembered of a workspace."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from jobfs import AsyncWorkspace, errors
from jobfs.server.running import RunningServer
from jobfs.workspace.awaiting import connect
from jobfs.workspace.connection import Connection
from jobfs.workspace.places import place_in
from jobfs.workspace.sight import Sight

_T = TypeVar("_T")


def in_workspace(job: str, work: Callable[[AsyncWorkspace], Awaitable[_T]]) -> _T:
    """Do something in a workspace, on a loop of its own."""

    async def run() -> _T:
        async with AsyncWorkspace(job) as workspace:
            return await work(workspace)

    return asyncio.run(run())


# -- the workspace


def test_many_files_are_written_side_by_side_into_one_new_directory(studio: RunningServer, job: str) -> None:
    async def write(workspace: AsyncWorkspace) -> None:
        await asyncio.gather(*(workspace.write(f"a/b/{n}", str(n), parents=True) for n in range(30)))

    in_workspace(job, write)
    held = studio.contents(job)
    assert sorted(path for path, content in held.items() if content is None) == ["a", "a/b"]
    assert {path: content for path, content in held.items() if content is not None} == {
        f"a/b/{n}": str(n).encode() for n in range(30)
    }


def test_a_file_is_read_in_parts_and_written_as_a_whole(studio: RunningServer, job: str) -> None:
    content = bytes(range(256)) * 70_000
    studio.put_item(job, "source", content)

    async def copy(workspace: AsyncWorkspace) -> int:
        parts = 0
        async with workspace.reading("source") as source, workspace.writing("target") as target:
            async for part in source.chunks():
                target.write(part)
                parts += 1
        return parts

    assert in_workspace(job, copy) == 3
    assert studio.contents(job)["target"] == content


def test_a_written_block_that_fails_leaves_nothing(studio: RunningServer, job: str) -> None:
    async def fail(workspace: AsyncWorkspace) -> None:
        async with workspace.writing("target") as target:
            target.write(b"half")
            raise LookupError

    with pytest.raises(LookupError):
        in_workspace(job, fail)
    assert studio.contents(job) == {}


def test_two_who_append_to_one_new_file_do_not_overwrite_each_other(studio: RunningServer, job: str) -> None:
    async def both(workspace: AsyncWorkspace) -> None:
        async with workspace.writing("log", "ab") as first:
            first.write(b"first")
            async with workspace.writing("log", "ab") as second:
                second.write(b"second")

    with pytest.raises(errors.PathExists):
        in_workspace(job, both)
    assert studio.contents(job) == {"log": b"second"}


def test_walking_and_finding_await(studio: RunningServer, job: str) -> None:
    studio.put_item(job, "a/b", b"1")

    async def look(workspace: AsyncWorkspace) -> list[tuple[str, int, int]]:
        return [(above, len(directories), len(files)) async for above, directories, files in workspace.walk()]

    assert in_workspace(job, look) == [("", 1, 0), ("a", 0, 1)]


def test_a_job_is_started_and_waited_for(studio: RunningServer) -> None:
    async def run() -> tuple[str, list[str]]:
        async with await AsyncWorkspace.start("@jobfs/word-count", "Count") as workspace:
            return await workspace.wait(timeout_s=30), [found.path for found in await workspace.outputs()]

    assert asyncio.run(run()) == ("completed", ["word-count.md"])


def test_a_start_that_fails_leaves_no_connection_open(studio: RunningServer) -> None:
    with pytest.raises(errors.ApiError):
        asyncio.run(AsyncWorkspace.start("@jobfs/no-such-expert", "Go"))


# -- what is remembered


class Looking:
    """A look at one workspace, with a clock that the test moves."""

    def __init__(self, connection: Connection, job: str, studio: RunningServer) -> None:
        self.now = 0.0
        self.job = job
        self.studio = studio
        self.remote = connection.remote(job)
        self.sight = Sight(self.remote, believed_s=10.0, clock=lambda: self.now)

    async def paths(self) -> list[str]:
        return [found.path for found in (await self.sight.snapshot()).below("")]

    async def listings(self, work: Awaitable[object]) -> int:
        """Return how many listings something took."""
        self.studio.clear_requests()
        await work
        return sum(request.path.endswith("/items/") and request.method == "GET" for request in self.studio.requests)


def looking(studio: RunningServer, job: str, work: Callable[[Looking], Awaitable[None]]) -> None:
    async def run() -> None:
        connection = connect({"url": studio.url, "api_key": studio.api_key, "state": Path()})
        try:
            await work(Looking(connection, job, studio))
        finally:
            await connection.aclose()

    asyncio.run(run())


def test_a_listing_is_believed_until_its_time_is_up_or_it_is_forgotten(studio: RunningServer, job: str) -> None:
    async def look(at: Looking) -> None:
        assert await at.listings(at.paths()) == 1
        studio.put_item(job, "new", b"")
        at.now = 9.9
        assert await at.listings(at.paths()) == 0
        assert await at.paths() == []
        at.now = 10.0
        assert await at.paths() == ["new"]
        studio.put_item(job, "newer", b"")
        at.sight.forget()
        assert await at.paths() == ["new", "newer"]

    studio.put_item(job, "first", None)
    studio.expert_deletes(job, "first")
    looking(studio, job, look)


def test_that_something_is_missing_is_never_believed_from_memory(studio: RunningServer, job: str) -> None:
    async def look(at: Looking) -> None:
        assert await at.paths() == ["a"]
        studio.put_item(job, "a/new", b"1")
        assert (await at.sight.locate(place_in(job, "a/new"))).size == 1
        assert await at.paths() == ["a", "a/new"]  # the listing was found out to be old
        with pytest.raises(errors.NotFound):
            await at.sight.locate(place_in(job, "none"))

    studio.put_item(job, "a", None)
    looking(studio, job, look)


def test_what_we_do_is_seen_without_another_listing(studio: RunningServer, job: str) -> None:
    async def look(at: Looking) -> None:
        await at.paths()
        directory = studio.put_item(job, "made", None)
        file = studio.put_item(job, "made/b", b"1")
        for item in (directory, file):
            at.sight.made(await at.remote.get(item.id))  # type: ignore[arg-type]
        assert await at.listings(at.paths()) == 0
        assert await at.paths() == ["a", "a/c", "made", "made/b"]
        at.sight.removed(await at.sight.locate(place_in(job, "made")))
        at.sight.removed(await at.sight.locate(place_in(job, "a/c")))
        assert await at.listings(at.paths()) == 0
        assert await at.paths() == ["a"]

    studio.put_item(job, "a/c", b"")
    looking(studio, job, look)


def test_what_we_do_while_a_listing_is_taken_is_in_it(studio: RunningServer, job: str) -> None:
    async def look(at: Looking) -> None:
        item = studio.put_item(job, "gone", b"")
        found = await at.sight.locate(place_in(job, "gone"))
        assert found.item is not None
        assert found.item.id == item.id
        at.sight.forget()
        listing = asyncio.create_task(at.sight.snapshot())
        await asyncio.sleep(0)  # it has begun, and may have been answered or not
        await at.remote.delete(found.item.id)
        at.sight.removed(found)
        await listing
        assert await at.paths() == []

    looking(studio, job, look)
