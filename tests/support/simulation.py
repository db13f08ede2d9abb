"""The engine in simulated time, from one seed: clients, their programs, an expert, bad lines, and death at any step.

Real are the planner, the session, the pusher, the hydrator, the feed, the vfs and the store with its SQLite, and of a
synchronised folder all but the operating system; simulated are time, chance, threads, the server (its rules are the
embedded server's own), the line to it, and the disk of a folder with what the system tells of it. The disk of a local
store is real; with one seed in sixteen it fails at times. ``simulate`` plays one seed, and checks
all along and at the end:

- what a program was told to have failed, because of its disk, changed nothing;
- what a program read was one version, whole, that somebody wrote;
- no file in a folder is destroyed whose bytes are not on the server, in the history or under another name;
- every version that was closed is on the server or in a local history, unless somebody who saw it replaced or deleted
  it, or a directory was deleted that it had come to unseen (no request of the API is conditional);
- no version stands at two paths by our doing (with one client that never died: what a lost request made and another
  client then moved away cannot be told from a stranger's);
- base claims nothing that the server never had;
- when the faults stop, every client shows what the server has, within a bounded number of rounds, and nothing hidden
  is left, on the server or in a folder.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias
from unittest import mock

from kept_versions import kept_bytes
from simulated_client import Client
from simulated_disk import DiskWeather
from simulated_folder import FolderClient, FolderPrograms
from simulated_machine import Machine, Scene, World
from simulated_programs import Expert, MountPrograms, Programs
from simulated_server import SimulatedServer, Weather, label
from simulated_store import StoreWeather
from virtual_loop import VirtualLoop, run_virtually

from jobfs.engine import feed, session

MAX_ROUNDS = 15


class Violation(AssertionError):
    """A promise was broken."""


@dataclass(frozen=True)
class Outcome:
    """What came of a seed.

    :param digest: of the trace; the same for the same seed.
    :param problem: which promise was broken; empty where none was.
    """

    seed: int
    digest: str
    problem: str
    trace: list[str]


class _Scribe(logging.Handler):
    """Puts the log into the trace; an error in it is a broken promise."""

    def __init__(self, world: Callable[[], World | None], directory: Path) -> None:
        super().__init__()
        self._world = world
        self._directory = f"{directory}/"  # which is another one each time

    def emit(self, record: logging.LogRecord) -> None:
        world = self._world()
        if world is None:
            return
        world.note(f"  {record.name}: {record.getMessage()}".replace(self._directory, ""))
        if record.levelno >= logging.ERROR:
            error = record.exc_info[1] if record.exc_info else None
            where = "".join(traceback.format_exception(error)[-9:]) if error is not None else ""
            world.fail(f"{record.getMessage()} {where}")


MakeScene: TypeAlias = Callable[[VirtualLoop], Scene]


def simulate(seed: int, directory: Path, make_scene: MakeScene = Scene.of) -> Outcome:
    """Play one seed in a directory of its own, which is removed afterwards. Blocks for some tens of milliseconds."""
    with tempfile.TemporaryDirectory(dir=directory, ignore_cleanup_errors=True) as own:
        return _simulate(seed, Path(own), make_scene)


def memory_directory() -> Path | None:
    """Return a directory in memory, where there is one: a run's SQLite files need no disk."""
    shared = Path("/dev/shm")
    return shared if os.access(shared, os.W_OK) else None


def _simulate(seed: int, directory: Path, make_scene: MakeScene) -> Outcome:
    world: World | None = None

    async def work(loop: VirtualLoop) -> None:
        nonlocal world
        world = World(loop)
        play = loop.create_task(_play(loop, world, directory, _scene(seed, loop, make_scene)))
        await asyncio.wait({play, world.failed}, return_when=asyncio.FIRST_COMPLETED)
        if world.failed.done():
            raise Violation(world.failed.result())
        await play

    problem = ""
    scribe = _Scribe(lambda: world, directory)
    log = logging.getLogger("jobfs")
    log.addHandler(scribe)
    level, log.propagate = log.level, False
    log.setLevel(logging.INFO)
    try:
        with _in_parts(seed):
            run_virtually(seed, work)
    except Violation as violation:
        problem = str(violation)
    finally:
        log.removeHandler(scribe)
        log.propagate = True
        log.setLevel(level)
    assert world is not None
    digest = hashlib.sha256("\n".join([*world.trace, problem]).encode()).hexdigest()
    return Outcome(seed, digest, problem, world.trace)


