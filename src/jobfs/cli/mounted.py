"""Serve a mount: the engine, the file system and a transport, from the first listing to the last drained change."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Protocol

from jobfs.cli import abilities
from jobfs.cli.beginning import hold_first, start_session
from jobfs.cli.headstart import HeadStart
from jobfs.cli.order import Order
from jobfs.cli.parties import Front, Stop
from jobfs.cli.service import Service
from jobfs.engine.compose import mirror_session
from jobfs.engine.leftover import Unsynced
from jobfs.engine.lookahead import Prefetch
from jobfs.engine.session import Options, Session
from jobfs.fuse.mounting import mount_at
from jobfs.fuse.options import MountOptions, Wake
from jobfs.planner.ignore import Ignore
from jobfs.planner.plan import ConflictPolicy
from jobfs.planner.retention import Wanted
from jobfs.store.state import State
from jobfs.vfs.operations import Vfs
from jobfs.workspace.answering import ControlServer
from jobfs.workspace.instance import MOUNT


class Transport(Protocol):
    """What ``fuse.kernel`` and ``fuse.fusepy`` have in common."""

    async def mount(self, vfs: Vfs, mountpoint: Path, options: MountOptions) -> None:
        """Mount, and return when it serves."""

    async def wait_unmounted(self) -> None:
        """Return once the mount is gone."""

    async def unmount(self) -> None:
        """Unmount, also while it is in use."""

    async def detach(self) -> None:
        """Unmount unless it is in use; does not wait for the end."""


def options_of(order: Order) -> Options:
    """Return the session's options."""
    return Options(
        policy=ConflictPolicy(order.conflict),
        max_deletions=order.max_deletions,
        pushes=order.direction != "pull",
        pulls=order.direction != "push",
        read_deadline_s=order.timeout_s,
        prefetch=Prefetch(order.prefetch),
        cache_bytes=order.cache_bytes,
        history=Wanted(order.history_days, order.history_bytes),
    )


def make_transport(name: str) -> tuple[str, Transport]:
    """Return a transport and its name; ``auto`` is the native one on Linux, and libfuse elsewhere.

    :raises FuseUnavailable: there is no libfuse.
    """
    if name == "auto":
        name = "kernel" if sys.platform == "linux" else "fusepy"
    if name == "kernel":
        from jobfs.fuse.kernel import KernelTransport

        return name, KernelTransport()
    from jobfs.fuse.fusepy import FusepyTransport

    return name, FusepyTransport()


async def serve_mount(order: Order, stop: Stop, front: Front, start: HeadStart) -> list[Unsynced]:
    """Mount, serve until somebody ends it, drain; return what could not be sent. It stays in the state.

    :param start: what has been begun while this module was loaded.
    :raises FuseUnavailable: this machine has no FUSE. Nothing has changed then, but that the listing may be stored.
    :raises MountPointBusy: the directory is in use, not empty or missing.
    :raises JobfsError: there is no such job, the key is wrong, the state cannot be used, ...
    """
    # What speaks FUSE is loaded here, beside the requests that are under way.
    name, transport = await asyncio.to_thread(make_transport, order.transport)
    async with AsyncExitStack() as stack:
        control = ControlServer()
        stack.push_async_callback(control.hang_up)
        state = State.open(start.directory, start.take_lock())
        stack.callback(state.close)
        abilities.apply(state, Path(order.state_root), order.url)
        hold_first(order, state, front)
        session = mirror_session(
            state,
            start.remote,
            ignore=Ignore(extra=order.ignore),
            host=socket.gethostname(),
            options=options_of(order),
            is_read_only=order.is_read_only,
        )
        stack.push_async_callback(session.stop)
        await start_session(session, front, start.status, start.observed)
        service = Service(order, session, start.meter, stop, front, control)
        service.name(MOUNT, name)
        return await _serve(order, session, service, stop, transport)


async def _serve(order: Order, session: Session, service: Service, stop: Stop, transport: Transport) -> list[Unsynced]:
    """Mount; when the mount is gone, or somebody asked for that, drain."""
    vfs = Vfs(
        session,
        reports=service.reporter.reports(),
        durable_remotely=order.fsync_remote,
        write_through=order.write_through,
    )
    is_read_only = order.is_read_only or session.workspace.is_read_only
    options = MountOptions(
        name=f"jobfs#{order.job}", read_only=is_read_only, allow_other=order.allow_other, wake=Wake(order.wake)
    )
    await transport.mount(vfs, order.path, options)
    try:
        service.detach = lambda is_forced: _detach(order.path, transport, is_forced)
        async with service.announced():
            await _until_gone(transport, stop)
            await transport.unmount()
            return await service.drain()
    finally:
        await transport.unmount()


async def _until_gone(transport: Transport, stop: Stop) -> None:
    gone = asyncio.create_task(transport.wait_unmounted(), name="wait-unmounted")
    asked = asyncio.create_task(stop.asked.wait(), name="wait-stop")
    try:
        await asyncio.wait({gone, asked}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (gone, asked):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _detach(point: Path, transport: Transport, is_forced: bool) -> None:
    """Unmount because somebody asked; the end of the mount then ends the rest.

    :raises MountPointBusy: programs use it, and it was not forced.
    """
    if is_forced or sys.platform != "linux":
        await transport.unmount()
    elif mount_at(point) is not None:
        await transport.detach()
