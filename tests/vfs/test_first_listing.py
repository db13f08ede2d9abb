"""A listing that is told how many items there may be does not wait for its first page, and believes only the pages."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from engine_harness import mounted
from model_remote import ModelRemote
from virtual_loop import VirtualClock, run_virtually

from jobfs.api.answer import ItemPage
from jobfs.engine.feed import FeedTimes
from jobfs.engine.listing import PAGE_ROWS, Listing, Observation, observe
from jobfs.engine.remote import Page
from jobfs.engine.session import Options
from jobfs.errors import JobfsError, Unreachable
from jobfs.model import MOST_ITEMS

FILES = 250
DEADLINE_S = 10.0


class Paged(ModelRemote):
    """A workspace of some files that notes which pages it was asked for, and may be slow with the first one."""

    def __init__(self, *, most_rows: int = PAGE_ROWS) -> None:
        super().__init__()
        self.at = lambda path: None  # type: ignore[method-assign]  # each path is put once
        for number in range(FILES):
            self.put(f"{number}", b"")
        self.asked: list[int] = []
        self.first_waits_for: set[int] = set()
        self.failing: set[int] = set()
        self.under_way = 0
        self._most_rows = most_rows
        self._was_asked = asyncio.Condition()

    async def list_page(self, *, skip: int, take: int = PAGE_ROWS) -> ItemPage:
        self.asked.append(skip)
        self.under_way += 1
        try:
            async with self._was_asked:
                self._was_asked.notify_all()
                if skip == 0:
                    await self._was_asked.wait_for(lambda: self.first_waits_for <= set(self.asked))
            if skip in self.failing:
                raise Unreachable("nobody answers")
            return await super().list_page(skip=skip, take=min(take, self._most_rows))
        finally:
            self.under_way -= 1


def observed(remote: Paged, sample: ItemPage | JobfsError, *, is_late: bool = False) -> Observation:
    """Look at a job, and list it, beside a sample of the list; one that is late never comes."""

    async def tell() -> ItemPage:
        if is_late:
            await asyncio.Event().wait()
        if isinstance(sample, JobfsError):
            raise sample
        return sample

    async def look() -> Observation:
        async with asyncio.timeout(DEADLINE_S):
            telling: asyncio.Task[Page] = asyncio.create_task(tell())
            try:
                return await observe(remote, lambda: 0.0, telling)
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)
                assert remote.under_way == 0

    return asyncio.run(look())


def sample(total: int | None, *, rows: int = 1) -> ItemPage:
    remote = ModelRemote()
    return ItemPage([remote.put(f"{number}", b"") for number in range(rows)], total)


def listed(remote: Paged, told: ItemPage | JobfsError, *, is_late: bool = False) -> Listing:
    return observed(remote, told, is_late=is_late).listing


def whole(listing: Listing) -> bool:
    return listing.is_stable and {item.path for item in listing.items} == {str(number) for number in range(FILES)}


def test_the_other_pages_are_asked_for_before_the_first_one_is_there() -> None:
    remote = Paged()
    remote.first_waits_for = {99, 198}
    assert whole(listed(remote, sample(FILES)))
    assert sorted(remote.asked) == [0, 99, 198]


@pytest.mark.parametrize("told", [0, 2, PAGE_ROWS, FILES - 60, FILES - 1, FILES + 1, FILES + 500, MOST_ITEMS + 1])
def test_a_total_that_is_wrong_changes_nothing_of_what_is_listed(told: int) -> None:
    assert whole(listed(Paged(), sample(told)))


def test_a_server_with_smaller_pages_than_asked_for_is_listed_by_what_its_first_page_shows() -> None:
    assert whole(listed(Paged(most_rows=40), sample(FILES)))


@pytest.mark.parametrize("told", [sample(None), Unreachable("the total cannot be had")], ids=["untold", "failed"])
def test_without_a_total_the_first_page_tells_it(told: ItemPage | JobfsError) -> None:
    remote = Paged()
    assert whole(listed(remote, told))
    assert sorted(remote.asked) == [0, 99, 198]


def test_a_total_that_comes_too_late_is_not_waited_for() -> None:
    assert whole(listed(Paged(), sample(FILES), is_late=True))


@pytest.mark.parametrize("page", [0, 198])
def test_a_page_that_cannot_be_had_ends_the_listing_and_leaves_nothing_under_way(page: int) -> None:
    remote = Paged()
    remote.failing = {page}
    if page:
        remote.first_waits_for = {-1}  # for ever
    with pytest.raises(Unreachable):
        listed(remote, sample(FILES))


@pytest.mark.parametrize("rows", [0, 1])
def test_a_sample_that_is_all_there_is_is_the_listing(rows: int) -> None:
    remote = Paged()
    seen = observed(remote, sample(rows, rows=rows))
    assert (len(seen.listing.items), seen.is_beside, remote.asked) == (rows, True, [])


def test_what_the_job_wrote_last_comes_soon_where_the_listing_was_taken_beside_the_look(tmp_path: Path) -> None:
    remote = ModelRemote()
    remote.job_status = "completed"
    beside = Observation("completed", Listing([], True, 1), 0.0, 0.0, is_beside=True)

    async def see() -> Observation:
        return beside

    async def wait(clock: VirtualClock) -> None:
        remote.put("written last", b"")
        times = FeedTimes()
        async with mounted(tmp_path, remote, clock=clock, options=Options(times=times), observed=see()) as mount:
            assert mount.names("") == []
            await asyncio.sleep(times.active_s + 1)
            assert mount.names("") == ["written last"]

    run_virtually(1, lambda loop: wait(loop.clock))


def test_a_sample_of_which_rows_could_not_be_read_is_not_all_there_is() -> None:
    remote = Paged()
    assert whole(listed(remote, replace(sample(0, rows=0), malformed=1)))
