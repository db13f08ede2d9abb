"""kill -9 of real processes at random moments under load: ten rounds of what ``scripts/crash`` plays."""

from __future__ import annotations

from pathlib import Path

import pytest
from play_crashes import Crashes

ROUNDS = 10


@pytest.mark.mount
@pytest.mark.slow
def test_killing_daemon_and_server_at_random_moments_loses_nothing_that_was_closed(tmp_path: Path) -> None:
    tally = Crashes(tmp_path, seed=0).play(ROUNDS)
    assert "\n".join(tally.wrong) == ""
    assert (tally.daemons, tally.servers > 0, tally.closed > ROUNDS) == (ROUNDS, True, True)
