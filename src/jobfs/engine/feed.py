"""Learn what the server has: the job's status, and listings of all items, as often as it pays.

The job's status decides how often: while the expert may write, every 2 s, and at once when it makes a checkpoint;
afterwards rarely, and more rarely the longer nothing changes. Listing never takes more than a twentieth of the time,
but for a few that work of ours waits for, as a deletion does (``request_for_work``). ``request`` asks for one at once.

**Invariants.** A listing that does not fit together deletes nothing. What we changed while a listing was under way is
not judged by it (``Trees.acknowledged_since``). A vanished workspace freezes the local copy: nothing is taken for
deleted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from jobfs.engine.heap import growing
from jobfs.engine.listing import Listing, Observation, observe
from jobfs.engine.lookup import get_if_there
from jobfs.engine.remote import Remote
from jobfs.engine.rules import Rules
from jobfs.engine.trees import Trees
from jobfs.errors import JobfsError, NotFound, ProtocolViolation, Refused
from jobfs.model import Item, ItemId, Kind, NodeId, Problem, Trouble, may_expert_write
from jobfs.planner.identity import Identified, changed_nodes, identify
from jobfs.planner.naming import is_hidden_name
from jobfs.planner.view import View, build_view, left_behind, own_names
from jobfs.store.trees import SyncedView, Tree

_log = logging.getLogger(__name__)

_SHARE = 20
_UNRESTED = 3
"""So many listings that work of ours waits for come without the rest that their share of the time would ask for; then
one has to rest. Somebody who removes a tree waits for the server as for any other answer, but a program that removes
one every second does not make us list all the time."""

_FIRST_SILENCE_S = 2.0
_LAST_SILENCE_S = 120.0
_MAX_CONFIRMED = 64
_NAP_S = 5.0
PART_ROWS = 2000
"""A listing of more is worked on in parts, and where that cannot be, in a thread."""


@dataclass(frozen=True, slots=True)
class FeedTimes:
    """How often the feed asks, in seconds.

    :param trusted_s: how old a listing may be to delete on its word; while the expert may write, ``active_s``.
    :param active_s: between listings while the expert may write. :param ended_s: the first pause afterwards.
    :param ended_max_s: where that pause has grown to. :param status_s, status_max_s: between looks at the status alone.
    """

    active_s: float = 2.0
    ended_s: float = 30.0
    ended_max_s: float = 300.0
    status_s: float = 2.0
    status_max_s: float = 15.0
    trusted_s: float = 10.0


class Watcher(Protocol):
    """Who wants to know what the feed learns: the session."""

    @property
    def busy(self) -> Collection[NodeId]:
        """The nodes with a request of ours under way."""

    def look_again(self, nodes: Iterable[NodeId]) -> None:
        """Plan these nodes anew."""

    def remote_changed(self, nodes: Collection[NodeId]) -> None:
        """A listing shows these nodes otherwise than before."""

    def listed(self) -> None:
        """A listing was taken in."""

    def went_offline(self, error: JobfsError) -> None:
        """The server could not be reached."""

    async def listing_seen(self, items: Sequence[Item], epoch: int) -> Collection[ItemId]:
        """A listing is about to be taken in: record what it shows of requests without an answer, and return the items
        of which it is not known yet whether they are ours.
        """

    def hidden_seen(self, items: Sequence[Item], epoch: int) -> None:
        """A complete listing showed these hidden items of interrupted replaces."""


class Feed:
    """The observer of one workspace."""

    def __init__(self, remote: Remote, trees: Trees, rules: Rules, watcher: Watcher, times: FeedTimes) -> None:
        self._remote = remote
        self._rules = rules
        self._trees = trees
        self._workspace = rules.workspace
        self._watcher = watcher
        self._times = times
        self._asked = asyncio.Event()
        self._hurry = asyncio.Event()
        self._unrested_left = _UNRESTED
        self._is_listing = False
        self._awaited: list[asyncio.Future[None]] = []
        self._listing_pause_s = times.ended_s
        self._status_pause_s = times.status_s
        self._cost_s = 0.0
        self._was_held_up = False
        self.status = ""
        self._may_write = asyncio.Event()
        self._own: tuple[Problem, ...] = ()
        self._listed: tuple[Problem, ...] = ()
        self.opaque: frozenset[NodeId] = frozenset()
        self.listed_at_s: float | None = None
        self._listed_wall_ns = 0
        self.listings = 0
        self.is_frozen = False
        self._last: tuple[tuple[int, int], int] | None = None
        """The last listing that fitted what we knew without any doubt, and the state of the trees after it."""

    def request(self) -> None:
        """Ask for a listing as soon as possible."""
        self._asked.set()

    def request_for_work(self) -> None:
        """Ask for a listing that work of ours cannot go on without: soon, a few times in a row.

        Nothing is asked for while one is being taken: at its end that work is looked at again, and asks again if it
        still has to.
        """
        if self._is_listing:
            return
        self.request()
        if self._unrested_left and not self._hurry.is_set():
            self._unrested_left -= 1
            self._hurry.set()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What the user has to know of the last listing."""
        return (*self._own, *self._listed)

    async def refresh(self, *, is_urgent: bool = False) -> None:
        """Ask for a listing and return when one that began after this call was taken in.

        :param is_urgent: a person waits: soon, even if the last listing took long, as when the server did not answer.
        :raises JobfsError: it could not be had.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited.append(done)
        self.request()
        if is_urgent:
            self._hurry.set()
        await done

    def is_fresh(self) -> bool:
        """Tell whether the last listing is young enough to delete on its word."""
        if self.listed_at_s is None or not self._trees.is_observed:
            return False
        limit_s = self._times.active_s if may_expert_write(self.status) else self._times.trusted_s
        return self._passed_s(self.listed_at_s) <= limit_s

    def opened(self) -> None:
        """Note that a directory was opened: a listing older than 10 s is taken anew, without making anybody wait."""
        if self.listed_at_s is not None and self._passed_s(self.listed_at_s) > 10.0:
            self.request()

    def _now_s(self) -> float:
        return self._workspace.clock.monotonic_s()

    def _passed_s(self, since_s: float) -> float:
        """Return how long ago the last listing was, which came at this moment.

        While the machine sleeps the monotonic clock may stand still, and the wall clock goes on: in doubt it was long
        ago.
        """
        return max(self._now_s() - since_s, (self._workspace.clock.wall_ns() - self._listed_wall_ns) / 1e9)

    def _has_slept(self) -> bool:
        """Tell whether the machine slept since the last listing, or its clock was set: much may have happened."""
        since_s = self.listed_at_s
        return since_s is not None and self._passed_s(since_s) - (self._now_s() - since_s) > _NAP_S

    async def run(self) -> None:
        """Observe until cancelled."""
        next_listing_s = self._now_s() + self._pause_s()
        while True:
            wait_s = min(self._status_pause_s, max(0.0, next_listing_s - self._now_s()))
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._asked.wait()
            try:
                is_due = self._asked.is_set() or self._now_s() >= next_listing_s or self._has_slept()
                if not is_due and not await self._status_changed():
                    continue
                began_s = self._now_s()
                await self.poll()
            except JobfsError as error:
                self._watcher.went_offline(error)
                self._asked.clear()
                self._status_pause_s = min(self._status_pause_s * 2, self._times.status_max_s)
                next_listing_s = self._now_s() + self._status_pause_s
                continue
            next_listing_s = began_s + self._pause_s()
            await self._rest()

    async def hear(self) -> None:
        """Take the server's hints, as long as the expert may write, for requests to list, until cancelled."""
        silence_s = _FIRST_SILENCE_S
        while True:
            await self._may_write.wait()
            async for _ in self._remote.hints():
                silence_s = _FIRST_SILENCE_S
                self.request()
            await asyncio.sleep(silence_s)  # where there is no stream, this is all that asking for it costs
            silence_s = min(silence_s * 2, _LAST_SILENCE_S)

    async def _rest(self) -> None:
        """Keep listings below their share of the time, even when they are asked for again at once."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(self._cost_s * (_SHARE - 1), self._times.ended_s)):
                await self._hurry.wait()
                return
        self._unrested_left = _UNRESTED

    def _pause_s(self) -> float:
        return self._times.active_s if may_expert_write(self.status) else self._listing_pause_s

    async def _status_changed(self) -> bool:
        """Look at the job; tell whether its status changed. Unchanged, the next look comes later."""
        before = self.status
        self._set_status(await self._remote.status())
        if self.status != before:
            self._status_pause_s = self._times.status_s
            self._listing_pause_s = self._times.ended_s
            return True
        grown = self._status_pause_s * 1.5
        self._status_pause_s = self._times.status_s if may_expert_write(self.status) else grown
        self._status_pause_s = min(self._status_pause_s, self._times.status_max_s)
        return False

    def _set_status(self, status: str) -> None:
        self.status = status
        if may_expert_write(status):
            self._may_write.set()
        else:
            self._may_write.clear()

    async def poll(
        self, *, until: Awaitable[object] | None = None, observed: Awaitable[Observation] | None = None
    ) -> None:
        """Take one listing and hand over what changed.

        :param until: what has to be done before the listing is taken in; it may be done meanwhile.
        :param observed: the listing, where somebody began it. Nothing of ours may have been sent since then.
        :raises ApiError: it could not be had. Nothing changes then.
        """
        waiting, self._awaited = self._awaited, []
        self._is_listing = True
        try:
            await self._poll(until, observed or observe(self._remote, self._now_s))
        except JobfsError as error:
            for done in waiting:
                if not done.done():
                    done.set_exception(error)
            raise
        finally:
            self._is_listing = False
        for done in waiting:
            if not done.done():
                done.set_result(None)

    async def _poll(self, until: Awaitable[object] | None, observed: Awaitable[Observation]) -> None:
        self._asked.clear()
        self._hurry.clear()
        epoch = self._trees.begin_listing()
        try:
            seen = await observed
        except NotFound as error:
            self.is_frozen = True
            _log.info("the workspace is gone from the server, the local copy is kept as it is: %s", error)
            raise
        self.is_frozen = False
        self._set_status(seen.status)
        self.listings += 1
        listed_wall_ns = self._workspace.clock.wall_ns()
        if until is not None:
            await until
        changed = await self._take_in(seen.listing, epoch)
        self._listing_pause_s = (
            self._times.ended_s if changed else min(self._listing_pause_s * 1.5, self._times.ended_max_s)
        )
        if seen.is_beside:
            self._listing_pause_s = self._times.active_s
        self.listed_at_s, self._listed_wall_ns = seen.ended_s, listed_wall_ns
        self._note_cost(self._now_s() - seen.began_s)
        self._watcher.listed()

    def _note_cost(self, took_s: float) -> None:
        """Note what a listing took; one that took far longer was held up by the network, unless the next is so, too."""
        self._was_held_up = 0 < 2 * self._cost_s < took_s and not self._was_held_up
        if not self._was_held_up:
            self._cost_s = took_s

    async def _take_in(self, listing: Listing, epoch: int) -> bool:
        await self._rules.see_items(listing.items)
        items, fingerprint = await self._shown(listing.items)
        self._own = own_names(listing.items) if len(items) < len(listing.items) else ()
        spared = await self._doubtful(listing)
        doubtful = await self._watcher.listing_seen(listing.items, epoch)
        if doubtful:
            items = [item for item in items if item.id not in doubtful]
        elif listing.is_stable and self._is_known(fingerprint):
            self._trees.end_listing(epoch)
            return False
        self._trees.absorb_moves(items)
        view = build_view(items) if len(items) < PART_ROWS else await asyncio.to_thread(build_view, items)
        with growing(len(items)):
            found, held = await self._identify(view, spared, epoch)
        changed = changed_nodes(self._trees.remote, found.tree)
        self._trees.remote = Tree.of(found.tree)
        self._trees.end_listing(epoch)
        base = self._trees.state.base.entries() if view.hidden else ()
        ours = {entry.item for entry in base if entry.item is not None and is_hidden_name(entry.name)}
        left = left_behind(view.hidden, listing.items, ours)
        self._listed = (*view.problems, *left, *_unreadable(listing), *self._rules.problems)
        self.opaque = found.opaque if not listing.malformed else frozenset(self._trees.remote)
        is_plain = listing.is_stable and not (held or doubtful or view.hidden)
        self._last = (fingerprint, self._trees.changes) if is_plain else None
        self._watcher.remote_changed(changed)
        self._watcher.look_again(self._unequal(held))
        self._watcher.hidden_seen(view.hidden, epoch)
        return bool(changed)

    async def _identify(self, view: View, spared: set[NodeId], epoch: int) -> tuple[Identified, set[NodeId]]:
        """Return the view as a tree, and the nodes that it could not judge.

        A large one is made in a thread, so that whoever asks for names meanwhile is answered. Where anything that it
        depends on was changed until it was ready, it is made again at once.
        """
        state = self._trees.state
        if len(view.by_path) >= PART_ROWS:
            before, held = self._situation(), self._held(spared, epoch)
            copies = state.base.copy(), SyncedView(state.local.copy()), self._trees.remote.copy()
            numbers = map(NodeId, state.allocate_many(len(view.by_path)))
            matching = self._matching(view, held, epoch)
            found = await asyncio.to_thread(matching, *copies, allocate=numbers.__next__)
            if (before, held) == (self._situation(), self._held(spared, epoch)):
                return found, held
        held = self._held(spared, epoch)
        matching = self._matching(view, held, epoch)
        return matching(state.base, state.synced, self._trees.remote, allocate=state.allocate), held

    def _matching(self, view: View, held: set[NodeId], epoch: int) -> Callable[..., Identified]:
        """Return ``identify`` for a view, as things stand; it still wants the trees, and whence new numbers come."""
        return partial(identify, view, held=held, tombstones=self._trees.buried_since(epoch))

    def _situation(self) -> tuple[int, ...]:
        """Return what changes with everything that the meaning of a listing depends on, but for the nodes held."""
        state, trees = self._trees.state, self._trees
        return state.base.version, state.local.version, trees.remote.version, trees.changes

    def _held(self, spared: set[NodeId], epoch: int) -> set[NodeId]:
        """Return the nodes that a listing cannot judge."""
        return spared | set(self._watcher.busy) | self._trees.acknowledged_since(epoch)

    async def _shown(self, rows: Sequence[Item]) -> tuple[list[Item], tuple[int, int]]:
        """Return the items that are not ignored, and a fingerprint of them; others run between parts of the work."""
        items: list[Item] = []
        total = 0
        for at in range(0, len(rows), PART_ROWS):
            part = [item for item in rows[at : at + PART_ROWS] if not self._is_ignored(item)]
            total += sum(map(hash, part))
            items += part
            if len(rows) > PART_ROWS:
                await asyncio.sleep(0)
        return items, (len(items), total)

    def _is_known(self, fingerprint: tuple[int, int]) -> bool:
        """Tell whether a listing is the last one again, and nothing happened to the remote tree since."""
        return self._last == (fingerprint, self._trees.changes) and not self._watcher.busy

    def _unequal(self, held: Collection[NodeId]) -> set[NodeId]:
        """Return the held nodes, which the next listing has to judge."""
        return {node for node in held if self._trees.state.base.get(node) is not self._trees.remote.get(node)}

    def _is_ignored(self, item: Item) -> bool:
        """Tell whether an item has a name that is local-only here: it is neither shown nor touched."""
        return self._workspace.ignore.is_ignored(item.path, item.kind is Kind.DIRECTORY)

    async def _doubtful(self, listing: Listing) -> set[NodeId]:
        """Return the nodes that an unstable listing lacks and that are still there, or too many to ask for."""
        if listing.is_stable:
            return set()
        seen = {item.id for item in listing.items}
        missing = [entry for entry in self._trees.remote.entries() if entry.item is not None and entry.item not in seen]
        spared = {entry.id for entry in missing[_MAX_CONFIRMED:]}
        for entry in missing[:_MAX_CONFIRMED]:
            if entry.item is not None and await self._is_there(entry.item):
                spared.add(entry.id)
        return spared

    async def _is_there(self, item: ItemId) -> bool:
        """Tell whether an item is still there, if only as one that cannot be read."""
        try:
            return await get_if_there(self._remote, item) is not None
        except (ProtocolViolation, Refused):
            return True


def _unreadable(listing: Listing) -> tuple[Problem, ...]:
    """Return what the user has to know of the rows that could not be read."""
    if not listing.malformed:
        return ()
    detail = f"{listing.malformed} items of the server's list cannot be read and are not shown; none of them is touched"
    return (Problem(None, "", Trouble.UNKNOWN_TYPE, detail),)
