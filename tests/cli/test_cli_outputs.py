"""What a job or run makes is brought here while it is waited for, and the exit code tells how it has ended."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import COMMAND, DEADLINE_S, in_process

from jobfs.server.faults import Fault, Faults
from jobfs.server.running import RunningServer
from jobfs.server.switches import Switches


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def switched(studio: RunningServer) -> Iterator[RunningServer]:
    """The server; its switches and faults are set back afterwards."""
    yield studio
    studio.switches, studio.faults = Switches(), Faults()


@contextmanager
def process(*words: object) -> Iterator[subprocess.Popen[str]]:
    """Run a command beside the test; it must end by itself."""
    with subprocess.Popen(
        [*COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def finished(studio: RunningServer, status: str = "completed", **files: bytes) -> str:
    """Return a run that has ended with these files."""
    run = studio.create_job()
    for name, content in files.items():
        studio.expert_writes(run, name, content)
    studio.set_status(run, status)
    return run


def shown(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and ".jobfs" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# -- runs


def test_the_files_of_a_finished_run_are_brought_here_and_not_again(studio: RunningServer, folder: Path) -> None:
    run = finished(studio, report=b"12345", data=b"67")
    outcome = in_process("outputs", run, folder)
    assert outcome.ok() == f"2 pulled (7 B received)\n{run} completed\n"
    assert shown(folder) == {"report": b"12345", "data": b"67"}
    assert in_process("outputs", f"run:{run}", folder).ok() == f"nothing to do: both sides agree\n{run} completed\n"


@pytest.mark.parametrize(("status", "code"), [("failed", 20), ("canceled", 21), ("expired", 20)])
def test_the_exit_code_tells_how_the_run_ended_and_its_files_are_there_all_the_same(
    studio: RunningServer, folder: Path, status: str, code: int
) -> None:
    run = finished(studio, status, log=b"why")
    assert (in_process("outputs", run, folder).code, shown(folder)) == (code, {"log": b"why"})


def test_the_files_of_a_run_come_as_they_appear_until_it_has_finished(studio: RunningServer, folder: Path) -> None:
    run = studio.create_job()
    studio.set_status(run, "processing")
    studio.expert_writes(run, "first", b"1")
    with process("outputs", run, folder) as running:
        assert running.stderr is not None
        assert any(line.endswith("pulled: first  1 B\n") for line in running.stderr)
        studio.expert_writes(run, "second", b"22")
        assert any(line.endswith("pulled: second  2 B\n") for line in running.stderr)
        studio.expert_writes(run, "last", b"333")
        studio.set_status(run, "completed")
        out, _ = running.communicate(timeout=DEADLINE_S)
    # Files of a run may change unseen until it has finished, so then they are looked at once more.
    assert (running.returncode, out.splitlines()[-1]) == (0, f"{run} completed")
    assert shown(folder) == {"first": b"1", "second": b"22", "last": b"333"}


def test_a_run_need_not_be_waited_for(studio: RunningServer, folder: Path) -> None:
    run = studio.create_job()
    studio.set_status(run, "processing")
    studio.expert_writes(run, "first", b"1")
    assert in_process("outputs", run, folder, "--no-wait").ok() == f"1 pulled (1 B received)\n{run} running\n"
    given_up = in_process("outputs", run, folder, "--timeout", "0.2")
    assert (given_up.code, given_up.err.splitlines()[-1]) == (10, "  next: run the same command again; it goes on")


def test_hostile_paths_are_refused_and_named_and_the_others_come(studio: RunningServer, folder: Path) -> None:
    run = finished(studio, good=b"12345")
    paths = ("../outside", "a/../../outside", "/../outside", "a//b")

    def plant() -> None:
        with studio.state.transaction():
            (row,) = studio.state.artifacts.frozen(run)
            for path in paths:
                studio.state.storage.insert(
                    "artifact",
                    job_id=run,
                    path=path,
                    role="output",
                    key=row.key,
                    mime_type=row.mime_type,
                    size=row.size,
                )

    studio.call(plant)
    events = lines_of(in_process("outputs", run, folder, "--json").ok())
    assert {path.name for path in folder.parent.iterdir()} == {"outputs", "state"}
    assert b"12345" in shown(folder).values()
    assert all(os.path.realpath(path).startswith(f"{folder}/") for path in folder.rglob("*"))
    skipped = {event["path"] for event in events if event["event"] == "skipped"}
    files = {"%2E%2E/outside", "a/%2E%2E/%2E%2E/outside", "a/%/b"}
    assert skipped == files | {"%2E%2E", "a/%2E%2E", "a/%"}  # and the names that cannot be had here


@pytest.mark.parametrize("way", ["same_origin", "cross_origin"])
def test_bytes_behind_a_redirect_are_followed_and_the_key_stays_at_home(
    switched: RunningServer, folder: Path, way: str
) -> None:
    run = finished(switched, report=b"12345")
    switched.switches = replace(switched.switches, artifact_redirect=way)
    in_process("outputs", run, folder).ok()
    assert shown(folder) == {"report": b"12345"}


def test_sizes_that_the_server_does_not_know_are_learnt(switched: RunningServer, folder: Path) -> None:
    run = finished(switched, report=b"12345", empty=b"")
    switched.switches = replace(switched.switches, artifact_size="null")
    in_process("outputs", run, folder).ok()
    assert shown(folder) == {"report": b"12345", "empty": b""}


def test_a_file_of_the_wrong_size_is_never_taken_for_the_whole(switched: RunningServer, folder: Path) -> None:
    run = finished(switched, good=b"12345", bad=b"12345")
    switched.faults = Faults((Fault("wrong_length", path="/artifacts/bad"),))
    outcome = in_process("outputs", run, folder)
    assert (outcome.code, shown(folder)) == (5, {"good": b"12345"})
    switched.faults = Faults()
    in_process("outputs", run, folder).ok()
    assert shown(folder) == {"good": b"12345", "bad": b"12345"}


def test_an_unknown_run_is_told(studio: RunningServer, folder: Path) -> None:
    outcome = in_process("outputs", "nothing", folder)
    assert (outcome.code, folder.exists()) == (4, False)


# -- jobs


def test_the_files_of_a_job_come_while_it_is_waited_for(studio: RunningServer, job: str, folder: Path) -> None:
    studio.set_status(job, "processing")
    with process("jobs", "wait", job, "--pull", folder) as running:
        assert running.stderr is not None
        assert any(line.endswith("processing\n") for line in running.stderr)
        studio.expert_writes(job, "dir/report.md", b"12345")
        assert any(line.endswith("pulled: dir/report.md  5 B\n") for line in running.stderr)
        studio.expert_writes(job, "last", b"1")
        studio.set_status(job, "failed")
        out, _ = running.communicate(timeout=DEADLINE_S)
    assert (running.returncode, out) == (20, f"2 pulled, 1 made here (6 B received)\n{job} failed\n")
    assert shown(folder) == {"dir/report.md": b"12345", "last": b"1"}


def test_a_job_that_has_stopped_is_pulled_at_once(studio: RunningServer, job: str, folder: Path) -> None:
    studio.put_item(job, "a.txt", b"12345")
    studio.set_status(job, "completed")
    outcome = in_process("jobs", "wait", job, "--pull", folder)
    assert outcome.ok() == f"1 pulled (5 B received)\n{job} completed\n"
    assert (in_process("sync", job, folder, "--once").ok(), shown(folder)) == (
        "nothing to do: both sides agree\n",
        {"a.txt": b"12345"},
    )


def test_a_wait_tells_programs_steps_and_files_and_the_end_comes_last(studio: RunningServer, folder: Path) -> None:
    job = in_process("jobs", "start", "--expert", "@jobfs/word-count", "--query", "Count").ok().strip()
    told = lines_of(in_process("jobs", "wait", job, "--pull", folder, "--json").ok())
    kinds = [event["event"] for event in told]
    assert (kinds[0], kinds[-1], set(kinds)) == ("start", "end", {"start", "status", "step", "pulled", "end"})
    assert {"event": "status", "job": job, "status": "completed"} in told
    assert {"event": "step", "step": 1, "type": "writeTextFile", "path": "word-count.md"} in told
    assert (list(shown(folder)), told[-1]["counts"]["pulled"]) == (["word-count.md"], 1)


def test_a_wait_sends_nothing(studio: RunningServer, job: str, folder: Path) -> None:
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    studio.set_status(job, "completed")
    outcome = in_process("jobs", "wait", job, "--pull", folder)
    assert "skipped: mine.txt: changed here, and only pulling was asked for\n" in outcome.ok()
    assert studio.contents(job) == {}


def test_a_wait_that_cannot_pull_says_so_at_once(studio: RunningServer, job: str, folder: Path) -> None:
    other = studio.create_job()
    in_process("pull", other, folder).ok()
    outcome = in_process("jobs", "wait", job, "--pull", folder)
    assert (outcome.code, "kept in step with another workspace" in outcome.err) == (6, True)


@pytest.mark.parametrize("words", [["outputs", "{}"], ["pull", "run:{}"], ["mount", "run:{}"]], ids=" ".join)
def test_a_run_that_is_not_there_is_told_with_where_runs_are_listed(
    studio: RunningServer, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "empty").mkdir()
    missing = in_process(*(word.format("a" * 24) for word in words), tmp_path / "empty")
    assert (missing.code, "see jobfs runs list" in missing.err, "jobs list" in missing.err) == (4, True, False)


def test_runs_are_listed(studio: RunningServer) -> None:
    run, other = finished(studio, a=b"1"), studio.create_job()
    told = json.loads(in_process("runs", "list", "--json").ok())
    found = {one["id"]: (one["status"], one["finished"]) for one in told}
    assert (found[run], found[other]) == (("completed", True), ("pending", False))
    assert [line.split("\t")[0] for line in in_process("runs", "list", "--limit", "1").ok().splitlines()] == [other]
    assert other not in in_process("runs", "list", "--status", "completed").ok()
    assert in_process("runs", "list", "--status", "nope").err == "there is no such run\n"
