"""The rules of a workspace without HTTP: the two stores agree, and no sequence of requests breaks an invariant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobfs.server.ids import seeded_ids
from jobfs.server.items import ItemRecord, ItemStore, View
from jobfs.server.memory import MemoryItems
from jobfs.server.refusals import Refused
from jobfs.server.storage import Storage
from jobfs.server.switches import Switches
from jobfs.server.workspace import Change, Draft, WorkspaceRules

APPLICATION = View("app")
JOBS = (View("app", "job1"), View("app", "job2"))
VIEWS = (APPLICATION, *JOBS)
NAMES = ("a", "b", "c")
PATHS = [*NAMES, *(f"{one}/{other}" for one in NAMES for other in NAMES), "a/b/c", "b/a/a"]


class Replica:
    """The rules over one store, with a clock and ids of its own that run alike in every replica."""

    def __init__(self, store: ItemStore, switches: Switches) -> None:
        self.store = store
        self._now = 1000
        self.rules = WorkspaceRules(store, clock=self._tick, new_id=seeded_ids(Random(1)), switches=lambda: switches)

    def _tick(self) -> int:
        self._now += 1
        return self._now

    def seen(self, view: View) -> list[ItemRecord]:
        return list(self.store.page(view, order="created", skip=0, take=-1))

    def do(self, step: tuple[Any, ...]) -> object:
        """Apply a step; returns the item or the reason of the refusal."""
        verb, view, *arguments = step
        try:
            match verb:
                case "create":
                    path, is_directory = arguments
                    return self.rules.create(
                        view, Draft(path, is_directory=is_directory, key="" if is_directory else "k")
                    )
                case "overwrite":
                    path, is_directory = arguments
                    return self.rules.overwrite(view, Draft(path, is_directory=is_directory, owner="expert"))
                case "update":
                    number, change = arguments
                    return self.rules.update(view, self._pick(view, number), change)
                case "delete":
                    return self.rules.delete(view, self._pick(view, arguments[0]))
        except Refused as refused:
            return refused.status, refused.reason
        raise AssertionError(verb)

    def _pick(self, view: View, number: int) -> str:
        seen = self.seen(view)
        return seen[number % len(seen)].id if seen else "nobody"


@contextmanager
def sqlite_store() -> Iterator[ItemStore]:
    with TemporaryDirectory() as folder:
        storage = Storage(Path(folder), seeded_ids(Random(2)))
        with storage.transaction():
            storage.insert("organization", id="o", name="o", created_ms=0)
            storage.insert("application", id="x", organization_id="o", name="x", created_ms=0)
            for space, job in (("app", None), ("job1", "1"), ("job2", "2")):
                storage.insert("space", id=space, application_id="x", job_id=job, created_ms=0, updated_ms=0)
        yield storage.items
        storage.close()


views = st.sampled_from(VIEWS)
paths = st.sampled_from(PATHS)
changes = st.builds(
    Change,
    path=st.none() | paths,
    permission=st.none() | st.sampled_from(["readOnly", "readWrite"]),
    is_shared=st.none() | st.booleans(),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["create", "overwrite"]), views, paths, st.booleans()),
        st.tuples(st.just("update"), views, st.integers(0, 20), changes),
        st.tuples(st.just("delete"), views, st.integers(0, 20)),
    ),
    max_size=25,
)
profiles = st.builds(
    Switches,
    create_existing=st.sampled_from(["error", "replace", "duplicate"]),
    dir_move=st.sampled_from(["cascade", "orphan"]),
    shared_change=st.sampled_from(["shared", "detach"]),
    readonly=st.sampled_from(["advisory", "enforced"]),
)


@settings(max_examples=120, deadline=None)
@given(steps, profiles)
def test_memory_and_sqlite_follow_the_same_rules(plan: list[tuple[Any, ...]], switches: Switches) -> None:
    with sqlite_store() as store:
        durable, light = Replica(store, switches), Replica(MemoryItems(), switches)
        for step in plan:
            assert durable.do(step) == light.do(step)
        for view in VIEWS:
            assert durable.seen(view) == light.seen(view)
            assert durable.store.count(view) == light.store.count(view) == len(light.seen(view))


@settings(max_examples=300, deadline=None)
@given(steps)
def test_in_the_default_profile_every_path_is_taken_once_and_a_refusal_changes_nothing(
    plan: list[tuple[Any, ...]],
) -> None:
    replica = Replica(MemoryItems(), Switches())
    for step in plan:
        before = {view: replica.seen(view) for view in VIEWS}
        outcome = replica.do(step)
        if isinstance(outcome, tuple):
            assert {view: replica.seen(view) for view in VIEWS} == before
        if step[0] == "update" and isinstance(outcome, ItemRecord):
            old = next(item for item in before[step[1]] if item.id == outcome.id)
            assert outcome == old or outcome.updated_ms > old.updated_ms
        for view in VIEWS:
            seen = replica.seen(view)
            assert len({(item.space, item.path) for item in seen}) == len(seen)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_a_change_in_one_job_never_reaches_another_under_detach(plan: list[tuple[Any, ...]]) -> None:
    replica = Replica(MemoryItems(), Switches(shared_change="detach"))
    for step in plan:
        _, view, *rest = step
        shares = step[0] == "update" and rest[1].is_shared is True
        other = JOBS[1] if view == JOBS[0] else JOBS[0]
        before = replica.seen(other)
        replica.do(step)
        if view.instance is not None and not shares:
            assert replica.seen(other) == before


@pytest.mark.parametrize("order", ["created", "shuffled", "random"])
def test_pages_of_both_stores_hold_everything_once(order: Any) -> None:
    with sqlite_store() as store:
        for items in (store, MemoryItems(Random(3))):
            replica = Replica(items, Switches())
            made = {replica.rules.create(APPLICATION, Draft(f"s{n}", is_directory=True)).id for n in range(5)}
            made |= {replica.rules.create(JOBS[0], Draft(f"p{n}", is_directory=True)).id for n in range(5)}
            whole = items.page(JOBS[0], order=order, skip=0, take=-1)
            assert {item.id for item in whole} == made
            if order != "random":
                pages = [items.page(JOBS[0], order=order, skip=skip, take=3) for skip in range(0, 12, 3)]
                assert [item for page in pages for item in page] == list(whole)


def test_a_twin_keeps_the_contents_of_a_directory() -> None:
    replica = Replica(MemoryItems(), Switches(create_existing="duplicate"))
    first = replica.rules.create(JOBS[0], Draft("d", is_directory=True))
    second = replica.rules.create(JOBS[0], Draft("d", is_directory=True))
    inner = replica.rules.create(JOBS[0], Draft("d/x", is_directory=True))
    replica.rules.delete(JOBS[0], first.id)
    assert replica.seen(JOBS[0]) == [second, inner]
    replica.rules.delete(JOBS[0], second.id)
    assert replica.seen(JOBS[0]) == []
