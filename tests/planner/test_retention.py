"""Which versions go: laws over random histories, and the cases that the laws were found with."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfs.planner.retention import Held, Retention, surplus

DAY_NS = 86_400 * 10**9
NOW_NS = 100 * DAY_NS


@st.composite
def histories(draw: st.DrawFn) -> list[Held]:
    made = draw(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50), st.integers(0, 60), st.booleans()), max_size=20)
    )
    versions = [
        Held(number, path, cost, NOW_NS - age * DAY_NS, is_sole)
        for number, (path, cost, age, is_sole) in enumerate(made, 1)
    ]
    random.Random(len(made)).shuffle(versions)
    return versions


retentions = st.builds(Retention, st.sampled_from([0.0, 10.0, 30.0, 45.0]), st.sampled_from([0, 40, 200, 10_000]))


def left_of(versions: list[Held], retention: Retention) -> list[Held]:
    going = surplus(versions, retention, NOW_NS)
    return sorted((one for one in versions if one.number not in going), key=lambda one: one.number)


@given(histories(), retentions)
def test_what_may_go_never_takes_more_than_its_room(versions: list[Held], retention: Retention) -> None:
    left = left_of(versions, retention)
    assert all(one.is_sole for one in left) or sum(one.cost for one in left) <= retention.limit_bytes


@given(histories(), retentions)
def test_nothing_stays_longer_than_it_may(versions: list[Held], retention: Retention) -> None:
    for one in left_of(versions, retention):
        days = max(retention.days, 30) if one.is_sole else retention.days
        assert NOW_NS - one.at_ns <= days * DAY_NS


@given(histories(), retentions)
def test_what_is_nowhere_else_goes_by_age_alone(versions: list[Held], retention: Retention) -> None:
    days = max(retention.days, 30)
    young = {one.number for one in versions if one.is_sole and NOW_NS - one.at_ns <= days * DAY_NS}
    assert young.isdisjoint(surplus(versions, retention, NOW_NS))


@given(histories(), retentions)
def test_nothing_young_goes_while_there_is_room(versions: list[Held], retention: Retention) -> None:
    going = [one for one in versions if one.number in surplus(versions, retention, NOW_NS)]
    young = [one for one in versions if NOW_NS - one.at_ns <= retention.days * DAY_NS or one.is_sole]
    if sum(one.cost for one in young) <= retention.limit_bytes and not retention.is_off:
        assert all(NOW_NS - one.at_ns > retention.days * DAY_NS for one in going)


@given(histories(), retentions)
def test_the_last_version_of_a_file_goes_only_when_no_earlier_one_of_any_file_is_left(
    versions: list[Held], retention: Retention
) -> None:
    if retention.is_off:
        return
    young = [one for one in versions if NOW_NS - one.at_ns <= retention.days * DAY_NS and not one.is_sole]
    staying = [one for one in versions if one not in young and one.is_sole and NOW_NS - one.at_ns <= 45 * DAY_NS]
    last = {}
    for one in sorted([*young, *staying], key=lambda one: one.number):
        last[one.path] = one.number
    left = {one.number for one in left_of(versions, retention)}
    if any(one.number == last[one.path] and one.number not in left for one in young):
        assert not any(one.number != last[one.path] and one.number in left for one in young)


@given(histories(), retentions)
def test_the_answer_depends_on_nothing_but_the_versions_and_is_final(
    versions: list[Held], retention: Retention
) -> None:
    going = surplus(versions, retention, NOW_NS)
    assert surplus(versions[::-1], retention, NOW_NS) == going
    assert surplus(left_of(versions, retention), retention, NOW_NS) == []


def test_a_file_that_is_saved_all_the_time_takes_no_other_files_last_version() -> None:
    deleted = Held(1, "thesis", 100, NOW_NS)
    saves = [Held(number, "log", 30, NOW_NS) for number in range(2, 40)]
    left = left_of([deleted, *saves], Retention(30, 300))
    assert [one.number for one in left] == [1, *range(35, 40)]


@pytest.mark.parametrize("retention", [Retention(0, 1000), Retention(30, 0)])
def test_off_means_that_nothing_is_kept_but_what_is_nowhere_else(retention: Retention) -> None:
    versions = [Held(1, "a", 10, NOW_NS), Held(2, "b", 10, NOW_NS, is_sole=True)]
    assert [one.number for one in left_of(versions, retention)] == [2]


def test_a_clock_that_went_back_makes_nothing_old() -> None:
    assert surplus([Held(1, "a", 10, NOW_NS + 400 * DAY_NS)], Retention(), NOW_NS) == []
