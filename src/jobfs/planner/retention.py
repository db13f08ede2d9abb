"""Which versions of the local history have to go: by age, and by the room that all of them take. Pure.

A version that exists nowhere else (it lost a conflict, or a repair found it) goes by age alone, and never before a
month is over, whatever was asked for: the promise that nobody's bytes vanish unseen is not for sale to save room.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

DEFAULT_DAYS = 30.0
DEFAULT_BYTES = 1 << 30

_DAY_NS = 86_400 * 10**9
_SHRINK_TO = 0.9
"""Make a little more room than needed, so that a full history is not searched at every version."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How much is kept.

    :param days: so long after it was replaced or deleted. :param limit_bytes: what all versions may take together.
        0 for either: nothing is kept.
    """

    days: float = DEFAULT_DAYS
    limit_bytes: int = DEFAULT_BYTES

    @property
    def is_off(self) -> bool:
        """Whether nothing is kept."""
        return self.days <= 0 or self.limit_bytes <= 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody says about a retention; None: nothing."""

    days: float | None = None
    limit_bytes: int | None = None

    def over(self, before: Retention) -> Retention:
        """Return the retention that was, with what is said now."""
        return Retention(
            before.days if self.days is None else self.days,
            before.limit_bytes if self.limit_bytes is None else self.limit_bytes,
        )


@dataclass(frozen=True, slots=True)
class Held:
    """What the decision needs to know of a version.

    :param number: grows from version to version. :param cost: bytes of room. :param at_ns: when it was replaced or
        deleted. :param is_sole: whether its bytes exist nowhere else.
    """

    number: int
    path: str
    cost: int
    at_ns: int
    is_sole: bool = False


def surplus(versions: Iterable[Held], retention: Retention, now_ns: int) -> list[int]:
    """Return the numbers of the versions that go.

    First whatever is too old; then, where the room is not enough, the oldest of those after which the same file has a
    newer version here; then the oldest of all. So a file that is written all the time takes no other file's last
    version, and the last version of a file that was deleted outlives the many of one that was edited.
    """
    going: list[int] = []
    staying: list[Held] = []
    for version in sorted(versions, key=lambda one: one.number):
        if _is_over(version, retention, now_ns):
            going.append(version.number)
        else:
            staying.append(version)
    total = sum(version.cost for version in staying)
    if total <= retention.limit_bytes:
        return going
    newest = {version.path: version.number for version in staying}
    optional = [version for version in staying if not version.is_sole]
    for version in sorted(optional, key=lambda one: newest[one.path] == one.number):
        if total <= retention.limit_bytes * _SHRINK_TO:
            break
        total -= version.cost
        going.append(version.number)
    return going


def _is_over(version: Held, retention: Retention, now_ns: int) -> bool:
    if version.is_sole:
        days = max(retention.days, DEFAULT_DAYS)
    elif retention.is_off:
        return True
    else:
        days = retention.days
    return now_ns - version.at_ns > days * _DAY_NS
