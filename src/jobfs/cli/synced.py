"""Keep a real folder in step as a process of its own: first until both sides agree, then until it is told to end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from jobfs.cli import abilities
from jobfs.cli.beginning import hold_first
from jobfs.cli.order import Order
from jobfs.cli.outcome import Outcome, merged, outcome_of
from jobfs.cli.parties import Front, Stop
from jobfs.cli.remote import open_remote
from jobfs.cli.service import Service
from jobfs.engine.leftover import Unsynced
from jobfs.engine.remote import Remote
from jobfs.engine.review import Review
from jobfs.errors import RateLimited, ServerFailure, Unreachable
from jobfs.folder.report import Progress, Summary, SyncEvent
from jobfs.folder.sync import Direction, FolderSync, SyncOptions
from jobfs.planner.plan import ConflictPolicy
from jobfs.planner.retention import Wanted
from jobfs.store.state import LISTED, State
from jobfs.workspace.answering import ControlServer
from jobfs.workspace.instance import FOLDER, telling_whose
from jobfs.workspace.line import meter_of
from jobfs.workspace.meter import Meter
from jobfs.workspace.past import Past
from jobfs.workspace.states import folder_state

_log = logging.getLogger(__name__)


def sync_options(order: Order, *, is_trial: bool = False) -> SyncOptions:
    """Return the options of folder mode."""
    return SyncOptions(
        direction=Direction.PULL if order.is_read_only else Direction(order.direction),
        delete=order.deletes,
        conflict=ConflictPolicy(order.conflict),
        ignore=order.ignore,
        max_deletions=order.max_deletions,
        history=Wanted(order.history_days, order.history_bytes),
        is_trial=is_trial,
        drain_s=order.drain_timeout_s,
    )


class FolderFront(Front, Protocol):
    """Who is told what happens in a folder besides."""

    def happened(self, event: SyncEvent) -> None:
        """Tell what was done in a folder."""

    def working(self, sync: FolderSync, meter: Meter) -> AbstractAsyncContextManager[None]:
        """Show how far a synchronisation is while the context lasts.

        :param meter: counts large contents while they pass.
        """

    def ended(self, outcome: Outcome) -> None:
        """Tell what was done in a folder, all in all."""


async def serve_folder(order: Order, stop: Stop, front: FolderFront) -> list[Unsynced]:
    """Keep a folder in step until somebody ends it; return what could not be sent. It stays in the folder.

    It serves when both sides agree for the first time; where the server does not answer, and the folder is known, at
    once.

    :raises FolderError: it is not the folder that this state knows, or cannot be used.
    :raises GuardTripped: too much would be deleted.
    :raises JobfsError: there is no such job, the key is wrong, the state cannot be used, ...
    """
    async with AsyncExitStack() as stack:
        control = ControlServer()
        stack.push_async_callback(control.hang_up)
        directory = folder_state(Path(order.state_root), order.url, order.job, order.path)
        with telling_whose(directory):
            state = State.open(directory)
        stack.callback(state.close)
        abilities.apply(state, Path(order.state_root), order.url)
        hold_first(order, state, front)
        meter = meter_of(order.settings)
        remote = await stack.enter_async_context(open_remote(order.settings, order.job, meter))
        agreed = await _agree(order, state, remote, front, meter)
        options = replace(sync_options(order), watch=True)
        sync = FolderSync(state, remote, order.path, options=options, progress=_told(front))
        service = Service(order, sync.session, meter, stop, front, control)
        service.reporter.more_problems = sync.side.problems
        service.review = Review(sync.session, sync.look)
        service.past = Past(state, sync.restorer)
        service.name(FOLDER, "sync")
        for conflict in agreed.conflicts:
            service.conflict(conflict)
        left = await _watch(sync, service, stop)
        front.ended(outcome_of(order, sync, merged(agreed, sync.summary())))
        return left


def _told(front: FolderFront) -> Progress:
    def tell(event: SyncEvent) -> None:
        _log.info("%s: %s %s", event.what.value, event.path, event.detail)
        front.happened(event)

    return tell


async def _agree(order: Order, state: State, remote: Remote, front: FolderFront, meter: Meter) -> Summary:
    """Synchronise once. A server that does not answer is no reason not to watch a folder that is known."""
    sync = FolderSync(state, remote, order.path, options=sync_options(order), progress=_told(front))
    try:
        async with front.working(sync, meter):
            return await sync.run()
    except (Unreachable, ServerFailure, RateLimited) as error:
        if state.setting(LISTED) is None:
            raise
        front.note(f"{error.cause}; changes are sent later")
        return sync.summary()


async def _watch(sync: FolderSync, service: Service, stop: Stop) -> list[Unsynced]:
    """Watch until asked to stop; then the last changes are sent, for which a second request does not wait."""
    running = asyncio.create_task(sync.run(), name="folder-sync")
    asked = asyncio.create_task(stop.asked.wait(), name="wait-stop")
    try:
        async with service.announced():
            await asyncio.wait({running, asked}, return_when=asyncio.FIRST_COMPLETED)
            sync.stop()
            return await service.drain(_end(running))
    finally:
        for task in (running, asked):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _end(running: asyncio.Task[object]) -> None:
    await running
