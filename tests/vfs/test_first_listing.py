"""A listing that is told how many items there may be does not wait for its first page, and believes only the pages."""

from __future__ import annotations

import asyncio

import pytest
from model_remote import ModelRemote

from jobfs.api.answer import ItemPage
from jobfs.engine.listing import PAGE_ROWS, Listing, take_listing
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


def listed(remote: Paged, told: int | JobfsError | None, *, is_late: bool = False) -> Listing:
    """Take a listing that is told a total, or a failure; or never anything while it lasts."""

    async def tell() -> int | None:
        if is_late:
            await asyncio.Event().wait()
        if isinstance(told, JobfsError):
            raise told
        return told

    async def take() -> Listing:
        async with asyncio.timeout(DEADLINE_S):
            expected = asyncio.create_task(tell())
            try:
                return await take_listing(remote, expected)
            finally:
                assert expected.done()
                assert remote.under_way == 0

    return asyncio.run(take())


def whole(listing: Listing) -> bool:
    return listing.is_stable and {item.path for item in listing.items} == {str(number) for number in range(FILES)}


def test_the_other_pages_are_asked_for_before_the_first_one_is_there() -> None:
    remote = Paged()
    remote.first_waits_for = {99, 198}
    assert whole(listed(remote, FILES))
    assert sorted(remote.asked) == [0, 99, 198]


@pytest.mark.parametrize("told", [0, 1, PAGE_ROWS, FILES - 60, FILES - 1, FILES + 1, FILES + 500, MOST_ITEMS + 1])
def test_a_total_that_is_wrong_changes_nothing_of_what_is_listed(told: int) -> None:
    assert whole(listed(Paged(), told))


def test_a_server_with_smaller_pages_than_asked_for_is_listed_by_what_its_first_page_shows() -> None:
    assert whole(listed(Paged(most_rows=40), FILES))


@pytest.mark.parametrize("told", [None, Unreachable("the total cannot be had")], ids=["untold", "failed"])
def test_without_a_total_the_first_page_tells_it(told: JobfsError | None) -> None:
    remote = Paged()
    assert whole(listed(remote, told))
    assert sorted(remote.asked) == [0, 99, 198]


def test_a_total_that_comes_too_late_is_not_waited_for() -> None:
    assert whole(listed(Paged(), FILES, is_late=True))


@pytest.mark.parametrize("page", [0, 198])
def test_a_page_that_cannot_be_had_ends_the_listing_and_leaves_nothing_under_way(page: int) -> None:
    remote = Paged()
    remote.failing = {page}
    if page:
        remote.first_waits_for = {-1}  # for ever
    with pytest.raises(Unreachable):
        listed(remote, FILES)
