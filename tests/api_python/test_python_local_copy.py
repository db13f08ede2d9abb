"""``LocalCopy``: what this machine has of a workspace, asked by a script; running or not, mount or folder."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import in_process, mountable
from live_mount import look_until

from jobfs import AsyncLocalCopy, LocalCopy, Workspace
from jobfs.errors import GuardTripped, MountError, NoSuchVersion, NotFound, SettingsError
from jobfs.server.running import RunningServer


@pytest.fixture
def point(tmp_path: Path) -> Iterator[Path]:
    yield from mountable(tmp_path / "mounted")


def contents(studio: RunningServer, job: str) -> dict[str, bytes]:
    return {path: data for path, data in studio.contents(job).items() if data is not None}


@pytest.mark.mount
def test_changes_of_a_mount_are_held_seen_sent_and_undone_whether_it_runs_or_not(
    studio: RunningServer, job: str, point: Path
) -> None:
    studio.put_item(job, "notes", b"one\n")
    in_process("mount", job, point).ok()
    copy = LocalCopy(point / "anywhere" / "in it")
    assert (copy.directory, copy.job, copy.is_mount, copy.is_running) == (str(point), job, True, True)
    assert copy.hold() == 0
    (point / "notes").write_text("two\n")
    (point / "new").write_text("new\n")
    (point / "other").write_text("other\n")
    (edit,) = copy.differences("notes")
    assert (edit.path, edit.kind, edit.is_same, edit.old and edit.old.size) == ("notes", "file", False, 4)
    assert b"-one\n+two\n" in copy.diff("notes")
    assert [one.path for one in copy.differences()] == ["new", "notes", "other"]
    with pytest.raises(NotFound):
        copy.differences("nothing")
    assert (copy.push("new").sent, copy.revert("notes")) == (("new",), ["notes"])
    assert contents(studio, job) == {"notes": b"one\n", "new": b"new\n"}
    in_process("umount", point).ok()

    assert (copy.is_running, [one.path for one in copy.differences()]) == (False, ["other"])
    (told,) = json.loads(in_process("status", "--json").ok())
    assert (told["isRunning"], told["unsent"]) == (False, 1)
    assert copy.push().sent == ("other",)
    (told,) = json.loads(in_process("status", "--json").ok())
    assert (contents(studio, job)["other"], told["unsent"]) == (b"other\n", 0)
    assert copy.hold(is_on=False) == 0
    with pytest.raises(MountError):
        copy.refresh()


@pytest.mark.mount
def test_what_was_replaced_or_deleted_comes_back(studio: RunningServer, job: str, point: Path) -> None:
    in_process("mount", job, point).ok()

    async def work() -> None:
        copy = AsyncLocalCopy(point)
        for text in ("one", "two"):
            (point / "notes").write_text(text)
            await copy.push()
        (version,) = await copy.history("notes")
        assert (version.path, version.size, version.reason) == ("notes", 3, "replaced")
        with pytest.raises(NoSuchVersion):
            await copy.restore("notes", version.number + 1)
        put = await copy.restore("notes", version.number, to="beside")
        assert (put.path, put.is_changed, (point / "beside").read_text()) == ("beside", True, "one")
        (point / "notes").unlink()
        assert [one.path for one in await copy.deleted()] == ["notes"]
        (back,) = await copy.undelete("notes")
        assert (back.is_changed, back.failure, (point / "notes").read_text()) == (True, "", "two")

    asyncio.run(work())
    in_process("umount", point).ok()
    (version, *_) = LocalCopy(point).history("notes")
    assert LocalCopy(point).restore("notes", version.number).path == "notes"


@pytest.mark.mount
def test_what_the_server_has_is_here_when_a_refresh_returns(studio: RunningServer, job: str, point: Path) -> None:
    studio.set_status(job, "completed")
    in_process("mount", job, point).ok()
    copy = LocalCopy(point)
    for number in range(3):
        studio.put_item(job, "file", b"%d" % number)
        studio.put_item(job, f"dir{number}/a", b"x")
        copy.refresh()
        assert ((point / "file").read_bytes(), (point / f"dir{number}/a").read_bytes()) == (b"%d" % number, b"x")
    assert copy.status()["items"] == 7


@pytest.mark.allow_log("stopped: ")
def test_a_folder_that_a_script_synchronised_is_a_local_copy_and_shown(
    studio: RunningServer, job: str, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    with Workspace(job) as workspace:
        workspace.write("a", "1")
        assert [step.path for step in workspace.sync(folder, dry_run=True).steps] == ["a"]
        assert (folder.exists(), in_process("status").ok()) == (False, "nothing is mounted or synchronised\n")
        workspace.sync(folder)
    assert in_process("status").ok() == f"{job}  ended; was in step with {folder}\n"
    copy = LocalCopy(folder)
    (folder / "a").write_text("22")
    (folder / "b").write_text("3")
    assert ([one.path for one in copy.differences()], copy.is_mount) == (["a", "b"], False)
    assert copy.push("b").sent == ("a", "b")  # all of a folder that is not held goes
    assert contents(studio, job) == {"a": b"22", "b": b"3"}
    for name in ("a", "b"):
        (folder / name).unlink()
    with pytest.raises(GuardTripped):
        copy.push()
    assert copy.push(max_deletions=2).sent == ("a", "b")
    assert contents(studio, job) == {}


def test_when_a_script_has_sent_a_folder_that_nobody_serves_its_record_says_so(
    studio: RunningServer, job: str, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    with Workspace(job) as workspace:
        workspace.sync(folder)
    (folder / "a").write_text("1")
    assert LocalCopy(folder).push().sent == ("a",)
    assert contents(studio, job) == {"a": b"1"}
    assert "not sent" not in in_process("status").ok()


@pytest.mark.parametrize("what", ["push", "history"])
def test_what_a_script_asks_of_a_folder_that_has_ended_since_does_not_make_its_record_that_of_one_that_died(
    studio: RunningServer, job: str, tmp_path: Path, what: str
) -> None:
    folder = tmp_path / "folder"
    in_process("sync", job, folder, "--background").ok()
    copy = LocalCopy(folder)
    in_process("umount", folder).ok()
    assert list(copy.push().sent if what == "push" else copy.history()) == []
    (told,) = json.loads(in_process("status", "--json").ok())
    assert (told["isRunning"], told["isBrokenOff"]) == (False, False)


def test_a_folder_is_not_kept_in_step_inside_of_another_that_is_served(
    studio: RunningServer, job: str, tmp_path: Path
) -> None:
    in_process("sync", job, tmp_path / "outer", "--background").ok()
    with pytest.raises(SettingsError), Workspace(job) as workspace:
        workspace.sync(tmp_path / "outer" / "inner")
    refused = in_process("sync", job, tmp_path / "outer" / "inner", "--once")
    assert (refused.code, "is itself mounted or kept in step" in refused.err) == (2, True)
    in_process("umount", tmp_path / "outer").ok()


def test_most_of_a_running_folder_goes_only_on_the_users_word(studio: RunningServer, job: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name in "abcd":
        studio.put_item(job, f"d/{name}", b"x")
    in_process("sync", job, folder, "--background").ok()
    copy = LocalCopy(folder)
    (folder / "d").rename(tmp_path / "away")
    look_until(lambda: bool(copy.status()["guard"]))
    (folder / "e").write_text("y")
    look_until(lambda: "e" in contents(studio, job))
    shown = in_process("status", folder).ok()
    assert "stopped: 5 of 5 files and directories would be deleted on the server" in shown
    assert f"next: if that is meant: jobfs push --yes {folder}; to have the files back: jobfs revert {folder}" in shown
    stopped = in_process("push", folder)
    assert (stopped.code, sorted(contents(studio, job))) == (9, ["d/a", "d/b", "d/c", "d/d", "e"])
    assert copy.revert("d/a") == ["d", "d/a"]
    assert in_process("push", "--yes", folder).code == 0
    assert sorted(contents(studio, job)) == ["d/a", "e"]
    assert "stopped" not in in_process("status", folder).ok()
    in_process("umount", folder).ok()


@pytest.mark.mount
@pytest.mark.parametrize("kind", ["mount", "folder"])
def test_what_vanished_on_the_server_goes_here_only_on_the_users_word(
    studio: RunningServer, job: str, tmp_path: Path, point: Path, kind: str
) -> None:
    studio.set_status(job, "completed")
    place = point if kind == "mount" else tmp_path / "folder"
    for name in "abcd":
        studio.put_item(job, f"d/{name}", b"x")
    in_process(*(["mount", job, place] if kind == "mount" else ["sync", job, place, "--background"])).ok()
    with Workspace(job) as workspace:
        workspace.remove("d", recursive=True)
    stopped = in_process("refresh", place)
    assert (stopped.code, "5 of 5 files and directories would be deleted here" in stopped.err) == (9, True)
    next_step = f"next: if that is meant: jobfs refresh --yes {place}; until then the files stay here"
    assert next_step in in_process("status", place).ok()
    with pytest.raises(GuardTripped):
        LocalCopy(place).refresh(max_deletions=3)
    assert sorted(path.name for path in place.glob("d/*")) == ["a", "b", "c", "d"]
    in_process("refresh", "--yes", place).ok()
    assert (list(place.glob("d")), "stopped" in in_process("status", place).ok()) == ([], False)
    in_process("umount", place).ok()


def test_a_word_about_what_vanished_on_the_server_sends_no_deletion(
    studio: RunningServer, job: str, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    for name in "abcd":
        studio.put_item(job, f"d/{name}", b"x")
    in_process("sync", job, folder, "--background").ok()
    (folder / "d").rename(tmp_path / "away")
    look_until(lambda: bool(LocalCopy(folder).status()["guard"]))
    in_process("refresh", "--yes", folder).ok()
    assert sorted(contents(studio, job)) == ["d/a", "d/b", "d/c", "d/d"]
    assert "5 of 5 files and directories would be deleted on the server" in in_process("status", folder).ok()
    in_process("revert", "--yes", folder).ok()
    in_process("umount", folder).ok()


@pytest.mark.allow_log("stopped: ")
def test_what_the_server_gained_does_not_make_an_emptied_folder_look_less_empty(
    studio: RunningServer, job: str, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    for name in "abcd":
        studio.put_item(job, name, b"x")
    in_process("sync", job, folder, "--once").ok()
    for name in "abcd":
        (folder / name).unlink()
    studio.put_item(job, "new", b"y")
    assert in_process("sync", job, folder, "--dry-run").err.startswith("jobfs: it would be stopped: 4 of 4")
    assert (in_process("sync", job, folder, "--once").code, len(contents(studio, job))) == (9, 5)


@pytest.mark.mount
def test_the_status_of_one_path_says_where_its_bytes_are_and_what_is_next(
    studio: RunningServer, job: str, point: Path
) -> None:
    studio.put_item(job, "d/far", b"12345")
    in_process("mount", job, point).ok()

    def shown(name: str) -> str:
        return in_process("status", point / name).ok()

    assert shown("d/far") == "d/far, 5 B: its bytes are brought here when they are read\n"
    (point / "d" / "far").read_bytes()
    assert shown("d/far") == "d/far, 5 B: the server has it as it is here\n"
    (point / ".git").mkdir()
    assert shown(".git") == ".git/: stays on this machine, for its name is ignored\n"
    in_process("hold", point).ok()
    (point / "d" / "new").write_text("1")
    (point / "d" / "far").unlink()
    assert shown("d/new").startswith("d/new, 1 B: held: jobfs push PATH sends it")
    assert shown("d/far").startswith("d/far, deleted here: held")
    assert shown("d").splitlines()[1].startswith("  2 changes in it held")
    told = json.loads(in_process("status", "--json", point / "d" / "new").ok())
    assert (told["state"], told["size"]) == ("held", 1)
    assert in_process("status", point / "nothing").code == 4
    assert in_process("status", point.parent).code == 6
    in_process("umount", point)


def test_what_makes_no_sense_to_a_local_copy_is_said_in_words(studio: RunningServer, job: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="None is no path"):
        LocalCopy(None)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="colour"):
        LocalCopy(tmp_path, colour=1)  # type: ignore[call-arg]
    with Workspace(job) as workspace:
        workspace.write("a", "1")
        workspace.sync(tmp_path / "folder")
    copy = LocalCopy(tmp_path / "folder")
    with pytest.raises(SettingsError, match="number is of the wrong type, str"):
        copy.restore("nope", "x")  # type: ignore[arg-type]
    with pytest.raises(NoSuchVersion):
        copy.restore("nope", 1)
    with pytest.raises(SettingsError, match="path is of the wrong type, int"):
        copy.history(7)  # type: ignore[arg-type]
