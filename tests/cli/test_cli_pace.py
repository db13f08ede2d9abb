"""Limits on the line: how long what passes is held back, and by how many requests at once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from commands import in_process

from jobfs.cli.remote import open_remote
from jobfs.model import Permission
from jobfs.server.faults import Fault, Faults
from jobfs.server.running import RunningServer
from jobfs.workspace.meter import Meter, Pace
from jobfs.workspace.settings import Settings

MIB = 1 << 20


class Desk:
    """A clock that goes on only where somebody sleeps, and notes for how long."""

    def __init__(self) -> None:
        self.now_s = 50.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now_s += seconds

    def pace(self, rate: int | None) -> Pace:
        return Pace(rate, clock_s=lambda: self.now_s, sleep=self.sleep)


def spend(pace: Pace, *sizes: int) -> None:
    async def each() -> None:
        for size in sizes:
            await pace.spend(size)

    asyncio.run(each())


def test_whoever_comes_waits_for_those_before_him() -> None:
    desk = Desk()
    spend(desk.pace(100), 50, 100, 25)
    assert desk.slept == [0.5, 1.0]


def test_time_that_nobody_used_is_not_made_up_for() -> None:
    desk = Desk()
    pace = desk.pace(100)
    spend(pace, 50)
    desk.now_s += 60
    spend(pace, 100, 100)
    assert desk.slept == [1.0]


def test_without_a_limit_nobody_waits() -> None:
    desk = Desk()
    spend(desk.pace(None), 10**9, 10**9)
    assert desk.slept == []


def test_contents_large_and_small_are_held_back_in_both_directions(
    studio: RunningServer, job: str, tmp_path: Path
) -> None:
    desk = Desk()
    (tmp_path / "large").write_bytes(b"x" * MIB)
    (tmp_path / "small").write_bytes(b"x" * (MIB // 8))

    async def transfer() -> tuple[float, float]:
        meter = Meter(up=desk.pace(MIB), down=desk.pace(MIB))
        async with open_remote(Settings(studio.url, studio.api_key), job, meter) as remote:
            names = ("large", "small")
            items = [
                await remote.create_file(name, Permission.READ_WRITE, tmp_path / name, "text/plain") for name in names
            ]
            await meter.up.spend(0)
            sent_s = desk.now_s
            for item in items:
                async with remote.download(item.id) as download:
                    received = b"".join([chunk async for chunk in download.chunks()])
                    assert len(received) == item.size
            await meter.down.spend(0)
            return sent_s - 50.0, desk.now_s - sent_s

    up_s, down_s = asyncio.run(transfer())
    assert (1.12 < up_s < 1.13, down_s) == (True, 1.125)


class TimedFaults(Faults):
    """Faults that note when they strike."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_s: list[float] = []

    def strike(self, method: str, path: str) -> tuple[Fault, ...]:
        struck = super().strike(method, path)
        if struck:
            self.at_s.append(time.monotonic())
        return struck


def test_no_more_requests_are_under_way_at_once_than_the_user_wants(
    studio: RunningServer, job: str, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for at in range(8):
        (folder / f"{at}.txt").write_text("1")
    studio.faults = faults = TimedFaults((Fault("latency", method="POST", path="/items", delay_s=0.1),))
    try:
        in_process("push", job, folder, "--connections", "2").ok()
    finally:
        studio.faults = Faults()
    # The third can only begin once the first has ended, a tenth of a second after it began.
    assert len(faults.at_s) == 8
    apart = [later - first for first, later in zip(faults.at_s, faults.at_s[2:], strict=False)]
    assert [seconds for seconds in apart if seconds < 0.1] == []
