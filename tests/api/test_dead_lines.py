"""Connections over which nothing comes any more are given up; those to a server that takes its time are not.

In a network whose packets can be dropped: what TCP does is part of this.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from network_room import NetworkRoom, can_be_made, drop_packets, pass_packets

from jobfs.api.call import Call, Timeouts
from jobfs.api.retry import Retries
from jobfs.api.transport import Transport
from jobfs.errors import OutcomeUnknown, Unreachable

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_be_made(), reason="only root can drop packets, in a network of his own"),
]

DEAD_S = 1.0
TIMEOUTS = Timeouts(connect_s=1.0, idle_s=30.0, dead_s=DEAD_S)
GIVEN_UP_S = 2 * DEAD_S + 1
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Server:
    """Answers what is asked for at once, but for ``/slow``: that when it is told to."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.asked = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.read(65536)):
                if b"/slow" in head:
                    self.asked.set()
                    await self.answers.wait()
                writer.write(ANSWER)
        finally:
            writer.transport.abort()

    async def end(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await asyncio.sleep(0)  # in which the connections close


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Server, Transport]]:
    server = Server()
    async with await asyncio.start_server(server.accept, "127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with Transport(url, "key", timeouts=TIMEOUTS, retries=Retries(attempts=1)) as transport:
            yield server, transport
        await server.end()


def play(story: Callable[[Server, Transport], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with asyncio.timeout(20), connected() as (server, transport):
            await story(server, transport)

    with NetworkRoom() as room:
        room.call(lambda: asyncio.run(inside()))


def test_a_request_that_nobody_acknowledges_is_given_up_within_seconds() -> None:
    async def story(server: Server, transport: Transport) -> None:
        await transport.json(Call(method="GET", path="/quick", subject="a"))
        drop_packets()
        began_s = time.monotonic()
        with pytest.raises(Unreachable):
            await transport.json(Call(method="GET", path="/quick", subject="a"))
        assert time.monotonic() - began_s < GIVEN_UP_S
        pass_packets()
        assert await transport.json(Call(method="GET", path="/quick", subject="a")) == {}

    play(story)


@pytest.mark.parametrize(("method", "error"), [("GET", Unreachable), ("POST", OutcomeUnknown)])
def test_an_answer_over_a_line_that_is_dead_is_waited_for_seconds_only(method: str, error: type[Exception]) -> None:
    async def story(server: Server, transport: Transport) -> None:
        waiting = asyncio.create_task(transport.json(Call(method=method, path="/slow", subject="a")))
        await server.asked.wait()
        drop_packets()
        began_s = time.monotonic()
        with pytest.raises(error):
            await waiting
        assert time.monotonic() - began_s < GIVEN_UP_S
        pass_packets()

    play(story)


def test_a_server_that_takes_long_to_answer_is_waited_for() -> None:
    async def story(server: Server, transport: Transport) -> None:
        waiting = asyncio.create_task(transport.json(Call(method="GET", path="/slow", subject="a")))
        await server.asked.wait()
        assert await asyncio.wait((waiting,), timeout=GIVEN_UP_S) == (set(), {waiting})
        server.answers.set()
        assert await waiting == {}

    play(story)
