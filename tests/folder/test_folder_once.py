"""One synchronisation: what changed on either side is on the other afterwards, and nothing is lost on the way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from folder_harness import OLD_NS, QUICK, Desk, run
from kept_versions import kept_bytes, kept_versions

from jobfs.errors import FolderError, GuardTripped, Unreachable
from jobfs.folder.disk import Disk, Listed
from jobfs.folder.report import What
from jobfs.folder.sync import SyncOptions
from jobfs.model import ROOT, ItemId, Permission, Trouble
from jobfs.planner.plan import ConflictPolicy

ONCE = SyncOptions(host="testhost", times=QUICK)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def copies(desk: Desk) -> dict[str, bytes | None]:
    """Return the conflict copies, the time in their names left out."""
    return {name.partition(" (conflict")[0]: data for name, data in desk.tree().items() if "(conflict from" in name}


# -- both directions


def test_a_first_synchronisation_brings_each_side_what_the_other_has(desk: Desk) -> None:
    desk.write("mine/deep/a.txt", "a")
    desk.write("both.txt", "same")
    desk.model.put("theirs", None)
    desk.model.put("theirs/b.txt", b"b")
    desk.model.put("both.txt", b"same")
    summary = run(desk.sync())
    assert (summary.count(What.PUSHED), summary.count(What.PULLED), summary.conflicts) == (1, 1, ())
    assert run(desk.in_step()) == {
        "both.txt": b"same",
        "mine": None,
        "mine/deep": None,
        "mine/deep/a.txt": b"a",
        "theirs": None,
        "theirs/b.txt": b"b",
    }


def test_an_unchanged_folder_costs_one_listing_and_no_write(desk: Desk) -> None:
    desk.write("a.txt", "a")
    desk.model.put("b.txt", b"b")
    run(desk.sync())
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in desk.root.iterdir()}
    desk.model.calls.clear()
    run(desk.sync())
    assert [name for name, _ in desk.model.calls] == ["status", "list_page"]
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in desk.root.iterdir()} == before


def test_edits_travel_both_ways(desk: Desk) -> None:
    desk.write("a.txt", "a")
    desk.write("b.txt", "b")
    run(desk.sync())
    desk.write("a.txt", "edited here")
    desk.model.put("b.txt", b"edited there")
    assert run(desk.in_step()) == {"a.txt": b"edited here", "b.txt": b"edited there"}


def test_a_file_that_is_only_touched_costs_no_request(desk: Desk) -> None:
    path = desk.write("a.txt", "a")
    run(desk.sync())
    os.utime(path, ns=(OLD_NS + 5, OLD_NS + 5))
    desk.model.calls.clear()
    run(desk.sync())
    assert desk.model.asked() == []
    assert path.stat().st_mtime_ns == OLD_NS + 5


def forget_revision(desk: Desk, name: str) -> None:
    """Leave a record as a death between the two records of a file does: base has the same bytes, by their hash."""
    with desk.opened() as state, state.transaction():
        record = state.local.get(state.local.child(ROOT, name) or ROOT)
        assert record is not None
        assert record.content is not None
        state.put_local(replace(record, content=replace(record.content, revision=None)))


def test_a_file_whose_bytes_are_known_by_their_hash_alone_follows_an_edit_there(desk: Desk) -> None:
    desk.write("a.txt", "same")
    run(desk.sync())
    forget_revision(desk, "a.txt")
    desk.model.put("a.txt", b"edited there")
    run(desk.sync())
    assert len(desk.model.asked("download")) == 1
    assert run(desk.in_step()) == {"a.txt": b"edited there"}


def test_a_file_whose_bytes_are_known_by_their_hash_alone_follows_a_deletion_there(desk: Desk) -> None:
    for name in ("a.txt", "kept"):
        desk.write(name, "same")
    run(desk.sync())
    forget_revision(desk, "a.txt")
    desk.model.remove("a.txt")
    run(desk.sync())
    assert run(desk.in_step()) == {"kept": b"same"}
    with desk.opened() as state:
        assert kept_bytes(state) == [b"same"]


def test_deletions_travel_both_ways(desk: Desk) -> None:
    for name in ("a", "b", "keep1", "keep2", "dir/c"):
        desk.write(name, name)
    run(desk.sync())
    (desk.root / "a").unlink()
    shutil.rmtree(desk.root / "dir")
    desk.model.remove("b")
    summary = run(desk.sync())
    assert (summary.count(What.DELETED_HERE), summary.count(What.DELETED_THERE)) == (1, 2)
    assert {event.path for event in desk.events if event.what is What.DELETED_THERE} == {"a", "dir"}
    assert run(desk.in_step()) == {"keep1": b"keep1", "keep2": b"keep2"}


def test_an_empty_file_and_an_empty_directory_travel(desk: Desk) -> None:
    desk.write("empty", "")
    (desk.root / "void").mkdir()
    desk.model.put("nothing", b"")
    assert run(desk.in_step()) == {"empty": b"", "nothing": b"", "void": None}


# -- renames


def test_renaming_a_directory_is_one_request_and_moves_no_bytes(desk: Desk) -> None:
    for number in range(5):
        desk.write(f"old/sub/{number}.txt", f"{number}")
    run(desk.in_step())
    (desk.root / "old").rename(desk.root / "new")
    run(desk.sync())
    changes = desk.model.asked("create_file", "create_directory", "delete", "download", "update")
    assert [name for name, _ in changes] == ["update"]
    assert set(run(desk.in_step())) == {"new", "new/sub", *(f"new/sub/{number}.txt" for number in range(5))}


def test_renaming_a_file_is_one_request_also_into_a_new_directory(desk: Desk) -> None:
    desk.write("a.txt", "a")
    run(desk.in_step())
    (desk.root / "dir").mkdir()
    (desk.root / "a.txt").rename(desk.root / "dir" / "b.txt")
    run(desk.sync())
    assert [name for name, _ in desk.model.asked()] == ["create_directory", "update"]
    assert run(desk.in_step()) == {"dir": None, "dir/b.txt": b"a"}


def test_a_file_that_was_copied_and_deleted_is_recognised_by_its_bytes(desk: Desk) -> None:
    desk.write("a.bin", b"x" * 1000)
    desk.write("stays", "s")
    run(desk.in_step())
    shutil.copyfile(desk.root / "a.bin", desk.write("b.bin", ""))
    os.utime(desk.root / "b.bin", ns=(OLD_NS, OLD_NS))
    (desk.root / "a.bin").unlink()
    run(desk.sync())
    assert [name for name, _ in desk.model.asked()] == ["update"]
    assert run(desk.in_step()) == {"b.bin": b"x" * 1000, "stays": b"s"}


def test_two_files_that_change_names_keep_who_they_are(desk: Desk) -> None:
    desk.write("a", "first")
    desk.write("b", "second!")
    run(desk.in_step())
    (desk.root / "a").rename(desk.root / "c")
    (desk.root / "b").rename(desk.root / "a")
    (desk.root / "c").rename(desk.root / "b")
    run(desk.sync())
    assert desk.model.asked("create_file", "delete", "download") == []
    assert run(desk.in_step()) == {"a": b"second!", "b": b"first"}


def test_a_directory_that_was_renamed_and_edited_travels_as_a_rename_and_an_edit(desk: Desk) -> None:
    for name in ("keep", "edit", "gone"):
        desk.write(f"old/{name}", name)
    run(desk.in_step())
    (desk.root / "old").rename(desk.root / "new")
    desk.write("new/edit", "edited")
    desk.write("new/added", "added")
    (desk.root / "new/gone").unlink()
    run(desk.sync())
    assert desk.model.asked("create_directory") == []
    assert run(desk.in_step()) == {"new": None, "new/added": b"added", "new/edit": b"edited", "new/keep": b"keep"}


def test_remote_renames_of_files_and_directories_are_renames_here(desk: Desk) -> None:
    desk.write("dir/a", "a")
    desk.write("b", "b")
    run(desk.in_step())
    inodes = {name: (desk.root / name).stat().st_ino for name in ("dir", "dir/a", "b")}
    run(desk.model.update(desk.model.at("dir").id, path="moved"))  # type: ignore[union-attr]
    run(desk.model.update(desk.model.at("b").id, path="moved/c"))  # type: ignore[union-attr]
    desk.model.calls.clear()
    summary = run(desk.sync())
    assert summary.count(What.MOVED_HERE) == 2
    found = {name: (desk.root / name).stat().st_ino for name in ("moved", "moved/a", "moved/c")}
    assert found == {"moved": inodes["dir"], "moved/a": inodes["dir/a"], "moved/c": inodes["b"]}


def test_an_editor_that_writes_beside_and_renames_over_makes_an_edit(desk: Desk) -> None:
    desk.write("doc.txt", "one")
    run(desk.in_step())
    item = desk.model.at("doc.txt")
    desk.write(".doc.tmp", "two").rename(desk.root / "doc.txt")
    assert run(desk.in_step()) == {"doc.txt": b"two"}
    assert item is not None


def test_an_editor_that_renames_a_backup_aside_keeps_both(desk: Desk) -> None:
    desk.write("doc.txt", "one")
    run(desk.in_step())
    (desk.root / "doc.txt").rename(desk.root / "doc.bak")
    desk.write("doc.txt", "two")
    assert run(desk.in_step()) == {"doc.bak": b"one", "doc.txt": b"two"}


def test_a_file_that_becomes_a_directory_travels_both_ways(desk: Desk) -> None:
    desk.write("a", "a")
    desk.write("b", "b")
    desk.write("c", "c")
    run(desk.in_step())
    (desk.root / "a").unlink()
    desk.write("a/inside", "in")
    desk.model.remove("b")
    desk.model.put("b", None)
    desk.model.put("b/inside", b"in")
    assert run(desk.in_step()) == {"a": None, "a/inside": b"in", "b": None, "b/inside": b"in", "c": b"c"}


# -- conflicts


def test_both_edited_keeps_both_and_the_remote_version_has_the_name(desk: Desk) -> None:
    desk.write("a.txt", "base")
    run(desk.in_step())
    desk.write("a.txt", "here")
    desk.model.put("a.txt", b"there")
    summary = run(desk.sync())
    assert (desk.tree()["a.txt"], copies(desk)) == (b"there", {"a": b"here"})
    assert [conflict.path for conflict in summary.conflicts] == ["a.txt"]
    run(desk.in_step())


def test_both_edited_alike_is_no_conflict(desk: Desk) -> None:
    desk.write("a.txt", "base")
    run(desk.in_step())
    desk.write("a.txt", "same")
    desk.model.put("a.txt", b"same")
    summary = run(desk.sync())
    assert (summary.conflicts, desk.tree()) == ((), {"a.txt": b"same"})


def test_the_policy_remote_keeps_the_local_bytes_in_the_history(desk: Desk) -> None:
    desk.write("a.txt", "base")
    run(desk.in_step())
    desk.write("a.txt", "here")
    desk.model.put("a.txt", b"there")
    run(desk.sync(replace(ONCE, conflict=ConflictPolicy.REMOTE)))
    assert desk.tree() == {"a.txt": b"there"}
    with desk.opened() as state:
        lost = [(path, data) for path, data, _ in kept_versions(state)]
    assert lost == [("a.txt", b"here")]


def test_the_policy_local_pushes_over_the_remote_version(desk: Desk) -> None:
    desk.write("a.txt", "base")
    run(desk.in_step())
    desk.write("a.txt", "here")
    desk.model.put("a.txt", b"there")
    run(desk.sync(replace(ONCE, conflict=ConflictPolicy.LOCAL)))
    assert (desk.tree(), desk.model.tree()) == ({"a.txt": b"here"}, {"a.txt": b"here"})
    with desk.opened() as state:
        lost = [(path, data) for path, data, _ in kept_versions(state)]
    assert lost == [("a.txt", b"there")]


def test_an_edit_beats_a_deletion_on_either_side(desk: Desk) -> None:
    for name in ("a", "b", "c", "d"):
        desk.write(name, name)
    run(desk.in_step())
    (desk.root / "a").unlink()
    desk.model.put("a", b"edited there")
    desk.write("b", "edited here")
    desk.model.remove("b")
    assert run(desk.in_step()) == {"a": b"edited there", "b": b"edited here", "c": b"c", "d": b"d"}


# -- metadata


def test_pulled_files_have_the_time_of_the_server_and_pushed_ones_keep_theirs(desk: Desk) -> None:
    desk.model.put("theirs", b"t")
    path = desk.write("mine", "m")
    run(desk.sync())
    assert path.stat().st_mtime_ns == OLD_NS
    assert (desk.root / "theirs").stat().st_mtime_ns == 1_767_225_600_001_000_000  # 2026-01-01T00:00:00.001Z


def test_the_execute_bit_survives_a_remote_edit(desk: Desk) -> None:
    path = desk.write("tool", "#!/bin/sh\n")
    path.chmod(0o755)
    run(desk.in_step())
    desk.model.put("tool", b"#!/bin/sh\necho\n")
    run(desk.sync())
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"#!/bin/sh\necho\n", 0o755)


def test_the_write_bit_of_files_travels_both_ways(desk: Desk) -> None:
    desk.write("a", "a").chmod(0o444)
    desk.write("b", "b")
    run(desk.sync())
    item = desk.model.at("b")
    assert item is not None
    run(desk.model.update(item.id, permission=Permission.READ_ONLY))
    run(desk.sync())
    assert [desk.model.at(name).permission for name in "ab"] == [Permission.READ_ONLY] * 2  # type: ignore[union-attr]
    assert (desk.root / "b").stat().st_mode & 0o222 == 0
    run(desk.in_step())


# -- what cannot be kept in step


def test_links_and_special_files_are_problems_and_never_followed(desk: Desk, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (desk.root / "link").symlink_to(outside)
    (desk.root / "file").symlink_to(outside / "secret")
    os.mkfifo(desk.root / "pipe")
    summary = run(desk.sync())
    assert [(problem.path, problem.trouble) for problem in summary.problems] == [
        (name, Trouble.UNSUPPORTED_KIND) for name in ("file", "link", "pipe")
    ]
    assert desk.model.tree() == {}


def test_a_directory_replaced_by_a_link_is_no_deletion_and_nothing_is_written_through_it(
    desk: Desk, tmp_path: Path
) -> None:
    desk.write("dir/a", "a")
    run(desk.in_step())
    outside = tmp_path / "outside"
    (desk.root / "dir").rename(outside)
    (desk.root / "dir").symlink_to(outside)
    desk.model.put("dir/a", b"changed")
    desk.model.put("dir/new", b"new")
    summary = run(desk.sync())
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"a": b"a"}
    assert desk.model.tree() == {"dir": None, "dir/a": b"changed", "dir/new": b"new"}
    assert "dir" in [problem.path for problem in summary.problems]


def test_a_remote_file_whose_place_a_link_has_waits_until_the_link_is_gone(desk: Desk) -> None:
    (desk.root / "a").symlink_to("nowhere")
    desk.model.put("a", b"a")
    summary = run(desk.sync())
    assert {problem.path for problem in summary.problems} == {"a"}
    (desk.root / "a").unlink()
    assert run(desk.in_step()) == {"a": b"a"}


def test_what_is_in_a_remote_directory_whose_place_a_link_has_waits_with_it(desk: Desk) -> None:
    (desk.root / "d").symlink_to("elsewhere")
    desk.model.put("d", None)
    desk.model.put("d/e", None)
    desk.model.put("d/e/a.txt", b"there")
    summary = run(desk.sync())
    assert [problem.path for problem in summary.problems] == ["d"]
    assert desk.model.tree() == {"d": None, "d/e": None, "d/e/a.txt": b"there"}
    (desk.root / "d").unlink()
    assert run(desk.in_step()) == {"d": None, "d/e": None, "d/e/a.txt": b"there"}


def test_a_name_that_is_not_utf8_is_a_problem_and_its_neighbours_travel(desk: Desk) -> None:
    (desk.root / "good").write_text("g")
    with open(os.fsencode(desk.root) + b"/bad\xff", "wb") as file:
        file.write(b"b")
    summary = run(desk.sync())
    assert [problem.trouble for problem in summary.problems] == [Trouble.INVALID_NAME]
    assert set(desk.model.tree()) == {"good"}


class Unreadable(Disk):
    """A disk whose directory ``dir`` cannot be listed, which the superuser cannot bring about."""

    def walk(self, top: str, is_ignored: Callable[[str, bool], bool]) -> Iterator[Listed]:
        for listed in super().walk(top, is_ignored):
            if listed.place == "dir":
                yield Listed("dir", error="Permission denied")
            elif not listed.place.startswith("dir/"):
                yield listed


def test_an_unreadable_directory_is_a_problem_and_no_deletion(desk: Desk) -> None:
    desk.write("dir/a", "a")
    desk.write("dir/sub/b", "b")
    run(desk.in_step())
    summary = run(desk.sync(make_disk=Unreadable))
    assert [(problem.path, problem.trouble) for problem in summary.problems] == [("dir", Trouble.UNREADABLE)]
    assert set(desk.model.tree()) == {"dir", "dir/a", "dir/sub", "dir/sub/b"}


def test_ignored_names_stay_here_and_a_pattern_added_later_deletes_nothing(desk: Desk) -> None:
    desk.write(".git/config", "c")
    desk.write("build/out", "o")
    desk.write("src/a", "a")
    run(desk.sync())
    assert set(desk.model.tree()) == {"build", "build/out", "src", "src/a"}
    desk.write(".jobfsignore", "build/\n")
    run(desk.sync())
    run(desk.sync())
    assert set(desk.model.tree()) == {".jobfsignore", "build", "build/out", "src", "src/a"}
    assert desk.tree()["build/out"] == b"o"
    desk.write("build/more", "m")
    desk.write(".jobfsignore", "")
    run(desk.sync())
    assert desk.model.tree()["build/more"] == b"m"
    assert desk.model.at(".git") is None


def test_a_directory_that_the_server_deleted_stays_while_it_holds_ignored_files(desk: Desk) -> None:
    desk.write("pkg/a.py", "a")
    desk.write("pkg/__pycache__/a.pyc", "cached")
    desk.write("other", "o")
    run(desk.sync())
    desk.model.remove("pkg")
    run(desk.sync())
    assert desk.tree() == {"other": b"o", "pkg": None, "pkg/__pycache__": None, "pkg/__pycache__/a.pyc": b"cached"}
    assert desk.model.tree() == {"other": b"o", "pkg": None}


# -- guards


@pytest.mark.allow_log("stopped: ")
def test_a_mass_deletion_stops_and_deletes_nothing_until_it_is_allowed(desk: Desk) -> None:
    for number in range(30):
        desk.write(f"{number}", "x")
    run(desk.in_step())
    for number in range(30):
        (desk.root / f"{number}").unlink()
    with pytest.raises(GuardTripped, match="30 of 30"):
        run(desk.sync())
    assert len(desk.model.items) == 30
    run(desk.sync(replace(ONCE, max_deletions=30)))
    assert desk.model.tree() == {}


def test_a_folder_that_is_not_mounted_is_an_error_and_never_a_deletion(desk: Desk) -> None:
    desk.write("a", "a")
    run(desk.in_step())
    away = desk.root.with_name("away")
    desk.root.rename(away)
    with pytest.raises(FolderError, match="is gone"):
        run(desk.sync())
    desk.root.mkdir()
    with pytest.raises(FolderError, match="is not the folder"):
        run(desk.sync())
    assert desk.model.asked() == []
    desk.root.rmdir()
    away.rename(desk.root)
    assert run(desk.in_step()) == {"a": b"a"}


def test_a_folder_that_vanishes_while_it_is_scanned_is_no_deletion(desk: Desk) -> None:
    desk.write("dir/a", "a")
    run(desk.in_step())
    away = desk.root.with_name("away")

    class Vanishing(Disk):
        def is_real(self, place: str) -> bool:
            if desk.root.exists():
                desk.root.rename(away)
            return super().is_real(place)

    with pytest.raises(FolderError):
        run(desk.sync(make_disk=Vanishing))
    away.rename(desk.root)
    assert run(desk.in_step()) == {"dir": None, "dir/a": b"a"}


def test_a_folder_moved_with_its_marker_is_still_the_folder(desk: Desk) -> None:
    desk.write("a", "a")
    run(desk.in_step())
    moved = desk.root.with_name("moved")
    shutil.copytree(desk.root, moved)
    shutil.rmtree(desk.root)
    desk.root = moved
    assert run(desk.in_step()) == {"a": b"a"}


def test_a_removed_marker_is_made_again_while_the_directory_is_the_same(desk: Desk) -> None:
    desk.write("a", "a")
    run(desk.in_step())
    shutil.rmtree(desk.root / ".jobfs")
    run(desk.in_step())
    assert (desk.root / ".jobfs/folder").exists()


def test_a_folder_of_another_workspace_is_refused(desk: Desk, tmp_path: Path) -> None:
    run(desk.sync())
    other = Desk(tmp_path / "other")
    other.root = desk.root
    with pytest.raises(FolderError, match="another workspace"):
        run(other.sync())


def test_a_server_that_never_answers_ends_a_single_synchronisation_with_its_error(desk: Desk) -> None:
    desk.write("a", "a")

    def refuse(call: str, subject: str) -> None:
        if call == "create_file":
            raise Unreachable("no route", "try later")

    desk.model.before = refuse
    with pytest.raises(Unreachable, match="no route"):
        run(desk.sync())
    desk.model.before = lambda call, subject: None
    assert run(desk.in_step()) == {"a": b"a"}


def test_an_item_that_the_server_loses_during_the_download_is_planned_again(desk: Desk) -> None:
    desk.model.put("a", b"first")
    desk.model.put("b", b"b")
    changed: list[ItemId] = []

    def change(call: str, subject: str) -> None:
        item = desk.model.at("a")
        if call == "download" and item is not None and subject == item.id and not changed:
            changed.append(item.id)
            desk.model.put("a", b"second version")

    desk.model.before = change
    assert run(desk.in_step()) == {"a": b"second version", "b": b"b"}


def test_a_deleted_directory_that_no_item_stands_for_is_done_with_its_last_file(desk: Desk) -> None:
    desk.model.put("implied/deep/a", b"a")
    desk.model.put("implied/deep/b", b"b")
    run(desk.sync())
    shutil.rmtree(desk.root / "implied")
    assert run(desk.sync()).skipped == ()
    assert desk.model.tree() == {}
