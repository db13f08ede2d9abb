"""Real mounts for the tests: a workspace on an in-memory server, served in a thread with a loop of its own.

The test's thread is an ordinary program: it may only use blocking calls on the mount, and ``Live.call`` to reach the
other side. A test that hangs ends the whole run after ``DEADLINE_S``, with the tracebacks of all threads: a program
that waits for a broken mount cannot be woken otherwise.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from engine_harness import DEADLINE_S as DRAIN_S
from engine_harness import QUICK
from model_remote import ModelRemote

from jobfs.engine.compose import mirror_session
from jobfs.engine.session import Options, Session
from jobfs.fuse.fusepy import FusepyTransport
from jobfs.fuse.kernel import KernelTransport
from jobfs.fuse.options import MountOptions
from jobfs.model import ROOT, NodeId
from jobfs.planner.ignore import Ignore
from jobfs.store.state import State
from jobfs.vfs.operations import Vfs

T = TypeVar("T")

DEADLINE_S = 240.0
"""Many times what the longest test takes on a machine of its own: a busy one is no hang."""

TRANSPORTS = {"kernel": KernelTransport, "fusepy": FusepyTransport}

LATEST_S = 10.0


def look_until(condition: Callable[[], bool]) -> None:
    """Look again and again until a condition holds, in vain at most for ``LATEST_S``.

    What the server changes reaches the kernel's caches from a thread of its own, or when they expire.
    """
    until = time.monotonic() + LATEST_S
    while not condition():
        assert time.monotonic() < until, "not within the deadline"
        os.sched_yield()


class Transport(Protocol):
    """What both transports offer."""

    name: str

    async def mount(self, vfs: Vfs, mountpoint: Path, options: MountOptions) -> None: ...

    async def wait_unmounted(self) -> None: ...

    async def unmount(self) -> None: ...


class Live:
    """One mounted workspace.

    ``path`` is the mount point; everything else belongs to the loop's thread and is reached through ``call``.
    """

    def __init__(self, path: Path, remote: ModelRemote, loop: asyncio.AbstractEventLoop) -> None:
        self.path = path
        self.remote = remote
        self._loop = loop
        self.session: Session
        self.vfs: Vfs
        self.transport: Transport

    def call(self, work: Callable[[], Coroutine[object, object, T]]) -> T:
        """Run a coroutine function on the loop's thread."""
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(DEADLINE_S)

    def do(self, work: Callable[[], T]) -> T:
        """Run a plain function on the loop's thread."""

        async def once() -> T:
            return work()

        return self.call(once)

    def settle(self) -> None:
        """Push everything; check that nothing is left and that the store holds together."""

        async def work() -> None:
            assert await self.session.drain(DRAIN_S) == []
            assert self.session.state.check() == []

        self.call(work)

    def poll(self) -> None:
        """Take a listing; what it says is applied soon."""
        self.call(self.session.feed.poll)

    def pull(self) -> None:
        """Take a listing, apply what it says, and let the kernel hear of it."""

        async def work() -> None:
            await self.session.feed.poll()
            await self.session.drain(DRAIN_S)
            await self.session.workspace.caught_up()

        self.call(work)

    def node(self, path: str) -> NodeId:
        """Return the node at a path, as the vfs has it."""

        def find() -> NodeId:
            node = ROOT
            for name in path.split("/"):
                node = self.vfs.lookup(node, name).inode
            return node

        return self.do(find)


class Service:
    """What runs in the serving thread: a session with its mount, from the state's opening to its closing."""

    def __init__(self, folder: Path, transport: str, options: Options, mount_options: MountOptions) -> None:
        self._folder = folder
        self._transport = transport
        self._options = options
        self._mount_options = mount_options
        self.is_up = threading.Event()
        self.is_over = asyncio.Event()
        self.failure: BaseException | None = None

    def run(self, live: Live, loop: asyncio.AbstractEventLoop) -> None:
        """Serve until ``is_over``; the body of the thread."""
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(self._serve(live))
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            self.failure = error
        finally:
            self.is_up.set()

    async def _serve(self, live: Live) -> None:
        state = State.open(self._folder / "state")
        try:
            session = mirror_session(state, live.remote, ignore=Ignore(), host="testhost", options=self._options)
            live.session = session
            live.vfs = Vfs(session, reports={"status": lambda: {"host": "testhost"}})
            live.transport = TRANSPORTS[self._transport]()
            await session.start(wait_for_listing=True)
            await session.drain(DRAIN_S)
            await live.transport.mount(live.vfs, live.path, self._mount_options)
            self.is_up.set()
            await self.is_over.wait()
            await live.transport.unmount()
            await session.stop()
        finally:
            state.close()


@contextmanager
def served(
    transport: str,
    tmp_path: Path,
    remote: ModelRemote | None = None,
    *,
    options: Options | None = None,
    mount_options: MountOptions | None = None,
) -> Iterator[Live]:
    """Mount a workspace below a folder, and unmount it at the end."""
    point = tmp_path / "mnt"
    point.mkdir(exist_ok=True)
    loop = asyncio.new_event_loop()
    live = Live(point, remote or ModelRemote(), loop)
    service = Service(tmp_path, transport, options or Options(times=QUICK), mount_options or MountOptions("jobfs#test"))
    thread = threading.Thread(target=service.run, args=(live, loop), name="served")
    faulthandler.dump_traceback_later(DEADLINE_S, exit=True)
    try:
        thread.start()
        service.is_up.wait()
        if service.failure is None:
            try:
                yield live
            finally:
                loop.call_soon_threadsafe(service.is_over.set)
        thread.join()
        if service.failure is not None:
            raise service.failure
    finally:
        faulthandler.cancel_dump_traceback_later()
