"""Commands without a mount that list a large workspace of a slow server: a terminal tells how far they are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from commands import as_process
from terminals import on_terminal

from jobfs.cli.listed import CountedPages
from jobfs.server.faults import Fault, Faults
from jobfs.server.running import RunningServer

FILES = 101
"""One more than a page holds."""


@dataclass
class Rows:
    """A page, of which only the number of rows matters."""

    items: Sequence[Any]
    total: int | None
    malformed: int = 0


@dataclass
class Told:
    """Pages as the test wants them."""

    pages: list[Rows] = field(default_factory=list)

    async def list_page(self, *, skip: int, take: int) -> Rows:
        return self.pages.pop(0)


def rows(number: int, total: int | None, malformed: int = 0) -> Rows:
    return Rows(range(number), total, malformed)


def test_what_is_told_counts_items_and_not_rows_that_came_twice() -> None:
    first, second, last = rows(100, 1250), rows(99, 1250, malformed=1), rows(2, 1250)
    counted = CountedPages(Told([first, second, last, rows(3, 3), rows(2, None)]))

    def told_after(skip: int) -> str:
        asyncio.run(counted.list_page(skip=skip, take=100))
        return counted.told()

    assert counted.told() == "listing the workspace"
    assert told_after(0) == "listing the workspace: 100 of 1,250 items"
    assert told_after(99) == "listing the workspace: 199 of 1,250 items"
    assert told_after(198) == "listing the workspace: 200 of 1,250 items"
    assert told_after(0) == "listing the workspace: 3 of 3 items"
    assert told_after(2) == "listing the workspace: 4 items"


@pytest.fixture(scope="module")
def large(server: RunningServer) -> str:
    """A job with more items than a page holds."""
    job = server.create_job(status="completed")
    for at in range(FILES):
        server.put_item(job, f"f{at}", b"1")
    return job


@pytest.fixture
def slow(studio: RunningServer) -> Iterator[RunningServer]:
    """A server that takes longer for a page than people wait without wondering."""
    studio.faults = Faults((Fault("latency", path="items", delay_s=0.9),))
    yield studio
    studio.faults = Faults()


def test_a_slow_listing_tells_a_terminal_how_far_it_is_and_others_nothing(slow: RunningServer, large: str) -> None:
    code, shown = on_terminal("du", large)
    assert code == 0
    assert f"listing the workspace: 100 of {FILES} items" in shown
    assert f"{FILES} files" in shown.rpartition("\x1b")[2]  # after all that is drawn and wiped
    assert as_process("du", large).err == ""
