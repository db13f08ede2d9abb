"""Creates whose answer was lost: what they made is found and belongs to the node that it was made for.

A request may be done although nobody heard so: its answer is lost, or the process dies. As long as the node still
wants that place, the next try finds its own bytes there and adopts them (``pusher``). But the user may meanwhile have
moved or deleted the file, and nobody would try again: the item would come back as a stranger with the next listing. So
every create is remembered, durably, before it is sent, and each listing is searched for what the unanswered ones made.
The same holds for a replace, whose last answer may be lost while the user writes on: what stands there then is his own
earlier version, and no conflict.

It is looked for where it was sent to, and in the directory that this was, wherever that is by now: some servers move
what is in a directory along, and some do not (contract I-18).

What is found becomes a base record of its node: the planner then moves the item to where the node is now, or deletes
it. Where the node has got another item since, the find is a record of its own that the user has deleted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

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


@dataclass(slots=True, eq=False)
class Unanswered:
    """A create that was begun, and may yet make something.

    :param is_doubted: it was sent twice, and only the second answer is known: the first may be done later.
    :param given_up: nothing will be heard of it any more: the epoch and the loop's time when that became clear; of what
        an earlier session left the time of the first listing, and None until then.
    :param strangers: what the last listing had in its place, and was compared, and is not what it makes.
    """

    record: Creation
    is_doubted: bool = False
    given_up: tuple[int, float | None] | None = None
    strangers: frozenset[Revision] = frozenset()

    @property
    def path(self) -> str:
        """Where it makes something, from the root."""
        return self.record.path


class Creations:
    """The unanswered creates of one workspace; there may be several at one path."""

    def __init__(self, remote: Remote, trees: Trees) -> None:
        self._remote = remote
        self._trees = trees
        self.on_adopted: Callable[[NodeId], None] = lambda node: None
        trees.on_removed = self.forget_node
        trees.on_rebind = self.follow
        left = trees.state.creations()
        self._open = {record.number: Unanswered(record, given_up=(0, None)) for record in left}
        self._numbers = count(1 + max(self._open, default=0))
        self._unclear: frozenset[str] = frozenset()
        """Where the last listing showed something of which it is not known yet whether it is ours."""

    def follow(self, old: NodeId, new: NodeId) -> None:
        """Take a node for the one that has its place in base now: an atomic save does that."""
        for creation in self._open.values():
            record = creation.record
            if old in (record.node, record.parent):
                parent = new if record.parent == old else record.parent
                moved = replace(record, node=new if record.node == old else record.node, parent=parent)
                with self._trees.state.transaction():
                    self._trees.state.put_creation(moved)
                    self._trees.state.after_commit(partial(setattr, creation, "record", moved))

    def begin(self, path: str, parent: NodeId, node: NodeId, content: Content | None) -> Unanswered:
        """Remember a create that is about to be sent to a path, for a node, in a directory."""
        creation = Unanswered(Creation(next(self._numbers), path, parent, node, content))
        with self._trees.state.transaction():
            self._trees.state.put_creation(creation.record)
        self._open[creation.record.number] = creation
        return creation

    def end(self, creation: Unanswered) -> None:
        """Forget a create of which the outcome is known."""
        if creation.is_doubted:
            creation.is_doubted = False
            self.give_up(creation)
        else:
            self._forget(creation)

    def _forget(self, creation: Unanswered) -> None:
        number = creation.record.number
        with self._trees.state.transaction():
            self._trees.state.drop_creation(number)
            self._trees.state.after_commit(partial(self._open.pop, number, None))

    def forget_node(self, node: NodeId) -> None:
        """Forget the creates of a node that is removed because the server no longer has it.

        What one of them may still make is not what the user deleted.
        """
        for creation in [creation for creation in self._open.values() if creation.record.node == node]:
            self._forget(creation)

    def give_up(self, creation: Unanswered) -> None:
        """Leave a create to the listings: its outcome could not be found out, or not all of it."""
        creation.given_up = self._trees.epoch, asyncio.get_running_loop().time()

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
        directories = {item.id: item.path for item in items if item.kind is Kind.DIRECTORY}
        doubtful: set[ItemId] = set()
        now_s = asyncio.get_running_loop().time()
        for creation in list(self._open.values()):
            found = [at[path] for path in self._places(creation, directories) if path in at]
            since, given_up_s = creation.given_up or (epoch, None)
            if since >= epoch or creation.record.node in busy:
                doubtful |= {item.id for item in found}
                continue
            made = await self._made(creation, found)
            if made is not None and await self._adopt(creation, made, busy):
                self.end(creation)
                del at[made.path]
                continue
            if made is not None:
                doubtful.add(made.id)  # its directory is as new as itself
            if given_up_s is None:
                creation.given_up = since, now_s
            elif now_s - given_up_s > LATE_S:
                self._forget(creation)
        return doubtful

    async def _made(self, creation: Unanswered, found: Sequence[Item]) -> Item | None:
        """Return which of the items in its place a create has made; others are not compared with it again."""
        strangers = creation.strangers & {item.revision for item in found}
        made = None
        for item in found:
            if made is None and item.revision not in strangers:
                if await self._is_made_by(creation.record, item):
                    made = item
                else:
                    strangers |= {item.revision}  # ours may still come, where this one goes
        creation.strangers = strangers
        return made

    def _places(self, creation: Unanswered, directories: Mapping[ItemId, str]) -> Iterator[str]:
        """Yield where to look for what a create made, each path once.

        :param directories: the paths of the directories that there are.
        """
        record = creation.record
        yield record.path
        parent = self._trees.state.base.get(record.parent) if record.parent is not None else None
        above = directories.get(parent.item) if parent is not None and parent.item is not None else None
        if above is not None and (path := f"{above}/{record.path.rpartition('/')[2]}") != record.path:
            yield path

    async def resolve(self, path: str) -> bool:
        """Look, before another create is sent to a path, whether one that was given up made something there.

        :return: whether it did; what was planned is outdated then.
        :raises ApiError: it could not be found out.
        """
        above = self._directory(path.rpartition("/")[0])
        entry = self._trees.state.base.get(above) if above is not None else None
        here = {entry.item: path.rpartition("/")[0]} if entry is not None and entry.item is not None else {}
        given_up = [one for one in self._open.values() if one.given_up is not None and path in self._places(one, here)]
        if not given_up:
            return False
        found = await self._remote.find(path)
        known = self._known()
        for item in found:
            for creation in given_up:
                is_ours = item.id not in known and await self._is_made_by(creation.record, item)
                if is_ours and await self._adopt(creation, item):
                    self.end(creation)
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

    async def _adopt(self, unanswered: Unanswered, item: Item, busy: Collection[NodeId] = ()) -> bool:
        """Record that the server has an item of ours where it was made.

        :return: whether that is settled; if not, the next listing tells more.
        """
        creation = unanswered.record
        above, _, name = item.path.rpartition("/")
        parent = self._directory(above)
        state = self._trees.state
        occupant = state.base.child(parent, name) if parent is not None else None
        if parent is None and item.path == creation.path != path_of(state.local, creation.node):
            await delete(self._remote, item.id)  # its directory was moved without it (contract I-18): nobody sees it
            self._trees.bury(item.id)
            return True
        if parent is None or occupant not in (None, creation.node):
            return False
        if occupant is not None and await self._is_visible(state.base.get(occupant)):
            return False  # its former item was moved away by somebody, and not by a replace of ours
        if creation.node in busy or self._is_overtaken(unanswered, creation, item.path):
            return False  # something was sent for the node while we looked
        if self.owner(item) is not None or state.base.child(parent, name) != occupant:
            return False
        is_elsewhere = occupant is None and state.base.get(creation.node) is not None
        local = state.local.get(creation.node)
        if not is_elsewhere and local is not None and creation.content is not None and not local.is_dirty:
            return True  # it has followed the server since: what is there now is one more version
        node = state.allocate() if is_elsewhere else creation.node
        sha256 = creation.content.sha256 if creation.content is not None else None
        _log.info("%s was made although its answer was lost", item.path)
        self._trees.acknowledge(entry_of(item, node, parent, name, sha256))
        self.on_adopted(node)
        return True

    def _is_overtaken(self, unanswered: Unanswered, record: Creation, path: str) -> bool:
        """Tell whether a create is another node's by now, is settled, or another one is under way at a path."""
        if unanswered.record is not record or self._open.get(record.number) is not unanswered:
            return True
        return any(one.path == path and one.given_up is None for one in self._open.values())

    async def _is_visible(self, entry: Entry | None) -> bool:
        found = await get_if_there(self._remote, entry.item) if entry is not None and entry.item is not None else None
        return found is not None and not is_hidden_name(found.path.rpartition("/")[2])

    def _directory(self, path: str) -> NodeId | None:
        """Return the node of a directory by its path on the server."""
        node: NodeId | None = ROOT
        for name in path.split("/") if path else ():
            node = self._trees.state.base.child(node, name) if node is not None else None
        return node
