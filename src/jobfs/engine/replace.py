"""New content for an existing path, so that nobody's bytes are destroyed unseen (contract, protocol R).

1. create the new file beside the old one, under a hidden name;
2. move the old one to a hidden name: the answer shows whether it still is the revision that we started from;
3. move the new one in: from here it is visible;
4. delete the old one.

At every instant the complete old and the complete new bytes are on the server. Where the old one turns out to be
another version, or somebody takes the path between 2 and 3, ours is withdrawn and theirs stays: the next listing
shows the planner an ordinary conflict. The state remembers each replace before its first request, so that the next
session finishes or undoes what a crash cut off (``mend``).
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from jobfs.engine.creations import LATE_S
from jobfs.engine.lookup import delete, find_created, get_if_there, move
from jobfs.engine.remote import Remote
from jobfs.engine.trees import Trees
from jobfs.errors import (
    ApiError,
    NotFound,
    OutcomeUnknown,
    ParentMissing,
    PathExists,
    Refused,
    ServerFailure,
    StateError,
)
from jobfs.model import ROOT, Content, Entry, Item, ItemId, Kind, NodeId, Permission, Revision, path_of
from jobfs.planner.naming import ConflictStamp, Suffix, conflict_name, hidden_name, is_hidden_name, parse_hidden
from jobfs.store.state import Aside

_log = logging.getLogger(__name__)


class Overtaken(Exception):
    """Somebody else changed the path meanwhile; nothing of theirs was touched, and our bytes are still dirty here.

    :param seen: the other's version, where an answer showed it.
    """

    def __init__(self, seen: Item | None = None) -> None:
        super().__init__()
        self.seen = seen


@dataclass(frozen=True, slots=True)
class Replacement:
    """What is to be put where.

    :param path: the real path. :param old: the revision that is expected there.
    """

    path: str
    permission: Permission
    source: Path | bytes
    content: Content
    mime_type: str
    old: Revision


class Replacer:
    """Carries out protocol R for one workspace.

    :param stamp: what a conflict name made now says.
    """

    def __init__(self, remote: Remote, trees: Trees, stamp: Callable[[], ConflictStamp]) -> None:
        self._remote = remote
        self._trees = trees
        self._stamp = stamp
        self._cleanups: set[asyncio.Task[None]] = set()
        self._strays: dict[ItemId, list[Item]] = {}
        self._stranded: list[tuple[Item, NodeId]] = []
        self._leftover: dict[str, tuple[int, float | None]] = {aside.token: (0, None) for aside in trees.state.asides()}
        """Replaces to be finished or undone: since which epoch, and until when late requests of theirs may be done:
        None where that is not known yet."""
        self._doubted: set[str] = set()
        self._moved: dict[ItemId, tuple[Item, int]] = {}
        """What is aside until it is deleted, as the answer to its move showed it, and in which epoch that came."""
        self._taken: set[ItemId] = set()
        """Of these, what a listing has shown to be somebody's again."""
        self.on_left: Callable[[], None] = lambda: None
        """Called when what was replaced is left to ``mend`` and no try of anybody else's will ask for a listing."""

    async def replace(self, wanted: Replacement, aside: Aside) -> Item:
        """Put new content at a path and return its item once it is visible; the old bytes go afterwards.

        :raises Overtaken: somebody else was faster. :raises ApiError: it failed; nothing is visible, nothing is lost.
        """
        new_path, old_path = hidden_paths(wanted.path, aside.token)
        with self._trees.state.transaction():
            self._trees.state.put_aside(aside)
        try:
            return await self._steps(wanted, aside, new_path, old_path)
        except (Overtaken, NotFound, Refused):
            self._leave(aside, may_come_late=aside.token in self._doubted)
            raise
        except BaseException:
            self._leave(aside, may_come_late=True)
            raise

    @asynccontextmanager
    async def stepping_aside(self, aside: Aside) -> AsyncIterator[Callable[[], None]]:
        """Remember, while the block runs, that an item is moved to a hidden name.

        Once that is acknowledged base has the hidden name, and the planner knows what is left to do. The block is given
        what it calls where the request is sent anew, so that the first one may be done later.
        """
        with self._trees.state.transaction():
            self._trees.state.put_aside(aside)
        try:
            yield lambda: self._doubted.add(aside.token)
        except (Overtaken, NotFound, Refused):
            self._leave(aside, may_come_late=False)
            raise
        except BaseException:
            self._leave(aside, may_come_late=True)
            raise
        if aside.token in self._doubted:
            self._leave(aside, may_come_late=True)
        elif aside.token not in self._leftover:  # else an earlier try of the same move may still be done
            with self._trees.state.transaction():
                self._trees.state.drop_aside(aside.token)

    def _leave(self, aside: Aside, *, may_come_late: bool) -> None:
        """Leave what a replace made to ``mend``."""
        _, before_s = self._leftover.get(aside.token, (0, 0.0))
        until_s = asyncio.get_running_loop().time() + LATE_S if may_come_late else before_s or 0.0
        if aside.old is not None:
            self._settle_moved(aside.old.item)
        self._leftover[aside.token] = (self._trees.epoch, until_s)

    async def _steps(self, wanted: Replacement, aside: Aside, new_path: str, old_path: str) -> Item:
        new = await self._create(new_path, wanted, aside)
        moved = await self._move_away(wanted.old.item, old_path, aside)
        if moved is not None and (moved.size, moved.key) != (wanted.old.size, wanted.old.key):
            await self._withdraw(wanted.path, new, moved)
            raise Overtaken(moved)
        if moved is not None:
            self._moved[moved.id] = moved, self._trees.epoch
        placed = await self._move_in(new, wanted.path, aside)
        if placed is None:
            await self._withdraw(wanted.path, new, None)
            self._delete_later(moved, aside)
            raise Overtaken
        self._delete_later(moved, aside)
        return self._as_sent(placed, new, aside)

    def _as_sent(self, placed: Item, new: Item, aside: Aside) -> Item:
        """Return the item in its place with the version that was sent: what is in it by now, a listing has to show."""
        if (placed.size, placed.key) == (new.size, new.key):
            return placed
        self._trees.doubt(aside.node)
        return dataclasses.replace(placed, size=new.size, key=new.key, updated_at=new.updated_at)

    async def _create(self, path: str, wanted: Replacement, aside: Aside) -> Item:
        try:
            return await self._remote.create_file(path, wanted.permission, wanted.source, wanted.mime_type)
        except (OutcomeUnknown, ServerFailure, PathExists):
            made = await find_created(self._remote, path, Kind.FILE, wanted.content)
            if made is not None:
                return made
            self._doubted.add(aside.token)
            return await self._remote.create_file(path, wanted.permission, wanted.source, wanted.mime_type)

    async def _move_away(self, old: ItemId, path: str, aside: Aside) -> Item | None:
        """Move the old item aside; None where it is gone already, which an edit outlives."""
        try:
            return await move(self._remote, old, path, on_doubt=lambda: self._doubted.add(aside.token))
        except NotFound:
            return None

    async def _move_in(self, new: Item, path: str, aside: Aside) -> Item | None:
        """Move the new item in; None where somebody else has the path by now."""
        try:
            return await move(self._remote, new.id, path, on_doubt=lambda: self._doubted.add(aside.token))
        except PathExists:
            return None

    async def _withdraw(self, path: str, new: Item, moved: Item | None) -> None:
        """Give way: put the other version back under its name and take ours off the server."""
        if moved is not None:
            await self._put_back(moved, path)
        await delete(self._remote, new.id)

    async def _put_back(self, moved: Item, path: str, *, is_replaced: bool = False) -> None:
        """Give a version its name back, or a conflict name beside it where another one has the name by now.

        :param is_replaced: it is the one that was to be replaced: then that other one does so.
        """
        try:
            self._recognise(await move(self._remote, moved.id, path))
            return
        except PathExists:
            if is_replaced:
                await delete(self._remote, moved.id)
                return
        await self.put_beside(moved.id, path)

    async def put_beside(self, item: ItemId, path: str) -> None:
        """Give an item a conflict name, where somebody else has the path that it was to have."""
        above, slash, name = path.rpartition("/")
        taken: set[str] = set()
        while True:
            free = conflict_name(name, self._stamp(), taken.__contains__)
            try:
                await move(self._remote, item, f"{above}{slash}{free}")
            except PathExists:
                taken.add(free)
            else:
                _log.warning("%s was changed by two others at once; one version is now %s", path, free)
                return

    def _recognise(self, item: Item) -> None:
        """Let base follow where our own moves there and back gave a known version a new time: nobody has changed it."""
        known = self._known(item.id)
        old = known.content.revision if known is not None and known.content is not None else None
        if known is None or old is None or (old.size, old.key) != (item.size, item.key) or not old.key:
            return
        if path_of(self._trees.state.base, known.id) == item.path:
            self._trees.acknowledge_change(known, item)

    def _delete_later(self, moved: Item | None, aside: Aside) -> None:
        """Delete what was replaced, off the critical path."""
        task = asyncio.create_task(self._delete(moved, aside), name=f"replaced-{aside.token}")
        self._cleanups.add(task)
        task.add_done_callback(self._cleanups.discard)

    async def _delete(self, moved: Item | None, aside: Aside) -> None:
        if moved is not None and self._settle_moved(moved.id):
            self._leave(aside, may_come_late=True)  # what is still hidden then, ``mend`` gives a name
            self.on_left()
            return
        try:
            if moved is not None:
                await delete(self._remote, moved.id)
                self._trees.bury(moved.id)
            if aside.token not in self._doubted:
                with self._trees.state.transaction():
                    self._trees.state.drop_aside(aside.token)
                return
        except (ApiError, StateError) as error:
            _log.info("the replaced version of %s is still to be deleted: %s", aside.path, error)
            self.on_left()
        self._leave(aside, may_come_late=True)  # the aside stays in the state; ``mend`` does the rest

    def see(self, items: Sequence[Item], epoch: int) -> None:
        """Take notice of a listing: what somebody wrote, or took from its hidden name, is not ours to delete any more.

        :param epoch: of the listing; one that began before the move may show the item where it was.
        """
        for item in items if self._moved else ():
            moved, since = self._moved.get(item.id, (item, epoch))
            is_elsewhere = epoch > since and not is_hidden_name(item.path.rpartition("/")[2])
            if is_elsewhere or (item.size, item.key) != (moved.size, moved.key):
                self._taken.add(item.id)

    def _settle_moved(self, item: ItemId) -> bool:
        """Forget an item that was aside; tell whether it is somebody's by now."""
        is_taken = item in self._taken
        self._moved.pop(item, None)
        self._taken.discard(item)
        return is_taken

    async def settle(self) -> None:
        """Wait for the deletions that are under way."""
        while self._cleanups:
            await asyncio.gather(*self._cleanups)

    async def stop(self) -> None:
        """Give up the deletions that are under way; the next session's ``mend`` does them."""
        for task in (cleanups := list(self._cleanups)):
            task.cancel()
        await asyncio.gather(*cleanups, return_exceptions=True)

    def note_hidden(self, hidden: Sequence[Item]) -> None:
        """Find out, from the hidden items of a complete listing, what others put into directories of ours that are
        about to be deleted under hidden names, and what a directory has left behind that came back from one.
        """
        directories = {item.path: item for item in hidden if item.kind is Kind.DIRECTORY}
        known = {entry.item: entry for entry in self._trees.state.base.entries() if entry.item is not None}
        self._strays.clear()
        self._stranded = [
            (item, known[item.id].id)
            for item in sorted(hidden, key=lambda item: item.path)
            if item.id in known and _hidden_part(item.path) not in (item.path, *directories)
        ]
        for item in hidden:
            above = directories.get(item.path.rpartition("/")[0])
            if above is None or not is_hidden_name(above.path.rpartition("/")[2]) or above.id not in known:
                continue
            directory, entry = known[above.id], known.get(item.id)
            if self._is_here(directory):  # it only steps aside, and takes along what is in it
                continue
            # What was in it and is elsewhere here will be moved out before it is deleted.
            if entry is None or (entry.parent != directory.id and self._is_here(entry)):
                self._strays.setdefault(above.id, []).append(item)

    def _is_here(self, entry: Entry) -> bool:
        """Tell whether the user has a node in the synchronised part."""
        return self._trees.state.synced.get(entry.id) is not None

    def has_strays(self, directory: ItemId) -> bool:
        """Tell whether somebody put something into a directory that is about to be deleted."""
        return directory in self._strays

    async def _shelter(self, stray: Item) -> None:
        """Move what somebody put into a directory that is about to be deleted to where that directory was."""
        found = await get_if_there(self._remote, stray.id)
        if found is None or found.path != stray.path:
            return
        above, _, name = stray.path.rpartition("/")
        outer, slash, hidden = above.rpartition("/")
        parsed = parse_hidden(hidden)
        home = f"{outer}{slash}{parsed.name if parsed is not None else hidden}"
        await self._bring_back(found, f"{home}/{name}")

    async def _fetch_after(self, stranded: Item, node: NodeId) -> None:
        """Move what a directory left behind to where the directory is by now (contract I-18)."""
        found = await get_if_there(self._remote, stranded.id)
        path = path_of(self._trees.state.base, node)
        if found is None or found.path != stranded.path or path is None or _hidden_part(path):
            return
        await self._bring_back(found, path)

    async def _bring_back(self, item: Item, path: str, *, is_replaced: bool = False) -> None:
        """Give a version its name back, in a directory that is made where it is missing; see ``_put_back``."""
        try:
            await self._put_back(item, path, is_replaced=is_replaced)
        except ParentMissing:
            await self._make_directories(path.rpartition("/")[0])
            await self._put_back(item, path, is_replaced=is_replaced)

    async def mend(self, hidden: Sequence[Item], epoch: int) -> bool:
        """Finish or undo what interrupted replaces of ours left, given the hidden items of a complete listing.

        Return whether a later listing has to be looked at for the rest.

        An item under ``.new`` was never visible: its bytes are still dirty here, so it goes. One under ``.old`` goes as
        well where its revision is the one that was to be replaced and something stands at the real path; else it is
        moved back, so that the planner sees what happened as an ordinary difference.

        Only replaces that had failed before the listing began are looked at: of any other, a hidden item in the listing
        may be the visible file by now. One that failed since is left to a later listing.

        :param epoch: of the listing (``Trees.begin_listing``).
        """
        for strays in list(self._strays.values()):
            for stray in strays:
                await self._shelter(stray)
        for stranded, node in self._stranded:
            await self._fetch_after(stranded, node)
        by_token: dict[tuple[str, Suffix], Item] = {}
        for item in hidden:
            parsed = parse_hidden(item.path.rpartition("/")[2])
            if parsed is not None:
                by_token[parsed.token, parsed.suffix] = item
        now_s = asyncio.get_running_loop().time()
        has_more = False
        for aside in self._trees.state.asides():
            since, until_s = self._leftover.get(aside.token, (epoch, 0.0))
            if since >= epoch:
                has_more = has_more or aside.token in self._leftover
                continue
            if (new := await self._still_at(by_token.get((aside.token, Suffix.NEW)))) is not None:
                await delete(self._remote, new.id)
            if (old := await self._still_at(by_token.get((aside.token, Suffix.OLD)))) is not None:
                await self._mend_old(aside, old)
            if until_s is None:  # of an earlier session
                self._leftover[aside.token] = (since, now_s + LATE_S)
            elif until_s <= now_s:
                with self._trees.state.transaction():
                    self._trees.state.drop_aside(aside.token)
                del self._leftover[aside.token]
                self._doubted.discard(aside.token)
        return has_more

    async def _still_at(self, listed: Item | None) -> Item | None:
        """Return a listed item as it is now, or None where it no longer has its hidden name.

        Its directory may have been renamed since.
        """
        found = await get_if_there(self._remote, listed.id) if listed is not None else None
        if found is None or listed is None:
            return None
        return found if found.path.rpartition("/")[2] == listed.path.rpartition("/")[2] else None

    async def _mend_old(self, aside: Aside, old: Item) -> None:
        expected = aside.old
        was_ours = expected is not None and (old.size, old.key) == (expected.size, expected.key)
        above, slash, hidden = old.path.rpartition("/")
        path = f"{above}{slash}{aside.path.rpartition('/')[2]}"  # its directory may have been renamed since
        known = self._known(old.id)
        if known is not None and known.name == hidden:
            return  # a later try of the same move was acknowledged: the planner knows what is left to do
        is_known = aside.node == ROOT or known is not None
        if expected is None and known is not None and not is_hidden_name(known.name):
            # It only stepped aside, and has gone on to its place since.
            path = path_of(self._trees.state.base, known.id) or path
        if was_ours and (not is_known or await self._remote.find(path)):
            await delete(self._remote, old.id)
            return
        await self._bring_back(old, path, is_replaced=was_ours)  # its directory may have been moved without it (I-18)

    def _known(self, item: ItemId) -> Entry | None:
        """Return the record of an item that still is what we know at its place: its successor was never seen."""
        return next((entry for entry in self._trees.state.base.entries() if entry.item == item), None)

    async def _make_directories(self, path: str) -> None:
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            with suppress(PathExists):
                await self._remote.create_directory("/".join(parts[:depth]), Permission.READ_WRITE)


def _hidden_part(path: str) -> str:
    """Return a path up to its first hidden name; nothing where it has none."""
    parts = path.split("/")
    for depth, name in enumerate(parts, 1):
        if is_hidden_name(name):
            return "/".join(parts[:depth])
    return ""


def hidden_paths(path: str, token: str) -> tuple[str, str]:
    """Return the hidden paths beside a real one: for the new version and for the old one."""
    above, slash, name = path.rpartition("/")
    return (
        f"{above}{slash}{hidden_name(name, token, Suffix.NEW)}",
        f"{above}{slash}{hidden_name(name, token, Suffix.OLD)}",
    )
