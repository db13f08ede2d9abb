"""Which node an item of a listing is: the remote tree from a view.

An item is known by its id, else by its place: what somebody deleted and created again is the same file to the user,
and what both sides created under one name is one file. Whatever a listing cannot know, because a request of ours ran
while it was made, is taken from the remote tree before it. In doubt a known node keeps its entry, since a missing one
reads as a deletion. Pure but for ``allocate``, which the caller gives.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from jobfs.model import ROOT, Content, Entry, FrozenTree, Item, ItemId, Kind, Lifecycle, NodeId, TreeView
from jobfs.planner.naming import is_hidden_name
from jobfs.planner.view import View, is_older


@dataclass(frozen=True, slots=True)
class Identified:
    """A listing as a tree.

    :param opaque: directories that hold items which the tree does not show (see ``View.opaque``).
    """

    tree: FrozenTree
    opaque: frozenset[NodeId]


def identify(
    view: View,
    base: TreeView,
    local: TreeView,
    remote_before: TreeView,
    *,
    held: Collection[NodeId],
    tombstones: Collection[ItemId],
    allocate: Callable[[], NodeId],
) -> Identified:
    """Give every shown item its node.

    :param held: nodes with a request of ours in flight, or acknowledged after the listing began: they keep their entry
        of ``remote_before``, or its absence, and rows that speak of them are passed over, but for bytes that somebody
        else wrote to the item.
    :param tombstones: items that we deleted after the listing began.
    :param allocate: gives a node number never used before.
    """
    matcher = _Matcher(
        view,
        base,
        local,
        remote_before,
        held=frozenset(held),
        tombstones=frozenset(tombstones),
    )
    return matcher.run(allocate)


def changed_nodes(before: TreeView, after: TreeView) -> set[NodeId]:
    """Return the nodes whose entries differ between two trees: what a listing touches."""
    changed = {node for node in after if before.get(node) != after.get(node)}
    changed.update(node for node in before if after.get(node) is None)
    changed.discard(ROOT)
    return changed


def _by_item(tree: TreeView) -> dict[ItemId, NodeId]:
    return {entry.item: node for node in tree if (entry := tree.get(node)) is not None and entry.item is not None}


class _Matcher:
    """One run of ``identify``."""

    def __init__(
        self,
        view: View,
        base: TreeView,
        local: TreeView,
        before: TreeView,
        *,
        held: frozenset[NodeId],
        tombstones: frozenset[ItemId],
    ) -> None:
        self._view = view
        self._base = base
        self._local = local
        self._before = before
        self._held = held
        self._tombstones = tombstones
        self._visible = {item.id for item in view.by_path.values() if item is not None}
        self._entries: dict[NodeId, Entry] = {}
        self._children: dict[NodeId, dict[str, NodeId]] = {}
        self._node_at: dict[str, NodeId] = {"": ROOT}
        self._doubtful: list[NodeId] = []
        self._seen_held: dict[NodeId, Entry] = {}
        self._rewritten: dict[NodeId, Content | None] = {}
        self._moved_in: dict[NodeId, Entry] = {}

    def run(self, allocate: Callable[[], NodeId]) -> Identified:
        known = _by_item(self._base)
        earlier = {} if self._before is self._base else _by_item(self._before)
        names: dict[str, str] = {}
        for path, item in self._view.by_path.items():
            parent_path, _, name = path.rpartition("/")
            name = names.setdefault(name, name)  # the same few names are in many directories
            parent = self._node_at.get(parent_path)
            node = self._by_id(item, known, earlier)
            if item is not None and item.id in self._tombstones:
                continue
            if parent is None or not self._is_there(parent):
                self._keep(node)  # below a directory that we delete or make at this moment
                continue
            if node is None:
                node = self._by_place(parent, name, item)
            if node is None:
                node = allocate()
            self._node_at[path] = node
            if self._is_stale(item, node):
                self._keep(node)
            elif node in self._held:
                self._seen_held[node] = self._entry(node, parent, name, item)
                if self._is_newer(item, node):
                    self._rewritten[node] = self._seen_held[node].content
            else:
                self._put(self._entry(node, parent, name, item))
        for hidden in sorted(self._view.hidden, key=lambda item: item.path):
            self._place_hidden(hidden, known, earlier)
        self._keep_held()
        opaque = (self._node_at[path] for path in self._view.opaque if path in self._node_at)
        return Identified(FrozenTree.of(self._entries, self._children), frozenset(opaque))

    def _by_id(
        self, item: Item | None, known: Mapping[ItemId, NodeId], earlier: Mapping[ItemId, NodeId]
    ) -> NodeId | None:
        if item is None:
            return None
        node = known.get(item.id)
        if node is None:
            node = earlier.get(item.id)
            if node is not None and self._has_visible_item(self._base.get(node)):
                return None  # base knows the node by another item, which is still there
        entry = None if node is None else self._base.get(node) or self._before.get(node)
        is_match = node not in self._entries and (entry is None or entry.kind is item.kind)
        return node if is_match else None

    def _has_visible_item(self, entry: Entry | None) -> bool:
        return entry is not None and entry.item is not None and entry.item in self._visible

    def _by_place(self, parent: NodeId, name: str, item: Item | None) -> NodeId | None:
        """Return the node that had this place and whose item is gone, or that the user just made there."""
        kind = Kind.DIRECTORY if item is None else item.kind
        for tree in (self._base, self._before, self._local):
            node = tree.child(parent, name)
            entry = None if node is None else tree.get(node)
            if node is None or entry is None or entry.kind is not kind or node in self._entries:
                continue
            if tree is self._local and self._base.get(node) is not None:
                continue  # moved there by the user: another item
            if not (self._has_visible_item(self._base.get(node)) or self._has_visible_item(self._before.get(node))):
                return node
            if node in self._held:
                return node  # our own request put a second item there
        return None

    def _entry(self, node: NodeId, parent: NodeId, name: str, item: Item | None) -> Entry:
        base, before = self._base.get(node), self._before.get(node)
        if item is None:
            entry = Entry(node, parent, name, Kind.DIRECTORY)
        else:
            entry = Entry(
                node,
                parent,
                name,
                item.kind or Kind.FILE,
                item.permission,
                _content(item, base, before),
                item.id,
                item.lifecycle is Lifecycle.APPLICATION,
            )
        if base is not None and _is_equal(entry, base):
            return base
        return before if before is not None and _is_equal(entry, before) else entry

    def _is_stale(self, item: Item | None, node: NodeId) -> bool:
        """Tell whether the row comes from an older page than what is known already."""
        newest = self._before.get(node) or self._base.get(node)
        if item is None or newest is None or newest.item != item.id or newest.content is None:
            return False
        revision = newest.content.revision
        return revision is not None and is_older(item.updated_at, revision.updated_at)

    def _is_newer(self, item: Item | None, node: NodeId) -> bool:
        """Tell whether a row of a held node shows that somebody else wrote to its item: no request of ours does."""
        newest = self._before.get(node)
        if item is None or newest is None or newest.item != item.id or newest.content is None:
            return False
        revision = newest.content.revision
        return revision is not None and (revision.size, revision.key) != (item.size, item.key)

    def _is_there(self, directory: NodeId) -> bool:
        if directory == ROOT or directory in self._entries:
            return True
        return directory in self._held and self._before.get(directory) is not None

    def _put(self, entry: Entry) -> None:
        if not self._put_if_free(entry):
            self._doubtful.append(entry.id)

    def _place_hidden(self, item: Item, known: Mapping[ItemId, NodeId], earlier: Mapping[ItemId, NodeId]) -> None:
        """Keep a known item that has a hidden name.

        A directory that is gone here, or a file that base has under that name: we displaced it to delete it, and the
        deletion is still to be derived. One that was elsewhere and now lies in such a directory, which perhaps only
        steps aside, was moved into it by somebody. Else somebody is replacing the file at this moment: neither must
        what he replaces vanish from sight, nor the hidden name be shown.
        """
        node = self._by_id(item, known, earlier)
        parent_path, _, name = item.path.rpartition("/")
        parent = self._node_at.get(parent_path)
        if node is None or item.id in self._tombstones:
            return
        base, before = self._base.get(node), self._before.get(node)
        is_held = node in self._held
        is_rewritten = self._is_newer(item, node) and not self._is_stale(item, node)
        if is_held and not is_rewritten:
            return
        self._node_at[item.path] = node
        is_ours = item.kind is Kind.DIRECTORY or (base is not None and is_hidden_name(base.name))
        is_moved_in = before is not None and before.parent != parent and not is_hidden_name(name)
        if is_ours and not is_held and self._local.get(node) is None:
            # Its directory may be one that nothing visible implies any more; it is deleted wherever it is.
            former = (entry.parent for entry in (before, base) if entry is not None and self._is_there(entry.parent))
            self._put(self._entry(node, parent if parent is not None else next(former, ROOT), name, item))
        elif is_moved_in and not is_held and parent is not None and not self._is_stale(item, node):
            self._moved_in[node] = self._entry(node, parent, name, item)
            self._keep(node)
        elif is_rewritten and before is not None and self._is_there(before.parent):
            self._put(replace(before, content=_content(item, base, before)))  # it must not be deleted for the old one
        else:
            self._keep(node)

    def _keep(self, node: NodeId | None) -> None:
        if node is not None and node not in self._held:
            self._doubtful.append(node)

    def _keep_held(self) -> None:
        """Give the held and the doubtful nodes their former entries, directories first, where these still fit in."""
        wanted: dict[NodeId, Entry] = {}
        for node in (*sorted(self._held), *self._doubtful):
            entry = self._before.get(node)
            if entry is None and node not in self._held:
                entry = self._base.get(node)
            if entry is not None and node not in self._entries:
                wanted[node] = self._moved_in.get(node, entry)
                if node in self._rewritten:
                    wanted[node] = replace(entry, content=self._rewritten[node])
        wanted.pop(ROOT, None)
        self._fit(wanted)
        homeless = {node: entry for node, entry in self._seen_held.items() if node in wanted}
        if homeless:  # the directory that a held node was in is gone: then it is where the listing has it
            self._fit(homeless)
        if any(node in self._held and node not in self._entries for node in wanted):
            self._prune()

    def _fit(self, wanted: dict[NodeId, Entry]) -> None:
        """Put entries whose directories are there, and then those that lie in them; the rest stays in ``wanted``."""
        while fitting := [entry for entry in wanted.values() if entry.parent in self._entries or entry.parent == ROOT]:
            for entry in fitting:
                del wanted[entry.id]
                self._put_if_free(entry)

    def _put_if_free(self, entry: Entry) -> bool:
        """Put an entry unless its place is taken; tell whether it was not."""
        siblings = self._children.setdefault(entry.parent, {})
        if siblings.setdefault(entry.name, entry.id) != entry.id:
            return False
        self._entries[entry.id] = entry
        return True

    def _prune(self) -> None:
        """Drop what hangs on a held directory that fits nowhere any more."""
        while loose := [e for e in self._entries.values() if e.parent != ROOT and e.parent not in self._entries]:
            for entry in loose:
                del self._entries[entry.id]
                self._children.pop(entry.parent, None)


def _content(item: Item, base: Entry | None, before: Entry | None) -> Content | None:
    if item.kind is not Kind.FILE:
        return None
    revision = item.revision
    for entry in (base, before):
        if entry is not None and entry.content is not None and entry.content.revision == revision:
            return entry.content
    return Content(item.size, None, revision)


def _is_equal(one: Entry, other: Entry) -> bool:
    return one == other if type(one) is type(other) else False
