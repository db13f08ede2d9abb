"""One machine of the simulation (``simulation``) with a real folder kept in step, and the programs that work in it."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

from kept_versions import kept_bytes
from simulated_disk import Files, Happening, Inode, SimulatedSystem
from simulated_machine import Machine, Scene, World
from simulated_programs import Programs
from simulated_server import SimulatedServer, label
from watchdog import events
from watchdog.observers.api import BaseObserver

from jobfs.engine.session import Session
from jobfs.errors import JobfsError
from jobfs.folder.disk import Disk
from jobfs.folder.sync import FolderSync, SyncOptions


class SimulatedObserver:
    """Tells of changes in the folder late, twice, or not at all. Has of ``BaseObserver`` what ``folder.watch`` uses."""

    ident = None
    emitters: tuple[()] = ()

    def __init__(self, machine: FolderClient) -> None:
        self._machine = machine
        self._handlers: list[events.FileSystemEventHandler] = []

    def schedule(self, handler: events.FileSystemEventHandler, path: str, **options: object) -> object:
        if path == str(self._machine.root):
            self._handlers.append(handler)
        return handler

    def unschedule(self, watch: object) -> None:
        """Take nothing away: only probes are unscheduled."""

    def start(self) -> None:
        self._machine.files.tell = self._tell

    def stop(self) -> None:
        self._handlers.clear()

    def is_alive(self) -> bool:
        return True

    def overflow(self) -> None:
        """Say what the system says when it lost count: something happened somewhere."""
        for handler in self._handlers:
            handler.dispatch(events.DirModifiedEvent(str(self._machine.root)))

    def _tell(self, happening: Happening) -> None:
        dice, scene = self._machine.loop.dice, self._machine.scene
        if not self._handlers or (scene.missed and dice.random() < scene.missed):
            return
        for event in self._events(happening):
            for _ in range(2 if dice.random() < 0.1 else 1):
                delay_s = dice.random() * dice.choice([0.002, 0.002, 0.1, 3.0])
                self._machine.loop.call_later(delay_s, self._dispatch, event)

    def _dispatch(self, event: events.FileSystemEvent) -> None:
        for handler in self._handlers:
            handler.dispatch(event)

    def _events(self, happening: Happening) -> list[events.FileSystemEvent]:
        path = self._path(happening.place)
        if happening.target:
            kind = events.DirMovedEvent if happening.is_directory else events.FileMovedEvent
            return [kind(path, self._path(happening.target))]
        if happening.is_new:
            return [events.DirCreatedEvent(path) if happening.is_directory else events.FileCreatedEvent(path)]
        return [events.DirDeletedEvent(path) if happening.is_directory else events.FileModifiedEvent(path)]

    def _path(self, place: str) -> str:
        return f"{self._machine.root}/{place}"


class FolderClient(Machine):
    """A folder: what is in it outlives every death; the synchronisation is started again each time."""

    sync: FolderSync
    observer: SimulatedObserver

    def __init__(self, name: str, directory: Path, world: World, server: SimulatedServer, scene: Scene) -> None:
        super().__init__(name, directory, world, server, scene)
        self.root = (directory / f"{name}.folder").resolve()
        self.root.mkdir()
        self.files = Files(self.loop, directory / f"{name}.files", reuses_numbers=scene.reuses_numbers)
        self._system: SimulatedSystem | None = None
        self._runs: dict[Session, asyncio.Task[None]] = {}

    async def start(self, *, is_first: bool) -> None:
        self.open_state()
        if is_first and self.loop.dice.random() < 0.2:
            await self._make(is_watching=False).run()
        self.sync = self._make(is_watching=True)
        self._runs[self.session] = self.loop.create_task(self._run(self.sync, self.lives))
        self.is_up = True
        while is_first and self.state.setting("listed") is None:
            await asyncio.sleep(0.1)

    def _make(self, *, is_watching: bool) -> FolderSync:
        self._system = system = SimulatedSystem(
            self.files,
            self.root,
            self.scene.disk,
            throw=self.line.throw,
            on_step=self.may_die_now,
            is_kept=self._is_kept,
            on_loss=lambda place, data: self.world.fail(f"{self.name} destroyed {label(data)} at {place}, unseen"),
        )
        self.observer = SimulatedObserver(self)
        sync = FolderSync(
            self.state,
            self.line,
            self.root,
            options=SyncOptions(watch=is_watching, host=self.name, max_deletions=None, conflict=self.scene.policy),
            clock=self.loop.clock,
            make_disk=lambda root: Disk(root, system),
            make_observer=cast("Callable[[], BaseObserver]", lambda: self.observer),
            tokens=self.token,
        )
        self.session = sync.session
        self.trust_listings()
        return sync

    def set_scene(self, scene: Scene) -> None:
        super().set_scene(scene)
        assert self._system is not None
        self._system.weather = scene.disk

    def _is_kept(self, data: bytes) -> bool:
        """Tell whether bytes are, or were until somebody gave them up, on the server, or are in the history."""
        with self.observed():
            return data in self.server.contents.values() or data in kept_bytes(self.state)

    async def _run(self, sync: FolderSync, life: int) -> None:
        """Synchronise until told to stop; what ends by an error is started again, as a service is."""
        try:
            await sync.run()
        except JobfsError as error:
            if self.is_up and self.lives == life:
                self.die(f"ends: {error}".replace(f"{self.directory}/", ""))
        except Exception as error:  # noqa: BLE001 - whatever it is, it was not foreseen
            where = "".join(traceback.format_exception(error)[-9:])
            self.world.fail(f"{self.name} ended: {error!r} {where}")

    def die(self, how: str = "dies") -> None:
        super().die(how)
        assert self._system is not None
        self._system.die()

    async def end(self, session: Session) -> None:
        run = self._runs.pop(session, None)
        while run is not None and not run.done():
            run.cancel()
            await asyncio.wait({run}, timeout=0.01)
        await session.stop()

    async def stop(self) -> None:
        self.sync.stop()
        await asyncio.gather(*self._runs.values())
        self.state.close()

    async def revived(self) -> None:
        await super().revived()
        await asyncio.sleep(1)  # an error of the disk may be about to end the synchronisation
        await super().revived()

    async def settle(self) -> None:
        self.observer.overflow()
        await asyncio.sleep(1)
        await self.session.drain(60)
        await self.session.feed.refresh()
        await self.session.drain(60)

    def tree(self) -> dict[str, bytes | None]:
        return self.files.tree()


class FolderPrograms(Programs):
    """What runs on a machine with a folder: plain calls of its file system."""

    def __init__(self, client: FolderClient, world: World) -> None:
        super().__init__(world)
        self.client: FolderClient = client
        self._files = client.files
        self._writes: dict[Inode, int] = {}

    def shown(self, path: str) -> bytes | None:
        inode = self._files.find(path)
        return None if inode.is_directory else inode.read()

    async def put(self, path: str, data: bytes, *, pause_s: float = 0.0) -> None:
        inode = self._open(path, data)
        inode.openers += 1
        expected = b""
        for part in (data[: len(data) // 2], data[len(data) // 2 :]) if pause_s else (data,):
            if expected:
                await asyncio.sleep(pause_s)
            before = inode.read()
            if before != expected:
                self.world.given_up.add(before)  # another program wrote to the same file meanwhile
            self._files.write(inode, part, len(expected), path)
            self._wrote(inode)
            expected += part
            self.world.known.add(inode.read())
        if inode.links and inode.read() == data:
            self.world.written.add(data)
            self.note(f"closed {label(data)}")
        self._files.close(inode)

    def _open(self, path: str, data: bytes) -> Inode:
        try:
            inode = self._files.find(path)
        except FileNotFoundError:
            inode = self._files.create(path, 0o644)
            self.note(f"create {path} {label(data)}")
            return inode
        if inode.is_directory:
            raise IsADirectoryError(path)
        self.give_up(path)
        self.note(f"overwrite {path} {label(data)}")
        self._files.truncate(inode, path)
        self._wrote(inode)
        return inode

    def _wrote(self, inode: Inode) -> None:
        self._writes[inode] = self._writes.get(inode, 0) + 1

    async def look(self, path: str, pause_s: float) -> None:
        inode = self._files.find(path)
        if inode.is_directory:
            raise IsADirectoryError(path)
        writes, size = self._writes.get(inode, 0), len(inode.read())
        data = inode.read()[: size // 2]
        await asyncio.sleep(pause_s)
        data += inode.read()[len(data) :]
        if self._writes.get(inode, 0) == writes and data not in self.world.known:
            self.world.fail(f"{self.client.name} read at {path} what nobody wrote: {data[:60]!r} ({len(data)})")

    async def move(self, old: str, new: str) -> None:
        source = self._files.find(old)
        with suppress(FileNotFoundError):
            there = self._files.find(new)
            if there is not source and not there.is_directory and not source.is_directory:
                self.give_up(new)
        self.note(f"rename {old} {new}")
        self._files.rename(old, new)

    def remove(self, path: str) -> None:
        if not self._files.find(path).is_directory:
            self.give_up(path)
        self.note(f"unlink {path}")
        self._files.unlink(path)

    def make_directory(self, path: str) -> None:
        self._files.mkdir(path)

    def remove_directory(self, path: str) -> None:
        self._files.rmdir(path)
