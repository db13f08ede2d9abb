"""Cut the line to a server while all work. Run by ``scripts/cut-line``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from cut_story import SOON_S, work_through_a_cut
from line import Break
from network_room import can_be_made


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/cut-line", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long it is cut (default: a minute)")
    parser.add_argument("--how", choices=[how.value for how in Break], help="only this way (default: each)")
    options = parser.parse_args()
    is_fine = True
    every = [how for how in Break if how is not Break.LOST or can_be_made()]
    for how in [Break(options.how)] if options.how is not None else every:
        with tempfile.TemporaryDirectory() as base:
            told = work_through_a_cut(Path(base), how, options.seconds)
        work = f"{told.saves} saves, {told.commits} commits, {told.parts} parts of the job"
        print(f"{how.value:8} equal {told.took_s:4.1f} s after the line's return; {work}", flush=True)
        print(*(f"         {line}" for line in told.trouble), sep="\n", end="\n" if told.trouble else "")
        is_fine = is_fine and not told.trouble and told.took_s <= SOON_S[how]
    return 0 if is_fine else 1


if __name__ == "__main__":
    sys.exit(main())
