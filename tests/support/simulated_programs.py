"""What happens in the simulation (``simulation``): the programs on each machine, and the job's expert.

What the programs on a machine do is the same everywhere; how it is done is the machine's own: through the vfs of a
mount here, on a real folder's disk in ``simulated_folder``.
"""

from __future__ import annotations

import asyncio
import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from simulated_client import Client
from simulated_machine import Machine, World
from simulated_server import SimulatedServer, label

from jobfs.errors import JobfsError, StateError
from jobfs.fuse.errno import errno_of
from jobfs.model import Kind
from jobfs.server.refusals import Refused
from jobfs.vfs.inodes import Handle

NAMES = ["a", "b", "c.txt"]
DIRECTORIES = ["", "d/", "e/"]


class Programs(ABC):
    """What runs on one machine."""

    client: Machine

    def __init__(self, world: World) -> None:
        self.world = world
        self.dice = world.loop.dice
        self.background: list[asyncio.Task[None]] = []  # in order: a set's would be that of their addresses

    async def step(self) -> None:
        """Do one thing, as far as it can be done."""
        actions: list[Callable[[], Awaitable[None]]] = [
            self.write, self.write, self.save, self.save, self.unlink, self.rename, self.rename_directory,
            self.mkdir, self.rmdir, self.read, self.read_slowly, self.write_slowly,
        ]  # fmt: skip
        await self.attempt(self.dice.choice(actions)())

    async def attempt(self, work: Awaitable[None]) -> None:
        with suppress(OSError, JobfsError):  # a name that is not there, a directory that is not empty, no server
            await work

    def path(self) -> str:
        return self.dice.choice(DIRECTORIES) + self.dice.choice(NAMES)

    def note(self, what: str) -> None:
        self.world.note(f"{self.client.name} : {what}")

    def give_up(self, path: str) -> None:
        """Note that what is shown at a path is replaced or deleted now; nothing may be awaited in between."""
        with suppress(OSError):
            if content := self.shown(path):
                self.world.given_up.add(content)

    # -- how it is done

    @abstractmethod
    def shown(self, path: str) -> bytes | None:
        """Return what a program finds at a path; None for a directory. Raises OSError where there is nothing."""

    @abstractmethod
    async def put(self, path: str, data: bytes, *, pause_s: float = 0.0) -> None:
        """Write a file as ``open(path, "wb")`` does, in two parts where there is a pause."""

    @abstractmethod
    async def look(self, path: str, pause_s: float) -> None:
        """Read a file in two parts, and check that they are of one version."""

    @abstractmethod
    async def move(self, old: str, new: str) -> None:
        """Rename, once both places are known to be there, giving up what is at the new one."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Unlink a file, once its directory is known to be there, giving it up."""

    @abstractmethod
    def make_directory(self, path: str) -> None:
        """Make a directory."""

    @abstractmethod
    def remove_directory(self, path: str) -> None:
        """Remove a directory."""

    # -- what is done

    async def write(self) -> None:
        await self.put(self.path(), self.world.fresh(self.client.name))

    async def save(self) -> None:
        """Write a new file and rename it over the old one, as editors do."""
        path = self.path()
        temporary = f"{path}.tmp{self.world.count}"
        await self.put(temporary, self.world.fresh(self.client.name))
        if self.client.is_up:
            await self.move(temporary, path)

    async def unlink(self) -> None:
        self.remove(self.path())

    async def rename(self) -> None:
        await self.move(self.path(), self.path())

    async def rename_directory(self) -> None:
        await self.move(self.dice.choice("def"), self.dice.choice(["d", "e", "f", "d/f", "e/d"]))

    async def mkdir(self) -> None:
        path = self.dice.choice(["d", "e", "f", "d/f"])
        self.note(f"mkdir {path}")
        self.make_directory(path)

    async def rmdir(self) -> None:
        path = self.dice.choice(["d", "e", "f", "d/f"])
        self.note(f"rmdir {path}")
        self.remove_directory(path)

    async def read(self) -> None:
        await self.look(self.path(), 0.0)

    async def read_slowly(self) -> None:
        self.spawn(self.look(self.path(), self.dice.random() * 3))

    async def write_slowly(self) -> None:
        pause_s = self.dice.choice([0.05, 1.0, 7.0])
        self.spawn(self.put(self.path(), self.world.fresh(self.client.name), pause_s=pause_s))

    def spawn(self, work: Awaitable[None]) -> None:
        self.background.append(asyncio.ensure_future(self.attempt(work)))

    async def finish(self) -> None:
        """Let what runs in the background come to its end; what a dead machine's programs wait for never comes."""
        for task in self.background:
            with suppress(TimeoutError):
                await asyncio.wait_for(task, 120)


