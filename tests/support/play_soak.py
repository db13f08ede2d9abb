"""A server, two mounts and a folder as processes of their own, under mixed load; see ``scripts/soak``.

Programs edit all three places at random and read what the others wrote, the job runs again and again, and the command
line asks its questions. Meanwhile memory, descriptors and threads of each process are sampled. The first quarter of
the time is for warming up; then the second quarter is compared with the last.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from random_edits import Editor, Record

SAMPLE_S = 5.0
HANG_S = 120.0
"""No single thing that is done takes so long; what does hangs."""
GROWN_SHARE = 1.05
GROWN_KIB = 4096
GROWN_DESCRIPTORS = 8
GROWN_THREADS = 4


@dataclass(frozen=True)
class Sample:
    """What a process held at a moment: resident memory in KiB, descriptors, threads."""

    kib: int
    descriptors: int
    threads: int


@dataclass
class Watched:
    """A process and what it held over time."""

    name: str
    pid: int
    samples: list[Sample] = field(default_factory=list)

    def sample(self) -> None:
        """Look at the process; one that is gone is an error of the run."""
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8").splitlines()
        words = {line.partition(":")[0]: line.split()[1] for line in lines if ":" in line and len(line.split()) > 1}
        descriptors = len(os.listdir(f"/proc/{self.pid}/fd"))
        self.samples.append(Sample(int(words["VmRSS"]), descriptors, int(words["Threads"])))

    def verdict(self) -> tuple[Sample, Sample, list[str]]:
        """Return what it held early and late, and what of that grew."""
        count = len(self.samples)
        early, late = _middle(self.samples[count // 4 : count // 2]), _middle(self.samples[-(count // 4) :])
        grown = []
        if late.kib > early.kib * GROWN_SHARE + GROWN_KIB:
            grown.append("memory")
        if late.descriptors > early.descriptors + GROWN_DESCRIPTORS:
            grown.append("descriptors")
        if late.threads > early.threads + GROWN_THREADS:
            grown.append("threads")
        return early, late, grown


def _middle(samples: list[Sample]) -> Sample:
    return Sample(
        int(median(sample.kib for sample in samples)),
        int(median(sample.descriptors for sample in samples)),
        int(median(sample.threads for sample in samples)),
    )


class Studio:
    """The server's process, and the commands that speak to it."""

    def __init__(self, base: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jobfs", "serve", "--data", str(base / "studio"), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        if self._process.stdout is None:
            raise AssertionError("the server's output is a pipe")
        url = self._process.stdout.readline().split()[1]
        key = self._process.stdout.readline().split()[-1]
        self.pid = self._process.pid
        self._environment = os.environ | {"JOBFS_URL": url, "JOBFS_API_KEY": key}
        self._base = base

    def command(self, place: str, *words: str) -> str:
        """Run a command with the state of a place and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "jobfs", *words],
            env=self._environment | {"JOBFS_STATE_DIR": str(self._base / f"state-{place}")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode not in (0, 11):
            raise RuntimeError(f"jobfs {' '.join(words)}: {done.stderr}")
        return done.stdout.strip()

    def stop(self) -> None:
        """End the server."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=60)


class Repeated:
    """Something that is done again and again, in a thread, until ``stop``."""

    def __init__(self, name: str, pause_s: float, work: Callable[[], object]) -> None:
        self._pause_s = pause_s
        self._work = work
        self._is_over = threading.Event()
        self.done = 0
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over.wait(self._pause_s):
            try:
                self._work()
            except Exception as error:  # noqa: BLE001 - told by stop, in the thread that ends the run
                self._error = error
                return
            self.done += 1

    def stop(self) -> None:
        """End, and return when it has ended.

        :raises Exception: what ended it before. :raises TimeoutError: it hangs.
        """
        self._is_over.set()
        self._thread.join(HANG_S)
        if self._error is not None:
            raise self._error
        if self._thread.is_alive():
            raise TimeoutError(f"{self._thread.name} hangs")


def read_all(directory: Path) -> None:
    """Read whatever is there; files come and go meanwhile."""
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):
            path.read_bytes()


