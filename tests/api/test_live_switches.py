"""The client against the embedded server, under each value of each switch: the same loop has to come out the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jobfs import errors
from jobfs.api.keys import KeyKind
from jobfs.api.runs import RunFiles, Runs
from jobfs.api.studio import Studio
from jobfs.api.transport import Transport
from jobfs.api.workspace import Workspace
from jobfs.model import Item, Kind, Lifecycle, Permission
from jobfs.server.running import RunningServer
from jobfs.server.switches import Switches, choices, parse

Run = Callable[[Coroutine[Any, Any, Any]], Any]

VALUES = [f"{name}={value}" for name, values in choices().items() for value in values]
VALUES += ["rate_limit=60:seconds", "rate_limit=60:date", "zip_limit=0"]
PAIRS = ["dir_move=orphan list_order=shuffled", "dialect=later list_order=shuffled", "chunked=on range=honour"]

RW = Permission.READ_WRITE


@asynccontextmanager
async def studio_of(server: RunningServer, **options: Any) -> AsyncIterator[Studio]:
    async with Transport(server.url, server.api_key, server.system_key, **options) as transport:
        yield Studio(transport)


async def content(files: Workspace | RunFiles, item: Item, **wish: int) -> bytes:
    async with files.download(item.id, **wish) as download:
        data = b"".join([chunk async for chunk in download.chunks()])
        skipped = wish.get("offset", 0) - download.offset
    return data[skipped:][: wish.get("length")] if wish else data


def blob(tmp_path: Path, data: bytes) -> Path:
    source = tmp_path / "blob"
    source.write_bytes(data)
    return source


@pytest.mark.parametrize("words", [*VALUES, *PAIRS])
def test_the_whole_loop_of_a_workspace_holds_under_every_switch(
    server: RunningServer, run: Run, tmp_path: Path, words: str
) -> None:
    server.switches = parse(words.split())
    job = server.create_job()
    data = bytes(range(256)) * 20

    async def main() -> None:
        async with studio_of(server) as studio:
            files = studio.workspace(job)
            assert await files.status() == "queued"
            assert (await files.list_page(skip=0)).items == []
            docs = await files.create_directory("docs", RW)
            assert (docs.kind, docs.path, docs.lifecycle) == (Kind.DIRECTORY, "docs", Lifecycle.EXPERT_JOB)
            file = await files.create_file("docs/a b.bin", RW, blob(tmp_path, data), "application/x-thing")
            assert (file.kind, file.path, file.size) == (Kind.FILE, "docs/a b.bin", len(data))
            empty = await files.create_file("empty", RW, blob(tmp_path, b""), "text/plain")
            assert empty.size == 0

            page = await files.list_page(skip=0)
            assert sorted(item.path for item in page.items) == ["docs", "docs/a b.bin", "empty"]
            assert (page.total, page.malformed) == (3, 0)
            assert {item.id for item in await files.find("docs/a b.bin")} == {file.id}
            assert await files.find("docs/a") == []
            assert (await files.get(file.id)).path == file.path

            assert await content(files, file) == data
            assert await content(files, file, offset=100, length=50) == data[100:150]
            assert await content(files, file, offset=5000) == data[5000:]
            assert await content(files, empty) == b""

            moved = await files.update(file.id, path="docs/b.bin")
            assert (moved.path, moved.size) == ("docs/b.bin", len(data))
            assert (await files.update(empty.id, permission=Permission.READ_ONLY)).size == 0
            assert (await studio.instance(job)).id

            await files.delete(empty.id)
            with pytest.raises(errors.NotFound):
                await files.delete(empty.id)
            await files.delete(docs.id)
            assert (await files.list_page(skip=0)).items == []

    run(main())
    assert server.contents(job) == {}


@pytest.mark.parametrize("words", VALUES)
def test_jobs_checkpoints_and_runs_hold_under_every_switch(server: RunningServer, run: Run, words: str) -> None:
    server.switches = parse(words.split())

    async def main() -> None:
        async with studio_of(server) as studio:
            job = await studio.start_job("@jobfs/word-count", "count", ["a.txt"])
            assert ((await studio.get_job(job.id)).query, job.status) == ("count", "queued")
            assert job.id in [listed.id async for listed in studio.iter_jobs(filter="@jobfs/word")]
            assert (await studio.workspace_instance_to_run(job.id)).id
            await studio.update_status(job.id, "processing")
            await studio.create_checkpoint(job.id, CHECKPOINT, STEP)
            assert [row.step_number for row in (await studio.list_checkpoints(job.id)).rows] == [1.0]
            server.expert_writes(job.id, "out/report.md", b"# Report")
            await studio.update_status(job.id, "completed")
            assert [name async for name in checkpoints(studio, job.id)] in (["completed"], [])
            continued = await studio.continue_job(job.id, "again")
            assert continued.status == "queued"
            await studio.update_status(job.id, "completed")
            await artifacts(job.id)

    async def artifacts(run_id: str) -> None:
        async with Transport(f"{server.url}/api/v1", server.api_key) as transport:
            files = RunFiles(Runs(transport), run_id)
            assert await files.status() == "completed"
            [report] = await files.find("out/report.md")
            assert (report.size, report.permission) == (8, Permission.READ_ONLY)
            assert await content(files, report) == b"# Report"

    run(main())


CHECKPOINT = {
    "status": "completed",
    "stepNumber": 1,
    "messages": [],
    "expert": {"key": "@jobfs/word-count", "name": "@jobfs/word-count", "version": "1.0.0"},
    "usage": dict.fromkeys(["inputTokens", "outputTokens", "reasoningTokens", "totalTokens", "cachedInputTokens"], 0),
}
STEP = {"stepNumber": 1, "newMessages": [], "usage": CHECKPOINT["usage"], "startedAt": 1_750_000_000_000}


async def checkpoints(studio: Studio, job_id: str) -> AsyncIterator[str]:
    """Yield the statuses that the stream gives before it ends or breaks, either of which proves nothing."""
    try:
        async with studio.stream_checkpoints(job_id) as stream:
            async for checkpoint in stream:
                yield checkpoint.status
    except errors.Unreachable:
        return


@pytest.mark.parametrize("framing", ["lf", "crlf", "multiline"])
def test_every_framing_of_the_stream_gives_the_checkpoints(server: RunningServer, run: Run, framing: str) -> None:
    server.switches = parse([f"sse={framing}"])
    job = server.create_job()

    async def main() -> list[str]:
        async with studio_of(server) as studio:
            await studio.update_status(job, "processing")
            await studio.create_checkpoint(job, CHECKPOINT, STEP)
            await studio.update_status(job, "completed")
            return [status async for status in checkpoints(studio, job)]

    assert run(main()) == ["completed"]


def test_a_workspace_hints_at_each_checkpoint_once_and_ends_with_the_stream(server: RunningServer, run: Run) -> None:
    job = server.create_job()

    async def main() -> tuple[str, list[str]]:
        async with studio_of(server) as studio:
            await studio.update_status(job, "processing")
            made = await studio.create_checkpoint(job, CHECKPOINT, STEP)
            await studio.update_status(job, "completed")
            workspace = studio.workspace(job)
            return made.id, [hint for _ in range(2) async for hint in workspace.hints()]  # the stream is told all again

    made, hints = run(main())
    assert hints == [made]


def test_a_workspace_without_a_stream_gives_no_hints(server: RunningServer, run: Run) -> None:
    async def main() -> list[object]:
        async with studio_of(server) as studio:
            return [hint async for hint in studio.workspace("j" * 24).hints()]

    assert run(main()) == []


# --------------------------------------------------------------------------------------- effects of single switches


def test_an_occupied_path_is_told_apart(server: RunningServer, run: Run, tmp_path: Path) -> None:
    job = server.create_job()
    server.put_item(job, "a", b"old")
    server.put_item(job, "d/x", b"")

    async def main() -> None:
        async with studio_of(server) as studio:
            files = studio.workspace(job)
            source = blob(tmp_path, b"new")
            with pytest.raises(errors.PathExists):
                await files.create_file("a", RW, source, "")
            with pytest.raises(errors.PathExists):
                await files.update((await files.find("d/x"))[0].id, path="a")
            with pytest.raises(errors.ParentMissing):
                await files.create_file("none/a", RW, source, "")
            with pytest.raises(errors.ParentMissing):
                await files.create_directory("a/below", RW)
            with pytest.raises(errors.InvalidPath):
                await files.update((await files.find("d"))[0].id, path="d/inside")

    run(main())


@pytest.mark.parametrize(("policy", "count"), [("replace", 1), ("duplicate", 2)])
def test_other_policies_for_an_occupied_path_are_visible_to_find(
    server: RunningServer, run: Run, tmp_path: Path, policy: str, count: int
) -> None:
    server.switches = parse([f"create_existing={policy}"])
    job = server.create_job()
    server.put_item(job, "a", b"old")

    async def main() -> None:
        async with studio_of(server) as studio:
            files = studio.workspace(job)
            made = await files.create_file("a", RW, blob(tmp_path, b"newer"), "")
            found = await files.find("a")
            assert len(found) == count
            assert await content(files, made) == b"newer"

    run(main())


def test_a_read_only_item_that_the_server_enforces_is_a_refusal_and_no_wrong_key(
    server: RunningServer, run: Run
) -> None:
    server.switches = Switches(readonly="enforced")
    job = server.create_job()
    server.put_item(job, "a", b"x", permission="readOnly")

    async def main() -> None:
        async with studio_of(server) as studio:
            files = studio.workspace(job)
            [item] = await files.find("a")
            with pytest.raises(errors.Refused) as caught:
                await files.update(item.id, path="b")
            assert caught.value.status == 403
            assert (await files.update(item.id, permission=RW)).permission is RW

    run(main())


@pytest.mark.parametrize("policy", ["404", "empty"])
def test_a_job_that_is_gone_is_not_found_however_the_list_answers(server: RunningServer, run: Run, policy: str) -> None:
    server.switches = parse([f"unknown_job_list={policy}"])

    async def main() -> None:
        async with studio_of(server) as studio:
            files = studio.workspace("a" * 24)
            for call in (files.list_page(skip=0), files.status(), studio.instance("a" * 24)):
                with pytest.raises(errors.NotFound):
                    await call

    run(main())


def test_paths_with_pattern_characters_are_found_whatever_find_does(
    server: RunningServer, run: Run, tmp_path: Path
) -> None:
    names = ["a*b", "a?b", "[ab]", "{a,b}", "a\\b", "100%", "a_b", "axb"]
    for mode in choices()["find_mode"]:
        server.switches = parse([f"find_mode={mode}"])
        job = server.create_job()
        for name in names:
            server.put_item(job, name, name.encode())

        async def main(job: str = job) -> None:
            async with studio_of(server) as studio:
                for name in names:
                    assert [item.path for item in await studio.workspace(job).find(name)] == [name]

        run(main())


@pytest.mark.parametrize("policy", ["strip", "keep", "reject"])
def test_paths_listed_with_a_leading_slash_are_normalised(
    server: RunningServer, run: Run, tmp_path: Path, policy: str
) -> None:
    server.switches = parse([f"leading_slash={policy}"])
    job = server.create_job()

    async def main() -> None:
        async with studio_of(server) as studio:
            files = studio.workspace(job)
            await files.create_directory("d", RW)
            await files.list_page(skip=0)
            made = await files.create_file("d/f", RW, blob(tmp_path, b"1"), "")
            assert made.path == "d/f"
            assert [item.id for item in await files.find("d/f")] == [made.id]

    run(main())


def test_a_range_is_used_where_it_is_honoured_and_the_whole_taken_where_it_is_not(
    server: RunningServer, run: Run
) -> None:
    job = server.create_job()
    data = bytes(range(256))
    server.put_item(job, "f", data)

    async def offsets() -> list[tuple[int, int | None]]:
        async with studio_of(server) as studio:
            files = studio.workspace(job)
            [item] = await files.find("f")
            seen = []
            for offset, length in ((10, 5), (250, 100), (300, 1)):
                async with files.download(item.id, offset=offset, length=length) as download:
                    body = b"".join([chunk async for chunk in download.chunks()])
                    assert body == data[download.offset :][: len(body)]
                    seen.append((download.offset, download.length))
            return seen

    server.switches = Switches(range="honour")
    assert run(offsets()) == [(10, 5), (250, 6), (0, 256)]
    server.switches = Switches(range="ignore")
    assert run(offsets()) == [(0, 256)] * 3


@pytest.mark.parametrize("style", ["seconds", "date"])
def test_a_rate_limit_costs_time_and_nothing_else(server: RunningServer, run: Run, style: str) -> None:
    import asyncio

    job = server.create_job()
    server.switches = parse([f"rate_limit=20:{style}"])

    async def main() -> int:
        async with studio_of(server) as studio:
            files = studio.workspace(job)
            await asyncio.gather(*[files.create_directory(f"d{n}", RW) for n in range(40)])
            return len(await files.list_all())

    assert run(main()) == 40
    assert 429 in {record.status for record in server.requests}


def test_the_two_kinds_of_key_never_stand_in_for_each_other(server: RunningServer, run: Run) -> None:
    job = server.create_job()

    async def main() -> None:
        swapped = Transport(server.url, server.system_key, server.api_key)
        async with swapped:
            with pytest.raises(errors.Unauthenticated, match="API key"):
                await Studio(swapped).get_job(job)
            with pytest.raises(errors.Unauthenticated, match="system key"):
                await Studio(swapped).update_status(job, "completed")
        async with studio_of(server) as studio:
            with pytest.raises(errors.Unauthenticated):
                await studio.create_checkpoint(job, CHECKPOINT, STEP, key=KeyKind.API)

    run(main())


def test_the_environment_is_written_and_read_only_by_the_system_key(server: RunningServer, run: Run) -> None:
    job = server.create_job()

    async def main() -> None:
        async with studio_of(server) as studio:
            application = studio.application
            assert "LIVE_A" in (await application.create_variable("LIVE_A", "1")).env_variables
            assert "LIVE_B" in (await application.create_secret("LIVE_B", "hush")).env_secrets
            with pytest.raises(errors.Refused, match="the name is taken"):
                await application.create_secret("LIVE_A", "2")
            await application.update_variable("LIVE_A", value="2", new_name="LIVE_C")
            to_run = await studio.workspace_instance_to_run(job)
            assert to_run.env_variables["LIVE_C"].get_secret_value() == "2"
            assert to_run.env_secrets["LIVE_B"].get_secret_value() == "hush"
            await application.delete_variable("LIVE_C")
            await application.delete_secret("LIVE_B")
            assert (await application.get()).env_variables == ()

    run(main())


def test_application_items_are_seen_through_every_job(server: RunningServer, run: Run, tmp_path: Path) -> None:
    job = server.create_job()

    async def main() -> None:
        async with studio_of(server) as studio:
            shared = studio.application.items
            made = await shared.create_file("default.txt", RW, blob(tmp_path, b"default"), "text/plain")
            files = studio.workspace(job)
            [seen] = await files.find("default.txt")
            assert (seen.lifecycle, await content(files, seen)) == (Lifecycle.APPLICATION, b"default")
            private = await files.create_file("default.txt", RW, blob(tmp_path, b"mine"), "text/plain")
            assert {item.lifecycle for item in await files.find("default.txt")} == set(Lifecycle)
            await files.delete(private.id)
            await shared.delete(made.id)

    run(main())


def test_a_base_with_a_prefix_is_kept(run: Run) -> None:
    with RunningServer(prefix="/some/prefix") as server:
        job = server.create_job()

        async def main() -> str:
            async with Transport(f"{server.url}/", server.api_key) as transport:
                return (await Studio(transport).get_job(job)).id

        assert run(main()) == job
