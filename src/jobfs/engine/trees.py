"""The three trees together, and the changes that concern more than one of them.

**Invariant: base says only what the server acknowledged.** Every method here is one transaction; base and the remote
tree are changed together, so that an acknowledgement is never seen by one and not by the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from jobfs.model import ROOT, Content, Entry, Item, ItemId, Kind, NodeId, Revision, path_of
from jobfs.store.state import State
from jobfs.store.trees import Tree


class Trees:
    """Base and local in the store, remote in memory.

    After a start the remote tree is base: nothing has been observed yet, so nothing differs.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.remote: Tree[Entry] = Tree()
        for entry in state.base.entries():
            self.remote.put(entry)
        self.epoch = 0
        self.listings = 0
        """Counts those that were taken in."""
        self.changes = 0
        """Counts what changed the remote tree besides the listings."""
        self.is_observed = False
        """Whether the remote tree is what the last listing showed, and not only base."""
        self.carried: set[NodeId] = set()
        self.on_removed: Callable[[NodeId], None] = lambda node: None
        self.on_rebind: Callable[[NodeId, NodeId], None] = lambda old, new: None
        self._acknowledged: dict[NodeId, int] = {}
        self._doubted: dict[NodeId, int] = {}
        self._tombstones: dict[ItemId, int] = {}

    # -- what the server acknowledged

    def acknowledge(self, entry: Entry) -> None:
        """Record what the server holds for a node now; the remote tree follows when the store has it."""
        with self.state.transaction():
            self.state.put_base(entry)
            self.state.after_commit(partial(self._acknowledge, entry))

    def _acknowledge(self, entry: Entry) -> None:
        self._observe_place(entry)
        self._acknowledged[entry.id] = self.epoch

    def acknowledge_change(self, entry: Entry, item: Item) -> None:
        """Record a move or permission change of an item; its revision advances unless somebody else was there too.

        What a listing has shown of others' changes, and what is not taken in here yet, stays known.
        """
        base, listed = self.state.base.get(entry.id), self.remote.get(entry.id)
        old = entry.content.revision if entry.content is not None else None
        is_overtaken = old is not None and (item.size, item.key) != (old.size, old.key)
        if entry.content is None or old is None or is_overtaken:
            self.acknowledge(entry)
        else:
            self.advance(entry, Content(entry.content.size, entry.content.sha256, item.revision))
        now = self.remote.get(entry.id)
        if base is None or now is None or listed is None or listed.item != entry.item:
            return
        if entry.permission is base.permission:
            now = replace(now, permission=listed.permission)
        self.remote.put(replace(now, content=listed.content) if is_overtaken else now)

    def advance(self, entry: Entry, content: Content) -> None:
        """Record a newer revision of the same bytes; a clean local file follows.

        :param entry: as it was when the server was asked; another answer may have advanced it since.
        """
        olds = [each.content for each in (entry, self.state.base.get(entry.id)) if each is not None]
        clean = {old.revision for old in olds if old is not None and old.revision is not None}
        with self.state.transaction():
            self.state.put_base(replace(entry, content=content))
            local = self.state.local.get(entry.id)
            if local is not None and local.content is not None and local.content.revision in clean:
                sha256 = local.content.sha256 or content.sha256
                self.state.put_local(replace(local, content=replace(content, sha256=sha256)))
        self._observe_place(replace(entry, content=content))
        self._acknowledged[entry.id] = self.epoch

    def _observe_place(self, entry: Entry) -> None:
        """Put an entry into the remote tree. Since the server had room for it, what a listing saw there is gone.

        Where a listing has meanwhile shown that its directory is gone, it is in another one that has that path now; the
        next listing tells in which.
        """
        self.changes += 1
        if entry.parent != ROOT and self.remote.get(entry.parent) is None:
            self.remote.drop(entry.id)
            return
        rival = self.remote.child(entry.parent, entry.name)
        if rival is not None and rival != entry.id and self.state.base.get(rival) is None:
            self.remote.drop(rival)
        self.remote.put(entry)

    def forget(self, node: NodeId) -> None:
        """Record that the server no longer has a node, and remember its item while a listing may still show it."""
        gone = self.state.base.get(node) or self.remote.get(node)
        with self.state.transaction():
            self.state.drop_base(node)
            self.state.after_commit(partial(self._bury, node, gone))

    def _bury(self, node: NodeId, gone: Entry | None) -> None:
        self.changes += 1
        self.remote.drop(node)
        self._acknowledged[node] = self.epoch
        if gone is not None and gone.item is not None:
            self._tombstones[gone.item] = self.epoch

    def removed_here(self, node: NodeId) -> None:
        """Note that a node is removed here because the server no longer has it: nobody deleted it here.

        To be called in the transaction that removes it.
        """
        self.on_removed(node)

    def bury(self, item: ItemId) -> None:
        """Remember an item that we deleted and that no record names."""
        self._tombstones[item] = self.epoch

    def rebind(self, old: NodeId, new: NodeId) -> None:
        """Give what base and remote know as ``old`` to the node ``new``; children follow."""
        with self.state.transaction():
            entry = self.state.base.get(old)
            if entry is not None:
                children = list(self.state.base.children(old).values())
                self.state.drop_base(old)
                self.state.put_base(replace(entry, id=new))
                for child in children:
                    below = self.state.base.get(child)
                    if below is not None:
                        self.state.put_base(replace(below, parent=new))
            self.on_rebind(old, new)
            self.state.after_commit(partial(self._rebound, old, new))

    def _rebound(self, old: NodeId, new: NodeId) -> None:
        self.changes += 1
        rekey(self.remote, old, new)
        for epochs in (self._acknowledged, self._doubted):
            if old in epochs:
                epochs[new] = epochs.pop(old)

    # -- listings

    def observe(self, node: NodeId, item: Item) -> None:
        """Take another's version of a file, which an answer showed, before a listing shows it.

        Until then nothing that the user does to the file may be planned as if that version were not there.
        """
        entry = self.remote.get(node)
        if entry is not None and entry.item == item.id and entry.kind is Kind.FILE:
            self.changes += 1
            self.remote.put(replace(entry, content=Content(item.size, None, item.revision)))

    def absorb_moves(self, items: Iterable[Item]) -> None:
        """Take new times of items that moved along with a directory of ours for what they are.

        The server may stamp them (contract I-38 does not say); their size and storage key, which a change of the bytes
        would change, are as before. Without this, renaming a directory would download all of it again.
        """
        if not self.carried:
            return
        nodes = {entry.item: entry for entry in self.state.base.entries() if entry.content is not None}
        with self.state.transaction():
            for item in items:
                entry = nodes.get(item.id)
                old = entry.content.revision if entry is not None and entry.content is not None else None
                if entry is None or entry.content is None or old is None or old.updated_at == item.updated_at:
                    continue
                same = (item.size, item.key) == (old.size, old.key) and bool(old.key)
                same = same and item.path == path_of(self.state.base, entry.id)  # else somebody moved it out
                if same and is_below(self.state.base, entry.id, self.carried):
                    self.advance(entry, Content(entry.content.size, entry.content.sha256, item.revision))
        self.carried.clear()

    def reset_remote(self) -> None:
        """Take base for what the server has, until the next listing: after a transaction that failed half-way.

        What the last listing showed besides is forgotten, so that nothing may be deleted on its word.
        """
        self.changes += 1
        self.is_observed = False
        self.remote = Tree()
        for entry in self.state.base.entries():
            self.remote.put(entry)

    def begin_listing(self) -> int:
        """Start a new epoch and return it: what is acknowledged from now on may be missing in the listing."""
        self.epoch += 1
        return self.epoch

    def acknowledged_since(self, epoch: int) -> set[NodeId]:
        """Return the nodes that were acknowledged in this epoch or later."""
        return {node for node, at in self._acknowledged.items() if at >= epoch}

    def doubt(self, node: NodeId) -> None:
        """Note that a node was found to be otherwise than known: nothing but a listing that begins later tells."""
        self._doubted[node] = self.epoch

    def is_unlisted(self, node: NodeId) -> bool:
        """Tell whether what is known of a node is no ground to delete it.

        It was found to be otherwise, or it is a directory and was acknowledged, since the last listing that was taken
        in had begun.
        """
        if node in self._doubted:
            return True
        entry = self.remote.get(node)
        return node in self._acknowledged and entry is not None and entry.kind is Kind.DIRECTORY

    def is_unplaced(self, node: NodeId) -> bool:
        """Tell whether the server acknowledged a node since the last listing began that knows no place for it.

        It is there, in a directory that has come since; it is not gone.
        """
        return node in self._acknowledged and self.remote.get(node) is None

    def buried_since(self, epoch: int) -> set[ItemId]:
        """Return the items that were deleted in this epoch or later."""
        return {item for item, at in self._tombstones.items() if at >= epoch}

    def end_listing(self, epoch: int) -> None:
        """Note that a listing was taken in, and forget what none can miss any more."""
        self.is_observed = True
        self.listings += 1
        self._acknowledged = {node: at for node, at in self._acknowledged.items() if at >= epoch}
        self._doubted = {node: at for node, at in self._doubted.items() if at >= epoch}
        self._tombstones = {item: at for item, at in self._tombstones.items() if at >= epoch}


