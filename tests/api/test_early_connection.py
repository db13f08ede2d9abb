"""A connection that is made before its carrier is there: taken once, by whom it is for, and never waited for long."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import NoReturn

import httpx
import pytest

from jobfs.api import early
from jobfs.api.address import Url
from jobfs.api.direct import DirectTransport

DEADLINE_S = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
LIMITS = {"connect": DEADLINE_S, "read": DEADLINE_S, "write": DEADLINE_S}

Talk = Callable[[int, list[int]], Awaitable[None]]


def no_tls() -> NoReturn:
    raise AssertionError("plain addresses need no certificates")


async def asked(port: int) -> int:
    """Ask once over a carrier of its own; return the status."""
    carrier = DirectTransport(no_tls)
    try:
        request = httpx.Request("GET", f"http://127.0.0.1:{port}/", extensions={"timeout": LIMITS})
        response = await carrier.handle_async_request(request)
        await response.aread()
        return response.status_code
    finally:
        await carrier.aclose()


def with_server(talk: Talk) -> None:
    """Talk to a server that notes from which port each request comes."""
    origins: list[int] = []
    under_way: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way.append(asyncio.current_task())
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                origins.append(writer.get_extra_info("peername")[1])
                writer.write(OK)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has ended it
        finally:
            writer.close()
            await writer.wait_closed()

    async def work() -> None:
        async with asyncio.timeout(DEADLINE_S):
            async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
                await talk(server.sockets[0].getsockname()[1], origins)
            await asyncio.gather(*filter(None, under_way))

    asyncio.run(work())


def test_each_connection_that_was_begun_serves_one_carrier_and_the_next_one_makes_its_own() -> None:
    async def talk(port: int, origins: list[int]) -> None:
        early.expect(early.begin(Url("http", "127.0.0.1", port, "", ""), 2))
        assert [await asked(port) for _ in range(3)] == [200] * 3
        assert len(origins) == 3

    with_server(talk)


def test_a_connection_to_another_place_is_not_taken() -> None:
    async def talk(port: int, origins: list[int]) -> None:
        begun = early.EarlyConnection("localhost", port)
        early.expect([begun])
        assert await asked(port) == 200
        unused = await begun.take()
        assert unused is not None
        with unused:
            assert unused.getsockname()[1] not in origins

    with_server(talk)


def test_what_a_failure_means_is_found_out_by_the_carrier() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

        async def work() -> None:
            early.expect([early.EarlyConnection("127.0.0.1", port)])
            with pytest.raises(httpx.ConnectError):
                await asked(port)

        asyncio.run(work())


def test_a_name_that_cannot_be_looked_up_is_no_failure_of_its_own() -> None:
    assert asyncio.run(early.EarlyConnection("a" * 70 + ".invalid", 80).take()) is None


@pytest.fixture
def full() -> Iterator[socket.socket]:
    """A server that takes no more connections until it has accepted some."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        server.settimeout(DEADLINE_S)
        stack.enter_context(socket.create_connection(server.getsockname()))
        yield server


def test_one_that_is_late_is_not_waited_for_and_is_closed_when_it_comes(full: socket.socket) -> None:
    late = early.EarlyConnection(*full.getsockname())
    assert asyncio.run(late.take()) is None
    full.accept()[0].close()
    came, _ = full.accept()
    with came:
        came.settimeout(DEADLINE_S)
        assert came.recv(1) == b""


@pytest.mark.parametrize(("host", "is_begun"), [("127.0.0.1", True), ("studio.invalid", False)])
def test_nothing_goes_past_a_proxy(monkeypatch: pytest.MonkeyPatch, host: str, is_begun: bool) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    assert bool(early.begin(Url("https", host, 1, "", ""), 1)) is is_begun
