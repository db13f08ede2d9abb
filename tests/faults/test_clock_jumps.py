"""The wall clock jumps, and the machine sleeps: pushes go on, nothing looks changed, and nothing is deleted unseen.

In simulated time, but for the real folder. Of a sleep of the machine the monotonic clock knows nothing on some systems,
and everything on others; the wall clock always does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from engine_harness import Mounted, mounted
from folder_harness import QUICK, Desk, eventually, run
from model_remote import ModelRemote
from virtual_loop import EPOCH_NS, VirtualLoop, run_virtually

from jobfs.engine.feed import FeedTimes
from jobfs.engine.session import Options
from jobfs.engine.workspace import SystemClock
from jobfs.folder.sync import FolderSync, SyncOptions
from jobfs.model import ROOT
from jobfs.planner.naming import check_name

DAY_S = 86400.0
JUMPS_S = {"back a day": -DAY_S, "ahead a year": 365 * DAY_S, "to before 1970": -EPOCH_NS / 1e9 - DAY_S}
HOUR_S = 3600.0
SOON_S = 20.0
"""After a sleep a listing is due as soon as the job's status is looked at again: at the latest every 15 s."""


class JumpyClock:
    """A machine's clocks: the loop's time, a wall clock that somebody sets, and a monotonic one that may know sleeps.

    :param counts_sleep: whether the monotonic clock goes on while the machine sleeps.
    """

    def __init__(self, loop: VirtualLoop, *, counts_sleep: bool = False) -> None:
        self._loop = loop
        self._counts_sleep = counts_sleep
        self._ahead_s = 0.0
        self._slept_s = 0.0

    def wall_ns(self) -> int:
        return EPOCH_NS + int((self._loop.time() + self._ahead_s) * 1e9)

    def monotonic_s(self) -> float:
        return self._loop.time() + self._slept_s

    def set_wall(self, by_s: float) -> None:
        """Somebody sets the clock."""
        self._ahead_s += by_s

    def sleep(self, for_s: float) -> None:
        """The machine sleeps: for its programs no time passes at all."""
        self._ahead_s += for_s
        if self._counts_sleep:
            self._slept_s += for_s


Scenario = Callable[[Mounted, ModelRemote, JumpyClock], Awaitable[None]]


def play(
    directory: Path,
    scenario: Scenario,
    *,
    remote: ModelRemote | None = None,
    times: FeedTimes | None = None,
    counts_sleep: bool = False,
) -> ModelRemote:
    """Play a scenario on a mount in simulated time; check the state at the end."""
    remote = remote or ModelRemote()

    async def work(loop: VirtualLoop) -> None:
        clock = JumpyClock(loop, counts_sleep=counts_sleep)
        options = Options(times=times or FeedTimes())
        async with mounted(directory, remote, options=options, clock=clock) as mount:
            await scenario(mount, remote, clock)
            assert mount.session.state.check() == []

    run_virtually(1, work)
    return remote


def filled(**files: bytes) -> ModelRemote:
    remote = ModelRemote()
    for path, data in files.items():
        remote.put(path, data)
    return remote


async def after(seconds: float) -> None:
    """Let the programs of the machine run on for a while."""
    await asyncio.sleep(seconds)


# -------------------------------------------------------------------------------------------------- the wall clock


@pytest.mark.parametrize("jump", JUMPS_S)
def test_changes_around_a_jump_are_pushed_as_ever_and_no_conflict_appears(tmp_path: Path, jump: str) -> None:
    async def scenario(mount: Mounted, remote: ModelRemote, clock: JumpyClock) -> None:
        await mount.write("saved", b"before the jump")
        await mount.write("waiting", b"written before")
        clock.set_wall(JUMPS_S[jump])
        await mount.write("waiting", b"and after the jump")
        await mount.write("old", b"old, edited")
        await mount.rename("moved", "renamed")
        mount.vfs.unlink(*mount.place("gone"))
        await mount.settle()
        remote.put("theirs", b"theirs, edited")
        await mount.pull()
        assert await mount.read("theirs") == b"theirs, edited"
        assert mount.session.conflicts == []

    remote = play(tmp_path, scenario, remote=filled(old=b"old", moved=b"moved", gone=b"gone", theirs=b"theirs"))
    assert remote.tree() == {
        "old": b"old, edited",
        "renamed": b"moved",
        "saved": b"before the jump",
        "theirs": b"theirs, edited",
        "waiting": b"and after the jump",
    }


