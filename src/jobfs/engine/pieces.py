"""Bring a large content by several ranges at once, and what a reader waits for far ahead of them at once.

One stream is bound by its window, so a server that honours ranges is asked for a few pieces at a time, in order. The
first request asks for the first piece; a server that ignores the range answers with the whole, and that answer is then
the *stream*: the only one, and none of it is thrown away. Nothing therefore has to be known of a server beforehand.

What a reader at the beginning waits for comes over several connections at once: one that has rested begins with some
ten packets, and doubles them with each round trip, so that alone it takes four for what the kernel reads first.

A reader far ahead gets a small range of his own. Where he goes on reading there, the ranges grow, so that a seek costs
a round trip or two and not the speed of what follows. When he gives up, his range is given up as well.

An answer that falls silent is gone on with by another range, where the server honours them: nobody can tell a dead
line from a slow server, but then nothing is lost. The answers under way may fall silent three times, each time for
longer: a server that pauses gets no more requests than that, and its time.

What may be shown to whom, and when answers may be joined, is ``landing``'s matter. Used by ``transfer`` alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass

from jobfs.engine.landing import Answer, Landing, WrongLength
from jobfs.engine.remote import Download, Remote
from jobfs.errors import ApiError, Unreachable
from jobfs.model import ItemId

_log = logging.getLogger(__name__)

PIECE_BYTES = 8 << 20
PARALLEL = 4
NEAR_BYTES = 2 << 20
"""What is no further ahead of a running answer is waited for: twice what the kernel reads ahead, or every file read in
order would be asked for twice."""

FRONT_BYTES = 160 << 10
"""More than the kernel reads first on behalf of a program that reads 64 KiB."""

_FRONT_PART_BYTES = 40 << 10
"""What a connection that has rested brings in two round trips: 10 and 20 packets (RFC 6928)."""

_TOGETHER_S = 0.005
"""How long the proof of what came over the first of several connections waits for the others."""

_LEAST_AHEAD_BYTES = 128 << 10
_MOST_AHEAD_BYTES = 4 << 20
_RESUMES = 3
"""How often a piece that was cut short is gone on with, each time after bytes had come."""

SILENCE_S = 3.0
"""So long an answer may bring nothing before the rest of it is asked for anew: more than lost packets cost."""

_MOST_SILENCES = 3
_GROWTH = 1.5
"""How much longer the next silence may last: who pauses is given time."""


class _Silent(Unreachable):
    """An answer that had brought bytes brings no more for now."""


@dataclass(slots=True, eq=False)
class Want:
    """A stretch that a reader waits for, and the range that was asked for on his behalf."""

    start: int
    end: int
    task: asyncio.Task[None] | None = None


class Pieces:
    """One try to bring one content. Make it within the loop, ``run`` it once.

    :param wants: what readers wait for; call ``consider`` after a change.
    :param check: raises where the item no longer has the revision that is wanted.
    :param is_honoured: whether the server was seen to honour ranges.
    :param on_learnt: told by each answer whether it did.
    :param silence_s: see ``SILENCE_S``.
    """

    def __init__(
        self,
        remote: Remote,
        item: ItemId,
        landing: Landing,
        wants: Sequence[Want],
        *,
        check: Callable[[], Awaitable[None]],
        is_honoured: bool,
        on_learnt: Callable[[bool], None],
        silence_s: float = SILENCE_S,
    ) -> None:
        self._remote = remote
        self._item = item
        self._landing = landing
        self._wants = wants
        self._check = check
        self._is_honoured = is_honoured
        self._on_learnt = on_learnt
        self._silence_s = silence_s
        self._silences = 0
        self._cursor = 0
        self._is_spread = False
        self._in_flight: list[Answer] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._stream: asyncio.Task[None] | None = None
        self._beginning: list[asyncio.Future[None]] = []
        """Done as each answer that was asked for at the front has begun, or will not."""
        self._proof: asyncio.Task[None] | None = None
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Return when every byte is present and, where several answers brought them, proven to be of one version.

        :raises WrongLength: an answer was longer or shorter than it announced. :raises ApiError: a request failed, or
            ``check`` did. :raises StateFull: the disk is full. In each case nothing goes on after it.
        """
        self._spawn(self._work())
        if self._is_honoured:
            self._spread()
        try:
            await self._end
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._landing.is_joined or self._landing.unproven():
            await self._prove()

    # -- in order

    async def _work(self) -> None:
        while (piece := self._take()) is not None:
            await self._fetch(*piece)

    def _take(self) -> tuple[int, int] | None:
        """Return the next piece that nobody fetches yet, without what is present at its ends; None after the last."""
        while self._cursor < self._landing.size:
            start = self._cursor
            self._cursor = min(start + PIECE_BYTES, self._landing.size)
            if missing := self._landing.present.gaps(start, self._cursor):
                return missing[0][0], missing[-1][1]
        return None

    def _spread(self) -> None:
        """Let the other workers begin."""
        if not self._is_spread:
            self._is_spread = True
            if any(want.start < FRONT_BYTES for want in self._wants):
                self._widen_front()
            for _ in range(PARALLEL - 1):
                self._spawn(self._work())

    def _widen_front(self) -> None:
        """Ask for what follows the first packets of the first answer beside it.

        The first answer brings the same bytes a little later: that costs less than to do without it as the stream.
        """
        for start in range(_FRONT_PART_BYTES, FRONT_BYTES, _FRONT_PART_BYTES):
            begun = asyncio.get_running_loop().create_future()
            self._beginning.append(begun)
            self._spawn(self._reach(start, start + _FRONT_PART_BYTES, begun))

    async def _fetch(self, start: int, end: int, begun: asyncio.Future[None] | None = None) -> None:
        """Bring a piece, over several answers where one ends early.

        :param begun: set when the first of them has begun.
        """
        cuts = 0
        while start < end:
            try:
                start = await self._ask(start, end, begun)
            except _Silent:
                start = self._landing.present.end_of(start)
            except Unreachable:
                reached = self._landing.present.end_of(start)
                cuts += 1
                if self._stream is not None or reached == start or cuts > _RESUMES:
                    raise
                start = reached

    async def _ask(self, start: int, end: int, begun: asyncio.Future[None] | None) -> int:
        """Bring what one request brings; return where its answer ended."""
        answer = Answer(start, end)
        self._in_flight.append(answer)
        try:
            async with self._remote.download(self._item, offset=start, length=end - start) as download:
                self._open(answer, download)
                if begun is not None and not begun.done():
                    begun.set_result(None)
                chunks = download.chunks()
                while (chunk := await self._next(chunks, answer, since=start)) is not None:
                    self._landing.write(answer, chunk)
            self._landing.close(answer)
            return answer.end
        finally:
            self._in_flight.remove(answer)

    async def _next(self, chunks: AsyncIterator[bytes], answer: Answer, *, since: int) -> bytes | None:
        """Return what an answer brings next, None after the last.

        :raises _Silent: that is not worth waiting for, since another one can go on where it is.
        """
        has_brought = answer.at > since and self._landing.present.end_of(since) > since
        silences = self._silences
        can_go_on = has_brought and self._is_honoured and self._stream is None and silences < _MOST_SILENCES
        limit_s = self._silence_s * _GROWTH**silences if can_go_on else None
        try:
            async with asyncio.timeout(limit_s) as limit:
                return await anext(chunks, None)
        except TimeoutError:
            if not limit.expired():
                raise
            self._silences = max(self._silences, silences + 1)  # those beside it fall silent together
            raise _Silent(f"no more bytes after byte {answer.at}", "try again") from None

    def _open(self, answer: Answer, download: Download) -> None:
        """Find out what an answer is: the range that was asked for, a part of it, or the whole."""
        asked, length = answer.end - answer.at, download.length
        is_range = download.offset == answer.at and (answer.at > 0 or (length is not None and 0 < length <= asked))
        if is_range:
            answer.end = answer.at + min(asked, length or asked)
        else:
            answer.at, answer.end = 0, self._landing.size
            self._become_stream()
        self._landing.open(answer)
        self._on_learnt(is_range)
        self._is_honoured = is_range
        if is_range:
            self._spread()
        asyncio.get_running_loop().call_soon(self.consider)  # once the new workers have begun

    def _become_stream(self) -> None:
        """Let the answer of the current task be the only one: it is the whole, and every other would be too."""
        self._stream = asyncio.current_task()
        self._cursor = self._landing.size
        for task in self._tasks:
            if task is not self._stream:
                task.cancel()
        for want in self._wants:
            if want.task is self._stream:
                want.task = None

    # -- out of order

    def consider(self) -> None:
        """See to what the waiting readers need: a proof of what is present, or a range far ahead."""
        if self._end.done():
            return
        needs_proof = False
        for want in self._wants:
            at = self._landing.shown.end_of(want.start)
            if at >= want.end:
                continue
            needs_proof = needs_proof or self._landing.hides(at, want.end)
            is_present = self._landing.present.holds(at, at + 1)
            may_reach = not is_present and want.task is None and self._is_honoured and self._stream is None
            if may_reach and not self._is_near(at):
                want.task = self._spawn(self._reach(*self._ahead(want, at)))
        if needs_proof and (self._proof is None or self._proof.done()):
            self._proof = self._spawn(self._prove_together())

    def _is_near(self, at: int) -> bool:
        """Tell whether a byte comes soon: from an answer under way, whose last byte counts at the end of its body, or
        in the piece that a worker, whose last one is complete, takes in a moment."""
        for answer in self._in_flight:
            if answer.at - 1 <= at < answer.end and at - answer.at <= NEAR_BYTES:
                return True
            if answer.at == answer.end and self._cursor <= at <= self._cursor + NEAR_BYTES:
                return True
        return False

    def _ahead(self, want: Want, at: int) -> tuple[int, int]:
        """Return the range to ask for: at least what is waited for, twice what was read right before it."""
        length = max(want.end - at, 2 * self._landing.present.length_before(at), _LEAST_AHEAD_BYTES)
        end = min(at + min(length, _MOST_AHEAD_BYTES), self._landing.size)
        return self._landing.present.gaps(at, end)[0]

    async def _reach(self, start: int, end: int, begun: asyncio.Future[None] | None = None) -> None:
        """Bring a range that the pieces would bring later: where it fails, they do."""
        try:
            await self._fetch(start, end, begun)
        except ApiError as error:
            if isinstance(error, WrongLength) or self._stream is asyncio.current_task():
                raise
            _log.debug("no range from byte %d (%s): its reader waits for the pieces", start, error)
        finally:
            if begun is not None and not begun.done():
                begun.set_result(None)

    async def _prove_together(self) -> None:
        """Prove what readers wait for; what begins in a moment, with the same look."""
        beginning = [begun for begun in self._beginning if not begun.done()]
        if beginning:
            await asyncio.wait(beginning, timeout=_TOGETHER_S)
        await self._prove()

    async def _prove(self) -> None:
        answers = self._landing.unproven()
        await self._check()
        self._landing.prove(answers)

    # -- tasks

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="piece")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if self._end.done():
            return
        if error is not None:
            self._end.set_exception(error)
        elif self._landing.is_complete:
            self._end.set_result(None)
        else:
            self.consider()
