"""The values that every part speaks in."""

from __future__ import annotations

import dataclasses

import pytest

from jobfs.model import (
    CONTINUABLE,
    ROOT,
    Content,
    Entry,
    FrozenTree,
    Item,
    ItemId,
    JobClass,
    Kind,
    Lifecycle,
    NodeId,
    Permission,
    Revision,
    job_class,
    may_expert_write,
    node_at,
    path_of,
)

DOCS = Entry(NodeId(2), ROOT, "docs", Kind.DIRECTORY)
README = Entry(NodeId(3), NodeId(2), "read me.txt", Kind.FILE, content=Content(5))
TREE = FrozenTree([DOCS, README])


def test_a_tree_always_has_its_root() -> None:
    assert FrozenTree().get(ROOT) == Entry(ROOT, ROOT, "", Kind.DIRECTORY)
    assert list(FrozenTree()) == [ROOT]


def test_a_root_that_is_given_replaces_the_assumed_one_and_is_nobodys_child() -> None:
    root = Entry(ROOT, ROOT, "", Kind.DIRECTORY, permission=Permission.READ_ONLY)
    tree = FrozenTree([root])
    assert (tree.get(ROOT), len(tree), dict(tree.children(ROOT))) == (root, 1, {})


def test_a_tree_finds_nodes_by_number_and_by_name() -> None:
    assert (TREE.get(NodeId(3)), TREE.get(NodeId(9))) == (README, None)
    assert (TREE.child(ROOT, "docs"), TREE.child(ROOT, "nothing")) == (NodeId(2), None)
    assert dict(TREE.children(NodeId(2))) == {"read me.txt": NodeId(3)}
    assert dict(TREE.children(NodeId(3))) == {}
    assert len(TREE) == 3


@pytest.mark.parametrize(("node", "path"), [(1, ""), (2, "docs"), (3, "docs/read me.txt")])
def test_paths_and_nodes_lead_to_each_other(node: int, path: str) -> None:
    assert path_of(TREE, NodeId(node)) == path
    assert node_at(TREE, path) == node


@pytest.mark.parametrize("path", ["nothing", "docs/nothing", "docs/read me.txt/below a file", "nothing/below"])
def test_a_path_that_is_not_there_has_no_node(path: str) -> None:
    assert node_at(TREE, path) is None


def test_a_node_that_is_not_there_or_hangs_in_the_air_has_no_path() -> None:
    orphan = Entry(NodeId(5), NodeId(4), "orphan", Kind.FILE)
    tree = FrozenTree([orphan])
    assert (path_of(tree, NodeId(7)), path_of(tree, NodeId(5))) == (None, None)


def test_a_cycle_has_no_path_and_does_not_hang() -> None:
    first = Entry(NodeId(2), NodeId(3), "a", Kind.DIRECTORY)
    second = Entry(NodeId(3), NodeId(2), "b", Kind.DIRECTORY)
    assert path_of(FrozenTree([first, second]), NodeId(2)) is None


def test_an_item_knows_its_revision() -> None:
    item = Item(
        id=ItemId("a" * 24),
        kind=Kind.FILE,
        path="a.txt",
        raw_path="/a.txt",
        permission=Permission.READ_WRITE,
        lifecycle=Lifecycle.EXPERT_JOB,
        owner="user",
        created_at="",
        updated_at="2025-01-01T00:00:00.000Z",
        size=3,
        key="k",
    )
    assert item.revision == Revision(ItemId("a" * 24), "2025-01-01T00:00:00.000Z", 3, "k")


def test_values_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DOCS.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("status", "expected_class", "writes"),
    [
        ("queued", JobClass.ACTIVE, True),
        ("processing", JobClass.ACTIVE, True),
        ("canceling", JobClass.ACTIVE, True),
        ("requestInteractiveToolResult", JobClass.PAUSED, False),
        ("requestDelegateResult", JobClass.PAUSED, True),
        ("exceededMaxSteps", JobClass.PAUSED, False),
        ("completed", JobClass.FINAL, False),
        ("failed", JobClass.FINAL, False),
        ("canceled", JobClass.FINAL, False),
        ("expired", JobClass.FINAL, False),
        ("a status of next year", JobClass.ACTIVE, True),
    ],
)
def test_a_status_says_whether_to_poll_and_whether_the_expert_may_write(
    status: str, expected_class: JobClass, writes: bool
) -> None:
    assert (job_class(status), may_expert_write(status)) == (expected_class, writes)


def test_only_paused_and_completed_jobs_can_continue() -> None:
    assert {"requestInteractiveToolResult", "exceededMaxSteps", "completed"} == CONTINUABLE
