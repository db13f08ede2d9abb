"""Counts requests against the ``rate_limit`` switch (contract T-9)."""

from __future__ import annotations

from email.utils import formatdate

from jobfs.server.refusals import Refused
from jobfs.server.switches import RateLimit
from jobfs.server.times import Clock


class RateLimiter:
    """A bucket of requests for each key, refilled evenly. A changed limit starts with full buckets."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, RateLimit], tuple[float, int]] = {}

    def count(self, who: str, limit: RateLimit) -> None:
        """Take one request out of a bucket; 429 with ``Retry-After`` when it is empty."""
        now = self._clock()
        left, since = self._buckets.get((who, limit), (float(limit.per_second), now))
        left = min(float(limit.per_second), left + (now - since) * limit.per_second / 1000)
        if left < 1:
            self._buckets[who, limit] = (left, now)
            wait = "1" if limit.style == "seconds" else formatdate(now / 1000 + 1, usegmt=True)
            raise Refused(429, "Too many requests", code="rate_limited", headers={"retry-after": wait})
        self._buckets[who, limit] = (left - 1, now)
