"""Which address of a server is connected to, and that every other socket is closed, whenever who waits is cancelled."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import pytest

from jobfs.api.call import Call
from jobfs.api.reaching import SECOND_ADDRESS_S, reach
from jobfs.api.transport import Transport

_T = TypeVar("_T")
DEADLINE_S = 10
NOBODY = "127.0.0.2"


class Names(asyncio.SelectorEventLoop):
    """A loop that knows the addresses of every name, and notes those that are tried."""

    def __init__(self, *addresses: str) -> None:
        super().__init__()
        self._addresses = addresses
        self.tried: list[str] = []

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> list[Any]:
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in self._addresses]
        return [
            (family, socket.SOCK_STREAM, 0, "", (address, port))
            for family, address in zip(families, self._addresses, strict=True)
        ]

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        self.tried.append(address[0])
        if ":" in address[0]:
            raise ConnectionRefusedError(111, "refused", address[0])
        await super().sock_connect(sock, address)


def run(names: Names, work: Coroutine[Any, Any, _T]) -> _T:
    with asyncio.Runner(loop_factory=lambda: names) as runner:
        return runner.run(asyncio.wait_for(work, DEADLINE_S))


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """Fail where a socket is collected that nobody has closed."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        yield
        gc.collect()
    assert [str(warning.message) for warning in told] == []


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listening:
        yield listening


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that answers under one address, and not under another."""
    with ExitStack() as stack:
        there = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = there.getsockname()[1]
        full = stack.enter_context(socket.create_server((NOBODY, port), backlog=0))
        stack.enter_context(socket.create_connection(full.getsockname()))
        yield port


def test_an_address_that_refuses_is_followed_by_the_next_at_once(server: socket.socket) -> None:
    names = Names(NOBODY, "127.0.0.1")
    with nothing_left_open():
        run(names, reach("localhost", server.getsockname()[1])).close()
    assert names.tried == [NOBODY, "127.0.0.1"]


def test_an_address_that_does_not_answer_is_not_waited_for(silent: int) -> None:
    names = Names(NOBODY, "127.0.0.1")
    with nothing_left_open():
        made = run(names, reach("localhost", silent))
        assert made.getpeername()[0] == "127.0.0.1"
        made.close()


def test_the_families_take_turns_and_the_first_failure_is_told() -> None:
    names = Names("::1", "::2", NOBODY)
    with nothing_left_open(), pytest.raises(OSError, match="'::1'"):
        run(names, reach("localhost", 1))
    assert names.tried == ["::1", NOBODY, "::2"]


def test_an_address_is_looked_up_by_nobody(server: socket.socket) -> None:
    names = Names()
    run(names, reach("127.0.0.1", server.getsockname()[1])).close()
    assert names.tried == ["127.0.0.1"]


def test_requests_that_are_cancelled_while_they_connect_leave_no_socket_open(server: socket.socket) -> None:
    url = f"http://127.0.0.1:{server.getsockname()[1]}"

    async def cancelled_after(turns: int) -> None:
        async with Transport(url, "jobfs_k_x") as transport:
            call = Call(method="GET", path="/thing", subject="thing")
            requests = [asyncio.create_task(transport.json(call)) for _ in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for request in requests:
                request.cancel()
            await asyncio.gather(*requests, return_exceptions=True)

    for turns in range(15):
        with nothing_left_open():
            asyncio.run(cancelled_after(turns))


def test_a_race_that_is_cancelled_leaves_no_socket_open(silent: int) -> None:
    async def cancelled() -> None:
        racing = asyncio.create_task(reach("localhost", silent))
        await asyncio.wait([racing], timeout=SECOND_ADDRESS_S / 2)
        racing.cancel()
        await asyncio.wait([racing])

    with nothing_left_open():
        run(Names(NOBODY, "127.0.0.1"), cancelled())
