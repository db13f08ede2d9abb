"""HTTP/1.1 straight over asyncio: what carries a request where no proxy is in between.

It satisfies httpx's transport seam. httpx's own carrier takes four times the processor's time for a small request, and
loads three libraries first.

- One request at a time. A connection is used again only after an answer that was read to its end, that allowed it, and
  that nothing followed.
- An answer ends where its framing says. One that breaks off before is an error, never a shorter answer.
- Nothing waits without a limit, and nothing is buffered without one: a head that does not end is refused, a body that
  nobody reads stops the reading of the socket.
- Who is cancelled, or leaves an answer unread, costs the connection and nothing else.
"""

from __future__ import annotations

import asyncio
import re
import selectors
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import cast

import httpx

from jobfs.api import early
from jobfs.api.reaching import reach
from jobfs.api.reply import Reply
from jobfs.api.sockets import Option

SINCE = "jobfs.since"
"""The extension of an answer that tells since when its connection has stood, in the loop's seconds."""

KEPT_WARM_S = 30.0
_MOST_CONNECTIONS = 2
"""One to the server, and one to where it redirects."""

_BUFFER_BYTES = 256 * 1024
_MOST_UNREAD_BYTES = 1024 * 1024
_Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)
"""Looks at one socket; without poll(2), which Windows lacks, it can only take descriptors of small numbers."""

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNSAFE = re.compile(rb"[\x00\r\n ]")
_KNOWN_NAMES = frozenset(
    {b"Host", b"Accept", b"Accept-Encoding", b"Authorization", b"Content-Length", b"Content-Type", b"User-Agent"}
)
"""What every request has. To look at each name and value by itself was a tenth of what a small request takes."""


@dataclass(frozen=True, slots=True)
class _Limits:
    """Seconds that each wait may take; None without end."""

    connect: float | None
    read: float | None
    write: float | None


