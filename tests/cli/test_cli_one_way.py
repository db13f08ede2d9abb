"""The one-way forms: pull changes only the folder, push only the server, and each says what it has left alone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from commands import COMMAND, DEADLINE_S, in_process

from jobfs.server.faults import Fault, Faults
from jobfs.server.running import RunningServer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    return path


# -- pull


def test_pull_brings_what_is_there_and_leaves_the_server_alone(studio: RunningServer, job: str, tmp_path: Path) -> None:
    studio.put_item(job, "dir/a.txt", b"12345")
    outcome = in_process("pull", job, tmp_path / "new" / "folder")
    assert outcome.ok() == "1 pulled, 1 made here (5 B received)\n"
    assert outcome.err.splitlines() == ["made here: dir", "pulled: dir/a.txt  5 B"]
    assert (tmp_path / "new" / "folder" / "dir" / "a.txt").read_bytes() == b"12345"
    assert in_process("pull", job, tmp_path / "new" / "folder").ok() == "nothing to do: both sides agree\n"


def test_pull_sends_nothing_and_that_is_no_failure(studio: RunningServer, job: str, folder: Path) -> None:
    (folder / "mine.txt").write_text("mine")
    assert in_process("pull", job, folder).ok().splitlines() == [
        "1 skipped",
        "skipped: mine.txt: changed here, and only pulling was asked for",
    ]
    assert studio.contents(job) == {}


def test_pull_keeps_what_both_sides_changed(studio: RunningServer, job: str, folder: Path) -> None:
    studio.put_item(job, "a.txt", b"first")
    in_process("pull", job, folder).ok()
    (folder / "a.txt").write_text("from here")
    studio.expert_writes(job, "a.txt", b"from there")
    counts, conflict, *_ = in_process("pull", job, folder).ok().splitlines()
    (copy,) = [path for path in folder.iterdir() if " (conflict from " in path.name]
    assert counts == "1 pulled, 1 in conflict, 1 skipped (10 B received)"
    assert conflict == f"conflict: a.txt: changed on both sides; the version from here is now {copy.name}"
    assert ((folder / "a.txt").read_text(), copy.read_text()) == ("from there", "from here")
    assert studio.contents(job) == {"a.txt": b"from there"}


@pytest.mark.parametrize(("option", "is_kept"), [("--delete", False), ("--no-delete", True)])
def test_pull_deletes_what_is_gone_there_unless_it_is_told_not_to(
    studio: RunningServer, job: str, folder: Path, option: str, is_kept: bool
) -> None:
    studio.expert_writes(job, "a.txt", b"1")
    in_process("pull", job, folder).ok()
    studio.expert_deletes(job, "a.txt")
    in_process("pull", job, folder, option).ok()
    assert (folder / "a.txt").exists() is is_kept


def test_a_dry_pull_has_a_code_for_whether_there_is_a_plan(studio: RunningServer, job: str, folder: Path) -> None:
    studio.put_item(job, "a.txt", b"12345")
    trial = in_process("pull", job, folder, "--dry-run")
    assert (trial.code, trial.out.splitlines()) == (12, ["pull: a.txt  5 B", "1 to pull (5 B to receive)"])
    in_process("pull", job, folder, "--ignore", "*.txt").ok()
    assert list(folder.glob("*.txt")) == []
    in_process("pull", job, folder).ok()
    assert in_process("pull", job, folder, "--dry-run").ok() == "nothing to do: both sides agree\n"


def test_a_killed_pull_goes_on_where_it_was(studio: RunningServer, job: str, folder: Path) -> None:
    for at in range(20):
        studio.put_item(job, f"{at:02}.txt", b"12345")
    studio.faults = Faults((Fault("latency", spare=8, path="/download", delay_s=60),))
    try:
        with subprocess.Popen(
            [*COMMAND, "pull", job, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as running:
            assert running.stderr is not None
            pulled = [running.stderr.readline() for _ in range(8)]
            running.kill()
    finally:
        studio.faults = Faults()
    assert len({line for line in pulled if line.startswith(b"pulled: ")}) == 8
    assert in_process("pull", job, folder).ok() == "12 pulled (60 B received)\n"
    assert sorted(path.name for path in folder.glob("[!.]*")) == [f"{at:02}.txt" for at in range(20)]


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_reader_who_has_seen_enough_does_not_end_the_work(
    studio: RunningServer, job: str, folder: Path, words: tuple[str, ...]
) -> None:
    for at in range(30):
        studio.put_item(job, f"{at}.txt", b"12345")
    with subprocess.Popen(
        [*COMMAND, "pull", job, str(folder), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.stdout.close()
        running.wait(DEADLINE_S)
    assert len(list(folder.glob("*.txt"))) == 30


def test_only_a_whole_workspace_is_pulled(studio: RunningServer, job: str, folder: Path) -> None:
    outcome = in_process("pull", f"{job}:/dir", folder)
    assert (outcome.code, outcome.err.splitlines()[-1]) == (2, f"  next: write jobfs pull {job} DIR")


# -- push


def test_push_sends_a_folder_and_leaves_it_alone(studio: RunningServer, job: str, folder: Path) -> None:
    (folder / "a.txt").write_text("12345")
    studio.put_item(job, "there.txt", b"theirs")
    assert in_process("push", job, folder).ok().splitlines() == [
        "1 pushed, 1 skipped (5 B sent)",
        "skipped: there.txt: changed on the server, and only pushing was asked for",
    ]
    assert studio.contents(job) == {"a.txt": b"12345", "there.txt": b"theirs"}
    assert [path.name for path in folder.glob("[!.]*")] == ["a.txt"]


def test_a_folder_that_is_known_is_sent_by_its_own_name_or_by_that_of_its_job(
    studio: RunningServer, job: str, folder: Path
) -> None:
    in_process("sync", job, folder, "--once").ok()
    (folder / "a.txt").write_text("1")
    trial = in_process("push", folder, "--dry-run")
    assert (trial.code, trial.out.splitlines()[0], studio.contents(job)) == (12, "push: a.txt  1 B", {})
    assert in_process("push", folder).ok() == "1 pushed (1 B sent)\n"
    (folder / "b.txt").write_text("2")
    told = [json.loads(line) for line in in_process("push", job, "--json").ok().splitlines()]
    assert [event["event"] for event in told] == ["start", "pushed", "end"]
    assert studio.contents(job) == {"a.txt": b"1", "b.txt": b"2"}


def test_push_alone_sends_no_folder_that_nobody_keeps_in_step(studio: RunningServer, job: str, folder: Path) -> None:
    in_process("sync", job, folder, "--once").ok()
    (folder / "a.txt").write_text("1")
    outcome = in_process("push")
    assert f"{folder}: left to 'jobfs push {folder}'\n" in outcome.err
    assert studio.contents(job) == {}


def test_push_leaves_a_conflict_as_it_is_and_says_so(studio: RunningServer, job: str, folder: Path) -> None:
    (folder / "a.txt").write_text("first")
    in_process("push", job, folder).ok()
    (folder / "a.txt").write_text("from here")
    studio.expert_writes(job, "a.txt", b"from there")
    outcome = in_process("push", folder)
    assert (outcome.code, outcome.out.splitlines()) == (
        11,
        [
            "1 in conflict",
            "conflict: a.txt: changed on both sides, and left as it is on both: only one direction was asked for",
        ],
    )
    assert ((folder / "a.txt").read_text(), studio.contents(job)) == ("from here", {"a.txt": b"from there"})


@pytest.mark.allow_log("stopped: 30 of 30")
def test_push_stops_where_too_much_would_be_deleted(studio: RunningServer, job: str, folder: Path) -> None:
    for at in range(30):
        (folder / f"{at}.txt").write_text(str(at))
    in_process("push", job, folder).ok()
    for path in folder.glob("*.txt"):
        path.unlink()
    trial = in_process("push", folder, "--dry-run")
    assert (trial.code, trial.err.startswith("jobfs: it would be stopped: ")) == (12, True)
    assert (in_process("push", folder).code, len(studio.contents(job))) == (9, 30)
    assert in_process("push", folder, "--yes").ok() == "30 deleted on the server\n"


def test_push_never_takes_a_key_to_another_server(
    studio: RunningServer, job: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_process("sync", job, folder, "--once").ok()
    monkeypatch.setenv("JOBFS_URL", "http://127.0.0.1:9")
    outcome = in_process("push", folder)
    assert (outcome.code, outcome.err.splitlines()[-1]) == (2, f"  next: use --url {studio.url}")


def test_push_of_something_unknown_says_how_to_send_it(studio: RunningServer, folder: Path) -> None:
    outcome = in_process("push", folder)
    assert (outcome.code, outcome.err.splitlines()[-1].endswith("to send a folder to a job: jobfs push JOB DIR")) == (
        6,
        True,
    )
