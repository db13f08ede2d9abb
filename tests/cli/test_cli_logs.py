"""The log of a mount or folder: its levels, its rotation, and following it."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import COMMAND, DEADLINE_S, in_process

from jobfs.cli.logs import Wanted, grown
from jobfs.server.running import RunningServer

RECORDS = [
    "2026-01-02 03:04:05,678 DEBUG jobfs.api: one",
    "2026-01-02 03:04:05,678 INFO jobfs.api: two",
    "2026-01-02 03:04:05,678 WARNING jobfs.api: three",
    "Traceback (most recent call last):",
    "  of three",
    "2026-01-02 03:04:05,678 ERROR jobfs.api: four",
]


@pytest.fixture
def synced(studio: RunningServer, job: str, tmp_path: Path) -> Iterator[Path]:
    """A folder that is kept in step, with everything in its log."""
    folder = tmp_path / "folder"
    in_process("sync", job, folder, "--background", "--log-level", "debug").ok()
    yield folder
    in_process("umount", folder)


def log_of(folder: Path) -> Path:
    (told,) = json.loads(in_process("status", folder, "--json").ok())
    return Path(told["state"]) / "log.txt"


@pytest.mark.parametrize(("least", "expected"), [(0, RECORDS), (1, RECORDS[1:]), (2, RECORDS[2:]), (3, RECORDS[5:])])
def test_a_record_is_shown_with_all_of_its_lines_or_not_at_all(least: int, expected: list[str]) -> None:
    assert list(Wanted(least)(RECORDS)) == expected


def test_the_log_is_shown_with_as_many_lines_as_wanted_over_all_of_its_files(synced: Path) -> None:
    log = log_of(synced)
    log.with_name("log.txt.1").write_text("older one\nolder two\n")
    log.with_name("log.txt.2").write_text("oldest\n")
    every = in_process("logs", synced, "-n", "100000").ok().splitlines()
    last = in_process("logs", synced, "-n", "2").ok().splitlines()
    assert (every[:3], last) == (["oldest", "older one", "older two"], every[-2:])


def test_the_level_decides_what_is_written(synced: Path, studio: RunningServer, tmp_path: Path) -> None:
    quiet = tmp_path / "quiet"
    in_process("sync", studio.create_job(), quiet, "--background", "--log-level", "error").ok()
    in_process("umount", quiet).ok()
    (synced / "a.txt").write_text("1")
    in_process("push", synced).ok()
    following = [*COMMAND, "logs", str(synced), "--follow", "-n", "9"]
    with subprocess.Popen(following, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout is not None
        assert any("INFO jobfs.cli.synced: pushed: a.txt" in line for line in running.stdout)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=DEADLINE_S)
    assert in_process("logs", quiet).ok() == ""


def test_nothing_of_the_log_can_steer_the_terminal(synced: Path) -> None:
    with log_of(synced).open("a") as log:
        log.write("2026-01-02 03:04:05,678 INFO x: \x1b[2J\n")
    assert in_process("logs", synced, "-n", "1").ok() == "2026-01-02 03:04:05,678 INFO x: \\x1b[2J\n"


def test_following_shows_what_comes_until_it_is_ended(synced: Path) -> None:
    following = [*COMMAND, "logs", str(synced), "--follow", "-n", "0"]
    with subprocess.Popen(following, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stderr.readline().startswith(b"following ")
        (synced / "a.txt").write_text("1")
        assert any(b"pushed: a.txt" in line for line in running.stdout)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=DEADLINE_S)
    assert (running.returncode, err) == (0, b"")


def test_following_goes_on_in_the_new_file_and_loses_nothing_of_the_old_one(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("before\none\n")
    lines = grown(log, len("before\n"))
    seen = [next(lines)]
    with log.open("a") as old:
        old.write("two\nthr")
        old.flush()
        seen.append(next(lines))
        old.write("ee\n")
    log.rename(tmp_path / "log.txt.1")
    log.write_text("four\n")
    seen += [next(lines), next(lines)]
    lines.close()
    assert seen == ["one", "two", "three", "four"]


def test_a_log_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    lines, found = grown(log, 0), []
    waiting = threading.Thread(target=lambda: found.append(next(lines)))
    waiting.start()
    log.write_text("first\n")
    waiting.join(DEADLINE_S)
    lines.close()
    assert found == ["first"]


def test_a_directory_that_was_never_ours_has_no_log(state_dir: Path, tmp_path: Path) -> None:
    outcome = in_process("logs", tmp_path)
    assert (outcome.code, "is in no mount or synchronised folder of jobfs" in outcome.err) == (6, True)
