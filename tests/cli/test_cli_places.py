"""How places are written, and where the general options may stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobfs.cli.terminal import human_size, shown
from jobfs.cli.words import hoisted
from jobfs.errors import SettingsError
from jobfs.planner.naming import ConflictStamp, conflict_name
from jobfs.workspace.conflicts import is_conflict_copy, original_of
from jobfs.workspace.places import Place, check_new, parse_job, parse_place
from jobfs.workspace.states import folder_state, mount_state


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("abc", Place("abc", "", True)),
        ("abc:", Place("abc", "", True)),
        ("abc:/", Place("abc", "", True)),
        ("abc:/a/b.txt", Place("abc", "a/b.txt")),
        ("abc:a/b.txt", Place("abc", "a/b.txt")),
        ("abc:/a/", Place("abc", "a", True)),
        ("abc:/a:b", Place("abc", "a:b")),
        ("run:r1", Place("run:r1", "", True)),
        ("run:r1:/out/x", Place("run:r1", "out/x")),
    ],
)
def test_a_place_is_a_job_and_a_path(text: str, place: Place) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize("text", ["", ":/a", "a/b", "abc:/a//b", "abc:/../b", "abc:/a/./b", "abc:/.."])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_place(text)


@pytest.mark.parametrize("text", ["abc:/a", "run:r1", ""])
def test_what_is_no_job_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_job(text)


@pytest.mark.parametrize("path", ["", "x" * 256, "a/" * 600 + "b", "tab\there", ".jobfs/status.json"])
def test_a_path_that_no_server_holds_is_refused_before_anything_is_sent(path: str) -> None:
    with pytest.raises(SettingsError):
        check_new(Place("abc", path))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ls", "abc", "--url", "u"], ["--url", "u", "ls", "abc"]),
        (["ls", "--debug", "abc"], ["--debug", "ls", "abc"]),
        (["ls", "--url=u", "abc", "--profile", "p"], ["--url=u", "--profile", "p", "ls", "abc"]),
        (["put", "--", "--url", "abc:/"], ["put", "--", "--url", "abc:/"]),
        (["ls", "--url"], ["--url", "ls"]),
    ],
)
def test_general_options_may_stand_anywhere(words: list[str], expected: list[str]) -> None:
    assert hoisted(words) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["help"], ["--help"]),
        (["help", "jobs", "start"], ["jobs", "start", "--help"]),
        (["--debug", "help", "ls"], ["--debug", "ls", "--help"]),
        (["ls", "help"], ["ls", "help"]),
    ],
)
def test_help_may_be_asked_for_as_of_other_programs(words: list[str], expected: list[str]) -> None:
    assert hoisted(words) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("tab\there", "tab\\there"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("ä 漢", "ä 漢"),
        ("\udcff", "\\udcff"),
    ],
)
def test_nothing_that_a_server_says_steers_the_terminal(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (200 * 1024, "200 KiB"),
        (5 * 1024**4, "5.0 TiB"),
    ],
)
def test_sizes_are_written_for_people(size: int, expected: str) -> None:
    assert human_size(size) == expected


@pytest.mark.parametrize("name", ["a.txt", "a", "archive.tar.gz", ".hidden"])
def test_a_conflict_copy_is_known_by_its_name_and_tells_the_original(name: str) -> None:
    copy = conflict_name(name, ConflictStamp("host (1)", "2026-01-02 030405"), lambda taken: False)
    assert is_conflict_copy(copy)
    assert original_of(copy) == name


def test_states_differ_by_server_job_and_folder() -> None:
    root = Path("state")
    states = {
        mount_state(root, "http://a.example", "b"),
        mount_state(root, "http://ab.example", ""),
        mount_state(root, "http://a.example", "c"),
        folder_state(root, "http://a.example", "b", Path("/x")),
        folder_state(root, "http://a.example", "b", Path("/y")),
    }
    assert len(states) == 5
    assert all(len(state.name) == 16 and state.parent == root / "workspaces" for state in states)
