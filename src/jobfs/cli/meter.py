"""Count the bytes of large contents while they pass, for the display of progress.

It sits on the transport, where every byte passes, and costs one addition for each chunk. What is shown of it, and how
often, is the business of ``gauge`` and ``fronts``. A content that is small enough to go in one piece is not counted
here: it is counted when it is done.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from jobfs.api.body import Body
from jobfs.api.call import Call
from jobfs.api.transport import RequestHook, Stream, Transport

LARGE_BYTES = 256 * 1024
"""Up to here a content counts when it is done; what is larger, and what has no length, counts as it passes."""


@dataclass(slots=True)
class Meter:
    """What has passed.

    :ivar moved: bytes of large contents so far. Goes back where an upload starts over.
    """

    moved: int = 0


class MeteredTransport(Transport):
    """A transport that counts contents on a meter."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        system_key: str | None = None,
        *,
        meter: Meter,
        on_request: RequestHook | None = None,
    ) -> None:
        super().__init__(base_url, api_key, system_key, on_request=on_request)
        self._meter = meter

    async def json(self, call: Call) -> object:
        """Make a call; the content that it carries is counted as it leaves."""
        if call.body is not None and call.is_transfer and call.body.length > LARGE_BYTES:
            call = replace(call, body=_CountedBody(call.body, self._meter))
        return await super().json(call)

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[Stream]:
        """Make a call; the content that it brings is counted as it comes."""
        async with super().stream(call) as stream:
            is_large = call.is_transfer and (stream.length is None or stream.length > LARGE_BYTES)
            yield _CountedStream(stream, self._meter) if is_large else stream


class _CountedBody:
    """Satisfies ``body.Body``."""

    def __init__(self, body: Body, meter: Meter) -> None:
        self._body = body
        self._meter = meter
        self._counted = 0
        self.content_type = body.content_type
        self.length = body.length

    def whole(self) -> bytes | None:
        """Return all bytes where they are few."""
        return self._body.whole()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes from the start; what an earlier try has sent counts no more."""
        self._meter.moved -= self._counted
        self._counted = 0
        async for chunk in self._body.chunks():
            self._counted += len(chunk)
            self._meter.moved += len(chunk)
            yield chunk


class _CountedStream(Stream):
    """Another stream, and a count of what it brings."""

    def __init__(self, stream: Stream, meter: Meter) -> None:
        self._stream = stream
        self._meter = meter
        self.status = stream.status
        self.headers = stream.headers

    @property
    def length(self) -> int | None:
        """Number of bytes announced, or None."""
        return self._stream.length

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body, once."""
        async for chunk in self._stream.chunks():
            self._meter.moved += len(chunk)
            yield chunk
