"""The same work through both faces of the API, for each value of each of the server's switches that are about files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from jobfs import Permission, Workspace
from jobfs.filesystem.jobs import JobFileSystem
from jobfs.server.running import RunningServer
from jobfs.server.switches import Switches, choices, parse

LARGE = bytes(range(256)) * 34_000
PAIRS = ["dir_move=orphan,list_order=shuffled"]
DOWNLOADS = ["", "range=honour", "range=honour,chunked=on", "chunked=on", "range=honour,etag=on"]
OF_JOBS_AND_RUNS = {
    *("model_check", "accept_response", "resume_from", "hold_queued", "checkpoint_key", "sse"),
    *("artifact_redirect", "artifact_size", "upload_transport"),
}
SWITCHES = [
    f"{name}={value}" for name, values in choices().items() if name not in OF_JOBS_AND_RUNS for value in values[1:]
]

FINAL = {
    "kept": None,
    "kept/expert.md": b"from the expert",
    "moved": None,
    "moved/inner": None,
    "moved/inner/x": b"x",
    "moved/y": b"y",
    "report with [brackets] 100%.txt": b"odd",
    "save.txt": b"saved twice and on",
    "swap": b"b",
}


@pytest.fixture
def switched(studio: RunningServer, request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """The server as the test wants it; set back afterwards."""
    studio.switches = parse(request.param.split(",")) if request.param else Switches()
    yield studio
    studio.switches = Switches()


@pytest.fixture
def started(switched: RunningServer) -> str:
    """A job that has files already."""
    job = switched.create_job(status="completed")
    for path, content in (("dir/inner/x", b"x"), ("dir/y", b"y"), ("swap", b"a"), ("b", b"b"), ("save.txt", b"old")):
        switched.put_item(job, path, content)
    switched.put_item(job, "kept", None)
    return job


def by_workspace(server: RunningServer, job: str) -> None:
    with Workspace(job) as workspace:
        workspace.write("report with [brackets] 100%.txt", b"odd")
        workspace.write("save.txt", b"saved once")
        workspace.set_permission("save.txt", Permission.READ_ONLY)
        workspace.set_permission("save.txt", Permission.READ_WRITE)
        workspace.write("save.txt", b"saved twice")
        with workspace.open("save.txt", "a") as file:
            file.write(" and on")
        workspace.write("made/deep/gone", b"gone", parents=True)
        workspace.move("dir", "moved")
        workspace.move("b", "swap")
        workspace.remove("made", recursive=True)
        server.expert_writes(job, "kept/expert.md", b"from the expert")
        assert workspace.read("kept/expert.md") == b"from the expert"
        assert sorted(found.path for found in workspace.find()) == sorted(FINAL)


def by_file_system(server: RunningServer, job: str) -> None:
    fs: Any = JobFileSystem(skip_instance_cache=True)
    try:
        fs.pipe_file(f"{job}/report with [brackets] 100%.txt", b"odd")
        fs.pipe_file(f"{job}/save.txt", b"saved once")
        fs.pipe_file(f"{job}/save.txt", b"saved twice")
        with fs.open(f"{job}/save.txt", "ab") as file:
            file.write(b" and on")
        fs.pipe_file(f"{job}/made/deep/gone", b"gone")
        fs.mv(f"{job}/dir", f"{job}/moved", recursive=True)
        fs.mv(f"{job}/b", f"{job}/swap")
        fs.rm(f"{job}/made", recursive=True)
        server.expert_writes(job, "kept/expert.md", b"from the expert")
        assert fs.cat_file(f"{job}/kept/expert.md") == b"from the expert"
        assert fs.find(job, withdirs=True) == [job, *(f"{job}/{path}" for path in sorted(FINAL))]
    finally:
        fs.close()


@pytest.mark.slow
@pytest.mark.parametrize("switched", ["", *SWITCHES, *PAIRS], indirect=True)
@pytest.mark.parametrize("work", [by_workspace, by_file_system])
def test_the_work_ends_alike_whatever_the_server_answers(switched: RunningServer, started: str, work: Any) -> None:
    work(switched, started)
    assert switched.contents(started) == FINAL


@pytest.mark.parametrize("switched", DOWNLOADS, indirect=True)
def test_parts_of_a_large_file_are_right_however_it_is_sent(switched: RunningServer, started: str) -> None:
    switched.put_item(started, "large", LARGE)
    fs: Any = JobFileSystem(skip_instance_cache=True)
    places = [(8_400_000, 8_400_300), (0, 10), (len(LARGE) - 7, len(LARGE))]
    try:
        parts = fs.cat_ranges([f"{started}/large"] * 3, *zip(*places, strict=True), on_error="raise")
        assert parts == [LARGE[start:end] for start, end in places]
        with fs.open(f"{started}/large", cache_type="none") as file:
            file.seek(8_400_000)
            assert file.read(300) == LARGE[8_400_000:8_400_300]
    finally:
        fs.close()
