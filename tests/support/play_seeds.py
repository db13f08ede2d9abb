"""Play many seeds of the simulation in several processes, or one with its trace. Run by ``scripts/simulate``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from simulated_machine import Scene
from virtual_loop import VirtualLoop

from simulation import Outcome, memory_directory, simulate

CHUNK = 50


@dataclass(frozen=True)
class Scenes:
    """Which scenes the seeds are to play."""

    has_folders: bool
    has_bad_stores: bool

    def make(self, loop: VirtualLoop) -> Scene:
        """Return a seed's scene."""
        scene = Scene.with_folders(loop) if self.has_folders else Scene.of(loop)
        return scene.with_bad_stores(loop) if self.has_bad_stores else scene

    def options(self) -> str:
        """Return how the command line asks for them."""
        return "--folders " * self.has_folders + "--stores " * self.has_bad_stores


def play(seeds: range, scenes: Scenes) -> list[Outcome]:
    """Play some seeds; return those that broke a promise, without their traces."""
    with tempfile.TemporaryDirectory(dir=memory_directory()) as directory:
        outcomes = [simulate(seed, Path(directory), scenes.make) for seed in seeds]
    return [Outcome(one.seed, one.digest, one.problem, []) for one in outcomes if one.problem]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seeds", metavar="A..B", help="play seeds A to B - 1")
    what.add_argument("--replay", type=int, metavar="SEED", help="play one seed and print its trace")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--folders", action="store_true", help="with folders among the clients, on bad disks")
    parser.add_argument("--stores", action="store_true", help="all with local stores on bad disks, not one in sixteen")
    options = parser.parse_args()
    scenes = Scenes(options.folders, options.stores)
    if options.replay is not None:
        with tempfile.TemporaryDirectory(dir=memory_directory()) as directory:
            outcome = simulate(options.replay, Path(directory), scenes.make)
        print(*outcome.trace, sep="\n")
        print(f"seed {outcome.seed}: {outcome.problem or 'every promise kept'}; trace {outcome.digest[:16]}")
        return 1 if outcome.problem else 0
    first, _, last = options.seeds.partition("..")
    seeds = range(int(first), int(last))
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    began_s = time.monotonic()
    failed = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for outcomes in pool.map(partial(play, scenes=scenes), chunks):
            for outcome in outcomes:
                failed += 1
                print(f"seed {outcome.seed}: {outcome.problem}", flush=True)
                print(f"    scripts/simulate {scenes.options()}--replay {outcome.seed}", flush=True)
    took_s = time.monotonic() - began_s
    rate = len(seeds) / took_s * 60 / options.jobs
    print(
        f"{len(seeds)} seeds, {failed} failed, {took_s:.0f} s on {options.jobs} processes: {rate:.0f} a minute and core"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
