"""Single changes of a workspace without a mount, by the protocols of the contract: nobody's bytes are destroyed unseen.

A file over an existing one goes by protocol R, never by delete and create; a directory moves by protocol M; what was
sent without an answer is looked up before it is sent again (protocol U). A journal in the state folder remembers a
replace before its first request, so that the next command finishes or undoes what a killed one left.
"""

from __future__ import annotations

import hashlib
import mimetypes
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from jobfs.engine.lookup import delete, find_created, move
from jobfs.engine.remote import Remote
from jobfs.engine.replace import Overtaken, Replacement, Replacer, hidden_paths
from jobfs.engine.session import random_token
from jobfs.engine.trees import Trees
from jobfs.errors import (
    Changed,
    IsDirectory,
    JobfsError,
    NotFound,
    OutcomeUnknown,
    PathExists,
    Refused,
    ServerFailure,
)
from jobfs.model import ROOT, Content, Item, Kind, Permission
from jobfs.planner.naming import ConflictStamp, check_path, path_units
from jobfs.store.state import Aside
from jobfs.workspace.journals import open_journal
from jobfs.workspace.places import Place, check_new
from jobfs.workspace.snapshot import Found, Snapshot, check_changeable, take_snapshot

_ROUNDS = 3


class Writer:
    """Changes one workspace. Made by ``open_writer``; may be used by several tasks at once."""

    def __init__(self, remote: Remote, trees: Trees) -> None:
        self._remote = remote
        self._trees = trees
        self._replacer = Replacer(remote, trees, lambda: ConflictStamp.at(socket.gethostname(), time.time_ns()))

    async def put(self, place: Place, source: Path, there: Found | None) -> Item:
        """Send a local file to a path; return its item once it is visible.

        :param there: what is at the path now, or None.
        :raises Changed: somebody else changed it meanwhile.
        :raises Refused: it is read-only, or a directory.
        """
        check_new(place)
        mime_type = mimetypes.guess_type(place.name)[0] or "application/octet-stream"
        before, content = await _content(source)
        if there is None or there.item is None or there.is_shared:
            # Over an item of all jobs a private one is made, which then wins (contract I-27).
            item = await self._create(place, source, content, mime_type, there.item if there is not None else None)
        else:
            check_changeable(place, there)
            _check_file(place, there.item)
            item = await self._replace(place, source, content, mime_type, there.item)
        if _signature(source) != before or item.size != content.size:
            raise JobfsError(f"{source} changed while it was sent; {place} may be a mixture", "put it again")
        return item

    async def _create(self, place: Place, source: Path, content: Content, mime_type: str, known: Item | None) -> Item:
        permission = Permission.READ_WRITE
        try:
            return await self._remote.create_file(place.path, permission, source, mime_type)
        except (OutcomeUnknown, ServerFailure):
            found = await find_created(
                self._remote, place.path, Kind.FILE, content, known.id if known is not None else None
            )
            if found is not None:
                return found
            return await self._remote.create_file(place.path, permission, source, mime_type)

    async def _replace(self, place: Place, source: Path, content: Content, mime_type: str, old: Item) -> Item:
        aside = Aside(random_token(), ROOT, place.path, old.revision)
        wanted = Replacement(place.path, old.permission, source, content, old.mime_type or mime_type, old.revision)
        try:
            return await self._replacer.replace(wanted, aside)
        except Overtaken:
            raise Changed(
                f"{place} was changed by somebody else meanwhile; theirs is untouched, yours was not stored",
                "look at theirs, then put yours again",
            ) from None

    async def make_directory(self, place: Place) -> Item:
        """Make a directory whose parent is there."""
        check_new(place)
        permission = Permission.READ_WRITE
        try:
            return await self._remote.create_directory(place.path, permission)
        except (OutcomeUnknown, ServerFailure):
            found = await find_created(self._remote, place.path, Kind.DIRECTORY, None)
            return found if found is not None else await self._remote.create_directory(place.path, permission)

    async def move(
        self, place: Place, found: Found, target: Place, there: Found | None, snapshot: Snapshot
    ) -> Item | None:
        """Move a file or directory to a path; a file that is there is replaced. Return the item of a moved file.

        :raises Changed: somebody else changed what is replaced.
        :raises Refused: it cannot be, see the message.
        """
        check_changeable(place, found)
        check_new(target)
        if found.is_directory:
            await self._move_directory(place, found, target, there, snapshot)
            return None
        if found.item is None:
            raise AssertionError("a file always has its item")
        if there is None:
            return await move(self._remote, found.item.id, target.path)
        check_changeable(target, there)
        return await self._move_over(found.item, target, _check_file(target, there.item))

    async def _move_over(self, item: Item, target: Place, old: Item) -> Item:
        """Move the old one aside, the item in, and delete the old one only if it was the one that we saw."""
        aside = Aside(random_token(), ROOT, target.path, old.revision)
        with self._trees.state.transaction():
            self._trees.state.put_aside(aside)
        moved = await move(self._remote, old.id, hidden_paths(target.path, aside.token)[1])
        try:
            if (moved.size, moved.key) != (old.size, old.key):
                raise Changed(f"{target} was changed by somebody else meanwhile", "look at it, then move again")
            placed = await move(self._remote, item.id, target.path)
        except JobfsError:
            await move(self._remote, moved.id, target.path)
            raise
        await delete(self._remote, moved.id)
        with self._trees.state.transaction():
            self._trees.state.drop_aside(aside.token)
        return placed

    async def _move_directory(
        self, place: Place, found: Found, target: Place, there: Found | None, snapshot: Snapshot
    ) -> None:
        if there is not None:
            raise PathExists(f"{target} is there already", "remove it first, or name another place")
        if f"{target.path}/".startswith(f"{found.path}/"):
            raise Refused(f"{place} cannot be moved into itself", "name another place")
        longer = path_units(target.path) - path_units(found.path)
        for below in snapshot.below(found.path):
            check_changeable(Place(place.job, below.path), below)
            if longer > 0 and check_path(f"{target.path}{below.path[len(found.path) :]}") is not None:
                raise Refused(f"{below.path} would get too long a path", "choose a shorter name")
        if found.item is not None:
            await move(self._remote, found.item.id, target.path)
        elif target.path:
            await self.make_directory(target)
        await self._bring_along(found.path, target.path)

    async def _bring_along(self, old: str, new: str) -> None:
        """Move what the server left behind, parents first, until nothing is (contract, protocol M)."""
        for _ in range(_ROUNDS):
            left = list((await take_snapshot(self._remote)).below(old))
            if not left:
                return
            for found in left:
                if found.item is not None:
                    await move(self._remote, found.item.id, new + found.path[len(old) :])
                elif found.is_directory:
                    continue
        raise ServerFailure(f"some files are still below {old}", "move them again; see 'jobfs tree'")

    async def remove_file(self, place: Place, found: Found) -> None:
        """Delete a file.

        :raises Refused: it belongs to all jobs, or to the runtime.
        """
        check_changeable(place, found)
        if found.item is None:
            raise AssertionError("a file always has its item")
        await delete(self._remote, found.item.id)

    async def remove(self, place: Place, found: Found, snapshot: Snapshot) -> None:
        """Delete a file, or a directory with everything below it.

        :raises Refused: something there belongs to all jobs, or is the root.
        """
        if not found.path:
            raise Refused(f"{place} is the root of the workspace, which cannot be removed", "name what is in it")
        below = list(snapshot.below(found.path))
        for inner in (found, *below):
            check_changeable(Place(place.job, inner.path), inner)
        if found.item is not None:
            await delete(self._remote, found.item.id)
            return
        for inner in reversed(below):
            if inner.item is not None:
                await delete(self._remote, inner.item.id)

    async def set_permission(self, place: Place, found: Found, permission: Permission) -> Item:
        """Set the write bit; return the item as it then is."""
        check_changeable(place, found)
        if found.item is None:
            raise Refused(f"{place} is no item of the server, but implied by what it holds", "name what is in it")
        try:
            return await self._remote.update(found.item.id, permission=permission)
        except (OutcomeUnknown, ServerFailure):
            item = await self._remote.get(found.item.id)
            if item.permission is permission:
                return item
            return await self._remote.update(found.item.id, permission=permission)

    async def mend(self) -> None:
        """Finish or undo what killed commands left, where there is something."""
        if self._trees.state.asides():
            epoch = self._trees.begin_listing()
            snapshot = await take_snapshot(self._remote)
            await self._replacer.mend(snapshot.view.hidden, epoch)

    async def settle(self) -> None:
        """Return when nothing is under way any more."""
        await self._replacer.settle()


