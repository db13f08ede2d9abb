"""When a changed node may be pushed: pure bookkeeping with time as a parameter, in seconds of a monotonic clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from jobfs.model import NodeId

QUIET_S = 0.03
"""Rest after the last close or write: long enough for an editor's write-then-rename, too short to be felt."""

QUIET_OPEN_S = 0.5
"""Rest of a file that is still open for writing: each push of it sends it whole. And of one with a passing name, which
should not be seen on the server."""

LATEST_S = 5.0
"""A file under constant writing is pushed this long after its first unpushed change."""


@dataclass(slots=True)
class _Waiting:
    first_s: float
    last_s: float
    is_passing: bool = False


class Schedule:
    """The nodes that wait for their moment.

    :param is_open: tells whether a node is open for writing.
    :param is_passing: tells whether a node seems to have its name for a moment only.
    """

    def __init__(self, is_open: Callable[[NodeId], bool], is_passing: Callable[[NodeId], bool]) -> None:
        self._waiting: dict[NodeId, _Waiting] = {}
        self._deleted: set[NodeId] = set()
        self._deletions = _Waiting(0.0, 0.0)
        self._is_open = is_open
        self._is_passing = is_passing

    def __len__(self) -> int:
        return len(self._waiting) + len(self._deleted)

    def __contains__(self, node: NodeId) -> bool:
        return node in self._waiting or node in self._deleted

    def touch(self, node: NodeId, now_s: float) -> None:
        """Note a change: the node's rest starts anew."""
        waiting = self._waiting.get(node)
        if waiting is None:
            waiting = self._waiting[node] = _Waiting(now_s, now_s)
        waiting.last_s = now_s
        waiting.is_passing = self._is_passing(node)

    def touch_deleted(self, node: NodeId, now_s: float) -> None:
        """Note a deletion: all deletions that wait rest together, so that a tree that goes name by name goes as one."""
        if not self._deleted:
            self._deletions.first_s = now_s
        self._deletions.last_s = now_s
        self._deleted.add(node)
        self._waiting.pop(node, None)

    def look_again(self, node: NodeId, now_s: float) -> None:
        """Make a node due at once."""
        self._waiting.setdefault(node, _Waiting(now_s - LATEST_S, now_s - LATEST_S))

    def look_later(self, node: NodeId, at_s: float) -> None:
        """Make a node due at a moment to come."""
        self._waiting[node] = _Waiting(at_s, at_s - QUIET_S)

    def _due_s(self, node: NodeId, waiting: _Waiting) -> float:
        rest = QUIET_OPEN_S if waiting.is_passing or self._is_open(node) else QUIET_S
        return min(waiting.last_s + rest, waiting.first_s + LATEST_S)

    def _deletions_due_s(self) -> float:
        return min(self._deletions.last_s + QUIET_S, self._deletions.first_s + LATEST_S)

    def take(self, now_s: float) -> set[NodeId]:
        """Remove and return the nodes whose moment has come."""
        due = {node for node, waiting in self._waiting.items() if self._due_s(node, waiting) <= now_s + 1e-6}
        for node in due:
            del self._waiting[node]
        if self._deleted and self._deletions_due_s() <= now_s + 1e-6:
            due |= self._deleted
            self._deleted = set()
        return due

    def next_s(self) -> float | None:
        """Return the moment of the next node, or None where none waits."""
        soonest = min((self._due_s(node, waiting) for node, waiting in self._waiting.items()), default=None)
        if not self._deleted:
            return soonest
        return min(self._deletions_due_s(), soonest if soonest is not None else math.inf)
