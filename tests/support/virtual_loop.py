"""An event loop whose time is simulated: nothing waits, and one seed decides the order of everything.

Timers fire in the order of their moments, at once; a thread's work is done on the loop, at moments that the seed
decides. A run is the same every time, however loaded the machine is, as long as nothing outside the loop is awaited.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")

FIRST_MOMENT_S = 1000.0
EPOCH_NS = 1_767_225_600_000_000_000
"""Where the simulated wall clock starts: 2026-01-01."""


class Deadlock(Exception):
    """Nothing will ever happen any more, and the work is not done."""


class _Selector(selectors.BaseSelector):
    """Watches nothing: where the loop would wait, time goes on instead."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = self._keys[descriptor] = selectors.SelectorKey(fileobj, descriptor, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("every task waits for an event that nothing will set")
        self._clock.now_s += max(0.0, timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class VirtualClock:
    """Simulated time; satisfies ``engine.workspace.Clock``."""

    def __init__(self) -> None:
        self.now_s = FIRST_MOMENT_S
        self._last_ns = 0

    def monotonic_s(self) -> float:
        """Return the simulated seconds."""
        return self.now_s

    def wall_ns(self) -> int:
        """Return simulated nanoseconds since the epoch; never the same twice."""
        now_ns = EPOCH_NS + int((self.now_s - FIRST_MOMENT_S) * 1e9)
        self._last_ns = max(now_ns, self._last_ns + 1)
        return self._last_ns


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop. ``dice`` is where all chance in the run comes from."""

    def __init__(self, seed: int) -> None:
        self.clock = VirtualClock()
        self.dice = random.Random(seed)
        super().__init__(_Selector(self.clock))

    def time(self) -> float:
        return self.clock.now_s

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Do a thread's work at some moment from now on; its result comes at a later one."""
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except BaseException as error:  # noqa: BLE001 - handed to whoever awaits it, as an executor does
                self.call_later(self.dice.random() * 0.005, _give, future, None, error)
            else:
                self.call_later(self.dice.random() * 0.005, _give, future, result, None)

        self.call_later(self.dice.random() * 0.005, work)
        return future


def _give(future: asyncio.Future[T], result: T | None, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)  # type: ignore[arg-type]


def run_virtually(seed: int, work: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in simulated time, from one seed."""
    loop = VirtualLoop(seed)
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(work(loop))
    finally:
        while pending := asyncio.all_tasks(loop):  # what is cancelled may begin something in its last moments
            for task in pending:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()
