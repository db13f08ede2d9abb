"""A server, two mounts and a folder as processes of their own, under mixed load; see ``scripts/soak``.

Programs edit all three places at random and read what the others wrote, the job runs again and again, and the command
line asks its questions. Meanwhile memory, descriptors and threads of each process are sampled. The first quarter of
the time is for warming up; then the second quarter is compared with the last. Where anything stops going on, the run
ends, and says what each thread of the daemons was doing.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from awaiting import wait_for_end
from random_edits import Editor, Record

from jobfs.cli.order import CRASH_NAME

TRANSPORTS = ("kernel", "fusepy")
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
        self._environment = os.environ | {"JOBFS_URL": url, "JOBFS_API_KEY": key, "PYTHONFAULTHANDLER": "1"}
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

    def last_words(self, place: str) -> str:
        """Return what the daemon of a place said when it was ended by SIGABRT: what its threads were doing."""
        return (self._base / f"state-{place}" / CRASH_NAME).read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """End the server."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=60)


class Repeated:
    """Something that is done again and again, in a thread, until ``stop``.

    :param work: does it once; what takes many steps is given what counts each of them.
    """

    def __init__(self, name: str, pause_s: float, work: Callable[[Callable[[], None]], object]) -> None:
        self.name = name
        self._pause_s = pause_s
        self._work = work
        self._is_over = threading.Event()
        self._done = 0
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over.wait(self._pause_s):
            try:
                self._work(self._step)
            except Exception as error:  # noqa: BLE001 - told by stop, in the thread that ends the run
                self._error = error
                return
            self._step()

    def _step(self) -> None:
        self._done += 1

    @property
    def done(self) -> int:
        """How often it was done, or a step of it.

        :raises Exception: what ended it.
        """
        if self._error is not None:
            raise self._error
        return self._done

    def stop(self, timeout_s: float) -> bool:
        """Do it no more; return whether that is so within so many seconds."""
        self._is_over.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()


class Lookout:
    """Sees to it that each load goes on."""

    def __init__(self, loads: Sequence[Editor | Repeated]) -> None:
        self._since = {load: (load.done, time.monotonic()) for load in loads}

    def check(self) -> None:
        """Look at each load.

        :raises Exception: what ended one. :raises TimeoutError: one has not come any further for ``HANG_S``.
        """
        now = time.monotonic()
        for load, (done, since) in self._since.items():
            if load.done != done:
                self._since[load] = (load.done, now)
            elif now - since > HANG_S:
                raise TimeoutError(f"{load.name} hangs, after {done} times")

    def end(self) -> None:
        """Stop every load.

        :raises Exception: what ended one before. :raises TimeoutError: one does not end.
        """
        for load in self._since:
            if not load.stop(HANG_S):
                raise TimeoutError(f"{load.name} hangs")
            print(f"{load.name:16} {load.done:7} times")


def read_all(directory: Path, step: Callable[[], None]) -> None:
    """Read whatever is there; files come and go meanwhile.

    :param step: called after each file, for on a busy machine all of them take minutes.
    """
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):
            path.read_bytes()
        step()


@contextmanager
def places(studio: Studio, job: str, base: Path, transports: Sequence[str]) -> Iterator[Mapping[str, Path]]:
    """Mount by each transport and synchronise the job, each place by a process of its own."""
    mounts = {f"{transport}-{number}": transport for number, transport in enumerate(transports, 1)}
    directories = {label: base / label for label in (*mounts, "folder")}
    for directory in directories.values():
        directory.mkdir()
    started = []
    try:
        for label, directory in directories.items():
            words = ("mount", "--transport", mounts[label]) if label in mounts else ("sync", "--background")
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


def play(seconds: float, seed: int, base: Path, transports: Sequence[str]) -> list[Watched]:
    """Run it all; return what the processes held."""
    dice = random.Random(seed)
    studio = Studio(base)
    try:
        job = studio.command("none", "jobs", "start", "--expert", "@jobfs/word-count", "--query", "x")
        with places(studio, job, base, transports) as directories:
            watched = processes(studio, directories)
            lookout = Lookout(loads_of(studio, job, directories, dice))
            try:
                look_on(watched, lookout, seconds)
                lookout.end()
            except BaseException:
                tell_and_end(studio, watched[1:])
                raise
    finally:
        studio.stop()
    return watched


def loads_of(studio: Studio, job: str, directories: Mapping[str, Path], dice: random.Random) -> list[Editor | Repeated]:
    """Begin all that is done."""
    edits = [
        Editor(directory, label, Record(), random.Random(dice.random()), has_large=True)
        for label, directory in directories.items()
    ]
    reads = [
        Repeated(f"read {label}", 0.5, lambda step, directory=directory: read_all(directory, step))
        for label, directory in directories.items()
    ]
    asked = next(iter(directories))
    return [
        *edits,
        *reads,
        Repeated("jobs", 15, lambda _: continue_job(studio, job)),
        Repeated("questions", 7, lambda _: studio.command(asked, "status", "--json")),
        Repeated("trees", 11, lambda _: studio.command("none", "tree", "--json", job)),
    ]


def tell_and_end(studio: Studio, daemons: Sequence[Watched]) -> None:
    """End the daemons, for whoever waits for a mount would wait for ever; print what all threads were doing."""
    faulthandler.dump_traceback(sys.stdout)
    for daemon in daemons:
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon.pid, signal.SIGABRT)
    for daemon in daemons:
        wait_for_end(daemon.pid)
        print(f"-- {daemon.name} --\n{studio.last_words(daemon.name)}", flush=True)


def continue_job(studio: Studio, job: str) -> None:
    """Have the expert work on the files again, unless it still does."""
    with contextlib.suppress(RuntimeError):
        studio.command("none", "jobs", "continue", job, "--query", "again")


def look_on(watched: list[Watched], lookout: Lookout, seconds: float) -> None:
    """Sample until the time is over, and say now and then how things stand."""
    began = time.monotonic()
    told = 0
    while (passed := time.monotonic() - began) < seconds:
        for process in watched:
            process.sample()
        lookout.check()
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
    parser.add_argument("--transport", choices=TRANSPORTS, help="both mounts by this one (default: one by each)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobfs-soak-", ignore_cleanup_errors=True) as base:
        transports = (options.transport,) * 2 if options.transport else TRANSPORTS
        return table(play(options.minutes * 60, options.seed, Path(base), transports))


if __name__ == "__main__":
    sys.exit(main())
