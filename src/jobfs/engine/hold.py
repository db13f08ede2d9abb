"""Review before publish: in a held workspace nothing goes to the server that was not approved.

*Held* is a setting of the store, and each approval a row in it: both outlive the process. A held session plans as any
other, and takes what others changed; of the requests that a plan asks for only those are made that are approved, and
that build on nothing which is not. What was begun before is finished: a node that stepped aside to a hidden name counts
as approved.

**Invariants.** An approval is for what the user has seen: the next change of the node here takes it away, even while
the approved version is being sent. A request that relies on another one (a directory to be in, a place to be free, a
move out of what is deleted) is never made without it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress

from jobfs.errors import StateError
from jobfs.model import NodeId, TreeView
from jobfs.planner.difference import is_different
from jobfs.planner.naming import is_hidden_name
from jobfs.planner.plan import (
    DeleteRemote,
    Displace,
    MakeDirectory,
    MoveRemote,
    Plan,
    Rebind,
    RemoteChange,
    SetRemotePermission,
    Stage,
    Upload,
)
from jobfs.planner.scope import Rebound
from jobfs.store.state import State

_HELD = "held"


class Hold:
    """Whether a workspace is held, and what of it is approved. Every change is durable when a method returns."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.is_on = is_held(state)
        self.approved = state.approvals()

    def switch(self, *, is_on: bool) -> None:
        """Hold from now on, or no more. Requests that are under way are finished."""
        with self._state.transaction():
            set_held(self._state, is_held=is_on)
        self.is_on, self.approved = is_on, set()

    def keeps(self, node: NodeId) -> bool:
        """Tell whether a node that differs stays here until it is approved."""
        return self.is_on and not self._may_go(node, self._state.base)

    def _may_go(self, node: NodeId, base: TreeView) -> bool:
        known = base.get(node)
        return node in self.approved or (known is not None and is_hidden_name(known.name))

    def approve(self, nodes: Iterable[NodeId]) -> None:
        """Let nodes go to the server as they are now."""
        fresh = set(nodes) - self.approved
        with self._state.transaction():
            for node in fresh:
                self._state.put_approval(node)
        self.approved |= fresh

    def withdraw(self, nodes: Collection[NodeId]) -> None:
        """Take approvals away: the nodes changed, or the server has them. That never fails, for the change is made."""
        gone = self.approved.intersection(nodes)
        if not gone:
            return
        self.approved -= gone
        with suppress(StateError), self._state.transaction():  # its row counts again at the next start, no sooner
            for node in gone:
                self._state.drop_approval(node)

    def settle(self, nodes: Iterable[NodeId]) -> None:
        """Forget the approvals of nodes that the server has as they are here."""
        if not self.approved:
            return
        base, local = self._state.base, self._state.synced
        self.withdraw({node for node in nodes if not is_different(base.get(node), local.get(node))})

    def stages(self, plan: Plan, remote: TreeView) -> tuple[Stage, ...]:
        """Return the requests of a plan that may be made now.

        :param remote: the tree that the plan was made from.
        """
        if not self.is_on or not plan.to_remote:
            return plan.to_remote
        rebinds = [change for change in plan.to_base if isinstance(change, Rebind)]
        base = Rebound(self._state.base, rebinds)
        grant = Grant(lambda node: self._may_go(node, base), Rebound(remote, rebinds))
        granted = (tuple(grant.of(stage)) for stage in plan.to_remote)
        return tuple(stage for stage in granted if stage)


def is_held(state: State) -> bool:
    """Tell whether a workspace is held. Also for a state that nobody serves."""
    return state.setting(_HELD) == "1"


def set_held(state: State, *, is_held: bool) -> None:
    """Hold a workspace or let it go, in the caller's transaction; no approval outlasts that."""
    state.remember(_HELD, "1" if is_held else "0")
    for node in state.approvals():
        state.drop_approval(node)


class Grant:
    """Which requests of one plan may be made: those allowed by themselves, as far as what they rely on is. Pure.

    :param may_go: tells whether a node's own changes are allowed. :param remote: the server's tree before the plan.
    """

    def __init__(self, may_go: Callable[[NodeId], bool], remote: TreeView) -> None:
        self._may_go = may_go
        self._remote = remote
        self._made: set[NodeId] = set()
        self._moved: dict[NodeId, NodeId] = {}
        """Where to each node is moved."""

    def of(self, stage: Stage) -> Iterator[RemoteChange]:
        """Yield what may be done of a stage; stages are asked for in their order."""
        granted = [part for change in stage for part in self._of(change)]
        for change in granted:
            if isinstance(change, MakeDirectory):
                self._made.add(change.node)
            elif isinstance(change, MoveRemote | Displace):
                self._moved[change.node] = change.parent
        yield from granted

    def _of(self, change: RemoteChange) -> Iterator[RemoteChange]:
        if isinstance(change, DeleteRemote):
            yield from self._deletions(change)
        elif self._may_go(change.node) and (isinstance(change, SetRemotePermission) or self._can_stand(change)):
            yield change

    def _can_stand(self, change: MakeDirectory | Upload | MoveRemote | Displace) -> bool:
        """Tell whether the directory will be there, and the place free or the node's own."""
        if self._remote.get(change.parent) is None and change.parent not in self._made:
            return False
        occupant = self._remote.child(change.parent, change.name)
        own = (None, change.node, change.replaces if isinstance(change, Upload) else None)
        return occupant in own or occupant in self._moved

    def _deletions(self, change: DeleteRemote) -> Iterator[DeleteRemote]:
        """Yield the topmost deletions that take nothing along which is to stay."""
        doomed: set[NodeId] = set()
        for node in reversed(change.nodes):  # what is in a directory before the directory
            inside = self._remote.children(node).values()
            if self._may_go(node) and all(child in doomed or self._leaves(child, change.nodes) for child in inside):
                doomed.add(node)
        tops: dict[NodeId, list[NodeId]] = {}
        top_of: dict[NodeId, NodeId] = {}
        for node in change.nodes:
            entry = self._remote.get(node)
            if node not in doomed or entry is None:
                continue
            top = top_of.get(entry.parent)
            if top is None and entry.item is None:
                continue  # an implicit directory goes with the last thing in it
            top_of[node] = node if top is None else top
            tops.setdefault(top_of[node], []).append(node)
        yield from (DeleteRemote(top, tuple(nodes)) for top, nodes in tops.items())

    def _leaves(self, node: NodeId, doomed: Collection[NodeId]) -> bool:
        """Tell whether a node is moved out of what is deleted."""
        return node in self._moved and self._moved[node] not in doomed
