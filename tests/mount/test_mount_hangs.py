"""Nothing hangs: a server that does not answer, interrupted reads, deadlines (design, sections 1.6 and 7)."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_harness import QUICK
from model_remote import ModelRemote
from process_states import state_of

from jobfs.engine.session import Options

pytestmark = pytest.mark.mount

Live = Any  # see conftest

AT_ONCE_S = 1.0


@pytest.fixture
def silent() -> ModelRemote:
    """A server that lists, and then never sends a byte of a file."""
    remote = ModelRemote()
    remote.put("cold", b"x" * 300_000)
    remote.put("warm", b"warm")
    return remote


def is_asked_for(live: Live, name: str = "download") -> None:
    """Return once the server was asked for a file."""
    until = time.monotonic() + 10
    while not live.do(lambda: live.remote.asked(name)):
        assert time.monotonic() < until
        os.sched_yield()


def test_an_interrupted_cat_of_a_silent_server_ends_at_once(serving: Callable, silent: ModelRemote) -> None:
    live = serving("kernel", silent)
    live.do(silent.gate.clear)
    cat = subprocess.Popen(["cat", live.path / "cold"], stdout=subprocess.DEVNULL)
    is_asked_for(live)
    began = time.monotonic()
    cat.send_signal(signal.SIGINT)
    assert cat.wait(10) == -signal.SIGINT
    assert time.monotonic() - began < AT_ONCE_S


READ_WITH_SIGNAL = """
import os, signal, sys, threading
def handler(number, frame):
    raise SystemExit(7)
signal.signal(signal.SIGINT, handler)
signal.signal(signal.SIGWINCH, lambda number, frame: None)
descriptor = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
print("open", flush=True)
data = os.read(descriptor, 4096)
print(len(data), flush=True)
"""


def test_a_program_that_handles_the_interrupt_gets_it_at_once(serving: Callable, silent: ModelRemote) -> None:
    live = serving("kernel", silent)
    live.do(silent.gate.clear)
    program = subprocess.Popen([sys.executable, "-c", READ_WITH_SIGNAL, live.path / "cold"], stdout=subprocess.PIPE)
    assert program.stdout is not None
    assert program.stdout.readline() == b"open\n"
    is_asked_for(live)
    began = time.monotonic()
    program.send_signal(signal.SIGINT)
    assert program.wait(10) == 7
    assert time.monotonic() - began < AT_ONCE_S
    program.stdout.close()


READ_FAR_WITH_SIGNAL = """
import os, signal, sys
def handler(number, frame):
    raise SystemExit(7)
signal.signal(signal.SIGINT, handler)
descriptor = os.open(sys.argv[1], os.O_RDONLY)
print(len(os.pread(descriptor, 100, 0)), flush=True)
os.pread(descriptor, 100, 250_000)
"""


def test_a_program_is_interrupted_in_the_middle_of_a_file_as_well(
    serving: Callable, transport: str, silent: ModelRemote
) -> None:
    live = serving(transport, silent)
    falls_silent = asyncio.Event()

    async def hold(at: int) -> None:
        if at > 0:
            falls_silent.set()
            await asyncio.Event().wait()

    silent.before_chunk = hold
    program = subprocess.Popen([sys.executable, "-c", READ_FAR_WITH_SIGNAL, live.path / "cold"], stdout=subprocess.PIPE)
    assert program.stdout is not None
    assert program.stdout.readline() == b"100\n"
    live.call(falls_silent.wait)
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(0.3)
    assert state_of(Path(f"/proc/{program.pid}")) == "S"
    began = time.monotonic()
    program.send_signal(signal.SIGINT)
    assert program.wait(10) == 7
    assert time.monotonic() - began < AT_ONCE_S
    program.stdout.close()


def test_a_harmless_signal_does_not_fail_a_read_and_a_later_interrupt_still_ends_it(
    serving: Callable, silent: ModelRemote
) -> None:
    live = serving("kernel", silent)
    live.do(silent.gate.clear)
    program = subprocess.Popen([sys.executable, "-c", READ_WITH_SIGNAL, live.path / "cold"], stdout=subprocess.PIPE)
    assert program.stdout is not None
    assert program.stdout.readline() == b"open\n"
    is_asked_for(live)
    program.send_signal(signal.SIGWINCH)
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(0.3)
    live.do(silent.gate.set)
    assert program.stdout.readline() == b"4096\n"
    assert program.wait(10) == 0
    program.stdout.close()


def test_a_harmless_signal_does_not_hide_a_later_interrupt(serving: Callable, silent: ModelRemote) -> None:
    live = serving("kernel", silent)
    live.do(silent.gate.clear)
    program = subprocess.Popen([sys.executable, "-c", READ_WITH_SIGNAL, live.path / "cold"], stdout=subprocess.PIPE)
    assert program.stdout is not None
    assert program.stdout.readline() == b"open\n"
    is_asked_for(live)
    program.send_signal(signal.SIGWINCH)
    program.send_signal(signal.SIGINT)
    assert program.wait(10) == 7
    program.stdout.close()


def test_a_read_of_a_silent_server_fails_within_its_deadline_and_not_twice_that(
    serving: Callable, silent: ModelRemote
) -> None:
    live = serving("kernel", silent, options=Options(times=QUICK, read_deadline_s=1.0))
    live.do(silent.gate.clear)
    began = time.monotonic()
    with pytest.raises(OSError, match=r".") as failure:
        (live.path / "cold").read_bytes()
    assert failure.value.errno == errno.ETIMEDOUT
    # The start of the download counts as a sign of life and begins the deadline anew, once.
    assert 1.0 <= time.monotonic() - began < 2.9


def test_everything_but_the_bytes_answers_while_the_server_is_silent(
    serving: Callable, transport: str, silent: ModelRemote
) -> None:
    live = serving(transport, silent, options=Options(times=QUICK, read_deadline_s=5.0))
    assert (live.path / "warm").read_bytes() == b"warm"
    live.do(silent.gate.clear)
    reader = threading.Thread(target=lambda: (live.path / "cold").exists() and _read(live.path / "cold"))
    reader.start()
    try:
        is_asked_for(live)
        began = time.monotonic()
        assert sorted(os.listdir(live.path)) == ["cold", "warm"]
        assert (live.path / "cold").stat().st_size == 300_000
        assert os.statvfs(live.path).f_blocks > 0
        assert (live.path / "warm").read_bytes() == b"warm"
        (live.path / "new").write_bytes(b"new")
        (live.path / "new").rename(live.path / "newer")
        assert time.monotonic() - began < AT_ONCE_S
    finally:
        live.do(silent.gate.set)
        reader.join()


def _read(path: Path) -> bytes:
    return path.read_bytes()
