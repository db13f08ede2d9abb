"""One-way synchronisation never changes the other side, and never overwrites what only this side has."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from folder_harness import QUICK, Desk, run
from kept_versions import lost_bytes

from jobfs.errors import FolderError
from jobfs.folder.report import What
from jobfs.folder.sync import Direction, SyncOptions
from jobfs.planner.plan import ConflictPolicy

BOTH = SyncOptions(host="testhost", times=QUICK)
PUSH = replace(BOTH, direction=Direction.PUSH)
PULL = replace(BOTH, direction=Direction.PULL)
KEEP = replace(BOTH, delete=False)
TRIAL = replace(BOTH, is_trial=True)
WRITES = ("create_file", "create_directory", "update", "delete")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A folder in step, with a few files on both sides."""
    desk = Desk(tmp_path)
    for name in ("a", "b", "c", "d"):
        desk.write(name, name)
    run(desk.in_step())
    return desk


def test_push_sends_edits_and_deletions_and_takes_nothing(desk: Desk) -> None:
    desk.write("a", "edited")
    (desk.root / "b").unlink()
    desk.model.put("c", b"changed there")
    desk.model.put("new there", b"n")
    run(desk.sync(PUSH))
    assert desk.tree() == {"a": b"edited", "c": b"c", "d": b"d"}
    assert desk.model.tree() == {"a": b"edited", "c": b"changed there", "d": b"d", "new there": b"n"}


def test_push_sends_again_what_was_deleted_there(desk: Desk) -> None:
    desk.model.remove("a")
    run(desk.sync(PUSH))
    assert desk.model.tree() == desk.tree() == {name: name.encode() for name in "abcd"}


def test_push_leaves_a_conflict_to_the_user_and_names_it(desk: Desk) -> None:
    desk.write("a", "edited here")
    desk.model.put("a", b"edited there too")
    summary = run(desk.sync(PUSH))
    assert (desk.tree()["a"], desk.model.tree()["a"]) == (b"edited here", b"edited there too")
    assert [skipped.path for skipped in summary.skipped] == ["a"]


def test_pull_takes_edits_and_deletions_and_sends_nothing(desk: Desk) -> None:
    desk.write("a", "edited here")
    desk.write("new here", "n")
    desk.model.put("b", b"changed there")
    desk.model.remove("c")
    desk.model.calls.clear()
    summary = run(desk.sync(PULL))
    assert desk.model.asked(*WRITES) == []
    assert desk.tree() == {"a": b"edited here", "b": b"changed there", "d": b"d", "new here": b"n"}
    assert [skipped.path for skipped in summary.skipped] == ["a", "new here"]


def test_pull_brings_back_what_was_deleted_here(desk: Desk) -> None:
    (desk.root / "a").unlink()
    desk.model.calls.clear()
    run(desk.sync(PULL))
    assert desk.model.asked(*WRITES) == []
    assert desk.tree() == {name: name.encode() for name in "abcd"}


def test_pull_never_overwrites_an_edit_made_here(desk: Desk) -> None:
    desk.write("a", "edited here")
    desk.model.put("a", b"edited there too")
    desk.model.calls.clear()
    run(desk.sync(PULL))
    assert desk.model.asked(*WRITES) == []
    copies = [data for name, data in desk.tree().items() if "(conflict from testhost" in name]
    assert (desk.tree()["a"], copies) == (b"edited there too", [b"edited here"])


def test_pull_with_the_policy_remote_overwrites_and_keeps_the_history(desk: Desk) -> None:
    desk.write("a", "edited here")
    desk.model.put("a", b"edited there too")
    run(desk.sync(replace(PULL, conflict=ConflictPolicy.REMOTE)))
    assert desk.tree() == {"a": b"edited there too", "b": b"b", "c": b"c", "d": b"d"}
    with desk.opened() as state:
        assert lost_bytes(state) == [b"edited here"]


def test_without_deletions_each_side_gets_back_what_it_deleted(desk: Desk) -> None:
    (desk.root / "a").unlink()
    desk.model.remove("b")
    summary = run(desk.sync(KEEP))
    assert (summary.count(What.DELETED_HERE), summary.count(What.DELETED_THERE)) == (0, 0)
    assert desk.tree() == desk.model.tree() == {name: name.encode() for name in "abcd"}


