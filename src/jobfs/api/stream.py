"""An answer whose body has not been read, and reading it as it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import httpx

from jobfs import errors
from jobfs.api.bodies import is_encoded, pieces
from jobfs.api.limiter import Outcome, Slot
from jobfs.api.watch import Watch, Watched


@dataclass(slots=True)
class Opened:
    """An answer whose body has not been read, and what must be given back after it."""

    slot: Slot | None
    lane: httpx.AsyncBaseTransport
    watched: Watched[object]
    response: httpx.Response | None = None
    is_elsewhere: bool = False
    is_again: bool = False
    outcome: Outcome = Outcome.WELL


class Stream:
    """An open answer whose body is read as it arrives. Made by ``Transport.stream``."""

    def __init__(self, response: httpx.Response, subject: str, opened: Opened, watch: Watch) -> None:
        self._response = response
        self._subject = subject
        self._opened = opened
        self._watch = watch
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._is_encoded = is_encoded(response)

    @property
    def length(self) -> int | None:
        """Number of bytes announced; None where the server does not say, or encodes the body against our wish."""
        text = self.headers.get("content-length", "")
        return int(text) if not self._is_encoded and text.isascii() and text.isdigit() and len(text) < 19 else None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body, once.

        :raises Unreachable: where it was cut, or nothing came for the idle limit.
        """
        received = 0
        body = pieces(self._response)
        try:
            while (chunk := await self._next(body)) is not None:
                received += len(chunk)
                yield chunk
        except httpx.RequestError as broken:
            self._opened.outcome = load_of(broken)
            raise self._cut(received) from broken
        except TimeoutError:
            self._opened.outcome = Outcome.NEITHER
            raise self._cut(received) from None
        if self.length is not None and received != self.length:
            raise self._cut(received)

    async def _next(self, body: AsyncIterator[bytes]) -> bytes | None:
        """Return what comes next, None after the last.

        :raises TimeoutError: its line is known to be dead.
        """
        watched = self._opened.watched
        try:
            async with asyncio.timeout(0 if watched.is_dead else None) as watched.limit:
                chunk = await anext(body, None)
        finally:
            watched.limit = None
        self._watch.heard(watched)
        return chunk

    def _cut(self, received: int) -> errors.Unreachable:
        return errors.Unreachable(
            f"{self._subject}: the connection broke after {received} bytes", "try again; check the network"
        )


def load_of(broken: BaseException) -> Outcome:
    """Return what a failure says about the server's load."""
    return Outcome.OVERLOADED if isinstance(broken, (httpx.TimeoutException, TimeoutError)) else Outcome.NEITHER
