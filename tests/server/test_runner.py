"""Jobs from start to finish on a running server: status, files, checkpoints, and what happens when the server goes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from jobfs.errors import ApiError
from jobfs.server.app import create_app, server_state
from jobfs.server.bodies import StartJob
from jobfs.server.experts import Experts
from jobfs.server.internal_api import AsgiInternalApi, InternalApi
from jobfs.server.keys import KeyKind
from jobfs.server.runner import Runner
from jobfs.server.running import RunningServer

JOBS = "/api/studio/v1/expert_jobs"
WORKSPACE = "/api/studio/v1/workspace"
DEADLINE_S = 30.0


class Scene:
    """A server that runs jobs, an HTTP client with an ordinary key, and experts that are shell scripts.

    A script waits for the test at ``gate NAME``, and goes on when the test calls ``open_gate(NAME)``: both sides of a
    named pipe, so neither can be early.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir()
        self.gates = folder / "gates"
        self.gates.mkdir()
        self.api_key = ""
        self.server: RunningServer
        self.http: httpx.Client

    @contextmanager
    def running(self) -> Iterator[RunningServer]:
        with RunningServer(self.data, runner=True) as server:
            self.api_key = server.api_key or self.api_key
            headers = {"Authorization": f"Bearer {self.api_key}"}
            with httpx.Client(base_url=server.url, headers=headers, timeout=DEADLINE_S) as client:
                self.server, self.http = server, client
                yield server

    def expert(self, name: str, script: str, **settings: float) -> None:
        """Add an expert that is a shell script."""
        gate = f'gate() {{ cat "{self.gates}/$1" >/dev/null; }}\n'
        extra = "".join(f"{setting} = {value}\n" for setting, value in settings.items())
        entry = f"[experts.{name}]\ncommand = {json.dumps(['sh', '-c', gate + script])}\n{extra}"
        with (self.data / "experts.toml").open("a", encoding="utf-8") as file:
            file.write(entry)

    def make_gate(self, name: str) -> None:
        os.mkfifo(self.gates / name)

    def open_gate(self, name: str) -> None:
        """Let a script go on; waits until it is there."""
        shell(f": >'{self.gates / name}'")

    def release(self, job_id: str, *, with_news: bool) -> None:
        """Let the runner have a job that was held."""

        def work() -> None:
            with self.server.state.transaction():
                job = self.server.state.jobs.release(job_id)
            if with_news:
                self.server.state.announce(job)

        self.server.call(work)

    def start(self, expert: str, query: str = "Go", files: dict[str, bytes] | None = None) -> str:
        """Start a job over HTTP, with files beside the query; returns its id."""
        fields = {"expertKey": expert, "query": query}
        if files is None:
            answer = self.http.post(f"{JOBS}/", json=fields)
        else:
            parts = [("files", (name, content)) for name, content in files.items()]
            answer = self.http.post(f"{JOBS}/", data=fields, files=parts)
        assert answer.status_code == 200, answer.text
        job_id: str = answer.json()["data"]["expertJob"]["id"]
        return job_id

    def checkpoints_until(self, job_id: str, is_it: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Follow a job's stream until one checkpoint is the one, or until the job leaves active; returns all seen."""
        seen = []
        with self.http.stream("GET", f"{JOBS}/{job_id}/checkpoints/stream") as stream:
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    seen.append(json.loads(line.removeprefix("data: ")))
                    if is_it(seen[-1]):
                        break
        return seen

    def finish(self, job_id: str) -> tuple[str, dict[str, Any]]:
        """Wait until a job has left active; returns its status and its last checkpoint."""
        seen = self.checkpoints_until(job_id, lambda _checkpoint: False)
        return self.status(job_id), seen[-1] if seen else {}

    def status(self, job_id: str) -> str:
        status: str = self.http.get(f"{JOBS}/{job_id}").json()["data"]["expertJob"]["status"]
        return status

    def files(self, job_id: str) -> dict[str, bytes]:
        """Return the files of a workspace as a client gets them."""
        base = f"{JOBS}/{job_id}/workspace_instance/items"
        items = self.http.get(f"{base}/").json()["data"]["workspaceItems"]
        return {
            item["path"]: self.http.get(f"{base}/{item['id']}/download").content
            for item in items
            if item["type"] == "workspaceItemFile"
        }


def shell(script: str) -> str:
    """Run a short script of the test's own that may have to wait; returns its output."""
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=DEADLINE_S)
    return done.stdout


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def output_of(checkpoint: dict[str, Any]) -> str:
    text: str = checkpoint["newMessages"][0]["contents"][0]["text"]
    return text


