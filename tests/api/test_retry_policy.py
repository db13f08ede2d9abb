"""How long to wait, and how many requests at once."""

from __future__ import annotations

import asyncio

import pytest

from jobfs.api.limiter import Limiter, Limits, Outcome
from jobfs.api.retry import Retries, retry_after_s

NOW = 1_750_000_000.0


def test_waits_double_up_to_the_longest_and_chance_takes_all_of_it() -> None:
    retries = Retries(first_s=0.2, longest_s=60.0)
    assert [retries.wait_s(failures, 1.0) for failures in (1, 2, 3, 9, 10, 5000)] == [0.2, 0.4, 0.8, 51.2, 60.0, 60.0]
    assert retries.wait_s(5, 0.0) == 0.0
    assert retries.wait_s(3, 0.5) == 0.4


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Sun, 15 Jun 2025 15:07:20 GMT", 40.0),
        ("Sun, 15 Jun 2025 14:00:00 GMT", 0.0),
        ("-3", None),
        ("soon", None),
        ("", None),
        ("９", None),
        ("9" * 40, 1e9),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW) == seconds


def test_until_the_server_suffers_each_success_raises_the_limit_by_one(run) -> None:
    async def main() -> None:
        limiter = Limiter(Limits(start=8, most=16))
        for limit in (9, 10, 11):
            limiter.release(await limiter.acquire(is_transfer=False), Outcome.WELL)
            assert limiter.limit == limit
        for _ in range(10):
            limiter.release(await limiter.acquire(is_transfer=False), Outcome.WELL)
        assert limiter.limit == 16

    run(main())


def test_afterwards_success_raises_the_limit_slowly_and_one_bad_window_halves_it_once(run) -> None:
    async def main() -> None:
        limiter = Limiter(Limits(start=8, most=16))
        slots = [await limiter.acquire(is_transfer=False) for _ in range(8)]
        for slot in slots:
            limiter.release(slot, Outcome.OVERLOADED)
        assert limiter.limit == 4
        for _ in range(4 + 5):
            limiter.release(await limiter.acquire(is_transfer=False), Outcome.WELL)
        assert limiter.limit == 5
        for _ in range(500):
            limiter.release(await limiter.acquire(is_transfer=False), Outcome.WELL)
        assert limiter.limit == 16
        for _ in range(10):
            limiter.release(await limiter.acquire(is_transfer=False), Outcome.OVERLOADED)
        assert limiter.limit == 1

    run(main())


def test_transfers_leave_two_places_to_calls(run) -> None:
    async def main() -> None:
        limiter = Limiter(Limits(start=4, most=4))
        transfers = [await limiter.acquire(is_transfer=True) for _ in range(2)]
        third = asyncio.create_task(limiter.acquire(is_transfer=True))
        await asyncio.sleep(0)
        assert not third.done()
        call = await limiter.acquire(is_transfer=False)
        limiter.release(transfers[0], Outcome.NEITHER)
        assert (await third).is_transfer
        limiter.release(call, Outcome.NEITHER)
        assert limiter.active == 2

    run(main())


def test_a_cancelled_wait_gives_its_place_to_the_next(run) -> None:
    async def main() -> None:
        limiter = Limiter(Limits(start=1, most=1))
        held = await limiter.acquire(is_transfer=False)
        first = asyncio.create_task(limiter.acquire(is_transfer=False))
        second = asyncio.create_task(limiter.acquire(is_transfer=False))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        limiter.release(held, Outcome.NEITHER)
        limiter.release(await second, Outcome.NEITHER)
        assert limiter.active == 0

    run(main())


def test_a_place_given_in_the_moment_of_cancelling_is_not_lost(run) -> None:
    async def main() -> None:
        limiter = Limiter(Limits(start=1, most=1))
        held = await limiter.acquire(is_transfer=False)
        waiting = asyncio.create_task(limiter.acquire(is_transfer=False))
        await asyncio.sleep(0)
        limiter.release(held, Outcome.NEITHER)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert limiter.active == 0
        limiter.release(await limiter.acquire(is_transfer=False), Outcome.NEITHER)

    run(main())
