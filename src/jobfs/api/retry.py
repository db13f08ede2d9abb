"""When a request may be sent again, and after how long. Pure: the clock and chance are arguments.

What may be repeated (contract T-10): anything that certainly did nothing, and everything that changes nothing however
often it is done. A write of unknown outcome is never repeated here; its caller looks first (contract, protocol U).
"""

from __future__ import annotations

import email.utils
from dataclasses import dataclass

from jobfs.errors import ApiError


@dataclass(frozen=True, slots=True)
class Retries:
    """How stubborn a call is.

    :param attempts: most tries of one call; waits that the server itself asked for do not count.
    :param first_s: upper end of the first wait in seconds; doubled for each further one.
    :param longest_s: most seconds of one wait.
    """

    attempts: int = 5
    first_s: float = 0.2
    longest_s: float = 60.0

    def wait_s(self, failures: int, chance: float) -> float:
        """Return the wait before the next try: exponential with full jitter.

        :param failures: tries that failed so far, at least 1.
        :param chance: a random number from 0 to 1.
        """
        return chance * min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 32))


@dataclass(frozen=True, slots=True)
class Setback:
    """What came of a try that gave nothing.

    :param error: what the caller is told if it was the last one.
    :param can_pass: whether another try could succeed.
    :param may_be_done: False where the server certainly did nothing.
    :param retry_after_s: how long the server asked us to wait, if it did.
    :param is_bare: a 404 that no program of the API wrote: perhaps the path is spelt otherwise there (contract T-1).
    """

    error: ApiError
    can_pass: bool = False
    may_be_done: bool = False
    retry_after_s: float | None = None
    is_bare: bool = False


def retry_after_s(value: str | None, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks for, as number or date (contract T-9); None if it says nothing.

    :param now: seconds since the epoch, to which a date is compared.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value) if len(value) <= 9 else 1e9
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None
