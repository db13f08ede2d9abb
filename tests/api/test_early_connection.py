"""A connection that is made before its carrier is there: taken once, by whom it is for, and never waited for long."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
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


class Server:
    """Answers one request over each connection that it accepts, and counts those."""

    def __init__(self, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        self._accepted = 0
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def accepted(self) -> int:
        with self._changed:
            return self._accepted

    def wait_until_accepted(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._accepted >= count, DEADLINE_S)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # it is shut down
                return
            with self._changed:
                self._accepted += 1
                self._threads.append(threading.Thread(target=self._answer, args=(connection,)))
                self._threads[-1].start()
                self._changed.notify_all()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(DEADLINE_S)
            if connection.recv(4096):
                connection.sendall(OK)
                connection.recv(1)  # until the client has ended it

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE_S)


@pytest.fixture
def server() -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = Server(listener)
        yield running
        running.close()


def test_each_connection_that_was_begun_serves_one_carrier_and_the_next_one_makes_its_own(server: Server) -> None:
    async def work() -> None:
        early.expect(early.begin(Url("http", "127.0.0.1", server.port, "", ""), 2))
        server.wait_until_accepted(2)
        assert [await asked(server.port) for _ in range(3)] == [200] * 3

    asyncio.run(work())
    assert server.accepted == 3


def test_a_connection_to_another_place_is_not_taken(server: Server) -> None:
    async def work() -> None:
        begun = early.EarlyConnection("localhost", server.port)  # the same to the system, and not to a certificate
        early.expect([begun])
        server.wait_until_accepted(1)
        assert await asked(server.port) == 200
        assert server.accepted == 2
        unused = await begun.take()
        assert unused is not None
        unused.close()

    asyncio.run(work())


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


def test_one_whose_taker_is_cancelled_is_closed_when_it_comes(full: socket.socket) -> None:
    late = early.EarlyConnection(*full.getsockname())

    async def cancelled() -> None:
        taking = asyncio.create_task(late.take())
        await asyncio.sleep(0)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking

    asyncio.run(cancelled())
    full.accept()[0].close()
    came, _ = full.accept()
    with came:
        came.settimeout(DEADLINE_S)
        assert came.recv(1) == b""


@pytest.mark.parametrize(("host", "is_begun"), [("127.0.0.1", True), ("studio.invalid", False)])
def test_nothing_goes_past_a_proxy(monkeypatch: pytest.MonkeyPatch, server: Server, host: str, is_begun: bool) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    begun = early.begin(Url("https", host, server.port, "", ""), 1)
    assert bool(begun) is is_begun
    for one in begun:
        server.wait_until_accepted(1)
        made = asyncio.run(one.take())
        assert made is not None
        made.close()
