"""A large file goes up and comes down in constant memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "measure-transfer-memory"


@pytest.mark.slow
def test_a_transfer_of_256_mib_raises_the_clients_peak_by_less_than_32_mib() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--mib", "256", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    result = json.loads(done.stdout)
    assert result["mib"] == 256
    assert max(result["upload_rise_mib"], result["download_rise_mib"]) < 32
    assert done.returncode == 0