def test_without_deletions_a_deleted_directory_comes_back_whole(desk: Desk) -> None:
    desk.write("dir/sub/x", "x")
    run(desk.in_step())
    desk.model.remove("dir")
    run(desk.sync(KEEP))
    assert desk.tree() == desk.model.tree()
    assert desk.tree()["dir/sub/x"] == b"x"


def test_a_finished_run_is_pulled_and_never_written(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.model.is_read_only = True
    desk.model.put("out", b"o")
    desk.write("mine", "m")
    summary = run(desk.sync())
    assert desk.model.asked(*WRITES) == []
    assert desk.tree() == {"mine": b"m", "out": b"o"}
    assert [skipped.path for skipped in summary.skipped] == ["mine"]


# -- trials


def test_a_trial_tells_every_step_and_does_none(desk: Desk) -> None:
    desk.write("a", "edited here")
    (desk.root / "b").unlink()
    desk.write("new/here", "brand new")  # of another size than what was deleted, whose inode it may get
    (desk.root / "c").rename(desk.root / "new/moved")
    desk.model.put("d", b"changed there")
    desk.model.put("there", None)
    desk.model.put("there/x", b"xyz")
    before = (desk.tree(), desk.model.tree())
    desk.model.calls.clear()
    summary = run(desk.sync(TRIAL))
    assert {(step.what, step.path) for step in summary.steps} == {
        (What.PUSHED, "a"),
        (What.DELETED_THERE, "b"),
        (What.MADE_THERE, "new"),
        (What.PUSHED, "new/here"),
        (What.MOVED_THERE, "new/moved"),
        (What.PULLED, "d"),
        (What.MADE_HERE, "there"),
        (What.PULLED, "there/x"),
    }
    assert ((desk.tree(), desk.model.tree()), desk.model.asked()) == (before, [])
    run(desk.sync())
    assert desk.tree() == desk.model.tree()


def test_a_trial_tells_the_whole_path_of_what_moves_into_a_directory_that_is_new_here(desk: Desk) -> None:
    desk.model.put("new", None)
    desk.model.put("new/deep", None)
    moved = desk.model.at("c")
    assert moved is not None
    run(desk.model.update(moved.id, path="new/deep/moved"))
    summary = run(desk.sync(TRIAL))
    steps = {(step.what, step.path) for step in summary.steps}
    assert {(What.MADE_HERE, "new/deep"), (What.MOVED_HERE, "new/deep/moved")} < steps


def test_a_trial_of_a_folder_in_step_has_no_step(desk: Desk) -> None:
    assert run(desk.sync(TRIAL)).steps == ()


def test_a_trial_in_one_direction_tells_only_that_direction(desk: Desk) -> None:
    desk.write("a", "edited here")
    (desk.root / "b").unlink()
    desk.model.put("d", b"changed there")
    pull = run(desk.sync(replace(PULL, is_trial=True)))
    assert {(step.what, step.path) for step in pull.steps} == {(What.PULLED, "b"), (What.PULLED, "d")}
    push = run(desk.sync(replace(PUSH, is_trial=True)))
    assert {(step.what, step.path) for step in push.steps} == {(What.PUSHED, "a"), (What.DELETED_THERE, "b")}


def test_a_trial_tells_what_a_guard_would_stop(desk: Desk) -> None:
    for name in "abcd":
        (desk.root / name).unlink()
    summary = run(desk.sync(TRIAL))
    assert "4 of 4" in summary.guard


def test_a_trial_leaves_no_trace_in_a_new_folder(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("a", "a")
    run(desk.sync(TRIAL))
    assert os.listdir(desk.root) == ["a"]
    assert run(desk.in_step()) == {"a": b"a"}


def test_a_state_that_a_mount_has_left_is_refused(tmp_path: Path) -> None:
    from engine_harness import mounted

    desk = Desk(tmp_path)
    desk.model.put("a", b"a")

    async def mount() -> None:
        async with mounted(desk.state_directory, desk.model):
            pass

    run(mount())
    with pytest.raises(FolderError, match="was mounted here"):
        run(desk.sync())
    assert desk.model.tree() == {"a": b"a"}
