"""Remote changes wake watchers of a mount while programs make, change, move, delete and look up the same names.

Run by ``scripts/soak-watchers``, and shortly by the tests. If anybody waits for anybody who waits, it ends with the
tracebacks of all threads; at its end the mount must show what the server has, by listing as well as by each name.
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
import threading
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import live_mount
from inotify import Mask, watching
from live_mount import Live, served
from model_remote import ModelRemote

from jobfs.errors import NotFound, PathExists

DIRECTORIES = ("d0", "d1", "d2")
NAMES = 40
PROGRAMS = 3
PART = 40
"""So many remote changes come with one listing."""

PAUSE_S = 0.003
"""Between two steps of a program: without it programs and their conflicts would have the processor to themselves."""


@dataclass
class Played:
    """What came of it."""

    events: Counter[Mask] = field(default_factory=Counter)
    steps: int = 0


def play(folder: Path, changes: int, seed: int) -> Played:
    """Play; raise an AssertionError for anything that is not as it should be."""
    remote = ModelRemote()
    for directory in DIRECTORIES:
        remote.put(directory, None)
    played = Played()
    with ExitStack() as stack:
        live = stack.enter_context(served("kernel", folder, remote))
        play_in(live, played, changes, seed)
        live.settle()
        live.pull()
        live.settle()
        compare(live)
    return played


def play_in(live: Live, played: Played, changes: int, seed: int) -> None:
    """Let remote changes come while programs work and others watch."""
    is_over = threading.Event()
    threads = [threading.Thread(target=work, args=(live.path, seed + i, is_over, played)) for i in range(PROGRAMS)]
    threads.append(threading.Thread(target=watch, args=(live.path, is_over, played)))
    for thread in threads:
        thread.start()
    choice = random.Random(seed)
    try:
        for _ in range(changes // PART):
            live.call(lambda: change(live.remote, choice))
            live.poll()
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


async def change(remote: ModelRemote, choice: random.Random) -> None:
    """Make one listing's worth of remote changes."""
    for number in range(PART):
        path = some_path(choice)
        item = remote.at(path)
        match choice.randrange(4):
            case 0 if item is not None:
                remote.remove(path)
            case 1 if item is not None:
                with suppress(PathExists, NotFound):  # this program, or one in the mount, was quicker
                    await remote.update(item.id, path=some_path(choice))
            case _:
                remote.put(path, b"remote %d" % number)


def some_path(choice: random.Random) -> str:
    return f"{choice.choice(DIRECTORIES)}/f{choice.randrange(NAMES)}"


def work(point: Path, seed: int, is_over: threading.Event, played: Played) -> None:
    """Do what programs do, again and again. What others took away in the same moment is no failure."""
    choice = random.Random(seed)
    while not is_over.wait(PAUSE_S):
        path = point / some_path(choice)
        with suppress(FileNotFoundError, OSError):
            match choice.randrange(6):
                case 0:
                    path.write_bytes(b"local %d" % choice.randrange(100))
                case 1:
                    path.unlink()
                case 2:
                    path.rename(point / some_path(choice))
                case 3:
                    path.read_bytes()
                case 4:
                    list(path.parent.iterdir())
                case _:
                    path.stat()
        played.steps += 1


def watch(point: Path, is_over: threading.Event, played: Played) -> None:
    """Watch all directories, and count."""
    with watching(*(point / directory for directory in DIRECTORIES)) as watcher:
        while not is_over.is_set():
            played.events.update(event.what for event in watcher.read(0.1))
            watcher.seen.clear()


def compare(live: Live) -> None:
    """See that listings and names both say what the server has."""
    stored = live.do(live.remote.tree)
    listed = {directory: sorted(path.name for path in (live.path / directory).iterdir()) for directory in DIRECTORIES}
    shown = {f"{directory}/{name}": (live.path / directory / name).read_bytes() for directory, name in pairs(listed)}
    assert shown == {path: content for path, content in stored.items() if content is not None}
    for directory, number in itertools.product(DIRECTORIES, range(NAMES)):
        path = f"{directory}/f{number}"
        assert (live.path / path).exists() == (path in stored), path


def pairs(listed: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(directory, name) for directory, names in listed.items() for name in names]


def main() -> None:
    """Play for long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    live_mount.DEADLINE_S = 60 + given.changes / 20
    with tempfile.TemporaryDirectory(prefix="jobfs-watchers-") as folder:
        played = play(Path(folder), given.changes, given.seed)
    events = ", ".join(f"{what.name} {count}" for what, count in played.events.most_common())
    print(f"{given.changes} remote changes, {played.steps} steps of programs; events: {events}")


if __name__ == "__main__":
    main()
