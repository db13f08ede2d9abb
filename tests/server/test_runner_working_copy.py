"""An expert's working directory: filled from a real server state, and stored back without harm to anybody's bytes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobfs.server.bodies import StartJob
from jobfs.server.items import ItemRecord, Owner
from jobfs.server.sandbox import Sandbox
from jobfs.server.state import ServerState
from jobfs.server.switches import Switches
from jobfs.server.working_copy import RESTLESS_MS, Change, Deed, WorkingCopy, beside
from jobfs.server.workspace import Change as ItemChange
from jobfs.server.workspace import Draft


class Scene:
    """One job on one server, its workspace, and a working directory with a clock that only the test moves."""

    def __init__(self, folder: Path, *, max_files: int = 100) -> None:
        self.now_ms = 1_700_000_000_000
        self.state = ServerState(folder / "data", clock=lambda: self.now_ms)
        self.state.first_start()
        row = self.state.storage.one("SELECT id FROM application")
        assert row is not None
        with self.state.transaction():
            job = self.state.jobs.create(row["id"], StartJob(expertKey="x", query="q"), [])
        self.view = self.state.jobs.view(job)
        self.sandbox = Sandbox(self.state, job.id)
        self.root = folder / "run"
        self.root.mkdir()
        self.copy = WorkingCopy(self.root, self.sandbox, clock=lambda: self.now_ms, max_files=max_files)

    def put(self, path: str, content: bytes, *, owner: Owner = "user", is_shared: bool = False) -> ItemRecord:
        """Put a file into the workspace as somebody who does not use the working copy."""
        with self.sandbox.writer() as writer:
            writer.write(content)
            draft = Draft(path, is_directory=False, owner=owner, key=writer.key, size=writer.size)
            with self.state.transaction():
                record = self.state.rules.overwrite(self.view, draft)
                if is_shared:
                    record = self.state.rules.update(self.view, record.id, ItemChange(is_shared=True))
            writer.keep()
        return record

    def remove(self, path: str) -> None:
        record = self.sandbox.at(path)
        assert record is not None
        self.sandbox.delete(record)

    def fill(self) -> None:
        asyncio.run(self.copy.fill())

    def store(self, *, is_final: bool = False) -> list[Change]:
        return asyncio.run(self.copy.store(is_final=is_final))

    def write(self, path: str, content: bytes, *, mtime_s: int = 0) -> None:
        """Write a file in the working directory, as the command does."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        if mtime_s:
            os.utime(place, (mtime_s, mtime_s))

    def tree(self) -> dict[str, bytes | None]:
        """Return the workspace as everybody sees it: bytes by path, None for a directory."""
        return {
            record.path: None if record.is_directory else self.sandbox.content(record.key).read_bytes()
            for record in self.sandbox.items()
        }


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.state.close()


def on_disk(root: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in sorted(root.rglob("*"))
    }


# ------------------------------------------------------------------------------------------------------------ filling


def test_the_copy_holds_what_the_workspace_holds(scene: Scene) -> None:
    scene.put("docs/a.txt", b"alpha")
    scene.put("b.bin", bytes(range(256)))
    scene.put("empty", b"")
    scene.fill()
    assert on_disk(scene.root) == scene.tree() != {}


def test_nothing_is_stored_when_the_command_changed_nothing(scene: Scene) -> None:
    scene.put("docs/a.txt", b"alpha")
    scene.fill()
    assert (scene.store(), scene.store(), scene.store(is_final=True)) == ([], [], [])


def test_the_jobs_own_file_comes_before_the_applications_default(scene: Scene) -> None:
    scene.put("a.txt", b"default", is_shared=True)
    scene.put("a.txt", b"own")
    scene.put("b.txt", b"default", is_shared=True)
    scene.fill()
    assert on_disk(scene.root) == {"a.txt": b"own", "b.txt": b"default"}