def _scene(seed: int, loop: VirtualLoop, make_scene: MakeScene) -> Scene:
    """Return what a seed plays; one in sixteen has its stores on disks that fail."""
    scene = make_scene(loop)
    return scene.with_bad_stores(loop) if seed % 16 == 1 and scene.store is None else scene


@contextmanager
def _in_parts(seed: int) -> Iterator[None]:
    """Let small workspaces, with some seeds, go the ways of large ones: in parts, and partly in threads."""
    if seed % 16 not in (11, 13):
        yield
        return
    with mock.patch.object(feed, "PART_ROWS", 1), mock.patch.object(session, "PART_NODES", 2):
        yield


async def _play(loop: VirtualLoop, world: World, directory: Path, scene: Scene) -> None:
    dice = loop.dice
    bad, bad_disk = scene.weather, scene.disk
    bad_store = scene.store
    fair = replace(scene, weather=Weather(delay_s=bad.delay_s), disk=DiskWeather(), store=bad_store and StoreWeather())
    server = SimulatedServer(loop, scene.switches)
    for path, data in (("a", b"base-a." * 3), ("d", None), ("d/b", b"base-b." * 3)):
        server.put(path, data)
        world.known.add(data or b"")
    programs = [_programs(number, directory, world, server, fair) for number in range(scene.clients)]
    clients = [one.client for one in programs]
    expert = Expert(world, server)
    for client in clients:
        client.may_die = False
        await client.start(is_first=True)
        client.may_die = True
        client.set_scene(scene)
    for _ in range(scene.steps):
        if scene.has_expert and dice.random() < 0.2:
            server.status = dice.choice(["running", "completed"])
            expert.step()
        one = dice.choice(programs)
        if one.client.is_up:
            await one.step()
        if dice.random() < 0.2 and one.client.is_up:
            one.client.session.feed.request()
        if dice.random() < 0.7:
            await asyncio.sleep(dice.random() * scene.pause_s)
    bad.clear()
    bad_disk.clear()
    if bad_store is not None:
        bad_store.clear()
    server.status = "completed"
    for client in clients:
        await client.revived()
    for one in programs:
        await one.finish()
    await _converge(clients, server)
    _check_end(clients, server, world)
    for client in clients:
        await client.stop()


def _programs(number: int, directory: Path, world: World, server: SimulatedServer, scene: Scene) -> Programs:
    name = f"c{number}"
    if number in scene.folders:
        return FolderPrograms(FolderClient(name, directory, world, server, scene), world)
    return MountPrograms(Client(name, directory, world, server, scene), world)


async def _converge(clients: list[Machine], server: SimulatedServer) -> None:
    for _ in range(MAX_ROUNDS):
        for client in clients:
            await client.settle()
        await asyncio.sleep(5)
        if all(client.tree() == server.tree() and not client.session.unsynced() for client in clients):
            return
    problems = []
    for client in clients:
        mine, theirs = client.tree(), server.tree()
        lines = [
            f"{path}: {_mark(mine, path)} here, {_mark(theirs, path)} there"
            for path in sorted(mine.keys() | theirs.keys())
            if mine.get(path, 0) != theirs.get(path, 0)
        ]
        lines += [f"{left.path}: {left.reason}" for left in client.session.unsynced()]
        if lines:
            problems.append(f"{client.name}: " + "; ".join(lines))
    raise Violation(f"no agreement after {MAX_ROUNDS} rounds: " + " | ".join(problems))


def _mark(tree: dict[str, bytes | None], path: str) -> str:
    if path not in tree:
        return "nothing"
    data = tree[path]
    return "a directory" if data is None else label(data)


def _check_end(clients: list[Machine], server: SimulatedServer, world: World) -> None:
    tree = server.tree()
    litter = [path for path in tree if ".jobfs-" in path]
    if litter:
        raise Violation(f"litter: {litter}")
    contents = Counter(data for data in tree.values() if data)
    kept = set(contents) | server.destroyed_unseen
    for client in clients:
        kept |= set(kept_bytes(client.state))
        if wrong := client.state.check():
            raise Violation(f"{client.name}: {wrong}")
        client.check_base()
    lost = sorted(map(label, world.written - world.given_up - kept))
    if lost:
        raise Violation(f"lost: {lost}")
    twice = [label(data) for data, count in contents.items() if count > 1]
    if twice and len(clients) == 1 and clients[0].lives == 1:
        raise Violation(f"at two places: {twice}")
