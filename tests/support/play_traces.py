"""Play many traces through a mount and a folder in several processes, or show one. Run by ``scripts/compare-modes``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from edit_traces import trace_of
from trace_players import difference, told

from simulation import memory_directory

CHUNK = 50


def differing(numbers: range, *, is_dense: bool) -> dict[int, str]:
    """Play some traces; return what differs, by number."""
    with tempfile.TemporaryDirectory(dir=memory_directory()) as directory:
        found = {number: difference(trace_of(number, is_dense=is_dense), Path(directory)) for number in numbers}
    return {number: what for number, what in found.items() if what}


def show(number: int, *, is_dense: bool) -> int:
    """Print one trace with what came of it; return 1 if mount and folder differ."""
    trace = trace_of(number, is_dense=is_dense)
    with tempfile.TemporaryDirectory(dir=memory_directory()) as directory:
        what = difference(trace, Path(directory))
        print(*told(trace, Path(directory)), sep="\n")
    print(f"trace {number}: {what or 'mount and folder are equal'}")
    return 1 if what else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/compare-modes", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--traces", metavar="A..B", help="play traces A to B - 1")
    what.add_argument("--replay", type=int, metavar="NUMBER", help="play one trace and print what came of it")
    parser.add_argument("--dense", action="store_true", help="many more edits at a time")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    options = parser.parse_args()
    if options.replay is not None:
        return show(options.replay, is_dense=options.dense)
    first, _, last = options.traces.partition("..")
    numbers = range(int(first), int(last))
    began_s = time.monotonic()
    failed = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        chunks = [numbers[at : at + CHUNK] for at in range(0, len(numbers), CHUNK)]
        for found in pool.map(partial(differing, is_dense=options.dense), chunks):
            failed += len(found)
            for number, where in found.items():
                print(f"trace {number}: {where}", flush=True)
                print(f"    scripts/compare-modes {'--dense ' if options.dense else ''}--replay {number}", flush=True)
    took_s = time.monotonic() - began_s
    print(f"{len(numbers)} traces, {failed} differ, {took_s:.0f} s on {options.jobs} processes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
