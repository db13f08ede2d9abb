"""Wakes whoever waits for news of a job: streams of checkpoints, and the runner.

One loop, one thread. A waiter takes ``mark`` before it looks, so that news between looking and waiting are not lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Announcer:
    """News of jobs within one process."""

    def __init__(self) -> None:
        self._marks: dict[str, int] = {}
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._queued_callbacks: list[Callable[[str], None]] = []
        self.is_closing = False

    def on_job_queued(self, callback: Callable[[str], None]) -> None:
        """Call back with the job's id, on the loop, whenever a job becomes ready to run. Must return at once."""
        self._queued_callbacks.append(callback)

    def job_queued(self, job_id: str) -> None:
        """Say that a job is ready to run."""
        for callback in self._queued_callbacks:
            callback(job_id)

    def mark(self, job_id: str) -> int:
        """Return a number that changes with each piece of news."""
        return self._marks.get(job_id, 0)

    def job_changed(self, job_id: str) -> None:
        """Say that a job has a new status or checkpoint."""
        self._marks[job_id] = self.mark(job_id) + 1
        for event in self._waiters.get(job_id, ()):
            event.set()

    async def wait(self, job_id: str, mark: int, *, timeout_s: float) -> bool:
        """Wait until there is news since ``mark``; False when the time is over first or the server closes."""
        if self.mark(job_id) != mark:
            return True
        if self.is_closing:
            return False
        event = asyncio.Event()
        waiters = self._waiters.setdefault(job_id, set())
        waiters.add(event)
        try:
            await asyncio.wait_for(event.wait(), timeout_s)
        except TimeoutError:
            return False
        finally:
            waiters.discard(event)
            if not waiters:
                self._waiters.pop(job_id, None)
        return self.mark(job_id) != mark

    def close(self) -> None:
        """End all waits: the server shuts down."""
        self.is_closing = True
        for waiters in list(self._waiters.values()):
            for event in waiters:
                event.set()
