"""``jobfs history``, ``restore`` and ``undelete``: in a mount, in a folder, and where nothing runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from commands import in_process
from terminals import on_terminal

from jobfs.server.running import RunningServer

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def story(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(in_process("history", path, "--json").ok())
    return told


def sizes(path: Path) -> list[tuple[int, int]]:
    return [(one["version"], one["size"]) for one in story(path)["versions"]]


@pytest.fixture
def notes(studio: RunningServer, job: str, mount_point: Path) -> Path:
    """A mounted file that was saved twice, and a directory that was deleted."""
    studio.put_item(job, "notes.md", b"one")
    studio.put_item(job, "d", None)
    studio.put_item(job, "d/x", b"x")
    studio.put_item(job, "d/deep", None)
    studio.put_item(job, "d/deep/y", b"yy")
    in_process("mount", job, mount_point).ok()
    file = mount_point / "notes.md"
    assert file.read_bytes() == b"one"
    for text in ("second", "third one"):
        file.write_text(text)
        in_process("push", mount_point).ok()
    for path in (mount_point / "d" / "x", mount_point / "d" / "deep" / "y"):
        path.read_bytes()
        path.unlink()
    (mount_point / "d" / "deep").rmdir()
    (mount_point / "d").rmdir()
    in_process("push", mount_point).ok()
    return file


@pytest.mark.mount
def test_a_version_of_a_mounted_file_comes_back_and_is_sent(studio: RunningServer, job: str, notes: Path) -> None:
    assert sizes(notes) == [(2, 6), (1, 3)]
    assert in_process("restore", notes, "--at", "1").ok().startswith(f"{notes} is version 1 of ")
    assert notes.read_bytes() == b"one"
    assert sizes(notes) == [(5, 9), (2, 6), (1, 3)]
    assert "has these bytes already" in in_process("restore", notes, "--at", "1").ok()
    in_process("restore", notes, "--at", "2", "--to", notes.with_name("old notes.md")).ok()
    in_process("push", notes.parent).ok()
    contents = studio.contents(job)
    assert (contents["notes.md"], contents["old notes.md"]) == (b"one", b"second")


@pytest.mark.mount
def test_what_was_deleted_is_listed_and_comes_back_whole(studio: RunningServer, job: str, notes: Path) -> None:
    listed = in_process("undelete", "--list", notes.parent).ok().splitlines()
    assert [line.split("\t")[-1] for line in listed] == ["d/deep/y", "d/x"]
    told = in_process("undelete", notes.parent / "d").ok()
    assert re.fullmatch(rf"d/deep/y is back, as of {TIME}\nd/x is back, as of {TIME}\n", told)
    assert (notes.parent / "d" / "deep" / "y").read_bytes() == b"yy"
    assert in_process("undelete", "--list", notes.parent, "--json").ok() == "[]\n"
    in_process("push", notes.parent).ok()
    assert studio.contents(job)["d/x"] == b"x"


@pytest.mark.mount
def test_where_nothing_runs_the_state_answers_and_the_next_mount_sends(
    studio: RunningServer, job: str, notes: Path
) -> None:
    in_process("umount", notes.parent).ok()
    assert story(notes)["current"]["size"] == 9
    in_process("restore", notes, "--at", "2").ok()
    in_process("undelete", notes.parent / "d" / "x").ok()
    assert not list(notes.parent.iterdir())
    in_process("mount", job, notes.parent).ok()
    assert (notes.read_bytes(), (notes.parent / "d" / "x").read_bytes()) == (b"second", b"x")
    in_process("umount", notes.parent).ok()
    contents = studio.contents(job)
    assert (contents["notes.md"], contents["d/x"]) == (b"second", b"x")


@pytest.mark.mount
def test_a_refusal_says_what_to_do_instead(notes: Path) -> None:
    (notes.parent / "d").mkdir()
    (notes.parent / "d" / "x").write_text("another")
    there = in_process("undelete", notes.parent / "d" / "x")
    assert (there.code, "--at 3' replaces a file" in there.err) == (1, True)
    assert (notes.parent / "d" / "x").read_text() == "another"
    some = in_process("undelete", notes.parent / "d")
    assert (some.code, some.out.split(",")[0]) == (0, "d/deep/y is back")
    assert some.err == "d/x is there, and was left alone\n"
    for words, code, says in (
        (("restore", notes, "--at", "99"), 4, "version 99 is not kept"),
        (("restore", notes, "--at", "3"), 4, "version 3 is one of d/x"),
        (("restore", notes, "--at", "1", "--to", notes.parent / "d"), 1, "d is there"),
        (("restore", notes, "--at", "1", "--to", notes.parents[1] / "x"), 6, "is in no mount or synchronised folder"),
        (("undelete", notes.parent / "nothing"), 4, "nothing that was deleted is kept of nothing"),
        (("undelete", notes), 1, "notes.md is there"),
        (("history", notes.parents[1]), 6, "is in no mount or synchronised folder"),
    ):
        told = in_process(*words)
        assert (told.code, says in told.err) == (code, True), told.err
    assert notes.read_text() == "third one"


@pytest.mark.mount
def test_a_terminal_shows_a_table_and_a_pipe_lines(notes: Path) -> None:
    code, shown = on_terminal("history", notes, columns=120)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).split("\r\n")
    assert (code, lines[0].split()) == (0, ["version", "written", "size", "why"])
    assert re.fullmatch(rf"now +{TIME}  9 B *", lines[1])
    assert re.fullmatch(rf"2 +{TIME}  6 B   replaced {TIME} *", lines[2])
    piped = in_process("history", notes.parent / "d").ok()
    assert re.fullmatch(rf"4\t[^\t]+\t2 B\tdeleted {TIME}\td/deep/y\n3\t[^\t]+\t1 B\tdeleted {TIME}\td/x\n", piped)


@pytest.mark.mount
def test_of_a_new_file_nothing_is_kept_and_of_what_never_was_there_is_no_history(notes: Path) -> None:
    new, never = notes.with_name("new"), notes.with_name("never")
    new.mkdir()
    silent = in_process("history", new)
    assert (silent.code, silent.out, silent.err) == (0, "", f"{new} is there, and no earlier version of it is kept\n")
    refused = in_process("history", never)
    assert (refused.code, refused.err.splitlines()[0]) == (4, "jobfs: there is no never, and nothing is kept of it")


@pytest.mark.mount
def test_the_room_of_the_history_is_an_option_that_is_remembered(
    studio: RunningServer, job: str, mount_point: Path
) -> None:
    studio.put_item(job, "a", b"one")
    for options in (("--history-size", "0"), (), ("--history-size", "1M", "--history-days", "7")):
        in_process("mount", job, mount_point, *options).ok()
        (mount_point / "a").read_bytes()
        (mount_point / "a").write_text(f"by {options}")
        in_process("umount", mount_point).ok()
    assert len(story(mount_point / "a")["versions"]) == 1


def test_a_folder_has_a_history_whether_it_is_kept_in_step_or_not(
    studio: RunningServer, job: str, tmp_path: Path
) -> None:
    studio.put_item(job, "notes.md", b"one")
    folder = tmp_path / "folder"
    in_process("sync", job, folder, "--once").ok()
    (tmp_path / "new").write_bytes(b"second")
    in_process("put", tmp_path / "new", f"{job}:/notes.md").ok()
    in_process("sync", job, folder, "--once").ok()
    assert story(folder / "notes.md")["versions"][0]["reason"] == "replaced on the server"
    in_process("restore", folder / "notes.md", "--at", "1").ok()
    assert (folder / "notes.md").read_bytes() == b"one"
    in_process("sync", job, folder, "--background").ok()
    try:
        assert studio.contents(job)["notes.md"] == b"one"
        in_process("restore", folder / "notes.md", "--at", "2").ok()
        assert (folder / "notes.md").read_bytes() == b"second"
    finally:
        in_process("umount", folder).ok()
    assert studio.contents(job)["notes.md"] == b"second"


def test_names_that_begin_with_a_dot_are_names(studio: RunningServer, job: str, tmp_path: Path) -> None:
    studio.put_item(job, ".env", b"A=1")
    folder = tmp_path / "folder"
    in_process("sync", job, folder, "--once").ok()
    (tmp_path / "new").write_bytes(b"A=2")
    in_process("put", tmp_path / "new", f"{job}:/.env").ok()
    in_process("sync", job, folder, "--once").ok()
    assert [one["path"] for one in story(folder / ".env")["versions"]] == [".env"]
    assert [one["path"] for one in story(folder)["versions"]] == [".env"]
