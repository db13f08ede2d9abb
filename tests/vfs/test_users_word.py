"""What the user says of deletions that the guard would stop: it counts once, and for as long as he waits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from engine_harness import mounted, run
from failing_disk import FailingDisk
from model_remote import ModelRemote

from jobfs.engine.arrival import refresh
from jobfs.engine.feed import FeedTimes
from jobfs.engine.session import Options
from jobfs.planner.guards import Side

WHEN_ASKED = Options(times=FeedTimes(active_s=3600, ended_s=3600, ended_max_s=3600, status_s=3600, status_max_s=3600))


def _filled(count: int = 50) -> ModelRemote:
    remote = ModelRemote()
    for number in range(count):
        remote.put(f"f{number:02d}", b"x")
    return remote


def _wipe(remote: ModelRemote, numbers: range = range(40)) -> None:
    for number in numbers:
        remote.remove(f"f{number:02d}")


def test_a_word_is_not_taken_back_by_who_asks_at_the_same_time_without_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = _filled()
        async with mounted(tmp_path, remote) as mount:
            _wipe(remote)
            await asyncio.gather(refresh(mount.session, allow=None), refresh(mount.session))
            assert len(mount.names()) == 10

    run(scenario())


def test_a_word_ends_with_its_own_wait_whoever_else_still_waits(tmp_path: Path, expected_logs: object) -> None:
    async def scenario() -> None:
        remote = _filled()
        async with mounted(tmp_path, remote) as mount:
            await asyncio.gather(refresh(mount.session, allow=None), refresh(mount.session))
            _wipe(remote)
            await mount.pull()
            assert len(mount.names()) == 50

    expected_logs.expect("stopped: 40 of 50")  # type: ignore[attr-defined]
    run(scenario())


@pytest.mark.allow_log("stopped: ")
def test_what_vanishes_after_a_stop_is_judged_beside_what_would_be_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = _filled(100)
        async with mounted(tmp_path, remote, options=WHEN_ASKED) as mount:
            _wipe(remote, range(60))
            await mount.pull()
            _wipe(remote, range(60, 100))
            await mount.pull()
            assert (len(mount.names()), mount.session.guard.side) == (100, Side.LOCAL)
            await refresh(mount.session, allow=None)
            assert (mount.names(), mount.session.guard.side) == ([], None)

    run(scenario())


@pytest.mark.allow_log("stopped: |the local store failed")
@pytest.mark.parametrize("is_more_gone", [False, True], ids=["as it was", "more is gone"])
def test_what_was_allowed_and_failed_needs_no_other_word_and_allows_nothing_else(
    tmp_path: Path, is_more_gone: bool
) -> None:
    async def scenario() -> None:
        remote, disk = _filled(100), FailingDisk()
        async with mounted(tmp_path, remote, options=WHEN_ASKED, disk=disk) as mount:
            _wipe(remote, range(60))
            await mount.pull()
            assert mount.session.guard.side is Side.LOCAL
            with disk.failing("DELETE"):
                await refresh(mount.session, allow=None)
                await mount.offline()
                assert (len(mount.names()), mount.session.guard.side) == (100, None)
                if is_more_gone:
                    _wipe(remote, range(60, 100))
            await mount.pull()
            if not is_more_gone:
                assert (len(mount.names()), mount.session.guard.side) == (40, None)
                return
            assert (len(mount.names()), mount.session.guard.detail[:8]) == (100, "40 of 40")
            await refresh(mount.session, allow=None)
            assert mount.names() == []

    run(scenario())


@pytest.mark.allow_log("stopped: 40 of 40")
def test_a_word_is_for_what_there_was_to_be_seen_however_long_it_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = _filled(100)
        async with mounted(tmp_path, remote, options=WHEN_ASKED) as mount:
            seen = [mount.node(f"f{number:02d}") for number in range(60)]
            with mount.session.guard.allowing(Side.LOCAL, None) as given:
                given.is_about(seen)
                _wipe(remote, range(60))
                await mount.pull()
                assert len(mount.names()) == 40
                _wipe(remote, range(60, 100))
                await mount.pull()
            assert (len(mount.names()), mount.session.guard.side) == (40, Side.LOCAL)

    run(scenario())


@pytest.mark.allow_log("stopped: 60 of 100|the local store failed")
def test_what_was_allowed_and_came_back_is_allowed_no_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote, disk = _filled(100), FailingDisk()
        async with mounted(tmp_path, remote, options=WHEN_ASKED, disk=disk) as mount:
            guard = mount.session.guard
            kept = {number: remote.at(f"f{number:02d}") for number in range(60)}
            _wipe(remote, range(60))
            with disk.failing("DELETE"):
                await refresh(mount.session, allow=None)
                await mount.offline()
            for item in kept.values():
                assert item is not None
                remote.items[item.id] = item
            await mount.pull()
            assert (len(mount.names()), guard.side) == (100, None)
            _wipe(remote, range(60))
            await mount.pull()
            assert (len(mount.names()), guard.side) == (100, Side.LOCAL)

    run(scenario())
