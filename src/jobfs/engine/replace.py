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
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobfs.engine.lookup import find_created, get_if_there
from jobfs.engine.remote import Remote
from jobfs.engine.trees import Trees
from jobfs.errors import ApiError, NotFound, OutcomeUnknown, PathExists, ServerFailure
from jobfs.model import Content, Item, ItemId, Kind, Permission, Revision
from jobfs.planner.naming import Suffix, hidden_name, parse_hidden
from jobfs.store.state import Aside

_log = logging.getLogger(__name__)


class Overtaken(Exception):
    """Somebody else changed the path meanwhile; nothing of theirs was touched, and our bytes are still dirty here."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """What is to be put where.

    :param path: the real path. :param old: the revision that is expected there.
    """

    path: str
    permission: Permission
    source: Path
    content: Content
    mime_type: str
    old: Revision


class Replacer:
    """Carries out protocol R for one workspace."""

    def __init__(self, remote: Remote, trees: Trees) -> None:
        self._remote = remote
        self._trees = trees
        self._cleanups: set[asyncio.Task[None]] = set()
        self._leftover: dict[str, int] = {aside.token: 0 for aside in trees.state.asides()}

    async def replace(self, wanted: Replacement, aside: Aside) -> Item:
        """Put new content at a path and return its item once it is visible; the old bytes go afterwards.

        :raises Overtaken: somebody else was faster. :raises ApiError: it failed; nothing is visible, nothing is lost.
        """
        new_path, old_path = hidden_paths(wanted.path, aside.token)
        with self._trees.state.transaction():
            self._trees.state.put_aside(aside)
        try:
            return await self._steps(wanted, aside, new_path, old_path)
        except BaseException:
            self._leftover[aside.token] = self._trees.epoch
            raise

    async def _steps(self, wanted: Replacement, aside: Aside, new_path: str, old_path: str) -> Item:
        new = await self._create(new_path, wanted)
        moved = await self._move_away(wanted.old.item, old_path)
        if moved is not None and (moved.size, moved.key) != (wanted.old.size, wanted.old.key):
            await self._withdraw(wanted.path, new, moved)
            raise Overtaken
        placed = await self._move_in(new, wanted.path)
        if placed is None:
            await self._withdraw(wanted.path, new, None)
            self._delete_later(moved, aside)
            raise Overtaken
        self._delete_later(moved, aside)
        return placed

    async def _create(self, path: str, wanted: Replacement) -> Item:
        try:
            return await self._remote.create_file(path, wanted.permission, wanted.source, wanted.mime_type)
        except (OutcomeUnknown, ServerFailure, PathExists):
            made = await find_created(self._remote, path, Kind.FILE, wanted.content)
            if made is not None:
                return made
            return await self._remote.create_file(path, wanted.permission, wanted.source, wanted.mime_type)

    async def _move_away(self, old: ItemId, path: str) -> Item | None:
        """Move the old item aside; None where it is gone already, which an edit outlives."""
        try:
            return await move(self._remote, old, path)
        except NotFound:
            return None

    async def _move_in(self, new: Item, path: str) -> Item | None:
        """Move the new item in; None where somebody else has the path by now."""
        try:
            return await move(self._remote, new.id, path)
        except PathExists:
            return None

    async def _withdraw(self, path: str, new: Item, moved: Item | None) -> None:
        """Give way: put the other version back under its name and take ours off the server."""
        if moved is not None:
            try:
                await move(self._remote, moved.id, path)
            except PathExists:
                _log.info("two strangers at one path: the one moved aside stays under its hidden name")
                return
        await delete(self._remote, new.id)

    def _delete_later(self, moved: Item | None, aside: Aside) -> None:
        """Delete what was replaced, off the critical path."""
        task = asyncio.create_task(self._delete(moved, aside), name=f"replaced-{aside.token}")
        self._cleanups.add(task)
        task.add_done_callback(self._cleanups.discard)

    async def _delete(self, moved: Item | None, aside: Aside) -> None:
        try:
            if moved is not None:
                await delete(self._remote, moved.id)
                self._trees.bury(moved.id)
        except ApiError as error:
            _log.info("the replaced version of %s is still to be deleted: %s", aside.path, error)
            self._leftover[aside.token] = self._trees.epoch
            return  # the aside stays in the state; ``mend`` deletes it
        with self._trees.state.transaction():
            self._trees.state.drop_aside(aside.token)

    async def settle(self) -> None:
        """Wait for the deletions that are under way."""
        while self._cleanups:
            await asyncio.gather(*self._cleanups)

    async def mend(self, hidden: Sequence[Item], epoch: int) -> None:
        """Finish or undo what interrupted replaces of ours left, given the hidden items of a complete listing.

        An item under ``.new`` was never visible: its bytes are still dirty here, so it goes. One under ``.old`` goes as
        well where its revision is the one that was to be replaced and something stands at the real path; else it is
        moved back, so that the planner sees what happened as an ordinary difference.

        Only replaces that had failed before the listing began are looked at: of any other, a hidden item in the listing
        may be the visible file by now.

        :param epoch: of the listing (``Trees.begin_listing``).
        """
        by_token: dict[tuple[str, Suffix], Item] = {}
        for item in hidden:
            parsed = parse_hidden(item.path.rpartition("/")[2])
            if parsed is not None:
                by_token[parsed.token, parsed.suffix] = item
        for aside in self._trees.state.asides():
            if self._leftover.get(aside.token, epoch) >= epoch:
                continue
            if (new := await self._still_at(by_token.get((aside.token, Suffix.NEW)))) is not None:
                await delete(self._remote, new.id)
            if (old := await self._still_at(by_token.get((aside.token, Suffix.OLD)))) is not None:
                await self._mend_old(aside, old)
            with self._trees.state.transaction():
                self._trees.state.drop_aside(aside.token)
            del self._leftover[aside.token]

    async def _still_at(self, listed: Item | None) -> Item | None:
        """Return a listed item as it is now, or None where it is no longer at its hidden path."""
        found = await get_if_there(self._remote, listed.id) if listed is not None else None
        return found if found is not None and listed is not None and found.path == listed.path else None

    async def _mend_old(self, aside: Aside, old: Item) -> None:
        expected = aside.old
        was_ours = expected is not None and (old.size, old.key) == (expected.size, expected.key)
        above, slash, _ = old.path.rpartition("/")
        path = f"{above}{slash}{aside.path.rpartition('/')[2]}"  # its directory may have been renamed since
        if was_ours and await self._remote.find(path):
            await delete(self._remote, old.id)
            return
        try:
            await move(self._remote, old.id, path)
        except PathExists:
            _log.warning(
                "%s was changed by two others at once; the version moved aside is kept under %s", aside.path, old.path
            )


async def move(remote: Remote, item: ItemId, path: str) -> Item:
    """Move an item; where the answer is lost, look before trying again (protocol U).

    :raises NotFound: the item is gone. :raises PathExists: the target is taken by another item.
    """
    try:
        return await remote.update(item, path=path)
    except (OutcomeUnknown, ServerFailure):
        found = await remote.get(item)
        if found.path == path:
            return found
        return await remote.update(item, path=path)


async def delete(remote: Remote, item: ItemId) -> None:
    """Delete an item; gone is done (contract I-25)."""
    try:
        await remote.delete(item)
    except NotFound:
        return
    except (OutcomeUnknown, ServerFailure):
        if await get_if_there(remote, item) is not None:
            await remote.delete(item)


def hidden_paths(path: str, token: str) -> tuple[str, str]:
    """Return the hidden paths beside a real one: for the new version and for the old one."""
    above, slash, name = path.rpartition("/")
    return (
        f"{above}{slash}{hidden_name(name, token, Suffix.NEW)}",
        f"{above}{slash}{hidden_name(name, token, Suffix.OLD)}",
    )
