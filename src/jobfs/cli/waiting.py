"""Pull the files of a job or run while it is waited for, and what is left when it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from jobfs.cli.fronts import Events, Lines, Listener
from jobfs.cli.once import open_folder
from jobfs.cli.order import Order
from jobfs.cli.outcome import check_complete, merged, outcome_of
from jobfs.cli.remote import run
from jobfs.cli.synced import sync_options
from jobfs.folder.report import Summary
from jobfs.folder.sync import FolderSync
from jobfs.workspace.line import meter_of

_T = TypeVar("_T")

Wait = Callable[[Listener, Callable[[], None]], Awaitable[_T]]
"""Waits for something. Is given whom to tell, and what to call to have the server looked at without delay."""

_LOOK_S = 5.0
_NO_LIMIT_S = 365 * 86400.0


def pull_while(order: Order, front: Lines | Events, wait: Wait[_T], *, text: str) -> _T:
    """Pull what appears in a workspace until a wait ends, and then what is left; return the result of the wait.

    :param order: its direction is ``pull``.
    :param text: says on a terminal what is waited for.
    :raises JobfsError: the wait failed, or the pulling.
    """
    return run(_pull_while(order, front, wait, text))


async def _pull_while(order: Order, front: Lines | Events, wait: Wait[_T], text: str) -> _T:
    meter = meter_of(order.settings)
    async with open_folder(order, meter) as (state, remote):
        with front.listening(text) as listener:
            options = replace(sync_options(order), watch=True, drain_s=0.0)
            watching = FolderSync(state, remote, order.path, options=options, progress=listener.happened)
            result, first = await _beside(watching, wait, listener)
        sync = FolderSync(state, remote, order.path, options=sync_options(order), progress=front.happened)
        async with front.working(sync, meter):
            second = await sync.run()
        outcome = outcome_of(order, sync, merged(first, second))
        front.ended(outcome)
        check_complete(outcome)
        return result


async def _beside(watching: FolderSync, wait: Wait[_T], listener: Listener) -> tuple[_T, Summary]:
    """Pull until the wait ends and everything under way has arrived."""
    pulling = asyncio.create_task(watching.run(), name="pull")
    waiting = asyncio.ensure_future(wait(listener, watching.session.feed.request))
    try:
        await asyncio.wait({pulling, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if pulling.done():
            await pulling  # it ends by itself only when it fails
        result = await waiting
        await _arrive(watching, pulling)
    finally:
        for task in (pulling, waiting):
            task.cancel()
        await asyncio.gather(pulling, waiting, return_exceptions=True)
    return result, watching.summary()


async def _arrive(watching: FolderSync, pulling: asyncio.Task[Summary]) -> None:
    """End the watching and let arrive what is under way, however long that takes, unless the server has gone."""
    watching.options = replace(watching.options, drain_s=_NO_LIMIT_S)
    watching.stop()
    while not pulling.done() and watching.session.offline is None:
        await asyncio.wait({pulling}, timeout=_LOOK_S)
    if pulling.done():
        await pulling
