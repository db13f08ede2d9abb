"""One listing of all items, made of pages that the server takes from a moving view (contract, protocol P, made fast).

The first page tells the total; the others go out concurrently. Neighbouring pages overlap by one row: a deletion
together with an insertion keeps the total and would otherwise hide a skipped row. A set of pages that does not fit
together is asked for again; if it never fits, the union is returned as *unstable*, and nothing may be taken for
deleted from it. The same holds for rows that could not be read: they are there, whatever they are.

What the server claims is not trusted: nothing is made ready for a total before that many rows have come, and a
workspace has its limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from jobfs.engine.remote import Page, Remote
from jobfs.errors import ProtocolViolation
from jobfs.model import MOST_ITEMS, Item, ItemId

PAGE_ROWS = 100
PARALLEL_PAGES = 16

_PASSES = 3

_SAMPLE_S = 0.1
"""How much longer than the look at the job its sample may take."""


class Pages(Protocol):
    """What a listing is made from: of a ``Remote``, the list."""

    async def list_page(self, *, skip: int, take: int) -> Page:
        """Return one page of the items."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a listing saw.

    :param is_stable: all pages fitted together: an item that is not in here was not there.
    :param requests: how many pages it took.
    :param malformed: how many rows could not be read.
    """

    items: Sequence[Item]
    is_stable: bool
    requests: int
    malformed: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """The job's status and then a listing.

    :param began_s, ended_s: when, by a clock that never jumps.
    :param is_beside: the listing was taken beside the look, not after it: what the job wrote last may not be in it.
    """

    status: str
    listing: Listing
    began_s: float
    ended_s: float
    is_beside: bool = False


async def observe(remote: Remote, now_s: Callable[[], float], sample: asyncio.Task[Page] | None = None) -> Observation:
    """Look at the job, and then list every item: what a job wrote before its end is in the listing that follows.

    :param sample: the first row of the list, asked for beside the look: it tells how many there are, so that no page
        has to wait for the first one. Where it is all that there is, it is the listing. A late one is not waited for.
    :raises ApiError: as ``take_listing``.
    """
    began_s = now_s()
    status = await remote.status()
    page = await _taken(sample) if sample is not None else None
    if page is not None and page.total == len(page.items) and not page.malformed:
        return Observation(status, Listing(page.items, True, 1), began_s, now_s(), is_beside=True)
    listing = await take_listing(remote, page.total if page is not None else None)
    return Observation(status, listing, began_s, now_s())


async def _taken(sample: asyncio.Task[Page]) -> Page | None:
    """Return a sample; None where it is late, or could not be had: that, the pages will be told as well."""
    await asyncio.wait({sample}, timeout=_SAMPLE_S)
    is_here = sample.done() and not sample.cancelled() and sample.exception() is None
    return sample.result() if is_here else None


async def take_listing(remote: Pages, expected: int | None = None) -> Listing:
    """List every item.

    :param expected: how many there probably are: their pages are asked for at once. What these tell decides.
    :raises ApiError: a page could not be had.
    :raises ProtocolViolation: there are more than ``MOST_ITEMS``.
    """
    union: dict[ItemId, Item] = {}
    requests = malformed = 0
    for _ in range(_PASSES):
        pages = await _pass(remote, expected)
        expected = None
        requests += len(pages)
        malformed = sum(page.malformed for page in pages)
        rows: dict[ItemId, Item] = {}
        for page in pages:
            rows.update((item.id, item) for item in page.items)
        if _fits(pages, len(rows)):
            return Listing(list(rows.values()), not malformed, requests, malformed)
        union.update(rows)
        _check_count(len(union))
    return Listing(list(union.values()), False, requests, malformed)


async def _pass(remote: Pages, expected: int | None) -> list[Page]:
    if expected is None or not PAGE_ROWS < expected <= MOST_ITEMS:
        return await _from(remote, await remote.list_page(skip=0, take=PAGE_ROWS))
    first = asyncio.create_task(remote.list_page(skip=0, take=PAGE_ROWS))
    try:
        others = await _others(remote, _skips(expected, PAGE_ROWS), PAGE_ROWS)
        page = await first
    finally:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    if page.total == expected and _rows(page) == PAGE_ROWS:
        return [page, *others]
    return await _from(remote, page)


async def _from(remote: Pages, first: Page) -> list[Page]:
    """Return all pages, of which the first is here."""
    rows = _rows(first)
    if first.total is None:
        return [first, *await _until_nothing_new(remote, first)]
    _check_count(max(first.total, rows))
    if first.total <= rows or rows < 2:
        return [first]
    return [first, *await _others(remote, _skips(first.total, rows), rows)]


def _skips(total: int, rows: int) -> range:
    """Return where the pages after the first begin: each with the last row of the one before."""
    return range(rows - 1, total - 1, rows - 1)


async def _others(remote: Pages, skips: Sequence[int], received: int) -> list[Page]:
    """Return the pages at these places, a few at a time; after an empty one, which no honest total allows, no more."""
    pages: dict[int, Page] = {}
    left = iter(skips)

    async def bring() -> None:
        nonlocal left, received
        while (skip := next(left, None)) is not None:
            pages[skip] = page = await remote.list_page(skip=skip, take=PAGE_ROWS)
            received += _rows(page)
            _check_count(received - len(pages))
            if not _rows(page):
                left = iter(())

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(PARALLEL_PAGES, len(skips))):
                group.create_task(bring())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [pages[skip] for skip in sorted(pages)]


async def _until_nothing_new(remote: Pages, first: Page) -> list[Page]:
    """Page on where the server does not tell a total."""
    pages: list[Page] = []
    seen = {item.id for item in first.items}
    skip = received = _rows(first)
    while skip:
        page = await remote.list_page(skip=skip - 1, take=PAGE_ROWS)
        fresh = {item.id for item in page.items} - seen
        if not fresh:
            break
        pages.append(page)
        seen |= fresh
        received += _rows(page)
        _check_count(received - len(pages))
        if _rows(page) < 2:
            break  # one row, and not the one that it has to begin with: this leads nowhere
        skip += _rows(page) - 1
    return pages


def _rows(page: Page) -> int:
    return len(page.items) + page.malformed


def _check_count(count: int) -> None:
    if count > MOST_ITEMS:
        raise ProtocolViolation(
            f"the server lists {count} items, more than {MOST_ITEMS}",
            "look at the workspace there; jobfs takes no more",
        )


def _fits(pages: Sequence[Page], distinct: int) -> bool:
    """Tell whether the pages are one consistent view."""
    total = pages[0].total
    if total is None:
        return all(_overlaps(one, other) for one, other in pairwise(pages))
    malformed = sum(page.malformed for page in pages)
    if any(page.total != total for page in pages) or distinct + malformed != total:
        return False
    rows = sum(len(page.items) for page in pages)
    return rows - (len(pages) - 1) == distinct and all(_overlaps(one, other) for one, other in pairwise(pages))


def _overlaps(one: Page, other: Page) -> bool:
    return bool(one.items) and bool(other.items) and one.items[-1].id == other.items[0].id