def test_files_that_a_client_keeps_while_it_replaces_another_are_not_shown_to_the_expert(scene: Scene) -> None:
    scene.put(".a.txt.jobfs-0a1b2c3d.new", b"half")
    scene.put(".a.txt.jobfs-0a1b2c3d.old", b"old")
    scene.put(".env", b"real")
    scene.fill()
    assert on_disk(scene.root) == {".env": b"real"}
    assert scene.store(is_final=True) == []
    assert len(scene.state.storage.items.below(scene.view.own, "")) == 0
    assert scene.sandbox.at(".a.txt.jobfs-0a1b2c3d.old") is not None


def test_a_read_only_file_cannot_be_written_by_accident(scene: Scene) -> None:
    record = scene.put("a.txt", b"alpha")
    with scene.state.transaction():
        scene.state.rules.update(scene.view, record.id, ItemChange(permission="readOnly"))
    scene.fill()
    assert (scene.root / "a.txt").stat().st_mode & 0o777 == 0o444


def test_a_name_that_this_system_cannot_hold_is_left_out_and_not_deleted(scene: Scene) -> None:
    long_name = "x" * 300
    scene.put(long_name, b"alpha")
    scene.fill()
    assert scene.store(is_final=True) == []
    assert (set(scene.copy.left_out), set(scene.tree())) == ({long_name}, {long_name})


# ------------------------------------------------------------------------------------------------------------ storing


def test_a_file_is_stored_at_the_second_look_that_finds_it_unchanged(scene: Scene) -> None:
    scene.fill()
    scene.write("report.md", b"half")
    assert scene.store() == []
    scene.write("report.md", b"whole thing")
    assert scene.store() == []
    assert scene.store() == [Change(Deed.WRITE, "report.md")]
    assert scene.tree() == {"report.md": b"whole thing"}
    assert scene.store() == []


def test_what_the_expert_makes_is_the_experts_with_a_fitting_type(scene: Scene) -> None:
    scene.fill()
    scene.write("out/chart.svg", b"<svg/>")
    scene.store(is_final=True)
    chart, folder = scene.sandbox.at("out/chart.svg"), scene.sandbox.at("out")
    assert chart is not None
    assert folder is not None
    assert (chart.owner, chart.mime_type, chart.permission) == ("expert", "image/svg+xml", "readWrite")
    assert (folder.owner, folder.is_directory) == ("expert", True)


def test_directories_appear_at_once_and_before_what_they_hold(scene: Scene) -> None:
    scene.fill()
    scene.write("a/b/c.txt", b"x")
    assert scene.store() == [Change(Deed.MAKE_DIRECTORY, "a"), Change(Deed.MAKE_DIRECTORY, "a/b")]
    assert scene.store() == [Change(Deed.WRITE, "a/b/c.txt")]


def test_a_file_that_never_rests_is_stored_all_the_same(scene: Scene) -> None:
    scene.fill()
    stored: list[bytes | None] = []
    for second in range(1, 6):
        scene.write("log.txt", b"line\n" * second, mtime_s=second)
        scene.store()
        stored.append(scene.tree().get("log.txt"))
        scene.now_ms += RESTLESS_MS // 2
    assert stored == [None, None, b"line\n" * 3, b"line\n" * 3, b"line\n" * 3]


def test_at_the_end_everything_is_stored_at_once(scene: Scene) -> None:
    scene.put("gone.txt", b"x")
    scene.fill()
    scene.write("new.txt", b"y")
    (scene.root / "gone.txt").unlink()
    assert scene.store(is_final=True) == [Change(Deed.WRITE, "new.txt"), Change(Deed.DELETE, "gone.txt")]
    assert scene.tree() == {"new.txt": b"y"}


def test_a_changed_file_keeps_its_item(scene: Scene) -> None:
    before = scene.put("a.txt", b"old")
    scene.fill()
    scene.write("a.txt", b"new")
    assert scene.store(is_final=True) == [Change(Deed.WRITE, "a.txt")]
    after = scene.sandbox.at("a.txt")
    assert after is not None
    assert (after.id, scene.tree()) == (before.id, {"a.txt": b"new"})


