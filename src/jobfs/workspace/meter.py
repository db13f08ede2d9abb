"""Count contents while they pass, for displays of progress, and hold them back where the user set a limit.

It sits on the transport, where every byte passes, and costs one addition for each chunk. What is shown of it, and how
often, is the business of ``gauge``, ``fronts`` and ``report``. A content that is small enough to go in one piece is not
counted here: it is counted when it is done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from jobfs.api.body import Body
from jobfs.api.call import Call, Timeouts
from jobfs.api.limiter import Limits
from jobfs.api.stream import Stream
from jobfs.api.transport import Transport

LARGE_BYTES = 256 * 1024
"""Up to here a content counts when it is done; what is larger, and what has no length, counts as it passes."""

_STEP_BYTES = 64 * 1024
"""Where there is a limit, bodies go out in steps of this size, so that the rate is even."""


class Pace:
    """A limit in bytes a second, shared by everything that passes: whoever comes waits for those before him.

    :param rate: bytes a second; None: no limit.
    """

    def __init__(
        self,
        rate: int | None,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = rate
        self._clock_s = clock_s
        self._sleep = sleep
        self._free_at_s = 0.0

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit."""
        return self._rate is not None

    async def spend(self, size: int) -> None:
        """Wait until so many bytes may pass."""
        if self._rate is None:
            return
        now_s = self._clock_s()
        begins_s = max(now_s, self._free_at_s)
        self._free_at_s = begins_s + size / self._rate
        if begins_s > now_s:
            await self._sleep(begins_s - now_s)


@dataclass(slots=True, eq=False)
class Passing:
    """One large content on its way.

    :param content: see ``Call.content``.
    :param size: bytes in all; None where the server does not say.
    """

    content: str
    is_upload: bool
    size: int | None
    moved: int = 0


@dataclass(slots=True)
class RequestCount:
    """Counts what was asked of the server; its ``note`` is a transport's request hook."""

    total: int = 0
    failed: int = 0
    by_method: dict[str, int] = field(default_factory=dict)

    def note(self, method: str, path: str, status: int) -> None:
        """Count one exchange."""
        self.total += 1
        self.failed += status == 0 or status >= 400
        self.by_method[method] = self.by_method.get(method, 0) + 1


@dataclass(slots=True)
class Meter:
    """What has passed and what is passing.

    :ivar moved: bytes of large contents so far. Goes back where an upload starts over.
    :param up: how fast contents may be sent; ``down`` likewise received.
    """

    moved: int = 0
    requests: RequestCount = field(default_factory=RequestCount)
    passing: list[Passing] = field(default_factory=list)
    up: Pace = field(default_factory=lambda: Pace(None))
    down: Pace = field(default_factory=lambda: Pace(None))


class MeteredTransport(Transport):
    """A transport that counts contents on a meter, and keeps to its pace."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        system_key: str | None = None,
        *,
        meter: Meter,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        super().__init__(
            base_url, api_key, system_key, on_request=meter.requests.note, limits=limits, timeouts=timeouts
        )
        self._meter = meter

    async def json(self, call: Call) -> object:
        """Make a call; the content that it carries is counted as it leaves."""
        if call.body is None or not call.content:
            return await super().json(call)
        if not call.is_transfer or call.body.length <= LARGE_BYTES:
            await self._meter.up.spend(call.body.length)
            return await super().json(call)
        passing = Passing(call.content, True, call.body.length)
        self._meter.passing.append(passing)
        try:
            return await super().json(replace(call, body=_CountedBody(call.body, self._meter, passing)))
        finally:
            self._meter.passing.remove(passing)

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[Stream]:
        """Make a call; the content that it brings is counted as it comes."""
        async with super().stream(call) as stream:
            is_large = call.is_transfer and (stream.length is None or stream.length > LARGE_BYTES)
            if not is_large and not (call.is_transfer and self._meter.down.is_limited):
                yield stream
                return
            passing = Passing(call.content or call.subject, False, stream.length)
            if is_large:
                self._meter.passing.append(passing)
            try:
                yield _CountedStream(stream, self._meter, passing, is_large=is_large)
            finally:
                if is_large:
                    self._meter.passing.remove(passing)


class _CountedBody:
    """Satisfies ``body.Body``."""

    def __init__(self, body: Body, meter: Meter, passing: Passing) -> None:
        self._body = body
        self._meter = meter
        self._passing = passing
        self.content_type = body.content_type
        self.length = body.length

    def whole(self) -> bytes | None:
        """Return all bytes where they are few."""
        return self._body.whole()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes from the start; what an earlier try has sent counts no more."""
        self._meter.moved -= self._passing.moved
        self._passing.moved = 0
        async for chunk in self._body.chunks():
            if not self._meter.up.is_limited:
                self._count(chunk)
                yield chunk
                continue
            for at in range(0, len(chunk), _STEP_BYTES):
                step = chunk[at : at + _STEP_BYTES]
                await self._meter.up.spend(len(step))
                self._count(step)
                yield step

    def _count(self, chunk: bytes) -> None:
        self._passing.moved += len(chunk)
        self._meter.moved += len(chunk)


class _CountedStream(Stream):
    """Another stream, and a count of what it brings."""

    def __init__(self, stream: Stream, meter: Meter, passing: Passing, *, is_large: bool) -> None:
        self._stream = stream
        self._meter = meter
        self._passing = passing
        self._is_large = is_large
        self.status = stream.status
        self.headers = stream.headers

    @property
    def length(self) -> int | None:
        """Number of bytes announced, or None."""
        return self._stream.length

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body, once."""
        async for chunk in self._stream.chunks():
            if self._meter.down.is_limited:
                await self._meter.down.spend(len(chunk))
            if self._is_large:
                self._passing.moved += len(chunk)
                self._meter.moved += len(chunk)
            yield chunk
