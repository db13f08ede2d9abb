"""Bursts of hints become few places, and none is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobfs.folder.coalesce import EVERYWHERE, MANY, Places, coalesce, is_covered, reduced

NAMES = st.sampled_from(["a", "b", "c"])
PLACES = st.lists(NAMES, max_size=4).map("/".join)


def nothing(place: str) -> bool:
    return False


def test_a_burst_about_one_file_is_one_place() -> None:
    assert coalesce(["a", "a", "a"], nothing) == Places(frozenset({"a"}))


def test_our_own_downloads_are_no_hints() -> None:
    assert coalesce(["d/.a.jobfs-abcdefgh.new", "d/a"], nothing) == Places(frozenset({"d/a"}))


def test_ignored_places_are_no_hints() -> None:
    assert not coalesce([".git/index"], lambda place: place.startswith(".git"))


def test_a_hint_about_the_root_means_everything() -> None:
    assert coalesce(["", "a"], nothing) == EVERYWHERE


def test_too_many_places_are_everything() -> None:
    assert coalesce((f"f{number}" for number in range(MANY + 1)), nothing) == EVERYWHERE


def test_a_name_that_only_starts_like_a_directory_is_not_in_it() -> None:
    assert not is_covered("ab/c", {"a"})


@given(st.sets(PLACES), st.sets(PLACES))
def test_what_was_to_be_looked_at_is_still_looked_at(entries: set[str], trees: set[str]) -> None:
    after = reduced(Places(frozenset(entries), frozenset(trees)))
    for tree in trees:
        assert is_covered(tree, after.trees)
    for entry in entries:
        assert entry in after.entries or is_covered(entry, after.trees)


@given(st.sets(PLACES), st.sets(PLACES))
def test_nothing_is_looked_at_twice(entries: set[str], trees: set[str]) -> None:
    after = reduced(Places(frozenset(entries), frozenset(trees)))
    assert not any(is_covered(entry, after.trees) for entry in after.entries)
    assert not any(is_covered(tree, after.trees - {tree}) for tree in after.trees)
