"""Time on the server: whole milliseconds since 1970, spelt as the contract wants it (T-13)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Clock = Callable[[], int]
"""Gives the present time in milliseconds. A parameter of everything that stamps records."""


def system_clock() -> int:
    """Return the machine's time in milliseconds."""
    return time.time_ns() // 1_000_000


_DAY = re.compile(r"\d{4}(-\d\d(-\d\d)?)?")


def from_iso(text: str) -> int:
    """Read a time of ISO 8601 or only its beginning, a year or a month; without a zone it is UTC.

    :raises ValueError: it is none, or its moment is outside the years 1 to 9999.
    """
    whole = text + "-01-01"[len(text) - 4 :] if _DAY.fullmatch(text) else text
    try:
        at = datetime.fromisoformat(whole)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("not a time of ISO 8601") from None
    return (at - _EPOCH) // timedelta(milliseconds=1)


def iso(at_ms: int) -> str:
    """Spell a time as ``YYYY-MM-DDThh:mm:ss.mmmZ``: the one form that every known client reads."""
    seconds, ms = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{ms:03d}Z"
