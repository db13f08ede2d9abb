"""The same edits in a mount and in a folder: what comes of them, here and on the server, is equal (``trace_players``).

A trace that ends differently is shown, with both results, by ``scripts/compare-modes --replay NUMBER``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from edit_traces import START, Batch, Trace, Verb, edits, trace_of
from trace_players import Result, compared, difference, folder, mount, play

from jobfs.planner.plan import ConflictKind, ConflictPolicy
from simulation import memory_directory

TRACES = 1000
CHUNK = 100


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, TRACES, CHUNK))
def test_random_edits_end_alike_in_a_mount_and_in_a_folder(tmp_path: Path, first: int) -> None:
    directory = memory_directory() or tmp_path
    found = {number: difference(trace_of(number), directory) for number in range(first, first + CHUNK)}
    assert {number: where for number, where in found.items() if where} == {}


# -- what such traces have found, each as short as it can be


def trace(*batches: tuple[str, str], is_read: bool = True, policy: ConflictPolicy = ConflictPolicy.KEEP_BOTH) -> Trace:
    """Return a trace: pairs of edits there and here, after those that begin every trace."""
    said = ((START, ""), *batches)
    return Trace(0, policy, is_read, tuple(Batch(edits(there), edits(here)) for there, here in said))


def ends(traced: Trace, directory: Path) -> Result:
    """Play a trace both ways, make sure that they end alike, and return the end."""
    in_mount, in_folder = (play(traced, player, memory_directory() or directory) for player in (mount, folder))
    assert compared(in_mount, in_folder) == ""
    return in_folder[-1]


STAMP = "(conflict from testhost 2026-01-01 003320)"
"""Of the second batch."""

STORIES = {
    "the conflict copy of a file that became read-only there stays writable": (
        trace(("write a new; chmod u-w a", "write a mine")),
        {"a": "'new' read-only", f"a {STAMP}": "'mine'"},
        [f"content at a, now a {STAMP}"],
    ),
    "a file that was made read-only here stays so when other bytes come from there": (
        trace(("write a new", "chmod u-w a")),
        {"a": "'new' read-only"},
        [],
    ),
    "a file that was renamed here gets the bytes and the permission that it has there": (
        trace(("write a new; chmod u-w a", "rename a c")),
        {"a": None, "c": "'new' read-only"},
        [],
    ),
    "a file that is saved here and deleted there stays": (
        trace(("delete b", "save b mine")),
        {"b": "'mine'"},
        [],
    ),
    "a file is renamed over another one in a directory that is renamed as well": (
        trace(("", "write d/c mine"), ("", "rename d/a d/c; rename d x")),
        {"d": None, "d/a": None, "d/e": None, "d/e/b": None}
        | {"x": "directory", "x/c": "'3'", "x/e": "directory", "x/e/b": "'4'"},
        [],
    ),
    "a directory takes the place of a file in a directory that is renamed as well": (
        trace(("", "delete d/a; mkdir d/a; write d/a/f mine; rename d x")),
        {"d": None, "d/a": None, "d/e": None, "d/e/b": None}
        | {"x": "directory", "x/a": "directory", "x/a/f": "'mine'", "x/e": "directory", "x/e/b": "'4'"},
        [],
    ),
    "an empty directory comes along with its directory, at whose old place there is a file of its name": (
        trace(("delete d", "rename d x; delete x/e/b; write x/f mine; mkdir d; write d/e mine too")),
        {"d": "directory", "d/a": None, "d/e": "'mine too'", "d/e/b": None} | {"x": "directory", "x/f": "'mine'"},
        ["deletion at x"],
    ),
    "a file that was moved out there, of a directory that is moved here, does not come along": (
        trace(("write e/b 6", ""), ("rename e/c.txt d/c", "write e/c.txt mine; rename e x")),
        {"e": None, "e/c.txt": None, "d/c": "'mine'", "x": "directory", "x/b": "'6'"},
        [],
    ),
    "a file that was moved out there, of a directory that is removed here, and a file takes its place": (
        trace(("rename d/e/b c", "delete d; save d mine")),
        {"d": "'mine'", "d/a": None, "d/e": None, "d/e/b": None},
        [],
    ),
    "a directory makes room for a file and gets another file from there": (
        trace(("rename d/a e/c.txt; chmod u+w d/e/b", "rename e d/e/e; rename d/e/b e; append d/a mine")),
        {"d/a": None, "d/e/b": None, "e/c.txt": None} | {"d/e/e": "directory", "d/e/e/c.txt": "'3mine'", "e": "'4'"},
        [],
    ),
    "a directory becomes local, and a file takes its place": (
        trace(("", "rename d/e d/e~; write d/e mine")),
        {"d/e": "'mine'", "d/e/b": None},
        [],
    ),
    "a file leaves a directory that a file replaces, and gets other bytes from there": (
        trace(("write d/a new", "rename d/a c; delete d; write d mine")),
        {"c": "'new'", "d": "'mine'", "d/a": None, "d/e": None, "d/e/b": None},
        [],
    ),
    "an empty file goes away from the server and comes back": (
        trace(("write a", ""), ("", "rename a a~"), ("", "rename a~ c")),
        {"a": None, "c": "''"},
        [],
    ),
    "an empty file whose permission changed there is overwritten here": (
        trace(("write a", ""), ("chmod u-w a; chmod u+w a", "write a mine")),
        {"a": "'mine'"},
        [],
    ),
    "a file that is renamed here and there has the name that it got there": (
        trace(("rename a x", "rename a y")),
        {"a": None, "x": "'1'"},
        ["place at x"],
    ),
    "of two directories that are moved into each other, one here and one there, the one moves that did so there": (
        trace(("rename d/e e/x", "rename e d/e/y")),
        {"d/e": None, "d/e/b": None, "e/x": "directory", "e/x/b": "'4'"},
        ["place at e"],
    ),
    "the same, where it is not the directory itself that the other one moves into": (
        trace(("delete e/c.txt", ""), ("rename e d/e/a", "rename d e/c.txt; write b mine")),
        {"b": "'mine'", "e": None, "e/c.txt": None, "d/e/a": "directory"},
        ["place at d"],
    ),
    "a file that became read-only there is so where it stays local": (
        trace(("chmod u-w b", ""), ("", "rename b b~"), ("", "append b~ mine")),
        {"b": None},
        [],
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_edits_end_alike(tmp_path: Path, story: str) -> None:
    traced, changes, conflicts = STORIES[story]
    at_first = ends(replace(traced, batches=traced.batches[:1]), tmp_path).server
    wanted = {path: what for path, what in {**at_first, **changes}.items() if what is not None}
    end = ends(traced, tmp_path)
    assert (end.server, end.conflicts) == (dict(sorted(wanted.items())), conflicts)


# -- whether such a comparison can fail


def test_traces_bring_about_every_edit_and_every_conflict(tmp_path: Path) -> None:
    done: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for number in range(100):
        traced = trace_of(number)
        for batch, result in zip(traced.batches, play(traced, mount, memory_directory() or tmp_path), strict=True):
            done.update(edit.verb.value for edit in batch.here if str(edit) not in result.failed)
            kinds.update(conflict.partition(" ")[0] for conflict in result.conflicts)
    assert set(done) == {verb.value for verb in Verb}
    assert set(kinds) == {kind.value for kind in ConflictKind}


def test_a_folder_that_decides_differently_is_found(tmp_path: Path) -> None:
    traced = trace(("write a new", "write a mine"))
    other = replace(traced, policy=ConflictPolicy.LOCAL)
    in_mount, in_folder = play(traced, mount, tmp_path), play(other, folder, tmp_path)
    assert compared(in_mount, in_folder).startswith("batch 2, server: mount [\"a: 'new'\", ")


def test_a_trace_is_the_same_every_time() -> None:
    assert trace_of(7) == trace_of(7) != trace_of(8)
    assert [edits(str(edit)) for batch in trace_of(7).batches for edit in batch.here] == [
        (edit,) for batch in trace_of(7).batches for edit in batch.here
    ]
