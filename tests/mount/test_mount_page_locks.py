"""Nobody sleeps uninterruptibly for long behind the pages that a read of an absent file keeps locked.

The server sends the beginning of each file, so that it opens as usual, and then nothing. Programs then want the same
page of a file, in each of the ways in which they can; all at once, each way on a file of its own. And who writes
sleeps no longer behind others that do, while a slow server sends the file.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from model_remote import ModelRemote
from process_states import StateWatch, state_of

from jobfs.engine.transfer import SMALL_BYTES

pytestmark = pytest.mark.mount

Live = Any  # see conftest

LONGEST_SLEEP_S = 5.0
SLOW_S = 3.0
"""So long a file of ``SMALL_BYTES`` takes from a slow server."""
DATA = b"x" * 300_000
FAR = 200_000
OPENED = """
import mmap, os, sys, threading
descriptor = os.open(sys.argv[1], os.O_RDONLY)
def read():
    try:
        print(len(os.pread(descriptor, 100, int(sys.argv[2]))), flush=True)
    except OSError as error:
        print("errno", error.errno, flush=True)
print("open", flush=True)
sys.stdin.readline()
"""
READ = OPENED + "read()"
MAP = OPENED + "mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)[int(sys.argv[2])]"
INHERIT = OPENED + "child = os.fork()\nif child:\n    print(child, flush=True)\nread()"
SHARE = OPENED + "threads = [threading.Thread(target=read) for _ in range(2)]\n[one.start() for one in threads]"


class Program:
    """A program that has a file open and reads when it is told to."""

    def __init__(self, text: str, path: Path) -> None:
        words = [sys.executable, "-c", text, str(path), str(FAR)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "open\n"

    def go(self) -> None:
        """Let it read."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, list[str]]:
        """Return how it ended, and what it said."""
        said, _ = self.process.communicate(timeout=20)
        return self.process.returncode, said.splitlines()


@pytest.fixture
def falling_silent() -> ModelRemote:
    """A server that sends the beginning of a file, and then nothing."""
    remote = ModelRemote()
    for name in ("read", "mapped", "shared", "alone", "cut"):
        remote.put(name, DATA)

    async def hold(at: int) -> None:
        if at:
            await asyncio.Event().wait()

    remote.before_chunk = hold
    return remote


def is_refused(outcome: tuple[int, list[str]], times: int) -> bool:
    return outcome == (0, [f"errno {errno.ETIMEDOUT}"] * times)


def test_who_wants_a_page_that_another_one_waits_for_sleeps_for_seconds_and_who_is_alone_waits_on(
    serving: Callable[..., Live], transport: str, falling_silent: ModelRemote
) -> None:
    live = serving(transport, falling_silent)
    with ExitStack() as stack:
        readers = [Program(READ, live.path / "read") for _ in range(2)]
        mappers = [Program(MAP, live.path / "mapped") for _ in range(2)]
        shared, alone = Program(SHARE, live.path / "shared"), Program(READ, live.path / "alone")
        sleepers = [*readers, *mappers, shared]
        watches = [stack.enter_context(StateWatch(one.process.pid)) for one in sleepers]
        for one in (alone, *sleepers):
            one.go()
        assert [is_refused(one.end(), 1) for one in readers] == [True, True]
        assert [one.end()[0] for one in mappers] == [-signal.SIGBUS] * 2
        assert is_refused(shared.end(), 2)
        assert max(watch.longest_s for watch in watches) < LONGEST_SLEEP_S
        assert (alone.process.poll(), state_of(Path(f"/proc/{alone.process.pid}"))) == (None, "S")
        alone.process.send_signal(signal.SIGINT)
        alone.end()


def test_who_inherited_a_descriptor_sleeps_for_seconds_behind_another_one_who_reads_from_it(
    serving: Callable[..., Live], falling_silent: ModelRemote
) -> None:
    live = serving("kernel", falling_silent)
    parent = Program(INHERIT, live.path / "shared")
    parent.go()
    assert parent.process.stdout is not None
    child = int(parent.process.stdout.readline())
    with StateWatch(parent.process.pid) as one, StateWatch(child) as other:
        parent.process.wait(3 * LONGEST_SLEEP_S)
    assert max(one.longest_s, other.longest_s) < LONGEST_SLEEP_S
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    parent.end()


def test_who_cuts_a_file_does_not_wait_for_who_reads_it(
    serving: Callable[..., Live], transport: str, falling_silent: ModelRemote
) -> None:
    live = serving(transport, falling_silent)
    reader = Program(READ, live.path / "cut")
    reader.go()
    with pytest.raises(subprocess.TimeoutExpired):
        reader.process.wait(0.5)
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import os, sys; os.truncate(sys.argv[1], 0)", live.path / "cut"], check=True)
    assert time.monotonic() - began < 1
    code, said = reader.end()
    assert (code, said[0] in ("0", "100")) == (0, True)  # as the kernel has the length at that moment
    assert os.stat(live.path / "cut").st_size == 0


def test_who_opens_a_file_does_not_wait_for_who_has_it_mapped(
    serving: Callable[..., Live], falling_silent: ModelRemote
) -> None:
    live = serving("kernel", falling_silent)
    live.do(falling_silent.gate.clear)
    mapper = Program(MAP, live.path / "mapped")
    mapper.go()
    words = [sys.executable, "-c", "import os, sys; os.open(sys.argv[1], os.O_RDONLY)", str(live.path / "mapped")]
    with subprocess.Popen(words) as other, StateWatch(other.pid) as watch:
        assert other.wait(10) == 0
    assert watch.longest_s < 0.5
    mapper.process.kill()
    mapper.end()


WRITE = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR)
print("open", flush=True)
os.pwrite(descriptor, b"new", int(sys.argv[2]))
"""


def test_who_writes_to_a_large_file_that_comes_slowly_waits_in_a_sleep_that_signals_end(
    serving: Callable[..., Live], transport: str
) -> None:
    remote = ModelRemote()
    remote.put("large", bytes(SMALL_BYTES + 1))

    async def slowly(at: int) -> None:
        if at:
            await asyncio.sleep(SLOW_S * remote.chunk_bytes / SMALL_BYTES)

    remote.before_chunk = slowly
    live = serving(transport, remote)
    with ExitStack() as stack:
        words = [sys.executable, "-c", WRITE, str(live.path / "large")]
        writers = [subprocess.Popen([*words, str(at)], stdout=subprocess.DEVNULL) for at in (10, 20_000, 4_000_000)]
        watches = [stack.enter_context(StateWatch(one.pid)) for one in writers]
        assert [one.wait(30) for one in writers] == [0, 0, 0]
    assert max(watch.longest_s for watch in watches) < SLOW_S / 4
    data = (live.path / "large").read_bytes()
    assert [data[at : at + 4] for at in (10, 20_000, 4_000_000)] == [b"new\0"] * 3
