"""In which order nodes get to their places."""

from __future__ import annotations

from collections.abc import Collection

from jobfs.model import ROOT, Entry, FrozenTree, Kind, NodeId
from jobfs.planner.arrange import Aside, Order, Put, arrange


def tree(*places: tuple[int, int, str]) -> FrozenTree:
    return FrozenTree(Entry(NodeId(node), NodeId(parent), name, Kind.DIRECTORY) for node, parent, name in places)


def put(node: int, parent: int, name: str, depth: int = 1) -> Put:
    return Put(NodeId(node), NodeId(parent), name, depth)


def aside(node: int, name: str, *, is_leaving: bool = False) -> Aside:
    return Aside(NodeId(node), ROOT, f".{name}", is_leaving)


def order(now: FrozenTree, *puts: Put, leaving: Collection[int] = ()) -> Order:
    return arrange(now, puts, lambda node: node in leaving, lambda node, name: f".{name}")


def test_what_does_not_depend_on_each_other_is_one_round() -> None:
    puts = [put(2, ROOT, "a"), put(3, ROOT, "b")]
    assert order(tree(), *puts) == Order([puts])


def test_a_directory_goes_before_what_goes_into_it() -> None:
    assert order(tree(), put(2, ROOT, "a"), put(3, 2, "b", 2)).rounds == [[put(2, ROOT, "a")], [put(3, 2, "b", 2)]]


def test_what_is_in_the_way_goes_first_in_whatever_order_they_come() -> None:
    now = tree((2, ROOT, "a"), (3, ROOT, "b"), (4, ROOT, "c"))
    up = [put(2, ROOT, "b"), put(3, ROOT, "c"), put(4, ROOT, "d")]
    expected = [[up[2]], [up[1]], [up[0]]]
    assert order(now, *up).rounds == expected
    assert order(now, *reversed(up)).rounds == expected
    assert order(now, up[1], up[2], up[0]).rounds == expected


def test_in_a_circle_one_steps_aside() -> None:
    now = tree((2, ROOT, "a"), (3, ROOT, "b"))
    first, second = put(3, ROOT, "a"), put(2, ROOT, "b")
    assert order(now, first, second).rounds == [[aside(3, "b")], [second], [first]]


def test_what_is_leaving_steps_aside() -> None:
    now = tree((2, ROOT, "a"))
    expected = [[aside(2, "a", is_leaving=True)], [put(3, ROOT, "a")]]
    assert order(now, put(3, ROOT, "a"), leaving=[2]).rounds == expected


def test_what_goes_deeper_later_steps_aside_now() -> None:
    now = tree((2, ROOT, "a"))
    puts = [put(3, ROOT, "a"), put(2, 3, "b", 2)]
    assert order(now, *puts).rounds == [[aside(2, "a")], [puts[0]], [puts[1]]]


def test_what_stays_in_the_way_blocks_and_whoever_waits_for_the_blocked() -> None:
    now = tree((2, ROOT, "a"), (3, ROOT, "b"), (4, ROOT, "c"))
    waiting, blocked = put(4, ROOT, "b"), put(3, ROOT, "a")
    assert order(now, waiting, blocked) == Order([], [(blocked, NodeId(2)), (waiting, NodeId(3))])


def test_a_directory_that_is_neither_there_nor_made_blocks() -> None:
    assert order(tree(), put(3, 2, "a", 2)) == Order([], [(put(3, 2, "a", 2), None)])


def test_nothing_is_put_below_itself_because_something_else_was_blocked() -> None:
    now = tree((2, ROOT, "x"), (3, ROOT, "n"), (4, 3, "p"))
    stuck, below = put(4, ROOT, "x"), put(3, 4, "n", 2)
    assert order(now, stuck, below) == Order([], [(stuck, NodeId(2)), (below, None)])
