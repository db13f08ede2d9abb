"""Creates whose answer was lost: what they made is found and belongs to the node that it was made for.

A request may be done although nobody heard so: its answer is lost, or the process dies. As long as the node still
wants that place, the next try finds its own bytes there and adopts them (``pusher``). But the user may meanwhile have
moved or deleted the file, and nobody would try again: the item would come back as a stranger with the next listing. So
every create is remembered, durably, before it is sent, and each listing is searched for what the unanswered ones made.
The same holds for a replace, whose last answer may be lost while the user writes on: what stands there then is his own
earlier version, and no conflict.

What is found becomes a base record of its node: the planner then moves the item to where the node is now, or deletes
it. Where the node has got another item since, the find is a record of its own that the user has deleted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial

from jobfs.engine.lookup import delete, digest_of, get_if_there
from jobfs.engine.remote import Remote
from jobfs.engine.trees import Trees, entry_of
from jobfs.errors import NotFound
from jobfs.model import ROOT, Content, Entry, Item, ItemId, Kind, NodeId, Revision, path_of
from jobfs.planner.naming import is_hidden_name
from jobfs.store.state import Creation

_log = logging.getLogger(__name__)

LATE_S = 60.0
"""So long after it was given up a request may still be done by the server."""


class Creations:
    """The unanswered creates of one workspace."""

    def __init__(self, remote: Remote, trees: Trees) -> None:
        self._remote = remote
        self._trees = trees
        self.on_adopted: Callable[[NodeId], None] = lambda node: None
        trees.on_removed = self.forget_node
        trees.on_rebind = self.follow
        self._open = {creation.path: creation for creation in trees.state.creations()}
        self._doubted: set[str] = set()
        self._strangers: dict[str, Revision] = {}
        self._unclear: frozenset[str] = frozenset()
        """Where the last listing showed something of which it is not known yet whether it is ours."""
        self._given_up: dict[str, tuple[int, float]] = dict.fromkeys(self._open, (0, 0.0))
        """Of those of which nothing will be heard any more: the epoch and the loop's time when that became clear."""

    def follow(self, old: NodeId, new: NodeId) -> None:
        """Take the creates of a node for those of the one that has its place in base now: an atomic save does that."""
        for path, creation in self._open.items():
            if creation.node == old:
                moved = Creation(path, new, creation.content)
                with self._trees.state.transaction():
                    self._trees.state.put_creation(moved)
                    self._trees.state.after_commit(partial(self._open.__setitem__, path, moved))

    def begin(self, path: str, node: NodeId, content: Content | None) -> None:
        """Remember a create that is about to be sent."""
        creation = Creation(path, node, content)
        with self._trees.state.transaction():
            self._trees.state.put_creation(creation)
        if self._given_up.pop(path, None) is not None:
            self._doubted.add(path)  # the earlier one may be done after this one
        self._open[path] = creation

    def doubt(self, path: str) -> None:
        """Note that a create is sent anew because the first one has not been done so far; it may be, later."""
        self._doubted.add(path)

    def end(self, path: str) -> None:
        """Forget a create of which the outcome is known."""
        if path in self._doubted:
            self._doubted.discard(path)
            self.give_up(path)
        else:
            self._forget(path)

    def _forget(self, path: str) -> None:
        with self._trees.state.transaction():
            self._trees.state.drop_creation(path)
            self._trees.state.after_commit(partial(self._forgotten, path, self._open.get(path)))

    def _forgotten(self, path: str, creation: Creation | None) -> None:
        """Follow the store; a create that has begun at the same path since is another one."""
        if self._open.get(path) is creation:
            self._open.pop(path, None)
            self._strangers.pop(path, None)
            self._given_up.pop(path, None)

    def forget_node(self, node: NodeId) -> None:
        """Forget the creates of a node that is removed because the server no longer has it.

        What one of them may still make is not what the user deleted.
        """
        for path in [path for path, creation in self._open.items() if creation.node == node]:
            self._doubted.discard(path)
            self._forget(path)

    def give_up(self, path: str) -> None:
        """Leave a create to the listings: its outcome could not be found out."""
        self._given_up[path] = (self._trees.epoch, asyncio.get_running_loop().time())

    async def see(self, items: Sequence[Item], epoch: int, busy: Collection[NodeId]) -> set[ItemId]:
        """Take what unanswered creates made for ours, in a listing that is about to be taken in.

        :param epoch: of the listing. :param busy: nodes with a request under way; their creates wait.
        :return: items of which it is not known yet whether they are ours; they are not to be shown.
        :raises ApiError: a file could not be compared.
        """
        doubtful = await self._doubtful(items, epoch, busy) if self._open else set()
        self._unclear = frozenset(item.path for item in items if item.id in doubtful) if doubtful else frozenset()
        return doubtful

    def is_unclear_below(self, directory: str) -> bool:
        """Tell whether a directory may hold somebody's file that is shown nowhere, so that it must not be deleted.

        :param directory: its path on the server.
        """
        return any(path.startswith(f"{directory}/") for path in self._unclear)

    async def _doubtful(self, items: Sequence[Item], epoch: int, busy: Collection[NodeId]) -> set[ItemId]:
        known = self._known()
        at = {item.path: item for item in items if item.id not in known}
        doubtful: set[ItemId] = set()
        for creation in list(self._open.values()):
            item = at.get(creation.path)
            since, given_up_s = self._given_up.get(creation.path, (epoch, 0.0))
            is_open = since >= epoch or creation.node in busy
            if is_open:
                doubtful |= {item.id} if item is not None else set()
                continue
            if item is not None and self._strangers.get(creation.path) != item.revision:
                if not await self._is_made_by(creation, item):
                    self._strangers[creation.path] = item.revision  # ours may still come, where this one goes
                elif await self._adopt(creation, item, busy):
                    self.end(creation.path)
                    continue
                else:
                    doubtful.add(item.id)  # its directory is as new as itself
            if asyncio.get_running_loop().time() - given_up_s > LATE_S:
                self._forget(creation.path)
        return doubtful

    async def resolve(self, path: str) -> bool:
        """Look, before another create is sent to a path, whether one that was given up made something there.

        :return: whether it did; what was planned is outdated then.
        :raises ApiError: it could not be found out.
        """
        creation = self._open.get(path)
        if creation is None or path not in self._given_up:
            return False
        found = await self._remote.find(path)
        known = self._known()
        for item in found:
            if item.id not in known and await self._is_made_by(creation, item) and await self._adopt(creation, item):
                self.end(path)
                return True
        return False

    def owner(self, item: Item) -> NodeId | None:
        """Return the node that base knows an item by."""
        return next((entry.id for entry in self._trees.state.base.entries() if entry.item == item.id), None)

    def _known(self) -> set[ItemId | None]:
        return {entry.item for entry in self._trees.state.base.entries()}

    async def _is_made_by(self, creation: Creation, item: Item) -> bool:
        content = creation.content
        if content is None:
            return item.kind is Kind.DIRECTORY
        if item.kind is not Kind.FILE or item.size != content.size:
            return False
        try:
            return await digest_of(self._remote, item.id) == content.sha256
        except NotFound:
            return False

    async def _adopt(self, creation: Creation, item: Item, busy: Collection[NodeId] = ()) -> bool:
        """Record that the server has an item of ours where it was made.

        :return: whether that is settled; if not, the next listing tells more.
        """
        above, _, name = creation.path.rpartition("/")
        parent = self._directory(above)
        state = self._trees.state
        occupant = state.base.child(parent, name) if parent is not None else None
        if parent is None and path_of(state.local, creation.node) != creation.path:
            await delete(self._remote, item.id)  # its directory was moved without it (contract I-18): nobody sees it
            self._trees.bury(item.id)
            return True
        if parent is None or occupant not in (None, creation.node):
            return False
        if occupant is not None and await self._is_visible(state.base.get(occupant)):
            return False  # its former item was moved away by somebody, and not by a replace of ours
        if creation.node in busy or self._open.get(creation.path) is not creation:
            return False  # something was sent for the node while we looked
        if self.owner(item) is not None or state.base.child(parent, name) != occupant:
            return False
        is_elsewhere = occupant is None and state.base.get(creation.node) is not None
        local = state.local.get(creation.node)
        if not is_elsewhere and local is not None and creation.content is not None and not local.is_dirty:
            return True  # it has followed the server since: what is there now is one more version
        node = state.allocate() if is_elsewhere else creation.node
        sha256 = creation.content.sha256 if creation.content is not None else None
        _log.info("%s was made although its answer was lost", creation.path)
        self._trees.acknowledge(entry_of(item, node, parent, name, sha256))
        self.on_adopted(node)
        return True

    async def _is_visible(self, entry: Entry | None) -> bool:
        found = await get_if_there(self._remote, entry.item) if entry is not None and entry.item is not None else None
        return found is not None and not is_hidden_name(found.path.rpartition("/")[2])

    def _directory(self, path: str) -> NodeId | None:
        """Return the node of a directory by its path on the server."""
        node: NodeId | None = ROOT
        for name in path.split("/") if path else ():
            node = self._trees.state.base.child(node, name) if node is not None else None
        return node
