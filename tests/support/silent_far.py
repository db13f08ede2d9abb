"""A far side that answers at once, late or never, as a test says, and the client that waits for it, in simulated time.

Each request that reaches it is noted. Nothing is connected: a request that it never answers is one over a dead line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from virtual_loop import VirtualLoop, run_virtually

from jobfs.api.body import Json
from jobfs.api.call import Call, Timeouts
from jobfs.api.direct import SINCE
from jobfs.api.retry import Retries
from jobfs.api.transport import Transport

IDLE_S = 30.0
LOOK = Call(method="GET", path="/look", subject="look")
SAVE = Call(method="POST", path="/save", subject="save", body=Json({"a": 1}))
FETCH = Call(method="GET", path="/fetch", subject="fetch", is_transfer=True)

Play = Callable[[int], Awaitable[httpx.Response]]
"""Answers the request of this number, from 0, that one path gets."""


def ok(since: float | None = None, **more: Any) -> httpx.Response:
    return httpx.Response(200, extensions={} if since is None else {SINCE: since}, **({"json": {}} | more))


async def at_once(_: int) -> httpx.Response:
    return ok()


async def never(_: int) -> httpx.Response:
    """As a dead line does: silence until the limit of the connection, as a carrier keeps it."""
    await asyncio.sleep(IDLE_S)
    raise httpx.ReadTimeout("nothing happens")


def only_anew(number: int) -> Awaitable[httpx.Response]:
    """Answer nothing but the second request and those after it: as if the connection of the first were dead."""
    return never(number) if number == 0 else at_once(number)


def after(seconds: float) -> Play:
    async def play(_: int) -> httpx.Response:
        await asyncio.sleep(seconds)
        return ok()

    return play


Upload = Callable[[httpx.Request], Awaitable[httpx.Response]]


@dataclass(eq=False)
class Far(httpx.AsyncBaseTransport):
    """The far side and the way to it."""

    loop: VirtualLoop
    paths: dict[str, Play] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    seen: list[tuple[str, float]] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        number = sum(seen == path for seen, _ in self.seen)
        self.seen.append((path, self.loop.time()))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if path in self.uploads:
                return await self.uploads[path](request)
            return await self.paths.get(path, at_once)(number)
        finally:
            self.under_way -= 1

    def times(self, path: str, since_s: float) -> list[float]:
        """When a path was asked for, counted from a moment."""
        return [round(at_s - since_s, 3) for seen, at_s in self.seen if seen == path]

    async def known(self, **options: Any) -> Transport:
        """Return a transport that has been answered once."""
        options = {"timeouts": Timeouts(idle_s=IDLE_S), "retries": Retries(attempts=1)} | options
        transport = Transport("http://127.0.0.1:9", "key", http=self, clock=self.loop.time, **options)
        await transport.json(Call(method="GET", path="/known", subject="known"))
        return transport


def play(story: Callable[[Far], Coroutine[Any, Any, None]]) -> None:
    run_virtually(1, lambda loop: story(Far(loop)))


async def took_s(work: Awaitable[object]) -> float:
    """Return how long something took that succeeds."""
    began_s = asyncio.get_running_loop().time()
    await work
    return asyncio.get_running_loop().time() - began_s


async def failing_s(work: Awaitable[object], error: type[Exception]) -> float:
    """Return how long something took that fails so."""
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(error) as caught:
        await work
    assert type(caught.value) is error
    return asyncio.get_running_loop().time() - began_s
