"""Jobs: list, show, start, continue, wait."""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from commands import in_process
from terminals import on_terminal

from jobfs.server.faults import Fault, Faults
from jobfs.server.running import RunningServer

WORD_COUNT = ("--expert", "@jobfs/word-count")


def start(*words: object) -> str:
    return in_process("jobs", "start", *WORD_COUNT, *words).ok().strip()


def test_a_job_is_started_awaited_and_its_output_is_there(studio: RunningServer, tmp_path: Path) -> None:
    job = start("--query", "Count")
    outcome = in_process("jobs", "wait", job)
    assert (outcome.code, outcome.out) == (0, f"{job} completed\n")
    assert in_process("ls", job).ok() == "word-count.md\n"


def test_progress_goes_to_stderr_one_line_a_step_and_the_end_comes_last(studio: RunningServer) -> None:
    lines = in_process("jobs", "wait", start("--query", "Count")).err.splitlines()
    told = [line.partition(" ")[2] for line in lines]
    assert "step 1  writeTextFile  word-count.md" in told
    assert told[-1] == "completed"
    assert len(told) == len(set(told))


def test_start_sends_files_along(studio: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("three words here")
    job = start("--file", tmp_path / "notes.txt", "--wait").split()[0]
    assert in_process("cat", f"{job}:/notes.txt").ok() == "three words here"


def test_continue_gives_a_job_more_to_do_and_tells_only_the_new_steps(studio: RunningServer) -> None:
    job = start("--query", "Count", "--wait").split()[0]
    outcome = in_process("jobs", "continue", job, "--query", "Count again", "--wait")
    steps = [line for line in outcome.err.splitlines() if " step " in line]
    assert (outcome.code, "step 1 " in outcome.err, len(steps) > 0) == (0, False, True)
    assert json.loads(in_process("jobs", "show", job, "--json").ok())["query"] == "Count again"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("completed", 0),
        ("failed", 20),
        ("canceled", 21),
        ("expired", 22),
        ("requestInteractiveToolResult", 23),
        ("exceededMaxSteps", 24),
    ],
)
def test_the_exit_code_of_wait_tells_the_status(studio: RunningServer, job: str, status: str, code: int) -> None:
    studio.set_status(job, status)
    outcome = in_process("jobs", "wait", job, "--json")
    assert (outcome.code, json.loads(outcome.out)["status"]) == (code, status)


def test_wait_notices_the_end_of_a_job_that_runs(studio: RunningServer, job: str) -> None:
    studio.set_status(job, "processing")
    ending = threading.Timer(0.3, studio.set_status, (job, "failed"))
    ending.start()
    outcome = in_process("jobs", "wait", job)
    ending.join()
    assert (outcome.code, outcome.out) == (20, f"{job} failed\n")


def test_wait_gives_up_when_it_is_told_to(studio: RunningServer, job: str) -> None:
    outcome = in_process("jobs", "wait", job, "--timeout", "0.2")
    assert (outcome.code, outcome.err.splitlines()[-1]) == (10, f"  next: wait on: jobfs jobs wait {job}")


def test_ctrl_c_ends_the_wait_and_says_that_the_job_goes_on(studio: RunningServer) -> None:
    held = studio.create_job(hold=True)
    code, shown = on_terminal("jobs", "wait", held, until="queued", then=b"\x03")
    assert code == 130
    assert shown.endswith(
        f"jobfs: no longer waiting; the job goes on\r\n  next: wait again: jobfs jobs wait {held}\r\n"
    )


def test_wait_goes_on_without_the_stream_of_steps(studio: RunningServer, job: str) -> None:
    studio.set_status(job, "completed")
    studio.faults = Faults((Fault("error_before", path="checkpoints/stream", status=404),))
    try:
        assert in_process("jobs", "wait", job).code == 0
    finally:
        studio.faults = Faults()


def test_list_shows_the_newest_first_and_narrows(studio: RunningServer) -> None:
    older, newer = studio.create_job(query="one"), studio.create_job(expert_key="@jobfs/csv-profile", query="two")
    studio.set_status(older, "failed")
    rows = [line.split("\t") for line in in_process("jobs", "list", "--limit", "2").ok().splitlines()]
    assert [(row[0], row[1], row[2], row[4]) for row in rows] == [
        (newer, "queued", "@jobfs/csv-profile", "two"),
        (older, "failed", "@jobfs/word-count", "one"),
    ]
    narrowed = json.loads(
        in_process("jobs", "list", "--expert", "word", "--status", "failed", "--limit", "1", "--json").ok()
    )
    assert [job["id"] for job in narrowed] == [older]


