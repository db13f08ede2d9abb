"""What a mount asks of the server while the rest of the program is loaded: neither has to wait for the other.

The state is locked before anything is asked: nobody else sends what the user changed here while the listing is taken,
so it may be compared with the state, which is opened only later. A listing is asked for, and waited for, where nothing
is stored yet; a tree that is stored is shown as soon as the server has taken the key.

The listing follows the look at the job (``engine.listing``). How many items there are is asked beside that, so that all
pages go out when it is over, and none waits for the first one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from jobfs.api.workspace import Workspace
from jobfs.cli.order import Order
from jobfs.engine.listing import Observation, observe
from jobfs.engine.remote import Page, Remote
from jobfs.store.lock import DirectoryLock
from jobfs.workspace.instance import telling_whose
from jobfs.workspace.line import Line, meter_of
from jobfs.workspace.meter import Meter
from jobfs.workspace.states import STATE_NAME

_T = TypeVar("_T")


class HeadStart:
    """The requests that are under way, and what they go through.

    ``status`` asks for the job's status; ``observed`` takes the first listing, where there is none.

    :param directory: the state folder, which is there. :param lock: of it.
    """

    def __init__(self, directory: Path, lock: DirectoryLock, remote: Remote, meter: Meter) -> None:
        self.directory = directory
        self.remote = remote
        self.meter = meter
        self._lock: DirectoryLock | None = lock
        self.observed: asyncio.Task[Observation] | None = None
        self._sample: asyncio.Task[Page] | None = None
        if (directory / STATE_NAME).exists():
            self.status = _begun(remote.status(), "first-status")
        else:
            if isinstance(remote, Workspace):  # the list of a run comes whole
                self._sample = _begun(remote.list_page(skip=0, take=1), "first-sample")
            self.observed = _begun(observe(remote, time.monotonic, self._sample), "first-listing")
            self.status = _begun(_status_of(self.observed), "first-status")

    def take_lock(self) -> DirectoryLock:
        """Return the lock for who opens the state, and gives it up with it; once."""
        if self._lock is None:
            raise AssertionError("a lock is taken over once")
        lock, self._lock = self._lock, None
        return lock

    async def aclose(self) -> None:
        """End what is still under way, and give up the lock unless it was taken over."""
        tasks = [task for task in (self.status, self.observed, self._sample) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._lock is not None:
            self.take_lock().release()


@asynccontextmanager
async def head_start(order: Order, directory: Path) -> AsyncIterator[HeadStart]:
    """Lock a state and begin to ask; what was begun ends with the context, and the connections are closed.

    :param directory: the state folder, which is there.
    :raises StateLocked: another process has the state.
    """
    async with AsyncExitStack() as stack:
        meter = meter_of(order.settings)
        line = await stack.enter_async_context(aclosing(Line(order.settings, meter=meter)))
        remote = line.remote(order.job)
        with telling_whose(directory):
            lock = DirectoryLock.take(directory)
        start = HeadStart(directory, lock, remote, meter)
        yield await stack.enter_async_context(aclosing(start))


async def _status_of(observed: asyncio.Task[Observation]) -> str:
    return (await asyncio.shield(observed)).status


def _begun(work: Coroutine[Any, Any, _T], name: str) -> asyncio.Task[_T]:
    """Begin something whose failure is told to who waits for it, if anybody still does."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
