"""The disk: what it is asked never leaves the folder, and what it changes never overwrites the unseen."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from folder_harness import Desk, run

from jobfs.folder.disk import Disk, Seen
from jobfs.folder.names import folded, is_copy_name
from jobfs.model import Kind, Trouble


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_a_new_file_never_replaces_what_is_there(disk: Disk) -> None:
    disk.path("new").write_text("new")
    disk.path("there").write_text("there")
    with pytest.raises(FileExistsError):
        disk.put_new("new", "there")
    assert (disk.path("new").read_text(), disk.path("there").read_text()) == ("new", "there")


def test_a_moved_file_or_directory_never_replaces_what_is_there(disk: Disk) -> None:
    disk.path("file").write_text("f")
    disk.path("dir").mkdir()
    for source, is_directory in (("file", False), ("dir", True)):
        for target in ("file", "dir"):
            if source != target:
                with pytest.raises(FileExistsError):
                    disk.move(source, target, is_directory=is_directory)
    assert (disk.path("file").read_text(), disk.path("dir").is_dir()) == ("f", True)


def test_a_second_name_leaves_one_file_when_the_first_is_given_away(disk: Disk) -> None:
    disk.path("a").write_text("local")
    disk.path("b").write_text("remote")
    disk.duplicate("a", "copy")
    disk.put_over("b", "a")
    assert (disk.path("a").read_text(), disk.path("copy").read_text()) == ("remote", "local")
    assert disk.path("copy").stat().st_nlink == 1


class NoLinks(Disk):
    """A file system without hard links."""

    def _link(self, source: str, target: str) -> bool:
        return False


def test_without_hard_links_the_same_holds(tmp_path: Path) -> None:
    disk = NoLinks(tmp_path)
    disk.path("a").write_text("a")
    disk.duplicate("a", "copy")
    assert disk.path("copy").read_text() == "a"
    with pytest.raises(FileExistsError):
        disk.put_new("a", "copy")
    disk.put_new("a", "moved")
    assert (disk.path("moved").read_text(), disk.look("a")) == ("a", None)


def test_what_lies_behind_a_link_is_not_there(disk: Disk) -> None:
    disk.path("real").mkdir()
    disk.path("link").symlink_to("real")
    assert (disk.is_real("real"), disk.is_real("link"), disk.is_real("link/below")) == (True, False, False)
    found = {listed.place: set(listed.odd) for listed in disk.walk("", lambda place, is_directory: False)}
    assert found == {"": {"link"}, "real": set()}


def test_a_directory_that_holds_something_is_not_removed(disk: Disk) -> None:
    disk.path("dir").mkdir()
    disk.path("dir/file").write_text("f")
    assert disk.remove_directory("dir") is False
    disk.path("dir/file").unlink()
    assert disk.remove_directory("dir") is True
    assert disk.remove_directory("dir") is True


def test_a_file_that_changes_while_it_is_hashed_has_no_digest(disk: Disk) -> None:
    disk.path("a").write_text("first")

    class Restless(Disk):
        def look(self, place: str):  # type: ignore[no-untyped-def]
            seen = super().look(place)
            self.path(place).write_text("longer and longer" * 3)
            return seen

    assert Restless(disk.root).digest("a") is None


def test_the_kind_of_everything_is_known(disk: Disk) -> None:
    disk.path("file").write_text("")
    disk.path("dir").mkdir()
    disk.path("link").symlink_to("file")
    os.mkfifo(disk.path("pipe"))
    seen = {name: disk.look(name) for name in ("file", "dir", "link", "pipe", "nothing")}
    assert {name: look.kind if look is not None else None for name, look in seen.items()} == {
        "file": Kind.FILE,
        "dir": Kind.DIRECTORY,
        "link": Kind.SYMLINK,
        "pipe": Kind.FIFO,
        "nothing": None,
    }


def test_a_conflict_copy_is_known_by_its_name() -> None:
    assert is_copy_name("a (conflict from host 2026-01-01 000000).txt", "a.txt")
    assert not is_copy_name("b (conflict from host 2026-01-01 000000).txt", "a.txt")
    assert not is_copy_name("a.txt", "a.txt")


# -- file systems that are not like this one


class Folding(Disk):
    """A file system that takes names for one that differ only in case."""

    def learn_folding(self) -> None:
        self.folds_names = True

    def look(self, place: str) -> Seen | None:
        above, slash, name = place.rpartition("/")
        twin = next((other for other in self.names(above) if folded(other) == folded(name)), name)
        return super().look(above + slash + twin)

    def put_new(self, source: str, target: str) -> None:
        if self.look(target) is not None:
            raise FileExistsError(errno.EEXIST, "File exists")
        super().put_new(source, target)


def test_two_names_that_this_file_system_cannot_tell_apart_are_a_problem_and_no_loss(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.model.put("readme", b"one")
    desk.model.put("README", b"two")
    summary = run(desk.sync(make_disk=Folding))
    assert [problem.trouble for problem in summary.problems] == [Trouble.NAME_COLLISION]
    assert len(desk.tree()) == 1
    assert desk.model.tree() == {"readme": b"one", "README": b"two"}


class Picky(Disk):
    """A file system that cannot hold a certain name."""

    def create(self, place: str) -> int:
        if "aux" in place:
            raise OSError(errno.EINVAL, "Invalid argument")
        return super().create(place)


def test_a_name_that_this_system_cannot_hold_is_a_problem_and_its_neighbours_come(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.model.put("aux", b"one")
    desk.model.put("b", b"two")
    summary = run(desk.sync(make_disk=Picky))
    assert [(problem.path, problem.trouble) for problem in summary.problems] == [("aux", Trouble.INVALID_NAME)]
    assert desk.tree() == {"b": b"two"}
    assert run(desk.in_step()) == {"aux": b"one", "b": b"two"}


class Full(Disk):
    """A disk that has no room until it is given some."""

    room = False

    def create(self, place: str) -> int:
        if not Full.room:
            Full.room = True
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().create(place)


def test_a_full_disk_is_tried_again_by_itself(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.model.put("a", b"a")
    Full.room = False
    run(desk.sync(make_disk=Full))
    assert desk.tree() == {"a": b"a"}
