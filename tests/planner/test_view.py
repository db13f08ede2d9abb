"""From items to paths: the view rules of the contract, section 4."""

from __future__ import annotations

import random
import time
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfs.model import Item, ItemId, Kind, Lifecycle, Permission, Trouble
from jobfs.planner.naming import check_name
from jobfs.planner.view import View, build_view, is_older, left_behind

TIMES = ["2024-05-06T07:08:09.100Z", "2024-05-06T07:08:09.200Z", "not a time", ""]


def item(
    path: str, number: int = 1, *, kind: Kind | None = Kind.FILE, shared: bool = False, at: str = TIMES[0]
) -> Item:
    lifecycle = Lifecycle.APPLICATION if shared else Lifecycle.EXPERT_JOB
    return Item(ItemId(f"i{number}"), kind, path, path, Permission.READ_WRITE, lifecycle, "user", at, at)


def folder(path: str, number: int = 1, *, shared: bool = False) -> Item:
    return item(path, number, kind=Kind.DIRECTORY, shared=shared)


def ids(view: View) -> dict[str, str | None]:
    return {path: None if shown is None else shown.id for path, shown in view.by_path.items()}


def test_plain_items_are_shown_at_their_paths_directories_first() -> None:
    view = build_view([item("d/a", 2), item("z", 3), folder("d", 1)])
    assert list(ids(view).items()) == [("d", "i1"), ("d/a", "i2"), ("z", "i3")]
    assert (view.shadowed, view.aliases, view.hidden, view.problems, view.opaque) == ((), {}, (), (), frozenset())


def test_missing_ancestors_are_implicit_directories() -> None:
    assert ids(build_view([item("a/b/c")])) == {"a": None, "a/b": None, "a/b/c": "i1"}


def test_a_private_item_wins_over_a_default_without_a_problem() -> None:
    view = build_view([item("a", 1, shared=True, at=TIMES[1]), item("a", 2)])
    assert (ids(view), [lost.id for lost in view.shadowed], view.problems) == ({"a": "i2"}, ["i1"], ())


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [
        (item("a", 1, at=TIMES[1]), item("a", 2, at=TIMES[0]), "i1"),
        (item("a", 1, at=TIMES[0]), item("a", 2, at=TIMES[1]), "i2"),
        (item("a", 1), item("a", 2), "i2"),
        (item("a", 1, at=TIMES[2]), item("a", 2, at=TIMES[0]), "i2"),
        (item("a", 1, at="2024-05-06T09:00:00+02:00"), item("a", 2, at="2024-05-06T08:00:00Z"), "i2"),
    ],
)
def test_of_two_items_of_one_kind_the_later_wins_then_the_greater_id(first: Item, second: Item, winner: str) -> None:
    for items in ([first, second], [second, first]):
        view = build_view(items)
        assert ids(view) == {"a": winner}
        assert [problem.trouble for problem in view.problems] == [Trouble.SHADOWED]


def test_a_directory_that_holds_a_shadowed_item_is_opaque_with_those_above_it() -> None:
    view = build_view([folder("d", 1), folder("d/e", 2), item("d/e/a", 3), item("d/e/a", 4, shared=True)])
    assert view.opaque == {"d", "d/e"}


def test_a_file_that_is_also_an_ancestor_appears_under_a_name_with_its_id() -> None:
    view = build_view([item("a", 1), item("a/b", 2)])
    assert ids(view) == {"a": None, "a%~i1": "i1", "a/b": "i2"}
    assert {path: shown.id for path, shown in view.aliases.items()} == {"a%~i1": "i1"}
    assert [problem.trouble for problem in view.problems] == [Trouble.KIND_COLLISION]


def test_a_directory_item_that_lost_to_such_a_file_has_the_name_after_all() -> None:
    view = build_view([item("a", 2), folder("a", 1, shared=True), item("a/b", 3)])
    assert ids(view) == {"a": "i1", "a%~i2": "i2", "a/b": "i3"}
    assert view.shadowed == ()


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("..", "%2E%2E"),
        ("a/../b", "a/%2E%2E/b"),
        ("./a", "%2E/a"),
        ("a//b", "a/%/b"),
        ("/a", "%/a"),
        ("a\nb", "a%0Ab"),
        ("a\0", "a%00"),
        (".jobfs/x", "%2Ejobfs/x"),
        ("a/.jobfs", "a/.jobfs"),
        ("50% of it", "50% of it"),
        ("\udc80", "%uDC80"),
    ],
)
def test_unusable_names_are_shown_as_percent_aliases(path: str, shown: str) -> None:
    view = build_view([item(path)])
    assert view.by_path[shown] is not None
    assert set(view.aliases) == ({shown} if shown != path else set())


def test_a_name_that_cannot_be_had_here_is_told_once_for_all_below_it() -> None:
    view = build_view([item("a\nb/one", 1), item("a\nb/two", 2), item("good/../up", 3), item("x" * 300, 4)])
    told = {problem.path: problem.trouble for problem in view.problems}
    assert len(told) == len(view.problems) == 3
    assert told["a%0Ab"] is told["good/%2E%2E"] is Trouble.INVALID_NAME
    (long,) = (path for path, trouble in told.items() if trouble is Trouble.NAME_TOO_LONG)
    assert long in view.by_path
    assert all(path in view.by_path for path in told)


def test_a_path_beyond_the_limit_is_told() -> None:
    view = build_view([item("/".join("d" * 600))])
    (problem,) = view.problems
    assert (problem.path, problem.trouble) == (next(iter(view.by_path)), Trouble.PATH_TOO_LONG)


