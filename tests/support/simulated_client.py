"""The scene, the all-knowing observer, and the machines of the simulation (``simulation``), each with a real engine."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from simulated_server import Line, SimulatedServer, Weather
from virtual_loop import VirtualLoop

from jobfs.engine.compose import mirror_session
from jobfs.engine.session import Options, Session
from jobfs.errors import JobfsError
from jobfs.model import ROOT, Kind, NodeId
from jobfs.planner.ignore import Ignore
from jobfs.server.switches import Switches
from jobfs.store.state import State
from jobfs.vfs.operations import Vfs

SIZES = [20, 20, 20, 300, 2000]
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
