"""One workspace kept in step: derives the work from the three trees, and has it done.

A *round* takes the nodes that are due, plans, applies the local half at once and sends the remote half off. Rounds run
beside each other as far as they concern different nodes: a node with a request under way is *busy*, and whatever would
build on it waits. There is no queue of operations anywhere; after a restart the first round derives what is left.

**Invariants.** Between reading the trees for a plan and the end of its local half nothing is awaited (in a mount). A
node that failed is looked at again: after the next listing where the workspace was not as expected, after a pause
that grows from 0.2 s to 60 s where the server failed, as soon as it answers again where it did not answer at all, after
its next change where the server refused it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import string
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import assert_never

from jobfs.engine.attention import Attention
from jobfs.engine.backlog import differing, unsynced
from jobfs.engine.cache import Cache
from jobfs.engine.caution import is_listing_needed, spare_displaced, up_to_refused
from jobfs.engine.feed import Feed, FeedTimes
from jobfs.engine.guard import Guard
from jobfs.engine.heap import growing
from jobfs.engine.hold import Hold
from jobfs.engine.hydrator import Hydrator
from jobfs.engine.leftover import Unsynced
from jobfs.engine.listing import Observation
from jobfs.engine.lookahead import LookAhead, Prefetch
from jobfs.engine.lookup import digest_of
from jobfs.engine.mending import Mending
from jobfs.engine.patience import DEFAULT_DEADLINE_S
from jobfs.engine.pusher import Outcome, Pusher
from jobfs.engine.reach import Reach
from jobfs.engine.remote import Remote
from jobfs.engine.removal import Removal
from jobfs.engine.rules import Rules
from jobfs.engine.side import LocalSide, Recorder
from jobfs.engine.traffic import Traffic, base_node, concerns, is_restructured, nodes_of
from jobfs.engine.trees import Trees
from jobfs.engine.workspace import Workspace
from jobfs.errors import ApiError, JobfsError, NotFound, Refused, StateError, StateFull
from jobfs.model import Item, ItemId, NodeId, Problem
from jobfs.planner.guards import FEW
from jobfs.planner.plan import Conflict, ConflictPolicy, LocalChange, Plan, Rebind, RemoteChange, Stage
from jobfs.planner.reconcile import reconcile
from jobfs.planner.retention import Wanted
from jobfs.store.state import Refusal

_log = logging.getLogger(__name__)

PART_NODES = 500
"""So many nodes are planned at once: some 50 ms."""

_TOKEN_LETTERS = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class Options:
    """How a session behaves.

    :param max_deletions: so many deletions never stop a plan; None: any number.
    :param guards_pushes: whether deletions found here are doubtful (a scan) rather than asked for (a system call).
    :param read_deadline_s: how long a read waits without any progress.
    :param cache_bytes: what local copies may take; only clean ones are evicted. None: no limit.
    :param history: how much of what was replaced or deleted is kept here, apart from the local copies.
    """

    policy: ConflictPolicy = ConflictPolicy.KEEP_BOTH
    max_deletions: int | None = 0
    guards_pushes: bool = False
    pushes: bool = True
    pulls: bool = True
    read_deadline_s: float = DEFAULT_DEADLINE_S
    cache_bytes: int | None = None
    history: Wanted = field(default_factory=Wanted)
    prefetch: Prefetch = Prefetch.SMALL
    times: FeedTimes = field(default_factory=FeedTimes)


def random_token() -> str:
    """Return eight random letters and digits for hidden names."""
    return "".join(secrets.choice(_TOKEN_LETTERS) for _ in range(8))


class Session:
    """Keeps one workspace in step. ``start``, then use the workspace, then ``drain`` and ``stop``."""

    def __init__(
        self,
        workspace: Workspace,
        remote: Remote,
        trees: Trees,
        hydrator: Hydrator,
        *,
        side: LocalSide,
        recorder: Recorder,
        options: Options,
        tokens: Callable[[], str] = random_token,
    ) -> None:
        self.workspace = workspace
        self.state = workspace.state
        self.remote = remote
        self.trees = trees
        self.hydrator = hydrator
        self.options = options
        self.side = side
        self._recorder = recorder
        self.pusher = Pusher(
            remote, trees, side, tokens=tokens, wall_ns=workspace.clock.wall_ns, stamp=workspace.conflict_stamp
        )
        self.rules = Rules(workspace, trees, remote)
        self.feed = Feed(remote, trees, self.rules, self, options.times)
        self.look_ahead = LookAhead(workspace, hydrator, options.prefetch)
        self.cache = Cache(workspace, options.cache_bytes)
        self._removal = Removal(self.state)
        self._wake = asyncio.Event()
        self._turned = asyncio.Event()
        self.attention = Attention(
            workspace.clock, workspace.is_being_written, workspace.is_passing, lambda: self._wake.set()
        )
        self.traffic = Traffic(self.state, trees, workspace)
        self.hold = Hold(self.state)
        self.refusals: dict[NodeId, Refusal] = {}
        self.plan_problems: dict[NodeId, Problem] = {}
        self.guard = Guard(self.state, trees, judges_pushes=options.guards_pushes)
        self.conflicts: list[Conflict] = []
        self.on_conflict: Callable[[Conflict], None] = lambda conflict: None
        self.reach = Reach(remote, self._came_back)
        self._mending = Mending(self.pusher.replacer, on_failure=self.went_offline, on_early=self.feed.request)
        self._changes: dict[NodeId, asyncio.Future[None]] = {}
        self._idle = asyncio.Event()
        self._has_looked = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._connect()

    def _connect(self) -> None:
        self.workspace.on_touch = self.touch
        self.hydrator.on_gone = lambda node: self.feed.request()
        self.hydrator.on_read = self.look_ahead.note
        self.hydrator.on_arrived = self.cache.shrink
        self.cache.on_evicted = self.hydrator.distrust
        self.pusher.on_done = self._released
        self.pusher.creations.on_adopted = self.pusher.on_carried = lambda node: self.look_again((node,))
        self.pusher.replacer.on_left = self.feed.request
        self.pusher.on_error = self.went_offline
        self.pusher.on_refused = self._refused

    @property
    def offline(self) -> JobfsError | None:
        """Why the server cannot be reached now, or None."""
        return self.reach.error

    @property
    def busy(self) -> Collection[NodeId]:
        """The nodes with a request of ours under way."""
        return self.traffic.busy

    # -- life

    async def start(self, *, wait_for_listing: bool, observed: Awaitable[Observation] | None = None) -> None:
        """Begin. What an earlier session left unpushed is derived from the trees and pushed.

        :param wait_for_listing: return only after the first listing (a first mount has nothing to show without it).
        :param observed: that listing, where it was begun since the state was locked.
        :raises ApiError: the first listing failed.
        """
        self.refusals = self.state.refusals()
        self.workspace.history.start(self.options.history)
        self.rules.start()
        if not wait_for_listing:
            self.feed.request()
        elif self.feed.listed_at_s is None:
            await self.feed.poll(observed=observed)
        self.look_again(self.differing())
        loops = {"work": self._work, "feed": self.feed.run, "hints": self.feed.hear, "removal": self._removal.run}
        self._loops = [asyncio.create_task(run(), name=f"session-{name}") for name, run in loops.items()]

    async def looked(self) -> None:
        """Return once all that was to be done at the start was planned, and is shown in a mount."""
        await self._has_looked.wait()

    async def stop(self) -> None:
        """End at once. What is not pushed stays in the store and is pushed by the next session."""
        for task in [*self._loops, *self._tasks]:
            task.cancel()
        for task in [*self._loops, *self._tasks]:
            with suppress(asyncio.CancelledError):
                await task
        await self.reach.stop()
        await self.pusher.replacer.stop()
        await self.hydrator.stop()
        await self.look_ahead.stop()

    async def drain(self, deadline_s: float | None) -> list[Unsynced]:
        """Push until nothing is dirty, or until the deadline; return what could not be pushed, with the reason."""
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while self._has_work():
                    self._idle.clear()
                    self._wake.set()
                    await self._idle.wait()
                await self.pusher.replacer.settle()
        return self.unsynced()

    async def push_now(self, node: NodeId) -> None:
        """Return once the server has a node as it is now; at once where it is held.

        :raises ApiError: the server refused it or cannot be reached.
        """
        while self.state.local.get(node) is not None and not self.hold.keeps(node):
            if (refusal := self.refusals.get(node)) is not None:
                raise Refused(refusal.detail, "change the file, or see 'jobfs status'")
            if (problem := self.plan_problems.get(node)) is not None:
                raise Refused(problem.detail, "see 'jobfs status'")
            if self.offline is not None:
                raise self.offline
            if self._is_settled(node):
                return
            self.look_again((node,))
            await self.released(node)

    async def released(self, node: NodeId) -> None:
        """Return when a request about a node ends, or cannot be made."""
        changed = self._changes.setdefault(node, asyncio.get_running_loop().create_future())
        await asyncio.shield(changed)

    def is_to_plan(self, node: NodeId) -> bool:
        """Tell whether a node waits for its next round, or for the end of something that is being done about it."""
        return node in self.attention or node in self.traffic.busy

    async def turned(self) -> None:
        """Return after the next round, or when something under way has ended."""
        await self._turned.wait()

    def _is_settled(self, node: NodeId) -> bool:
        record = self.state.synced.get(node)
        known = self.state.base.get(node)
        if record is None:
            return True
        return known is not None and not record.is_dirty and not is_restructured(record, known)

    def _has_work(self) -> bool:
        return bool(self.attention.has_work or self.traffic.busy or self._tasks)

    def unsynced(self) -> list[Unsynced]:
        """Return the nodes whose changes the server does not have."""
        return unsynced(self.state, self.hold, self._reason)

    def _reason(self, node: NodeId) -> str:
        if (refusal := self.refusals.get(node)) is not None:
            return refusal.detail
        if (problem := self.plan_problems.get(node)) is not None:
            return problem.detail
        if self.guard.keeps(node):
            return "waits, for too much would be deleted"
        return self.offline.cause if self.offline is not None else "not sent yet"

    def differing(self) -> list[NodeId]:
        """Return the synchronised nodes that differ from base: the work that is left to push, and what is held."""
        return differing(self.state)

    # -- what makes work

    def touch(self, node: NodeId) -> None:
        """Note a change by the user: the node is pushed once it has been quiet for a moment."""
        if node in self.refusals:
            self._drop_refusal(node)
        self.hold.withdraw((node,))
        if not self.options.pushes:
            return
        if self.state.local.get(node) is None:
            self.attention.touch_deleted(node)
        else:
            self.attention.touch(node)

    def _drop_refusal(self, node: NodeId) -> None:
        del self.refusals[node]
        with suppress(StateError), self.state.transaction():  # its row counts again at the next start, no sooner
            self.state.drop_refusal(node)
        self.look_again(self.traffic.unblock(node))

    def look_again(self, nodes: Iterable[NodeId]) -> None:
        """Plan nodes anew at once: the remote side changed, or something under way ended."""
        self.attention.look_again(nodes)

    def remote_changed(self, nodes: Collection[NodeId]) -> None:
        """Plan nodes anew whose remote side changed; what the server refused for them before it may take now."""
        for node in self.refusals.keys() & nodes:
            self._drop_refusal(node)
        self.look_again(nodes)

    def listed(self) -> None:
        """Note that a listing was taken in: what waited for it is looked at again."""
        self.went_online()
        self.attention.listed()

    def postpone(self, nodes: Iterable[NodeId], error: JobfsError) -> None:
        """Plan nodes anew after a pause: the server could not be reached for them, or the disk is full."""
        self.attention.until_online(nodes)
        self.went_offline(error)

    def await_listing(self, nodes: Iterable[NodeId]) -> None:
        """Plan nodes anew after the next listing, which is asked for: they are not as last listed."""
        self.attention.until_listed(nodes)
        self.feed.request_for_work()

    async def listing_seen(self, items: Sequence[Item], epoch: int) -> Collection[ItemId]:
        """Record what a listing shows of replaces and of creates without an answer; return what is not to be shown."""
        self.pusher.replacer.see(items, epoch)
        return await self.pusher.creations.see(items, epoch, self.busy)

    def hidden_seen(self, items: Sequence[Item], epoch: int) -> None:
        """Finish or undo what interrupted replaces of ours left."""
        if self._mending.take(items, epoch):
            self._spawn(self._mending.run(), "session-mend")

    def went_offline(self, error: JobfsError) -> None:
        """Note that the server could not be reached or did not take us, or that the disk is full."""
        for node in list(self._changes):
            self._tell(node)
        if isinstance(error, StateFull):
            self.cache.make_room()
        self.reach.lost(error)

    def went_online(self) -> None:
        """Note that the server does what it is asked for."""
        self.reach.found()
        self.attention.online()

    def _came_back(self, was_silent: bool) -> None:
        if was_silent:
            self.feed.request()
        self.attention.online()

    def _refused(self, node: NodeId, refusal: Refusal) -> None:
        self.refusals[node] = refusal
        _log.info("the server refused node %d: %s", node, refusal.detail)

    # -- rounds

    async def _work(self) -> None:
        while True:
            turned, self._turned = self._turned, asyncio.Event()
            turned.set()
            self._wake.clear()
            due = self.attention.take_due()
            if due:
                await self._rounds(due)
            self._has_looked.set()
            if due:
                continue
            if not self._has_work():
                self._idle.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.attention.rest_s()):
                    await self._wake.wait()

    async def _rounds(self, due: set[NodeId]) -> None:
        """Plan nodes, many of them in parts: whoever asks for names meanwhile is answered between two parts.

        Where much is to be deleted the plan is made as a whole, since the guard has to see all of it.
        """
        known, here, there = self.state.base, self.state.synced, self.trees.remote
        if len(due) > PART_NODES:
            gone = sum(known.get(node) is not None and None in (here.get(node), there.get(node)) for node in due)
            if gone <= FEW:
                nodes = sorted(due)
                with growing(len(nodes)):
                    for at in range(0, len(nodes), PART_NODES):
                        await self._round(self._free(nodes[at : at + PART_NODES]))
                        await asyncio.sleep(0)
                return
        await self._round(self._free(due))

    def _free(self, due: Iterable[NodeId]) -> set[NodeId]:
        """Return those of the nodes that can be planned now; the others are planned when what blocks them ends."""
        free = set()
        for node in due:
            if node in self.refusals:
                continue
            blocker = self.traffic.blocker(node, self.refusals)
            if blocker is None:
                free.add(node)
            else:
                self.traffic.block(node, blocker)
        return free

    async def _round(self, due: set[NodeId]) -> None:
        try:
            await self.side.prepare(due)
            self.rules.see_local(due)
            plan = self._plan(due)
            blocker = next((node for node in nodes_of(plan) if node in self.traffic.busy), None)
            if blocker is not None:
                for node in due:
                    self.traffic.block(node, blocker)
                return
            self._note(plan, due)
            await self._execute(plan, due)
        except StateError as error:
            _log.warning("the local store failed: %s", error)
            self._start_over(due, error)
        except Exception as error:  # noqa: BLE001 - logged with its traceback; the session must go on
            _log.exception("unexpected error in a round")
            self._start_over(due, JobfsError(f"unexpected: {error!r}", "see the log"))

    def _start_over(self, due: set[NodeId], error: JobfsError) -> None:
        """After a failure half-way: take base for what the server has, list again, and plan the nodes after a pause."""
        self.trees.reset_remote()
        self.feed.request()
        self.postpone(due, error)

    def _plan(self, due: set[NodeId]) -> Plan:
        return reconcile(
            self.state.base,
            self.state.synced,
            self.trees.remote,
            due,
            policy=self.options.policy,
            stamp=self.workspace.conflict_stamp(),
            opaque=self.feed.opaque,
        )

    def _note(self, plan: Plan, due: set[NodeId]) -> None:
        """Remember problems and conflicts for the user."""
        for node in due:
            self.plan_problems.pop(node, None)
        for problem in plan.problems:
            if problem.node is not None:
                self.plan_problems[problem.node] = problem
                self._tell(problem.node)
        told = self.conflicts if self.hold.is_on else ()  # what is held is found in conflict at each look
        conflicts = [conflict for conflict in plan.conflicts if conflict not in told]
        self.conflicts += conflicts
        for conflict in conflicts:
            self.on_conflict(conflict)
            copy = f": the local version is now {conflict.copy}" if conflict.copy else ""
            _log.info("conflict (%s) at %s%s", conflict.kind.value, conflict.path, copy)

    async def _execute(self, plan: Plan, due: set[NodeId]) -> None:
        self.hold.settle(due)
        plan = replace(plan, to_remote=self.hold.stages(plan, self.trees.remote))
        if self.guard.stops(plan, due, self.options.max_deletions):
            return
        if self.options.pushes and is_listing_needed(plan, self.trees, is_fresh=self.feed.is_fresh()):
            self.await_listing(due)
            return
        self.attention.until_moved(plan.waiting)
        self._recorder.apply_base(plan.to_base)
        self.look_again(base_node(recorded) for recorded in plan.to_base if not isinstance(recorded, Rebind))
        stages = spare_displaced(plan.to_remote, self.trees) if self.options.pushes else ()
        stages, refused = up_to_refused(stages, self.refusals)
        for node, blocker in refused.items():
            self.traffic.block(node, blocker)
        if stages and self.reach.is_silent:
            stages = ()
            self.attention.until_online(due)
        pulls = plan.to_local if self.options.pulls else ()
        if self.side.is_instant:
            self.look_again(await self.side.apply(pulls))  # before anything is busy: a store that fails ends it here
            if pulls:
                self.attention.moved()
        for change in (change for stage in stages for change in stage):
            self.traffic.hold(change)
        if self.side.is_instant:
            if stages:
                self._spawn(self.pusher.run(stages), "session-push")
        elif pulls or stages:
            self.traffic.busy.update(change.node for change in pulls)
            self._spawn(self._apply_then_push(pulls, stages), "session-apply")
        for node in plan.fetch:
            self.traffic.busy[node] += 1
            self._spawn(self._compare(node), "session-compare")

    async def apply_here(self, changes: tuple[LocalChange, ...]) -> set[NodeId]:
        """Change the local side as the user has asked, not the server; return the nodes that changed."""
        self.traffic.busy.update(change.node for change in changes)
        return await self._apply(changes)

    async def _apply(self, changes: tuple[LocalChange, ...]) -> set[NodeId]:
        """Change the local side; nodes are busy from before this starts."""
        try:
            touched = await self.side.apply(changes)
        finally:
            for change in changes:
                self._let_go(change.node)
        self.look_again(touched)
        self.attention.moved()
        return touched

    async def _apply_then_push(self, pulls: tuple[LocalChange, ...], stages: tuple[Stage, ...]) -> None:
        """Change a real folder, then the server; nodes are busy from before this starts."""
        try:
            await self._apply(pulls)
        except BaseException:
            for stage in stages:
                for held in stage:
                    self._released(held, Outcome.OFFLINE)
            raise
        await self.pusher.run(stages)

    async def _compare(self, node: NodeId) -> None:
        """Make both hashes of a node known, so that the planner can tell whether both sides changed alike."""
        entry = self.trees.remote.get(node)
        try:
            if entry is not None and entry.item is not None and entry.content is not None:
                await self.side.settle_hash(node)
                if entry.content.sha256 is not None:
                    self.attention.touch(node)  # it was the local bytes that changed again: rest before the next look
                    return
                sha256 = await digest_of(self.remote, entry.item)
                if (await self.remote.get(entry.item)).revision != entry.content.revision:
                    self.await_listing((node,))  # these are the bytes of a version that no listing has shown
                    return
                if self.trees.remote.get(node) is entry:
                    self.trees.remote.put(replace(entry, content=replace(entry.content, sha256=sha256)))
            self.look_again((node,))
        except NotFound:
            self.await_listing((node,))
        except (ApiError, StateError) as error:
            self.postpone((node,), error)
        finally:
            self._let_go(node)

    def _tell(self, node: NodeId) -> None:
        """Wake whoever waits for a node to reach the server."""
        changed = self._changes.pop(node, None)
        if changed is not None and not changed.done():
            changed.set_result(None)

    # -- ends of changes

    def _released(self, change: RemoteChange, outcome: Outcome) -> None:
        """Note the end of a change: its nodes are free, and looked at when its outcome says so."""
        for node in concerns(change):
            self.look_again(self.traffic.release(change, node))
            self._tell(node)
            match outcome:
                case Outcome.DONE:
                    self.attention.settled(node)
                    self.look_again((node,))
                    self.attention.moved()
                case Outcome.STALE:
                    self.trees.doubt(node)
                    self.attention.stale(node)
                case Outcome.OFFLINE:
                    self.attention.until_online((node,))
                case Outcome.REFUSED if change.node in self.refusals:
                    self.traffic.block(node, change.node)
                case Outcome.REFUSED:  # it was to come after what was refused, but may not depend on it
                    self.look_again((node,))
                case _:
                    assert_never(outcome)
        if outcome is Outcome.STALE:
            self.feed.request_for_work()
        elif outcome is Outcome.DONE:
            self.went_online()
        elif self.offline is None and self.attention.awaits_server:
            self.reach.wait()

    def _let_go(self, node: NodeId) -> None:
        self.look_again(self.traffic.let_go(node))
        self._tell(node)

    # -- tasks

    def _spawn(self, work: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("unexpected: %s", error, exc_info=error)
            self.feed.request()
