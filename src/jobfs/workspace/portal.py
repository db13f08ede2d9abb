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
        self._gate = threading.Lock()
        self._is_closing = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether it still takes work."""
        return not self._is_closing

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end, and return or raise what it does.

        Ctrl-C cancels it and waits until it has ended, so that nothing is left half done behind the caller's back.

        :raises CancelledError: the portal was closed meanwhile, or before.
        """
        result: Future[_T] = Future()
        tasks: list[asyncio.Task[_T]] = []

        def start() -> None:
            tasks.append(self._loop.create_task(work))
            tasks[0].add_done_callback(lambda task: _hand_over(task, result))

        def stop() -> None:
            if tasks:
                tasks[0].cancel()
            elif not result.done():  # it was never begun
                work.close()
                result.set_exception(CancelledError())

        try:
            with self._gate:
                if self._is_closing:
                    stop()
                else:
                    self._loop.call_soon_threadsafe(start)
            return result.result()
        except BaseException:
            if not result.done():
                self._loop.call_soon_threadsafe(stop)
                wait([result])
            raise

    def close(self) -> None:
        """Cancel what other threads still run, and end the thread. May be called twice."""
        with self._gate:
            if not self._is_closing:
                self._is_closing = True
                self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            while left := asyncio.all_tasks(self._loop):  # of other threads, and what those begin
                for task in left:
                    task.cancel()
                self._loop.run_until_complete(asyncio.wait(left))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()


def _hand_over(task: asyncio.Task[_T], result: Future[_T]) -> None:
    if task.cancelled():
        result.set_exception(CancelledError())
    elif (error := task.exception()) is not None:
        result.set_exception(error)
    else:
        result.set_result(task.result())
