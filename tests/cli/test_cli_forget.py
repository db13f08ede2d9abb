"""``jobfs forget``: what has ended goes from this machine, and nothing that is nowhere else goes unasked."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from commands import in_process

from jobfs import Workspace
from jobfs.errors import NotFound
from jobfs.folder.disk import PROBE
from jobfs.server.running import RunningServer
from jobfs.workspace import forgetting
from jobfs.workspace.instance import MOUNT, Instance, instances

NO_JOB = "a" * 24


def kept(state_dir: Path) -> list[Path]:
    """Return every file and folder that is left of workspaces."""
    return [path for place in ("workspaces", "forgotten") for path in (state_dir / place).rglob("*")]


@pytest.fixture
def folder(studio: RunningServer, job: str, tmp_path: Path) -> Path:
    """A folder that was in step when that ended."""
    studio.put_item(job, "a", b"one")
    in_process("sync", job, tmp_path / "folder", "--once").ok()
    return tmp_path / "folder"


def test_of_a_forgotten_folder_its_files_stay_and_it_can_be_synchronised_anew(
    studio: RunningServer, job: str, folder: Path, state_dir: Path
) -> None:
    assert "is forgotten" in in_process("forget", folder).ok()
    assert kept(state_dir) == []
    assert [path.name for path in folder.iterdir()] == ["a"]
    assert json.loads(in_process("status", "--json").ok()) == []
    in_process("sync", job, folder, "--once").ok()
    assert studio.contents(job) == {"a": b"one"}


def test_a_folder_that_is_gone_is_forgotten_and_comes_anew(job: str, folder: Path) -> None:
    shutil.rmtree(folder)
    refused = in_process("sync", job, folder, "--once")
    assert (refused.code, "jobfs forget" in refused.err) == (6, True)
    in_process("forget", folder).ok()
    in_process("sync", job, folder, "--once").ok()
    assert (folder / "a").read_bytes() == b"one"


def test_another_folder_at_the_place_keeps_its_mark(folder: Path) -> None:
    (folder / ".jobfs" / "folder").write_text("another\n")
    in_process("forget", folder).ok()
    assert (folder / ".jobfs" / "folder").read_text() == "another\n"


def test_what_was_cut_off_in_the_middle_goes_the_next_time(state_dir: Path, folder: Path) -> None:
    (state_dir / "forgotten" / "0123-ab" / "blobs").mkdir(parents=True)
    (state_dir / "forgotten" / "0123-ab" / "state.db").write_bytes(b"x")
    assert [one.directory for one in instances()] == [str(folder)]
    in_process("forget", folder).ok()
    assert kept(state_dir) == []


def test_all_that_belongs_to_a_job_is_named_by_the_job(job: str, folder: Path, tmp_path: Path, state_dir: Path) -> None:
    in_process("sync", job, tmp_path / "second", "--once").ok()
    assert len(in_process("forget", job).ok().splitlines()) == 2
    assert kept(state_dir) == []


def test_what_runs_is_not_forgotten_and_the_way_out_is_named(job: str, folder: Path) -> None:
    in_process("sync", job, folder, "--background").ok()
    try:
        refused = in_process("forget", folder, "--yes")
        assert refused.code == 6
        assert f"jobfs umount {folder}" in refused.err
        assert json.loads(in_process("status", "--json", folder).ok())[0]["isRunning"]
    finally:
        in_process("umount", folder)
    in_process("forget", folder).ok()


@pytest.mark.mount
@pytest.mark.parametrize(("name", "remedy"), [("held.md", "jobfs push"), (".git", "mount it again")])
def test_what_is_nowhere_else_is_only_forgotten_with_yes(
    job: str, mount_point: Path, state_dir: Path, name: str, remedy: str
) -> None:
    in_process("mount", job, mount_point, "--hold").ok()
    (mount_point / name).write_text("mine")
    in_process("umount", mount_point).ok()
    refused = in_process("forget", mount_point)
    assert (refused.code, remedy in refused.err) == (9, True)
    assert "B freed" in in_process("forget", mount_point, "--yes").ok()
    assert kept(state_dir) == []


def test_a_damaged_state_is_only_forgotten_with_yes(folder: Path, state_dir: Path) -> None:
    (state,) = (state_dir / "workspaces").iterdir()
    (state / "state.db").write_bytes(b"no database" * 100)
    assert in_process("forget", folder).code == 9
    in_process("forget", folder, "--yes").ok()
    assert kept(state_dir) == []


def test_what_never_was_is_refused(state_dir: Path, tmp_path: Path) -> None:
    refused = in_process("forget", tmp_path / "nothing")
    assert (refused.code, "was ever mounted" in refused.err) == (6, True)


def test_many_at_once_do_not_get_into_each_others_way(state_dir: Path) -> None:
    states = [state_dir / "workspaces" / f"{number:016x}" for number in range(16)]
    for state in states:
        (state / "blobs").mkdir(parents=True)
        for number in range(50):
            (state / "blobs" / str(number)).write_bytes(b"x" * 4096)
    every = [Instance(state, MOUNT, "/nowhere", "", "job", "", 0, 0.0) for state in states]
    with ThreadPoolExecutor(len(every)) as threads:
        freed = list(threads.map(forgetting.forget, every))
    assert (kept(state_dir), sum(freed) > 0) == ([], True)


# -- what never began


WRONG = {"wrong key": ("JOBFS_API_KEY", "psk_wrong"), "no server": ("JOBFS_URL", "http://127.0.0.1:9")}


@pytest.mark.parametrize("how", ["wrong job", "wrong key", "no server"])
@pytest.mark.parametrize(
    "words", [["sync", "--once"], ["sync", "--background"], ["pull"], ["push"], ["mount"]], ids=" ".join
)
def test_nothing_stays_of_what_never_worked(
    job: str, tmp_path: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch, how: str, words: list[str]
) -> None:
    if how in WRONG:
        monkeypatch.setenv(*WRONG[how])
    folder = tmp_path / "new" / "folder"
    if words == ["mount"]:
        folder.mkdir(parents=True)
    failed = in_process(*words, NO_JOB if how == "wrong job" else job, folder)
    assert failed.code in (3, 4, 5)
    assert in_process("status").ok() == "nothing is mounted or synchronised\n"
    assert (kept(state_dir), (tmp_path / "new").exists()) == ([], words == ["mount"])


def test_a_folder_that_was_tried_with_the_wrong_job_is_free_for_the_right_one(
    studio: RunningServer, job: str, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a").write_text("1")
    assert in_process("sync", NO_JOB, tmp_path / "mine", "--background").code == 4
    with pytest.raises(NotFound), Workspace(NO_JOB) as workspace:
        workspace.sync(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["a"]
    in_process("sync", job, tmp_path / "mine", "--once").ok()
    assert studio.contents(job) == {"a": b"1"}


def test_a_folder_whose_mark_cannot_be_taken_off_keeps_its_state_and_is_synchronised_later(
    studio: RunningServer, job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine" / PROBE).mkdir(parents=True)  # no file, as it would have to be
    (tmp_path / "mine" / "a").write_text("1")
    with monkeypatch.context() as wrong:
        wrong.setenv("JOBFS_API_KEY", "psk_wrong")
        assert in_process("sync", job, tmp_path / "mine", "--once").code == 3
    in_process("sync", job, tmp_path / "mine", "--once").ok()
    assert studio.contents(job) == {"a": b"1"}


def test_what_worked_once_stays_when_the_server_is_gone_the_next_time(
    job: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a").write_text("two")
    monkeypatch.setenv("JOBFS_API_KEY", "psk_wrong")
    assert in_process("sync", job, folder, "--once").code == 3
    assert f"was in step with {folder}" in in_process("status").ok()
    assert (folder / "a").read_text() == "two"
