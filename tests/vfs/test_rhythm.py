"""How often the server is asked, and how soon its return is noticed: in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from engine_harness import Mounted, mounted
from model_remote import ModelPage
from story_harness import TimedRemote
from virtual_loop import VirtualLoop, run_virtually

from jobfs.engine.attention import LAST_PAUSE_S
from jobfs.engine.feed import FeedTimes
from jobfs.engine.session import Options
from jobfs.errors import OutcomeUnknown, ServerFailure, Unreachable
from jobfs.model import Kind

MINUTE_S = 60.0
SOON_S = 5.0
"""So long after a server's return everything must be in step again."""


class Held(TimedRemote):
    """A server from which nothing comes for a while, and then everything."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()
        self.answers.set()

    @asynccontextmanager
    async def _call(self, name: str, subject: str) -> AsyncIterator[None]:
        await self.answers.wait()
        async with super()._call(name, subject):
            yield


class Long(Held):
    """A server whose list takes a second."""

    list_s = 1.0

    async def list_page(self, *, skip: int, take: int) -> ModelPage:
        await asyncio.sleep(self.list_s)
        return await super().list_page(skip=skip, take=take)


async def make_and_remove(mount: Mounted) -> None:
    """Make a directory with a file, see both on the server, and remove both."""
    mount.vfs.make(*mount.place("d"), Kind.DIRECTORY, mode=0o755)
    await mount.write("d/f", b"x")
    await mount.settle()
    mount.vfs.unlink(*mount.place("d/f"))
    mount.vfs.rmdir(*mount.place("d"))


class Cut:
    """A network that is gone until it is said to be back: whatever is asked fails at once, or after a while."""

    def __init__(self, remote: TimedRemote, error: Callable[[str], Exception]) -> None:
        self._error = error
        self.is_on = False
        self.asked = 0
        remote.before = self._refuse

    def _refuse(self, name: str, subject: str) -> None:
        if self.is_on:
            self.asked += 1
            raise self._error(name)


def unreachable(name: str) -> Exception:
    return (OutcomeUnknown if name in ("create_file", "update", "delete") else Unreachable)("cut")


def failing(name: str) -> Exception:
    return ServerFailure("overloaded")


RemoteT = TypeVar("RemoteT", bound=TimedRemote)


def play(
    directory: Path,
    story: Callable[[Mounted, RemoteT], Awaitable[None]],
    *,
    status: str,
    make_remote: Callable[[], RemoteT] = TimedRemote,  # type: ignore[assignment]
) -> None:
    """Run a story in a mount with the times of a real one."""

    async def work(loop: VirtualLoop) -> None:
        remote = make_remote()
        remote.job_status = status
        remote.put("theirs", b"old")
        async with mounted(directory, remote, options=Options(), clock=loop.clock) as mount:
            await story(mount, remote)

    run_virtually(1, work)


def test_while_the_expert_may_write_a_listing_begins_every_two_seconds(tmp_path: Path) -> None:
    """What a listing takes, and the rest after it, are part of the two seconds."""

    async def story(mount: Mounted, remote: TimedRemote) -> None:
        before = mount.session.feed.listings
        await asyncio.sleep(MINUTE_S + 1.0)
        assert mount.session.feed.listings - before == MINUTE_S / 2

    play(tmp_path, story, status="processing")


@pytest.mark.parametrize("status", ["processing", "completed"])
@pytest.mark.parametrize("gone_s", [MINUTE_S, 60 * MINUTE_S])
def test_when_the_network_is_back_both_sides_are_in_step_within_seconds_however_long_it_was_gone(
    tmp_path: Path, status: str, gone_s: float
) -> None:
    async def story(mount: Mounted, remote: TimedRemote) -> None:
        cut = Cut(remote, unreachable)
        cut.is_on = True
        for number in range(20):
            await mount.write(f"mine {number}", b"mine")
            await asyncio.sleep(gone_s / 20)
        remote.put("fresh", b"new")
        cut.is_on = False
        await asyncio.sleep(SOON_S)
        mine = {f"mine {number}": b"mine" for number in range(20)}
        assert remote.tree() == {"fresh": b"new", "theirs": b"old"} | mine
        assert mount.names() == ["fresh", *sorted(mine), "theirs"]

    play(tmp_path, story, status=status)


@pytest.mark.parametrize("status", ["processing", "completed"])
def test_a_listing_that_the_network_held_up_does_not_count_as_a_costly_one(tmp_path: Path, status: str) -> None:
    async def story(mount: Mounted, remote: Held) -> None:
        remote.answers.clear()
        mount.session.feed.request()
        await asyncio.sleep(MINUTE_S / 2)
        remote.answers.set()
        await asyncio.sleep(1.0)
        remote.put("fresh", b"new")
        mount.session.feed.request()
        await asyncio.sleep(SOON_S)
        assert mount.names() == ["fresh", "theirs"]

    play(tmp_path, story, status=status, make_remote=Held)


def test_the_rest_after_a_listing_that_the_network_held_up_is_as_long_as_before(tmp_path: Path) -> None:
    async def story(mount: Mounted, remote: Long) -> None:
        await asyncio.sleep(MINUTE_S)
        remote.answers.clear()
        mount.session.feed.request()
        await asyncio.sleep(MINUTE_S)
        remote.answers.set()
        await asyncio.sleep(2.0)
        remote.put("fresh", b"new")
        await asyncio.sleep(20 * remote.list_s)
        assert mount.names() == ["fresh", "theirs"]

    play(tmp_path, story, status="processing", make_remote=Long)


def test_a_list_that_has_grown_is_taken_more_rarely_from_the_second_time_on(tmp_path: Path) -> None:
    async def story(mount: Mounted, remote: Long) -> None:
        await asyncio.sleep(MINUTE_S)
        remote.list_s = 1.4
        await asyncio.sleep(MINUTE_S)
        remote.list_s = 4.0
        await asyncio.sleep(MINUTE_S)
        before = mount.session.feed.listings
        await asyncio.sleep(10 * MINUTE_S)
        assert mount.session.feed.listings - before <= 10 * MINUTE_S / (FeedTimes().ended_s + remote.list_s) + 1

    play(tmp_path, story, status="processing", make_remote=Long)


def test_while_nobody_answers_nothing_is_sent_but_one_small_question_a_second(tmp_path: Path) -> None:
    async def story(mount: Mounted, remote: TimedRemote) -> None:
        cut = Cut(remote, unreachable)
        cut.is_on = True
        for number in range(100):
            await mount.write(f"mine {number}", b"mine")
        await asyncio.sleep(MINUTE_S)
        remote.calls.clear()
        cut.asked = 0
        await asyncio.sleep(MINUTE_S)
        assert remote.asked() == []
        assert cut.asked <= MINUTE_S + MINUTE_S / 15
        cut.is_on = False
        await mount.settle()
        assert len(remote.tree()) == 101

    play(tmp_path, story, status="completed")


def test_a_server_that_fails_is_asked_ever_more_rarely(tmp_path: Path) -> None:
    async def story(mount: Mounted, remote: TimedRemote) -> None:
        cut = Cut(remote, failing)
        cut.is_on = True
        await mount.write("mine", b"mine")
        await asyncio.sleep(10 * MINUTE_S)
        remote.calls.clear()
        await asyncio.sleep(10 * MINUTE_S)
        assert 5 <= len(remote.asked()) <= 20
        cut.is_on = False
        await asyncio.sleep(LAST_PAUSE_S)
        await mount.settle()
        assert remote.tree() == {"mine": b"mine", "theirs": b"old"}

    play(tmp_path, story, status="completed")


def test_a_deletion_that_waits_for_a_listing_gets_it_at_once_however_long_the_last_one_took(tmp_path: Path) -> None:
    async def story(mount: Mounted, remote: Long) -> None:
        mount.session.feed.request()  # one is taken, and then rested from
        await asyncio.sleep(SOON_S)
        await make_and_remove(mount)
        await asyncio.sleep(2.0)
        assert remote.tree() == {"theirs": b"old"}

    play(tmp_path, story, status="completed", make_remote=Long)


def test_a_program_that_removes_a_tree_all_the_time_does_not_make_us_list_all_the_time(tmp_path: Path) -> None:
    async def story(mount: Mounted, remote: Long) -> None:
        clock, feed = mount.session.workspace.clock, mount.session.feed
        before, began_s = feed.listings, clock.monotonic_s()
        for _ in range(60):
            await make_and_remove(mount)
            await asyncio.sleep(2.0)
        await mount.settle()
        passed_s = clock.monotonic_s() - began_s
        assert feed.listings - before <= 5 * (1 + passed_s / 20)
        assert remote.tree() == {"theirs": b"old"}

    play(tmp_path, story, status="completed", make_remote=Long)
