"""What stops a plan: too many deletions at once, and places that are not ours.

Pure. The engine asks before it executes a plan and shows the verdict as a problem until the user has answered.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from enum import Enum, unique

from jobfs.model import NodeId
from jobfs.planner.plan import DeleteRemote, Plan, RemoveLocal

RESERVED = "perstack"
"""The directory at the root that belongs to the runtime (contract I-14): shown, never written."""

FEW = 20
"""So many deletions never stop a plan, unless they take everything."""


@unique
class Side(Enum):
    """Where the deletions would happen."""

    LOCAL = "local"
    REMOTE = "remote"


NOTHING_LEAVES: Mapping[Side, Set[NodeId]] = {side: frozenset() for side in Side}


@dataclass(frozen=True, slots=True)
class GuardVerdict:
    """Whether a plan may run.

    :param side: where it deletes too much; None where it does not.
    :param deletions: how many nodes it would delete there.
    :param size: how many there are.
    :param detail: one line for the user; empty where nothing stops the plan.
    """

    is_stopped: bool
    side: Side | None = None
    deletions: int = 0
    size: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Word:
    """What the user says of deletions on one side.

    :param most: so many are meant; None: any number. :param about: of these nodes; None: of any.
    """

    side: Side
    most: int | None
    about: Set[NodeId] | None = None

    def covers(self, side: Side, doomed: Set[NodeId]) -> Set[NodeId]:
        """Return those deletions that are meant."""
        if side is not self.side:
            return frozenset()
        meant = doomed if self.about is None else doomed & self.about
        return meant if self.most is None or len(meant) <= self.most else frozenset()


def doomed_nodes(plan: Plan, side: Side) -> set[NodeId]:
    """Return the nodes that a plan deletes on one side."""
    if side is Side.LOCAL:
        return {change.node for change in plan.to_local if isinstance(change, RemoveLocal)}
    changes = [change for stage in plan.to_remote for change in stage]
    return {node for change in changes if isinstance(change, DeleteRemote) for node in change.nodes}


def check_deletions(
    plan: Plan,
    *,
    local_size: int,
    remote_size: int,
    allow: int | None = 0,
    words: Collection[Word] = (),
    doubted: Set[NodeId] = frozenset(),
    leaving: Mapping[Side, Set[NodeId]] = NOTHING_LEAVES,
) -> GuardVerdict:
    """Stop a plan that deletes over half of a tree and over 20 nodes, or all of it.

    :param local_size: nodes in the local tree, the root not counted; ``remote_size`` likewise.
    :param allow: so many deletions the user allowed on either side; None: any number.
    :param words: what else he said, each time that he was asked. What these cover counts for nothing here.
    :param doubted: nodes whose deletion was stopped before, and not decided since: of these none is deleted, however
        many others there are by now.
    :param leaving: what is to be deleted on each side, by this plan or not, and was stopped or allowed before: it is
        no part of what would be left.
    """
    for side, size in ((Side.REMOTE, remote_size), (Side.LOCAL, local_size)):
        doomed: Set[NodeId] = doomed_nodes(plan, side)
        if allow is None or len(doomed) <= allow:
            continue
        meant = frozenset().union(*(word.covers(side, doomed) for word in words))
        doomed -= meant
        number, left = len(doomed), size - len((leaving[side] | meant) - doomed)
        if _is_mass(number, left) or not doubted.isdisjoint(doomed):
            return GuardVerdict(True, side, number, left, _sentence(side, number, left))
    return GuardVerdict(False)


def is_reserved(path: str) -> bool:
    """Tell whether a path is the runtime's own, which jobfs shows read-only."""
    return path == RESERVED or path.startswith(RESERVED + "/")


def _is_mass(deletions: int, size: int) -> bool:
    # A tree of one file may be emptied: there the guard would only be in the way.
    return (deletions > FEW and 2 * deletions > size) or (deletions >= size > 1)


def _sentence(side: Side, deletions: int, size: int) -> str:
    place = "on the server" if side is Side.REMOTE else "here"
    return f"{deletions} of {size} files and directories would be deleted {place}; allow it with --yes or --max-delete"
