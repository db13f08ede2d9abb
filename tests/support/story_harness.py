"""Stories in simulated time: a mount and a server at some distance, where nothing sleeps and every run is the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from engine_harness import Mounted, mounted
from model_remote import ModelRemote
from virtual_loop import VirtualClock, run_virtually

from jobfs.engine.creations import LATE_S
from jobfs.model import Item, Kind

REQUEST_S = 0.01
"""What every request takes; so what asks again and again makes time go on, and is counted."""

Open = Callable[[ModelRemote], AbstractAsyncContextManager[Mounted]]


class TimedRemote(ModelRemote):
    """A server at some distance. ``meanwhile`` is awaited while a request is on its way to it."""

    def __init__(self, *, children_follow: bool = True) -> None:
        super().__init__(children_follow=children_follow)
        self.meanwhile: dict[str, Callable[[], Awaitable[None]]] = {}
        """What happens during the next request of a name."""

    @asynccontextmanager
    async def _call(self, name: str, subject: str) -> AsyncIterator[None]:
        await asyncio.sleep(REQUEST_S)
        if (event := self.meanwhile.pop(name, None)) is not None:
            await event()
        async with super()._call(name, subject):
            yield

    def fail(self, moment: str, *faults: tuple[str, str, Exception]) -> list[tuple[str, str, Exception]]:
        """Let requests fail once each, in this order; return those that are still to fail.

        :param moment: ``before`` or ``after`` they are done. :param faults: name, end of the subject, and error.
        """
        left = list(faults)

        def hook(name: str, subject: str) -> None:
            if left and name == left[0][0] and subject.endswith(left[0][1]):
                raise left.pop(0)[2]

        setattr(self, moment, hook)
        return left

    def item(self, path: str) -> Item:
        found = self.at(path)
        assert found is not None
        return found


def play(directory: Path, story: Callable[[Open], Coroutine[Any, Any, None]]) -> None:
    """Run a story in simulated time; what it opens is one state directory, so a second opening is a restart."""

    async def bounded(clock: VirtualClock) -> None:
        async with asyncio.timeout(7200):
            await story(lambda remote: mounted(directory, remote, clock=clock))  # type: ignore[arg-type]

    run_virtually(1, lambda loop: bounded(loop.clock))


async def shown(mount: Mounted, directory: str = "") -> dict[str, bytes | None]:
    """Return what a program sees: path to bytes, None for directories."""
    found: dict[str, bytes | None] = {}
    for name in mount.names(directory):
        path = f"{directory}/{name}" if directory else name
        if mount.vfs.namespace.record(mount.node(path)).kind is Kind.DIRECTORY:
            found |= {path: None, **await shown(mount, path)}
        else:
            found[path] = await mount.read(path)
    return found


async def ending(mount: Mounted) -> dict[str, bytes | None]:
    """Let time pass until nothing can come late any more; return what the server has then, which is what is shown."""
    for _ in range(8):
        await mount.pull()
        await asyncio.sleep(LATE_S / 5)
    await mount.settle()
    assert await shown(mount) == mount.remote.tree()
    return mount.remote.tree()


async def make(mount: Mounted, path: str, data: bytes | None) -> None:
    """Write a file, or with None make a directory."""
    if data is not None:
        await mount.write(path, data)
    else:
        mount.vfs.make(*mount.place(path), Kind.DIRECTORY, mode=0o755)


def remove(mount: Mounted, path: str) -> None:
    """Unlink a file, remove a directory."""
    is_directory = mount.vfs.namespace.record(mount.node(path)).kind is Kind.DIRECTORY
    (mount.vfs.rmdir if is_directory else mount.vfs.unlink)(*mount.place(path))


def doing(act: Callable[[], object]) -> Callable[[], Awaitable[None]]:
    """Return what does a plain thing where something awaitable is wanted."""

    async def event() -> None:
        act()

    return event
