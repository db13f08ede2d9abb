"""The engine in simulated time, from one seed: clients, their programs, an expert, bad lines, and death at any step.

Real are the planner, the session, the pusher, the hydrator, the feed, the vfs and the store with its SQLite; simulated
are time, chance, threads, the server (its rules are the embedded server's own) and the line to it. ``simulate`` plays
one seed and checks all along and at the end:

- what a program read was one version, whole, that somebody wrote;
- every version that was closed is on the server or in a local history, unless somebody who saw it replaced or deleted
  it, or a directory was deleted that it had come to unseen (no request of the API is conditional);
- no version stands at two paths by our doing (where nobody died: what a dead client's last request made and another
  client then moved away cannot be told from a stranger's);
- base claims nothing that the server never had;
- when the faults stop, every client shows what the server has, within a bounded number of rounds, and nothing hidden
  is left.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from simulated_server import Line, SimulatedServer, Weather, label
from virtual_loop import VirtualLoop, run_virtually

from jobfs.engine.compose import mirror_session
from jobfs.engine.session import Options, Session
from jobfs.errors import JobfsError
from jobfs.model import ROOT, Kind, NodeId
from jobfs.planner.ignore import Ignore
from jobfs.server.refusals import Refused
from jobfs.server.switches import Switches
from jobfs.store.state import State
from jobfs.vfs.inodes import Handle
from jobfs.vfs.operations import Vfs

NAMES = ["a", "b", "c.txt"]
DIRECTORIES = ["", "d/", "e/"]
SIZES = [20, 20, 20, 300, 2000]
MAX_ROUNDS = 15
MAX_LINES = 5000


@dataclass(frozen=True)
class Scene:
    """What a seed plays. All of it follows from the seed; a test may give its own."""

    clients: int
    steps: int
    has_expert: bool
    deaths: float
    """Probability of a death at each request and each transaction."""
    pause_s: float
    """The longest pause between two steps."""
    weather: Weather
    switches: Switches

    @classmethod
    def of(cls, loop: VirtualLoop) -> Scene:
        dice = loop.dice
        bad = dice.choice([0.0, 0.02, 0.08])
        weather = Weather(delay_s=dice.choice([0.001, 0.02, 0.3]), late_s=2.0)
        for fault in ("lost", "lost_reply", "failed", "failed_after", "limited", "cut", "late"):
            setattr(weather, fault, bad * dice.random())
        switches = Switches(
            dir_move=dice.choice(["cascade", "cascade", "orphan"]),
            list_order=dice.choice(["created", "shuffled"]),
            range=dice.choice(["ignore", "honour"]),
        )
        return cls(
            clients=dice.choice([1, 2, 2, 3]),
            steps=dice.choice([12, 25, 40]),
            has_expert=dice.random() < 0.4,
            deaths=dice.choice([0.0, 0.0, 0.005, 0.02]),
            pause_s=dice.choice([0.02, 0.2, 3.0]),
            weather=weather,
            switches=switches,
        )


class Violation(AssertionError):
    """A promise was broken."""


class World:
    """What is true of the whole run, as an all-knowing observer writes it down."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.trace: list[str] = []
        self.failed: asyncio.Future[str] = loop.create_future()
        self.known: set[bytes] = {b""}
        """Every content that some program or the expert ever made, steps between included."""
        self.written: set[bytes] = set()
        """What was written and closed."""
        self.given_up: set[bytes] = set()
        self.count = 0

    def note(self, line: str) -> None:
        self.trace.append(f"{self.loop.time():11.4f} {line}")
        if len(self.trace) > MAX_LINES:
            self.fail("it never comes to rest")

    def fail(self, problem: str) -> None:
        """End the run: a promise was broken, seen where raising would only end one of many tasks."""
        if not self.failed.done():
            self.failed.set_result(problem)

    def fresh(self, who: str) -> bytes:
        """Return a content that nobody has written yet."""
        self.count += 1
        mark = f"{who}{self.count}."
        size = self.loop.dice.choice(SIZES)
        data = (mark * (size // len(mark) + 1))[:size].encode()
        self.known.add(data)
        return data


class Client:
    """One machine with the workspace mounted: it can die at any step, and is started again on what it left."""

    session: Session
    vfs: Vfs
    state: State

    def __init__(self, name: str, directory: Path, world: World, server: SimulatedServer, scene: Scene) -> None:
        self.name = name
        self.world = world
        self.loop = world.loop
        self.server = server
        self.scene = scene
        self._directory = directory
        self.lives = 0
        self.is_up = False
        self.may_die = True
        self.in_place: Counter[NodeId] = Counter()
        self._revival: asyncio.Task[None] | None = None

    async def start(self, *, is_first: bool) -> None:
        self.lives += 1
        self.world.note(f"{self.name} starts")
        self.line = Line(self.name, self.loop, self.server, self.scene.weather, self.world.note, self._may_die)
        self.state = State.open(self._home())
        self._watch(self.state)
        self.session = mirror_session(
            self.state,
            self.line,
            ignore=Ignore(),
            host=self.name,
            options=Options(max_deletions=None),
            clock=self.loop.clock,
            tokens=lambda: "".join(self.loop.dice.choice("abcdefgh") for _ in range(8)),
        )
        listed = self.session.listed

        def on_listed() -> None:
            self.line.trusted_s = self.line.listed_s
            listed()

        self.session.listed = on_listed  # type: ignore[method-assign]
        await self.session.start(wait_for_listing=is_first)
        self.vfs = Vfs(self.session, reports={})
        self.is_up = True

    def _home(self) -> Path:
        return self._directory / f"{self.name}.{self.lives}"

    def _watch(self, state: State) -> None:
        transaction, remove = state.transaction, state.blobs.remove

        @contextmanager
        def watched(*, durable: bool = False) -> Iterator[None]:
            with transaction(durable=durable):
                yield
            self._may_die()

        def removed(blob: object) -> None:
            self._may_die()
            remove(blob)  # type: ignore[arg-type]

        state.transaction = watched  # type: ignore[method-assign]
        state.blobs.remove = removed  # type: ignore[method-assign]

    def _may_die(self) -> None:
        if self.is_up and self.may_die and self.line.throw(self.scene.deaths):
            self.die()

    def die(self) -> None:
        """End at once: the next life gets the files as they are at this moment, and nothing of this one goes on."""
        self.world.note(f"{self.name} dies")
        self.is_up = False
        self.line.is_dead = True
        dead = self._home()
        self.lives += 1
        shutil.copytree(dead, self._home(), ignore=shutil.ignore_patterns("lock", "*-shm"))
        self.lives -= 1
        self._revival = self.loop.create_task(self._revive(self.session, self.state))

    async def _revive(self, session: Session, state: State) -> None:
        with suppress(JobfsError):  # of the dead: nobody is there to be told
            await session.stop()
        state.close()
        await asyncio.sleep(self.loop.dice.random() * 2)
        await self.start(is_first=False)
        self._check_base()

    async def revived(self) -> None:
        """Return when it is up, for good."""
        self.may_die = False
        while not self.is_up and self._revival is not None:
            await self._revival

    async def stop(self) -> None:
        await self.session.stop()
        self.state.close()

    # -- looking

    def node(self, path: str) -> NodeId:
        node = ROOT
        for name in path.split("/") if path else ():
            node = self.vfs.lookup(node, name).inode
        return node

    def place(self, path: str) -> tuple[NodeId, str]:
        above, _, name = path.rpartition("/")
        return self.node(above), name

    def content(self, node: NodeId) -> bytes | None:
        """Return what a file is at this moment, wherever its bytes are; None for a directory."""
        record = self.vfs.namespace.record(node)
        if record.kind is Kind.DIRECTORY:
            return None
        if record.blob is not None:
            return self.state.blobs.path(record.blob).read_bytes()
        revision = record.content.revision if record.content is not None else None
        return b"" if revision is None else self.server.contents[revision.key]

    def tree(self) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}

        def walk(directory: NodeId, prefix: str) -> None:
            for name, node in list(self.vfs.names(directory)):
                found[prefix + name] = content = self.content(node)
                if content is None:
                    walk(node, f"{prefix}{name}/")

        walk(ROOT, "")
        return found

    def _check_base(self) -> None:
        for entry in self.state.base.entries():
            revision = entry.content.revision if entry.content is not None else None
            if revision is None:
                continue
            versions = self.server.versions.get(revision.item, [])
            if revision.key not in versions or len(self.server.contents[revision.key]) != revision.size:
                self.world.fail(f"{self.name}: base claims {entry.name} {revision}, which the server never had")
                continue
            # A download may bring a version newer than the one listed last.
            newer = (self.server.contents[key] for key in versions[versions.index(revision.key) :])
            sha256 = entry.content.sha256 if entry.content is not None else None
            if sha256 is not None and sha256 not in (hashlib.sha256(data).hexdigest() for data in newer):
                self.world.fail(f"{self.name}: base claims other bytes for {entry.name} {revision}")


class Programs:
    """What runs on one client's machine."""

    def __init__(self, client: Client, world: World) -> None:
        self.client = client
        self.world = world
        self.dice = world.loop.dice
        self.background: set[asyncio.Task[None]] = set()

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
            if content := self.client.content(self.client.node(path)):
                self.world.given_up.add(content)

    async def put(self, path: str, data: bytes, *, pause_s: float = 0.0) -> None:
        """Write a file as ``open(path, "wb")`` does, in two parts where there is a pause."""
        client, vfs, life = self.client, self.client.vfs, self.client.lives
        parent, name = client.place(path)
        if vfs.namespace.find(parent, name) is None:
            self.note(f"create {path} {label(data)}")
            made, handle = vfs.create(parent, name, mode=0o644, flags=os.O_WRONLY)
            client.in_place[made.inode] += 1
        else:
            node = client.node(path)
            self.give_up(path)
            self.note(f"overwrite {path} {label(data)}")
            handle = vfs.open(node, os.O_WRONLY | os.O_TRUNC)
            client.in_place[node] += 1
        node = handle.inode.node
        expected = b""
        for part in (data[: len(data) // 2], data[len(data) // 2 :]) if pause_s else (data,):
            if expected:
                await asyncio.sleep(pause_s)
            if client.lives != life or not client.is_up:
                return
            before = self._bytes(handle)
            if before != expected:
                self.world.given_up.add(before)  # another program wrote to the same file meanwhile
            client.in_place[node] += 1
            await vfs.write(handle, part, len(expected))
            expected += part
            self.world.known.add(self._bytes(handle))
        whole = self._bytes(handle)
        await vfs.flush(handle)
        client.in_place[node] += 1
        if client.is_up and client.lives == life and not handle.inode.is_detached and whole == data:
            self.world.written.add(data)
            self.note(f"closed {label(data)}")
        vfs.release(handle)

    def _bytes(self, handle: Handle) -> bytes:
        """Return what a file that is being written holds."""
        blob = self.client.vfs.namespace.record(handle.inode.node).blob
        return self.client.state.blobs.path(blob).read_bytes() if blob is not None else b""

    async def write(self) -> None:
        await self.put(self.path(), self.world.fresh(self.client.name))

    async def save(self) -> None:
        """Write a new file and rename it over the old one, as editors do."""
        path = self.path()
        temporary = f"{path}.tmp{self.world.count}"
        await self.put(temporary, self.world.fresh(self.client.name))
        if self.client.is_up:
            self.give_up(path)
            self.note(f"rename {temporary} {path}")
            await self.client.vfs.rename(*self.client.place(temporary), *self.client.place(path))

    async def unlink(self) -> None:
        path = self.path()
        place = self.client.place(path)
        self.give_up(path)
        self.note(f"unlink {path}")
        self.client.vfs.unlink(*place)

    async def rename(self) -> None:
        await self._rename(self.path(), self.path())

    async def rename_directory(self) -> None:
        await self._rename(self.dice.choice("def"), self.dice.choice(["d", "e", "f", "d/f", "e/d"]))

    async def _rename(self, old: str, new: str) -> None:
        places = (*self.client.place(old), *self.client.place(new))
        self.client.node(old)
        if old != new:
            self.give_up(new)
        self.note(f"rename {old} {new}")
        await self.client.vfs.rename(*places)

    async def mkdir(self) -> None:
        path = self.dice.choice(["d", "e", "f", "d/f"])
        self.note(f"mkdir {path}")
        self.client.vfs.make(*self.client.place(path), Kind.DIRECTORY, mode=0o755)

    async def rmdir(self) -> None:
        path = self.dice.choice(["d", "e", "f", "d/f"])
        self.note(f"rmdir {path}")
        self.client.vfs.rmdir(*self.client.place(path))

    async def read(self) -> None:
        await self.look(self.path(), 0.0)

    async def read_slowly(self) -> None:
        self.spawn(self.look(self.path(), self.dice.random() * 3))

    async def write_slowly(self) -> None:
        pause_s = self.dice.choice([0.05, 1.0, 7.0])
        self.spawn(self.put(self.path(), self.world.fresh(self.client.name), pause_s=pause_s))

    async def look(self, path: str, pause_s: float) -> None:
        """Read a file in two parts, and check that they are of one version."""
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

    def spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(self.attempt(work))
        self.background.add(task)

    async def finish(self) -> None:
        """Let what runs in the background come to its end; what a dead machine's programs wait for never comes."""
        for task in self.background:
            with suppress(TimeoutError):
                await asyncio.wait_for(task, 120)


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

    def __init__(self, world: Callable[[], World | None]) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        world = self._world()
        if world is None:
            return
        world.note(f"  {record.name}: {record.getMessage()}")
        if record.levelno >= logging.ERROR:
            error = record.exc_info[1] if record.exc_info else None
            where = "".join(traceback.format_exception(error)[-9:]) if error is not None else ""
            world.fail(f"{record.getMessage()} {where}")


def simulate(seed: int, directory: Path, scene: Scene | None = None) -> Outcome:
    """Play one seed in a directory of its own, which is removed afterwards. Blocks for some tens of milliseconds."""
    with tempfile.TemporaryDirectory(dir=directory, ignore_cleanup_errors=True) as own:
        return _simulate(seed, Path(own), scene)


def memory_directory() -> Path | None:
    """Return a directory in memory, where there is one: a run's SQLite files need no disk."""
    shared = Path("/dev/shm")
    return shared if os.access(shared, os.W_OK) else None


def _simulate(seed: int, directory: Path, scene: Scene | None) -> Outcome:
    world: World | None = None

    async def work(loop: VirtualLoop) -> None:
        nonlocal world
        world = World(loop)
        play = loop.create_task(_play(loop, world, directory, scene or Scene.of(loop)))
        await asyncio.wait({play, world.failed}, return_when=asyncio.FIRST_COMPLETED)
        if world.failed.done():
            raise Violation(world.failed.result())
        await play

    problem = ""
    scribe = _Scribe(lambda: world)
    log = logging.getLogger("jobfs")
    log.addHandler(scribe)
    level, log.propagate = log.level, False
    log.setLevel(logging.INFO)
    try:
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


async def _play(loop: VirtualLoop, world: World, directory: Path, scene: Scene) -> None:
    dice = loop.dice
    bad, scene = scene.weather, replace(scene, weather=Weather(delay_s=scene.weather.delay_s))
    server = SimulatedServer(loop, scene.switches)
    for path, data in (("a", b"base-a." * 3), ("d", None), ("d/b", b"base-b." * 3)):
        server.put(path, data)
        world.known.add(data or b"")
    clients = [Client(f"c{number}", directory, world, server, scene) for number in range(scene.clients)]
    programs = [Programs(client, world) for client in clients]
    expert = Expert(world, server)
    for client in clients:
        client.may_die = False
        await client.start(is_first=True)
        client.may_die = True
        client.line.weather = bad
        client.scene = replace(scene, weather=bad)
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
    server.status = "completed"
    for client in clients:
        await client.revived()
    for one in programs:
        await one.finish()
    await _converge(clients, server)
    _check_end(clients, server, world)
    for client in clients:
        await client.stop()


async def _converge(clients: list[Client], server: SimulatedServer) -> None:
    for _ in range(MAX_ROUNDS):
        for client in clients:
            await client.session.drain(60)
            await client.session.feed.refresh()
            await client.session.drain(60)
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


def _check_end(clients: list[Client], server: SimulatedServer, world: World) -> None:
    tree = server.tree()
    litter = [path for path in tree if ".jobfs-" in path]
    if litter:
        raise Violation(f"litter: {litter}")
    contents = Counter(data for data in tree.values() if data)
    kept = set(contents) | server.destroyed_unseen
    for client in clients:
        kept |= {client.state.blobs.path(blob).read_bytes() for _, blob, _, _, _ in client.state.history()}
        if wrong := client.state.check():
            raise Violation(f"{client.name}: {wrong}")
        client._check_base()
    lost = sorted(map(label, world.written - world.given_up - kept))
    if lost:
        raise Violation(f"lost: {lost}")
    twice = [label(data) for data, count in contents.items() if count > 1]
    if twice and not any(client.lives > 1 for client in clients):
        raise Violation(f"at two places: {twice}")