@contextmanager
def places(studio: Studio, job: str, base: Path) -> Iterator[Mapping[str, Path]]:
    """Mount and synchronise the job, each place by a process of its own."""
    directories = {label: base / label for label in ("kernel", "fusepy", "folder")}
    for directory in directories.values():
        directory.mkdir()
    started = []
    try:
        for label, directory in directories.items():
            words = ("sync", "--background") if label == "folder" else ("mount", "--transport", label)
            studio.command(label, *words, "--yes", job, str(directory))
            started.append(label)
        yield directories
    finally:
        for label in started:
            studio.command(label, "umount", str(directories[label]))


def processes(studio: Studio, directories: Mapping[str, Path]) -> list[Watched]:
    """Return the processes that must not grow."""
    found = [Watched("server", studio.pid)]
    for label in directories:
        told = json.loads(studio.command(label, "status", "--json"))
        instances = told if isinstance(told, list) else told["instances"]
        found.append(Watched(label, int(instances[0]["pid"])))
    return found


def play(seconds: float, seed: int, base: Path) -> list[Watched]:
    """Run it all; return what the processes held."""
    dice = random.Random(seed)
    studio = Studio(base)
    try:
        job = studio.command("none", "jobs", "start", "--expert", "@jobfs/word-count", "--query", "x")
        with places(studio, job, base) as directories:
            watched = processes(studio, directories)
            loads: list[Editor | Repeated] = [
                Editor(directory, label, Record(), random.Random(dice.random()), has_large=True)
                for label, directory in directories.items()
            ]
            loads += [
                Repeated(f"read {label}", 0.5, lambda directory=directory: read_all(directory))
                for label, directory in directories.items()
            ]
            loads.append(Repeated("jobs", 15, lambda: continue_job(studio, job)))
            loads.append(Repeated("questions", 7, lambda: studio.command("kernel", "status", "--json")))
            loads.append(Repeated("trees", 11, lambda: studio.command("none", "tree", "--json", job)))
            try:
                look_on(watched, seconds)
                for load in loads:
                    load.stop()
            except BaseException:
                for process in watched[1:]:  # whoever waits for a mount would wait for ever
                    os.kill(process.pid, signal.SIGKILL)
                raise
    finally:
        studio.stop()
    return watched


def continue_job(studio: Studio, job: str) -> None:
    """Have the expert work on the files again, unless it still does."""
    with contextlib.suppress(RuntimeError):
        studio.command("none", "jobs", "continue", job, "--query", "again")


def look_on(watched: list[Watched], seconds: float) -> None:
    """Sample until the time is over, and say now and then how things stand."""
    began = time.monotonic()
    told = 0
    while (passed := time.monotonic() - began) < seconds:
        for process in watched:
            process.sample()
        if passed * 10 / seconds >= told:
            told += 1
            figures = [f"{one.name} {one.samples[-1].kib / 1024:.0f} MiB" for one in watched]
            print(f"{passed / 60:5.1f} min  {', '.join(figures)}", flush=True)
        time.sleep(SAMPLE_S)


def table(watched: list[Watched]) -> int:
    """Print what each process held early and late; return the exit code."""
    print(f"{'process':10} {'memory early':>14} {'late':>10} {'descriptors':>14} {'threads':>10}")
    code = 0
    for process in watched:
        early, late, grown = process.verdict()
        print(
            f"{process.name:10} {early.kib / 1024:10.1f} MiB {late.kib / 1024:6.1f} MiB"
            f" {early.descriptors:7} → {late.descriptors:4} {early.threads:5} → {late.threads:2}"
            f"  {'GREW: ' + ', '.join(grown) if grown else 'flat'}"
        )
        code |= bool(grown)
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobfs-soak-", ignore_cleanup_errors=True) as base:
        return table(play(options.minutes * 60, options.seed, Path(base)))


if __name__ == "__main__":
    sys.exit(main())
