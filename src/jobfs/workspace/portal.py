"""A loop on a thread of its own, for those who do not await."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future, wait
from typing import Any, TypeVar

_T = TypeVar("_T")


class Portal:
    """Runs coroutines on a loop of its own; from any thread but that loop's. Close it in the end.

    :param name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether it still takes work."""
        return self._thread.is_alive()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end, and return or raise what it does.

        Ctrl-C cancels it and waits until it has ended, so that nothing is left half done behind the caller's back.
        """
        result: Future[_T] = Future()
        tasks: list[asyncio.Task[_T]] = []

        def start() -> None:
            tasks.append(self._loop.create_task(work))
            tasks[0].add_done_callback(lambda task: _hand_over(task, result))

        try:
            self._loop.call_soon_threadsafe(start)
            return result.result()
        except BaseException:
            if not result.done():
                self._loop.call_soon_threadsafe(lambda: tasks[0].cancel())
                wait([result])
            raise

    def close(self) -> None:
        """End the thread. May be called twice."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _serve(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())


def _hand_over(task: asyncio.Task[_T], result: Future[_T]) -> None:
    if task.cancelled():
        result.set_exception(CancelledError())
    elif (error := task.exception()) is not None:
        result.set_exception(error)
    else:
        result.set_result(task.result())