# ------------------------------------------------------------------------------------------------------ start to finish


def test_a_job_counts_the_words_of_the_files_that_came_with_it(scene: Scene) -> None:
    with scene.running():
        job = scene.start("@jobfs/word-count@1.0.0", "How long?", {"a.txt": b"one two\n", "b.txt": b"three\n"})
        status, last = scene.finish(job)
        assert status == "completed"
        report = scene.files(job)["word-count.md"].decode()
        assert "| **2 files** | 2 | 3 | 14 |" in report
        assert "Asked: How long?" in report
        assert output_of(last) == "wrote word-count.md"
        assert (last["status"], last["action"]["args"]) == (
            "completed",
            {"ending": "exited", "reason": "", "exitCode": 0},
        )


def test_a_job_profiles_the_tables_that_came_with_it(scene: Scene) -> None:
    with scene.running():
        job = scene.start("@jobfs/csv-profile", files={"t.csv": b"a,b\n1,x\n2,y\n"})
        assert scene.finish(job)[0] == "completed"
        assert sorted(scene.files(job)) == [
            "csv-profile/index.md",
            "csv-profile/t.csv.md",
            "csv-profile/t.csv/01-a.svg",
            "csv-profile/t.csv/02-b.svg",
            "t.csv",
        ]


def test_what_the_expert_made_is_the_experts_and_each_change_has_its_checkpoint(scene: Scene) -> None:
    scene.expert("maker", "mkdir out; echo x >out/new.txt; echo changed >a.txt; rm b.txt")
    with scene.running():
        job = scene.start("maker", files={"a.txt": b"a", "b.txt": b"b"})
        seen = scene.checkpoints_until(job, lambda _checkpoint: False)
        actions = {(step["action"]["type"], step["action"].get("path", "")) for step in seen}
        assert actions == {
            ("createDirectory", "out"),
            ("writeTextFile", "out/new.txt"),
            ("writeTextFile", "a.txt"),
            ("deleteFile", "b.txt"),
            ("generalTool", ""),
        }
        assert [step["stepNumber"] for step in seen] == list(range(1, len(seen) + 1))
        items = scene.http.get(f"{JOBS}/{job}/workspace_instance/items/").json()["data"]["workspaceItems"]
        assert {item["path"]: item["owner"] for item in items if item["path"] != "a.txt"} == {
            "out": "expert",
            "out/new.txt": "expert",
        }
        assert scene.files(job) == {"a.txt": b"changed\n", "out/new.txt": b"x\n"}


def test_an_output_is_on_the_server_within_three_seconds_while_the_command_goes_on(scene: Scene) -> None:
    scene.make_gate("end")
    scene.expert("steady", "echo half >progress.txt; gate end")
    with scene.running():
        begun = time.monotonic()
        job = scene.start("steady")
        scene.checkpoints_until(job, lambda step: step["action"].get("path") == "progress.txt")
        took_s = time.monotonic() - begun
        assert (scene.files(job), scene.status(job)) == ({"progress.txt": b"half\n"}, "processing")
        assert took_s < 3.0
        scene.open_gate("end")
        assert scene.finish(job)[0] == "completed"


@pytest.mark.parametrize(
    ("code", "status", "checkpoint_status"),
    [
        (0, "completed", "completed"),
        (75, "exceededMaxSteps", "stoppedByExceededMaxSteps"),
        (76, "requestInteractiveToolResult", "stoppedByInteractiveTool"),
        (1, "failed", "stoppedByError"),
    ],
)
def test_the_exit_code_becomes_the_status(scene: Scene, code: int, status: str, checkpoint_status: str) -> None:
    scene.expert("ender", f"echo said; echo kept >out.txt; exit {code}")
    with scene.running():
        job = scene.start("ender")
        ended, last = scene.finish(job)
        assert (ended, last["status"], last["action"]["args"]["exitCode"]) == (status, checkpoint_status, code)
        assert output_of(last).startswith("said")
        assert scene.files(job) == {"out.txt": b"kept\n"}


