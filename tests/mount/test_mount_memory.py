"""What programs create and delete leaves nothing behind in the mount's process (``scripts/soak-inodes``: a million)."""

from __future__ import annotations

from pathlib import Path

import pytest
from play_inodes import PARTS, measure

CYCLES = 20_000
WARM_PARTS = 2
GROWTH_BYTES = 2 << 20
"""A record that stays of each would take more; connections of a burst and dictionaries that double take up to this."""


@pytest.mark.mount
@pytest.mark.slow
def test_twenty_thousand_files_that_came_and_went_leave_the_process_as_it_was(tmp_path: Path) -> None:
    sizes = list(measure(tmp_path, CYCLES, "kernel"))
    assert len(sizes) == 1 + PARTS
    assert sizes[-1] - sizes[WARM_PARTS] < GROWTH_BYTES, sizes
