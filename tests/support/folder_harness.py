"""A real folder and an in-memory server: what the tests of folder mode start from."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

from model_remote import ModelRemote

from jobfs.engine.feed import FeedTimes
from jobfs.engine.remote import Remote
from jobfs.folder.disk import Disk
from jobfs.folder.report import Progress, Summary, SyncEvent
from jobfs.folder.sync import FolderSync, SyncOptions
from jobfs.folder.watch import ObserverFactory, system_observer
from jobfs.store.state import State

T = TypeVar("T")

DEADLINE_S = 10.0
QUICK = FeedTimes(active_s=0.05, ended_s=30.0, ended_max_s=60.0, status_s=5.0, status_max_s=5.0)
OLD_NS = 1_700_000_000_000_000_000


def run(work: Coroutine[object, object, T]) -> T:
    """Run a test's coroutine within the deadline."""

    async def bounded() -> T:
        async with asyncio.timeout(30):
            return await work

    return asyncio.run(bounded())


async def eventually(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Return once a condition holds; fail at the deadline."""
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.005)


class Desk:
    """A folder, its state, and the server that it is kept in step with."""

    def __init__(self, base: Path, remote: Remote | None = None) -> None:
        self.root = base / "folder"
        self.root.mkdir(parents=True, exist_ok=True)
        self.state_directory = base / "state"
        self.model = ModelRemote()
        self.remote: Remote = remote if remote is not None else self.model
        self.events: list[SyncEvent] = []

    # -- the folder

    def write(self, place: str, data: bytes | str, *, is_old: bool = True) -> Path:
        """Write a file; by default as if that had been a while ago, so that no scan waits for it to rest."""
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        if is_old:
            os.utime(path, ns=(OLD_NS, OLD_NS))
        return path

    def tree(self) -> dict[str, bytes | None]:
        """Return what is in the folder: path to bytes, None for directories; links and our own directory left out."""
        found: dict[str, bytes | None] = {}
        for path in sorted(self.root.rglob("*")):
            place = path.relative_to(self.root).as_posix()
            if not path.is_symlink() and place.split("/")[0] != ".jobfs":
                found[place] = None if path.is_dir() else path.read_bytes()
        return found

    # -- synchronising

    @contextmanager
    def opened(self) -> Iterator[State]:
        """Open the state, and check it at the end."""
        state = State.open(self.state_directory)
        try:
            yield state
            assert state.check() == []
        finally:
            state.close()

    async def sync(
        self,
        options: SyncOptions | None = None,
        *,
        make_disk: Callable[[Path], Disk] = Disk,
        progress: Progress | None = None,
    ) -> Summary:
        """Synchronise once."""
        with self.opened() as state:
            chosen = options or SyncOptions(host="testhost", times=QUICK)
            return await FolderSync(
                state,
                self.remote,
                self.root,
                options=chosen,
                make_disk=make_disk,
                progress=progress or self.events.append,
            ).run()

    async def in_step(self) -> dict[str, bytes | None]:
        """Synchronise once, make sure that both sides are equal and at rest, and return what they hold."""
        await self.sync()
        assert self.tree() == self.model.tree()
        self.model.calls.clear()
        summary = await self.sync()
        assert (summary.counts, self.model.asked()) == ({}, [])
        return self.tree()

    @asynccontextmanager
    async def watching(
        self,
        options: SyncOptions | None = None,
        *,
        make_disk: Callable[[Path], Disk] = Disk,
        make_observer: ObserverFactory = system_observer,
    ) -> AsyncIterator[FolderSync]:
        """Keep in step while the block runs; then stop, which pushes the last changes."""
        with self.opened() as state:
            chosen = options or SyncOptions(watch=True, host="testhost", times=QUICK)
            sync = FolderSync(
                state,
                self.remote,
                self.root,
                options=chosen,
                make_disk=make_disk,
                make_observer=make_observer,
                progress=self.events.append,
            )
            task = asyncio.create_task(sync.run())
            try:
                await eventually(lambda: state.setting("listed") is not None or task.done())
                yield sync
                sync.stop()
                await task
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def agrees(self) -> None:
        """Return once both sides are equal; fail at the deadline with the difference."""
        try:
            await eventually(lambda: self.tree() == self.model.tree())
        except TimeoutError:
            assert self.tree() == self.model.tree()
            raise
