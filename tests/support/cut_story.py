"""A folder that an editor, git and a running job all write to, while the line to the server is cut.

Everything is real: the server and its runner, the program as a process of its own, as a user starts it, and whoever
writes. Each of them writes files of its own without a pause, and stops just before the line is back; then the time runs
until both sides are equal. Long versions: ``scripts/cut-line``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from commands import COMMAND
from line import Break, Line
from network_room import NetworkRoom, drop_packets, pass_packets

from jobfs.server.running import RunningServer

DEADLINE_S = 60.0
SOON_S = {Break.SILENT: 5.0, Break.DEAD: 8.0, Break.REFUSED: 5.0, Break.LOST: 5.0}
"""How soon after the line's return both sides have to be equal. Where nobody says that what was sent is lost, there are
up to 6.75 s between two questions whether it is, and a write of the last moment is waited for 4.5 s."""

LEAD = 5
"""So much each has done before the line is cut."""

PAUSE_S = 0.15
GIT = ("git", "-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "commit.gpgsign=false")

JOB = """
import pathlib, sys, time
made, number = pathlib.Path("out"), 0
made.mkdir()
while not pathlib.Path(sys.argv[1]).exists():
    number += 1
    (made / f"part-{number}.txt").write_text(f"part {number}\\n" * 100)
    (made / "sum.txt").write_text(f"{number} parts\\n")
    time.sleep(0.3)
"""


@dataclass(frozen=True)
class Told:
    """What came of it.

    :param took_s: from the return of the line until both sides were equal.
    :param trouble: what is not as it has to be, one line each.
    """

    took_s: float
    trouble: list[str]
    saves: int
    commits: int
    parts: int


class Worker(threading.Thread):
    """Does something again and again until it is stopped, and remembers what it has left where."""

    def __init__(self, act: Callable[[int], dict[str, bytes]]) -> None:
        super().__init__(daemon=True)
        self._act = act
        self._stopped = threading.Event()
        self.rounds = 0
        self.left: dict[str, bytes] = {}
        self.failure = ""

    def run(self) -> None:
        while not self._stopped.wait(PAUSE_S):
            self.rounds += 1
            try:
                self.left |= self._act(self.rounds)
            except (OSError, subprocess.SubprocessError) as error:
                self.failure = f"round {self.rounds}: {error!r}"
                return

    def stop(self) -> None:
        self._stopped.set()
        self.join(DEADLINE_S)


def editing(folder: Path) -> Callable[[int], dict[str, bytes]]:
    """Save documents as editors do: beside and over, with a backup, in place; each fourth one is new."""
    (folder / "notes").mkdir()

    def act(number: int) -> dict[str, bytes]:
        text = f"version {number}\n".encode() * 50
        name = ("draft.md", "report.txt", "log.txt", f"page-{number}.md")[number % 4]
        path = folder / "notes" / name
        match number % 4:
            case 0:
                beside = path.with_name(f".{name}.swp")
                beside.write_bytes(text)
                beside.replace(path)
            case 1:
                if path.exists():
                    path.replace(path.with_name(f"{name}~"))
                path.write_bytes(text)
            case _:
                path.write_bytes(text)
        return {f"notes/{name}": text}

    return act


def committing(folder: Path) -> Callable[[int], dict[str, bytes]]:
    """Work in a repository: commits on a branch, now and then back to an earlier state of the files and forth again."""
    root = folder / "code"
    root.mkdir()

    def git(*words: str) -> None:
        subprocess.run([*GIT, "-C", str(root), *words], check=True, capture_output=True, timeout=DEADLINE_S)

    git("init", "--quiet", "--initial-branch=main")

    def act(number: int) -> dict[str, bytes]:
        made = {"main.py": f"print({number})\n".encode(), f"module_{number % 5}.py": f"VALUE = {number}\n".encode()}
        for name, text in made.items():
            (root / name).write_bytes(text)
        git("add", "--all")
        git("commit", "--quiet", "--message", f"state {number}")
        if number % 6 == 0:
            git("checkout", "--quiet", "HEAD~3")
            git("checkout", "--quiet", "main")
        return {f"code/{name}": text for name, text in made.items()}

    return act


@contextmanager
def synchronised(job: str, folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Keep a folder in step by a process of its own while the block runs."""
    command = [*COMMAND, "sync", job, str(folder), "--watch", "--json"]
    with subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        try:
            assert running.stdout is not None
            assert any(json.loads(line)["event"] == "ready" for line in running.stdout)
            drain = threading.Thread(target=running.stdout.read, daemon=True)
            drain.start()
            yield running
            running.send_signal(signal.SIGINT)
            running.wait(DEADLINE_S)
            drain.join(DEADLINE_S)
        finally:
            running.kill()


