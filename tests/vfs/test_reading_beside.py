"""How long a read waits whose pages the kernel keeps locked meanwhile, alone and with others."""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from downloads import MIB, opened
from engine_harness import Mounted, mounted
from model_remote import ModelRemote
from virtual_loop import VirtualLoop, run_virtually

from jobfs.engine.hydrator import StillComing
from jobfs.engine.patience import DEFAULT_DEADLINE_S, LOCKED_DEADLINE_S
from jobfs.engine.session import Options
from jobfs.errors import DeadlineExceeded

PAGE = mmap.PAGESIZE
SIZE = 1 * MIB


def nobody() -> bool:
    return False


def somebody() -> bool:
    return True


def play(directory: Path, remote: ModelRemote, story: Callable[[Mounted], Awaitable[None]]) -> None:
    """Play a story with the default deadlines, in simulated time."""

    async def work(loop: VirtualLoop) -> None:
        async with mounted(directory, remote, options=Options(), clock=loop.clock) as mount:
            await story(mount)

    run_virtually(1, work)


async def fails_after_s(work: Awaitable[object], error: type[DeadlineExceeded] = DeadlineExceeded) -> float:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    with pytest.raises(error) as failure:
        await work
    assert type(failure.value) is error
    return loop.time() - began_s


@pytest.fixture
def silent() -> ModelRemote:
    """A server that sends the beginning of a file at once, and then nothing."""
    remote = ModelRemote()
    remote.put("a", bytes(SIZE))

    async def hold(at: int) -> None:
        if at:
            await asyncio.Event().wait()

    remote.before_chunk = hold
    return remote


@pytest.fixture
def slow() -> ModelRemote:
    """A server that sends 10,000 bytes a second."""
    remote = ModelRemote()
    remote.put("a", os.urandom(SIZE))
    remote.chunk_bytes = 10_000

    async def hold(at: int) -> None:
        await asyncio.sleep(1)

    remote.before_chunk = hold
    return remote


@pytest.mark.parametrize(
    ("handles", "is_shared", "longest_s"),
    [
        pytest.param(1, nobody, DEFAULT_DEADLINE_S, id="alone"),
        pytest.param(2, nobody, LOCKED_DEADLINE_S, id="another has the file open"),
        pytest.param(1, somebody, LOCKED_DEADLINE_S, id="another thread sleeps"),
        pytest.param(2, None, DEFAULT_DEADLINE_S, id="past the page cache"),
    ],
)
def test_a_read_gives_up_within_seconds_only_where_others_may_sleep_behind_it(
    tmp_path: Path, silent: ModelRemote, handles: int, is_shared: Callable[[], bool] | None, longest_s: float
) -> None:
    async def story(mount: Mounted) -> None:
        with ExitStack() as stack:
            first, *_ = [stack.enter_context(opened(mount, "a")) for _ in range(handles)]
            assert await mount.vfs.read(first, 100, 0) == bytes(100)
            took_s = await fails_after_s(mount.vfs.read(first, PAGE, SIZE // 2, is_shared=is_shared))
            assert longest_s <= took_s < longest_s + 1

    play(tmp_path, silent, story)


def test_a_read_gives_up_within_seconds_after_another_comes_to_wait_behind_it(
    tmp_path: Path, silent: ModelRemote
) -> None:
    async def story(mount: Mounted) -> None:
        with opened(mount, "a") as first:
            assert await mount.vfs.read(first, 100, 0) == bytes(100)
            reading = asyncio.create_task(mount.vfs.read(first, PAGE, SIZE // 2, is_shared=nobody))
            await asyncio.sleep(2 * LOCKED_DEADLINE_S + 1)
            assert not reading.done()
            with opened(mount, "a") as second:
                assert await fails_after_s(reading) <= LOCKED_DEADLINE_S
                assert await fails_after_s(mount.vfs.read(second, PAGE, SIZE // 2, is_shared=nobody)) == 0

    play(tmp_path, silent, story)


def test_from_a_slow_server_others_wait_for_a_page_and_not_for_what_is_read_ahead(
    tmp_path: Path, slow: ModelRemote
) -> None:
    data = next(iter(slow.bytes.values()))

    async def story(mount: Mounted) -> None:
        with opened(mount, "a") as first, opened(mount, "a"):
            ahead = mount.vfs.read(first, SIZE, 0, is_shared=nobody)
            assert await fails_after_s(ahead, StillComing) <= LOCKED_DEADLINE_S
            assert await mount.vfs.read(first, PAGE, 0, is_shared=nobody) == data[:PAGE]
            far = 80 * PAGE  # it comes after half a minute
            assert await mount.vfs.read(first, PAGE, far, is_shared=nobody) == data[far:][:PAGE]

    play(tmp_path, slow, story)


def test_what_the_kernel_asks_for_again_is_waited_for_whatever_its_pages_are(tmp_path: Path, slow: ModelRemote) -> None:
    data = next(iter(slow.bytes.values()))

    async def story(mount: Mounted) -> None:
        with opened(mount, "a") as first, opened(mount, "a"):
            await fails_after_s(mount.vfs.read(first, SIZE, 0, is_shared=nobody), StillComing)
            long = 64 * PAGE
            assert await mount.vfs.read(first, long, 0, is_shared=nobody) == data[:long]

    play(tmp_path, slow, story)


def test_who_reads_alone_from_a_slow_server_gets_all_at_once(tmp_path: Path, slow: ModelRemote) -> None:
    data = next(iter(slow.bytes.values()))

    async def story(mount: Mounted) -> None:
        with opened(mount, "a") as alone:
            assert await mount.vfs.read(alone, SIZE, 0, is_shared=nobody) == data

    play(tmp_path, slow, story)


def test_a_file_that_is_cut_is_no_longer_waited_for(tmp_path: Path, silent: ModelRemote) -> None:
    async def story(mount: Mounted) -> None:
        with opened(mount, "a") as first:
            reading = asyncio.create_task(mount.vfs.read(first, PAGE, SIZE // 2, is_shared=nobody))
            await asyncio.sleep(1)
            assert not reading.done()
            await mount.vfs.truncate(mount.node("a"), 0)
            async with asyncio.timeout(0.1):
                assert await reading == b""

    play(tmp_path, silent, story)
