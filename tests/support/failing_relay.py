"""A relay between a client and a server that can be told to behave badly, at any moment, for every connection.

It runs on a loop of its own, in a thread of the network that it was started in (``network_room``).
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import Enum, auto, unique
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

_CHUNK = 1 << 16
_DROP_S = 1.0
_DEADLINE_S = 10.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds, see socket(7)

_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
NO_HTTP = (
    bytes(range(256)) * 4,
    b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
    b"HTTP/1.1 999 \r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000,
)
NO_JSON = tuple(_JSON % (len(body), body) for body in (b"[" * 5000, b"null", b'{"data": 7}', b"<html>\xff", b""))
"""To a DELETE these would be answers: any 2xx means that it was done (contract I-24)."""


@unique
class Manner(Enum):
    """How a relay behaves."""

    WELL = auto()
    SILENT = auto()
    """Takes connections, and neither takes nor gives a byte."""
    DRIPPING = auto()
    """Gives the client one byte a second."""
    RESETTING = auto()
    """Resets every connection."""
    GARBAGE = auto()
    """Answers each request with garbage, and keeps it from the server."""


class FailingRelay:
    """Relays to a port of this machine. A context manager."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._manner = Manner.WELL
        self._garbage = itertools.cycle(NO_HTTP + NO_JSON)
        self._no_answers = itertools.cycle(NO_HTTP)
        self._is_ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="failing-relay")
        self._pipes: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        """Its address, without a final slash."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> FailingRelay:
        """Start it from a thread that is in the right network; for others there is the context manager."""
        self._thread.start()
        assert self._is_ready.wait(_DEADLINE_S)
        return self

    def stop(self) -> None:
        """End every connection and the relay."""
        self._loop.call_soon_threadsafe(self._is_over.set)
        self._thread.join(_DEADLINE_S)

    def __enter__(self) -> FailingRelay:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def behave(self, manner: Manner) -> None:
        """Behave so from now on; returns when it does."""
        self._call(lambda: self._behave(manner))

    def _call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(_DEADLINE_S)

    async def _behave(self, manner: Manner) -> None:
        self._manner = manner
        self._changed.set()
        self._changed = asyncio.Event()
        if manner is Manner.RESETTING:
            for pipe in list(self._pipes):
                _reset(*pipe)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._changed = asyncio.Event()
        self._is_over = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._is_ready.set()
        await self._is_over.wait()
        server.close()
        for pipe in list(self._pipes):
            _reset(*pipe)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._target)
        pipe = (writer, upstream_writer)
        self._pipes.add(pipe)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._ask(reader, *pipe))
                both.create_task(self._answer(upstream_reader, *pipe))
        except* OSError:  # one of the two ends is gone, which is what relays are for
            pass
        finally:
            self._pipes.discard(pipe)
            for end in pipe:
                end.close()

    async def _ask(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, up: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            await self._while_silent()
            if self._manner is Manner.RESETTING:
                _reset(client, up)
            elif self._manner is Manner.GARBAGE:
                client.write(next(self._no_answers if chunk.startswith(b"DELETE") else self._garbage))
                client.close()
                up.close()
                return
            else:
                up.write(chunk)
                await up.drain()
        up.close()

    async def _answer(
        self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, up: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(_CHUNK):
            await self._while_silent()
            while self._manner is Manner.DRIPPING and chunk:
                client.write(chunk[:1])
                await client.drain()
                chunk = chunk[1:]
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), _DROP_S)
            client.write(chunk)
            await client.drain()
        client.close()

    async def _while_silent(self) -> None:
        while self._manner is Manner.SILENT:
            await self._changed.wait()


def _reset(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        end = writer.get_extra_info("socket")
        if end is not None and end.fileno() >= 0:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        writer.transport.abort()