def test_show_tells_what_is_known(studio: RunningServer, job: str) -> None:
    lines = dict(line.split(":", 1) for line in in_process("jobs", "show", job).ok().splitlines())
    assert (lines["id"].strip(), lines["status"].strip(), lines["query"].strip()) == (job, "queued", "Go")


@pytest.mark.parametrize(
    ("status", "words", "code"),
    [
        ("failed", ("--query", "more"), 2),
        ("canceled", ("--query", "more"), 2),
        ("requestInteractiveToolResult", ("--query", "42"), 2),
        ("completed", (), 2),
        ("queued", ("--query", "more"), 1),
    ],
)
def test_what_cannot_be_continued_is_refused(
    studio: RunningServer, job: str, status: str, words: tuple[str, ...], code: int
) -> None:
    studio.set_status(job, status)
    outcome = in_process("jobs", "continue", job, *words)
    assert outcome.code == code
    assert 1 <= len(outcome.err.splitlines()) <= 3


def test_an_answer_continues_a_job_that_waits_for_one(studio: RunningServer, job: str) -> None:
    studio.set_status(job, "requestInteractiveToolResult")
    assert in_process("jobs", "continue", job, "--query", "42", "--answer").ok() == f"{job}\n"


@pytest.mark.parametrize(
    "words", [(*WORD_COUNT,), (*WORD_COUNT, "--file", "/nowhere/at/all"), ("--query", "no expert")]
)
def test_a_start_without_what_it_needs_is_refused(studio: RunningServer, words: tuple[str, ...]) -> None:
    assert in_process("jobs", "start", *words).code == 2


def test_an_unknown_expert_is_told_in_the_servers_words(studio: RunningServer) -> None:
    outcome = in_process("jobs", "start", "--expert", "@no/such", "--query", "x")
    assert outcome.code == 4


def test_a_start_whose_answer_is_lost_is_not_repeated_but_looked_for(studio: RunningServer) -> None:
    studio.faults = Faults((Fault("lose_response", method="POST", path="expert_jobs"),))
    try:
        outcome = in_process("jobs", "start", *WORD_COUNT, "--query", "only once")
    finally:
        studio.faults = Faults()
    jobs = json.loads(in_process("jobs", "list", "--json").ok())
    (made,) = [job["id"] for job in jobs if job["query"] == "only once"]
    assert outcome.code == 5
    assert outcome.err.splitlines()[-1] == (
        f"  next: it may be job {made}, which has this query: look with 'jobfs jobs show' first"
    )


def test_a_step_of_before_the_wait_is_told_with_its_own_time(studio: RunningServer) -> None:
    """Whoever waits for a job that has long stopped is not to think that it has just made its steps."""
    job = studio.create_job()
    usage = dict.fromkeys(("inputTokens", "outputTokens", "reasoningTokens", "totalTokens", "cachedInputTokens"), 0)
    expert = {"key": "@jobfs/word-count", "name": "@jobfs/word-count", "version": "1.0.0"}
    checkpoint = {"id": "c", "runId": "r", "status": "completed", "stepNumber": 1, "messages": [], "expert": expert}
    made = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    step = {"stepNumber": 1, "newMessages": [], "usage": usage, "startedAt": int(made.timestamp() * 1000)}
    answer = httpx.post(
        f"{studio.url}/api/studio/v1/expert_jobs/{job}/checkpoints/",
        json={"checkpoint": {**checkpoint, "usage": usage}, "step": step},
        headers={"authorization": f"Bearer {studio.system_key}"},
    )
    assert answer.status_code == 200, answer.text
    studio.set_status(job, "completed")
    lines = in_process("jobs", "wait", job).err.splitlines()
    assert lines[0].startswith(f"{made.astimezone():%Y-%m-%d %H:%M:%S} step 1"), lines
    assert re.fullmatch(r"\d\d:\d\d:\d\d completed", lines[-1])
