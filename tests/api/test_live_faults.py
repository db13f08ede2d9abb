"""The client against an embedded server that misbehaves: nothing is done twice, nothing half is taken for whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from jobfs import errors
from jobfs.api.call import Timeouts
from jobfs.api.retry import Retries
from jobfs.api.studio import Studio
from jobfs.api.transport import Transport
from jobfs.model import ItemId, Permission
from jobfs.server.faults import Fault, Faults
from jobfs.server.running import RunningServer

Run = Callable[[Coroutine[Any, Any, Any]], Any]
RW = Permission.READ_WRITE
QUICK = Retries(attempts=3, first_s=0.01)


def with_files(
    server: RunningServer, run: Run, use: Callable[[Any, str], Coroutine[Any, Any, Any]], **options: Any
) -> Any:
    """Run ``use(workspace, job)`` on a job that has the file ``f``."""
    job = server.create_job()
    server.put_item(job, "f", b"0123456789" * 1000)

    async def main() -> Any:
        async with Transport(server.url, server.api_key, retries=QUICK, **options) as transport:
            return await use(Studio(transport).workspace(job), job)

    return run(main())


async def read(files: Any, item: ItemId) -> bytes:
    async with files.download(item) as download:
        return b"".join([chunk async for chunk in download.chunks()])


@pytest.mark.parametrize("kind", ["drop_before", "lose_response", "error_before", "error_after", "html_502"])
def test_a_list_survives_what_passes(server: RunningServer, run: Run, kind: Any) -> None:
    async def use(files: Any, _: str) -> list[str]:
        server.faults = Faults((Fault(kind, count=2),))
        return [item.path for item in (await files.list_page(skip=0)).items]

    assert with_files(server, run, use) == ["f"]


@pytest.mark.parametrize(("kind", "is_done"), [("lose_response", True), ("drop_before", False)])
def test_a_create_whose_answer_is_lost_is_of_unknown_outcome_and_sent_once(
    server: RunningServer, run: Run, tmp_path: Path, kind: Any, is_done: bool
) -> None:
    source = tmp_path / "new"
    source.write_bytes(b"new")

    async def use(files: Any, job: str) -> bool:
        server.faults = Faults((Fault(kind, method="POST", count=1),))
        with pytest.raises(errors.OutcomeUnknown):
            await files.create_file("new", RW, source, "")
        assert [record.method for record in server.requests].count("POST") == 1
        return "new" in server.contents(job)

    server.clear_requests()
    assert with_files(server, run, use) is is_done


@pytest.mark.parametrize(("kind", "is_done"), [("error_before", False), ("error_after", True), ("html_502", False)])
def test_a_create_that_the_server_fails_is_left_to_the_caller(
    server: RunningServer, run: Run, kind: Any, is_done: bool
) -> None:
    async def use(files: Any, job: str) -> bool:
        server.faults = Faults((Fault(kind, method="POST", count=1, status=500),))
        with pytest.raises(errors.ServerFailure):
            await files.create_directory("new", RW)
        return "new" in server.contents(job)

    assert with_files(server, run, use) is is_done


@pytest.mark.parametrize("kind", ["drop_before", "lose_response", "error_before", "error_after", "html_502"])
def test_a_delete_is_repeated_until_it_is_done(server: RunningServer, run: Run, kind: Any) -> None:
    async def use(files: Any, job: str) -> dict[str, bytes | None]:
        [item] = await files.find("f")
        server.faults = Faults((Fault(kind, method="DELETE", count=1),))
        await files.delete(item.id)
        return server.contents(job)

    assert with_files(server, run, use) == {}


def test_a_body_cut_off_is_unreachable_and_never_content(server: RunningServer, run: Run) -> None:
    async def use(files: Any, _: str) -> None:
        [item] = await files.find("f")
        server.faults = Faults((Fault("cut_body", path="/download"),))
        with pytest.raises(errors.Unreachable):
            await read(files, item.id)

    with_files(server, run, use)


def test_a_body_of_the_wrong_length_is_shown_by_its_announced_length(server: RunningServer, run: Run) -> None:
    async def use(files: Any, _: str) -> tuple[int, int | None, int]:
        [item] = await files.find("f")
        server.faults = Faults((Fault("wrong_length", path="/download"),))
        async with files.download(item.id) as download:
            body = b"".join([chunk async for chunk in download.chunks()])
            return item.size, download.length, len(body)

    assert with_files(server, run, use) == (10000, 9999, 9999)


def test_missing_bytes_are_not_found_while_the_item_stays(server: RunningServer, run: Run) -> None:
    async def use(files: Any, _: str) -> str:
        [item] = await files.find("f")
        server.faults = Faults((Fault("missing_bytes", path="/download"),))
        with pytest.raises(errors.NotFound) as caught:
            await read(files, item.id)
        assert (await files.get(item.id)).id == item.id
        return caught.value.reason

    assert with_files(server, run, use) == "File not found"


def test_a_silent_server_is_given_up_after_the_idle_limit(server: RunningServer, run: Run) -> None:
    async def use(files: Any, _: str) -> None:
        server.faults = Faults((Fault("latency", delay_s=5.0),))
        with pytest.raises(errors.Unreachable, match="no answer in time"):
            await files.status()

    with_files(server, run, use, timeouts=Timeouts(idle_s=0.05))
    server.faults = Faults()


def test_a_dripping_body_arrives_whole(server: RunningServer, run: Run) -> None:
    async def use(files: Any, _: str) -> int:
        [item] = await files.find("f")
        server.faults = Faults((Fault("slow_body", path="/download", bytes_per_s=200_000),))
        return len(await read(files, item.id))

    assert with_files(server, run, use) == 10000


def test_a_download_can_be_cancelled_and_the_client_goes_on(server: RunningServer, run: Run) -> None:
    async def use(files: Any, _: str) -> str:
        [item] = await files.find("f")
        server.faults = Faults((Fault("slow_body", path="/download", bytes_per_s=1000),))
        begun = asyncio.Event()

        async def slow() -> None:
            async with files.download(item.id) as download:
                async for _ in download.chunks():
                    begun.set()

        task = asyncio.create_task(slow())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await files.status()

    assert with_files(server, run, use) == "queued"


def test_a_dead_server_is_unreachable_with_a_next_step(run: Run) -> None:
    with RunningServer() as server:
        url, key = server.url, server.api_key

    async def main() -> None:
        async with Transport(url, key, retries=QUICK) as transport:
            await Studio(transport).get_job("a" * 24)

    with pytest.raises(errors.Unreachable) as caught:
        run(main())
    assert type(caught.value) is errors.Unreachable
    assert caught.value.remedy == "check the network and the server address"


def test_a_wrong_key_is_one_request_and_one_clear_error(server: RunningServer, run: Run) -> None:
    async def main() -> None:
        async with Transport(server.url, "not-the-key") as transport:
            await Studio(transport).get_job("a" * 24)

    server.clear_requests()
    with pytest.raises(errors.Unauthenticated, match="does not accept the API key"):
        run(main())
    assert [record.status for record in server.requests] == [401]