@pytest.mark.parametrize("jump", JUMPS_S)
def test_after_a_jump_nothing_that_is_as_it_was_is_asked_for_or_sent(tmp_path: Path, jump: str) -> None:
    async def scenario(mount: Mounted, remote: ModelRemote, clock: JumpyClock) -> None:
        assert await mount.read("a") == b"a"
        await mount.write("b", b"b, edited")
        await mount.settle()
        remote.calls.clear()
        clock.set_wall(JUMPS_S[jump])
        mount.vfs.set_times(mount.node("a"), mtime_ns=clock.wall_ns() + 5)
        mount.vfs.set_times(mount.node("b"), mtime_ns=max(0, clock.wall_ns() - 5))
        await mount.write("b", b"b, edited")
        assert (await mount.read("a"), await mount.read("b")) == (b"a", b"b, edited")
        await mount.pull()
        await mount.settle()
        assert remote.asked() == []

    play(tmp_path, scenario, remote=filled(a=b"a", b=b"b"))


@pytest.mark.parametrize("jump", JUMPS_S)
def test_a_session_that_starts_after_a_jump_pushes_what_was_left_and_nothing_else(tmp_path: Path, jump: str) -> None:
    remote = filled(a=b"a", b=b"b")

    async def before(mount: Mounted, remote: ModelRemote, clock: JumpyClock) -> None:
        await mount.read("a")
        await mount.session.stop()
        await mount.write("b", b"edited, not sent")

    async def later(mount: Mounted, remote: ModelRemote, clock: JumpyClock) -> None:
        clock.set_wall(JUMPS_S[jump])
        await mount.settle()
        assert mount.session.conflicts == []

    play(tmp_path, before, remote=remote)
    remote.calls.clear()
    play(tmp_path, later, remote=remote)
    assert [call for call, _ in remote.asked()] == ["create_file", "update", "update", "delete"]
    assert remote.tree() == {"a": b"a", "b": b"edited, not sent"}


@pytest.mark.parametrize("jump", JUMPS_S)
def test_names_of_conflict_copies_are_valid_and_never_the_same_though_the_moment_comes_twice(
    tmp_path: Path, jump: str
) -> None:
    async def conflict(mount: Mounted, remote: ModelRemote, data: bytes) -> None:
        await mount.read("a.txt")
        handle = mount.vfs.open(mount.node("a.txt"), os.O_WRONLY | os.O_TRUNC)
        await mount.vfs.write(handle, b"mine " + data, 0)
        remote.put("a.txt", b"theirs " + data)
        await mount.pull()
        mount.vfs.release(handle)
        await mount.settle()

    async def scenario(mount: Mounted, remote: ModelRemote, clock: JumpyClock) -> None:
        clock.set_wall(JUMPS_S[jump])
        moment_ns = clock.wall_ns()
        await conflict(mount, remote, b"1")
        clock.set_wall((moment_ns - clock.wall_ns()) / 1e9)
        await conflict(mount, remote, b"2")
        copies = [name for name in mount.names() if name != "a.txt" and name != ".jobfs"]
        assert len(copies) == 2
        assert [check_name(name) for name in copies] == [None, None]

    remote = play(tmp_path, scenario, remote=filled(**{"a.txt": b"a"}))
    assert set(remote.tree().values()) >= {b"mine 1", b"mine 2", b"theirs 2"}


# -------------------------------------------------------------------------------------------------- the machine sleeps

SLEEP_UNKNOWN = pytest.param(
    False,
    id="unknown to the monotonic clock",
)
SLEEP_COUNTED = pytest.param(True, id="counted by the monotonic clock")
SLEEPS = pytest.mark.parametrize("counts_sleep", [SLEEP_UNKNOWN, SLEEP_COUNTED])


@SLEEPS
def test_after_a_sleep_the_feed_lists_soon(tmp_path: Path, counts_sleep: bool) -> None:
    async def scenario(mount: Mounted, remote: ModelRemote, clock: JumpyClock) -> None:
        await after(HOUR_S)  # idle: by now listings are five minutes apart
        await mount.session.feed.refresh()
        await after(1)
        clock.sleep(HOUR_S)
        remote.put("new", b"made while we slept")
        await after(SOON_S)
        assert "new" in mount.names()

    play(tmp_path, scenario, counts_sleep=counts_sleep)


