"""A scripted far side for the client: answers in order or by rule, a clock that moves only when slept on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import pytest

from jobfs.api.transport import Transport
from jobfs.server.faults import Faults
from jobfs.server.running import RunningServer
from jobfs.server.switches import Switches

KEY = "jobfs_k_do-not-show-me-anywhere"
SYSTEM_KEY = "jobfs_s_nor-me"
BASE = "http://127.0.0.1:9/pre"

T = TypeVar("T")
Rule = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


@dataclass
class FakeTime:
    """A clock that advances by what is slept."""

    now: float = 1_000_000.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@dataclass
class FarSide:
    """Plays the server: each entry of ``script`` answers one request; ``rule`` answers all others."""

    key = KEY
    system_key = SYSTEM_KEY

    script: list[httpx.Response | Exception | Rule] = field(default_factory=list)
    rule: Rule | None = None
    requests: list[httpx.Request] = field(default_factory=list)
    time: FakeTime = field(default_factory=FakeTime)
    hooked: list[tuple[str, str, int]] = field(default_factory=list)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = self.script.pop(0) if self.script else self.rule
        if step is None:
            raise AssertionError(f"unexpected request {request.method} {request.url.path}")
        if isinstance(step, Exception):
            raise step
        if isinstance(step, httpx.Response):
            return step
        answer = step(request)
        return answer if isinstance(answer, httpx.Response) else await answer

    def transport(self, base: str = BASE, **options: Any) -> Transport:
        def on_request(method: str, path: str, status: int) -> None:
            self.hooked.append((method, path, status))

        options.setdefault("chance", lambda: 1.0)
        options.setdefault("http", httpx.MockTransport(self.answer))
        options.setdefault("now", lambda: 1_750_000_000.0)
        return Transport(
            base,
            KEY,
            SYSTEM_KEY,
            clock=self.time.clock,
            sleep=self.time.sleep,
            on_request=on_request,
            **options,
        )

    @property
    def sent(self) -> list[str]:
        """Method and path below the base, of every request."""
        return [f"{request.method} {request.url.raw_path.decode().removeprefix('/pre')}" for request in self.requests]


@pytest.fixture
def far() -> FarSide:
    """A far side without a script yet."""
    return FarSide()


@pytest.fixture(scope="module")
def one_server() -> Iterator[RunningServer]:
    """The embedded server, started once for a module."""
    with RunningServer() as server:
        yield server


@pytest.fixture
def server(one_server: RunningServer) -> RunningServer:
    """The embedded server with its default switches, no faults and an empty list of requests."""
    one_server.switches = Switches()
    one_server.faults = Faults()
    one_server.clear_requests()
    return one_server


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, T]], T]:
    """Run a coroutine to its end, or fail after 20 seconds."""

    def run_(main: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(20):
                return await main

        return asyncio.run(bounded())

    return run_
