"""Who waits for whom: nodes with requests under way, and nodes that must not be planned until those are done.

A node is *busy* while a request concerns it, and *structural* while that request makes, moves or deletes a directory:
the paths of everything below depend on it. Whoever waits is remembered under the one node that it waits for, so that
the end of a request wakes only whom it concerns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from jobfs.engine.trees import Trees, is_below
from jobfs.engine.workspace import Workspace
from jobfs.model import ROOT, Entry, Kind, NodeId, TreeView
from jobfs.planner.plan import (
    Acknowledge,
    DeleteRemote,
    Displace,
    Forget,
    MakeDirectory,
    MoveRemote,
    Plan,
    Rebind,
    RemoteChange,
    Upload,
)
from jobfs.store.state import State


class Traffic:
    """The requests under way in one workspace, as far as planning has to know of them."""

    def __init__(self, state: State, trees: Trees, workspace: Workspace) -> None:
        self._state = state
        self._trees = trees
        self._workspace = workspace
        self.busy: Counter[NodeId] = Counter()
        self._structural: Counter[NodeId] = Counter()
        self._blocked: dict[NodeId, set[NodeId]] = {}

    def blocker(self, node: NodeId, refused: Collection[NodeId]) -> NodeId | None:
        """Return the node that this one must wait for, or None.

        :param refused: nodes that the server finally refused; what is below them waits for their change.
        """
        if not (self.busy or self._structural or refused or self._workspace.keepers):
            return None  # nothing is under way, as when a whole workspace is looked at for the first time
        if node in self.busy or node in self._workspace.keepers:
            return node
        local, base = self._state.local, self._state.base
        for tree in (local, base):
            for above in _ancestors(tree, node):
                if above in self._structural or above in refused:
                    return above
        entry = local.get(node)
        if entry is not None:
            for tree in (base, self._trees.remote):
                occupant = tree.child(entry.parent, entry.name)
                if occupant is not None and occupant in self.busy:
                    return occupant
        known = base.get(node)
        if known is not None and known.kind is Kind.DIRECTORY and is_restructured(entry, known):
            return next((other for other in self.busy if is_below(base, other, {node})), None)
        return None

    def block(self, node: NodeId, blocker: NodeId) -> None:
        """Note that a node waits for another one."""
        self._blocked.setdefault(blocker, set()).add(node)

    def unblock(self, node: NodeId) -> Collection[NodeId]:
        """Return, and forget, the nodes that waited for this one."""
        return self._blocked.pop(node, ())

    def hold(self, change: RemoteChange) -> None:
        """Note that a change is under way."""
        is_structural = self._is_structural(change)
        for node in concerns(change):
            self.busy[node] += 1
            self._structural[node] += is_structural

    def release(self, change: RemoteChange, node: NodeId) -> Collection[NodeId]:
        """Note that a change no longer concerns a node; return the nodes that waited for it."""
        if self._structural[node]:
            self._structural[node] -= 1
        if not self._structural[node]:
            del self._structural[node]
        return self.let_go(node)

    def let_go(self, node: NodeId) -> Collection[NodeId]:
        """Note that one thing less is under way for a node; return the nodes that waited for it."""
        self.busy[node] -= 1
        if self.busy[node] > 0:
            return ()
        del self.busy[node]
        return self.unblock(node)

    def _is_structural(self, change: RemoteChange) -> bool:
        """Tell whether paths below the change's node depend on it."""
        if isinstance(change, MakeDirectory):
            return True
        known = self._state.base.get(change.node)
        is_directory = known is not None and known.kind is Kind.DIRECTORY
        return is_directory and isinstance(change, MoveRemote | Displace | DeleteRemote)


def is_restructured(entry: Entry | None, known: Entry) -> bool:
    """Tell whether a node is gone from, or elsewhere than, where base has it."""
    return entry is None or (entry.parent, entry.name) != (known.parent, known.name)


def _ancestors(tree: TreeView, node: NodeId) -> Iterator[NodeId]:
    """Yield the directories above a node, the root left out."""
    entry = tree.get(node)
    seen = {node}
    while entry is not None and entry.parent != ROOT and entry.parent not in seen:
        yield entry.parent
        seen.add(entry.parent)
        entry = tree.get(entry.parent)


def concerns(change: RemoteChange) -> set[NodeId]:
    """Return the nodes that a change is about."""
    match change:
        case DeleteRemote(node, nodes):
            return {node, *nodes}
        case Upload(node=node, replaces=replaced):
            return {node} if replaced is None else {node, replaced}
        case _:
            return {change.node}


def nodes_of(plan: Plan) -> Iterator[NodeId]:
    for base_change in plan.to_base:
        if isinstance(base_change, Rebind):
            yield from (base_change.old, base_change.new)
        else:
            yield base_node(base_change)
    for local_change in plan.to_local:
        yield local_change.node
    for stage in plan.to_remote:
        for change in stage:
            yield from concerns(change)
    yield from plan.fetch


def base_node(change: Acknowledge | Forget) -> NodeId:
    return change.entry.id if isinstance(change, Acknowledge) else change.node