@pytest.mark.parametrize("kind", [Kind.FILE, None])
def test_what_is_told_of_a_name_of_megabytes_is_a_line(kind: Kind | None) -> None:
    huge = Item(
        ItemId("i" * 10**6), kind, "x" * 10**6, "x", Permission.READ_WRITE, Lifecycle.EXPERT_JOB, "user", "", ""
    )
    (problem,) = build_view([huge]).problems
    assert len(problem.path) + len(problem.detail) < 1000


def test_an_item_whose_name_is_anothers_alias_keeps_it() -> None:
    assert ids(build_view([item("%2E%2E", 1), item("..", 2)])) == {"%2E%2E": "i1", "%2E%2E%~i2": "i2"}


def test_an_alias_with_an_id_never_hides_another_item() -> None:
    view = build_view([item("a", 1), item("a/b", 2), item("a%~i1", 3)])
    assert ids(view) == {"a": None, "a/b": "i2", "a%~i1": "i3", "a%~2-i1": "i1"}


def test_an_item_for_the_root_and_one_of_an_unknown_type_are_problems() -> None:
    view = build_view([item("", 1), item("d/odd", 2, kind=None), folder("d", 3)])
    assert ids(view) == {"d": "i3"}
    assert [problem.trouble for problem in view.problems] == [Trouble.INVALID_NAME, Trouble.UNKNOWN_TYPE]
    assert view.opaque == {"d"}


def test_our_temporaries_are_hidden_with_what_is_below_them() -> None:
    hidden = [item("d/.a.jobfs-0123abcd.new", 1), item(".e.jobfs-0123abcd.old/x", 2)]
    view = build_view([*hidden, item("a", 3)])
    assert (ids(view), {each.id for each in view.hidden}) == ({"a": "i3"}, {"i1", "i2"})


def test_a_path_of_absurd_depth_or_length_costs_no_directory_for_each_part() -> None:
    view = build_view([item("d/" * 200_000 + "a", 1), item("n" * 5000, 2)])
    assert len(view.by_path) == len(view.aliases) == 2


def test_a_hundred_thousand_items_take_under_a_second() -> None:
    items = [item(f"d{n % 100}/e{n % 1000}/file{n}", n) for n in range(100_000)]
    start = time.process_time()  # the processor's time: the machine may be busy with something else
    view = build_view(items)
    assert time.process_time() - start < 1.0
    assert len(view.by_path) == 100_000 + 100 + 1000


_PARTS = st.sampled_from(["a", "b", "..", "", "a%~i1", ".jobfs", "\x01", ".a.jobfs-0123abcd.old", "n" * 300])
_KINDS = st.sampled_from([Kind.FILE, Kind.DIRECTORY, None])
_ROWS = st.tuples(st.lists(_PARTS, max_size=4), _KINDS, st.booleans(), st.sampled_from(TIMES))


@given(st.lists(_ROWS, max_size=12), st.randoms(use_true_random=False))
def test_every_item_is_somewhere_every_path_is_usable_and_the_order_does_not_matter(
    rows: list[tuple[list[str], Kind | None, bool, str]], chance: random.Random
) -> None:
    items = [
        item("/".join(parts), number, kind=kind, shared=shared, at=at)
        for number, (parts, kind, shared, at) in enumerate(rows)
    ]
    view = build_view(items)
    placed = [shown.id for shown in view.by_path.values() if shown is not None]
    placed += [each.id for each in (*view.shadowed, *view.hidden)]
    unplaced = [each.id for each in items if each.id not in placed]
    assert len(placed) == len(set(placed))
    assert all(each.kind is None or not each.path for each in items if each.id in unplaced)
    assert all(check_name(name) is None for path in view.by_path for name in path.split("/"))
    above = [view.by_path[path.rpartition("/")[0]] for path in view.by_path if "/" in path]
    assert all(each is None or each.kind is Kind.DIRECTORY for each in above)
    chance.shuffle(items)
    assert build_view(items) == view


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (TIMES[0], TIMES[1], True),
        (TIMES[1], TIMES[0], False),
        (TIMES[0], TIMES[0], False),
        ("2024-05-06T07:08:09Z", "2024-05-06T07:08:09.5Z", True),
        (TIMES[2], TIMES[0], False),
        (TIMES[0], TIMES[2], False),
        ("2024-05-06T07:08:09", TIMES[1], False),
    ],
)
def test_times_are_compared_only_where_they_can_be(one: str, other: str, expected: bool) -> None:
    assert is_older(one, other) is expected


def test_what_was_cut_off_under_a_hidden_name_is_told_after_an_hour_and_what_lies_in_it_with_it() -> None:
    name = ".report.txt.jobfs-abcdefgh.old"
    hidden = [item(name), folder("d/.x.jobfs-abcdefgh.old", 2), item("d/.x.jobfs-abcdefgh.old/inner", 3)]
    items = [*hidden, item(".y.jobfs-abcdefgh.new", 4, at=TIMES[2]), item("elsewhere", 5)]
    seen = build_view(items).hidden

    def told(minutes: int, *known: Item) -> list[tuple[str, Trouble]]:
        newest = (datetime.fromisoformat(TIMES[0]) + timedelta(minutes=minutes)).isoformat()
        listing = [*items, item("newest", 6, at=newest)]
        return [(one.path, one.trouble) for one in left_behind(seen, listing, {one.id for one in known})]

    assert told(59) == []
    assert told(61) == [(name, Trouble.HIDDEN), ("d/.x.jobfs-abcdefgh.old", Trouble.HIDDEN)]
    assert told(61, hidden[0], hidden[1]) == []
