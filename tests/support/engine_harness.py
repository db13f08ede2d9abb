"""A mount's engine on an in-memory server, without FUSE: what the tests of engine and vfs start from."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from model_remote import ModelRemote
from simulated_store import BadDisk

from jobfs.engine.compose import mirror_session
from jobfs.engine.feed import FeedTimes
from jobfs.engine.listing import Observation
from jobfs.engine.session import Options, Session, random_token
from jobfs.engine.workspace import Clock
from jobfs.model import ROOT, NodeId
from jobfs.planner.ignore import Ignore
from jobfs.store.state import State
from jobfs.vfs.operations import Vfs

T = TypeVar("T")

DEADLINE_S = 10.0
QUICK = FeedTimes(active_s=0.05, ended_s=30.0, ended_max_s=60.0, status_s=5.0, status_max_s=5.0)


def run(work: Coroutine[object, object, T]) -> T:
    """Run a test's coroutine within the deadline."""

    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await work

    return asyncio.run(bounded())


class Mounted:
    """A vfs and its session, spoken to by path."""

    def __init__(self, vfs: Vfs, session: Session, remote: ModelRemote) -> None:
        self.vfs = vfs
        self.session = session
        self.remote = remote

    def node(self, path: str) -> NodeId:
        """Return the node at a path; raises OSError where there is none."""
        node = ROOT
        for name in path.split("/") if path else ():
            node = self.vfs.lookup(node, name).inode
        return node

    def place(self, path: str) -> tuple[NodeId, str]:
        above, _, name = path.rpartition("/")
        return self.node(above), name

    def names(self, path: str = "") -> list[str]:
        return sorted(name for name, _ in self.vfs.names(self.node(path)))

    async def read(self, path: str) -> bytes:
        handle = self.vfs.open(self.node(path), os.O_RDONLY)
        try:
            return await self.vfs.read(handle, 1 << 30, 0)
        finally:
            self.vfs.release(handle)

    async def write(self, path: str, data: bytes) -> None:
        """Write a file as ``open(path, "wb")`` does."""
        parent, name = self.place(path)
        if self.vfs.namespace.find(parent, name) is None:
            _, handle = self.vfs.create(parent, name, mode=0o644, flags=os.O_WRONLY)
        else:
            handle = self.vfs.open(self.node(path), os.O_WRONLY | os.O_TRUNC)
        if data:
            await self.vfs.write(handle, data, 0)
        await self.vfs.flush(handle)
        self.vfs.release(handle)

    async def rename(self, old: str, new: str) -> None:
        await self.vfs.rename(*self.place(old), *self.place(new))

    async def settle(self) -> None:
        """Push everything, and check that nothing is left."""
        assert await self.session.drain(DEADLINE_S) == []
        assert self.session.state.check() == []

    async def offline(self) -> None:
        """Return once the session has noticed that its store or its server fails."""
        await eventually(lambda: self.session.offline is not None)

    async def pull(self) -> None:
        """Take a listing and apply what it says."""
        await self.session.feed.poll()
        await self.session.drain(DEADLINE_S)


@asynccontextmanager
async def mounted(
    directory: Path,
    remote: ModelRemote,
    *,
    options: Options | None = None,
    ignore: Ignore | None = None,
    is_read_only: bool = False,
    clock: Clock | None = None,
    tokens: Callable[[], str] = random_token,
    disk: BadDisk | None = None,
    observed: Awaitable[Observation] | None = None,
) -> AsyncIterator[Mounted]:
    """Open a workspace in a directory, as ``jobfs mount`` does."""
    state = State.open(directory) if disk is None else State.open(directory, connect=disk.connect, system=disk)
    try:
        session = mirror_session(
            state,
            remote,
            ignore=ignore or Ignore(),
            host="testhost",
            options=options or Options(times=QUICK),
            is_read_only=is_read_only,
            clock=clock,
            tokens=tokens,
        )
        await session.start(wait_for_listing=True, observed=observed)
        vfs = Vfs(session, reports={"status": lambda: {"host": "testhost"}})
        mount = Mounted(vfs, session, remote)
        await session.drain(DEADLINE_S)
        try:
            yield mount
        finally:
            await session.stop()
    finally:
        state.close()


async def eventually(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Return once a condition holds; fail at the deadline."""
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.005)
