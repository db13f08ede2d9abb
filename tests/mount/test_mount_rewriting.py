"""Readers of a file that the server rewrites all the time: never a mixed, clipped or padded version."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reading_loop
from model_remote import ModelRemote

pytestmark = pytest.mark.mount

Live = Any  # see live_mount

READERS = 2
READS = 100_000
VERSIONS = 100


def start_reader(path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, reading_loop.__file__, path, str(READS // READERS), str(VERSIONS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


@pytest.mark.slow
def test_a_hundred_thousand_reads_of_a_file_that_is_rewritten_all_the_time_see_whole_versions_only(
    serving: Callable[..., Live],
) -> None:
    remote = ModelRemote()
    remote.put("file", reading_loop.version(0))
    live = serving("kernel", remote)
    readers = [start_reader(live.path / "file") for _ in range(READERS)]
    written = 1
    while any(reader.poll() is None for reader in readers):
        live.do(lambda number=written: remote.put("file", reading_loop.version(number)))
        live.pull()
        written += 1
    told = [json.loads(reader.communicate()[0]) for reader in readers]
    assert [one["torn"] for one in told] == [""] * READERS
    assert [one["stale"] < READS / READERS / 10 for one in told] == [True] * READERS, told
