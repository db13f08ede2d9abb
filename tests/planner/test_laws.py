"""Laws of the planner, over random worlds."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from jobfs.model import Kind
from jobfs.planner.plan import ConflictPolicy
from jobfs.planner.scope import is_settled

from .random_worlds import Side, build, sides, texts_at_stake
from .small_world import World

MAX_ROUNDS = 5
Three = tuple[Side, Side, Side]


def contents(world: World) -> set[str]:
    entries = [world.remote.get(node) for node in world.remote]
    return {world.text(entry) for entry in entries if entry is not None and entry.kind is Kind.FILE}


@settings(max_examples=600, deadline=None)
@given(sides())
def test_applying_plans_converges_in_a_bounded_number_of_rounds_and_both_sides_agree(three: Three) -> None:
    world = build(*three)
    world.converge(MAX_ROUNDS)
    world.check_agreement()
    assert world.plan().is_empty


@settings(max_examples=600, deadline=None)
@given(sides())
def test_no_content_of_either_side_vanishes(three: Three) -> None:
    world = build(*three)
    world.converge(MAX_ROUNDS)
    assert texts_at_stake(*three) - contents(world) == set()


@settings(max_examples=200, deadline=None)
@given(sides(), st.sampled_from([ConflictPolicy.LOCAL, ConflictPolicy.REMOTE]))
def test_with_a_winner_chosen_the_loser_is_in_the_history(three: Three, policy: ConflictPolicy) -> None:
    world = build(*three)
    world.policy = policy
    world.converge(MAX_ROUNDS)
    world.check_agreement()
    assert texts_at_stake(*three) - contents(world) - set(world.history) == set()


@settings(max_examples=200, deadline=None)
@given(sides(), st.randoms(use_true_random=False))
def test_the_plan_depends_neither_on_the_order_of_the_touched_nodes_nor_on_settled_ones(
    three: Three, chance: random.Random
) -> None:
    world = build(*three)
    every = world.all_nodes()
    trees = (world.base, world.local, world.remote)
    differing = [node for node in every if not is_settled(*(tree.get(node) for tree in trees))]
    chance.shuffle(differing)
    assert world.plan(differing) == world.plan(every)


@settings(max_examples=400, deadline=None)
@given(sides())
def test_touching_only_what_changed_is_enough(three: Three) -> None:
    world = build(*three)
    world.relist()
    world.converge_by_touch(world.all_nodes())
    world.check_agreement()
    assert world.plan().is_empty


@settings(max_examples=400, deadline=None)
@given(sides(), st.randoms(use_true_random=False))
def test_what_is_planned_before_the_rest_does_no_harm(three: Three, chance: random.Random) -> None:
    """A change of the user rests for a moment, and what a listing showed meanwhile is planned without it."""
    world = build(*three)
    world.relist()
    for node in chance.sample(world.all_nodes(), len(world.all_nodes())):
        if (plan := world.plan([node])) and not plan.fetch:
            world.apply(plan)
            world.relist()
    world.converge(MAX_ROUNDS)
    world.check_agreement()
    assert texts_at_stake(*three) - contents(world) == set()


@settings(max_examples=200, deadline=None)
@given(sides(plain=True))
def test_without_conflicts_and_guesses_at_identity_it_does_not_matter_which_side_did_what(three: Three) -> None:
    base, one, other = three
    world, mirror = build(base, one, other), build(base, other, one)
    world.converge(MAX_ROUNDS)
    mirror.converge(MAX_ROUNDS)
    if not any((world.conflicts, mirror.conflicts, world.rebinds, mirror.rebinds)):
        assert world.listing(world.remote) == mirror.listing(mirror.remote)


@settings(max_examples=100, deadline=None)
@given(sides())
def test_where_only_one_side_changed_the_other_becomes_like_it(three: Three) -> None:
    base, one, _ = three
    base = Side({n: t for n, t in base.things.items() if not t.is_shared and t.has_item})
    base.things = {n: t for n, t in base.things.items() if all(p in base.things for p in _above(base, n))}
    one = Side({n: t for n, t in one.things.items() if not t.is_shared and t.has_item})
    one.things = {n: t for n, t in one.things.items() if all(p in one.things for p in _above(one, n))}
    pushing, pulling = build(base, one, base), build(base, base, one)
    wanted, offered = pushing.listing(pushing.local), pulling.listing(pulling.remote)
    pushing.converge(MAX_ROUNDS)
    pulling.converge(MAX_ROUNDS)
    assert pushing.listing(pushing.remote) == wanted
    assert pulling.listing(pulling.local) == offered


def _above(side: Side, number: int) -> list[int]:
    chain = []
    while number != 1 and number in side.things:
        number = side.things[number].parent
        chain.append(number)
    return [n for n in chain if n != 1]