class MountPrograms(Programs):
    """What runs on a machine with a mount."""

    def __init__(self, client: Client, world: World) -> None:
        super().__init__(world)
        self.client: Client = client

    def shown(self, path: str) -> bytes | None:
        return self.client.shown(path)

    async def put(self, path: str, data: bytes, *, pause_s: float = 0.0) -> None:
        client, vfs, life = self.client, self.client.vfs, self.client.lives
        handle = self._open(path, data)
        try:
            if await self._write(handle, data, pause_s, life):
                await self._close(handle, data, life)
        except (OSError, JobfsError):
            if client.is_up and client.lives == life:
                self.world.known.add(self._bytes(handle))
                vfs.release(handle)
            raise

    def _open(self, path: str, data: bytes) -> Handle:
        client, vfs = self.client, self.client.vfs
        parent, name = client.place(path)
        if vfs.namespace.find(parent, name) is None:
            self.note(f"create {path} {label(data)}")
            with self._whole_or_not("create"):
                made, handle = vfs.create(parent, name, mode=0o644, flags=os.O_WRONLY)
            client.in_place[made.inode] += 1
            return handle
        node = client.node(path)
        self.note(f"overwrite {path} {label(data)}")
        with self._whole_or_not("open"):
            self.give_up(path)
            handle = vfs.open(node, os.O_WRONLY | os.O_TRUNC)
        client.in_place[node] += 1
        return handle

    async def _write(self, handle: Handle, data: bytes, pause_s: float, life: int) -> bool:
        """Write a file, as the C library does, until all is written; tell whether the machine outlived that."""
        client, node = self.client, handle.inode.node
        expected = b""
        for part in (data[: len(data) // 2], data[len(data) // 2 :]) if pause_s else (data,):
            if expected:
                await asyncio.sleep(pause_s)
            if client.lives != life or not client.is_up:
                return False
            before = self._bytes(handle)
            if before != expected:
                self.world.given_up.add(before)  # another program wrote to the same file meanwhile
            client.in_place[node] += 1
            rest = part
            while rest:
                written = await client.vfs.write(handle, rest, len(expected))
                expected, rest = expected + rest[:written], rest[written:]
                self.world.known.add(self._bytes(handle))
        return True

    async def _close(self, handle: Handle, data: bytes, life: int) -> None:
        client, node = self.client, handle.inode.node
        whole = self._bytes(handle)
        await client.vfs.flush(handle)
        client.in_place[node] += 1
        if client.is_up and client.lives == life and not handle.inode.is_detached and whole == data:
            self.world.written.add(data)
            self.note(f"closed {label(data)}")
        client.vfs.release(handle)

    @contextmanager
    def _whole_or_not(self, what: str) -> Iterator[None]:
        """Make sure that what a program is told to have failed, because of the disk, has changed nothing."""
        client = self.client
        if client.store_disk is None:
            yield
            return
        life, before, given_up = client.lives, client.tree(), set(self.world.given_up)
        try:
            yield
        except (OSError, StateError) as error:
            if client.is_up and client.lives == life and errno_of(error) in (errno.EIO, errno.ENOSPC):
                self.note(f"{what} fails: {error}")
                self.world.given_up = given_up
                if client.tree() != before:
                    self.world.fail(f"{client.name}: {what} failed, and changed something")
            raise

    def _bytes(self, handle: Handle) -> bytes:
        """Return what a file that is being written holds."""
        blob = self.client.vfs.namespace.record(handle.inode.node).blob
        return self.client.state.blobs.path(blob).read_bytes() if blob is not None else b""

    async def move(self, old: str, new: str) -> None:
        places = (*self.client.place(old), *self.client.place(new))
        self.client.node(old)
        self.note(f"rename {old} {new}")
        with self._whole_or_not("rename"):  # nothing else comes in between: all names are the server's as well
            if old != new:
                self.give_up(new)
            await self.client.vfs.rename(*places)

    def remove(self, path: str) -> None:
        place = self.client.place(path)
        self.note(f"unlink {path}")
        with self._whole_or_not("unlink"):
            self.give_up(path)
            self.client.vfs.unlink(*place)

    def make_directory(self, path: str) -> None:
        place = self.client.place(path)
        with self._whole_or_not("mkdir"):
            self.client.vfs.make(*place, Kind.DIRECTORY, mode=0o755)

    def remove_directory(self, path: str) -> None:
        place = self.client.place(path)
        with self._whole_or_not("rmdir"):
            self.client.vfs.rmdir(*place)

    async def look(self, path: str, pause_s: float) -> None:
        client, vfs, life = self.client, self.client.vfs, self.client.lives
        node = client.node(path)
        handle = vfs.open(node, os.O_RDONLY)
        changes = client.in_place[node]
        try:
            size = vfs.namespace.record(node).content.size  # type: ignore[union-attr]
            data = await vfs.read(handle, size // 2, 0)
            await asyncio.sleep(pause_s)
            if client.lives == life and client.is_up:
                data += await vfs.read(handle, 1 << 20, len(data))
                if client.in_place[node] == changes and client.is_up and data not in self.world.known:
                    self.world.fail(f"{client.name} read at {path} what nobody wrote: {data[:60]!r} ({len(data)})")
        finally:
            if client.lives == life and client.is_up:
                vfs.release(handle)


class Expert:
    """The job's own program, which writes in its sandbox."""

    def __init__(self, world: World, server: SimulatedServer) -> None:
        self.world = world
        self.server = server
        self.dice = world.loop.dice

    def step(self) -> None:
        tree = self.server.tree()
        real = [path for path in tree if ".jobfs-" not in path]
        with suppress(Refused):
            if self.dice.random() < 0.25 and real:
                self._delete(self.dice.choice(real))
                return
            path = self.dice.choice(["", "d/", "e/", "out/"]) + self.dice.choice(["a", "b", "r.md"])
            data = self.world.fresh("expert")
            self.world.note(f"expert : write {path} {label(data)}")
            self.world.given_up.update(self.server.put(path, data))
            self.world.written.add(data)

    def _delete(self, path: str) -> None:
        self.world.note(f"expert : delete {path}")
        self.world.given_up.update(self.server.below(path))
        self.server.delete(path)
