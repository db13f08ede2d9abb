"""Requests under way, and what is done about those for which nothing comes (see ``hedge``, which decides).

One alarm of the loop serves all requests to a server: while every answer comes in time, a request costs an entry in
two tables. Moments are the loop's. Used by ``transport`` alone.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from jobfs.api.hedge import FIRST_PATIENCE_S, Hedging, Kind, Wait

LATE_S = 0.25
"""An alarm that comes later tells of a busy loop, which may not have seen yet what has come."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Brought(Generic[_T]):
    """What asking again has brought."""

    value: _T


@dataclass(slots=True, eq=False)
class Watched(Wait, Generic[_T]):
    """A request that may be watched.

    :ivar limit: of its present wait, where that can be ended.
    :ivar again: asks again over a new connection; None where that is not allowed, or brought nothing.
    :ivar brought: what asking again has brought, until it is taken. :ivar is_dead: whether its line is.
    """

    limit: asyncio.Timeout | None = None
    again: Callable[[], Awaitable[Brought[_T] | None]] | None = None
    brought: Brought[_T] | None = None
    is_dead: bool = False

    def take(self) -> Brought[_T] | None:
        """Return what asking again has brought, once."""
        brought, self.brought = self.brought, None
        return brought

    def end_wait(self) -> None:
        """Have its present wait end with a ``TimeoutError``."""
        if self.limit is not None and not self.limit.expired():
            self.limit.reschedule(asyncio.get_running_loop().time())


class Watch:
    """The requests under way to one server. One loop only.

    :param may_ask: tells whether the server has not asked for fewer requests.
    :param on_proven: called when an answer proved what no connection of more than so many seconds can bring.
    :param first_s: see ``Hedging``.
    """

    def __init__(
        self,
        may_ask: Callable[[], bool],
        on_proven: Callable[[float], Awaitable[None]],
        *,
        first_s: float = FIRST_PATIENCE_S,
    ) -> None:
        self._first_s = first_s
        self._hedging: Hedging[Watched[object]] = Hedging(first_s)
        self._may_ask = may_ask
        self._on_proven = on_proven
        self._asking: dict[Watched[object], asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf

    def begin(self, watched: Watched[object], kind: Kind) -> None:
        """Watch a request that is sent now."""
        now = asyncio.get_running_loop().time()
        self._hedging.begin(watched, kind, now)
        if now + self._first_s < self._alarm_at:
            self._arm(now + self._first_s)

    def sent(self, watched: Watched[object]) -> None:
        """Note that all of a write has been sent."""
        self._hedging.sent(watched, asyncio.get_running_loop().time())

    def heard(self, watched: Watched[object]) -> None:
        """Note that something came for a request."""
        if self._hedging.heard(watched, asyncio.get_running_loop().time()):
            self._asking.pop(watched).cancel()

    def opened(self, watched: Watched[object]) -> None:
        """Note that an answer has begun and stands open: nothing is asked again from here on."""
        watched.limit = watched.again = None
        watched.kind = Kind.OPEN

    def end(self, watched: Watched[object]) -> None:
        """Watch a request no longer. May be called twice."""
        self._hedging.end(watched)
        watched.again = None  # it refers to what refers to this: no answer should wait for a collector of cycles
        if watched in self._asking:
            self._asking.pop(watched).cancel()

    async def aclose(self) -> None:
        """Watch nothing any more; returns when nothing is asked any more."""
        if self._alarm is not None:
            self._alarm.cancel()
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- the alarm

    def _arm(self, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = asyncio.get_running_loop().call_at(at, self._ring, at)

    def _ring(self, due_at: float) -> None:
        self._alarm, self._alarm_at = None, math.inf
        now = asyncio.get_running_loop().time()
        if now - due_at > LATE_S:
            self._arm(now + LATE_S)
        else:
            self._look(now)

    def _look(self, now: float) -> None:
        look = self._hedging.look(now, may_ask=self._may_ask())
        for watched in look.give_up:
            self._asking.pop(watched).cancel()
        for watched in look.end:
            self.end(watched)
            watched.is_dead = True
            watched.end_wait()
        for watched in look.ask:
            self._asking[watched] = task = asyncio.create_task(self._ask(watched), name="asking-again")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if look.next_at is not None and look.next_at < self._alarm_at:
            self._arm(look.next_at)

    async def _ask(self, watched: Watched[object]) -> None:
        """Ask again. Where that brings nothing, it counts as asked all the same until its time is over."""
        brought = await watched.again() if watched.again is not None else None
        if brought is None:
            return
        now = asyncio.get_running_loop().time()
        asked_at = self._hedging.answered(watched, now)
        del self._asking[watched]
        watched.brought = brought
        watched.end_wait()
        self._look(now)
        await self._on_proven(now - asked_at)
