"""What the server does not have yet of a workspace, and why: derived from the trees, nothing of it is remembered."""

from __future__ import annotations

from collections.abc import Callable

from jobfs.engine.hold import Hold
from jobfs.engine.leftover import Unsynced
from jobfs.model import ROOT, NodeId, path_of
from jobfs.planner.difference import is_different
from jobfs.store.state import State


def differing(state: State) -> list[NodeId]:
    """Return the synchronised nodes that differ from base."""
    base, local = state.base, state.synced
    here = (entry for entry in state.local.entries() if entry.id != ROOT and not entry.is_local_only)
    found = [entry.id for entry in here if is_different(base.get(entry.id), entry)]
    return found + [node for node in base if local.get(node) is None]


def waiting(state: State, hold: Hold) -> int:
    """Return how many changes are still to be sent; what is held is not."""
    return sum(not hold.keeps(node) for node in differing(state))


def unsynced(state: State, hold: Hold, reason: Callable[[NodeId], str]) -> list[Unsynced]:
    """Return the nodes whose changes the server does not have, by path.

    :param reason: tells why the server does not have a node that is not held.
    """
    found = []
    for node in differing(state):
        path = path_of(state.local, node) or path_of(state.base, node) or f"#{node}"
        is_held = hold.keeps(node)
        found.append(Unsynced(node, path, "held" if is_held else reason(node), is_held))
    return sorted(found, key=lambda one: one.path)
