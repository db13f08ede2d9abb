"""A line to a server that can be cut: every byte between a client and the server passes here.

What TCP does over a line that is cut is not simulated; what a program sees of it is. ``Break.SILENT``: nothing comes
through, and everything that was sent does when the line is back, as after a loss. ``Break.DEAD``: connections that
stand or are made while it is cut never answer again, as when a laptop comes back under another address.
``Break.REFUSED``: connections break, and new ones are refused. ``Break.LOST``, which is not for this relay: packets are
dropped, with all that TCP does then.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, unique
from types import TracebackType
from typing import TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

DEADLINE_S = 30.0


@unique
class Break(Enum):
    """How a line is cut."""

    SILENT = "silent"
    DEAD = "dead"
    REFUSED = "refused"
    LOST = "lost"


class Line:
    """Stands before a server, on a thread of its own; a context manager. All methods may be called from any thread.

    :param url: the server's; ``url`` of the line is what clients use instead.
    """

    def __init__(self, url: str) -> None:
        target = urlsplit(url)
        self._target = (target.hostname or "", target.port or 80)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="line", daemon=True)
        self._ends: set[_End] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._port = 0
        self.cut_as: Break | None = None
        self.url = ""

    def __enter__(self) -> Line:
        self._thread.start()
        self._run(self._listen)
        self.url = f"http://127.0.0.1:{self._port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()

    def cut(self, how: Break) -> None:
        """Cut the line; returns when it is."""
        self._run(lambda: self._cut(how))

    def mend(self) -> None:
        """Make the line whole again; returns when it is."""
        self._run(self._mend)

    def _run(self, work: Callable[[], object]) -> None:
        async def done() -> None:
            result = work()
            if asyncio.iscoroutine(result):
                await result

        asyncio.run_coroutine_threadsafe(done(), self._loop).result(DEADLINE_S)

    # -- on the loop

    async def _listen(self) -> None:
        self._listener = await self._loop.create_server(self._accept, "127.0.0.1", self._port)
        self._port = self._listener.sockets[0].getsockname()[1]

    def _accept(self) -> _End:
        front, back = _End(self), _End(self)
        front.other, back.other = back, front
        self._ends |= {front, back}
        front.is_dead = back.is_dead = self.cut_as is Break.DEAD
        task = self._loop.create_task(self._connect(front, back))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return front

    async def _connect(self, front: _End, back: _End) -> None:
        try:
            await self._loop.create_connection(lambda: back, *self._target)
        except OSError:
            front.close()

    async def _cut(self, how: Break) -> None:
        self.cut_as = how
        for end in self._ends:
            end.is_dead = end.is_dead or how is Break.DEAD
        if how is Break.REFUSED:
            await self._close()

    async def _mend(self) -> None:
        was, self.cut_as = self.cut_as, None
        for end in list(self._ends):
            end.flush()
        if was is Break.REFUSED:
            await self._listen()

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for end in list(self._ends):
            end.abort()
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)

    def forget(self, end: _End) -> None:
        """Drop an end whose connection is over."""
        self._ends.discard(end)


class _End(asyncio.Protocol):
    """One of the two connections of which each connection over the line is made."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._transport: asyncio.Transport | None = None
        self._held: list[bytes] = []
        self._is_over = False
        self.other: _End = self
        self.is_dead = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._is_over:
            transport.abort()
        self.flush()

    def data_received(self, data: bytes) -> None:
        self.other.send(data)

    def connection_lost(self, _: Exception | None) -> None:
        self.is_dead = True  # nothing can be passed on to it any more
        self._line.forget(self)
        self.other.close()

    def send(self, data: bytes) -> None:
        """Pass on what came in at the other end, once the line is whole."""
        if not self.is_dead:
            self._held.append(data)
            self.flush()

    def close(self) -> None:
        """End the connection as the other end did, after what is still to be passed on."""
        self._is_over = True
        self.flush()

    def flush(self) -> None:
        """Pass on what waits, if it can be."""
        if self._transport is None or self._line.cut_as is not None or self.is_dead:
            return
        for data in self._held:
            self._transport.write(data)
        self._held.clear()
        if self._is_over:
            with suppress(RuntimeError):
                self._transport.close()

    def abort(self) -> None:
        """Break the connection at once."""
        self._is_over = True
        if self._transport is not None:
            self._transport.abort()
