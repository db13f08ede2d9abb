"""A write or an open answer is not asked again; it ends when its line is proven dead, and only then. In simulated time.

What is asked again: ``test_asking_again``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from silent_far import FETCH, IDLE_S, LOOK, SAVE, Far, after, failing_s, never, ok, only_anew, play, took_s

from jobfs import errors
from jobfs.api.body import CHUNK_BYTES, Raw
from jobfs.api.call import Call
from jobfs.api.hedge import FIRST_PATIENCE_S, PROMPT_S
from jobfs.api.limiter import Limits
from jobfs.api.transport import Transport

WRITE_PATIENCE_S = 1.5 * FIRST_PATIENCE_S


# ------------------------------------------------------------------------------------------------------------ writes


def test_a_write_is_never_sent_again_and_waits_as_long_as_ever_where_nothing_proves_its_line_dead() -> None:
    async def story(far: Far) -> None:
        far.paths["/save"] = never
        async with await far.known() as transport:
            assert await failing_s(transport.json(SAVE), errors.OutcomeUnknown) == IDLE_S
            assert len(far.times("/save", 0.0)) == 1

    play(story)


def test_a_write_over_a_line_that_is_proven_dead_is_ended_within_seconds_as_of_unknown_outcome() -> None:
    async def story(far: Far) -> None:
        far.paths |= {"/save": never, "/look": only_anew}
        async with await far.known() as transport:
            saving = asyncio.create_task(failing_s(transport.json(SAVE), errors.OutcomeUnknown))
            assert await took_s(transport.json(LOOK)) == FIRST_PATIENCE_S
            assert await saving == WRITE_PATIENCE_S
            assert len(far.times("/save", 0.0)) == 1
            assert transport.concurrency > 8, "a dead line is no sign of an overloaded server"

    play(story)


def test_a_write_that_was_sent_after_the_proof_is_waited_for() -> None:
    async def story(far: Far) -> None:
        far.paths |= {"/save": after(20.0), "/look": only_anew}
        async with await far.known() as transport:
            await transport.json(LOOK)
            assert await took_s(transport.json(SAVE)) == 20.0

    play(story)


def test_a_write_is_waited_for_while_its_line_is_known_to_be_alive() -> None:
    async def story(far: Far) -> None:
        async def busy(_: int) -> httpx.Response:
            await asyncio.sleep(1.0)
            return ok(since=stood_s)

        async with await far.known() as transport:
            stood_s = far.loop.time()
            far.paths |= {"/save": after(12.0), "/busy": busy, "/look": only_anew}
            await asyncio.sleep(1.0)
            looking = asyncio.create_task(transport.json(LOOK))
            saving = asyncio.create_task(transport.json(SAVE))
            await looking
            while not saving.done():
                await transport.json(Call(method="GET", path="/busy", subject="busy"))
            assert await saving == {}

    play(story)


def test_a_server_that_was_slow_with_writes_has_more_time_for_the_next_one() -> None:
    async def story(far: Far) -> None:
        far.paths |= {"/save": after(4.0), "/look": only_anew}
        async with await far.known() as transport:
            await transport.json(SAVE)
            saving = asyncio.create_task(took_s(transport.json(SAVE)))
            far.paths["/save"] = after(8.0)
            assert await took_s(transport.json(LOOK)) == FIRST_PATIENCE_S
            assert await saving == 8.0

    play(story)


def test_an_answer_over_a_new_connection_that_takes_long_itself_proves_nothing() -> None:
    async def story(far: Far) -> None:
        far.paths |= {"/save": after(20.0), "/look": lambda number: (after(2 * PROMPT_S) if number else never)(number)}
        async with await far.known() as transport:
            saving = asyncio.create_task(took_s(transport.json(SAVE)))
            assert await took_s(transport.json(LOOK)) == FIRST_PATIENCE_S + 2 * PROMPT_S
            assert await saving == 20.0

    play(story)


def test_a_body_that_is_still_being_sent_is_not_ended(tmp_path) -> None:
    async def story(far: Far) -> None:
        async def slowly(request: httpx.Request) -> httpx.Response:
            assert isinstance(request.stream, httpx.AsyncByteStream)
            async for _ in request.stream:
                await asyncio.sleep(5.0)
            return ok()

        source = tmp_path / "large"
        source.write_bytes(bytes(4 * CHUNK_BYTES))
        call = Call(method="POST", path="/large", subject="large", body=Raw(source, ""), is_transfer=True)
        far.paths["/look"] = only_anew
        far.uploads["/large"] = slowly
        async with await far.known() as transport:
            uploading = asyncio.create_task(took_s(transport.json(call)))
            await transport.json(LOOK)
            assert await uploading == 20.0

    play(story)


# -------------------------------------------------------------------------------------------------------- open answers


async def stalling(first: bytes = b"abc") -> AsyncIterator[bytes]:
    yield first
    await asyncio.sleep(IDLE_S)
    raise httpx.ReadTimeout("nothing happens")


def test_a_download_that_does_not_begin_begins_over_a_new_connection_in_its_place() -> None:
    async def story(far: Far) -> None:
        async def play_(number: int) -> httpx.Response:
            return await never(number) if number == 0 else ok(content=b"bytes", json=None)

        far.paths["/fetch"] = play_
        async with await far.known(limits=Limits(start=1, most=1)) as transport:
            began_s = far.loop.time()
            async with transport.stream(FETCH) as stream:
                assert far.loop.time() - began_s == FIRST_PATIENCE_S
                other = asyncio.create_task(transport.json(LOOK))
                await asyncio.sleep(1.0)
                assert not other.done(), "the download has the only place"
                assert [chunk async for chunk in stream.chunks()] == [b"bytes"]
            assert await other == {}

    play(story)


def test_a_download_that_stops_is_ended_once_its_line_is_proven_dead_and_not_before() -> None:
    async def story(far: Far) -> None:
        async def play_(_: int) -> httpx.Response:
            return httpx.Response(200, content=stalling())

        async def fetch(transport: Transport) -> list[bytes]:
            got = []
            async with transport.stream(FETCH) as stream:
                with pytest.raises(errors.Unreachable, match="after 3 bytes"):
                    async for chunk in stream.chunks():
                        got.append(chunk)
            return got

        far.paths |= {"/fetch": play_, "/look": only_anew}
        async with await far.known() as transport:
            assert await took_s(fetch(transport)) == IDLE_S
            fetching = asyncio.create_task(took_s(fetch(transport)))
            await transport.json(LOOK)
            assert await fetching == FIRST_PATIENCE_S

    play(story)


def test_a_download_that_comes_slowly_is_not_ended_by_a_proof() -> None:
    async def story(far: Far) -> None:
        async def slowly() -> AsyncIterator[bytes]:
            for _ in range(6):
                await asyncio.sleep(2.0)
                yield b"abc"

        async def play_(_: int) -> httpx.Response:
            return httpx.Response(200, content=slowly())

        async def fetch(transport: Transport) -> list[bytes]:
            async with transport.stream(FETCH) as stream:
                return [chunk async for chunk in stream.chunks()]

        far.paths |= {"/fetch": play_, "/look": only_anew}
        async with await far.known() as transport:
            fetching = asyncio.create_task(fetch(transport))
            await transport.json(LOOK)
            assert await fetching == [b"abc"] * 6

    play(story)


def test_a_download_that_ends_before_it_is_read_tells_its_reader() -> None:
    async def story(far: Far) -> None:
        async def play_(_: int) -> httpx.Response:
            return httpx.Response(200, content=stalling())

        far.paths |= {"/fetch": play_, "/look": only_anew}
        async with await far.known() as transport, transport.stream(FETCH) as stream:
            await transport.json(LOOK)
            await asyncio.sleep(1.0)
            began_s = far.loop.time()
            with pytest.raises(errors.Unreachable, match="after 3 bytes"):
                assert [chunk async for chunk in stream.chunks()]
            assert far.loop.time() == began_s

    play(story)


def test_a_download_that_ends_while_its_reader_is_elsewhere_tells_him_when_he_is_back() -> None:
    async def story(far: Far) -> None:
        async def play_(_: int) -> httpx.Response:
            return httpx.Response(200, content=stalling())

        far.paths |= {"/fetch": play_, "/look": only_anew}
        async with await far.known() as transport, transport.stream(FETCH) as stream:
            chunks = stream.chunks()
            assert await anext(chunks) == b"abc"
            await transport.json(LOOK)
            await asyncio.sleep(1.0)
            began_s = far.loop.time()
            with pytest.raises(errors.Unreachable):
                await anext(chunks)
            assert far.loop.time() == began_s

    play(story)
