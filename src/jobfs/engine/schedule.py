"""When a changed node may be pushed: pure bookkeeping with time as a parameter, in seconds of a monotonic clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jobfs.model import NodeId

QUIET_S = 0.03
"""Rest after the last close or write: long enough for an editor's write-then-rename, too short to be felt."""

QUIET_OPEN_S = 0.5
"""Rest of a file that is still open for writing: each push of it sends it whole."""

LATEST_S = 5.0
"""A file under constant writing is pushed this long after its first unpushed change."""


@dataclass(slots=True)
class _Waiting:
    first_s: float
    last_s: float


class Schedule:
    """The nodes that wait for their moment.

    :param is_open: tells whether a node is open for writing.
    """

    def __init__(self, is_open: Callable[[NodeId], bool]) -> None:
        self._waiting: dict[NodeId, _Waiting] = {}
        self._is_open = is_open

    def __len__(self) -> int:
        return len(self._waiting)

    def touch(self, node: NodeId, now_s: float) -> None:
        """Note a change: the node's rest starts anew."""
        waiting = self._waiting.get(node)
        if waiting is None:
            self._waiting[node] = _Waiting(now_s, now_s)
        else:
            waiting.last_s = now_s

    def look_again(self, node: NodeId, now_s: float) -> None:
        """Make a node due at once."""
        self._waiting.setdefault(node, _Waiting(now_s - LATEST_S, now_s - LATEST_S))

    def look_later(self, node: NodeId, at_s: float) -> None:
        """Make a node due at a moment to come."""
        self._waiting[node] = _Waiting(at_s, at_s - QUIET_S)

    def _due_s(self, node: NodeId, waiting: _Waiting) -> float:
        rest = QUIET_OPEN_S if self._is_open(node) else QUIET_S
        return min(waiting.last_s + rest, waiting.first_s + LATEST_S)

    def take(self, now_s: float) -> set[NodeId]:
        """Remove and return the nodes whose moment has come."""
        due = {node for node, waiting in self._waiting.items() if self._due_s(node, waiting) <= now_s + 1e-6}
        for node in due:
            del self._waiting[node]
        return due

    def next_s(self) -> float | None:
        """Return the moment of the next node, or None where none waits."""
        return min((self._due_s(node, waiting) for node, waiting in self._waiting.items()), default=None)
