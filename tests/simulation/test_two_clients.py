"""Two mounts of one job, edited at random while the server fails one request in ten: they converge and nothing is lost.

Every write has bytes of its own. A version may be missing at the end only if somebody who saw it replaced or deleted
it.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
from engine_harness import QUICK, Mounted, mounted, run
from model_remote import ModelRemote

from jobfs.engine.session import Options
from jobfs.errors import JobfsError, OutcomeUnknown, ServerFailure, Unreachable
from jobfs.model import Kind

NAMES = ["a", "b", "c.txt"]
DIRECTORIES = ["", "d/", "e/"]
SEEDS = range(int(os.environ.get("JOBFS_FIRST_SEED", "0")), int(os.environ.get("JOBFS_LAST_SEED", "60")))


class Editor:
    """One client's programs, and the record of what they knowingly gave up."""

    def __init__(self, mount: Mounted, dice: random.Random, label: str, world: World) -> None:
        self.mount = mount
        self.dice = dice
        self.label = label
        self.world = world
        self.count = 0

    async def step(self) -> None:
        action = self.dice.choice([self.write, self.write, self.save, self.unlink, self.rename, self.mkdir, self.rmdir])
        try:
            await action()
        except (OSError, JobfsError):
            pass  # a name that is not there, a directory that is not empty: as for any program

    def path(self) -> str:
        return self.dice.choice(DIRECTORIES) + self.dice.choice(NAMES)

    def give_up(self, path: str) -> None:
        """Note that what is shown at a path now is replaced or deleted by who sees it; nothing may await in between."""
        try:
            record = self.mount.vfs.namespace.record(self.mount.node(path))
        except OSError:
            return
        state, remote = self.mount.session.state, self.mount.remote
        if record.blob is not None:
            self.world.given_up.add(state.blobs.path(record.blob).read_bytes())
        elif record.content is not None and (revision := record.content.revision) is not None:
            item = remote.items.get(revision.item)
            if item is not None and item.key == revision.key:
                self.world.given_up.add(remote.bytes[item.id])

    def fresh(self) -> bytes:
        self.count += 1
        return f"{self.label}{self.count}".encode()

    async def write(self) -> None:
        path, data = self.path(), self.fresh()
        self.give_up(path)
        self.world.written.add(data)
        try:
            await self.mount.write(path, data)
        except (OSError, JobfsError):
            self.world.written.discard(data)

    async def save(self) -> None:
        path, data = self.path(), self.fresh()
        temporary = f"{path}.tmp{self.count}"
        await self.mount.write(temporary, data)
        self.world.written.add(data)
        self.give_up(path)
        await self.mount.rename(temporary, path)

    async def unlink(self) -> None:
        path = self.path()
        self.give_up(path)
        self.mount.vfs.unlink(*self.mount.place(path))

    async def rename(self) -> None:
        old, new = self.path(), self.path()
        if self.dice.random() < 0.3:
            old, new = self.dice.choice(["d", "e", "f"]), self.dice.choice(["d", "e", "f"])
        self.mount.node(old)
        self.give_up(new)
        await self.mount.rename(old, new)

    async def mkdir(self) -> None:
        self.mount.vfs.make(*self.mount.place(self.dice.choice(["d", "e", "f"])), Kind.DIRECTORY, mode=0o755)

    async def rmdir(self) -> None:
        self.mount.vfs.rmdir(*self.mount.place(self.dice.choice(["d", "e", "f"])))


class World:
    def __init__(self) -> None:
        self.written: set[bytes] = set()
        self.given_up: set[bytes] = set()
        self.is_troubled = False


def tree_of(mount: Mounted) -> dict[str, int]:
    """Return what a client shows: path to size, -1 for directories."""
    found: dict[str, int] = {}

    def walk(prefix: str) -> None:
        for name in mount.names(prefix.rstrip("/")):
            attributes = mount.vfs.attributes(mount.node(prefix + name))
            found[prefix + name] = attributes.size if attributes.kind is Kind.FILE else -1
            if attributes.kind is Kind.DIRECTORY:
                walk(f"{prefix}{name}/")

    walk("")
    return found


async def play(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    remote = ModelRemote(children_follow=seed % 5 != 0)
    remote.put("a", b"base a")
    remote.put("d", None)
    remote.put("d/b", b"base b")
    world = World()

    def fail(name: str, subject: str) -> None:
        if world.is_troubled and dice.random() < 0.05:
            raise dice.choice([Unreachable, OutcomeUnknown, ServerFailure])("trouble")

    options = Options(times=replace(QUICK, trusted_s=0.02), max_deletions=None)
    async with (
        mounted(tmp_path / "1", remote, options=options) as one,
        mounted(tmp_path / "2", remote, options=options) as two,
    ):
        editors = [Editor(one, dice, "one-", world), Editor(two, dice, "two-", world)]
        remote.before = remote.after = fail
        world.is_troubled = True
        for _ in range(40):
            await dice.choice(editors).step()
            if dice.random() < 0.3:
                dice.choice(editors).mount.session.feed.request()
            if dice.random() < 0.4:
                await asyncio.sleep(dice.random() * 0.04)
        world.is_troubled = False
        for _ in range(12):
            for mount in (one, two):
                await mount.session.drain(10)
                await mount.session.feed.poll()
                await mount.session.drain(10)
        expected = {
            path: -1 if data is None else len(data) for path, data in remote.tree().items() if ".jobfs-" not in path
        }
        assert tree_of(one) == expected
        assert tree_of(two) == expected
        litter = [path for path in remote.tree() if ".jobfs-" in path]
        assert litter == [], f"litter {litter}"
        there = set(remote.tree().values())
        lost = sorted(world.written - world.given_up - there - remote.destroyed_unseen)  # type: ignore[type-var]
        assert lost == [], f"lost {lost}"
        for mount in (one, two):
            assert mount.session.state.check() == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.allow_log("unexpected|two strangers|changed by two others")
def test_two_clients_converge_and_lose_nothing(tmp_path: Path, seed: int) -> None:
    run(play(tmp_path, seed))
