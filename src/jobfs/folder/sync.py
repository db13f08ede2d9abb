"""Keep a real folder and a workspace in step: once, or until told to stop.

The composition of folder mode, and its clockwork: when to scan, what to do with what the watcher hears, when all is
done. The same session, planner and store as in a mount do the rest. Resumable at any point: what is left to do is
derived from the record, the folder and the server.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, unique
from pathlib import Path

from jobfs.engine.feed import FeedTimes
from jobfs.engine.hydrator import Hydrator
from jobfs.engine.leftover import Unsynced
from jobfs.engine.pusher import Outcome
from jobfs.engine.remote import Remote
from jobfs.engine.session import Options, Session, random_token
from jobfs.engine.trees import Trees
from jobfs.engine.workspace import Clock, SystemClock, Workspace
from jobfs.errors import DeadlineExceeded, FolderError, GuardTripped, JobfsError
from jobfs.folder.arrivals import Arrivals
from jobfs.folder.coalesce import EVERYWHERE, NOWHERE, Places, coalesce, reduced
from jobfs.folder.disk import Disk
from jobfs.folder.report import Ledger, Progress, Summary, SyncEvent, What, distinct, remote_event
from jobfs.folder.restore import FolderRestorer
from jobfs.folder.rhythm import POLL_S, Rhythm
from jobfs.folder.root import Root, real_root
from jobfs.folder.settle import MISSED_NS
from jobfs.folder.side import FolderSide
from jobfs.folder.trial import try_out
from jobfs.folder.watch import ObserverFactory, Watcher, system_observer
from jobfs.model import ROOT, NodeId, Problem
from jobfs.planner.ignore import IGNORE_FILE, Ignore
from jobfs.planner.plan import ConflictPolicy, RemoteChange
from jobfs.planner.retention import Wanted
from jobfs.store.state import LISTED, State

BURST_S = 0.01
"""Hints gather for so long before they are looked at: one save is several events."""

HEALTH_S = 10.0
"""So often it is checked that the watcher lives."""

_FAILURES = 5
_STILL_WRITTEN_S = 5.0
_LOOK_S = 10.0


@unique
class Direction(Enum):
    """Which side may change."""

    BOTH = "both"
    PUSH = "push"
    """Only the server: what is newer there is left alone, and what was deleted there is sent again."""
    PULL = "pull"
    """Only the folder: edits made here stay, as conflict copies where need be; what was deleted here comes back."""


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """How a folder is kept in step.

    :param watch: go on until stopped; else return once both sides agree.
    :param delete: whether a deletion on one side is one on the other; otherwise what was deleted comes back.
    :param conflict: whose content keeps the name when both sides changed it.
    :param ignore: patterns after those of ``.jobfsignore``.
    :param max_deletions: so many deletions never stop a plan; None: any number.
    :param is_trial: change nothing on either side; the summary's steps say what would be done.
    :param drain_s: when watching is stopped, so long the last changes may take.
    :param poll_s: where the system tells of no changes, the folder is looked at this often.
    :param history: see ``engine.session.Options``.
    :param host: this machine's name, for conflict copies.
    """

    direction: Direction = Direction.BOTH
    watch: bool = False
    delete: bool = True
    conflict: ConflictPolicy = ConflictPolicy.KEEP_BOTH
    ignore: tuple[str, ...] = ()
    max_deletions: int | None = 0
    is_trial: bool = False
    drain_s: float = 30.0
    poll_s: float = POLL_S
    history: Wanted = field(default_factory=Wanted)
    host: str = field(default_factory=platform.node)
    times: FeedTimes = field(default_factory=FeedTimes)

    @property
    def pushes(self) -> bool:
        """Whether the server may be changed."""
        return self.direction is not Direction.PULL

    @property
    def pulls(self) -> bool:
        """Whether the folder may be changed."""
        return self.direction is not Direction.PUSH


class FolderSync:
    """One folder and one workspace. Make it within the loop, and ``run`` it once.

    :param state: stays open, and is the caller's to close.
    :param root: the folder; made where it is missing and was never synchronised.
    :param progress: told of everything that is done, as it happens.
    :param make_disk, make_observer: seams for other file systems and systems.
    :param tokens: gives eight random letters for hidden names.
    """

    def __init__(
        self,
        state: State,
        remote: Remote,
        root: Path,
        *,
        options: SyncOptions | None = None,
        progress: Progress | None = None,
        clock: Clock | None = None,
        make_disk: Callable[[Path], Disk] = Disk,
        make_observer: ObserverFactory = system_observer,
        tokens: Callable[[], str] = random_token,
    ) -> None:
        self.options = options or SyncOptions()
        self._state = state
        self._clock = clock or SystemClock()
        self._disk = make_disk(real_root(root))
        self._make_observer = make_observer
        self._root = Root(self._disk, state)
        self._ledger = Ledger(progress)
        ignore = Ignore(extra=self.options.ignore)
        workspace = Workspace(state, ignore, self._clock, host=self.options.host, is_read_only=remote.is_read_only)
        self._workspace = workspace
        self._trees = Trees(state)
        arrivals = Arrivals(tokens)
        self.side = FolderSide(
            workspace,
            self._trees,
            self._disk,
            self._root,
            remote,
            ledger=self._ledger,
            restores_here=not self.options.pushes or not self.options.delete,
            restores_there=not self.options.pulls or not self.options.delete,
            arrivals=arrivals,
        )
        self.restorer = FolderRestorer(workspace, self._disk, arrivals, self._restored)
        self.session = self._make_session(remote, tokens)
        self._awake = asyncio.Event()
        self._stopped = asyncio.Event()
        self._gave_up = asyncio.Event()
        self._last_error: JobfsError | None = None
        self._failures = 0
        self._later: dict[str, int] = {}
        self._watcher: Watcher | None = None
        self._skipped: list[Unsynced] = []
        self._scanned = asyncio.Condition()
        self._scans = 0
        """Counts the scans of everything."""
        self._connect()

    def _make_session(self, remote: Remote, tokens: Callable[[], str]) -> Session:
        options = Options(
            policy=self.options.conflict,
            max_deletions=self.options.max_deletions,
            guards_pushes=True,
            pushes=self.options.pushes and not remote.is_read_only,
            pulls=self.options.pulls,
            history=self.options.history,
            times=self.options.times,
        )
        hydrator = Hydrator(self._workspace, remote, deadline_s=options.read_deadline_s)
        return Session(
            self._workspace,
            remote,
            self._trees,
            hydrator,
            side=self.side,
            recorder=self.side.recorder,
            options=options,
            tokens=tokens,
        )

    def _connect(self) -> None:
        session, side = self.session, self.side
        session.rules.read_local = side.read_local
        session.rules.on_change = lambda: side.want(EVERYWHERE)
        side.on_touched = self._touched
        side.on_wanted = self._awake.set
        side.on_outdated = lambda node: session.await_listing([node])
        side.on_postponed = self._postponed
        released, went_offline = session.pusher.on_done, session.pusher.on_error

        def on_done(change: RemoteChange, outcome: Outcome) -> None:
            if outcome is Outcome.DONE:
                self._failures = 0
                self._ledger.note(remote_event(change, self._state.base, side.deleted))
            released(change, outcome)

        def on_error(error: JobfsError) -> None:
            self._failed(error)
            went_offline(error)

        session.pusher.on_done = on_done
        session.pusher.on_error = on_error

    # -- what the parts tell

    def _restored(self, place: str) -> None:
        """Have a file looked at that was put back, and the directories that it needed."""
        names = place.split("/")
        self.side.want(Places(frozenset("/".join(names[: depth + 1]) for depth in range(len(names)))))

    def _touched(self, nodes: Collection[NodeId]) -> None:
        """Have nodes planned at once: they have rested while the scan waited for it."""
        self.session.look_again(nodes)
        self._workspace.touch(*nodes)

    def _postponed(self, node: NodeId, error: JobfsError) -> None:
        self._failed(error)
        self.session.postpone([node], error)

    def _failed(self, error: JobfsError) -> None:
        """Give up after so many failures in a row, when nobody is there to wait for better times."""
        self._failures += 1
        self._last_error = error
        if self._failures >= _FAILURES and not self.options.watch:
            self._gave_up.set()

    # -- running

    async def run(self) -> Summary:
        """Do what the options say.

        :return: what was done, once both sides agree, or after ``stop``.
        :raises FolderError: the folder is not there or not the one; nothing was taken for deleted.
        :raises GuardTripped: too much would be deleted (not while watching: there it is a problem).
        :raises ApiError: the server cannot be reached or does not take us.
        """
        self._refuse_mount()
        self._root.attach(is_trial=self.options.is_trial)
        self._root.learn_folding()
        if self.options.is_trial:
            return await self._try()
        if self.options.watch:
            self._watcher = Watcher(
                self._disk.root,
                probe=self._state.directory,
                on_hints=self._awake.set,
                make_observer=self._make_observer,
            )
            await asyncio.to_thread(self._watcher.start)
        try:
            await self._begin()
            if self._watcher is not None:
                await self._watch(self._watcher)
            else:
                await self._converge()
        finally:
            if self._watcher is not None:
                await asyncio.to_thread(self._watcher.stop)
            await self.session.stop()
        return self.summary()

    def stop(self) -> None:
        """End the watching: the last changes are still pushed, and then ``run`` returns."""
        self._stopped.set()
        self._awake.set()

    async def look(self) -> None:
        """Return once what is in the folder now is recorded; only while ``run`` watches.

        :raises DeadlineExceeded: the folder is not looked at, or is written without a pause.
        """
        before = self._scans
        self.side.want(EVERYWHERE)
        try:
            async with asyncio.timeout(_LOOK_S), self._scanned:
                await self._scanned.wait_for(lambda: self._scans > before and not self._later)
        except TimeoutError:
            raise DeadlineExceeded("the folder is being written to all the time", "try again when it rests") from None

    async def record(self) -> None:
        """Record what is in the folder now; only instead of ``run``. Nothing is asked of the server.

        :raises FolderError: the folder is not there or not the one.
        """
        self._refuse_mount()
        self._root.attach(is_trial=False)
        self._disk.learn_folding()
        await self._read_rules()
        await self._scan(EVERYWHERE)
        began_s = self._clock.monotonic_s()
        while await self._look_again(began_s):
            pass

    def summary(self) -> Summary:
        """Return what was done so far."""
        session = self.session
        problems: list[Problem] = [*self.side.problems(), *session.feed.problems, *session.plan_problems.values()]
        return Summary(
            counts=dict(self._ledger.counts),
            sent=self._ledger.sent,
            received=self._ledger.received,
            conflicts=distinct(session.conflicts),
            skipped=(*session.unsynced(), *self._skipped),
            problems=tuple(dict.fromkeys(problems)),
            guard=session.guard.detail,
        )

    def _refuse_mount(self) -> None:
        """Refuse a state in which a mount keeps its files: its tree is no record of this folder.

        :raises FolderError: it is one.
        """
        if any(record.inode == 0 and record.id != ROOT for record in self._state.local.entries()):
            raise FolderError(
                "this workspace was mounted here, and its state holds the mount's files",
                "end the mount and push what is left ('jobfs push'), then use another state folder",
            )

    async def _try(self) -> Summary:
        await self._read_rules()
        await self._scan(EVERYWHERE)
        began_s = self._clock.monotonic_s()
        while await self._look_again(began_s):
            pass
        return await try_out(
            self.side,
            self._trees,
            self.session.rules,
            self.session.remote,
            policy=self.options.conflict,
            max_deletions=self.options.max_deletions,
            pushes=self.session.options.pushes and not (self.session.hold.is_on and self.options.pulls),
            pulls=self.session.options.pulls,
        )

    async def _read_rules(self) -> None:
        await self._scan(Places(frozenset({IGNORE_FILE})))
        self.session.rules.start()
        self.side.take_wanted()

    async def _begin(self) -> None:
        self.session.refusals = self._state.refusals()  # what the scan finds changed since is refused no more
        is_known = self._state.setting(LISTED) is not None
        await self._read_rules()
        if not self.options.watch:
            await self._list_and_scan()
        else:
            await self._scan(EVERYWHERE)
        await self.session.start(wait_for_listing=not (self.options.watch and is_known))
        with self._state.transaction():
            self._state.remember(LISTED, "1")

    async def _list_and_scan(self) -> None:
        """Ask the server while the folder is looked at; what it lists is taken in when all here is recorded."""
        scan = asyncio.create_task(self._scan(EVERYWHERE))
        try:
            await self.session.feed.poll(until=scan)
        finally:
            scan.cancel()
            await asyncio.gather(scan, return_exceptions=True)

    async def _scan(self, places: Places) -> None:
        findings = await self.side.scan(places)
        self._later.update(findings.later)
        async with self._scanned:
            self._scans += EVERYWHERE.trees <= places.trees
            self._scanned.notify_all()

    # -- once

    async def _converge(self) -> None:
        began_s = self._clock.monotonic_s()
        while True:
            has_looked = await self._drain()
            if self.session.guard.detail:
                raise GuardTripped(self.session.guard.detail, "look at the plan first with --dry-run")
            if not await self._look_again(began_s) and not has_looked:
                return

    async def _look_again(self, began_s: float) -> bool:
        """Look at places whose time has come, waiting for it; tell whether there were any.

        A file that is written without a pause is left out after a while, and named in the summary.
        """
        if self._clock.monotonic_s() - began_s > _STILL_WRITTEN_S:
            self._skipped = [Unsynced(NodeId(0), place, "is still being written") for place in sorted(self._later)]
            self._later.clear()
        wait_s = self._next_look_s()
        if wait_s is None:
            return False
        await asyncio.sleep(wait_s)
        await self._scan(self._due())
        return True

    async def _drain(self, deadline_s: float | None = None) -> bool:
        """Return when nothing is left to do, or at the deadline. What could not be applied is looked at meanwhile.

        :return: whether that may have made new work.
        :raises JobfsError: the server has not served for a while.
        """
        drain = asyncio.create_task(self.session.drain(deadline_s))
        gave_up = asyncio.create_task(self._gave_up.wait())
        woken = asyncio.create_task(self._awake.wait())
        has_looked = False
        try:
            while not drain.done():
                await asyncio.wait(
                    [drain, gave_up, woken], timeout=self._next_look_s(), return_when=asyncio.FIRST_COMPLETED
                )
                self._awake.clear()
                if woken.done():
                    woken = asyncio.create_task(self._awake.wait())
                if gave_up.done() and self._last_error is not None:
                    raise self._last_error
                if places := self._due():
                    await self._scan(places)
                    has_looked = True
            await drain
            return has_looked
        finally:
            for task in (drain, gave_up, woken):
                task.cancel()
            await asyncio.gather(drain, gave_up, woken, return_exceptions=True)

    # -- when to look where

    def _next_look_s(self) -> float | None:
        """Return in how many seconds a place is to be looked at; None where nothing waits."""
        if self.side.has_wanted:
            return 0.0
        if not self._later:
            return None
        now_ns = self._clock.wall_ns()
        return min(_rest_ns(at_ns, now_ns) for at_ns in self._later.values()) / 1e9

    def _due(self) -> Places:
        """Return, and forget, the places whose time has come."""
        now_ns = self._clock.wall_ns()
        due = frozenset(place for place, at_ns in self._later.items() if not _rest_ns(at_ns, now_ns))
        for place in due:
            del self._later[place]
        return reduced(self.side.take_wanted() | Places(due))

    # -- watching

    async def _watch(self, watcher: Watcher) -> None:
        """Look where the watcher points, until stopped or cancelled; then push the last changes."""
        rhythm = Rhythm(self._clock, self.options.poll_s)
        try:
            while not self._stopped.is_set():
                await self._wait(rhythm, watcher)
                await self._look(rhythm, watcher)
        except asyncio.CancelledError:
            await self._end_watching(watcher)
            raise
        await self._end_watching(watcher)

    async def _end_watching(self, watcher: Watcher) -> None:
        # Everywhere: what the system has to tell of the last moment may still be on its way.
        watcher.take()
        await self._scan(EVERYWHERE)
        began_s = self._clock.monotonic_s()
        while await self._look_again(began_s):
            pass
        await self._drain(self.options.drain_s)

    async def _wait(self, rhythm: Rhythm, watcher: Watcher) -> None:
        next_s = self._next_look_s()
        timeout_s = min(HEALTH_S, rhythm.until_rescan_s(watcher.trouble), HEALTH_S if next_s is None else next_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._awake.wait()
                if not self._stopped.is_set():
                    await asyncio.sleep(BURST_S)

    async def _look(self, rhythm: Rhythm, watcher: Watcher) -> None:
        self._awake.clear()
        watcher.check()
        if watcher.trouble and not rhythm.has_told:
            rhythm.has_told = True
            detail = f"{watcher.trouble}; until then the folder is looked at every {self.options.poll_s:.0f} s"
            self._ledger.note(SyncEvent(What.POLLING, "", detail=detail))
        places = self._hinted(watcher) | self._due()
        if rhythm.until_rescan_s(watcher.trouble) <= 0:
            places = EVERYWHERE
        if places:
            began_s = self._clock.monotonic_s()
            await self._scan(places)
            if places == EVERYWHERE:
                rhythm.rescanned(began_s)

    def _hinted(self, watcher: Watcher) -> Places:
        hints = watcher.take()
        return coalesce(hints, lambda place: self._workspace.ignore.is_ignored(place, False)) if hints else NOWHERE


def _rest_ns(at_ns: int, now_ns: int) -> int:
    """Return how long a place is to rest until a moment: not at all where the clock was set back meanwhile."""
    rest_ns = at_ns - now_ns
    return rest_ns if 0 < rest_ns <= MISSED_NS else 0
