"""In which order nodes get to their places, in a tree where some of the places are still taken.

Internal to the planner, the same for both sides. The rules: a directory before what goes into it; whatever is in the
way goes first; and where nodes wait for each other in a circle, or for something that goes later, it steps aside to a
hidden name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeAlias

from jobfs.model import ROOT, NodeId, TreeView

Place: TypeAlias = tuple[NodeId, str]


@dataclass(frozen=True, slots=True)
class Put:
    """Bring a node, new or from elsewhere, to its place.

    :param depth: of the place; a node of depth 1 is in the root.
    """

    node: NodeId
    parent: NodeId
    name: str
    depth: int


@dataclass(frozen=True, slots=True)
class Aside:
    """Take a node out of the way, to another name in its directory.

    :param is_leaving: whether it will be deleted, not brought to another place.
    """

    node: NodeId
    parent: NodeId
    name: str
    is_leaving: bool


Turn: TypeAlias = Put | Aside


@dataclass(slots=True)
class Order:
    """The result: rounds of turns that do not depend on each other, and what cannot be done now.

    :param blocked: what waits for a place or a directory that will not be free or there in this plan; the second part
        is the node in the way, None where the directory is what lacks.
    """

    rounds: list[list[Turn]] = field(default_factory=list)
    blocked: list[tuple[Put, NodeId | None]] = field(default_factory=list)


def arrange(
    tree: TreeView, puts: Iterable[Put], is_leaving: Callable[[NodeId], bool], aside_name: Callable[[NodeId, str], str]
) -> Order:
    """Order the puts. The tree is the one in which they take place, as it is now.

    :param puts: sorted by depth; the order within a depth is kept where nothing speaks against it.
    :param is_leaving: whether a node that is in the way will be deleted.
    :param aside_name: gives a node's hidden name.
    """
    run = _Run(tree, puts, is_leaving, aside_name)
    for _, group in groupby(run.puts.values(), key=lambda put: put.depth):
        run.place_group(list(group))
    return run.order


class _Run:
    def __init__(
        self,
        tree: TreeView,
        puts: Iterable[Put],
        is_leaving: Callable[[NodeId], bool],
        aside_name: Callable[[NodeId, str], str],
    ) -> None:
        self._tree = tree
        self._is_leaving = is_leaving
        self._aside_name = aside_name
        self._moved: dict[Place, NodeId | None] = {}
        self._place_of: dict[NodeId, Place] = {}
        self.puts = {put.node: put for put in puts}
        self._blocked: set[NodeId] = set()
        self.order = Order()

    def place_group(self, group: Sequence[Put]) -> None:
        """Place everything of one depth."""
        levels = self._levels(group)
        asides: list[Turn] = []
        rounds: list[list[Turn]] = [[] for _ in range(max(levels.values()) + 1)]
        for put in sorted(group, key=lambda put: levels[put.node]) if len(rounds) > 1 else group:
            if not self._is_there(put.parent) or (self._blocked and self._is_below(put.parent, put.node)):
                self._block(put, None)
                continue
            occupant = self._occupant(put)
            if occupant is not None:
                aside = self._aside(occupant)
                if aside is None:
                    self._block(put, occupant)
                    continue
                self._set_place(occupant, (aside.parent, aside.name))
                asides.append(aside)
            self._set_place(put.node, (put.parent, put.name))
            rounds[levels[put.node]].append(put)
        self.order.rounds += [turns for turns in (asides, *rounds) if turns]

    def _levels(self, group: Sequence[Put]) -> dict[NodeId, int]:
        """Count for each put how many of its depth must go before it. One of each circle counts as if nothing did."""
        members = {put.node for put in group}
        levels: dict[NodeId, int] = {}
        for put in group:
            chain: list[NodeId] = []
            on_chain: set[NodeId] = set()
            node: NodeId | None = put.node
            while node is not None and node in members and node not in levels and node not in on_chain:
                chain.append(node)
                on_chain.add(node)
                node = self._occupant(self.puts[node])
            level = levels[node] + 1 if node is not None and node in levels else 0
            for waiting in reversed(chain):
                levels[waiting] = level
                level += 1
        return levels

    def _occupant(self, put: Put) -> NodeId | None:
        place = (put.parent, put.name)
        occupant = self._moved[place] if place in self._moved else self._tree.child(*place)
        return None if occupant == put.node else occupant

    def _is_there(self, directory: NodeId) -> bool:
        return directory == ROOT or directory in self._place_of or self._tree.get(directory) is not None

    def _is_below(self, directory: NodeId, node: NodeId) -> bool:
        """Tell whether a directory is, at this moment, below a node, because what should have moved it was blocked."""
        seen: set[NodeId] = set()
        while directory not in seen and (place := self._present_place(directory)) is not None:
            if directory == node:
                return True
            seen.add(directory)
            directory = place[0]
        return directory == node

    def _aside(self, occupant: NodeId) -> Aside | None:
        is_leaving = self._is_leaving(occupant)
        if not is_leaving and (occupant not in self.puts or occupant in self._blocked):
            return None
        place = self._present_place(occupant)
        if place is None:
            return None
        return Aside(occupant, place[0], self._aside_name(occupant, place[1]), is_leaving)

    def _present_place(self, node: NodeId) -> Place | None:
        entry = self._tree.get(node)
        return self._place_of.get(node) or (None if entry is None else (entry.parent, entry.name))

    def _set_place(self, node: NodeId, place: Place) -> None:
        before = self._present_place(node)
        if before is not None and self._moved.get(before, node) == node:
            self._moved[before] = None
        self._moved[place] = node
        self._place_of[node] = place

    def _block(self, put: Put, occupant: NodeId | None) -> None:
        self._blocked.add(put.node)
        self.order.blocked.append((put, occupant))
