"""Undo local changes: what makes the local side what the server last acknowledged, at some nodes.

The planner does it. With local as it is in the place of base, and in the place of the server a tree that has these
nodes as base has them, only "the server" has changed; what the planner wants shown is the revert. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass, replace

from jobfs.model import Entry, LocalNode, NodeId, TreeView
from jobfs.planner.naming import ConflictStamp, is_hidden_name
from jobfs.planner.plan import LocalChange, RemoveLocal, ReplaceContent
from jobfs.planner.reconcile import reconcile


@dataclass(frozen=True, slots=True)
class Revert:
    """What a revert comes to.

    :param nodes: what is reverted: the nodes that were named, and directories that have to come back for them.
    :param changes: to be applied to the local side, in order.
    :param blockers: nodes that stand where something is to come back, and are not reverted themselves. Where there are
        any there are no changes.
    """

    nodes: frozenset[NodeId]
    changes: tuple[LocalChange, ...]
    blockers: tuple[NodeId, ...]


def plan_revert(
    base: TreeView, local: TreeView, nodes: Collection[NodeId], *, everything: TreeView, stamp: ConflictStamp
) -> Revert:
    """Plan to make nodes here what they are in base: all of them, or none.

    :param local: without local-only nodes. :param everything: with them.
    :param nodes: nodes that differ.
    """
    wanted = _with_directories(base, local, nodes)
    blockers = tuple(sorted(_blockers(base, everything, wanted)))
    if blockers:
        return Revert(wanted, (), blockers)
    plan = reconcile(local, local, Restored(base, local, wanted), wanted, stamp=stamp)
    return Revert(wanted, tuple(_kept(change, local) for change in plan.to_local), ())


def _with_directories(base: TreeView, local: TreeView, nodes: Collection[NodeId]) -> frozenset[NodeId]:
    """Add the deleted directories in which nodes were; leave out what only stepped aside on the server."""
    found: set[NodeId] = set()
    for node in nodes:
        known = base.get(node)
        if known is not None and is_hidden_name(known.name):
            continue
        found.add(node)
        while known is not None and local.get(known.parent) is None and known.parent not in found:
            found.add(known.parent)
            known = base.get(known.parent)
    return frozenset(found)


def _blockers(base: TreeView, everything: TreeView, wanted: Set[NodeId]) -> Iterator[NodeId]:
    for node in wanted:
        known = base.get(node)
        occupant = everything.child(known.parent, known.name) if known is not None else None
        if occupant is not None and occupant not in wanted:
            yield occupant


def _kept(change: LocalChange, local: TreeView) -> LocalChange:
    """Have the bytes that no server has put into the local history before they go."""
    if isinstance(change, ReplaceContent | RemoveLocal):
        record = local.get(change.node)
        return replace(change, keeps=isinstance(record, LocalNode) and record.is_dirty)
    return change


class Restored:
    """The local tree with some nodes as base has them. Satisfies ``model.TreeView``."""

    __slots__ = ("_base", "_local", "_nodes")

    def __init__(self, base: TreeView, local: TreeView, nodes: Set[NodeId]) -> None:
        self._base = base
        self._local = local
        self._nodes = nodes

    def get(self, node: NodeId) -> Entry | None:
        """Return the entry of a node, or None."""
        return (self._base if node in self._nodes else self._local).get(node)

    def child(self, parent: NodeId, name: str) -> NodeId | None:
        """Return the node of that name in a directory, or None."""
        return self.children(parent).get(name)

    def children(self, parent: NodeId) -> Mapping[str, NodeId]:
        """Return the directory's nodes by name."""
        stay = {name: node for name, node in self._local.children(parent).items() if node not in self._nodes}
        return stay | {name: node for name, node in self._base.children(parent).items() if node in self._nodes}

    def __iter__(self) -> Iterator[NodeId]:
        yield from (node for node in self._local if node not in self._nodes)
        yield from (node for node in self._nodes if self._base.get(node) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)
