"""What watchers are told, from what was there and what is: tiny places, each with a letter for a file or directory."""

from __future__ import annotations

import pytest

from jobfs.fuse.news import Changed, Created, Deleted, Moved, News, Shown, news
from jobfs.fuse.phantoms import Place
from jobfs.model import ROOT, Kind, NodeId

A, B, C, D = (Place(ROOT, name) for name in "abcd")
ONE, TWO, THREE = (Shown(NodeId(number), Kind.FILE) for number in (2, 3, 4))
FOLDER, OTHER_FOLDER = (Shown(NodeId(number), Kind.DIRECTORY) for number in (5, 6))


def told(
    before: dict[Place, Shown | None], now: dict[Place, Shown], became: dict[NodeId, NodeId] | None = None
) -> list[News]:
    return list(news(before, now.get, became or {}))


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (None, None, []),
        (None, ONE, [Created(A, ONE)]),
        (None, FOLDER, [Created(A, FOLDER)]),
        (ONE, None, [Deleted(A, ONE)]),
        (ONE, TWO, [Changed(A, TWO)]),
        (ONE, ONE, [Changed(A, ONE)]),
        (ONE, FOLDER, [Deleted(A, ONE), Created(A, FOLDER)]),
        (FOLDER, ONE, [Deleted(A, FOLDER), Created(A, ONE)]),
        (FOLDER, OTHER_FOLDER, [Deleted(A, FOLDER), Created(A, OTHER_FOLDER)]),
        (FOLDER, FOLDER, []),
    ],
)
def test_a_place_is_told_by_what_was_there_and_what_is(
    before: Shown | None, now: Shown | None, expected: list[News]
) -> None:
    assert told({A: before}, {} if now is None else {A: now}) == expected


def test_a_node_that_went_here_and_came_there_has_moved() -> None:
    assert told({A: ONE, B: None}, {B: ONE}) == [Moved(A, B, ONE)]
    assert told({B: None, A: ONE}, {B: ONE}) == [Moved(A, B, ONE)]


def test_a_move_that_made_a_new_version_is_a_move_all_the_same() -> None:
    assert told({A: ONE, B: None}, {B: THREE}, {ONE.node: TWO.node, TWO.node: THREE.node}) == [Moved(A, B, THREE)]


def test_a_move_over_something_is_a_deletion_and_a_change() -> None:
    assert told({A: ONE, B: TWO}, {B: ONE}) == [Deleted(A, ONE), Changed(B, ONE)]


def test_two_that_changed_places_have_changed() -> None:
    assert told({A: ONE, B: TWO}, {A: TWO, B: ONE}) == [Changed(A, TWO), Changed(B, ONE)]


def test_what_steps_aside_in_a_conflict_is_a_change_and_a_creation() -> None:
    assert told({A: ONE, B: None}, {A: TWO, B: ONE}, {ONE.node: TWO.node}) == [Changed(A, TWO), Created(B, ONE)]


def test_news_come_in_the_order_of_what_happened() -> None:
    before = {C: None, A: ONE, D: None, B: TWO}
    assert told(before, {C: THREE, D: FOLDER, B: ONE}) == [
        *(Created(C, THREE), Deleted(A, ONE), Created(D, FOLDER), Changed(B, ONE))
    ]
