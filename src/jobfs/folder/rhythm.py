"""When the whole folder is looked at again, whatever the system tells of it. Pure but for the given clock."""

from __future__ import annotations

from jobfs.engine.workspace import Clock

RESCAN_S = 600.0
"""A full scan this often finds what no event told of (design, section 8)."""

POLL_S = 5.0
"""And this often where the system tells of nothing; never more than a twentieth of the time."""

_SHARE = 20


class Rhythm:
    """The times of full scans.

    :param poll_s: seconds between them where the system tells of nothing.
    """

    def __init__(self, clock: Clock, poll_s: float) -> None:
        self._clock = clock
        self._poll_s = poll_s
        self._last_s = clock.monotonic_s()
        self._cost_s = 0.0
        self.has_told = False

    def rescanned(self, began_s: float) -> None:
        """Note a full scan."""
        self._last_s = self._clock.monotonic_s()
        self._cost_s = self._last_s - began_s

    def until_rescan_s(self, trouble: str) -> float:
        """Return in how many seconds the next full scan is due."""
        interval_s = max(self._poll_s, self._cost_s * _SHARE) if trouble else RESCAN_S
        return max(0.0, self._last_s + interval_s - self._clock.monotonic_s())
