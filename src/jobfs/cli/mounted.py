"""Serve a mount: the engine, the file system and a transport, from the first listing to the last drained change."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import stat
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Protocol

from jobfs.cli import abilities
from jobfs.cli.context import open_remote
from jobfs.cli.order import Order
from jobfs.cli.service import Front, Service, Stop
from jobfs.engine.backlog import Unsynced
from jobfs.engine.compose import mirror_session
from jobfs.engine.hold import is_held, set_held
from jobfs.engine.lookahead import Prefetch
from jobfs.engine.remote import Remote
from jobfs.engine.session import Options, Session
from jobfs.errors import FuseUnavailable, NotFound, ServerFailure, Unreachable
from jobfs.fuse.mounting import mount_at
from jobfs.fuse.options import MountOptions, Wake
from jobfs.planner.ignore import Ignore
from jobfs.planner.plan import ConflictPolicy
from jobfs.planner.retention import Wanted
from jobfs.store.state import State
from jobfs.vfs.operations import Vfs
from jobfs.workspace.connection import meter_of
from jobfs.workspace.control import ControlServer
from jobfs.workspace.instance import MOUNT
from jobfs.workspace.states import mount_state

FUSE_DEVICE = "JOBFS_FUSE_DEVICE"
"""Environment variable: the device by whose presence FUSE is judged; for tests and for unusual systems."""

_LISTED = "listed"
_ASK_S = 3.0
"""How long a later mount, which has a tree to show already, waits to hear whether key and job are still good."""

_log = logging.getLogger(__name__)


class Notes(Protocol):
    """Who is told what the start of a session has to say."""

    def note(self, line: str) -> None:
        """Tell something that is no failure."""


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


def check_fuse(transport: str) -> None:
    """Say why FUSE cannot be used here, before anything is started.

    :raises FuseUnavailable:
    """
    remedy = "see 'jobfs sync' for a folder without FUSE"
    if sys.platform == "win32":
        raise FuseUnavailable("Windows has no FUSE", remedy)
    if sys.platform != "linux":
        return  # libfuse says so itself when it is loaded
    device = Path(os.environ.get(FUSE_DEVICE, "/dev/fuse"))
    try:
        is_device = stat.S_ISCHR(device.stat().st_mode)
    except OSError as error:
        raise FuseUnavailable(f"FUSE cannot be used: {device}: {error.strerror}", remedy) from None
    if not is_device:
        raise FuseUnavailable(f"FUSE cannot be used: {device} is no device", remedy)
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        raise FuseUnavailable("FUSE cannot be used: fusermount3 is not installed", f"install fuse3, or {remedy}")


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


async def serve_mount(order: Order, stop: Stop, front: Front) -> list[Unsynced]:
    """Mount, serve until somebody ends it, drain; return what could not be sent. It stays in the state.

    :raises FuseUnavailable: this machine has no FUSE. Nothing has changed then, but that the listing may be stored.
    :raises MountPointBusy: the directory is in use, not empty or missing.
    :raises JobfsError: there is no such job, the key is wrong, the state cannot be used, ...
    """
    check_fuse(order.transport)
    meter = meter_of(order.settings)
    directory = mount_state(Path(order.state_root), order.url, order.job)
    async with AsyncExitStack() as stack:
        control = ControlServer()
        stack.push_async_callback(control.hang_up)
        state = State.open(directory)
        stack.callback(state.close)
        abilities.apply(state, Path(order.state_root), order.url)
        hold_first(order, state, front)
        remote = await stack.enter_async_context(open_remote(order.settings, order.job, meter))
        session = mirror_session(
            state,
            remote,
            ignore=Ignore(extra=order.ignore),
            host=socket.gethostname(),
            options=options_of(order),
            is_read_only=order.is_read_only,
        )
        stack.push_async_callback(session.stop)
        await start_session(session, remote, front)
        service = Service(order, session, meter, stop, front, control)
        return await _serve(order, session, service, stop)


def hold_first(order: Order, state: State, front: Notes) -> None:
    """Hold a workspace before its session begins, where that is wanted; say so where it is held."""
    if order.is_held and not is_held(state):
        with state.transaction(durable=True):
            set_held(state, is_held=True)
    if is_held(state):
        front.note(f"changes are held: 'jobfs push' sends them, 'jobfs hold {order.directory} --off' ends it")


async def start_session(session: Session, remote: Remote, front: Notes) -> None:
    """Start a session. The first time it waits for the listing; later the stored tree answers at once.

    :raises Unauthenticated: the key is wrong, also where a tree is stored. :raises ApiError: the first listing failed.
    """
    is_first = session.state.setting(_LISTED) is None
    if not is_first:
        await _ask(remote, front)
    await session.start(wait_for_listing=is_first)
    if is_first:
        with session.state.transaction():
            session.state.remember(_LISTED, "1")


async def _ask(remote: Remote, front: Notes) -> None:
    """Find out early whether the key is good; a server that does not answer is no reason not to show what is known."""
    try:
        async with asyncio.timeout(_ASK_S):
            await remote.status()
    except NotFound as error:
        front.note(f"{error.cause}; the files are shown as they were last seen here")
    except (Unreachable, ServerFailure) as error:
        front.note(f"{error.cause}; the files are shown as last seen, and changes are sent later")
    except TimeoutError:
        front.note("the server does not answer yet; the files are shown as last seen, and changes are sent later")


async def _serve(order: Order, session: Session, service: Service, stop: Stop) -> list[Unsynced]:
    """Mount; when the mount is gone, or somebody asked for that, drain."""
    name, transport = make_transport(order.transport)
    service.name(MOUNT, name)
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