def rekey(tree: Tree[Entry], old: NodeId, new: NodeId) -> None:
    """Give a node of a tree another number; its children follow."""
    entry = tree.get(old)
    if entry is None:
        return
    children = list(tree.children(old).values())
    tree.drop(old)
    tree.put(replace(entry, id=new))
    for child in children:
        below = tree.get(child)
        if below is not None:
            tree.put(replace(below, parent=new))


def entry_of(item: Item, node: NodeId, parent: NodeId, name: str, sha256: str | None) -> Entry:
    """Return the record of an item that the server has just acknowledged."""
    revision: Revision | None = item.revision if item.kind is Kind.FILE else None
    content = Content(item.size, sha256, revision) if item.kind is Kind.FILE else None
    kind = item.kind if item.kind is not None else Kind.FILE
    shared = item.lifecycle.value == "application"
    return Entry(node, parent, name, kind, item.permission, content, item.id, shared)


def is_below(tree: Tree[Entry], node: NodeId, ancestors: set[NodeId]) -> bool:
    """Tell whether a node or one of its ancestors is in a set."""
    seen = 0
    while node != ROOT and seen < 4096:
        if node in ancestors:
            return True
        entry = tree.get(node)
        if entry is None:
            return False
        node = entry.parent
        seen += 1
    return False
