"""Which node an item of a listing is."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfs.model import (
    ROOT,
    Content,
    Entry,
    FrozenTree,
    Item,
    ItemId,
    Kind,
    Lifecycle,
    NodeId,
    Permission,
    node_at,
    path_of,
)
from jobfs.planner.identity import Identified, changed_nodes, identify
from jobfs.planner.view import build_view

NEW = 100
HIDDEN_OLD = ".a.jobfs-0123abcd.old"


def at(second: int) -> str:
    return f"2024-05-06T07:08:{second:02}.000Z"


def item(path: str, number: int, *, kind: Kind = Kind.FILE, second: int = 1, size: int = 1) -> Item:
    time = at(second)
    lifecycle = Lifecycle.EXPERT_JOB
    return Item(ItemId(f"i{number}"), kind, path, path, Permission.READ_WRITE, lifecycle, "user", time, time, size)


def folder(path: str, number: int) -> Item:
    return item(path, number, kind=Kind.DIRECTORY)


def known(node: int, name: str, of: Item | None, parent: int = ROOT) -> Entry:
    """Return the entry that base has for an item."""
    if of is None or of.kind is Kind.DIRECTORY:
        return Entry(NodeId(node), NodeId(parent), name, Kind.DIRECTORY, item=of.id if of is not None else None)
    content = Content(of.size, "seen", of.revision)
    return Entry(NodeId(node), NodeId(parent), name, Kind.FILE, content=content, item=of.id)


def local_file(node: int, name: str, parent: int = ROOT) -> Entry:
    return Entry(NodeId(node), NodeId(parent), name, Kind.FILE, content=Content(1, "mine"))


def run(
    items: Iterable[Item],
    base: Iterable[Entry] = (),
    local: Iterable[Entry] | None = None,
    before: Iterable[Entry] | None = None,
    *,
    held: Collection[int] = (),
    tombstones: Collection[str] = (),
    first_new: int = NEW,
) -> Identified:
    entries = list(base)
    numbers = count(first_new)
    return identify(
        build_view(items),
        FrozenTree(entries),
        FrozenTree(entries if local is None else local),
        FrozenTree(entries if before is None else before),
        held=[NodeId(node) for node in held],
        tombstones=[ItemId(each) for each in tombstones],
        allocate=lambda: NodeId(next(numbers)),
    )


def nodes(found: Identified) -> dict[str, int]:
    tree = found.tree
    return {path: node for node in tree if node != ROOT and (path := path_of(tree, node)) is not None}


def test_an_item_that_nobody_knows_gets_a_new_node() -> None:
    assert nodes(run([folder("d", 1), item("d/a", 2)])) == {"d": NEW, "d/a": NEW + 1}


def test_a_listing_that_brings_nothing_new_gives_the_very_entries_of_base() -> None:
    base = [known(2, "d", folder("d", 1)), known(3, "a", item("d/a", 2), parent=2)]
    found = run([folder("d", 1), item("d/a", 2)], base)
    assert all(found.tree.get(entry.id) is entry for entry in base)
    assert changed_nodes(FrozenTree(base), found.tree) == set()


def test_a_known_item_keeps_its_node_wherever_it_is() -> None:
    base = [known(2, "d", folder("d", 1)), known(3, "a", item("d/a", 2), parent=2)]
    assert nodes(run([folder("e", 1), item("e/b", 2)], base)) == {"e": 2, "e/b": 3}


def test_a_new_revision_has_unknown_bytes_and_an_old_one_keeps_what_is_known() -> None:
    base = [known(2, "a", item("a", 1)), known(3, "b", item("b", 2))]
    found = run([item("a", 1, second=2), item("c", 2)], base)
    newer, moved = found.tree.get(NodeId(2)), found.tree.get(NodeId(3))
    assert newer is not None
    assert newer.content == Content(1, None, item("a", 1, second=2).revision)
    assert moved is not None
    assert moved.content is base[1].content


def test_bytes_that_were_seen_meanwhile_stay_known() -> None:
    row = item("a", 1, second=2)
    before = [known(2, "a", row)]
    found = run([row], [known(2, "a", item("a", 1))], before=before)
    assert found.tree.get(NodeId(2)) is before[0]


def test_what_was_deleted_and_created_again_at_a_place_is_the_same_node() -> None:
    base = [known(2, "d", folder("d", 1)), known(3, "a", item("d/a", 2), parent=2)]
    found = run([folder("d", 11), item("d/a", 12)], base)
    assert nodes(found) == {"d": 2, "d/a": 3}
    assert [entry.item for node in (2, 3) if (entry := found.tree.get(NodeId(node)))] == ["i11", "i12"]


def test_another_kind_at_the_place_is_another_node() -> None:
    assert nodes(run([folder("a", 11)], [known(2, "a", item("a", 1))])) == {"a": NEW}


def test_an_item_at_the_place_of_one_that_moved_away_is_another_node() -> None:
    base = [known(2, "a", item("a", 1))]
    assert nodes(run([item("a", 11), item("b", 1)], base)) == {"b": 2, "a": NEW}


def test_what_both_sides_created_at_one_place_is_one_node() -> None:
    assert nodes(run([item("a", 1)], local=[local_file(7, "a")])) == {"a": 7}


def test_a_known_node_that_the_user_moved_to_the_place_is_not_the_new_item() -> None:
    base = [known(2, "a", item("a", 1))]
    local = [local_file(2, "b")]
    assert nodes(run([item("a", 1), item("b", 9)], base, local)) == {"a": 2, "b": NEW}


def test_an_implicit_directory_keeps_its_node_and_becomes_an_item() -> None:
    base = [known(2, "d", None), known(3, "a", item("d/a", 2), parent=2)]
    assert nodes(run([item("d/a", 2)], base)) == {"d": 2, "d/a": 3}
    found = run([folder("d", 9), item("d/a", 2)], base)
    assert nodes(found) == {"d": 2, "d/a": 3}
    assert nodes(run([item("d/a", 2)], [known(2, "d", folder("d", 1)), base[1]])) == {"d": 2, "d/a": 3}


def test_a_node_that_only_the_former_listing_knew_keeps_its_number() -> None:
    before = [known(50, "a", item("a", 1)), known(51, "b", item("b", 2))]
    assert nodes(run([item("a", 1), item("c", 2)], before=before)) == {"a": 50, "c": 51}
    assert nodes(run([item("a", 9)], before=before)) == {"a": 50}


def test_a_held_node_keeps_its_former_entry_and_its_rows_are_passed_over() -> None:
    base = [known(2, "a", item("a", 1))]
    assert nodes(run([item("b", 1)], base, held=[2])) == {"a": 2}
    assert nodes(run([], base, held=[2])) == {"a": 2}
    replaced = run([item("a", 9)], base, held=[2]).tree
    assert replaced.get(NodeId(2)) is not None
    assert replaced.get(NodeId(2)) == base[0]
    assert len(replaced) == 2


def test_a_held_node_that_was_deleted_meanwhile_stays_away() -> None:
    base = [known(2, "a", item("a", 1))]
    assert nodes(run([item("a", 1)], base, before=[], held=[2])) == {}


def test_a_file_that_we_are_creating_is_not_taken_for_somebody_elses() -> None:
    assert nodes(run([item("a", 1)], local=[local_file(7, "a")], held=[7])) == {}


def test_a_directory_that_we_are_moving_keeps_what_is_in_it() -> None:
    base = [known(2, "d", folder("d", 1)), known(3, "a", item("d/a", 2), parent=2)]
    assert nodes(run([folder("e", 1), item("e/a", 2)], base, held=[2])) == {"d": 2, "d/a": 3}


def test_below_a_directory_that_we_are_making_nothing_hangs_in_the_air() -> None:
    local = [Entry(NodeId(7), ROOT, "d", Kind.DIRECTORY)]
    assert nodes(run([folder("d", 1), item("d/a", 2)], local=local, held=[7])) == {}


def test_an_item_that_we_deleted_meanwhile_is_passed_over_with_what_is_below_it() -> None:
    rows = [folder("d", 1), item("d/a", 2), item("d/new", 3), item("b", 4)]
    assert nodes(run(rows, tombstones=["i1", "i2"])) == {"b": NEW}


def test_a_row_older_than_what_is_known_comes_from_a_stale_page() -> None:
    base = [known(2, "b", item("b", 1, second=5))]
    found = run([item("a", 1, second=4)], base)
    assert found.tree.get(NodeId(2)) is base[0]


def test_what_somebody_is_replacing_at_this_moment_does_not_vanish() -> None:
    base = [known(2, "a", item("a", 1))]
    assert nodes(run([item(HIDDEN_OLD, 1, second=2)], base)) == {"a": 2}
    done = run([item(HIDDEN_OLD, 1, second=2), item("a", 9, second=3)], base)
    assert nodes(done) == {"a": 2}
    entry = done.tree.get(NodeId(2))
    assert entry is not None
    assert entry.item == "i9"


def test_what_somebody_wrote_before_another_moved_it_aside_is_seen_also_while_we_are_about_to_delete_it() -> None:
    base = [known(2, "a", item("a", 1))]
    written = item(HIDDEN_OLD, 1, second=3, size=2)
    entry = run([written], base, local=[], held=[2]).tree.get(NodeId(2))
    assert entry is not None
    assert (entry.name, entry.content) == ("a", Content(2, None, written.revision))
    older = run([item(HIDDEN_OLD, 1, second=0, size=2)], base, local=[], held=[2])
    assert older.tree.get(NodeId(2)) is base[0]


@pytest.mark.parametrize("place", ["a", "b", "elsewhere"])
def test_bytes_that_somebody_wrote_are_seen_in_a_file_that_we_are_moving_at_its_new_place(
    place: str,
) -> None:
    base = [known(2, "a", item("a", 1))]
    moved = [replace(base[0], name="b")]
    written = item(place, 1, second=3, size=2)
    entry = run([written], base, before=moved, held=[2]).tree.get(NodeId(2))
    assert entry == replace(moved[0], content=Content(2, None, written.revision))


def test_what_we_displaced_to_delete_it_is_still_there_to_be_deleted() -> None:
    base = [known(2, "d", folder("d", 1)), known(3, "a", item("d/a", 2), parent=2)]
    hidden = ".d.jobfs-0123abcd.old"
    found = run([folder(hidden, 1), item(f"{hidden}/a", 2)], base, local=[])
    assert nodes(found) == {hidden: 2, f"{hidden}/a": 3}


@pytest.mark.parametrize("is_directory_there", [True, False])
def test_what_we_displaced_to_delete_it_is_not_forgotten_with_a_directory_that_nothing_else_implies(
    is_directory_there: bool,
) -> None:
    hidden = f"d/{HIDDEN_OLD}"
    base = [known(2, "d", folder("d", 1)), known(3, HIDDEN_OLD, item(hidden, 2), parent=2)]
    before = [known(2, "f", folder("f", 1)), known(4, "d", None), known(3, HIDDEN_OLD, item(hidden, 2), parent=4)]
    rows = [folder("f", 1), item(hidden, 2)] if is_directory_there else [item(hidden, 2)]
    assert run(rows, base, local=base[:1], before=before).tree.get(NodeId(3)) is not None


def test_what_somebody_moved_into_a_directory_that_only_steps_aside_is_seen_there() -> None:
    hidden = ".e.jobfs-0123abcd.old"
    base = [known(2, hidden, folder(hidden, 1)), known(3, "d", folder("d", 2)), known(4, "b", item("d/b", 3), parent=3)]
    local = [replace(base[0], parent=NodeId(3), name="f"), *base[1:]]
    found = run([folder(hidden, 1), folder(f"{hidden}/d", 2), item(f"{hidden}/d/b", 3)], base, local=local)
    assert nodes(found) == {hidden: 2, f"{hidden}/d": 3, f"{hidden}/d/b": 4}


def test_an_item_that_our_request_put_beside_the_old_one_is_not_taken_for_somebody_elses() -> None:
    base = [known(2, "b", item("b", 1))]
    assert nodes(run([item("a", 1), item("b", 9)], base, held=[2])) == {"b": 2}


def test_a_held_node_whose_former_directory_is_gone_is_where_the_listing_has_it() -> None:
    base = [
        known(2, "p", folder("p", 1)),
        known(3, "d", folder("p/d", 2), parent=2),
        known(4, "a", item("p/d/a", 3), parent=3),
    ]
    assert nodes(run([folder("d", 2), item("d/a", 3)], base, held=[3])) == {"d": 3, "d/a": 4}
    gone = run([item("x", 3)], base, held=[3])
    assert nodes(gone) == {"x": 4}


def test_an_id_that_comes_back_with_another_kind_is_another_node() -> None:
    assert nodes(run([folder("b", 1)], [known(2, "a", item("a", 1))])) == {"b": NEW}


def test_a_stranger_s_temporary_has_no_node() -> None:
    assert nodes(run([item(".a.jobfs-0123abcd.new", 1)])) == {}


def test_opaque_directories_are_told_by_their_nodes() -> None:
    odd = Item(ItemId("i3"), None, "d/odd", "d/odd", Permission.READ_WRITE, Lifecycle.EXPERT_JOB, "", "", "")
    found = run([folder("d", 1), folder("e", 2), odd], [known(2, "d", folder("d", 1))])
    assert found.opaque == {2}


def test_changed_nodes_are_those_that_came_went_or_differ() -> None:
    one = FrozenTree([known(2, "a", item("a", 1)), known(3, "b", item("b", 2)), known(4, "c", item("c", 3))])
    other = FrozenTree([known(2, "a", item("a", 1)), known(3, "x", item("x", 2)), known(5, "d", item("d", 4))])
    assert changed_nodes(one, other) == {3, 4, 5}


_PATHS = st.sampled_from(["a", "b", "d", "d/a", "d/e", "d/e/a", HIDDEN_OLD, "d/" + HIDDEN_OLD])
_KINDS = st.sampled_from([Kind.FILE, Kind.DIRECTORY])
_LISTING = st.lists(st.tuples(_PATHS, st.integers(1, 6), _KINDS, st.integers(1, 3)), max_size=6)


@given(_LISTING, _LISTING, st.sets(st.integers(NEW, NEW + 8), max_size=3), st.sets(st.integers(1, 6), max_size=2))
def test_whatever_two_listings_say_the_tree_is_whole_and_the_first_one_read_again_changes_nothing(
    first: list[tuple[str, int, Kind, int]],
    second: list[tuple[str, int, Kind, int]],
    held: set[int],
    tombstones: set[int],
) -> None:
    base = run(rows(first)).tree
    entries = [entry for node in base if (entry := base.get(node)) is not None and node != ROOT]
    assert changed_nodes(base, run(rows(first), entries).tree) == set()
    gone = [f"i{each}" for each in tombstones]
    tree = run(rows(second), entries, held=held, tombstones=gone, first_new=2 * NEW).tree
    for node in tree:
        path = path_of(tree, node)
        assert path is not None
        assert node_at(tree, path) == node


def rows(drawn: list[tuple[str, int, Kind, int]]) -> list[Item]:
    """Return a listing in which each id and each path comes once."""
    by_id = {number: item(path, number, kind=kind, second=second) for path, number, kind, second in drawn}
    return list({each.path: each for each in by_id.values()}.values())
