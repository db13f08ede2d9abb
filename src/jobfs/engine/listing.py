"""One listing of all items, made of pages that the server takes from a moving view (contract, protocol P, made fast).

The first page tells the total; the others go out concurrently. Neighbouring pages overlap by one row: a deletion
together with an insertion keeps the total and would otherwise hide a skipped row. A set of pages that does not fit
together is asked for again; if it never fits, the union is returned as *unstable*, and nothing may be taken for
deleted from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from jobfs.engine.remote import Page, Remote
from jobfs.model import Item, ItemId

PAGE_ROWS = 100
PARALLEL_PAGES = 8
_PASSES = 3


@dataclass(frozen=True, slots=True)
class Listing:
    """What a listing saw.

    :param is_stable: all pages fitted together: an item that is not in here was not there.
    :param requests: how many pages it took.
    """

    items: Sequence[Item]
    is_stable: bool
    requests: int


async def take_listing(remote: Remote) -> Listing:
    """List every item.

    :raises ApiError: a page could not be had.
    """
    union: dict[ItemId, Item] = {}
    requests = 0
    for _ in range(_PASSES):
        pages = await _pass(remote)
        requests += len(pages)
        rows: dict[ItemId, Item] = {}
        for page in pages:
            rows.update((item.id, item) for item in page.items)
        if _fits(pages, len(rows)):
            return Listing(list(rows.values()), True, requests)
        union.update(rows)
    return Listing(list(union.values()), False, requests)


async def _pass(remote: Remote) -> list[Page]:
    first = await remote.list_page(skip=0, take=PAGE_ROWS)
    if first.total is None:
        return [first, *await _until_nothing_new(remote, first)]
    step = len(first.items) + first.malformed - 1
    if first.total <= len(first.items) + first.malformed or step < 1:
        return [first]
    slots = asyncio.Semaphore(PARALLEL_PAGES)

    async def page_at(skip: int) -> Page:
        async with slots:
            return await remote.list_page(skip=skip, take=PAGE_ROWS)

    skips = range(step, first.total - 1, step)
    return [first, *await asyncio.gather(*(page_at(skip) for skip in skips))]


async def _until_nothing_new(remote: Remote, first: Page) -> list[Page]:
    """Page on where the server does not tell a total."""
    pages: list[Page] = []
    seen = {item.id for item in first.items}
    skip = len(first.items)
    while skip:
        page = await remote.list_page(skip=skip - 1, take=PAGE_ROWS)
        fresh = {item.id for item in page.items} - seen
        if not fresh:
            break
        pages.append(page)
        seen |= fresh
        skip += len(page.items) - 1
    return pages


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
