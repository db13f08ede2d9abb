"""The planner's worksheet: what is decided for each node during one call of ``reconcile``.

Internal to the planner. A ``Case`` is filled in by ``merge`` and read by ``pull`` and ``push``; nothing of it outlives
the call.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique

from jobfs.model import ROOT, Entry, Kind, NodeId, Permission, TreeView


@unique
class Fate(Enum):
    """What becomes of a node."""

    KEPT = "kept"
    """It is to be on both sides, at its target."""
    GONE = "gone"
    """It is to be on neither side."""
    HELD = "held"
    """It stays as it is: remote bytes have to be seen first, or something below it waits for that."""


@unique
class Step(Enum):
    """What becomes of the content of a file that is on both sides."""

    NONE = "none"
    CLEAN = "clean"
    """The local bytes are what the server has."""
    PULL = "pull"
    PUSH = "push"
    OVERRULE = "overrule"
    """Push over remote bytes that lose a conflict."""
    SPLIT = "split"
    """The remote bytes keep the name, the local ones become a copy."""
    YIELD = "yield"
    """The remote bytes keep the name, the local ones go to the history."""


@dataclass(slots=True)
class Case:
    """One node in question.

    :param parent: with ``name``: where it is to be if it is kept, else where it is.
    :param is_protected: whether the user may not change it on the server (shared, or the runtime's).
    """

    node: NodeId
    base: Entry | None
    local: Entry | None
    remote: Entry | None
    fate: Fate
    parent: NodeId
    name: str
    permission: Permission
    step: Step = Step.NONE
    is_protected: bool = False

    @property
    def kind(self) -> Kind:
        """What the node is: its kind is the same in every tree."""
        return self.any_entry.kind

    @property
    def any_entry(self) -> Entry:
        """Its entry in local, else in remote, else in base."""
        entry = self.local or self.remote or self.base
        if entry is None:
            raise ValueError(f"node {self.node} is in no tree")
        return entry


class Places:
    """Where every node is to be: the targets of the cases over the trees. Remembers depths and paths of directories."""

    def __init__(self, cases: dict[NodeId, Case], local: TreeView, remote: TreeView) -> None:
        self._cases = cases
        self._local = local
        self._remote = remote
        self._known: dict[NodeId, tuple[int, str]] = {ROOT: (0, "")}

    def parent(self, node: NodeId) -> NodeId | None:
        """Return the directory that a node is to be in; None for one that no tree has."""
        place = self._place(node)
        return None if place is None else place[0]

    def key(self, case: Case) -> tuple[int, str]:
        """Return depth and path of a case's target: the order of everything in a plan."""
        depth, path = self.directory(case.parent)
        return depth + 1, f"{path}/{case.name}" if path else case.name

    def path(self, case: Case) -> str:
        """Return the path of a case's target."""
        return self.key(case)[1]

    def directory(self, node: NodeId) -> tuple[int, str]:
        """Return depth and path of a directory's target."""
        known = self._known.get(node)
        if known is not None:
            return known
        chain: list[tuple[NodeId, str]] = []
        seen: set[NodeId] = set()
        while node not in self._known and node not in seen and (place := self._place(node)) is not None:
            seen.add(node)
            chain.append((node, place[1]))
            node = place[0]
        depth, path = self._known.get(node, (0, ""))
        for below, name in reversed(chain):
            depth += 1
            path = f"{path}/{name}"[-_LONGEST_PATH:] if path else name
            self._known[below] = depth, path
        return depth, path

    def _place(self, node: NodeId) -> tuple[NodeId, str] | None:
        case = self._cases.get(node)
        if case is not None:
            return case.parent, case.name
        entry = self._local.get(node) or self._remote.get(node)
        return None if entry is None else (entry.parent, entry.name)


_LONGEST_PATH = 4096
"""Paths are for the order and for messages; a tree of absurd depth must not cost the square of it."""
