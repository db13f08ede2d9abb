"""A process that dies while it applies remote changes: the next one finishes, loses nothing, and repeats nothing.

The child process is ended by the operating system's exit in the middle of the work, right after one of its changes of
the disk, so that no clean-up of its own runs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from folder_harness import QUICK, Desk, run
from kept_versions import kept_bytes
from story_harness import TimedRemote, doing

from jobfs.folder.disk import Disk
from jobfs.folder.sync import SyncOptions
from jobfs.model import Permission
from jobfs.planner.plan import ConflictPolicy

_KILLED = 9
_NEVER = 1 << 30


class MortalDisk(Disk):
    """Ends the process right after a given number of changes."""

    def __init__(self, root: Path, lives: int) -> None:
        super().__init__(root)
        self._lives = lives

    def _spend(self) -> None:
        self._lives -= 1
        if self._lives == 0:
            os._exit(_KILLED)

    def create(self, place: str) -> int:
        descriptor = super().create(place)
        self._spend()
        return descriptor

    def put_new(self, source: str, target: str) -> None:
        super().put_new(source, target)
        self._spend()

    def put_over(self, source: str, target: str) -> None:
        super().put_over(source, target)
        self._spend()

    def duplicate(self, source: str, target: str) -> None:
        super().duplicate(source, target)
        self._spend()

    def make_directory(self, place: str) -> None:
        super().make_directory(place)
        self._spend()

    def move(self, source: str, target: str, *, is_directory: bool) -> None:
        super().move(source, target, is_directory=is_directory)
        self._spend()

    def remove_file(self, place: str) -> None:
        super().remove_file(place)
        self._spend()

    def remove_directory(self, place: str) -> bool:
        is_gone = super().remove_directory(place)
        self._spend()
        return is_gone

    def set_mode(self, place: str, mode: int) -> None:
        super().set_mode(place, mode)
        self._spend()

    def sync_directory(self, place: str) -> None:
        super().sync_directory(place)
        self._spend()


def dies_after(desk: Desk, lives: int, options: SyncOptions) -> bool:
    """Synchronise in a process of its own that dies after so many changes; tell whether it did."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(desk.sync(options, make_disk=lambda root: MortalDisk(root, lives)))
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, _KILLED)
    return code == _KILLED


def arrange_everything(desk: Desk) -> dict[str, bytes | None]:
    """Arrange one remote change of each kind, and return what both sides must hold in the end."""
    for place in ("edited", "moved", "gone", "dir/below", "dir/leaving/x", "mode", "swap1", "swap2", "kept"):
        desk.write(place, place)
    run(desk.in_step())
    model = desk.model
    item = {place: found.id for place in model.tree() if (found := model.at(place)) is not None}
    model.put("edited", b"edited there")
    model.put("added", b"added there")
    model.put("made", None)
    model.put("made/inside", b"inside")
    model.remove("gone")
    model.remove("dir/leaving")
    run(model.update(item["dir"], path="renamed"))
    run(model.update(item["moved"], path="renamed/moved"))
    run(model.update(item["mode"], permission=Permission.READ_ONLY))
    run(model.update(item["swap1"], path="swap3"))
    run(model.update(item["swap2"], path="swap1"))
    run(model.update(item["swap1"], path="swap2"))
    return {
        "added": b"added there",
        "edited": b"edited there",
        "kept": b"kept",
        "made": None,
        "made/inside": b"inside",
        "mode": b"mode",
        "renamed": None,
        "renamed/below": b"dir/below",
        "renamed/moved": b"moved",
        "swap1": b"swap2",
        "swap2": b"swap1",
    }


ONCE = SyncOptions(host="testhost", times=QUICK)


def die_everywhere(
    base: Path, arrange: Callable[[Desk], None], check: Callable[[Desk], None], options: SyncOptions
) -> int:
    """Repeat a story with a death after its first, second, ... change, until it ends by itself; return their number.

    What the child asks of its server is lost with it; so the stories end with what is applied here.
    """
    deaths = 0
    while True:
        desk = Desk(base / str(deaths))
        arrange(desk)
        if not dies_after(desk, deaths + 1, options):
            return deaths
        check(desk)
        deaths += 1


def test_a_death_after_any_change_of_the_disk_is_made_good(tmp_path: Path) -> None:
    wanted: dict[str, bytes | None] = {}

    def arrange(desk: Desk) -> None:
        wanted.update(arrange_everything(desk))

    def check(desk: Desk) -> None:
        summary = run(desk.sync())
        assert [conflict for conflict in summary.conflicts if conflict.copy is not None] == []
        assert run(desk.in_step()) == wanted

    assert die_everywhere(tmp_path, arrange, check, ONCE) > 20


@pytest.mark.parametrize("policy", [ConflictPolicy.KEEP_BOTH, ConflictPolicy.REMOTE])
def test_a_death_in_a_conflict_loses_neither_version_and_makes_no_second_copy(
    tmp_path: Path, policy: ConflictPolicy
) -> None:
    options = SyncOptions(host="testhost", times=QUICK, conflict=policy)

    def arrange(desk: Desk) -> None:
        desk.write("a", "base")
        run(desk.in_step())
        desk.write("a", "written here")
        desk.model.put("a", b"written there")

    def check(desk: Desk) -> None:
        run(desk.sync(options))
        with desk.opened() as state:
            lost = kept_bytes(state)
        found = run(desk.in_step())
        assert found.pop("a") == b"written there"
        assert [*found.values(), *lost] == [b"written here"]

    assert die_everywhere(tmp_path, arrange, check, options) > 3


def test_what_a_dead_process_left_unfinished_is_removed(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.model.put("a", b"a")
    assert dies_after(desk, 1, ONCE)
    assert [path.name.endswith(".new") for path in desk.root.iterdir() if path.name != ".jobfs"] == [True]
    assert run(desk.in_step()) == {"a": b"a"}


def test_a_death_while_a_file_gets_its_hidden_name_leaves_it_only_its_own(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.model.put("a", b"a")
    run(desk.in_step())
    os.link(desk.root / "a", desk.root / ".a.jobfs-0123abcd.old")
    assert run(desk.in_step()) == {"a": b"a"}


def test_what_an_interrupted_move_left_under_a_hidden_name_gets_its_name_back(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write(".a.jobfs-0123abcd.old", b"a")
    desk.write(".d.jobfs-0123abcd.old/x", b"x")
    assert run(desk.in_step()) == {"a": b"a", "d": None, "d/x": b"x"}


def test_what_comes_back_from_a_hidden_name_finds_a_name_beside_what_has_its_own_by_now(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("a", b"new")
    desk.write(".a.jobfs-0123abcd.old", b"old")
    found = run(desk.in_step())
    assert found.pop("a") == b"new"
    assert [(name.startswith("a (conflict from testhost "), data) for name, data in found.items()] == [(True, b"old")]


def test_a_directory_renamed_while_something_is_downloaded_into_it_keeps_no_rest_of_that(tmp_path: Path) -> None:
    remote = TimedRemote()
    desk = Desk(tmp_path, remote)
    remote.put("d", None)
    remote.put("d/old", b"old")
    run(desk.sync())
    remote.put("d/new", b"new")
    remote.meanwhile["download"] = doing(lambda: (desk.root / "d").rename(desk.root / "e"))
    run(desk.sync())
    assert desk.tree() == remote.tree() == {"e": None, "e/old": b"old", "e/new": b"new"}
