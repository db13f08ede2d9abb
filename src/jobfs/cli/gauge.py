"""How far a synchronisation is: files and bytes, done and to do, the rate, and the time that is left.

What is done is counted as it happens. What is to do is derived from the trees, like all work; that costs a look at
every node, so it is done as often as it may take a fiftieth of the time. Reading the gauge is up to who shows it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from jobfs.folder.report import SyncEvent, What
from jobfs.workspace.meter import LARGE_BYTES, Meter

_COUNT_SHARE = 50
_WINDOW_S = 10.0
_FIRST_GUESS_S = 1.0


@dataclass(frozen=True, slots=True)
class Left:
    """What is still to be sent or received. ``size``: bytes."""

    files: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the gauge.

    :param size: bytes that are done; ``total_size`` with those to do.
    :param rate: bytes a second, lately.
    :param share: of the whole work, 0 to 1; None while nothing is known to do.
    :param remaining_s: None while it cannot be guessed.
    """

    files: int
    total_files: int
    size: int
    total_size: int
    rate: float
    share: float | None
    remaining_s: float | None


class Gauge:
    """Measures one synchronisation.

    :param count_left: tells what is to do.
    :param meter: counts large contents as they pass.
    """

    def __init__(
        self, count_left: Callable[[], Left], meter: Meter, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._count_left = count_left
        self._meter = meter
        self._moved_before = meter.moved
        self._clock_s = clock_s
        self._began_s = clock_s()
        self._files = 0
        self._small = 0
        self._large = 0
        self._shown = 0
        self._total = Left()
        self._count_at_s = 0.0
        self._samples: deque[tuple[float, int, int]] = deque()

    def elapsed_s(self) -> float:
        """Return for how long it has measured."""
        return self._clock_s() - self._began_s

    def note(self, event: SyncEvent) -> None:
        """Count what was done."""
        if event.what in (What.PUSHED, What.PULLED):
            self._files += 1
            if event.size > LARGE_BYTES:
                self._large += event.size
            else:
                self._small += event.size

    def read(self) -> Reading:
        """Return how far it is now."""
        now_s = self._clock_s()
        if now_s >= self._count_at_s:
            left = self._count_left()
            done = self._small + self._large
            self._total = Left(self._files + left.files, done + left.size)
            self._count_at_s = now_s + _COUNT_SHARE * (self._clock_s() - now_s)
        total = Left(max(self._total.files, self._files), max(self._total.size, self._small + self._large))
        passed = self._small + max(self._large, self._meter.moved - self._moved_before)
        self._shown = min(total.size, max(self._shown, passed))
        return self._reading(now_s, total)

    def _reading(self, now_s: float, total: Left) -> Reading:
        self._samples.append((now_s, self._files, self._shown))
        while now_s - self._samples[0][0] > _WINDOW_S:
            self._samples.popleft()
        then_s, files_then, size_then = self._samples[0]
        span_s = now_s - then_s
        rates = ((self._files - files_then) / span_s, (self._shown - size_then) / span_s) if span_s else (0.0, 0.0)
        shares = [done / whole for done, whole in ((self._files, total.files), (self._shown, total.size)) if whole]
        lefts = (total.files - self._files, total.size - self._shown)
        # Many small files cost round trips, few large ones bytes: whichever takes longer decides.
        guesses = [left / rate for left, rate in zip(lefts, rates, strict=True) if rate > 0]
        return Reading(
            self._files,
            total.files,
            self._shown,
            total.size,
            rate=max(0.0, rates[1]),
            share=sum(shares) / len(shares) if shares else None,
            remaining_s=max(guesses) if guesses and span_s >= _FIRST_GUESS_S else None,
        )
