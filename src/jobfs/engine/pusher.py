"""Carry out the remote half of a plan: requests in stages, each change of a stage beside the others.

Whatever the server acknowledges is recorded at once, in base and in the remote tree, in one transaction; the node is
then looked at again, so a plan needs no memory of what was done. What the server finally refuses is marked on the
node with the server's reason and asked for again only after the node changed. Nothing dirty is ever dropped.

It leaves to others: what to do (planner), when (session), and the bytes (``LocalBytes``: blobs in a mount, the real
files in folder mode).
"""

from __future__ import annotations

import asyncio
import logging
import mimetypes
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from enum import Enum, unique
from pathlib import Path
from typing import Protocol, assert_never

from jobfs.engine.creations import Creations, Unanswered
from jobfs.engine.lookup import delete, digest_of, find_created, get_if_there, move
from jobfs.engine.losers import keep_loser
from jobfs.engine.remote import Remote
from jobfs.engine.replace import Overtaken, Replacement, Replacer
from jobfs.engine.trees import Trees, entry_of
from jobfs.errors import (
    ApiError,
    InvalidPath,
    JobfsError,
    NotFound,
    OutcomeUnknown,
    ParentMissing,
    PathExists,
    Refused,
    ServerFailure,
    StateError,
)
from jobfs.model import ROOT, Content, Entry, Item, ItemId, Kind, NodeId, Trouble, path_of
from jobfs.planner.naming import ConflictStamp, parse_hidden
from jobfs.planner.plan import (
    DeleteRemote,
    Displace,
    MakeDirectory,
    MoveRemote,
    RemoteChange,
    SetRemotePermission,
    Stage,
    Upload,
    is_same_content,
)
from jobfs.store.state import Aside, Refusal

_log = logging.getLogger(__name__)

MAX_PARALLEL = 32
_LARGE_BYTES = 256 << 10
_MAX_PARALLEL_LARGE = 14
"""Of files above ``_LARGE_BYTES``, which share the line: each gets less of it by each other one, and has a deadline."""

_CASCADE = "dir_move"


class Gone(Exception):
    """The local side is no longer what the plan saw; it will be planned again."""


@unique
class Outcome(Enum):
    """How a change ended, which says when its node is looked at again."""

    DONE = "done"
    STALE = "stale"
    """The workspace is not as last listed: after the next listing."""
    OFFLINE = "offline"
    """The server could not be reached or did not take us: after a pause."""
    REFUSED = "refused"
    """The server's final answer: after the node changes."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of a file's bytes, which stays as it is while it is held.

    :param source: where they are, or they themselves where they are few.
    """

    source: Path | bytes
    content: Content

    def copy_to(self, target: Path) -> None:
        """Make a file with these bytes. Blocks."""
        if isinstance(self.source, bytes):
            target.write_bytes(self.source)
        else:
            shutil.copyfile(self.source, target)


class LocalBytes(Protocol):
    """Where the pusher gets bytes from."""

    def snapshot(self, node: NodeId) -> AbstractAsyncContextManager[Snapshot]:
        """Hold the present version of a node's bytes; raises ``Gone`` where there is none."""

    def pushed(self, node: NodeId, sent: Content, acknowledged: Content) -> None:
        """Note that the server has this version; the node is clean unless it changed meanwhile."""


