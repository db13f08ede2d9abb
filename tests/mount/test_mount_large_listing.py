"""Programs are answered while a large listing is taken in: no step of the loop keeps them waiting.

What counts is the processor time of the loop's thread between two looks of other tasks, beside what a fixed piece of
work takes at the same moment: other work on a processor's caches and on its twin slows both.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from model_remote import ModelRemote

pytestmark = pytest.mark.mount

Live = Any  # see live_mount

ITEMS = 20_000
BELOW = 100
LONGEST_STEP = 8.0
"""In yardsticks; about 0.1 s."""

ANSWERED_S = 0.1


def yardstick_s() -> float:
    """Return the processor time that a fixed piece of work takes just now."""
    times = []
    for _ in range(5):
        began = time.thread_time()
        table = {number: str(number) for number in range(100_000)}
        assert sum(map(len, table.values())) == 488_890
        times.append(time.thread_time() - began)
    return statistics.median(times)


class StepWatch:
    """Looks at each step of the loop that it runs on."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._is_over = False

    async def start(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        self._is_over = True
        await self._task

    async def _watch(self) -> None:
        last = time.thread_time()
        while not self._is_over:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest_s = max(self.longest_s, now - last)
            last = now


def fill(remote: ModelRemote) -> None:
    """Give the server many items at once, as an expert does that unpacks an archive."""
    fresh = ModelRemote()
    fresh.at = lambda path: None  # type: ignore[method-assign]
    fresh._next = 1_000_000
    for number in range(ITEMS // BELOW):
        fresh.put(f"{number}", None)
        for file in range(BELOW - 1):
            fresh.put(f"{number}/{file}.txt", b"x")
    remote.items |= fresh.items
    remote.bytes |= fresh.bytes


def ask(point: Path, is_over: threading.Event, times: list[float]) -> None:
    """Ask for the free space, which the kernel always asks the mount for."""
    while not is_over.is_set():
        began = time.monotonic()
        os.statvfs(point)
        times.append(time.monotonic() - began)


@pytest.mark.slow
def test_programs_are_answered_while_twenty_thousand_new_items_are_taken_in(serving: Callable[..., Live]) -> None:
    remote = ModelRemote()
    remote.put("warm", b"warm")
    live = serving("kernel", remote)
    live.do(lambda: fill(remote))
    watch, is_over, times = StepWatch(), threading.Event(), list[float]()
    live.call(watch.start)
    program = threading.Thread(target=ask, args=(live.path, is_over, times))
    program.start()
    try:
        live.pull()
        unit_s = yardstick_s()
    finally:
        is_over.set()
        program.join()
        live.call(watch.stop)
    assert len(os.listdir(live.path)) == ITEMS // BELOW + 1
    assert watch.longest_s < LONGEST_STEP * unit_s
    assert statistics.median(times) < ANSWERED_S
