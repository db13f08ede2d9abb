"""Names that another file system takes for one, composes anew, or cannot hold: simulated on this one."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from folder_harness import Desk, run

from jobfs.folder.disk import Disk, Seen
from jobfs.folder.names import composed, folded, why_not_on_windows
from jobfs.folder.report import Summary
from jobfs.model import Trouble

CAFE = composed("café.txt")
CAFE_APART = unicodedata.normalize("NFD", CAFE)


class Apple(Disk):
    """A file system that takes names for one that differ in case or composition, and stores them decomposed."""

    def path(self, place: str) -> Path:
        above, _, name = place.rpartition("/")
        directory = self.root
        for part in above.split("/") if above else ():
            directory /= _twin(directory, part)
        return directory / _twin(directory, name) if name else directory

    def look(self, place: str) -> Seen | None:
        found = self.path(place)
        return super().look(found.relative_to(self.root).as_posix()) if place else super().look("")

    def move(self, source: str, target: str, *, is_directory: bool) -> None:
        if folded(source) == folded(target):
            self.path(source).rename(self.path(target).with_name(_apart(target.rpartition("/")[2])))
        else:
            super().move(source, target, is_directory=is_directory)


def _apart(name: str) -> str:
    return unicodedata.normalize("NFD", name)


def _twin(directory: Path, name: str) -> str:
    names = os.listdir(directory) if directory.is_dir() else []
    return next((other for other in names if folded(other) == folded(name)), _apart(name))


class Windows(Disk):
    """A file system with the names of Windows."""

    def why_not(self, name: str) -> str:
        return why_not_on_windows(name)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def names(desk: Desk) -> list[str]:
    return sorted(name for name in os.listdir(desk.root) if name != ".jobfs")


def sync(desk: Desk, make_disk: type[Disk] = Apple) -> Summary:
    desk.model.calls.clear()
    return run(desk.sync(make_disk=make_disk))


def test_a_name_that_is_composed_anew_here_keeps_its_form_on_the_server(desk: Desk) -> None:
    desk.model.put(CAFE, b"one")
    sync(desk)
    assert names(desk) == [CAFE_APART]
    assert (sync(desk).counts, desk.model.asked()) == ({}, [])
    desk.write(CAFE_APART, "two")
    sync(desk)
    assert desk.model.tree() == {CAFE: b"two"}
    (desk.root / CAFE_APART).unlink()
    sync(desk)
    assert desk.model.tree() == {}


def test_a_directory_that_is_composed_anew_here_keeps_its_form_and_what_is_in_it(desk: Desk) -> None:
    place = composed("é")
    desk.model.put(place, None)
    desk.model.put(f"{place}/{CAFE}", b"one")
    sync(desk)
    desk.write(f"{_apart(place)}/new", "new")
    sync(desk)
    assert desk.model.tree() == {place: None, f"{place}/{CAFE}": b"one", f"{place}/new": b"new"}
    assert (sync(desk).counts, desk.model.asked()) == ({}, [])


def test_spelling_a_name_otherwise_here_is_one_move(desk: Desk) -> None:
    desk.write("readme", "text")
    desk.write("d/a", "a")
    sync(desk)
    os.rename(desk.root / "readme", desk.root / "README")
    os.rename(desk.root / "d", desk.root / "D")
    sync(desk)
    assert desk.model.tree() == {"D": None, "D/a": b"a", "README": b"text"}
    assert {name for name, _ in desk.model.asked()} <= {"update", "get"}


def test_spelling_a_name_otherwise_there_is_a_rename_here(desk: Desk) -> None:
    desk.model.put("readme", b"text")
    sync(desk)
    item = desk.model.at("readme")
    assert item is not None
    run(desk.model.update(item.id, path="README"))
    sync(desk)
    assert names(desk) == ["README"]
    assert (sync(desk).counts, desk.model.tree()) == ({}, {"README": b"text"})


def test_of_two_names_that_are_one_here_the_second_is_a_problem_and_no_loss(desk: Desk) -> None:
    desk.model.put(CAFE, b"one")
    desk.model.put(CAFE_APART, b"two")
    desk.model.put(CAFE.upper(), b"three")
    summary = sync(desk)
    assert [problem.trouble for problem in summary.problems] == [Trouble.NAME_COLLISION] * 2
    assert len(names(desk)) == 1
    sync(desk)
    assert desk.model.tree() == {CAFE: b"one", CAFE_APART: b"two", CAFE.upper(): b"three"}


HOSTILE = ["con", "NUL.txt", "com1.tar.gz", "a:b", "..\\up", "what?", "dot.", "blank ", "aux .c"]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_windows_cannot_hold_is_known(name: str) -> None:
    assert why_not_on_windows(name) != ""


@pytest.mark.parametrize("name", ["console", "com10", "a.con", ".nul", "a b", "comma", "lpt", "~$a", "#", "%3A", "é"])
def test_what_windows_can_hold_is_no_trouble(name: str) -> None:
    assert why_not_on_windows(name) == ""


def test_what_windows_cannot_hold_stays_on_the_server_and_leads_nowhere(desk: Desk) -> None:
    for name in HOSTILE:
        desk.model.put(name, b"hostile")
    desk.model.put("d", None)
    desk.model.put("d/trailing.", None)
    desk.model.put("d/trailing./a", b"a")
    desk.model.put("honest", b"honest")
    there = desk.model.tree()
    for _ in range(2):
        summary = sync(desk, Windows)
        assert desk.tree() == {"d": None, "honest": b"honest"}
        assert {problem.path for problem in summary.problems} == {*HOSTILE, "d/trailing."}
        assert {problem.trouble for problem in summary.problems} == {Trouble.INVALID_NAME}
        assert desk.model.tree() == there