class Pusher:
    """The requests of one workspace.

    :param tokens: gives eight random letters for hidden names. :param wall_ns: gives the time, for the history.
    :param stamp: what a conflict name made now says.
    """

    def __init__(
        self,
        remote: Remote,
        trees: Trees,
        local: LocalBytes,
        *,
        tokens: Callable[[], str],
        wall_ns: Callable[[], int],
        stamp: Callable[[], ConflictStamp],
    ) -> None:
        self._remote = remote
        self._trees = trees
        self._local = local
        self._tokens = tokens
        self._wall_ns = wall_ns
        self._slots = asyncio.Semaphore(MAX_PARALLEL)
        self._large_slots = asyncio.Semaphore(_MAX_PARALLEL_LARGE)
        self.replacer = Replacer(remote, trees, stamp)
        self.creations = Creations(remote, trees)
        self.in_flight: dict[NodeId, str] = {}
        self._landings: dict[NodeId, asyncio.Event] = {}
        self.on_done: Callable[[RemoteChange, Outcome], None] = lambda change, outcome: None
        self.on_carried: Callable[[NodeId], None] = lambda node: None
        self.on_error: Callable[[JobfsError], None] = lambda error: None
        self.on_refused: Callable[[NodeId, Refusal], None] = lambda node, refusal: None

    async def run(self, stages: tuple[Stage, ...]) -> None:
        """Carry out the stages in order; a stage in which something failed is the last one.

        ``on_done`` is called once for every change, those of stages that did not run included.
        """
        pending = [change for stage in stages for change in stage]
        outcome = Outcome.OFFLINE
        try:
            for stage in stages:
                del pending[: len(stage)]
                outcomes = await asyncio.gather(*(self._one(change) for change in stage))
                failed = [one for one in outcomes if one is not Outcome.DONE]
                if failed:
                    outcome = failed[0]
                    return
        finally:
            for change in pending:
                self.on_done(change, outcome)

    async def _one(self, change: RemoteChange) -> Outcome:
        """Carry out one change; tell its outcome instead of raising."""
        outcome = Outcome.OFFLINE
        landing = asyncio.Event()
        try:
            async with self._slots_for(change):
                self.in_flight[change.node] = type(change).__name__
                self._landings[change.node] = landing
                outcome = await self._attempt(change)
        except Exception:
            outcome = Outcome.STALE  # logged by who runs us; tried again, ever more rarely
            raise
        finally:
            self.in_flight.pop(change.node, None)
            self._landings.pop(change.node, None)
            landing.set()
            self.on_done(change, outcome)
        return outcome

    def _slots_for(self, change: RemoteChange) -> asyncio.Semaphore:
        record = self._trees.state.local.get(change.node) if isinstance(change, Upload) else None
        is_large = record is not None and record.content is not None and record.content.size > _LARGE_BYTES
        return self._large_slots if is_large else self._slots

    async def _attempt(self, change: RemoteChange) -> Outcome:
        try:
            await self._with_parents(change)
        except (Gone, Overtaken):
            return Outcome.STALE
        except (NotFound, PathExists, ParentMissing) as error:
            _log.info("the workspace is not as last listed: %s", error)
            return Outcome.STALE
        except Refused as error:
            return self._refuse(change.node, error)
        except (ApiError, StateError) as error:
            self.on_error(error)
            return Outcome.OFFLINE
        is_to_be_there = not isinstance(change, DeleteRemote)
        return Outcome.STALE if is_to_be_there and self._trees.remote.get(change.node) is None else Outcome.DONE

    def _refuse(self, node: NodeId, error: Refused) -> Outcome:
        """Mark a node with the server's reason; where that cannot be recorded, it is asked for again."""
        trouble = Trouble.INVALID_NAME if isinstance(error, InvalidPath) else Trouble.REFUSED
        reason = f" ({error.reason})" if error.reason else ""
        refusal = Refusal(trouble, f"{error.cause}{reason}")
        try:
            with self._trees.state.transaction():
                self._trees.state.put_refusal(node, refusal)
        except StateError as failure:
            self.on_error(failure)
            return Outcome.OFFLINE
        self.on_refused(node, refusal)
        return Outcome.REFUSED

    async def _with_parents(self, change: RemoteChange) -> None:
        """Carry out a change; where its directory is only implied by what is in it (view rule 3), make that first."""
        try:
            await self._change(change)
        except ParentMissing:
            if isinstance(change, DeleteRemote | SetRemotePermission) or not await self._make_implied(change.parent):
                raise
            await self._change(change)

    async def _make_implied(self, directory: NodeId) -> bool:
        """Make items for a directory and those above it that have none; return whether there were any."""
        implied: list[Entry] = []
        entry = self._trees.remote.get(directory)
        while entry is not None and entry.id != ROOT:
            if entry.item is None:
                implied.append(entry)
            entry = self._trees.remote.get(entry.parent)
        for entry in reversed(implied):
            await self._make_directory(MakeDirectory(entry.id, entry.parent, entry.name, entry.permission))
        return bool(implied)

    async def _change(self, change: RemoteChange) -> None:
        match change:
            case MakeDirectory():
                await self._make_directory(change)
            case Upload():
                await self._upload(change)
            case MoveRemote() | Displace():
                await self._move(change)
            case SetRemotePermission():
                await self._set_permission(change)
            case DeleteRemote():
                await self._delete(change)
            case _:
                assert_never(change)

    def _path(self, parent: NodeId, name: str) -> str:
        above = path_of(self._trees.remote, parent)
        if above is None:
            raise Gone
        return f"{above}/{name}" if above else name

    def _base(self, node: NodeId) -> Entry:
        entry = self._trees.state.base.get(node)
        if entry is None or entry.item is None:
            raise Gone
        return entry

    # -- directories

    async def _make_directory(self, change: MakeDirectory) -> None:
        path = self._path(change.parent, change.name)
        async with self._unanswered(path, change, None) as creation:
            try:
                item = await self._remote.create_directory(path, change.permission)
            except (OutcomeUnknown, ServerFailure, PathExists) as error:
                found = await find_created(self._remote, path, Kind.DIRECTORY, None)
                if found is None:
                    if isinstance(error, PathExists):
                        raise
                    creation.is_doubted = True
                    found = await self._remote.create_directory(path, change.permission)
                item = self._unowned(found, change.node)
            with self._answered(creation):
                self._trees.acknowledge(entry_of(item, change.node, change.parent, change.name, None))

    @asynccontextmanager
    async def _unanswered(
        self, path: str, change: MakeDirectory | Upload, content: Content | None
    ) -> AsyncIterator[Unanswered]:
        """Remember a create until it is ``_answered`` or refused; where neither is known, the listings will tell."""
        if await self.creations.resolve(path):
            raise Gone
        creation = self.creations.begin(path, change.parent, change.node, content)
        try:
            yield creation
        except (NotFound, Refused, Overtaken, Gone):
            self.creations.give_up(creation)  # for the listings, where the store cannot record its end
            self.creations.end(creation)
            raise
        except BaseException:
            self.creations.give_up(creation)
            raise

    @contextmanager
    def _answered(self, creation: Unanswered) -> Iterator[None]:
        """Record what a create has made, and that nothing is unclear about it any more: in one transaction."""
        with self._trees.state.transaction():
            yield
            self.creations.end(creation)

    # -- contents

    async def _upload(self, change: Upload) -> None:
        path = self._path(change.parent, change.name)
        mime_type = mimetypes.guess_type(change.name)[0] or "application/octet-stream"
        send = self._create if change.replaces is None or change.covers_shared else self._replace
        async with (
            self._local.snapshot(change.node) as snapshot,
            self._unanswered(path, change, snapshot.content) as creation,
        ):
            listings = self._trees.listings
            item = await send(creation, change, snapshot, mime_type)
            with self._answered(creation):
                self._acknowledge(change, item, snapshot, path)
            if self._trees.listings != listings:  # one passed the item over, and may have shown another's version of it
                self._trees.doubt(change.node)

    def _acknowledge(self, change: Upload, item: Item, snapshot: Snapshot, path: str) -> None:
        if item.size != snapshot.content.size:
            raise ServerFailure(
                f"the server stored {item.size} of {snapshot.content.size} bytes of {path}", "it will be sent again"
            )
        entry = entry_of(item, change.node, change.parent, change.name, snapshot.content.sha256)
        if change.replaces is not None and change.replaces != change.node:
            self._trees.forget(change.replaces)
        self._trees.acknowledge(entry)
        if entry.content is not None:
            self._local.pushed(change.node, snapshot.content, entry.content)

    async def _create(self, creation: Unanswered, change: Upload, snapshot: Snapshot, mime_type: str) -> Item:
        path = creation.path
        known = self._trees.state.base.get(change.replaces) if change.replaces is not None else None
        try:
            return await self._remote.create_file(path, change.permission, snapshot.source, mime_type)
        except (OutcomeUnknown, ServerFailure):
            item = known.item if known is not None else None
            found = await find_created(self._remote, path, Kind.FILE, snapshot.content, item)
            if found is not None:
                return self._unowned(found, change.node)
            creation.is_doubted = True
            return await self._remote.create_file(path, change.permission, snapshot.source, mime_type)
        except PathExists:
            # A create of ours whose answer was lost with the process that sent it, or somebody else's file.
            found = await find_created(self._remote, path, Kind.FILE, snapshot.content)
            if found is None or await digest_of(self._remote, found.id) != snapshot.content.sha256:
                raise
            return self._unowned(found, change.node)

    def _unowned(self, item: Item, node: NodeId) -> Item:
        """Return an item that was found; raises ``Gone`` where it is another node's by now."""
        if self.creations.owner(item) not in (None, node):
            raise Gone
        return item

    async def _replace(self, creation: Unanswered, change: Upload, snapshot: Snapshot, mime_type: str) -> Item:
        if change.replaces is None:
            raise Gone
        path = creation.path
        # What loses a conflict is what was listed last; anything else is what base knows.
        entry = self._trees.remote.get(change.replaces) if change.keeps_loser else self._base(change.replaces)
        old = entry.content.revision if entry is not None and entry.content is not None else None
        if old is None or (change.expected is not None and old != change.expected):
            raise Gone
        if change.keeps_loser:
            await keep_loser(self._remote, self._trees.state, old, path, at_ns=self._wall_ns())
        aside = Aside(self._tokens(), change.node, path, old)
        wanted = Replacement(path, change.permission, snapshot.source, snapshot.content, mime_type, old)
        try:
            return await self.replacer.replace(wanted, aside)
        except Overtaken as overtaken:
            if overtaken.seen is not None:
                self._trees.observe(change.replaces, overtaken.seen)
            raise

    # -- moves and permissions

    async def _move(self, change: MoveRemote | Displace) -> None:
        base = self._base(change.node)
        if base.item is None:
            raise Gone
        there = self._trees.remote.get(change.node) or base  # by now perhaps moved by somebody, its directory gone
        before = self._path(there.parent, there.name)
        hidden = parse_hidden(change.name)
        if hidden is None:
            await self._move_item(change, base, base.item, before)
            return
        # What a displaced file was may be deleted once its place is taken; what only steps aside never.
        old = base.content.revision if base.content is not None and isinstance(change, Displace) else None
        async with self.replacer.stepping_aside(Aside(hidden.token, change.node, before, old)) as on_doubt:
            await self._move_item(change, base, base.item, before, on_doubt)

    async def _move_item(
        self,
        change: MoveRemote | Displace,
        base: Entry,
        item_id: ItemId,
        before: str,
        on_doubt: Callable[[], None] = lambda: None,
    ) -> None:
        item = await move(self._remote, item_id, self._path(change.parent, change.name), on_doubt=on_doubt)
        if change.parent != ROOT and self._trees.remote.get(change.parent) is None:
            raise Overtaken  # somebody put another directory there meanwhile: what is in that is for a listing to tell
        if isinstance(change, Displace) and _is_other_version(base, item):
            await move(self._remote, item_id, before)  # changed since the listing: it must not be deleted unseen
            self._trees.observe(change.node, item)
            raise Overtaken
        has_children = bool(self._trees.state.base.children(change.node))
        if base.kind is Kind.DIRECTORY and has_children and not await self._children_follow(change, before, item.path):
            await self._move_below(change.node, item.path)
        elif has_children:
            self._trees.carried.add(change.node)
        self._trees.acknowledge_change(replace(base, parent=change.parent, name=change.name), item)

    async def _children_follow(self, change: MoveRemote | Displace, before: str, path: str) -> bool:
        """Tell whether this server moves children along (contract I-18): asked once, then remembered.

        A child that somebody moved elsewhere tells nothing.
        """
        state = self._trees.state
        known = state.setting(_CASCADE)
        if known is None:
            for name, child in list(state.base.children(change.node).items()):
                entry = state.base.get(child)
                found = await get_if_there(self._remote, entry.item) if entry is not None and entry.item else None
                if found is not None and found.path in (f"{before}/{name}", f"{path}/{name}"):
                    known = "cascade" if found.path == f"{path}/{name}" else "orphan"
                    break
            if known is None:
                return True  # nothing that was in it is there any more
            with state.transaction():
                state.remember(_CASCADE, known)
        return known == "cascade"

    async def _move_below(self, directory: NodeId, path: str) -> None:
        """Move what a directory held after it, parents first (contract, protocol M).

        What is on its way out of it at the same time has to arrive first: of two moves the later one would stand.
        """
        base = self._trees.state.base
        for child in list(base.children(directory).values()):
            landing = self._landings.get(child)
            if landing is not None:
                await landing.wait()
            entry = base.get(child)
            if entry is None or entry.parent != directory:
                continue
            child_path = f"{path}/{entry.name}"
            if entry.item is not None:
                try:
                    item = await move(self._remote, entry.item, child_path)
                except NotFound:
                    continue  # somebody deleted it: its neighbours still have to come along
                except PathExists:  # somebody was faster than the child: the next listing shows both
                    await self.replacer.put_beside(entry.item, child_path)
                    continue
                self._trees.acknowledge_change(entry, item)
                self.on_carried(child)
            if entry.kind is Kind.DIRECTORY:
                await self._move_below(child, child_path)

    async def _set_permission(self, change: SetRemotePermission) -> None:
        base = self._base(change.node)
        if base.item is None:
            raise Gone
        try:
            item = await self._remote.update(base.item, permission=change.permission)
        except (OutcomeUnknown, ServerFailure):
            item = await self._remote.get(base.item)
            if item.permission is not change.permission:
                item = await self._remote.update(base.item, permission=change.permission)
        self._trees.acknowledge_change(replace(base, permission=change.permission), item)

    # -- deletions

    async def _delete(self, change: DeleteRemote) -> None:
        base = self._trees.state.base.get(change.node)
        if base is None:
            raise Gone
        self._check_deletion(change)
        if base.item is not None and self.replacer.has_strays(base.item):
            raise Gone
        listings = self._trees.listings
        if base.item is not None:
            await delete(self._remote, base.item, on_doubt=lambda: self._check_deletion(change))
        with self._trees.state.transaction():
            for node in reversed(change.nodes):
                self._trees.forget(node)
        if self._trees.listings != listings:  # one passed over what somebody may have put in its place meanwhile
            self._trees.doubt(base.parent)
        self._forget_implied(base.parent)

    def _forget_implied(self, directory: NodeId) -> None:
        """Forget directories deleted here that no item stands for (view rule 3): they went with the last thing in them.

        Whoever deletes the last one does this; after a crash before it, the next listing does.
        """
        trees = self._trees
        while (
            directory != ROOT
            and trees.state.local.get(directory) is None
            and (entry := trees.remote.get(directory)) is not None
            and entry.item is None
            and not trees.remote.children(directory)
        ):
            trees.forget(directory)
            directory = entry.parent

    def _check_deletion(self, change: DeleteRemote) -> None:
        """Raise ``Gone`` where a listing showed, since this was planned, what must not be deleted unseen."""
        remote = self._trees.remote
        path = path_of(remote, change.node)
        if path is not None and self.creations.is_unclear_below(path):
            raise Gone
        gained = (child for node in change.nodes for child in remote.children(node).values())
        if any(map(self._is_rewritten, change.nodes)) or not set(change.nodes).issuperset(gained):
            raise Gone

    def _is_rewritten(self, node: NodeId) -> bool:
        """Tell whether a listing showed, since this was planned, that somebody wrote to a file."""
        base, remote = self._trees.state.base.get(node), self._trees.remote.get(node)
        if base is None or remote is None or base.content is None:
            return False
        return not is_same_content(base.content, remote.content)


def _is_other_version(base: Entry, item: Item) -> bool:
    """Tell whether a file is no longer what base knows."""
    old = base.content.revision if base.content is not None else None
    return old is not None and (old.size, old.key) != (item.size, item.key)
