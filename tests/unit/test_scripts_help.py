"""Each script says what it is for, without installing or starting anything for it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.name for path in (ROOT / "scripts").iterdir() if path.is_file() and os.access(path, os.X_OK))
COUNTING = ["fuzz", "hold-laws", "posix"]


def run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / name, *words], capture_output=True, text=True, timeout=120, check=False, cwd=ROOT.parent
    )


def is_about(name: str, told: str) -> bool:
    """Tell whether this names the script: what it prints when it does its work does not."""
    return re.search(rf"(scripts/|usage: (jobfs )?){re.escape(name)}\b", told, re.IGNORECASE) is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_tells_what_it_does(name: str) -> None:
    told = run(name, "--help")
    assert (told.returncode, told.stderr) == (0, "")
    assert is_about(name, told.stdout)
    assert "pytest" not in told.stdout.splitlines()[0]


@pytest.mark.parametrize("name", COUNTING)
def test_a_script_that_counts_refuses_what_is_no_number(name: str) -> None:
    told = run(name, "many")
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.splitlines()[0] == f"{name}: EXAMPLES is a number, and not many"