class Packets:
    """The line to a server in the network of this thread, a ``NetworkRoom``'s, cut by dropping its packets."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __enter__(self) -> Packets:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind: the room ends with its network."""

    def cut(self, how: Break) -> None:
        drop_packets()

    def mend(self) -> None:
        pass_packets()


def work_through_a_cut(base: Path, how: Break, cut_s: float) -> Told:
    """Play it. Blocks for a little longer than the line is cut.

    :param base: an empty directory. :param cut_s: how long the line is cut.
    """
    if how is not Break.LOST:
        return _work_through(base, how, cut_s, Line)
    with NetworkRoom() as room:
        return room.call(lambda: _work_through(base, how, cut_s, Packets))


def _work_through(base: Path, how: Break, cut_s: float, line_to: Callable[[str], Line | Packets]) -> Told:
    data, folder, enough = base / "server", base / "folder", base / "enough"
    data.mkdir()
    folder.mkdir()
    program = json.dumps([sys.executable, "-c", JOB, str(enough)])
    (data / "experts.toml").write_text(f'[experts."@test/writer"]\ncommand = {program}\n')
    with RunningServer(data, runner=True) as server, line_to(server.url) as line:
        job = server.create_job(expert_key="@test/writer", hold=False)
        environment = {
            "JOBFS_URL": line.url,
            "JOBFS_API_KEY": server.api_key,
            "JOBFS_STATE_DIR": str(base / "state"),
            "JOBFS_CONFIG_DIR": str(base / "config"),
        }
        with synchronised(job, folder, environment) as running:
            workers = [Worker(editing(folder)), Worker(committing(folder))]
            for worker in workers:
                worker.start()
            _await(lambda: min(worker.rounds for worker in workers) >= LEAD)
            _await(lambda: "out/part-2.txt" in server.contents(job))
            line.cut(how)
            time.sleep(cut_s)
            for worker in workers:
                worker.stop()
            enough.touch()
            _await(lambda: server.call(lambda: server.state.jobs.get(None, job).status) == "completed")
            line.mend()
            began_s = time.monotonic()
            trouble = _until_equal(lambda: server.contents(job), folder)
            took_s = time.monotonic() - began_s
        there = server.contents(job)
    trouble += [worker.failure for worker in workers if worker.failure]
    trouble += [f"the program ended with {running.returncode}"] if running.returncode else []
    trouble += _lost(there, {path: text for worker in workers for path, text in worker.left.items()})
    trouble += _damage(folder / "code", workers[1].rounds)
    parts = sum(path.startswith("out/part-") for path in there)
    return Told(took_s, trouble, workers[0].rounds, workers[1].rounds, parts)


def _await(condition: Callable[[], bool]) -> None:
    """Return once a condition holds, without which the story makes no sense.

    :raises TimeoutError: it does not come to hold.
    """
    if not _comes_true(condition):
        raise TimeoutError(f"not within {DEADLINE_S} s")


def _comes_true(condition: Callable[[], bool]) -> bool:
    """Return once a condition holds; False at the deadline."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


def _until_equal(there: Callable[[], dict[str, bytes | None]], folder: Path) -> list[str]:
    if _comes_true(lambda: there() == _tree(folder)):
        return []
    server, here = there(), _tree(folder)
    return [f"differs: {path}" for path in sorted({*server, *here}) if server.get(path) != here.get(path)]


def _tree(folder: Path) -> dict[str, bytes | None]:
    """Return what is in a folder, but for what stays local."""
    found: dict[str, bytes | None] = {}
    for above, directories, names in os.walk(folder):
        directories[:] = [name for name in directories if name not in (".git", ".jobfs")]
        prefix = Path(above).relative_to(folder)
        found |= {(prefix / name).as_posix(): None for name in directories}
        for name in names:
            with suppress(FileNotFoundError):  # it was on its way
                if not name.endswith(("~", ".swp")):
                    found[(prefix / name).as_posix()] = (Path(above) / name).read_bytes()
    return found


def _lost(there: dict[str, bytes | None], left: dict[str, bytes]) -> list[str]:
    lost = [f"is not what was written last: {path}" for path, text in left.items() if there.get(path) != text]
    return lost + [f"nobody was to be asked: {path}" for path in there if "(conflict from" in path]


def _damage(repository: Path, commits: int) -> list[str]:
    """Return what git finds wrong with its repository."""

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*GIT, "-C", str(repository), *words], capture_output=True, text=True, check=False)

    checked, status, count = git("fsck", "--strict"), git("status", "--porcelain"), git("rev-list", "--count", "HEAD")
    trouble = [f"git fsck: {checked.stderr}"] if checked.returncode else []
    trouble += [f"git status: {status.stdout}"] if status.stdout else []
    return trouble + ([] if int(count.stdout) == commits else [f"{count.stdout.strip()} commits instead of {commits}"])
