"""``jobfs.Workspace``: what a script sees and does, against the server."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import jobfs
from jobfs import Permission, Workspace, errors
from jobfs.engine.transfer import RevisionGone
from jobfs.errors import SettingsError
from jobfs.folder.report import What
from jobfs.server.faults import Fault, Faults
from jobfs.server.front import RequestRecord
from jobfs.server.running import RunningServer
from jobfs.server.switches import Switches
from jobfs.workspace.portal import Portal

DEADLINE_S = 30.0
LARGE = bytes(range(256)) * 40_000  # beyond what is fetched as one


@pytest.fixture
def workspace(job: str) -> Iterator[Workspace]:
    with Workspace(job) as opened:
        yield opened


@pytest.fixture
def switched(studio: RunningServer) -> Iterator[RunningServer]:
    """The server; its switches and faults are set back afterwards."""
    yield studio
    studio.switches, studio.faults = Switches(), Faults()


def writes_of(requests: list[RequestRecord]) -> list[str]:
    return [request.method for request in requests if request.method != "GET"]


def held(studio: RunningServer, workspace: Workspace) -> dict[str, bytes | None]:
    """Return what the server has once replaced versions are gone from it, which a write does not wait for."""
    workspace.close()
    return studio.contents(workspace.job)


# -- looking


def test_it_sees_what_is_there(studio: RunningServer, workspace: Workspace) -> None:
    studio.put_item(workspace.job, "data/a.csv", b"1,2")
    studio.expert_writes(workspace.job, "data/deep/report.md", b"# Report")
    assert [(found.path, found.is_directory) for found in workspace.list()] == [("data", True)]
    assert [found.path for found in workspace.find()] == ["data", "data/a.csv", "data/deep", "data/deep/report.md"]
    assert [found.path for found in workspace.find("data", name="*.md")] == ["data/deep/report.md"]
    assert [found.path for found in workspace.find(is_directory=True)] == ["data", "data/deep"]
    report = workspace.stat("data/deep/report.md")
    assert (report.name, report.size, report.owner, report.is_read_only) == ("report.md", 8, "expert", False)
    assert report.updated is not None
    assert (workspace.exists("data/deep/"), workspace.exists("data/a.csv/"), workspace.exists("none")) == (
        (True, False, False)
    )


def test_walking_is_one_listing_and_a_directory_can_be_left_out(studio: RunningServer, workspace: Workspace) -> None:
    for path in ("a/one", "b/c/two", "three"):
        studio.put_item(workspace.job, path, b"")
    studio.clear_requests()
    seen = []
    for above, directories, files in workspace.walk():
        seen.append((above, [found.name for found in files]))
        directories[:] = [found for found in directories if found.name != "b"]
    assert seen == [("", ["three"]), ("a", ["one"])]
    assert len(studio.requests) == 1


def test_what_is_not_there_is_said_so(workspace: Workspace) -> None:
    for look in (workspace.stat, workspace.read, workspace.list, workspace.remove, workspace.open):
        with pytest.raises(errors.NotFound):
            look("none")


@pytest.mark.parametrize("path", ["a//b", "../up", "a/./b"])
def test_a_path_that_leads_elsewhere_is_refused_before_anything_is_sent(
    studio: RunningServer, workspace: Workspace, path: str
) -> None:
    studio.clear_requests()
    for use in (workspace.read, workspace.stat, lambda path: workspace.write(path, b"")):
        with pytest.raises(errors.SettingsError):
            use(path)
    assert studio.requests == []


# -- reading


def test_a_part_of_a_large_file_is_all_that_is_fetched_where_the_server_honours_ranges(
    switched: RunningServer, workspace: Workspace
) -> None:
    switched.put_item(workspace.job, "large", LARGE)
    switched.switches = Switches(range="honour")
    switched.clear_requests()
    assert workspace.read("large", offset=10_000_001, length=100) == LARGE[10_000_001:10_000_101]
    assert [request.path.rpartition("/")[2] for request in switched.requests if "download" in request.path] == [
        "download"
    ]
    assert len(switched.requests) == 3  # where it is, the part, and the proof that it is of that version
    assert workspace.read("large", offset=len(LARGE) - 5, length=100) == LARGE[-5:]
    assert workspace.read("large", offset=len(LARGE)) == b""


def test_parts_are_right_where_the_server_ignores_ranges(studio: RunningServer, workspace: Workspace) -> None:
    item = studio.put_item(workspace.job, "large", LARGE)
    studio.clear_requests()
    with workspace.open("large", "rb") as file:
        file.seek(5_000_000)
        assert file.read(10) == LARGE[5_000_000:5_000_010]
        file.seek(-10, os.SEEK_END)
        assert (file.tell(), file.read()) == (len(LARGE) - 10, LARGE[-10:])
        file.seek(0)
        assert file.read() == LARGE
    assert [request.path for request in studio.requests if request.path.endswith("/download")] == [
        f"/api/studio/v1/expert_jobs/{workspace.job}/workspace_instance/items/{item.id}/download"
    ]


def test_an_open_file_stays_the_version_that_was_opened(studio: RunningServer, workspace: Workspace) -> None:
    studio.put_item(workspace.job, "note", b"old " * 100)
    with workspace.open("note") as file:
        assert file.read(4) == "old "
        studio.expert_writes(workspace.job, "note", b"new!")
        assert file.read() == "old " * 99
    assert workspace.read_text("note") == "new!"


def test_parts_of_two_versions_are_never_mixed(switched: RunningServer, workspace: Workspace) -> None:
    switched.put_item(workspace.job, "large", b"a" * len(LARGE))
    switched.switches = Switches(range="honour")
    with workspace.open("large", "rb") as file:
        assert set(file.read(100)) == {ord("a")}
        switched.expert_writes(workspace.job, "large", b"b" * len(LARGE))
        file.seek(9_000_000)
        with pytest.raises(RevisionGone):
            file.read(100)


def test_a_body_of_the_wrong_length_is_never_taken_for_the_file(switched: RunningServer, workspace: Workspace) -> None:
    switched.put_item(workspace.job, "note", b"first")
    switched.faults = Faults((Fault("wrong_length", count=1, path="/download$"),))
    assert workspace.read("note") == b"first"
    switched.faults = Faults((Fault("wrong_length", path="/download$"),))
    with pytest.raises(errors.ProtocolViolation):
        workspace.read("note")


def test_a_download_replaces_a_local_file_only_once_it_is_whole(
    switched: RunningServer, workspace: Workspace, tmp_path: Path
) -> None:
    switched.put_item(workspace.job, "note", b"new bytes")
    target = tmp_path / "note"
    target.write_bytes(b"old bytes")
    switched.faults = Faults((Fault("missing_bytes", path="/download$"),))
    with pytest.raises(errors.ApiError):
        workspace.download("note", target)
    assert (target.read_bytes(), [path.name for path in tmp_path.iterdir() if "jobfs-" in path.name]) == (
        (b"old bytes", [])
    )
    switched.faults = Faults()
    workspace.download("note", target)
    assert target.read_bytes() == b"new bytes"


# -- writing


def test_a_new_file_is_one_request_that_changes_something(studio: RunningServer, workspace: Workspace) -> None:
    studio.clear_requests()
    made = workspace.write("note.md", "naïve")
    assert (made.path, made.size, writes_of(studio.requests)) == ("note.md", 6, ["POST"])
    assert studio.contents(workspace.job) == {"note.md": "naïve".encode()}


def test_a_save_over_a_file_never_deletes_first(studio: RunningServer, workspace: Workspace) -> None:
    studio.put_item(workspace.job, "note", b"old")
    studio.clear_requests()
    workspace.write("note", b"new")
    assert held(studio, workspace) == {"note": b"new"}
    assert writes_of(studio.requests) == ["POST", "POST", "POST", "DELETE"]


def test_directories_are_made_only_when_asked_for(studio: RunningServer, workspace: Workspace) -> None:
    with pytest.raises(errors.NotFound):
        workspace.write("a/b/note", b"")
    workspace.write("a/b/note", b"1", parents=True)
    assert studio.contents(workspace.job) == {"a": None, "a/b": None, "a/b/note": b"1"}


def test_a_version_that_somebody_else_replaced_is_not_overwritten(studio: RunningServer, workspace: Workspace) -> None:
    seen = workspace.write("counter", b"1")
    assert workspace.write("counter", b"2", over=seen).size == 1
    studio.expert_writes(workspace.job, "counter", b"theirs")
    with pytest.raises(errors.Changed):
        workspace.write("counter", b"3", over=workspace.write("other", b""))
    with pytest.raises(errors.Changed):
        workspace.write("counter", b"3", over=seen)
    assert held(studio, workspace)["counter"] == b"theirs"


def test_a_file_that_is_there_is_not_replaced_where_that_is_forbidden(
    studio: RunningServer, workspace: Workspace
) -> None:
    studio.put_item(workspace.job, "note", b"old")
    with pytest.raises(errors.PathExists):
        workspace.write("note", b"new", may_replace=False)
    with pytest.raises(errors.PathExists):
        workspace.open("note", "xb")
    assert studio.contents(workspace.job) == {"note": b"old"}


@pytest.mark.parametrize("kind", ["lose_response", "error_after"])
def test_a_write_whose_answer_is_lost_is_there_once(switched: RunningServer, workspace: Workspace, kind: str) -> None:
    fault = Fault("lose_response" if kind == "lose_response" else "error_after", count=1, method="POST")
    switched.faults = Faults((fault,))
    workspace.write("note", b"once")
    assert switched.contents(workspace.job) == {"note": b"once"}


def test_what_must_not_be_changed_is_refused(studio: RunningServer, workspace: Workspace) -> None:
    studio.put_item(workspace.job, "locked", b"1", permission="readOnly")
    with pytest.raises(errors.Refused, match="read-only"):
        workspace.write("locked", b"2")
    workspace.make_directory("a")
    with pytest.raises(errors.IsDirectory):
        workspace.write("a", b"2")
    workspace.set_permission("locked", Permission.READ_WRITE)
    workspace.write("locked", b"2")
    assert held(studio, workspace)["locked"] == b"2"


def test_what_belongs_to_all_jobs_is_written_as_a_private_copy_and_never_removed(tmp_path: Path) -> None:
    with RunningServer() as own:
        own.put_item(None, "shared", b"for all")
        job = own.create_job()
        with Workspace(job, url=own.url, api_key=own.api_key, state=tmp_path) as workspace:
            for change in (workspace.remove, lambda path: workspace.set_permission(path, Permission.READ_ONLY)):
                with pytest.raises(errors.Refused, match="all jobs"):
                    change("shared")
            workspace.write("shared", b"for one")
            assert workspace.read("shared") == b"for one"
        assert own.contents(None) == {"shared": b"for all"}


# -- open files


def test_nothing_is_on_the_server_before_a_written_file_is_closed(studio: RunningServer, workspace: Workspace) -> None:
    with workspace.open("note", "w", newline="") as file:
        file.write("line\r\n")
        file.flush()
        assert studio.contents(workspace.job) == {}
    assert studio.contents(workspace.job) == {"note": b"line\r\n"}


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_a_file_whose_block_fails_is_not_written(studio: RunningServer, workspace: Workspace, mode: str) -> None:
    studio.put_item(workspace.job, "note", b"old")

    def fail() -> None:
        with workspace.open("note", mode) as file:  # type: ignore[call-overload]
            file.write("half" if mode == "w" else b"half")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert studio.contents(workspace.job) == {"note": b"old"}


def test_a_file_that_is_never_closed_is_not_written(studio: RunningServer, workspace: Workspace) -> None:
    with pytest.warns(ResourceWarning, match="never closed"):
        workspace.open("note", "wb").write(b"half")
    assert studio.contents(workspace.job) == {}


def test_appending_goes_on_after_what_is_there(studio: RunningServer, workspace: Workspace) -> None:
    for line in ("one\n", "two\n"):
        with workspace.open("log", "a") as file:
            file.write(line)
    assert held(studio, workspace) == {"log": b"one\ntwo\n"}


def test_appending_to_what_somebody_else_changed_meanwhile_keeps_theirs(
    studio: RunningServer, workspace: Workspace
) -> None:
    workspace.write("log", b"one\n")
    file = workspace.open("log", "ab")
    file.write(b"mine\n")
    studio.expert_writes(workspace.job, "log", b"theirs\n")
    with pytest.raises(errors.Changed):
        file.close()
    assert held(studio, workspace) == {"log": b"theirs\n"}


def test_a_written_file_can_be_sought_as_archives_need_it(studio: RunningServer, workspace: Workspace) -> None:
    with workspace.open("archive", "wb") as file:
        file.write(b"....body")
        file.seek(0)
        file.write(b"head")
    assert studio.contents(workspace.job) == {"archive": b"headbody"}


# -- moving and removing


def test_files_and_directories_move_and_a_file_that_is_there_is_replaced(
    studio: RunningServer, workspace: Workspace
) -> None:
    for path in ("draft", "final", "old/inner"):
        studio.put_item(workspace.job, path, path.encode())
    workspace.move("draft", "final")
    workspace.move("old", "new")
    workspace.make_directory("other")
    with pytest.raises(errors.PathExists):
        workspace.move("new", "other")
    assert studio.contents(workspace.job) == {"final": b"draft", "new": None, "new/inner": b"old/inner", "other": None}


def test_a_directory_goes_with_what_it_holds_only_when_asked_for(studio: RunningServer, workspace: Workspace) -> None:
    studio.put_item(workspace.job, "a/b/c", b"")
    with pytest.raises(errors.NotEmpty):
        workspace.remove("a")
    studio.clear_requests()
    workspace.remove("a", recursive=True)
    assert (writes_of(studio.requests), studio.contents(workspace.job)) == (["DELETE"], {})


# -- the job


def test_a_job_is_started_given_files_waited_for_and_resumed(studio: RunningServer, tmp_path: Path) -> None:
    source = tmp_path / "text.txt"
    source.write_text("one two three")
    steps: list[float] = []
    with Workspace.start("@jobfs/word-count", "Count the words", files=[source]) as workspace:
        status = workspace.wait(timeout_s=DEADLINE_S, on_step=lambda step: steps.append(step.step_number))
        assert (status, workspace.status()) == ("completed", "completed")
        assert workspace.describe().expert_key.startswith("@jobfs/word-count")
        assert [found.path for found in workspace.outputs()] == ["word-count.md"]
        workspace.write("more.txt", "four")
        assert workspace.resume("Count again").id == workspace.job
        assert workspace.wait(timeout_s=DEADLINE_S) == "completed"
        assert "more.txt" in workspace.read_text("word-count.md")
    assert steps == sorted(steps)
    assert steps != []


def test_a_wait_that_is_too_short_ends_and_the_job_goes_on(workspace: Workspace) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        workspace.wait(timeout_s=0.05)
    assert workspace.status() == "queued"


def test_the_files_of_a_run_can_be_read_and_not_be_changed(studio: RunningServer) -> None:
    run = studio.create_job()
    studio.expert_writes(run, "report/summary.md", b"done")
    studio.set_status(run, "completed")
    with Workspace(f"run:{run}") as workspace:
        assert (workspace.wait(timeout_s=DEADLINE_S), workspace.status()) == ("completed", "completed")
        assert [found.path for found in workspace.outputs()] == ["report/summary.md"]
        assert workspace.read("report/summary.md", offset=1, length=2) == b"on"
        with pytest.raises(errors.Refused):
            workspace.write("note", b"")
        with pytest.raises(errors.Refused):
            workspace.describe()


# -- a folder


def test_a_folder_is_brought_in_step_and_the_next_time_there_is_nothing_to_do(
    studio: RunningServer, workspace: Workspace, tmp_path: Path
) -> None:
    studio.put_item(workspace.job, "theirs", b"from the server")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mine").write_bytes(b"from here")
    planned = workspace.sync(folder, dry_run=True)
    assert (sorted(step.path for step in planned.steps), (folder / "theirs").exists()) == (["mine", "theirs"], False)
    events: list[str] = []
    done = workspace.sync(folder, on_event=lambda event: events.append(event.path))
    assert (done.count(What.PUSHED), done.count(What.PULLED), sorted(events)) == (1, 1, ["mine", "theirs"])
    assert (folder / "theirs").read_bytes() == b"from the server"
    assert workspace.sync(folder).counts == {}
    (folder / "mine").unlink()
    assert workspace.sync(folder, direction="pull").count(What.PULLED) == 1


def test_a_folder_with_the_state_of_jobfs_in_it_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(errors.SettingsError, match="holds the state"):
        workspace.sync(tmp_path)


# -- settings and life


def test_without_a_key_it_says_what_to_do(studio: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBFS_API_KEY")
    with pytest.raises(errors.SettingsError, match="no API key"):
        Workspace("abc")


def test_server_and_key_can_be_given_and_the_key_is_never_shown(
    studio: RunningServer, job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBFS_URL", "https://other.example")
    monkeypatch.setenv("JOBFS_API_KEY", "not-the-key")
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_text(studio.api_key)
    with (
        Workspace(job, url=studio.url, api_key_file=file) as one,
        Workspace(job, url=studio.url, api_key=studio.api_key, state=tmp_path / "elsewhere") as other,
    ):
        one.write("note", b"1")
        other.write("note", b"2")
        assert one.read("note") == b"2"
        assert studio.api_key not in repr(one) + repr(vars(one._workspace)) + repr(vars(one._workspace._connection))
    assert (tmp_path / "elsewhere" / "journals").is_dir()


def test_a_wrong_key_and_an_unknown_job_are_told_apart(studio: RunningServer, job: str) -> None:
    with Workspace(job, api_key="jobfs_k_wrong") as workspace, pytest.raises(errors.Unauthenticated):
        workspace.list()
    with Workspace("z" * 24) as workspace, pytest.raises(errors.NotFound):
        workspace.list()
    with pytest.raises(errors.SettingsError):
        Workspace(f"{job}:/file")


def test_a_closed_workspace_says_so(job: str) -> None:
    workspace = Workspace(job)
    workspace.close()
    workspace.close()
    with pytest.raises(errors.Refused, match="is closed"):
        workspace.list()


def test_what_another_thread_waits_for_ends_when_the_workspace_is_closed(job: str) -> None:
    workspace = Workspace(job)
    is_waiting = threading.Event()

    async def wait() -> None:
        is_waiting.set()
        await asyncio.get_running_loop().create_future()

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(workspace._run, wait())
        assert is_waiting.wait(DEADLINE_S)
        workspace.close()
        with pytest.raises(errors.Refused, match="is closed"):
            waiting.result(DEADLINE_S)


def test_several_threads_may_use_one_workspace(studio: RunningServer, workspace: Workspace) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: workspace.write(f"new/directory/{n}", str(n), parents=True), range(24)))
    held = studio.contents(workspace.job)
    assert {path: content for path, content in held.items() if content is not None} == {
        f"new/directory/{n}": str(n).encode() for n in range(24)
    }
    assert sorted(path for path, content in held.items() if content is None) == ["new", "new/directory"]


def test_ctrl_c_ends_what_is_awaited_before_it_is_raised() -> None:
    ended = threading.Event()

    async def forever() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            ended.set()

    portal = Portal("test-portal")
    try:
        with pytest.raises(KeyboardInterrupt):
            portal.run(forever())
        assert ended.is_set()
    finally:
        portal.close()


def test_importing_jobfs_loads_nothing_else_until_a_name_is_asked_for() -> None:
    code = (
        "import sys; before = set(sys.modules); import jobfs;"
        "print(sorted(name for name in set(sys.modules) - before if name.startswith(('jobfs', 'httpx', 'pydantic'))));"
        "print(jobfs.Workspace.__module__)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['jobfs']", "jobfs.workspace.blocking"]


def test_what_type_checkers_are_told_is_what_there_is() -> None:
    stub = Path(jobfs.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    told = {line.split(" as ")[1] for line in stub.splitlines() if " as " in line} | {"__version__"}
    assert told == set(jobfs.__all__) == {name for name in dir(jobfs) if name in jobfs.__all__}
    assert all(getattr(jobfs, name) for name in jobfs.__all__)
    with pytest.raises(AttributeError):
        jobfs.nothing  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    "wrong",
    [
        lambda workspace: Workspace(None),
        lambda workspace: Workspace(workspace.job, colour=1),
        lambda workspace: workspace.list(None),
        lambda workspace: workspace.read(5),
        lambda workspace: workspace.sync("folder", direction="sideways"),
        lambda workspace: workspace.sync("folder", conflict="sideways"),
    ],
)
def test_what_makes_no_sense_is_said_in_words(workspace: Workspace, wrong: Any) -> None:
    with pytest.raises(SettingsError):
        wrong(workspace)


def test_the_module_offers_what_is_public_and_the_errors() -> None:
    assert {name for name in dir(jobfs) if not name.startswith("_")} == {*jobfs.__all__} - {"__version__"}
    done = subprocess.run(
        [sys.executable, "-c", "import jobfs; print(jobfs.errors.NotFound.exit_code)"], capture_output=True, check=True
    )
    assert done.stdout == b"4\n"


def test_what_is_found_is_short_at_a_prompt(studio: RunningServer, job: str, workspace: Workspace) -> None:
    item = studio.put_item(job, "d/notes.md", b"x" * 1234)
    directory, file = workspace.list()[0], workspace.list("d")[0]
    assert repr(file).startswith("<Found 'd/notes.md', 1,234 bytes, 20")
    assert repr(directory).startswith("<Found 'd', directory")
    assert (len(repr(file)) < 80, item.id in repr(file)) == (True, False)
