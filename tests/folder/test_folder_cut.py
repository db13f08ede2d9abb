"""The line to the server is cut while an editor, git and a running job all write: nothing is lost, and nobody is asked.

Here it is cut for seconds; ``scripts/cut-line`` does it for a minute, and ``vfs/test_rhythm.py`` for an hour, in
simulated time.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cut_story import work_through_a_cut
from line import Break
from network_room import can_be_made

CUT_S = 3.0
SOON_S = 20.0
"""No measure: a pause that nobody needs is 30 s at least. What it takes, ``scripts/cut-line`` tells."""

SILENCE = Break.LOST if can_be_made() else Break.SILENT


@pytest.mark.slow
@pytest.mark.parametrize("how", [Break.REFUSED, Break.DEAD, SILENCE])
def test_both_sides_are_equal_within_seconds_of_the_lines_return_and_nothing_is_lost(
    tmp_path: Path, how: Break
) -> None:
    told = work_through_a_cut(tmp_path, how, CUT_S)
    assert told.trouble == []
    assert told.took_s < SOON_S
    assert min(told.saves, told.commits, told.parts) > 3
