"""Which nodes are planned anew, and when: everything that a session has to remember about unfinished nodes.

A node waits for one of five things: its rest after a change (``Schedule``), a listing that tells how things stand,
the server's return, room at its place, or, after it was time and again not as listed, a pause of its own. What waits
here was derived from the trees and would be derived again after a restart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from jobfs.engine.schedule import Schedule
from jobfs.engine.workspace import Clock
from jobfs.model import NodeId

FIRST_PAUSE_S = 0.2
LAST_PAUSE_S = 60.0
_PROMPT_TRIES = 3


class Attention:
    """The unfinished nodes of one session.

    :param is_open: tells whether a node is open for writing.
    :param is_passing: tells whether a node seems to have its name for a moment only.
    :param wake: called when something may be due.
    """

    def __init__(
        self,
        clock: Clock,
        is_open: Callable[[NodeId], bool],
        is_passing: Callable[[NodeId], bool],
        wake: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._wake = wake
        self._schedule = Schedule(is_open, is_passing)
        self._until_listed: set[NodeId] = set()
        self._until_online: set[NodeId] = set()
        self._until_moved: set[NodeId] = set()
        self._stale: Counter[NodeId] = Counter()

    def __contains__(self, node: NodeId) -> bool:
        """Tell whether a node will be planned after its rest."""
        return node in self._schedule

    @property
    def has_work(self) -> bool:
        """Whether any node will be planned anew without another event from outside."""
        return bool(len(self._schedule) or self._until_listed or self._until_online)

    @property
    def awaits_server(self) -> bool:
        """Whether nodes wait for the server's return."""
        return bool(self._until_online)

    def touch(self, node: NodeId) -> None:
        """Note a change by the user: the node's rest starts anew."""
        self._schedule.touch(node, self._clock.monotonic_s())
        self._wake()

    def touch_deleted(self, node: NodeId) -> None:
        """Note a deletion by the user: it rests together with those before it."""
        self._schedule.touch_deleted(node, self._clock.monotonic_s())
        self._wake()

    def look_again(self, nodes: Iterable[NodeId]) -> None:
        """Make nodes due at once."""
        now_s = self._clock.monotonic_s()
        for node in nodes:
            self._schedule.look_again(node, now_s)
        self._wake()

    def take_due(self) -> set[NodeId]:
        """Remove and return the nodes whose moment has come."""
        return self._schedule.take(self._clock.monotonic_s())

    def rest_s(self) -> float | None:
        """Return the seconds until the next node is due, or None where none rests."""
        next_s = self._schedule.next_s()
        return None if next_s is None else max(0.0, next_s - self._clock.monotonic_s())

    def until_listed(self, nodes: Iterable[NodeId]) -> None:
        """Keep nodes for the next listing."""
        self._until_listed.update(nodes)

    def listed(self) -> None:
        """Note that a listing was taken in."""
        waiting, self._until_listed = self._until_listed, set()
        self.look_again(waiting)

    def until_online(self, nodes: Iterable[NodeId]) -> None:
        """Keep nodes for the server's return, or the end of a pause."""
        self._until_online.update(nodes)

    def online(self) -> None:
        """Note that the server may be asked again."""
        waiting, self._until_online = self._until_online, set()
        self.look_again(waiting)

    def until_moved(self, nodes: Iterable[NodeId]) -> None:
        """Keep nodes whose place is not free for whatever moves next."""
        self._until_moved.update(nodes)

    def moved(self) -> None:
        """Note that something has moved."""
        waiting, self._until_moved = self._until_moved, set()
        self.look_again(waiting)

    def settled(self, node: NodeId) -> None:
        """Note that a node's request was done: it was as listed."""
        self._stale.pop(node, None)

    def stale(self, node: NodeId) -> None:
        """Note that a node was not as listed: it waits for a listing and, where that does not help, ever longer."""
        self._stale[node] += 1
        tries = self._stale[node]
        if tries <= _PROMPT_TRIES:
            self._until_listed.add(node)
            return
        pause_s = min(FIRST_PAUSE_S * 2 ** (tries - _PROMPT_TRIES), LAST_PAUSE_S)
        self._schedule.look_later(node, self._clock.monotonic_s() + pause_s)
        self._wake()
