"""How many requests are under way at once: fewer when the server suffers, more when it answers well.

Additive increase, multiplicative decrease; until the server suffers for the first time, one more for each good answer,
as TCP begins. A burst of failures from one window counts once, since all its requests were sent under the same limit.
Transfers may never take the last two places, so that a listing does not wait behind long downloads.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import Enum, unique

_RESERVED = 2


@unique
class Outcome(Enum):
    """What an answer says about the server's load."""

    WELL = "well"
    OVERLOADED = "overloaded"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what is under way at once.

    :param start: requests at once before anything is known of the server.
    :param most: requests at once at best; also the number of connections kept warm. Many small files take the round
        trip divided by this: 1,000 at 20 ms took 2.4 s with 16, and 1.9 s with 24, 32 and 48, where the processors
        begin to limit; at 100 ms each doubling still halves it.
    """

    start: int = 8
    most: int = 32


@dataclass(slots=True, eq=False)
class Slot:
    """The right to have one request under way."""

    is_transfer: bool
    window: int


class Limiter:
    """Hands out slots, first come first served, calls before transfers.

    One loop only; nothing here blocks but ``acquire``, which can be cancelled at any time.
    """

    def __init__(self, limits: Limits) -> None:
        self._most = limits.most
        self._limit = float(min(limits.start, limits.most))
        self._window = 0
        self._active = 0
        self._transfers = 0
        self._waiting: dict[bool, deque[asyncio.Future[Slot]]] = {False: deque(), True: deque()}

    @property
    def limit(self) -> int:
        """Requests that may be under way at once, now."""
        return int(self._limit)

    @property
    def active(self) -> int:
        """Requests under way."""
        return self._active

    async def acquire(self, *, is_transfer: bool) -> Slot:
        """Wait for a slot. It must be given back with ``release``."""
        if not self._waiting[is_transfer] and self._has_room(is_transfer=is_transfer):
            return self._take(is_transfer=is_transfer)
        place: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._waiting[is_transfer].append(place)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.release(place.result(), Outcome.NEITHER)
            elif place in self._waiting[is_transfer]:
                self._waiting[is_transfer].remove(place)
            raise

    def release(self, slot: Slot, outcome: Outcome) -> None:
        """Give a slot back and learn from how its request went."""
        self._active -= 1
        self._transfers -= slot.is_transfer
        if outcome is Outcome.OVERLOADED and slot.window == self._window:
            self._limit = max(1.0, self._limit / 2)
            self._window += 1
        elif outcome is Outcome.WELL:
            self._limit = min(float(self._most), self._limit + (1 / self._limit if self._window else 1))
        self._admit()

    def _has_room(self, *, is_transfer: bool) -> bool:
        if is_transfer and self._transfers >= max(1, self.limit - _RESERVED):
            return False
        return self._active < self.limit

    def _take(self, *, is_transfer: bool) -> Slot:
        self._active += 1
        self._transfers += is_transfer
        return Slot(is_transfer, self._window)

    def _admit(self) -> None:
        for is_transfer in (False, True):
            queue = self._waiting[is_transfer]
            while queue and self._has_room(is_transfer=is_transfer):
                place = queue.popleft()
                if not place.done():
                    place.set_result(self._take(is_transfer=is_transfer))