def test_a_change_of_the_same_size_right_after_the_start_is_seen(scene: Scene) -> None:
    scene.put("a.txt", b"old")
    scene.fill()
    with (scene.root / "a.txt").open("r+b") as file:
        file.write(b"new")
    scene.store(is_final=True)
    assert scene.tree() == {"a.txt": b"new"}


def test_a_file_that_was_only_touched_is_not_stored_again(scene: Scene) -> None:
    before = scene.put("a.txt", b"same")
    scene.fill()
    (scene.root / "a.txt").touch()
    assert scene.store(is_final=True) == []
    assert scene.sandbox.at("a.txt") == before


def test_a_save_by_way_of_a_temporary_name_is_one_change(scene: Scene) -> None:
    before = scene.put("a.txt", b"old")
    scene.fill()
    (scene.root / "a.txt").unlink()
    assert scene.store() == []
    scene.write("a.txt", b"new")
    assert scene.store() == []
    assert scene.store() == [Change(Deed.WRITE, "a.txt")]
    after = scene.sandbox.at("a.txt")
    assert after is not None
    assert after.id == before.id


def test_a_deletion_is_stored_at_the_second_look_with_the_deepest_first(scene: Scene) -> None:
    scene.put("d/e/f.txt", b"x")
    scene.fill()
    (scene.root / "d/e/f.txt").unlink()
    (scene.root / "d/e").rmdir()
    (scene.root / "d").rmdir()
    assert scene.store() == []
    assert scene.store() == [Change(Deed.DELETE, path) for path in ("d/e/f.txt", "d/e", "d")]
    assert scene.tree() == {}


def test_links_and_names_that_the_workspace_does_not_take_are_left_out_and_named(scene: Scene) -> None:
    scene.fill()
    (scene.root / "link").symlink_to("/etc/hostname")
    scene.write("bad\nname", b"x")
    os.mkfifo(scene.root / "pipe")
    (scene.root / os.fsdecode(b"not-utf8-\xff")).write_bytes(b"x")
    assert scene.store(is_final=True) == []
    assert scene.tree() == {}
    assert set(scene.copy.left_out) == {"link", "bad\nname", "pipe", "not-utf8-\udcff"}
    assert scene.copy.left_out["bad\nname"] == "Invalid path"


def test_no_more_files_are_added_than_the_expert_may(tmp_path: Path) -> None:
    scene = Scene(tmp_path, max_files=2)
    scene.put("old.txt", b"x")
    scene.fill()
    scene.write("old.txt", b"changed")
    for name in ("1", "2", "3"):
        scene.write(name, b"y")
    scene.store(is_final=True)
    assert scene.tree() == {"1": b"y", "2": b"y", "old.txt": b"changed"}
    assert scene.copy.has_too_many_files
    scene.state.close()


# --------------------------------------------------------------------------------------------- others at the same time


def test_a_file_that_somebody_changed_meanwhile_keeps_its_bytes_and_the_experts_go_beside_it(scene: Scene) -> None:
    scene.put("notes/a.txt", b"start")
    scene.fill()
    scene.put("notes/a.txt", b"the user's")
    scene.write("notes/a.txt", b"the expert's")
    assert scene.store(is_final=True) == [Change(Deed.WRITE, "notes/a (from the expert).txt")]
    assert scene.tree() == {
        "notes": None,
        "notes/a.txt": b"the user's",
        "notes/a (from the expert).txt": b"the expert's",
    }


def test_later_versions_of_a_file_that_went_beside_stay_there(scene: Scene) -> None:
    scene.put("a.txt", b"start")
    scene.fill()
    scene.put("a.txt", b"the user's")
    scene.write("a.txt", b"first", mtime_s=1)
    scene.store(is_final=True)
    scene.write("a.txt", b"second", mtime_s=2)
    assert scene.store(is_final=True) == [Change(Deed.WRITE, "a (from the expert).txt")]
    assert scene.tree() == {"a.txt": b"the user's", "a (from the expert).txt": b"second"}


