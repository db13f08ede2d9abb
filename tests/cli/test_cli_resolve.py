"""``jobfs resolve`` on the files of a folder; it needs no server."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import in_process

COPY = "a (conflict from here 2026-01-02 030405).txt"
OTHER = "a (conflict from here 2026-01-02 030405 2).txt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("theirs")
    (tmp_path / COPY).write_text("ours")
    return tmp_path


@pytest.mark.parametrize("named", ["a.txt", COPY])
@pytest.mark.parametrize(
    ("keep", "left"),
    [
        ("local", {"a.txt": "ours"}),
        ("remote", {"a.txt": "theirs"}),
        ("both", {"a.txt": "theirs", "a (2).txt": "ours"}),
    ],
)
def test_a_conflict_ends_as_asked(folder: Path, named: str, keep: str, left: dict[str, str]) -> None:
    in_process("resolve", folder / named, "--keep", keep).ok()
    assert {file.name: file.read_text() for file in folder.iterdir()} == left


def test_a_plain_name_that_is_taken_stays(folder: Path) -> None:
    (folder / "a (2).txt").write_text("another")
    in_process("resolve", folder / "a.txt", "--keep", "both").ok()
    assert (folder / "a (3).txt").read_text() == "ours"
    assert (folder / "a (2).txt").read_text() == "another"


def test_of_several_copies_one_has_to_be_named(folder: Path) -> None:
    (folder / OTHER).write_text("ours too")
    told = in_process("resolve", folder / "a.txt", "--keep", "local")
    assert (told.code, "2 conflict copies" in told.err) == (2, True)
    in_process("resolve", folder / OTHER, "--keep", "local").ok()
    assert (folder / "a.txt").read_text() == "ours too"


def test_without_a_conflict_nothing_is_touched(folder: Path) -> None:
    (folder / "b.txt").write_text("calm")
    for path in ("b.txt", "nothing.txt", "b (conflict from here 2026-01-02 030405).txt"):
        assert in_process("resolve", folder / path, "--keep", "local").code == 2
    assert (folder / "b.txt").read_text() == "calm"