def test_a_job_that_takes_too_long_fails_and_keeps_what_it_made(scene: Scene) -> None:
    scene.make_gate("never")
    scene.expert("slow", "echo begun >out.txt; gate never", timeout_s=0.5)
    with scene.running():
        job = scene.start("slow")
        status, last = scene.finish(job)
        assert (status, last["action"]["args"]["reason"]) == ("failed", "the command took longer than 0.5 s")
        assert scene.files(job) == {"out.txt": b"begun\n"}


def test_a_command_that_cannot_be_started_fails_its_job_with_the_reason(scene: Scene) -> None:
    (scene.data / "experts.toml").write_text('[experts.broken]\ncommand = "/no/such/program"', encoding="utf-8")
    with scene.running():
        status, last = scene.finish(scene.start("broken"))
        assert (status, output_of(last)) == ("failed", "cannot start /no/such/program: No such file or directory")


def test_a_job_that_makes_too_many_files_fails(scene: Scene) -> None:
    scene.expert("littering", "for i in 1 2 3 4; do echo $i >$i; done", max_files=3)
    with scene.running():
        job = scene.start("littering")
        status, last = scene.finish(job)
        assert (status, len(scene.files(job))) == ("failed", 3)
        assert last["action"]["args"]["reason"] == "the command left more than 3 new files"


def test_many_changes_at_once_are_told_in_one_checkpoint(scene: Scene) -> None:
    scene.expert("many", "touch $(seq -f f%g 30)")
    with scene.running():
        job = scene.start("many")
        seen = scene.checkpoints_until(job, lambda _checkpoint: False)
        assert [step["action"].get("toolName") for step in seen] == ["storeOutputs", "command"]
        assert len(scene.files(job)) == 30


# -------------------------------------------------------------------------------------------------- what it knows


def test_variables_secrets_query_files_and_limits_reach_the_command(scene: Scene) -> None:
    names = "PLAIN HIDDEN JOBFS_QUERY JOBFS_FILES JOBFS_MAX_STEPS JOBFS_EXPERT JOBFS_CONTINUES JOBFS_JOB"
    scene.expert("asker", f'for n in {names}; do eval "echo \\"$n=\\$$n\\""; done >env.txt')
    with scene.running():
        scene.http.post(f"{WORKSPACE}/variables/", json={"name": "PLAIN", "value": "a b"}).raise_for_status()
        scene.http.post(f"{WORKSPACE}/secrets/", json={"name": "HIDDEN", "value": "s3cret!"}).raise_for_status()
        job = scene.start("asker@latest", "What now?", {"a.txt": b"", "b c.txt": b""})
        scene.finish(job)
        assert scene.files(job)["env.txt"].decode() == (
            "PLAIN=a b\nHIDDEN=s3cret!\nJOBFS_QUERY=What now?\nJOBFS_FILES=a.txt\nb c.txt\n"
            f"JOBFS_MAX_STEPS=100\nJOBFS_EXPERT=asker@latest\nJOBFS_CONTINUES=0\nJOBFS_JOB={job}\n"
        )