def test_a_new_file_at_a_path_that_somebody_took_meanwhile_goes_beside(scene: Scene) -> None:
    scene.fill()
    scene.put("report.md", b"the user's")
    scene.put("report (from the expert).md", b"also the user's")
    scene.write("report.md", b"the expert's")
    scene.store(is_final=True)
    assert scene.tree() == {
        "report.md": b"the user's",
        "report (from the expert).md": b"also the user's",
        "report (from the expert 2).md": b"the expert's",
    }


def test_the_same_bytes_from_both_sides_are_no_conflict(scene: Scene) -> None:
    scene.fill()
    scene.put("report.md", b"the same")
    scene.write("report.md", b"the same")
    assert scene.store(is_final=True) == []
    assert scene.tree() == {"report.md": b"the same"}


def test_a_file_that_somebody_changed_meanwhile_is_not_deleted(scene: Scene) -> None:
    scene.put("a.txt", b"start")
    scene.fill()
    scene.put("a.txt", b"the user's")
    (scene.root / "a.txt").unlink()
    assert scene.store(is_final=True) == []
    assert scene.tree() == {"a.txt": b"the user's"}


def test_a_file_that_somebody_deleted_meanwhile_comes_back_only_if_the_expert_changed_it(scene: Scene) -> None:
    scene.put("changed.txt", b"x")
    scene.put("unchanged.txt", b"x")
    scene.fill()
    scene.remove("changed.txt")
    scene.remove("unchanged.txt")
    scene.write("changed.txt", b"the expert's")
    scene.store(is_final=True)
    assert scene.tree() == {"changed.txt": b"the expert's"}


def test_a_directory_into_which_somebody_put_a_file_meanwhile_is_not_deleted(scene: Scene) -> None:
    scene.put("d/old.txt", b"x")
    scene.fill()
    scene.put("d/new.txt", b"the user's")
    (scene.root / "d/old.txt").unlink()
    (scene.root / "d").rmdir()
    assert scene.store(is_final=True) == [Change(Deed.DELETE, "d/old.txt")]
    assert scene.tree() == {"d": None, "d/new.txt": b"the user's"}


def test_a_default_of_the_application_is_shadowed_when_changed_and_kept_when_deleted(scene: Scene) -> None:
    changed = scene.put("changed.txt", b"default", is_shared=True)
    scene.put("deleted.txt", b"default", is_shared=True)
    scene.fill()
    scene.write("changed.txt", b"the expert's")
    (scene.root / "deleted.txt").unlink()
    assert scene.store(is_final=True) == [Change(Deed.WRITE, "changed.txt")]
    assert scene.tree() == {"changed.txt": b"the expert's", "deleted.txt": b"default"}
    assert scene.state.storage.items.get(changed.id) == changed


def test_where_read_only_is_enforced_the_experts_version_is_named_as_left_out(scene: Scene) -> None:
    record = scene.put("a.txt", b"start")
    with scene.state.transaction():
        scene.state.rules.update(scene.view, record.id, ItemChange(permission="readOnly"))
    scene.state.switches = Switches(readonly="enforced")
    scene.fill()
    (scene.root / "a.txt").unlink()
    scene.write("a.txt", b"the expert's")
    assert scene.store(is_final=True) == []
    assert scene.tree() == {"a.txt": b"start"}
    assert scene.copy.left_out == {"a.txt": "Workspace item is read-only"}


@pytest.mark.parametrize(
    ("path", "number", "expected"),
    [
        ("a.txt", 1, "a (from the expert).txt"),
        ("d/a.tar.gz", 2, "d/a.tar (from the expert 2).gz"),
        (".env", 1, ".env (from the expert)"),
        ("Makefile", 1, "Makefile (from the expert)"),
    ],
)
def test_the_name_beside_keeps_the_ending(path: str, number: int, expected: str) -> None:
    assert beside(path, number) == expected