@asynccontextmanager
async def open_writer(remote: Remote, root: Path, url: str, job: str) -> AsyncIterator[Writer]:
    """Open a workspace for changes; what an earlier command left is mended first.

    :param root: the folder of all states.
    """
    state = open_journal(root, url, job)
    try:
        writer = Writer(remote, Trees(state))
        await writer.mend()
        try:
            yield writer
        finally:
            await writer.settle()
    finally:
        state.close()


def target_in(snapshot: Snapshot, place: Place, name: str) -> Place:
    """Return where something of a name goes: into the place where that is a directory, else to the place itself.

    :raises NotFound: the place is written as a directory, and is none.
    """
    found = snapshot.get(place.path)
    if found is not None and found.is_directory:
        return place.child(name)
    if place.is_directory:
        raise NotFound(f"{place}/ is no directory", f"make it first: jobfs mkdir {place}")
    return place


def check_parent(snapshot: Snapshot, place: Place) -> None:
    """Refuse a path whose directory is not there.

    :raises NotFound:
    """
    above = snapshot.get(place.path.rpartition("/")[0])
    if above is None or not above.is_directory:
        parent = Place(place.job, place.path.rpartition("/")[0])
        raise NotFound(f"{parent} is no directory", f"make it first: jobfs mkdir -p {parent}")


def _check_file(place: Place, item: Item | None) -> Item:
    if item is None or item.kind is not Kind.FILE:
        raise IsDirectory(f"{place} is a directory", "name a file, or a path in the directory")
    if item.permission is Permission.READ_ONLY:
        raise Refused(f"{place} is read-only", f"make it writable first: jobfs chmod +w {place}")
    return item


async def _content(source: Path) -> tuple[tuple[int, ...], Content]:
    before = _signature(source)
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return before, Content(before[0], digest)


def _signature(source: Path) -> tuple[int, ...]:
    found = source.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino
