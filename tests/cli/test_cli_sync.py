"""Folder mode from the command line, and as what a mount falls back to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from awaiting import Requests
from commands import COMMAND, DEADLINE_S, in_process

from jobfs.server.faults import Fault, Faults
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


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_once_brings_both_sides_in_step(studio: RunningServer, job: str, folder: Path) -> None:
    studio.put_item(job, "there.txt", b"from there")
    (folder / "here.txt").write_text("from here")
    outcome = in_process("sync", job, folder, "--once")
    assert outcome.ok() == "1 pushed, 1 pulled (9 B sent, 10 B received)\n"
    assert sorted(outcome.err.splitlines()) == ["pulled: there.txt  10 B", "pushed: here.txt  9 B"]
    assert (folder / "there.txt").read_text() == "from there"
    assert studio.contents(job) == {"there.txt": b"from there", "here.txt": b"from here"}
    assert in_process("sync", job, folder, "--once").ok() == "nothing to do: both sides agree\n"


def test_each_event_is_a_line_of_json_for_programs(studio: RunningServer, job: str, folder: Path) -> None:
    studio.put_item(job, "gone.txt", b"1")
    in_process("sync", job, folder, "--once").ok()
    (folder / "gone.txt").unlink()
    (folder / "dir").mkdir()
    (folder / "dir" / "a.txt").write_text("12345")
    (folder / "link").symlink_to("dir")
    outcome = in_process("sync", job, folder, "--once", "--json")
    start, *middle, end = lines_of(outcome.ok())
    assert start == {"event": "start", "job": job, "directory": str(folder), "direction": "both"}
    assert sorted(middle, key=lambda event: str(event["event"])) == [
        {"event": "deleted", "path": "gone.txt", "side": "server"},
        {"event": "made", "path": "dir", "side": "server"},
        {"event": "pushed", "path": "dir/a.txt", "bytes": 5},
        {
            "event": "skipped",
            "path": "link",
            "reason": "symbolic links stay here and are not followed; copy the file instead",
        },
    ]
    none = dict.fromkeys(("pulled", "moved", "changed", "conflict"), 0)
    assert end == {
        "event": "end",
        "dryRun": False,
        "counts": {**none, "pushed": 1, "deleted": 1, "made": 1, "skipped": 1},
        "sentBytes": 5,
        "receivedBytes": 0,
        "guard": None,
    }
    assert outcome.err == ""


def test_a_conflict_is_told_once_with_what_became_of_it(studio: RunningServer, job: str, folder: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("first")
    in_process("sync", job, folder, "--once").ok()
    (folder / "a.txt").write_text("from here")
    (folder / "b.txt").unlink()
    studio.expert_writes(job, "a.txt", b"from there")
    studio.expert_writes(job, "b.txt", b"edited there")
    trial = lines_of(in_process("sync", job, folder, "--dry-run", "--json").out)
    told = lines_of(in_process("sync", job, folder, "--once", "--json").ok())
    for events in (trial, told):
        conflicts = {event["path"]: event["reason"] for event in events if event["event"] == "conflict"}
        assert (len(conflicts), events[-1]["counts"]["conflict"]) == (2, 2)
        assert conflicts["a.txt"].startswith("the version from here is kept as a (conflict from ")
        assert conflicts["b.txt"] == "deleted on one side, changed on the other; it stays"
    assert in_process("sync", job, folder, "--once").ok() == "nothing to do: both sides agree\n"


def test_the_summary_says_what_was_skipped_and_why(studio: RunningServer, job: str, folder: Path) -> None:
    for at in range(25):
        (folder / f"{at:02}").symlink_to("nowhere")
    counts, *skipped, more = in_process("sync", job, folder, "--once").ok().splitlines()
    assert (counts, len(skipped), more) == ("25 skipped", 20, "skipped: and 5 more")
    assert skipped[0] == "skipped: 00: symbolic links stay here and are not followed; copy the file instead"


def test_what_could_not_be_sent_is_named_with_a_code_and_sent_the_next_time(
    studio: RunningServer, job: str, folder: Path
) -> None:
    (folder / "a.txt").write_text("1")
    studio.faults = Faults((Fault("error_before", method="POST", path="/items", status=400),))
    try:
        outcome = in_process("sync", job, folder, "--once")
    finally:
        studio.faults = Faults()
    assert (outcome.code, outcome.out.splitlines()[0]) == (11, "1 skipped")
    assert outcome.out.splitlines()[1].startswith("skipped: a.txt: ")
    assert outcome.err.startswith("jobfs: 1 change could not be sent; kept in the folder\n")
    (folder / "a.txt").write_text("2")
    in_process("sync", job, folder, "--once").ok()
    assert studio.contents(job) == {"a.txt": b"2"}


# -- trials


def test_a_dry_run_says_what_would_be_done_and_does_nothing(studio: RunningServer, job: str, folder: Path) -> None:
    (folder / "a.txt").write_text("12345")
    studio.put_item(job, "there.txt", b"1234567")
    trial = in_process("sync", job, folder, "--dry-run")
    assert (trial.code, trial.out.splitlines()) == (
        12,
        ["pull: there.txt  7 B", "push: a.txt  5 B", "1 to push, 1 to pull (5 B to send, 7 B to receive)"],
    )
    assert (studio.contents(job), os.listdir(folder)) == ({"there.txt": b"1234567"}, ["a.txt"])
    in_process("sync", job, folder, "--once").ok()
    assert in_process("sync", job, folder, "--dry-run").ok() == "nothing to do: both sides agree\n"


def test_a_dry_run_tells_programs_the_same_events_as_the_run(studio: RunningServer, job: str, folder: Path) -> None:
    (folder / "a.txt").write_text("12345")
    trial = in_process("sync", job, folder, "--dry-run", "--json")
    done = in_process("sync", job, folder, "--once", "--json")
    assert (trial.code, done.code) == (12, 0)
    assert [{**event, "dryRun": False} for event in lines_of(trial.out)] == [
        {**event, "dryRun": False} for event in lines_of(done.out)
    ]


@pytest.mark.usefixtures("without_fuse")
def test_a_dry_run_does_not_make_the_folder_the_workspaces_own(studio: RunningServer, job: str, folder: Path) -> None:
    (folder / "private.txt").write_text("mine")
    assert in_process("sync", job, folder, "--dry-run").code == 12
    assert statuses() == []
    assert in_process("mount", job, folder).code == 6  # else the fallback would send it
    assert studio.contents(job) == {}


def test_a_folder_that_holds_the_state_of_jobfs_is_refused(studio: RunningServer, job: str, folder: Path) -> None:
    (folder / "a.txt").write_text("1")
    outcome = in_process("sync", job, folder.parent, "--once")
    assert (outcome.code, "holds the state of jobfs itself" in outcome.err, studio.contents(job)) == (2, True, {})


@pytest.mark.parametrize(
    "words",
    [
        ("--dry-run", "--background"),
        ("--dry-run", "--watch"),
        ("--once", "--background"),
        ("--background", "--json"),
    ],
)
def test_options_that_contradict_each_other_do_nothing(
    studio: RunningServer, job: str, folder: Path, words: tuple[str, str]
) -> None:
    (folder / "a.txt").write_text("1")
    outcome = in_process("sync", job, folder, *words)
    assert (outcome.code, outcome.out, studio.contents(job)) == (2, "", {})
    assert "contradict each other" in outcome.err


def test_a_folder_has_every_file_whatever_is_asked_for(studio: RunningServer, job: str, folder: Path) -> None:
    studio.put_item(job, "there.txt", b"1")
    few = in_process("sync", job, folder, "--once", "--prefetch", "small")
    assert (few.code, (folder / "there.txt").exists(), "'jobfs mount'" in few.err) == (2, False, True)
    every = in_process("sync", job, folder, "--once", "--prefetch", "all")
    assert (every.code, (folder / "there.txt").read_bytes()) == (0, b"1")


# -- ways and rules


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
    shutil.rmtree(folder)
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
        assert running.stderr is not None
        assert any(line == b"pushed: a.txt  4 B\n" for line in running.stderr)
        assert studio.contents(job) == {"a.txt": b"seen"}
        (folder / "b.txt").write_text("last words")
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=DEADLINE_S)
    assert (running.returncode, studio.contents(job)) == (0, {"a.txt": b"seen", "b.txt": b"last words"})
    assert out == b"2 pushed (14 B sent)\n"
    assert b"Traceback" not in err


def test_watching_tells_programs_each_event_as_it_happens(studio: RunningServer, job: str, folder: Path) -> None:
    (folder / "before.txt").write_text("1")
    with subprocess.Popen(
        [*COMMAND, "sync", job, str(folder), "--watch", "--json"], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        first = [json.loads(running.stdout.readline()) for _ in range(3)]
        assert [event["event"] for event in first] == ["start", "pushed", "ready"]
        (folder / "a.txt").write_text("seen")
        assert json.loads(running.stdout.readline()) == {"event": "pushed", "path": "a.txt", "bytes": 4}
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=DEADLINE_S)
    end = lines_of(out)[-1]
    assert (running.returncode, end["event"], end["counts"]["pushed"], end["sentBytes"]) == (0, "end", 2, 5)


def test_watching_in_the_background_is_listed_and_ended_like_a_mount(
    studio: RunningServer, requests: Requests, job: str, folder: Path
) -> None:
    assert in_process("sync", job, folder, "--background").ok() == f"{job} is kept in step with {folder}\n"
    (told,) = statuses()
    assert (told["kind"], told["transport"], told["isRunning"]) == ("folder", "sync", True)
    (folder / "a.txt").write_text("1")
    requests.wait_until(lambda: studio.contents(job) == {"a.txt": b"1"})
    studio.expert_writes(job, "report.md", b"2")
    in_process("refresh", folder).ok()
    assert (folder / "report.md").read_bytes() == b"2"
    assert in_process("umount", folder).ok() == f"{job} is no longer kept in step with {folder}\n"
    assert (folder / "a.txt").read_text() == "1"
    assert in_process("status").ok() == f"{job}  ended; was in step with {folder}\n"


def test_what_a_command_changes_is_looked_for_at_once_by_who_keeps_the_workspace_here(
    studio: RunningServer, requests: Requests, job: str, folder: Path, tmp_path: Path
) -> None:
    """The workspace of a job that has ended is listed every half minute: too long for what we know of."""
    studio.set_status(job, "completed")
    in_process("sync", job, folder, "--background").ok()
    (tmp_path / "new.md").write_text("1")
    began_s = time.monotonic()
    in_process("put", tmp_path / "new.md", f"{job}:/").ok()
    requests.wait_until(lambda: any(one.path.endswith("/download") for one in studio.requests))
    assert time.monotonic() - began_s < 10


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
    refused = in_process("push", f"run:{job}", folder)
    assert (refused.code, f"jobfs pull run:{job} {folder}" in refused.err) == (2, True)
