"""What stops a plan: too many deletions at once, and places that are not ours.

Pure. The engine asks before it executes a plan and shows the verdict as a problem until the user has answered.
"""

from __future__ import annotations

from collections.abc import Collection, Set
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


def check_deletions(
    plan: Plan,
    *,
    local_size: int,
    remote_size: int,
    allow: int | None = 0,
    besides: Collection[tuple[Side, int | None]] = (),
    doubted: Set[NodeId] = frozenset(),
) -> GuardVerdict:
    """Stop a plan that deletes over half of a tree and over 20 nodes, or all of it.

    :param local_size: nodes in the local tree, the root not counted; ``remote_size`` likewise.
    :param allow: so many deletions the user allowed on either side; None: any number.
    :param besides: how many he allowed on one side, each time that he was asked.
    :param doubted: nodes whose deletion was stopped before, and not decided since: of these none is deleted, however
        many others there are by now.
    """
    locally = {change.node for change in plan.to_local if isinstance(change, RemoveLocal)}
    remotely = {
        node
        for stage in plan.to_remote
        for change in stage
        if isinstance(change, DeleteRemote)
        for node in change.nodes
    }
    for side, doomed, size in ((Side.REMOTE, remotely, remote_size), (Side.LOCAL, locally, local_size)):
        number = len(doomed)
        words = (allow, *(most for where, most in besides if where is side))
        is_allowed = any(most is None or number <= most for most in words)
        if not is_allowed and (_is_mass(number, size) or not doubted.isdisjoint(doomed)):
            return GuardVerdict(True, side, number, size, _sentence(side, number, size))
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
