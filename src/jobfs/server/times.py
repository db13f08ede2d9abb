"""Time on the server: whole milliseconds since 1970, spelt as the contract wants it (T-13)."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], int]
"""Gives the present time in milliseconds. A parameter of everything that stamps records."""


def system_clock() -> int:
    """Return the machine's time in milliseconds."""
    return time.time_ns() // 1_000_000


def iso(at_ms: int) -> str:
    """Spell a time as ``YYYY-MM-DDThh:mm:ss.mmmZ``: the one form that every known client reads."""
    seconds, ms = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{ms:03d}Z"
