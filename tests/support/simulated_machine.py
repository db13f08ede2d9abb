"""The scene, the all-knowing observer, and what all machines of the simulation (``simulation``) have in common.

A machine can die at any step, and is started again on what it left.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from simulated_disk import DiskWeather
from simulated_server import Line, SimulatedServer, Weather
from simulated_store import BadDisk, StoreWeather, connect
from virtual_loop import VirtualLoop

from jobfs.engine.session import Session
from jobfs.errors import JobfsError, StateError
from jobfs.planner.plan import ConflictPolicy
from jobfs.server.switches import Switches
from jobfs.store.state import State

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
    folders: tuple[int, ...] = ()
    """Which of the clients are folders."""
    disk: DiskWeather = field(default_factory=DiskWeather)
    missed: float = 0.0
    """Probability that the system tells nothing of a change in a folder."""
    reuses_numbers: bool = True
    """Whether the file system gives out inode numbers again."""
    policy: ConflictPolicy = ConflictPolicy.KEEP_BOTH
    """Of the folders."""
    store: StoreWeather | None = None
    """Of the disks that the stores are on; None: they never fail."""

    def with_bad_stores(self, loop: VirtualLoop) -> Scene:
        """Return the same scene with stores on disks that fail."""
        bad = loop.dice.choice([0.001, 0.004, 0.02])
        return replace(self, store=StoreWeather(broken=bad * loop.dice.random(), full=bad * loop.dice.random()))

    @classmethod
    def with_folders(cls, loop: VirtualLoop) -> Scene:
        """Return a scene in which some of the clients are folders, on disks that may be bad."""
        scene, dice = cls.of(loop), loop.dice
        bad = dice.choice([0.0, 0.0, 0.002, 0.02])
        return replace(
            scene,
            folders=tuple(number for number in range(scene.clients) if not number or dice.random() < 0.3),
            disk=DiskWeather(broken=bad * dice.random(), full=bad * dice.random()),
            missed=dice.choice([0.0, 0.0, 0.1, 1.0]),
            reuses_numbers=dice.random() < 0.7,
            policy=dice.choice([ConflictPolicy.KEEP_BOTH, ConflictPolicy.KEEP_BOTH, ConflictPolicy.REMOTE]),
        )

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


class Machine(ABC):
    """One machine with the workspace on it."""

    session: Session
    state: State
    line: Line

    def __init__(self, name: str, directory: Path, world: World, server: SimulatedServer, scene: Scene) -> None:
        self.name = name
        self.world = world
        self.loop = world.loop
        self.server = server
        self.scene = scene
        self.directory = directory
        self.lives = 0
        self.is_up = False
        self.may_die = True
        self.store_disk: BadDisk | None = None
        self._revival: asyncio.Task[None] | None = None

    @abstractmethod
    async def start(self, *, is_first: bool) -> None:
        """Begin a life on what the last one left."""

    @abstractmethod
    async def end(self, session: Session) -> None:
        """End what still goes on of a dead life."""

    @abstractmethod
    async def stop(self) -> None:
        """End in order."""

    @abstractmethod
    async def settle(self) -> None:
        """Do whatever is left to do."""

    @abstractmethod
    def tree(self) -> dict[str, bytes | None]:
        """Return what a program sees: path to bytes, None for directories."""

    @contextmanager
    def observed(self) -> Iterator[None]:
        """Let nothing fail for the length of a block: it is not the machine that looks."""
        if self.store_disk is None:
            yield
        else:
            with self.store_disk.spared():
                yield

    def open_state(self) -> None:
        """Begin the next life's record and line."""
        self.lives += 1
        self.world.note(f"{self.name} starts")
        self.line = Line(self.name, self.loop, self.server, self.scene.weather, self.world.note, self.may_die_now)
        try:
            self.state = self._open(self._home())
        except StateError:
            self.lives -= 1
            raise
        self._watch(self.state)

    def _open(self, home: Path) -> State:
        if self.scene.store is None:
            return State.open(home, connect=connect)
        self.store_disk = BadDisk(lambda: self.scene.store or StoreWeather(), self.line.throw)
        return State.open(home, connect=self.store_disk.connect, system=self.store_disk)

    def set_scene(self, scene: Scene) -> None:
        """Let line and disk be as a scene says from now on."""
        self.scene = scene
        self.line.weather = scene.weather

    def token(self) -> str:
        """Return eight letters for a hidden name."""
        return "".join(self.loop.dice.choice("abcdefgh") for _ in range(8))

    def trust_listings(self) -> None:
        """Note with each listing that the session takes in from when on it tells of everything."""
        line, listed = self.line, self.session.listed

        def on_listed() -> None:
            line.trusted_s = line.listed_s
            listed()

        self.session.listed = on_listed  # type: ignore[method-assign]

    def _home(self) -> Path:
        return self.directory / f"{self.name}.{self.lives}"

    def _watch(self, state: State) -> None:
        transaction, remove = state.transaction, state.blobs.remove

        @contextmanager
        def watched(*, durable: bool = False) -> Iterator[None]:
            with transaction(durable=durable):
                yield
            self.may_die_now()

        def removed(blob: object) -> None:
            self.may_die_now()
            remove(blob)  # type: ignore[arg-type]

        state.transaction = watched  # type: ignore[method-assign]
        state.blobs.remove = removed  # type: ignore[method-assign]

    # -- death

    def may_die_now(self) -> None:
        """Die, or not."""
        if self.is_up and self.may_die and self.line.throw(self.scene.deaths):
            self.die()

    def die(self, how: str = "dies") -> None:
        """End at once: the next life gets the files as they are at this moment, and nothing of this one goes on."""
        self.world.note(f"{self.name} {how}")
        self.is_up = False
        self.line.is_dead = True
        dead = self._home()
        self.lives += 1
        shutil.copytree(dead, self._home(), ignore=shutil.ignore_patterns("lock", "*-shm"))
        self.lives -= 1
        self._revival = self.loop.create_task(self._revive(self.session, self.state))

    async def _revive(self, session: Session, state: State) -> None:
        with suppress(JobfsError):  # of the dead: nobody is there to be told
            await self.end(session)
        state.close()
        await asyncio.sleep(self.loop.dice.random() * 2)
        while not await self._is_started():
            await asyncio.sleep(1)
        self.check_base()

    async def _is_started(self) -> bool:
        """Begin the next life, unless its disk does not let it."""
        lives, session = self.lives, self.session
        try:
            await self.start(is_first=False)
        except StateError as error:
            self.world.note(f"{self.name} cannot start: {error}".replace(f"{self.directory}/", ""))
            if self.lives > lives:
                if self.session is not session:
                    await self.end(self.session)
                self.state.close()
                self.lives = lives
            return False
        return True

    async def revived(self) -> None:
        """Return when it is up, for good."""
        self.may_die = False
        while not self.is_up and self._revival is not None:
            await self._revival

    # -- looking

    def check_base(self) -> None:
        """Make sure that base claims nothing that the server never had."""
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
