"""Folder mode against the embedded server, over HTTP: the same stories with everything real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from folder_harness import QUICK, Desk, eventually, run

from jobfs.api.studio import Studio
from jobfs.api.transport import Transport
from jobfs.folder.sync import FolderSync, SyncOptions
from jobfs.server.faults import Fault, Faults
from jobfs.server.running import RunningServer

ONCE = SyncOptions(host="testhost", times=QUICK)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer() as running:
        yield running


@asynccontextmanager
async def desk_on(server: RunningServer, base: Path) -> AsyncIterator[tuple[Desk, str]]:
    job = server.create_job(status="completed")
    async with Transport(server.url, server.api_key) as transport:
        yield Desk(base, Studio(transport).workspace(job)), job


def contents(server: RunningServer, job: str) -> dict[str, bytes | None]:
    return dict(sorted(server.contents(job).items()))


def test_both_directions_edits_renames_and_deletions(server: RunningServer, tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_on(server, tmp_path) as (desk, job):
            desk.write("mine/a.txt", "a")
            desk.write("big.bin", bytes(range(256)) * 20_000)
            server.put_item(job, "theirs/b.txt", b"b")
            await desk.sync(ONCE)
            assert desk.tree() == contents(server, job)
            (desk.root / "mine").rename(desk.root / "renamed")
            desk.write("big.bin", b"small")
            (desk.root / "theirs/b.txt").unlink()
            server.expert_writes(job, "report.md", b"# Report")
            await desk.sync(ONCE)
            assert desk.tree() == contents(server, job)
            assert set(desk.tree()) == {"big.bin", "renamed", "renamed/a.txt", "report.md", "theirs"}

    run(story())


def test_a_second_synchronisation_asks_only_for_the_status_and_the_listing(
    server: RunningServer, tmp_path: Path
) -> None:
    async def story() -> None:
        async with desk_on(server, tmp_path) as (desk, job):
            desk.write("a", "a")
            server.put_item(job, "b", b"b")
            await desk.sync(ONCE)
            server.clear_requests()
            await desk.sync(ONCE)
            assert [(request.method, request.status) for request in server.requests] == [("GET", 200)] * 2

    run(story())


def test_a_conflict_keeps_both_versions(server: RunningServer, tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_on(server, tmp_path) as (desk, job):
            desk.write("a.txt", "base")
            await desk.sync(ONCE)
            desk.write("a.txt", "from here")
            server.put_item(job, "a.txt", b"from there")
            summary = await desk.sync(ONCE)
            assert len(summary.conflicts) == 1
            assert desk.tree() == contents(server, job)
            assert sorted(filter(None, desk.tree().values())) == [b"from here", b"from there"]

    run(story())


def test_watching_sees_what_the_expert_writes_and_pushes_what_the_user_saves(
    server: RunningServer, tmp_path: Path
) -> None:
    async def story() -> None:
        async with desk_on(server, tmp_path) as (desk, job):
            server.set_status(job, "processing")
            async with desk.watching():
                server.expert_writes(job, "out.txt", b"output")
                await eventually(lambda: desk.tree().get("out.txt") == b"output")
                desk.write("in.txt", "input", is_old=False)
                await eventually(lambda: contents(server, job).get("in.txt") == b"input")
                (desk.root / "in.txt").rename(desk.root / "input.txt")
                await eventually(lambda: "input.txt" in contents(server, job) and "in.txt" not in contents(server, job))

    run(story())


def test_a_synchronisation_that_was_cut_off_goes_on_where_it_was(server: RunningServer, tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_on(server, tmp_path) as (desk, job):
            for number in range(40):
                desk.write(f"{number}", f"{number}")
            with desk.opened() as state:
                sync = FolderSync(state, desk.remote, desk.root, options=replace(ONCE, watch=True, drain_s=0.0))
                task = asyncio.create_task(sync.run())
                await eventually(lambda: len(contents(server, job)) > 3)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await desk.sync(ONCE)
            assert desk.tree() == contents(server, job)
            assert len(desk.tree()) == 40

    run(story())


def test_a_change_that_the_server_forbids_does_not_keep_the_others_back(server: RunningServer, tmp_path: Path) -> None:
    async def story() -> None:
        async with desk_on(server, tmp_path) as (desk, job):
            item = server.put_item(job, "a", b"a")
            await desk.sync(ONCE)
            (desk.root / "a").rename(desk.root / "renamed")
            desk.write("b", "b")
            server.faults = Faults((Fault("error_before", method="POST", path=f"/items/{item.id}$", status=403),))
            try:
                done = await desk.sync(ONCE)
            finally:
                server.faults = Faults()
            [forbidden] = done.skipped
            assert forbidden.path == "renamed"
            assert "403" in forbidden.reason
            assert contents(server, job) == {"a": b"a", "b": b"b"}

    run(story())
