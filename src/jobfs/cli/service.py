"""What every mount and synced folder does around its session: control socket, record, stop and drain.

``Service`` is the part that mounts and folders share; ``mounted`` and ``synced`` bring the rest. It runs in the process
that serves, in the foreground or in the background.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from jobfs.cli.notify import Desktop
from jobfs.cli.order import Order
from jobfs.cli.parties import Front, Stop
from jobfs.cli.report import Reporter
from jobfs.cli.standing import Standing
from jobfs.engine import arrival
from jobfs.engine.backlog import waiting
from jobfs.engine.leftover import Unsynced, told_of
from jobfs.engine.restore import TreeRestorer
from jobfs.engine.review import Review
from jobfs.engine.session import Session
from jobfs.planner.plan import Conflict
from jobfs.workspace.answering import ControlServer, Handler, Send, remove_leftover
from jobfs.workspace.instance import Instance, read_instance
from jobfs.workspace.meter import Meter
from jobfs.workspace.past import Past, answer
from jobfs.workspace.review import handlers_of

_SHOW_S = 0.5
"""How often the progress of a drain is counted."""

_log = logging.getLogger(__name__)


class Service:
    """One mount or synced folder as a process serves it.

    ``review`` is for the user's questions about changes; of a folder it looks at that before.

    :param detach: takes the mount away, or ends the watching of a folder; its argument says: even while it is in use.
    """

    def __init__(
        self, order: Order, session: Session, meter: Meter, stop: Stop, front: Front, control: ControlServer
    ) -> None:
        self._order = order
        self._session = session
        self._stop = stop
        self._front = front
        self._control = control
        self._listeners: list[Send] = []
        self._left: asyncio.Future[list[Unsynced]] = asyncio.get_running_loop().create_future()
        self.instance = Instance(
            session.state.directory, order.kind, order.directory, order.url, order.job, "", os.getpid(), time.time()
        )
        self.review = Review(session)
        self.reporter = Reporter(session, self.instance, meter)
        self.past = Past(session.state, TreeRestorer(session.workspace))
        self.detach: Callable[[bool], Awaitable[None]] = self._detach_nothing
        self._desktop = Desktop()
        session.on_conflict = self.conflict

    async def _detach_nothing(self, is_forced: bool) -> None:
        self._stop.asked.set()

    def conflict(self, conflict: Conflict) -> None:
        """Tell the user's desktop of a conflict."""
        self._desktop.conflict(conflict.copy or conflict.path, self._order.directory)

    def name(self, kind: str, transport: str) -> None:
        """Set what is known only once it serves."""
        self.instance = self.reporter.instance = replace(self.instance, kind=kind, transport=transport)

    @asynccontextmanager
    async def announced(self) -> AsyncIterator[None]:
        """Answer requests and be on record while the context lasts; the state is locked all the time."""
        before = read_instance(self.instance.state)
        if before is not None and before.address is not None:
            remove_leftover(before.address, self.instance.state)
        address = await self._control.listen(self.instance.state, self._handlers())
        running = replace(self.instance, address=address)
        running.write()
        self._front.ready(running)
        try:
            yield
        finally:
            await self._control.stop_listening()
            await self._desktop.close()
            running.write_ended(len(self._left.result()) if self._left.done() else 0)

    def _handlers(self) -> Mapping[str, Handler]:
        async def ping(request: Mapping[str, Any], send: Send) -> object:
            return os.getpid()

        async def status(request: Mapping[str, Any], send: Send) -> object:
            return self.reporter.status()

        async def standing(request: Mapping[str, Any], send: Send) -> object:
            return Standing(self._session, self._order.directory).of(str(request["path"]))

        async def conflicts(request: Mapping[str, Any], send: Send) -> object:
            return self.reporter.conflicts()

        async def poke(request: Mapping[str, Any], send: Send) -> object:
            self._session.feed.request()
            return None

        async def refresh(request: Mapping[str, Any], send: Send) -> object:
            await arrival.refresh(self._session, allow=request.get("allow", 0))
            return self.reporter.status()

        async def history(request: Mapping[str, Any], send: Send) -> object:
            return await answer(self.past, request, send)

        async def stop(request: Mapping[str, Any], send: Send) -> object:
            self._listeners.append(send)
            await self.detach(bool(request.get("force")))
            return told_of(await asyncio.shield(self._left))

        handlers = (ping, status, standing, conflicts, poke, refresh, history, stop)
        return {**{handler.__name__: handler for handler in handlers}, **handlers_of(self.review)}

    async def drain(self, draining: Coroutine[Any, Any, object] | None = None) -> list[Unsynced]:
        """Send what is left, with progress for all who wait; return what could not be sent.

        :param draining: what sends it; the session's own drain where it is not given.
        """
        draining = draining or self._session.drain(self._order.drain_timeout_s)

        async def show(value: object) -> None:
            if isinstance(value, int):
                self._front.draining(value)

        left = await drained(self._session, draining, self._stop.hurry, [show, *self._listeners])
        for unsynced in (one for one in left if not one.is_held):
            _log.warning("not sent: %s: %s", unsynced.path, unsynced.reason)
        self._left.set_result(left)
        return left


async def drained(
    session: Session, work: Coroutine[Any, Any, object], hurry: asyncio.Event, listeners: list[Send]
) -> list[Unsynced]:
    """Drain a session; return at once what is left when ``hurry`` is set.

    :param work: drains it.
    :param listeners: are told how many changes are left, twice a second.
    """
    draining = asyncio.create_task(work, name="drain")
    hurried = asyncio.create_task(hurry.wait(), name="drain-hurry")
    told = -1
    try:
        while not draining.done() and not hurried.done():
            left = waiting(session.state, session.hold)
            if left and left != told:
                told = left
                for listener in listeners:
                    await listener(left)
            await asyncio.wait({draining, hurried}, timeout=_SHOW_S, return_when=asyncio.FIRST_COMPLETED)
        if draining.done():
            await draining
    finally:
        for task in (draining, hurried):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    return session.unsynced()