def test_secrets_are_in_no_log_and_no_checkpoint_even_if_the_command_prints_them(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    scene.expert("leaky", "env")
    with scene.running() as server:
        scene.http.post(f"{WORKSPACE}/secrets/", json={"name": "HIDDEN", "value": "s3cret!value"}).raise_for_status()
        _, last = scene.finish(scene.start("leaky"))
        assert "HIDDEN=***" in output_of(last)
        assert "s3cret!value" not in json.dumps(last)
        keys = (server.api_key, server.system_key)
    logged = "\n".join(f"{record.getMessage()} {record.exc_text}" for record in caplog.records)
    assert "jobfs.server.runner" in {record.name for record in caplog.records}
    assert [secret for secret in ("s3cret!value", *keys) if secret in logged] == []


def test_a_continued_job_runs_again_in_the_same_workspace_with_the_new_query(scene: Scene) -> None:
    scene.expert("talker", 'echo "$JOBFS_CONTINUES $JOBFS_QUERY" >>talk.txt; [ "$JOBFS_CONTINUES" = 1 ] || exit 75')
    with scene.running():
        job = scene.start("talker", "first")
        assert scene.finish(job)[0] == "exceededMaxSteps"
        scene.http.post(f"{JOBS}/{job}/continue", json={"query": "second"}).raise_for_status()
        status, last = scene.finish(job)
        assert (status, scene.files(job)) == ("completed", {"talk.txt": b"0 first\n1 second\n"})
        numbers = [step["stepNumber"] for step in scene.checkpoints_until(job, lambda _checkpoint: False)]
        assert numbers == list(range(1, last["stepNumber"] + 1))


# ------------------------------------------------------------------------------------------------------ the queue


def test_two_jobs_run_at_a_time_and_the_others_wait_in_their_order(scene: Scene) -> None:
    for name in ("a", "b", "c"):
        scene.make_gate(name)
    scene.expert("waiter", 'echo here >"$JOBFS_QUERY"; gate "$JOBFS_QUERY"')
    with scene.running():
        jobs = {name: scene.start("waiter", name) for name in ("a", "b", "c")}
        for name in ("a", "b"):
            scene.checkpoints_until(jobs[name], lambda step, name=name: step["action"].get("path") == name)  # type: ignore[misc]
        assert {name: scene.status(job) for name, job in jobs.items()} == {
            "a": "processing",
            "b": "processing",
            "c": "queued",
        }
        scene.open_gate("a")
        scene.finish(jobs["a"])
        scene.checkpoints_until(jobs["c"], lambda step: step["action"].get("path") == "c")
        assert scene.status(jobs["c"]) == "processing"
        for name in ("b", "c"):
            scene.open_gate(name)
            assert scene.finish(jobs[name])[0] == "completed"


def run_in_process(scene: Scene, api_of: Callable[[FastAPI, str], InternalApi], *, poll_s: float) -> str:
    """Run one job of the expert ``quick`` by a runner that gets no news; returns the job's status."""

    async def run_until_done() -> str:
        experts = Experts(scene.data)
        app = create_app(scene.data, experts=experts.lookup)
        state = server_state(app)
        state.first_start()
        api = api_of(app, state.keys.lend(KeyKind.SYSTEM))
        runner = Runner(state, api, experts.get, scene.data / "runs", poll_s=poll_s)
        with state.transaction():
            job = state.jobs.create(state.first_application(), StartJob(expertKey="quick", query="Go"), [])
        await runner.start()
        while state.jobs.get(None, job.id).status in ("queued", "processing"):
            assert await state.news.wait(job.id, state.news.mark(job.id), timeout_s=DEADLINE_S)
        await runner.stop()
        status = state.jobs.get(None, job.id).status
        state.close()
        return status

    return asyncio.run(run_until_done())


def test_a_job_of_which_the_runner_heard_nothing_is_found_all_the_same(scene: Scene) -> None:
    scene.expert("quick", "echo x >x.txt")
    assert run_in_process(scene, AsgiInternalApi, poll_s=0.05) == "completed"


def test_a_job_whose_progress_cannot_be_recorded_fails_and_is_logged(scene: Scene, expected_logs: Any) -> None:
    class ForgetfulApi(AsgiInternalApi):
        async def add_checkpoint(self, job_id: str, body: Mapping[str, Any]) -> None:
            raise ApiError("no room for checkpoints")

    expected_logs.expect("ERROR jobfs.server.runner: job .* could not be run")
    scene.expert("quick", "echo x >x.txt")
    assert run_in_process(scene, ForgetfulApi, poll_s=60) == "failed"


def test_a_job_that_cannot_have_a_working_directory_fails_with_the_reason(scene: Scene) -> None:
    with scene.running():
        (scene.data / "runs").rmdir()
        (scene.data / "runs").write_bytes(b"")
        status, last = scene.finish(scene.start("@jobfs/word-count"))
        assert (status, output_of(last)) == ("failed", "the workspace cannot be copied or stored: Not a directory")


def test_the_runners_own_requests_are_not_counted_as_the_clients(scene: Scene) -> None:
    with scene.running() as server:
        job = server.create_job(expert_key="@jobfs/word-count", hold=True)
        server.clear_requests()
        scene.release(job, with_news=True)
        assert scene.finish(job)[0] == "completed"
        seen = {(record.method, record.path) for record in server.requests}
        assert seen <= {("GET", f"{JOBS}/{job}/checkpoints/stream"), ("GET", f"{JOBS}/{job}")}


def test_an_expert_that_is_gone_fails_its_waiting_job(scene: Scene) -> None:
    scene.expert("brief", "true")
    with scene.running() as server:
        job = server.create_job(expert_key="brief", hold=True)
        (scene.data / "experts.toml").unlink()
        scene.release(job, with_news=True)
        assert scene.finish(job)[0] == "failed"


def test_nothing_is_left_of_a_working_directory(scene: Scene) -> None:
    scene.expert("nester", "mkdir -p a/b; echo x >a/b/c; chmod 555 a/b")
    with scene.running():
        scene.finish(scene.start("nester"))
    assert list((scene.data / "runs").iterdir()) == []


# ----------------------------------------------------------------------------------------------------- early ends


def test_a_job_that_is_canceling_has_its_command_ended(scene: Scene) -> None:
    scene.make_gate("never")
    scene.expert("stuck", "echo here >here.txt; gate never")
    with scene.running() as server:
        job = scene.start("stuck")
        scene.checkpoints_until(job, lambda step: step["action"].get("path") == "here.txt")
        server.set_status(job, "canceling")
        status, last = scene.finish(job)
        assert (status, last["action"]["args"]["reason"]) == ("canceled", "the job was canceled")


def test_a_server_that_shuts_down_asks_its_commands_to_end_and_cancels_their_jobs(scene: Scene) -> None:
    scene.make_gate("never")
    scene.expert("stuck", "trap 'echo asked >last.txt; exit 0' TERM; echo here >here.txt; gate never & wait")
    with scene.running():
        job = scene.start("stuck")
        scene.checkpoints_until(job, lambda step: step["action"].get("path") == "here.txt")
    with scene.running():
        assert scene.status(job) == "canceled"
        assert scene.files(job) == {"here.txt": b"here\n", "last.txt": b"asked\n"}


def test_a_job_that_waits_when_the_server_shuts_down_runs_after_the_next_start(scene: Scene) -> None:
    scene.expert("quick", "echo x >x.txt")
    with scene.running() as server:
        job = server.create_job(expert_key="quick", hold=True)
        scene.release(job, with_news=False)
    with scene.running():
        assert scene.finish(job)[0] == "completed"


SERVE = """
import sys
from pathlib import Path
from jobfs.server.running import RunningServer

with RunningServer(Path(sys.argv[1]), runner=True) as server:
    job = server.create_job(expert_key="orphan", hold=False)
    print(server.api_key, job, flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells where a process works")
def test_a_job_that_was_running_when_the_server_was_killed_has_failed_after_the_next_start(scene: Scene) -> None:
    scene.make_gate("never")
    scene.make_gate("pid")
    scene.expert("orphan", f"echo $$ >'{scene.gates}/pid'; gate never")
    command = [sys.executable, "-c", SERVE, str(scene.data)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        scene.api_key, job = child.stdout.readline().split()
        orphan = os.pidfd_open(int(shell(f"cat '{scene.gates}/pid'")))
        child.kill()
    assert not _has_ended(orphan, within_s=0)
    with scene.running():
        status, last = scene.finish(job)
        assert (status, last["status"]) == ("failed", "stoppedByError")
        assert output_of(last) == "the server was killed while the command ran; start the job again"
    assert _has_ended(orphan, within_s=DEADLINE_S)
    os.close(orphan)


def _has_ended(pidfd: int, *, within_s: float) -> bool:
    return bool(select.select([pidfd], [], [], within_s)[0])
