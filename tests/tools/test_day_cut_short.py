"""``scripts/day`` leaves nothing behind, also where somebody stops it in the middle or reads no more of it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from commands import DEADLINE_S

ROOT = Path(__file__).resolve().parents[2]
MOUNTED = "ok  what the expert wrote is in the folder"


def terminate(day: subprocess.Popen[str], said: IO[str]) -> None:
    day.send_signal(signal.SIGTERM)


def read_no_more(day: subprocess.Popen[str], said: IO[str]) -> None:
    said.close()


@pytest.mark.mount
@pytest.mark.slow
@pytest.mark.parametrize(("stop", "code"), [(terminate, 128 + signal.SIGTERM), (read_no_more, 1)])
def test_a_day_that_is_cut_short_leaves_no_mount_no_file_and_no_complaint(
    tmp_path: Path, stop: Callable[[subprocess.Popen[str], IO[str]], None], code: int
) -> None:
    with subprocess.Popen(
        [ROOT / "scripts" / "day"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as day:
        assert day.stdout is not None
        assert any(line.startswith(MOUNTED) for line in iter(day.stdout.readline, ""))
        assert str(tmp_path) in Path("/proc/mounts").read_text()
        stop(day, day.stdout)
        assert day.wait(DEADLINE_S) == code
        assert day.stderr is not None
        assert day.stderr.read() == ""
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert list(tmp_path.iterdir()) == []
