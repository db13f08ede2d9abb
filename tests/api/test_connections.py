"""Connections: few, kept, never two requests on one, and none left behind."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from jobfs.api.call import Call
from jobfs.api.transport import Transport
from jobfs.errors import Unreachable

KEY = "jobfs_k_do-not-show-me-anywhere"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_GET = Call(method="GET", path="/thing", subject="thing")


@dataclass
class Listener:
    """A server that counts its connections. It answers once ``gate`` is set, and breaks off the first ``cut`` times."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    accepted: int = 0
    open: int = 0
    waiting: int = 0
    cut: int = 0
    url: str = ""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        await self._note(opened=1)
        try:
            while re.match(rb"GET /thing", await reader.readuntil(b"\r\n\r\n")):
                await self._note(waiting=1)
                await self.gate.wait()
                await self._note(waiting=-1)
                if self.cut:
                    self.cut -= 1
                    return
                writer.write(_ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            await self._note(opened=-1)

    async def _note(self, *, opened: int = 0, waiting: int = 0) -> None:
        async with self.changed:
            self.open += opened
            self.waiting += waiting
            self.changed.notify_all()

    async def until(self, *, opened: int | None = None, waiting: int | None = None) -> None:
        async with self.changed, asyncio.timeout(10):
            await self.changed.wait_for(
                lambda: opened in (None, self.open) and waiting in (None, self.waiting),
            )


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    far = Listener()
    server = await asyncio.start_server(far.serve, "127.0.0.1", 0)
    far.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield far
    finally:
        server.close()
        await far.until(opened=0)


def test_requests_one_after_the_other_share_one_connection(run) -> None:
    async def main() -> None:
        async with listening() as far, Transport(far.url, KEY) as transport:
            far.gate.set()
            for _ in range(5):
                assert await transport.json(_GET) == {}
            assert far.accepted == 1

    run(main())


def test_requests_at_once_have_a_connection_each_and_later_ones_take_those_again(run) -> None:
    async def main() -> None:
        async with listening() as far, Transport(far.url, KEY) as transport:
            for _ in range(2):
                far.gate.clear()
                requests = [asyncio.create_task(transport.json(_GET)) for _ in range(6)]
                await far.until(waiting=6)
                far.gate.set()
                assert await asyncio.gather(*requests) == [{}] * 6
            assert far.accepted == 6

    run(main())


def test_the_connection_of_a_cancelled_request_is_not_used_again(run) -> None:
    async def main() -> None:
        async with listening() as far, Transport(far.url, KEY) as transport:
            request = asyncio.create_task(transport.json(_GET))
            await far.until(waiting=1)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            far.gate.set()
            assert await transport.json(_GET) == {}
            assert far.accepted == 2

    run(main())


def test_a_connection_that_broke_is_replaced(run) -> None:
    async def main() -> None:
        async with listening() as far, Transport(far.url, KEY, chance=lambda: 0.0) as transport:
            far.gate.set()
            assert await transport.json(_GET) == {}
            far.cut = 1
            assert await transport.json(_GET) == {}
            assert far.accepted == 2
            far.cut = 100
            with pytest.raises(Unreachable):
                await transport.json(_GET)
            far.cut = 0
            assert await transport.json(_GET) == {}

    run(main())


def test_what_a_burst_opened_is_closed_when_it_has_not_been_needed_for_long(run) -> None:
    now = 0.0

    async def main() -> None:
        nonlocal now
        async with listening() as far, Transport(far.url, KEY, clock=lambda: now) as transport:
            requests = [asyncio.create_task(transport.json(_GET)) for _ in range(6)]
            await far.until(waiting=6)
            far.gate.set()
            await asyncio.gather(*requests)
            now = 31.0
            await transport.json(_GET)
            await far.until(opened=1)

    run(main())


def test_closing_the_transport_closes_every_connection(run) -> None:
    async def main() -> None:
        async with listening() as far:
            async with Transport(far.url, KEY) as transport:
                requests = [asyncio.create_task(transport.json(_GET)) for _ in range(6)]
                await far.until(waiting=6)
                far.gate.set()
                await asyncio.gather(*requests)
                await far.until(opened=6)
            await far.until(opened=0)

    run(main())


def test_what_a_request_opens_while_the_transport_is_closed_is_closed_after_it(run) -> None:
    async def main() -> None:
        async with listening() as far:
            transport = Transport(far.url, KEY)
            request = asyncio.create_task(transport.json(_GET))
            await far.until(waiting=1)
            await transport.aclose()
            far.gate.set()
            assert await request == {}  # tried again, over a connection of its own
            await far.until(opened=0)

    run(main())