class DirectTransport(httpx.AsyncBaseTransport):
    """Carries one request after the other, over kept connections.

    :param context: makes what TLS needs; called when the first address needs it, for it takes some time.
    :param options: of each connection's socket.
    """

    def __init__(self, context: Callable[[], ssl.SSLContext], options: Sequence[Option] = ()) -> None:
        self._context = context
        self._options = options
        self._kept: dict[tuple[str, str, int], _Connection] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its answer with the body unread; the answer must be closed.

        :raises httpx.RequestError: its class says how far it came, as of httpx's own carrier.
        """
        timeouts = request.extensions["timeout"]
        limits = _Limits(timeouts["connect"], timeouts["read"], timeouts["write"])
        head = _head_of(request)
        connection = await self._connected(request.url, limits)
        try:
            await connection.send(head, request, limits.write)
            answer = await connection.head(limits.read)
        except BaseException:
            connection.abort()
            raise
        body = _Body(connection, answer, limits.read)
        return httpx.Response(answer.status, headers=answer.headers, stream=body, extensions={SINCE: connection.since})

    async def aclose(self) -> None:
        """Close every connection."""
        kept = list(self._kept.values())
        self._kept.clear()
        for connection in kept:
            connection.abort()
        for connection in kept:
            await connection.until_lost()

    async def _connected(self, url: httpx.URL, limits: _Limits) -> _Connection:
        if url.scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol(f"{url.scheme} is no protocol for requests")
        origin = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        kept = self._kept.pop(origin, None)
        if kept is not None and not kept.is_usable():
            kept.abort()
            kept = None
        while kept is None and len(self._kept) >= _MOST_CONNECTIONS:
            self._kept.pop(next(iter(self._kept))).abort()
        self._kept[origin] = connection = kept or await self._connect(origin, limits.connect)
        return connection

    async def _connect(self, origin: tuple[str, str, int], timeout_s: float | None) -> _Connection:
        scheme, host, port = origin
        context = self._context() if scheme == "https" else None
        loop = asyncio.get_running_loop()
        name = None if context is None else host
        try:
            async with asyncio.timeout(timeout_s):
                made = await early.take(host, port) or await reach(host, port)
                transport, connection = await loop.create_connection(
                    _Connection, sock=made, ssl=context, server_hostname=name
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout("no connection in time") from error
        except (OSError, ValueError) as error:  # ValueError: a host name that no lookup takes
            raise httpx.ConnectError(getattr(error, "strerror", None) or "no connection") from error
        for option in self._options:
            transport.get_extra_info("socket").setsockopt(*option)
        return connection


def _head_of(request: httpx.Request) -> bytes:
    """Return the first lines of a request.

    :raises httpx.LocalProtocolError: a name or value would end its line early, or mean something else.
    """
    target, headers = request.url.raw_path, request.headers.raw
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    names = [name for name, _ in headers]
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers) or b"\0" in lines:
        raise httpx.LocalProtocolError("a header cannot be sent as it is")
    if not _KNOWN_NAMES.issuperset(names):
        _check_names(names)
    if _UNSAFE.search(target) is not None:
        raise httpx.LocalProtocolError("an address cannot be sent as it is")
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (request.method.encode("ascii"), target, lines)


def _check_names(names: Sequence[bytes]) -> None:
    for name in names:
        if name.lower() == b"transfer-encoding":
            raise httpx.LocalProtocolError("only a body of known length is sent")
        if _TOKEN.fullmatch(name) is None:
            raise httpx.LocalProtocolError("a header cannot be sent as it is")


class _Connection(asyncio.BufferedProtocol):
    """A connection: the answer that comes over it, and who waits for more of it."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._transport: asyncio.Transport | None = None
        self._answer: Reply | None = None
        self._failure: httpx.TransportError | None = None
        self._waiter: asyncio.Future[bool] | None = None
        """Done with whether something happened, or with no when it is too late for that."""
        self._lost = asyncio.get_running_loop().create_future()
        self._is_paused = False
        self._is_reading = True
        self._idle_since = 0.0
        self._look = _Selector()
        self.since = asyncio.get_running_loop().time()
        """The moment from which on it has stood."""

    # -- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self._look.register(transport.get_extra_info("socket"), selectors.EVENT_READ)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to put what arrives."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what has arrived."""
        if self._answer is None:
            self.abort()  # nobody asked
            return
        try:
            self._answer.feed(self._buffer[:nbytes])
        except httpx.RemoteProtocolError as error:
            self._failure = error
            self.abort()
        if self._answer.unread > _MOST_UNREAD_BYTES and self._is_reading:
            self._is_reading = False
            self._there().pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """End: where an answer is under way, say how."""
        if self._answer is not None and self._failure is None and not self._answer.is_complete:
            if exc is not None:
                self._failure = httpx.ReadError("the connection broke")
                self._failure.__cause__ = exc
            elif not self._answer.end():
                self._failure = httpx.RemoteProtocolError("the server closed the connection")
        self._look.close()
        self._lost.set_result(None)
        self._wake()

    def pause_writing(self) -> None:
        """Have who sends wait."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Let who sends go on."""
        self._is_paused = False
        self._wake()

    # -- called by the carrier

    async def send(self, head: bytes, request: httpx.Request, limit_s: float | None) -> None:
        """Send a request. Where the server ends the connection before it has all, its answer may say why."""
        self._answer = Reply()
        transport, stream = self._there(), request.stream
        if isinstance(stream, httpx.SyncByteStream):
            transport.write(b"".join((head, *stream)))
            await self._until_sent(limit_s)
            return
        transport.write(head)
        async for chunk in cast(AsyncIterable[bytes], stream):
            await self._until_sent(limit_s)
            if self._lost.done():
                return
            transport.write(chunk)
        await self._until_sent(limit_s)

    async def head(self, limit_s: float | None) -> Reply:
        """Return the answer once its head is read."""
        answer = self._asked()
        while not answer.is_head_read:
            if self._failure is not None:
                raise self._failure
            await self._change(limit_s, httpx.ReadTimeout)
        return answer

    async def pieces(self, answer: Reply, limit_s: float | None) -> AsyncIterator[bytes]:
        """Yield the body of the answer as it arrives."""
        while True:
            while answer.pieces:
                piece = answer.pieces.popleft()
                answer.unread -= len(piece)
                if not self._is_reading and answer.unread <= _MOST_UNREAD_BYTES // 2:
                    self._is_reading = True
                    self._there().resume_reading()
                yield piece
            if answer.is_complete:
                return
            if self._failure is not None:
                raise self._failure
            await self._change(limit_s, httpx.ReadTimeout)

    def release(self, answer: Reply) -> None:
        """Be free for the next request, or end where this answer does not allow one."""
        if answer is not self._answer:
            return
        self._answer = None
        self._idle_since = time.monotonic()
        if not answer.is_complete or answer.is_last or not self._is_reading:
            self.abort()

    def is_usable(self) -> bool:
        """Tell whether another request can be sent: nothing is under way, and the server has not ended or spoken."""
        if self._answer is not None or self._lost.done() or time.monotonic() - self._idle_since > KEPT_WARM_S:
            return False
        transport = self._there()
        return not transport.is_closing() and not self._has_arrived()

    def _has_arrived(self) -> bool:
        """Tell whether the socket has what the loop has not seen yet: words that nobody asked for, or its end."""
        return bool(self._look.select(0))

    def abort(self) -> None:
        """End it now. May be called twice."""
        if not self._lost.done():
            self._there().abort()

    async def until_lost(self) -> None:
        """Return once it has ended."""
        await asyncio.shield(self._lost)

    # -- waiting

    async def _until_sent(self, limit_s: float | None) -> None:
        while self._is_paused and not self._lost.done():
            await self._change(limit_s, httpx.WriteTimeout)

    async def _change(self, limit_s: float | None, too_late: type[httpx.TimeoutException]) -> None:
        """Wait until something happens."""
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        end = loop.call_later(limit_s, _set, waiter, False) if limit_s is not None else None
        try:
            if not await waiter:
                raise too_late("nothing happens")
        finally:
            self._waiter = None
            if end is not None:
                end.cancel()

    def _wake(self) -> None:
        if self._waiter is not None:
            _set(self._waiter, True)

    def _there(self) -> asyncio.Transport:
        if self._transport is None:
            raise AssertionError("a connection is used after it was made")
        return self._transport

    def _asked(self) -> Reply:
        if self._answer is None:
            raise AssertionError("an answer is read after a request was sent")
        return self._answer


class _Body(httpx.AsyncByteStream):
    """The body of an answer, once; closing it frees its connection."""

    def __init__(self, connection: _Connection, answer: Reply, limit_s: float | None) -> None:
        self._connection = connection
        self._answer = answer
        self._limit_s = limit_s

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._connection.pieces(self._answer, self._limit_s)

    async def aclose(self) -> None:
        self._connection.release(self._answer)


def _set(waiter: asyncio.Future[bool], has_happened: bool) -> None:
    if not waiter.done():
        waiter.set_result(has_happened)
