"""Faults that a test can ask the server for: what goes wrong, how often, and for which requests.

Off unless asked for. Which requests are hit follows from a seed, so that a run can be repeated. ``front`` acts on most
of them; the routes act on those that need to know what is asked: missing bytes and the three about pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal, get_args

from jobfs.errors import SettingsError

FaultKind = Literal[
    "latency",  # the request waits before it is looked at
    "drop_before",  # the connection breaks before anything is done
    "lose_response",  # it is done, then the connection breaks (T-10, J-16)
    "error_before",  # an error envelope instead of doing it
    "error_after",  # it is done, then an error envelope
    "html_502",  # a proxy's page instead of doing it
    "slow_body",  # the answer's body drips
    "cut_body",  # the announced length, half of the body, then the connection closes
    "wrong_length",  # one byte of a download is missing, with a length that agrees
    "missing_bytes",  # a download of an item whose bytes are gone (I-44)
    "mutate_pages",  # after a page, the oldest file gets a new id and date: total stays, a row is skipped (I-36)
    "stale_pages",  # a page as it was when it was last asked for
    "shuffled_pages",  # a page in an order of its own
]

_KINDS: dict[str, FaultKind] = {kind: kind for kind in get_args(FaultKind)}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    :param probability: of striking each request that matches.
    :param count: strikes after which it is over; None for no end.
    :param spare: matching requests that pass before the first strike.
    :param method: only requests of this method; "" for all.
    :param path: only requests in whose path this regular expression is found; "" for all.
    :param status: of the two error kinds.
    :param delay_s: of ``latency``.
    :param bytes_per_s: of ``slow_body``.
    """

    kind: FaultKind
    probability: float = 1.0
    count: int | None = None
    spare: int = 0
    method: str = ""
    path: str = ""
    status: int = 503
    delay_s: float = 0.1
    bytes_per_s: int = 64 * 1024

    def matches(self, method: str, path: str) -> bool:
        """Tell whether a request is of the kind that this fault may strike."""
        return self.method in ("", method) and (not self.path or re.search(self.path, path) is not None)


@dataclass(slots=True)
class _Tally:
    seen: int = 0
    struck: int = 0


@dataclass
class Faults:
    """The faults of a server.

    :param seed: decides which requests are struck.
    """

    faults: tuple[Fault, ...] = ()
    seed: int = 0
    _random: Random = field(init=False, repr=False, compare=False)
    _tallies: list[_Tally] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)  # noqa: S311  (repeatable on purpose)
        self._tallies = [_Tally() for _ in self.faults]

    def strike(self, method: str, path: str) -> tuple[Fault, ...]:
        """Return the faults that strike a request. Called once for each request."""
        return tuple(
            fault
            for fault, tally in zip(self.faults, self._tallies, strict=True)
            if fault.matches(method, path) and self._draw(fault, tally)
        )

    def has(self, kind: FaultKind) -> bool:
        """Tell whether a kind of fault was asked for at all."""
        return any(fault.kind == kind for fault in self.faults)

    def struck(self) -> int:
        """Return how many strikes there were."""
        return sum(tally.struck for tally in self._tallies)

    def _draw(self, fault: Fault, tally: _Tally) -> bool:
        tally.seen += 1
        if tally.seen <= fault.spare or (fault.count is not None and tally.struck >= fault.count):
            return False
        if fault.probability < 1 and self._random.random() >= fault.probability:
            return False
        tally.struck += 1
        return True


_FIELDS: dict[str, tuple[str, type]] = {
    "p": ("probability", float),
    "count": ("count", int),
    "spare": ("spare", int),
    "method": ("method", str),
    "path": ("path", str),
    "status": ("status", int),
    "delay": ("delay_s", float),
    "rate": ("bytes_per_s", int),
}


def parse(words: Iterable[str], *, seed: int = 0) -> Faults:
    """Read words such as ``lose_response:p=0.1,method=POST,path=/items/``. Raises ``SettingsError``."""
    return Faults(tuple(_parse_one(word) for word in words), seed)


def _parse_one(word: str) -> Fault:
    kind, _, rest = word.partition(":")
    kind = kind.replace("-", "_")
    if kind not in _KINDS:
        raise SettingsError(f"no such fault: {kind!r}", f"give one of: {', '.join(_KINDS)}")
    values: dict[str, Any] = {}
    for pair in rest.split(",") if rest else ():
        name, _, value = pair.partition("=")
        try:
            attribute, convert = _FIELDS[name]
            values[attribute] = convert(value)
            if name == "path":
                re.compile(value)
        except (KeyError, ValueError, re.error):
            names = ", ".join(_FIELDS)
            raise SettingsError(f"fault {kind}: {pair!r} is not understood", f"give NAME=VALUE of: {names}") from None
    return replace(Fault(_KINDS[kind]), **values)
