"""What stops a plan."""

from __future__ import annotations

import pytest

from jobfs.model import NodeId
from jobfs.planner.guards import Side, Word, check_deletions, is_reserved
from jobfs.planner.plan import DeleteRemote, Plan, RemoveLocal


def remote(count: int) -> Plan:
    nodes = tuple(NodeId(number) for number in range(2, count + 2))
    return Plan(to_remote=((DeleteRemote(nodes[0], nodes),),))


def local(count: int) -> Plan:
    return Plan(to_local=tuple(RemoveLocal(NodeId(number)) for number in range(2, count + 2)))


@pytest.mark.parametrize(
    ("deletions", "size", "is_stopped"),
    [
        (21, 41, True),  # over half and over 20
        (21, 42, False),  # half is not over half
        (20, 30, False),  # 20 are few
        (2, 2, True),  # everything
        (1, 1, False),  # the only one
        (500, 10_000, False),
        (30, 0, True),  # a size that is behind
    ],
)
def test_over_half_and_over_twenty_or_everything_stops(deletions: int, size: int, is_stopped: bool) -> None:
    there = check_deletions(remote(deletions), local_size=10**6, remote_size=size)
    here = check_deletions(local(deletions), local_size=size, remote_size=10**6)
    assert (there.is_stopped, here.is_stopped) == (is_stopped, is_stopped)


def test_the_verdict_says_where_and_how_much() -> None:
    verdict = check_deletions(remote(30), local_size=40, remote_size=40)
    assert (verdict.side, verdict.deletions, verdict.size) == (Side.REMOTE, 30, 40)
    assert "30 of 40" in verdict.detail
    assert "on the server" in verdict.detail
    assert "--yes" in verdict.detail
    verdict = check_deletions(local(30), local_size=40, remote_size=40)
    assert (verdict.side, "here" in verdict.detail) == (Side.LOCAL, True)


def test_what_the_user_allowed_passes() -> None:
    plan = remote(30)
    sizes = {"local_size": 40, "remote_size": 40}
    assert [check_deletions(plan, **sizes, allow=allow).is_stopped for allow in (29, 30, None)] == [True, False, False]


def nodes(first: int, count: int) -> frozenset[NodeId]:
    return frozenset(NodeId(number) for number in range(first, first + count))


@pytest.mark.parametrize(
    ("word", "is_stopped"),
    [
        (Word(Side.REMOTE, None), False),
        (Word(Side.REMOTE, 30), False),
        (Word(Side.REMOTE, 29), True),
        (Word(Side.LOCAL, None), True),
        (Word(Side.REMOTE, None, nodes(2, 30)), False),
        (Word(Side.REMOTE, None, nodes(2, 10)), False),  # the other 20 are few
        (Word(Side.REMOTE, 9, nodes(2, 10)), True),
        (Word(Side.REMOTE, None, nodes(2, 9)), True),  # the other 21 are over half of 31
    ],
)
def test_a_word_counts_for_its_side_and_its_nodes_and_the_rest_is_judged_by_itself(
    word: Word, is_stopped: bool
) -> None:
    assert check_deletions(remote(30), local_size=40, remote_size=40, words=[word]).is_stopped is is_stopped


def test_what_is_to_go_anyway_is_no_part_of_what_would_be_left() -> None:
    plan = local(40)
    verdicts = [
        check_deletions(plan, local_size=100, remote_size=0, leaving={Side.LOCAL: leaving, Side.REMOTE: frozenset()})
        for leaving in (frozenset[NodeId](), nodes(2, 40), nodes(42, 20), nodes(42, 60))
    ]
    assert [verdict.detail[:9] for verdict in verdicts] == ["", "", "", "40 of 40 "]
    verdicts = [
        check_deletions(plan, local_size=80, remote_size=0, leaving={Side.LOCAL: leaving, Side.REMOTE: frozenset()})
        for leaving in (nodes(2, 40), nodes(42, 1))
    ]
    assert [verdict.is_stopped for verdict in verdicts] == [False, True]


def test_a_plan_without_deletions_passes_in_an_empty_tree() -> None:
    assert not check_deletions(Plan(), local_size=0, remote_size=0).is_stopped


@pytest.mark.parametrize(
    ("path", "expected"),
    [("perstack", True), ("perstack/runs/1", True), ("perstack2", False), ("a/perstack", False), ("", False)],
)
def test_the_runtimes_directory_is_at_the_root(path: str, expected: bool) -> None:
    assert is_reserved(path) is expected
