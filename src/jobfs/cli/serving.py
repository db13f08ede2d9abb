"""Serve an order in this process: a mount, or a folder kept in step where that is asked for or FUSE cannot be used."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobfs.cli.device import check_fuse
from jobfs.cli.failures import UNSENT
from jobfs.cli.headstart import head_start
from jobfs.cli.left import tell_left
from jobfs.cli.loading import load, load_aside
from jobfs.cli.logbook import logged_to
from jobfs.cli.order import Order
from jobfs.cli.parties import Front, Stop
from jobfs.engine.leftover import Unsynced
from jobfs.errors import FuseUnavailable, Interrupted, JobfsError, MountPointBusy
from jobfs.workspace.instance import FOLDER, MOUNT, Instance, read_instance
from jobfs.workspace.states import folder_state, missing, mount_state


def serve(order: Order, front: Front) -> int:
    """Serve until the user ends it; return the exit code: 0, or that something could not be sent. What is held is left.

    :raises JobfsError: it could not begin, or was ended before it did.
    """
    return UNSENT if not all(one.is_held for one in asyncio.run(_serve(order, front))) else 0


async def _serve(order: Order, front: Front) -> list[Unsynced]:
    stop = Stop()
    with stop.signals():
        if order.kind == FOLDER:
            return await _beside_stop(order, stop, front)
        try:
            left = await _beside_stop(order, stop, front)
        except FuseUnavailable as error:
            if not order.may_fall_back:
                raise
            _check_fallback(order)
            front.note(f"{error.cause}: keeping {order.directory} in step as an ordinary folder instead")
            return await _beside_stop(replace(order, kind=FOLDER), stop, front)
    tell_left(left)  # of a folder, the front has told what could not be sent
    return left


async def _beside_stop(order: Order, stop: Stop, front: Front) -> list[Unsynced]:
    """Serve; where the user ends it before it serves, there is nothing to drain and it ends at once."""
    if order.kind == MOUNT:
        check_fuse(order.transport)
    state = _state_of(order)
    with _nothing_left(order, state), logged_to(state, order.log_level):
        started = _Started(front)
        work = _serve_folder(order, stop, started) if order.kind == FOLDER else _serve_mount(order, stop, started)
        serving: asyncio.Task[list[Unsynced]] = asyncio.create_task(work)
        asked = asyncio.create_task(stop.asked.wait())
        try:
            await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done() and not started.is_ready:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                raise Interrupted("stopped before it was ready")
            return await serving
        finally:
            asked.cancel()


@contextmanager
def _nothing_left(order: Order, state: Path) -> Iterator[None]:
    """Make the state folder; where the context fails, and it never worked before, leave nothing of it."""
    made = missing(order.path) if order.kind == FOLDER else []
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        yield
    except (JobfsError, OSError, asyncio.CancelledError):
        failed = Instance(state, order.kind, order.directory, order.url, order.job, "", 0, 0.0)
        load("forget").leave_nothing(failed, made)
        raise


async def _serve_mount(order: Order, stop: Stop, front: Front) -> list[Unsynced]:
    """Ask the server at once, and load meanwhile what a mount needs besides."""
    async with head_start(order, _state_of(order)) as start:
        left: list[Unsynced] = await (await load_aside("mounted")).serve_mount(order, stop, front, start)
        return left


async def _serve_folder(order: Order, stop: Stop, front: Front) -> list[Unsynced]:
    left: list[Unsynced] = await load("synced").serve_folder(order, stop, front)
    return left


class _Started:
    """Passes on what a front is told, and remembers whether it was told that it serves."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self.note = front.note
        self.draining = front.draining
        self.is_ready = False

    def __getattr__(self, name: str) -> Any:
        """Return what only a front of folders is told."""
        return getattr(self._front, name)

    def ready(self, instance: Instance) -> None:
        """Remember and pass on."""
        self.is_ready = True
        self._front.ready(instance)


def _state_of(order: Order) -> Path:
    root = Path(order.state_root)
    if order.kind == FOLDER:
        return folder_state(root, order.url, order.job, order.path)
    return mount_state(root, order.url, order.job)


def _check_fallback(order: Order) -> None:
    """Refuse to fill a folder that was never ours: in folder mode what is in it would be sent to the server.

    :raises MountPointBusy:
    """
    known = read_instance(_state_of(replace(order, kind=FOLDER)))
    if (known is None or known.kind != FOLDER) and any(order.path.iterdir()):
        raise MountPointBusy(
            f"FUSE cannot be used, and {order.directory} is not empty", "name an empty directory, or use 'jobfs sync'"
        )