@SLEEPS
def test_a_directory_deleted_after_a_sleep_does_not_take_along_what_was_put_into_it_meanwhile(
    tmp_path: Path, counts_sleep: bool
) -> None:
    async def scenario(mount: Mounted, remote: ModelRemote, clock: JumpyClock) -> None:
        await mount.session.feed.refresh()
        assert mount.session.feed.is_fresh()
        clock.sleep(HOUR_S)
        remote.put("d/new", b"made while we slept")
        mount.vfs.unlink(*mount.place("d/old"))
        mount.vfs.rmdir(ROOT, "d")
        await mount.settle()
        await mount.pull()
        assert mount.names("d") == ["new"]

    remote = ModelRemote()
    remote.put("d", None)
    remote.put("d/old", b"old")
    play(tmp_path, scenario, remote=remote, counts_sleep=counts_sleep)
    assert remote.tree() == {"d": None, "d/new": b"made while we slept"}


@SLEEPS
def test_a_file_deleted_after_a_sleep_stays_if_somebody_wrote_to_it_meanwhile(
    tmp_path: Path, counts_sleep: bool
) -> None:
    async def scenario(mount: Mounted, remote: ModelRemote, clock: JumpyClock) -> None:
        await mount.read("a")
        await mount.session.feed.refresh()
        clock.sleep(HOUR_S)
        remote.put("a", b"rewritten while we slept")
        mount.vfs.unlink(*mount.place("a"))
        await mount.settle()
        await mount.pull()
        assert await mount.read("a") == b"rewritten while we slept"

    remote = play(tmp_path, scenario, remote=filled(a=b"a"), counts_sleep=counts_sleep)
    assert remote.tree() == {"a": b"rewritten while we slept"}


@pytest.mark.parametrize("counts_sleep", [False, True])
def test_a_save_after_a_sleep_over_what_somebody_wrote_meanwhile_loses_neither(
    tmp_path: Path, counts_sleep: bool
) -> None:
    async def scenario(mount: Mounted, remote: ModelRemote, clock: JumpyClock) -> None:
        await mount.read("a")
        await mount.session.feed.refresh()
        await mount.write("unsent", b"written just before")
        clock.sleep(HOUR_S)
        remote.put("a", b"theirs")
        await mount.write("a", b"mine")
        await mount.settle()
        await mount.pull()
        await mount.settle()

    remote = play(tmp_path, scenario, remote=filled(a=b"a"), counts_sleep=counts_sleep)
    assert sorted(filter(None, remote.tree().values())) == [b"mine", b"theirs", b"written just before"]


@pytest.mark.parametrize("jump", JUMPS_S)
def test_a_jump_of_the_wall_clock_alone_stops_no_deletion(tmp_path: Path, jump: str) -> None:
    async def scenario(mount: Mounted, remote: ModelRemote, clock: JumpyClock) -> None:
        await mount.session.feed.refresh()
        clock.set_wall(JUMPS_S[jump])
        mount.vfs.unlink(*mount.place("a"))
        await mount.settle()
        assert remote.tree() == {"b": b"b"}
        before = mount.session.feed.listings
        await after(HOUR_S)
        assert mount.session.feed.listings - before < 25

    play(tmp_path, scenario, remote=filled(a=b"a", b=b"b"))


# -------------------------------------------------------------------------------------------------------- a real folder


class SetClock(SystemClock):
    """The machine's clocks, of which the wall clock can be stopped and set."""

    def __init__(self) -> None:
        self._stopped_at_ns: int | None = None
        self._ahead_ns = 0

    def wall_ns(self) -> int:
        return super().wall_ns() + self._ahead_ns if self._stopped_at_ns is None else self._stopped_at_ns

    def stop_at(self, at_ns: int) -> None:
        self._stopped_at_ns = at_ns

    def set_wall(self, by_s: float) -> None:
        self._stopped_at_ns, self._ahead_ns = None, int(by_s * 1e9)


def test_a_file_that_rests_when_the_clock_is_set_back_is_pushed_soon(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk, clock = Desk(tmp_path), SetClock()
        options = SyncOptions(watch=True, host="testhost", times=QUICK)
        with desk.opened() as state:
            sync = FolderSync(state, desk.remote, desk.root, options=options, clock=clock)
            task = asyncio.create_task(sync.run())
            try:
                await eventually(lambda: state.setting("listed") is not None)
                desk.write("a", b"written just now", is_old=False)
                clock.stop_at((desk.root / "a").stat().st_ctime_ns)  # so it rests until the clock is set
                await eventually(lambda: bool(sync._later))
                clock.set_wall(-DAY_S)
                await eventually(lambda: desk.model.tree() == {"a": b"written just now"})
            finally:
                clock.set_wall(0.0)
                sync.stop()
                await task

    run(scenario())
