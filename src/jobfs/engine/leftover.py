"""What the server does not have yet, as it is told; ``backlog`` derives it from the trees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jobfs.model import ROOT, NodeId


@dataclass(frozen=True, slots=True)
class Unsynced:
    """A node whose changes the server does not have yet.

    :param is_held: whether it waits for the user's word, and not for the server.
    """

    node: NodeId
    path: str
    reason: str
    is_held: bool = False


def told_of(left: Iterable[Unsynced]) -> list[dict[str, object]]:
    """Return what the server does not have as a value, which another process can read."""
    return [{"path": one.path, "reason": one.reason, "isHeld": one.is_held} for one in left]


def unsynced_of(told: Iterable[Mapping[str, Any]]) -> list[Unsynced]:
    """Read what ``told_of`` gave."""
    return [Unsynced(ROOT, str(one["path"]), str(one["reason"]), bool(one["isHeld"])) for one in told]
