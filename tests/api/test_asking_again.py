"""What nobody answers is asked again over a new connection, and only that. In simulated time.

What is not asked again, and what becomes of that: ``test_dead_lines_proven``. Real connections over a real line:
``test_silent_lines``.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator

import httpx
import pytest
from silent_far import FETCH, IDLE_S, LOOK, Far, after, at_once, failing_s, never, ok, only_anew, play, took_s

from jobfs import errors
from jobfs.api.call import Call, Timeouts
from jobfs.api.hedge import FIRST_PATIENCE_S, MOST_AT_ONCE, REMEMBERED_S
from jobfs.api.keys import KeyKind
from jobfs.api.limiter import Limits
from jobfs.api.retry import Retries
from jobfs.api.transport import Transport


def test_a_read_that_nobody_answers_is_answered_over_a_new_connection_after_some_seconds() -> None:
    async def story(far: Far) -> None:
        far.paths["/look"] = only_anew
        async with await far.known() as transport:
            assert await took_s(transport.json(LOOK)) == FIRST_PATIENCE_S
            assert await took_s(transport.json(LOOK)) == 0.0

    play(story)


def test_while_the_line_is_dead_it_is_asked_again_and_again_ever_more_rarely_and_soon_after_its_return() -> None:
    async def story(far: Far) -> None:
        async with await far.known() as transport:
            began_s = far.loop.time()
            back_s = began_s + 10.0
            far.paths["/look"] = lambda number: (at_once if far.loop.time() >= back_s else never)(number)
            assert await took_s(transport.json(LOOK)) == 10.5
            assert far.times("/look", began_s) == [0.0, 3.0, 6.0, 10.5]
            assert far.most_under_way == 2

    play(story)


def test_however_long_the_line_was_dead_its_return_is_noticed_within_seconds() -> None:
    async def story(far: Far) -> None:
        patient = Timeouts(idle_s=IDLE_S, total_s=1000.0)
        async with await far.known(timeouts=patient, retries=Retries(attempts=99, longest_s=0.0)) as transport:
            back_s = far.loop.time() + 605.0
            far.paths["/look"] = lambda number: (at_once if far.loop.time() >= back_s else never)(number)
            assert 605.0 <= await took_s(transport.json(LOOK)) <= 605.0 + 2.25 * FIRST_PATIENCE_S

    play(story)


def test_each_silence_begins_anew_with_the_first_patience() -> None:
    async def story(far: Far) -> None:
        async with await far.known() as transport:
            far.paths["/look"] = after(10.0)
            await transport.json(LOOK)
            await asyncio.sleep(REMEMBERED_S + 1)
            far.seen.clear()
            began_s = far.loop.time()
            far.paths["/look"] = never
            await failing_s(transport.json(LOOK), errors.Unreachable)
            assert far.times("/look", began_s)[:3] == [0.0, FIRST_PATIENCE_S, 2 * FIRST_PATIENCE_S]

    play(story)


def test_of_many_reads_a_few_are_asked_again_at_once_after_the_first_was_answered() -> None:
    async def story(far: Far) -> None:
        calls = [Call(method="GET", path=f"/look-{number}", subject="look") for number in range(40)]
        for call in calls:
            far.paths[call.path] = lambda number: never(number) if number == 0 else after(0.1)(number)
        async with await far.known(limits=Limits(start=40, most=40)) as transport:
            assert await took_s(asyncio.gather(*(transport.json(call) for call in calls))) <= FIRST_PATIENCE_S + 1
        assert far.most_under_way <= 40 + MOST_AT_ONCE
        assert len(far.seen) == 1 + 2 * 40

    play(story)


def test_what_was_asked_again_and_is_answered_by_the_old_connection_is_given_up() -> None:
    async def story(far: Far) -> None:
        far.paths["/look"] = lambda number: after(4.0)(number) if number == 0 else never(number)
        async with await far.known() as transport:
            assert await took_s(transport.json(LOOK)) == 4.0
            await asyncio.sleep(0)
            assert far.under_way == 0

    play(story)


def test_a_slow_server_gets_few_needless_requests_and_then_none() -> None:
    async def story(far: Far) -> None:
        far.paths["/look"] = after(20.0)
        async with await far.known() as transport:
            assert await took_s(transport.json(LOOK)) == 20.0
            assert (len(far.seen), far.most_under_way) == (1 + 1 + 4, 2)
            for _ in range(20):  # for much longer than a slow answer is remembered: each is one
                assert await took_s(transport.json(LOOK)) == 20.0
            assert len(far.seen) == 1 + 1 + 4 + 20
            far.paths["/look"] = only_anew
            await asyncio.sleep(REMEMBERED_S + 1)
            far.seen.clear()
            assert await took_s(transport.json(LOOK)) == FIRST_PATIENCE_S

    play(story)


def test_a_read_is_waited_for_while_anything_comes_over_a_connection_that_stood_when_it_was_sent() -> None:
    async def story(far: Far) -> None:
        async def busy(_: int) -> httpx.Response:
            await asyncio.sleep(1.0)
            return ok(since=stood_s)

        async with await far.known() as transport:
            stood_s = far.loop.time()
            far.paths |= {"/look": after(12.0), "/busy": busy}
            looking = asyncio.create_task(transport.json(LOOK))
            while not looking.done():
                await transport.json(Call(method="GET", path="/busy", subject="busy"))
            assert len(far.times("/look", 0.0)) == 1

    play(story)


def test_what_comes_over_younger_connections_says_nothing_of_an_older_one() -> None:
    async def story(far: Far) -> None:
        async def fresh(_: int) -> httpx.Response:
            await asyncio.sleep(1.0)
            return ok(since=far.loop.time() - 1.0)

        async with await far.known() as transport:
            far.paths |= {"/look": only_anew, "/fresh": fresh}
            began_s = far.loop.time()
            looking = asyncio.create_task(transport.json(LOOK))
            await asyncio.sleep(0.5)
            while not looking.done():
                await transport.json(Call(method="GET", path="/fresh", subject="fresh"))
            assert far.times("/look", began_s) == [0.0, FIRST_PATIENCE_S]

    play(story)


def test_an_answer_that_comes_bit_by_bit_is_no_silence() -> None:
    async def story(far: Far) -> None:
        async def drip() -> AsyncIterator[bytes]:
            for piece in (b"{", b" ", b" ", b" ", b"}"):
                await asyncio.sleep(2.0)
                yield piece

        async def dripping(_: int) -> httpx.Response:
            return httpx.Response(200, content=drip())

        far.paths["/look"] = dripping
        async with await far.known() as transport:
            assert await took_s(transport.json(LOOK)) == 10.0
            assert len(far.times("/look", 0.0)) == 1

    play(story)


def test_an_answer_that_stops_in_the_middle_is_asked_for_again() -> None:
    async def story(far: Far) -> None:
        async def half() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.sleep(IDLE_S)
            raise httpx.ReadTimeout("nothing happens")

        async def play_(number: int) -> httpx.Response:
            return ok() if number else httpx.Response(200, content=half())

        far.paths["/look"] = play_
        async with await far.known() as transport:
            assert await took_s(transport.json(LOOK)) == FIRST_PATIENCE_S

    play(story)


def test_nothing_is_asked_again_of_a_server_that_has_never_answered() -> None:
    async def story(far: Far) -> None:
        far.paths["/known"] = after(20.0)
        async with await far.known():
            assert len(far.seen) == 1

    play(story)


def test_nothing_is_asked_again_while_the_server_wants_fewer_requests() -> None:
    async def story(far: Far) -> None:
        async def refuse(number: int) -> httpx.Response:
            return ok() if number else httpx.Response(429, headers={"retry-after": "10"})

        far.paths |= {"/look": only_anew, "/refused": refuse}
        async with await far.known() as transport:
            began_s = far.loop.time()
            looking = asyncio.create_task(transport.json(LOOK))
            await asyncio.sleep(0)
            refused = asyncio.create_task(transport.json(Call(method="GET", path="/refused", subject="refused")))
            await asyncio.gather(looking, refused)
            [_, again_s] = far.times("/look", began_s)
            assert 10.0 <= again_s <= 10.0 + FIRST_PATIENCE_S

    play(story)


@pytest.mark.parametrize("steps", range(12))
def test_who_gives_up_as_the_answer_comes_leaves_no_place_taken_and_nothing_open(steps: int) -> None:
    async def story(far: Far) -> None:
        class Body(httpx.AsyncByteStream):
            is_open = False

            async def __aiter__(self) -> AsyncIterator[bytes]:
                self.is_open = True
                yield b"bytes"

            async def aclose(self) -> None:
                self.is_open = False

        async def fetch(transport: Transport) -> None:
            async with transport.stream(FETCH):
                await asyncio.sleep(1.0)

        async def answer(number: int) -> httpx.Response:
            if number == 0:
                return await never(number)
            await answers.wait()
            body.is_open = True
            return httpx.Response(200, stream=body)

        body, answers = Body(), asyncio.Event()
        far.paths["/fetch"] = answer
        async with await far.known(limits=Limits(start=1, most=1)) as transport:
            fetching = asyncio.create_task(fetch(transport))
            await asyncio.sleep(FIRST_PATIENCE_S + 0.5)
            answers.set()
            for _ in range(steps):
                await asyncio.sleep(0)
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)
            assert await took_s(transport.json(LOOK)) == 0.0
            assert (body.is_open, far.under_way) == (False, 0)

    play(story)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_refusal_of_what_is_asked_again_leaves_the_first_waiting(status: int) -> None:
    async def story(far: Far) -> None:
        async def refuse_others(number: int) -> httpx.Response:
            return await after(5.5)(number) if number == 0 else httpx.Response(status)

        far.paths["/look"] = refuse_others
        async with await far.known() as transport:
            assert await took_s(transport.json(LOOK)) == 5.5
            assert len(far.times("/look", 0.0)) == 2

    play(story)


def test_a_final_refusal_of_what_is_asked_again_is_the_answer() -> None:
    async def story(far: Far) -> None:
        async def gone(number: int) -> httpx.Response:
            return await never(number) if number == 0 else httpx.Response(404, json={"code": 404, "error": "gone"})

        far.paths["/look"] = gone
        async with await far.known() as transport:
            assert await failing_s(transport.json(LOOK), errors.NotFound) == FIRST_PATIENCE_S

    play(story)


def test_who_gives_up_waiting_gives_up_both() -> None:
    async def story(far: Far) -> None:
        far.paths["/look"] = never
        async with await far.known(limits=Limits(start=1, most=1)) as transport:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(4.0):
                    await transport.json(LOOK)
            await asyncio.sleep(0)
            assert (len(far.times("/look", 0.0)), far.under_way) == (2, 0)
            assert await took_s(transport.json(Call(method="GET", path="/other", subject="other"))) == 0.0

    play(story)


def test_the_end_of_a_transport_ends_what_is_asked_again() -> None:
    async def story(far: Far) -> None:
        far.paths["/look"] = never
        transport = await far.known()
        looking = asyncio.create_task(transport.json(LOOK))
        await asyncio.sleep(4.0)
        assert far.under_way == 2
        await transport.aclose()
        assert far.under_way == 1
        looking.cancel()

    play(story)


def test_nothing_of_an_answer_outlives_its_request() -> None:
    async def story(far: Far) -> None:
        answers: list[weakref.ref[httpx.Response]] = []

        async def noted(_: int) -> httpx.Response:
            answer = ok()
            answers.append(weakref.ref(answer))
            return answer

        far.paths["/look"] = noted
        async with await far.known() as transport:
            await transport.json(LOOK)
            assert [answer() for answer in answers] == [None], "it waits for a collector of cycles"

    play(story)


def test_a_loop_that_was_busy_reads_what_has_come_before_it_calls_a_line_silent() -> None:
    async def story(far: Far) -> None:
        far.paths["/look"] = after(3.1)
        async with await far.known() as transport:
            looking = asyncio.create_task(transport.json(LOOK))
            await asyncio.sleep(2.0)
            far.loop.clock.now_s += 5.0  # as if the processor had been elsewhere
            await looking
            assert len(far.times("/look", 0.0)) == 1

    play(story)


STORED = "http://127.0.0.1:10/stored"


@pytest.mark.parametrize("is_redirected", [True, False])
def test_what_goes_to_the_storage_behind_the_server_is_not_asked_again(is_redirected: bool) -> None:
    async def story(far: Far) -> None:
        async def there(_: int) -> httpx.Response:
            return httpx.Response(302, headers={"location": STORED})

        far.paths |= {"/fetch": there, "/stored": after(20.0)}
        async with await far.known() as transport:
            direct = Call(method="GET", path=STORED, subject="stored", key=KeyKind.NONE)
            assert await took_s(transport.json(FETCH if is_redirected else direct)) == 20.0
            assert len(far.times("/stored", 0.0)) == 1

    play(story)
