"""A line that was dead for a moment: what was connected then acknowledges and never answers again, and work goes on.

Real connections over a line that can be cut. What exactly is asked again, and when: ``test_asking_again``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from line import Break, Line

from jobfs.api.body import Json
from jobfs.api.call import Call, Timeouts
from jobfs.api.retry import Retries
from jobfs.api.transport import Transport
from jobfs.errors import OutcomeUnknown, Unreachable

QUIET_S = 0.5
TIMEOUTS = Timeouts(quiet_s=QUIET_S)
SOON_S = 5.0
"""Far above what is waited for, far below the limit on silence."""

KEPT = 4
LOOK = Call(method="GET", path="/look", subject="look")
SAVE = Call(method="POST", path="/save", subject="save", body=Json({}))
FETCH = Call(method="GET", path="/fetch", subject="fetch", is_transfer=True)

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
_HALF = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc"


class Server:
    """Answers everything, downloads by half, and counts what it is asked for and over how many connections.

    ``gate`` holds its answers back. ``ended``: the status of each request that the client sent, 0 where it gave up.
    """

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[bytes] = []
        self.ended: list[int] = []
        self.accepted = 0
        self._changed = asyncio.Condition()
        self._serving: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._serving.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.read(65536):
                async with self._changed:
                    self.asked.append(head.split()[1])
                    self._changed.notify_all()
                await self.gate.wait()
                writer.write(_HALF if b"/fetch" in head else _ANSWER)
        finally:
            writer.transport.abort()

    async def until_asked(self, count: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.asked) >= count)

    async def end(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await asyncio.sleep(0)  # in which the connections close


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Server, Line, Transport]]:
    """A server, the line to it, and a transport with some connections that it keeps."""
    server = Server()
    async with await asyncio.start_server(server.accept, "127.0.0.1", 0) as listener:
        with Line(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}") as line:
            async with Transport(
                line.url,
                "key",
                timeouts=TIMEOUTS,
                retries=Retries(attempts=1),
                on_request=lambda _method, _path, status: server.ended.append(status),
            ) as transport:
                server.gate.clear()
                many = asyncio.gather(*(transport.json(LOOK) for _ in range(KEPT)))
                await server.until_asked(KEPT)
                server.gate.set()
                await many
                yield server, line, transport
            await server.end()


def play(story: Callable[[Server, Line, Transport], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with asyncio.timeout(20), connected() as (server, line, transport):
            await story(server, line, transport)

    asyncio.run(inside())


def die(line: Line) -> None:
    """Let all die that is connected, and nothing that will be."""
    line.cut(Break.DEAD)
    line.mend()


def test_after_a_read_met_the_silence_nothing_else_is_sent_over_what_stood_before() -> None:
    async def story(server: Server, line: Line, transport: Transport) -> None:
        die(line)
        began_s = time.monotonic()
        assert await transport.json(LOOK) == {}
        assert time.monotonic() - began_s < SOON_S
        assert server.ended[KEPT:] == [200, 0]
        await asyncio.gather(*(transport.json(LOOK) for _ in range(KEPT)))
        assert server.ended[KEPT + 2 :] == [200] * KEPT

    play(story)


def test_what_was_connected_while_the_line_was_dead_never_answers_and_is_not_waited_for() -> None:
    async def story(server: Server, line: Line, transport: Transport) -> None:
        line.cut(Break.DEAD)
        looking = asyncio.create_task(transport.json(LOOK))
        assert await asyncio.wait((looking,), timeout=3 * QUIET_S) == (set(), {looking})
        line.mend()
        began_s = time.monotonic()
        assert await looking == {}
        assert time.monotonic() - began_s < SOON_S
        assert len(server.asked) == KEPT + 1

    play(story)


def test_a_write_whose_line_has_died_is_of_unknown_outcome_within_seconds() -> None:
    async def story(server: Server, line: Line, transport: Transport) -> None:
        server.gate.clear()
        saving = asyncio.create_task(transport.json(SAVE))
        await server.until_asked(KEPT + 1)
        die(line)
        server.gate.set()
        began_s = time.monotonic()
        assert await transport.json(LOOK) == {}
        with pytest.raises(OutcomeUnknown):
            await saving
        assert time.monotonic() - began_s < SOON_S
        assert server.asked.count(b"/save") == 1

    play(story)


def test_a_download_whose_line_has_died_is_cut_within_seconds() -> None:
    async def story(server: Server, line: Line, transport: Transport) -> None:
        async with transport.stream(FETCH) as stream:
            chunks = stream.chunks()
            assert await anext(chunks) == b"abc"
            die(line)
            began_s = time.monotonic()
            assert await transport.json(LOOK) == {}
            with pytest.raises(Unreachable, match="after 3 bytes"):
                await anext(chunks)
            assert time.monotonic() - began_s < SOON_S

    play(story)


def test_a_server_that_takes_long_is_answered_by_over_the_connection_that_was_asked_first() -> None:
    async def story(server: Server, line: Line, transport: Transport) -> None:
        server.gate.clear()
        looking = asyncio.create_task(transport.json(LOOK))
        await server.until_asked(KEPT + 2)
        server.gate.set()
        assert await looking == {}
        accepted = server.accepted
        await asyncio.gather(*(transport.json(LOOK) for _ in range(KEPT)))
        assert server.accepted == accepted, "what was connected is kept"

    play(story)
