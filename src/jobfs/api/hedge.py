"""When a question that nobody answers is asked again over a new connection, and what its answer says of the others.

A line can be dead although its other end acknowledges: a box in the middle does, while nothing comes through, and for
the connections that stood then nothing ever will. From here that looks like a slow server. The same question over a new
connection tells the two apart: it is answered where the line was dead, while a slow server takes as long again.

- Only a read is asked again, and only when nothing has come for it, nor over any connection that already stood when
  something last did, for as long as ``Hedging.patience_s``.
- One question at a time, and each that is not answered either is waited for longer than the one before. Only after an
  answer there may be more, for the line is known to be dead then.
- Who is slow is given time: for a while nothing is asked again before twice the longest time that an answer took.
- What is not asked again (a write, an answer that stands open) is ended only after a proof, which is an answer over the
  new connection at once, and only where it was silent before and has been since.

Pure: moments are arguments, in seconds of one clock. ``watch`` does what is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto, unique
from typing import Generic, TypeVar

FIRST_PATIENCE_S = 3.0
"""Above what a server takes for a question that is no work, and what lost packets cost: TCP repeats after 0.2, 0.6 and
1.4 s."""

REMEMBERED_S = 120.0
"""How long a slow answer makes patient."""

MOST_AT_ONCE = 8
"""Questions that are asked again at once while they are answered."""

PROMPT_S = 1.0
"""How long an answer over a new connection may take to prove anything: a server whose answers take anything between
nothing and long gives a later one first by chance."""

_GROWTH = 1.5
"""How much longer a question is waited for than the one before."""

_MOST_GROWN = 2
"""So often it grows: on a line that was dead for long somebody has to notice its return."""

_MOST_STOOD = 64


@unique
class Kind(Enum):
    """What a request under way is."""

    READ = auto()
    """A question that may be asked again."""
    WRITE = auto()
    """What must not be sent again before somebody has looked."""
    OPEN = auto()
    """An answer that comes bit by bit."""
    SENDING = auto()
    """A write of which not all is sent: nobody can have answered yet."""
    AGAIN = auto()
    """A question that was asked again."""


_PATIENCES = {Kind.READ: 1.0, Kind.OPEN: 1.0, Kind.WRITE: 1.5}
"""How many times the patience each is waited for; the others without end. Servers take longer for writes, and one that
is ended in error costs more."""


@dataclass(slots=True, eq=False)
class Wait:
    """A request under way.

    :ivar heard: when something last came for it; until then, when it was sent.
    :ivar since: since when its connection has stood, where that is known.
    """

    kind: Kind = Kind.AGAIN
    heard: float = 0.0
    since: float | None = None
    is_answered: bool = False


_W = TypeVar("_W", bound=Wait)


@dataclass(slots=True)
class Look(Generic[_W]):
    """What is to be done now: what to ask again, what of that to give up, what to end; and when to look again."""

    ask: list[_W] = field(default_factory=list)
    give_up: list[_W] = field(default_factory=list)
    end: list[_W] = field(default_factory=list)
    next_at: float | None = None


@dataclass(slots=True)
class _Asked:
    at: float
    until: float


@dataclass(slots=True)
class _Slowest:
    """The longest time that an answer took lately."""

    _took_s: float = 0.0
    _at: float = 0.0

    def took_s(self, now: float) -> float:
        return self._took_s if now - self._at <= REMEMBERED_S else 0.0

    def note(self, took_s: float, now: float) -> None:
        self._took_s, self._at = max(took_s, self.took_s(now)), now


class Hedging(Generic[_W]):
    """Decides for all requests to one server.

    :param first_s: the patience with a server that is not known to be slow.
    """

    def __init__(self, first_s: float = FIRST_PATIENCE_S) -> None:
        self._first_s = first_s
        self._slow_reads = _Slowest()
        self._slow_writes = _Slowest()
        self._waits: dict[_W, None] = {}
        self._asked: dict[_W, _Asked] = {}
        self._stood: list[tuple[float, float]] = []
        """Since when a connection has stood, and when something last came over it; both ascend, for one over which
        something came later says more than all that are younger."""
        self._is_known = False
        self._misses = 0
        self._at_once = 1
        self._proven_at: float | None = None

    def patience_s(self, now: float) -> float:
        """Return how long silence is nothing special."""
        return max(self._first_s, 2 * self._slow_reads.took_s(now))

    def begin(self, wait: _W, kind: Kind, now: float) -> None:
        """Note that a request is sent."""
        wait.kind, wait.heard = kind, now
        self._waits[wait] = None

    def sent(self, wait: _W, now: float) -> None:
        """Note that all of a write has been sent."""
        wait.kind, wait.heard = Kind.WRITE, now

    def heard(self, wait: _W, now: float) -> bool:
        """Note that something came for a request; tell whether it was asked again, which was needless then."""
        if wait not in self._waits:
            return False
        if not wait.is_answered:
            wait.is_answered = self._is_known = True
            if 2 * (took_s := now - wait.heard) > self._first_s and wait.kind in (Kind.READ, Kind.WRITE):
                slow = self._slow_reads if wait.kind is Kind.READ else self._slow_writes
                slow.note(took_s, now)
        wait.heard = now
        since = now if wait.since is None else wait.since
        while self._stood and self._stood[-1][0] >= since:
            self._stood.pop()
        self._stood.append((since, now))
        if len(self._stood) > _MOST_STOOD:
            del self._stood[0]
        if self._asked.pop(wait, None) is None:
            return False
        self._misses, self._at_once = 0, 1
        return True

    def end(self, wait: _W) -> None:
        """Note that a request has ended, however it did."""
        self._waits.pop(wait, None)
        self._asked.pop(wait, None)

    def answered(self, wait: _W, now: float) -> float:
        """Note that what was asked again is answered over the new connection; return when it was asked there."""
        asked = self._asked.pop(wait)
        self._waits.pop(wait, None)
        self._misses = 0
        if now - asked.at <= PROMPT_S:
            self._proven_at = now
            self._at_once = min(2 * self._at_once, MOST_AT_ONCE)
        else:
            self._at_once = 1
        return asked.at

    def look(self, now: float, *, may_ask: bool = True) -> Look[_W]:
        """Decide.

        :param may_ask: False while the server wants fewer requests.
        """
        look: Look[_W] = Look(give_up=[wait for wait, asked in self._asked.items() if asked.until <= now])
        for wait in look.give_up:
            del self._asked[wait]
            self._misses += 1
            self._at_once = 1
        moments = []
        for wait in self._waits:
            at = self._due_at(wait, now)
            if at is None:
                continue
            if at > now:
                moments.append(at)
            elif wait.kind is not Kind.READ:
                look.end.append(wait)
            elif self._is_known and may_ask and len(self._asked) < self._at_once:
                self._asked[wait] = _Asked(now, now + self.patience_s(now) * _GROWTH ** min(self._misses, _MOST_GROWN))
                look.ask.append(wait)
            else:
                moments.append(now + self._first_s)
        look.next_at = min([*moments, *(asked.until for asked in self._asked.values())], default=None)
        return look

    def _due_at(self, wait: _W, now: float) -> float | None:
        """Return when a request will have been silent for too long; None where nothing follows from that."""
        patience = _PATIENCES.get(wait.kind)
        if patience is None or wait in self._asked:
            return None
        if wait.kind is not Kind.READ and (self._proven_at is None or wait.heard >= self._proven_at):
            return None
        slow_write_s = self._slow_writes.took_s(now) if wait.kind is Kind.WRITE else 0.0
        return self._alive_at(wait) + patience * max(self.patience_s(now), 2 * slow_write_s)

    def _alive_at(self, wait: _W) -> float:
        """Return when the line of a request was last known to be alive.

        That is when something last came for it, or over a connection that stood at that time: such a one has outlived
        all that may have happened in between.
        """
        return max(wait.heard, next((at for since, at in reversed(self._stood) if since <= wait.heard), wait.heard))
