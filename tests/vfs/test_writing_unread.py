"""Who writes to a file that is not here waits at its open; what waits under the file's lock does not wait long."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from downloads import MIB, large
from engine_harness import Mounted, mounted
from model_remote import ModelRemote
from story_harness import TimedRemote
from virtual_loop import VirtualLoop, run_virtually

from jobfs.engine.session import Options
from jobfs.errors import DeadlineExceeded, Unreachable

LONGEST_LOCKED_S = 5.0
WRITING = os.O_WRONLY | os.O_APPEND


def play(directory: Path, remote: ModelRemote, story: Callable[[Mounted], Awaitable[None]]) -> None:
    """Play a story with the default deadlines, in simulated time."""

    async def work(loop: VirtualLoop) -> None:
        async with mounted(directory, remote, options=Options(), clock=loop.clock) as mount:
            await story(mount)

    run_virtually(1, work)


async def took_s(work: Awaitable[object]) -> float:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    with pytest.raises(DeadlineExceeded):
        await work
    return loop.time() - began_s


def test_a_file_that_is_opened_for_writing_is_here_when_it_is_open(tmp_path: Path) -> None:
    remote = ModelRemote()
    remote.put("a", b"12")

    async def story(mount: Mounted) -> None:
        handle = mount.vfs.open(mount.node("a"), WRITING)
        assert mount.vfs.is_cold(handle, WRITING)
        assert await mount.vfs.confirm(handle)
        assert mount.vfs.write_now(handle, b"3", 0) == 1
        mount.vfs.release(handle)
        assert await mount.read("a") == b"123"

    play(tmp_path, remote, story)


def test_of_a_large_file_that_is_opened_for_both_its_open_waits_for_the_first_byte_alone(tmp_path: Path) -> None:
    remote = ModelRemote()
    large(remote, 9 * MIB)
    rest = asyncio.Event()

    async def hold(at: int) -> None:
        if at:
            await rest.wait()

    remote.before_chunk = hold

    async def story(mount: Mounted) -> None:
        handle = mount.vfs.open(mount.node("big"), os.O_RDWR)
        assert await mount.vfs.confirm(handle)
        second = mount.vfs.open(mount.node("big"), os.O_RDWR)
        opening = asyncio.create_task(mount.vfs.confirm(second))
        await asyncio.sleep(1)
        assert not opening.done()  # the first one may want the lock at any time: this one waits before it needs that
        assert mount.vfs.write_now(handle, b"3", 0) is None
        writing = asyncio.create_task(mount.vfs.write(handle, b"3", 0))
        await asyncio.sleep(1)
        assert not opening.done()
        rest.set()
        assert await opening
        assert await writing == 1
        for each in (handle, second):
            mount.vfs.release(each)

    play(tmp_path, remote, story)


def test_who_does_not_want_to_wait_does_not_wait_at_open(tmp_path: Path) -> None:
    remote = ModelRemote()
    remote.put("a", b"12")

    async def story(mount: Mounted) -> None:
        handle = mount.vfs.open(mount.node("a"), WRITING | os.O_NONBLOCK)
        assert not mount.vfs.is_cold(handle, WRITING | os.O_NONBLOCK)
        assert mount.vfs.is_cold(handle, WRITING)
        mount.session.went_offline(Unreachable("gone", ""))
        assert not mount.vfs.is_cold(handle, WRITING)
        mount.vfs.release(handle)

    play(tmp_path, remote, story)


@pytest.mark.parametrize("how", ["write", "cut", "allocate"])
def test_what_waits_under_the_files_lock_gives_up_within_seconds_and_all_who_wait_for_it_with_it(
    tmp_path: Path, how: str
) -> None:
    remote = ModelRemote()
    remote.put("a", b"12")

    async def story(mount: Mounted) -> None:
        remote.gate.clear()
        node = mount.node("a")
        handle = mount.vfs.open(node, WRITING)
        acts: dict[str, Callable[[], Awaitable[object]]] = {
            "write": lambda: mount.vfs.write(handle, b"3", 0),
            "cut": lambda: mount.vfs.truncate(node, 1),
            "allocate": lambda: mount.vfs.allocate(handle, 0, 0, 10),
        }
        assert 1 < await took_s(acts[how]()) < LONGEST_LOCKED_S
        assert [await took_s(act()) for act in acts.values()] == [0, 0, 0]  # each gets the lock after the one before
        await mount.vfs.truncate(node, 0)
        assert mount.vfs.write_now(handle, b"3", 0) == 1
        remote.gate.set()
        mount.vfs.release(handle)

    play(tmp_path, remote, story)


def test_a_download_that_somebody_gave_up_waiting_for_goes_on(tmp_path: Path) -> None:
    remote = ModelRemote()
    remote.put("a", b"12")

    async def story(mount: Mounted) -> None:
        remote.gate.clear()
        handle = mount.vfs.open(mount.node("a"), WRITING)
        await took_s(mount.vfs.write(handle, b"3", 0))
        remote.gate.set()
        await asyncio.sleep(1)
        assert mount.vfs.write_now(handle, b"3", 0) == 1
        mount.vfs.release(handle)

    play(tmp_path, remote, story)


def test_opening_for_writing_a_version_that_is_gone_starts_over_with_the_present_one(tmp_path: Path) -> None:
    remote = TimedRemote()
    remote.put("a", b"old")

    async def story(mount: Mounted) -> None:
        handle = mount.vfs.open(mount.node("a"), WRITING)
        remote.put("a", b"newer")
        with pytest.raises(OSError, match="Stale"):
            await mount.vfs.confirm(handle)
        assert await mount.read("a") == b"newer"

    play(tmp_path, remote, story)


def test_a_server_that_does_not_answer_keeps_who_sets_the_lifecycle_for_seconds_only(tmp_path: Path) -> None:
    class Silent(ModelRemote):
        async def update(self, *_: object, **__: object) -> None:
            await asyncio.Event().wait()

    remote = Silent()
    remote.put("a", b"12")

    async def story(mount: Mounted) -> None:
        setting = mount.vfs.extended.set(mount.node("a"), "user.jobfs.lifecycle", b"application")
        assert 1 < await took_s(setting) < LONGEST_LOCKED_S

    play(tmp_path, remote, story)
