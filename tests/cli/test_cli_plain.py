"""Command lines that are read without the parser mean what they mean to the parser, and fail as they do there."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from commands import as_process, in_process

from jobfs.cli import plain
from jobfs.cli.mount import mount
from jobfs.cli.parser import Parameter, options_of
from jobfs.cli.wishes import Wishes, wishes_of
from jobfs.server.running import RunningServer

SWITCHED = [[name] for name in plain.SWITCHES if name != "--foreground"]  # which gives no order
CHOSEN = [[name, word] for name, (_, words) in plain.CHOICES.items() for word in sorted(words)]
SERVED_BY = """#!/bin/sh
read -r order && echo "$order" >> {record}
echo '{{"event": "failed", "cause": "no", "remedy": "", "exit_code": 9}}'
"""
"""Stands for the process in the background: notes its order and refuses it."""


@pytest.fixture
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that gets every order that a command gives."""
    script = tmp_path / "interpreter"
    script.write_text(SERVED_BY.format(record=tmp_path / "orders"))
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return tmp_path / "orders"


def last(orders: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(orders.read_text().splitlines()[-1])
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="mounts, and needs a shell")
@pytest.mark.parametrize("options", [[], *SWITCHED, *CHOSEN], ids=" ".join)
def test_what_is_read_without_the_parser_is_the_same_order(
    options: list[str], studio: RunningServer, orders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["mount", "someone", *options, str(tmp_path)]
    assert plain.run_words(words) == 9
    told, order = capsys.readouterr().err, last(orders)
    parsed = in_process(*words)
    assert (parsed.code, parsed.err, last(orders)) == (9, told, order)
    assert len(orders.read_text().splitlines()) == 2


def test_the_parser_and_the_plain_reading_begin_from_the_same_wishes() -> None:
    told = plain.read(["mount", "someone", "--foreground", "here"])
    assert told is not None
    assert wishes_of(told) == Wishes(job="someone", directory=Path("here"), is_foreground=True)


def switches(option: Parameter) -> set[str]:
    return {name for name in option.names if name.startswith("--")} if not option.value else set()


def test_every_switch_and_every_choice_of_the_mount_is_known() -> None:
    options = options_of(mount)
    assert set().union(*map(switches, options)) == set(plain.SWITCHES)
    choices = {option.names[0]: set(option.choices) for option in options if option.choices}
    assert choices == {name: set(words) for name, (_, words) in plain.CHOICES.items()}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["mount"],
        ["mount", "a"],
        ["mount", "a", "b", "c"],
        ["mount", "a", ""],
        ["mount", "a", "b", "--help"],
        ["mount", "a", "b", "-h"],
        ["mount", "a", "b", "--timeout", "5"],
        ["mount", "a", "b", "--transport=kernel"],
        ["mount", "a", "b", "--transport"],
        ["mount", "a", "b", "--transport", "nonsense"],
        ["mount", "a", "b", "--yess"],
        ["mount", "--", "a", "b"],
        ["--debug", "mount", "a", "b"],
        ["mount", "a", "b", "--profile", "x"],
        ["umount", "a", "b"],
    ],
    ids=" ".join,
)
def test_every_other_command_line_is_left_to_the_parser(words: list[str]) -> None:
    assert plain.run_words(words) is None


def test_the_order_of_words_counts_only_among_places_and_for_the_same_wish() -> None:
    for words in permutations(["a", "--yes", "--wake on", "--no-fallback", "--fallback", "b", "--wake off"]):
        told = plain.read(["mount", *" ".join(words).split()])
        assert told is not None
        first, second = sorted(("a", "b"), key=words.index)
        wishes = Wishes(
            job=first,
            directory=Path(second),
            may_delete=True,
            wake="on" if words.index("--wake on") > words.index("--wake off") else "off",
            may_fall_back=words.index("--fallback") > words.index("--no-fallback"),
        )
        assert wishes_of(told) == wishes


def test_a_failure_is_told_as_the_parser_tells_it(studio: RunningServer, tmp_path: Path) -> None:
    for words in (["mount", "someone:/path", tmp_path], ["mount", "someone", tmp_path / "absent"]):
        assert replace(as_process(*words), raw=b"") == replace(in_process(*words), raw=b"")
