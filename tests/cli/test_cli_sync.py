"""Folder mode from the command line, and as what a mount falls back to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import COMMAND, DEADLINE_S, in_process

from jobfs.server.running import RunningServer


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder; whatever keeps it in step at the end is told to stop."""
    path = tmp_path / "folder"
    path.mkdir()
    yield path
    if any(one["directory"] == str(path) and one["isRunning"] for one in statuses()):
        in_process("umount", path).ok()


@pytest.fixture
def without_fuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without /dev/fuse."""
    monkeypatch.setenv("JOBFS_FUSE_DEVICE", "/nowhere/fuse")


def statuses() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(in_process("status", "--json").ok())
    return found


def until(what: Callable[[], bool]) -> None:
    """Wait for something that another process does and tells nobody."""
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_once_brings_both_sides_in_step(studio: RunningServer, job: str, folder: Path) -> None:
    studio.put_item(job, "there.txt", b"from there")
    (folder / "here.txt").write_text("from here")
    assert in_process("sync", job, folder, "--once").ok() == "1 pulled, 1 pushed (9 B sent, 10 B received)\n"
    assert (folder / "there.txt").read_text() == "from there"
    assert studio.contents(job) == {"there.txt": b"from there", "here.txt": b"from here"}
    assert in_process("sync", job, folder, "--once").ok() == "nothing to do: both sides agree\n"


def test_once_tells_programs_what_it_did(studio: RunningServer, job: str, folder: Path) -> None:
    (folder / "a.txt").write_text("12345")
    told = json.loads(in_process("sync", job, folder, "--once", "--json").ok())
    assert (told["counts"], told["sentBytes"], told["skipped"]) == ({"pushed": 1}, 5, [])


def test_a_dry_run_says_what_would_be_done_and_does_nothing(studio: RunningServer, job: str, folder: Path) -> None:
    (folder / "a.txt").write_text("12345")
    trial = in_process("sync", job, folder, "--dry-run")
    assert (trial.code, trial.out, studio.contents(job)) == (12, "pushed: a.txt  5 B\n", {})
    in_process("sync", job, folder, "--once").ok()
    assert in_process("sync", job, folder, "--dry-run").ok() == "both sides agree\n"


@pytest.mark.parametrize(("direction", "here", "there"), [("push", False, True), ("pull", True, False)])
def test_one_direction_changes_one_side_only(
    studio: RunningServer, job: str, folder: Path, direction: str, here: bool, there: bool
) -> None:
    studio.put_item(job, "there.txt", b"1")
    (folder / "here.txt").write_text("2")
    in_process("sync", job, folder, "--once", "--direction", direction)
    assert ((folder / "there.txt").exists(), "here.txt" in studio.contents(job)) == (here, there)


@pytest.mark.allow_log("stopped: 30 of 30")
def test_too_many_deletions_stop_with_a_question(studio: RunningServer, job: str, folder: Path) -> None:
    for at in range(30):
        (folder / f"{at}.txt").write_text(str(at))
    in_process("sync", job, folder, "--once").ok()
    for path in folder.glob("*.txt"):
        path.unlink()
    stopped = in_process("sync", job, folder, "--once")
    assert (stopped.code, len(studio.contents(job))) == (9, 30)
    in_process("sync", job, folder, "--once", "--yes").ok()
    assert studio.contents(job) == {}


def test_a_folder_that_has_vanished_deletes_nothing(studio: RunningServer, job: str, folder: Path) -> None:
    (folder / "a.txt").write_text("precious")
    in_process("sync", job, folder, "--once").ok()
    for path in (folder / "a.txt", folder / ".jobfs" / "folder"):
        path.unlink()
    (folder / ".jobfs").rmdir()
    folder.rmdir()
    assert in_process("sync", job, folder, "--once").code == 6
    assert studio.contents(job) == {"a.txt": b"precious"}
    folder.mkdir()


def test_watching_in_the_foreground_ends_with_ctrl_c(studio: RunningServer, job: str, folder: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "sync", job, str(folder), "--watch"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == f"{job} is kept in step with {folder}\n".encode()
        (folder / "a.txt").write_text("seen")
        until(lambda: studio.contents(job) == {"a.txt": b"seen"})
        (folder / "b.txt").write_text("last words")
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=DEADLINE_S)
    assert (running.returncode, studio.contents(job)) == (0, {"a.txt": b"seen", "b.txt": b"last words"})
    assert b"pushed: a.txt  4 B\n" in err
    assert b"Traceback" not in err


def test_watching_in_the_background_is_listed_and_ended_like_a_mount(
    studio: RunningServer, job: str, folder: Path
) -> None:
    assert in_process("sync", job, folder, "--background").ok() == f"{job} is kept in step with {folder}\n"
    (told,) = statuses()
    assert (told["kind"], told["transport"], told["isRunning"]) == ("folder", "sync", True)
    (folder / "a.txt").write_text("1")
    until(lambda: studio.contents(job) == {"a.txt": b"1"})
    studio.expert_writes(job, "report.md", b"2")
    in_process("refresh", folder).ok()
    until((folder / "report.md").exists)
    assert in_process("umount", folder).ok() == f"{job} is no longer kept in step with {folder}\n"
    assert (folder / "a.txt").read_text() == "1"
    assert in_process("status").ok() == f"{job}  ended; was in step with {folder}\n"


@pytest.mark.usefixtures("without_fuse")
def test_a_mount_without_fuse_says_why_and_keeps_the_folder_in_step(
    studio: RunningServer, job: str, folder: Path
) -> None:
    studio.put_item(job, "a.txt", b"1")
    outcome = in_process("mount", job, folder)
    assert outcome.ok() == f"{job} is kept in step with {folder}\n"
    assert outcome.err == (
        "jobfs: FUSE cannot be used: /nowhere/fuse: No such file or directory: "
        f"keeping {folder} in step as an ordinary folder instead\n"
    )
    assert (folder / "a.txt").read_bytes() == b"1"
    (folder / "b.txt").write_text("2")
    in_process("umount", folder).ok()
    assert studio.contents(job) == {"a.txt": b"1", "b.txt": b"2"}
    assert in_process("mount", job, folder).code == 0  # again, over what it left there


@pytest.mark.usefixtures("without_fuse")
def test_a_mount_without_fuse_can_be_told_not_to_fall_back(studio: RunningServer, job: str, folder: Path) -> None:
    outcome = in_process("mount", job, folder, "--no-fallback")
    assert (outcome.code, list(folder.iterdir())) == (6, [])
    assert outcome.err.startswith("jobfs: FUSE cannot be used: /nowhere/fuse: No such file or directory\n")


@pytest.mark.usefixtures("without_fuse")
def test_a_fallback_never_sends_what_lies_in_a_folder_that_was_not_its_own(
    studio: RunningServer, job: str, folder: Path
) -> None:
    (folder / "private.txt").write_text("mine")
    outcome = in_process("mount", job, folder)
    assert (outcome.code, studio.contents(job), os.listdir(folder)) == (6, {}, ["private.txt"])


def test_a_run_is_brought_here_and_never_changed(studio: RunningServer, job: str, folder: Path) -> None:
    studio.put_item(job, "out/a.txt", b"result")
    studio.set_status(job, "completed")
    in_process("sync", f"run:{job}", folder, "--once").ok()
    assert (folder / "out" / "a.txt").read_bytes() == b"result"
