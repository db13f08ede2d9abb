"""The trees as they stand in memory: entries by node, names by directory.

Only ``store.state`` changes them, and writes every change to SQLite in the same transaction. Everybody reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from jobfs.model import ROOT, Entry, FrozenTree, LocalNode, NodeId

E = TypeVar("E", bound=Entry)

_NO_CHILDREN: Mapping[str, NodeId] = {}


class Tree(Generic[E]):
    """A mutable tree. Satisfies ``model.TreeView``.

    Invariants: a node's place (parent, name) is held by no other node; every child in ``children`` has its entry. What
    the server holds is learnt node by node, so base and remote may for a moment have two nodes at one place: the later
    one holds it, and the earlier one gets it back when that one leaves. In the local tree this is a bug, and raises.

    :param is_exclusive: whether a second node at a place raises.
    """

    __slots__ = ("_children", "_crowded", "_entries", "_is_exclusive", "version")

    def __init__(self, *, is_exclusive: bool = False) -> None:
        self._is_exclusive = is_exclusive
        self._crowded: dict[tuple[NodeId, str], list[NodeId]] = {}
        self._entries: dict[NodeId, E] = {}
        self._children: dict[NodeId, dict[str, NodeId]] = {}
        self.version = 0
        """Grows with every change."""

    @staticmethod
    def of(tree: FrozenTree) -> Tree[Entry]:
        """Return a tree with what another one holds, whose dictionaries it takes over: that one is not used again."""
        made: Tree[Entry] = Tree()
        made._entries, made._children = tree.parts()
        return made

    def copy(self) -> Tree[E]:
        """Return a tree that holds the same and no longer changes with this one."""
        made: Tree[E] = Tree(is_exclusive=self._is_exclusive)
        made._entries = self._entries.copy()
        made._children = {parent: names.copy() for parent, names in self._children.items()}
        made._crowded = {place: nodes.copy() for place, nodes in self._crowded.items()}
        return made

    def get(self, node: NodeId) -> E | None:
        """Return the entry of a node, or None."""
        return self._entries.get(node)

    def child(self, parent: NodeId, name: str) -> NodeId | None:
        """Return the node of that name in a directory, or None."""
        return self._children.get(parent, _NO_CHILDREN).get(name)

    def children(self, parent: NodeId) -> Mapping[str, NodeId]:
        """Return the directory's nodes by name, in the order in which they came. A live view: copy before awaiting."""
        return self._children.get(parent, _NO_CHILDREN)

    def __iter__(self) -> Iterator[NodeId]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> Iterator[E]:
        """Iterate over every entry, the root included."""
        return iter(self._entries.values())

    def put(self, entry: E) -> E | None:
        """Set a node's entry, moving it where its place changed; return what was there before."""
        before = self._entries.get(entry.id)
        self.version += 1
        self._entries[entry.id] = entry
        if entry.id == ROOT:
            return before
        if before is not None and (before.parent != entry.parent or before.name != entry.name):
            self._leave(before)
            before_place = None
        else:
            before_place = before
        if before_place is None:
            self._take_place(entry)
        return before

    def _take_place(self, entry: E) -> None:
        siblings = self._children.setdefault(entry.parent, {})
        occupant = siblings.get(entry.name)
        if occupant is not None and occupant != entry.id:
            if self._is_exclusive:
                raise AssertionError(f"nodes {occupant} and {entry.id} at one place: {entry.name!r} in {entry.parent}")
            self._crowded.setdefault((entry.parent, entry.name), []).append(occupant)
        siblings[entry.name] = entry.id

    def drop(self, node: NodeId) -> E | None:
        """Remove a node; return what was there. Its children, if any, keep pointing at it."""
        before = self._entries.pop(node, None)
        self.version += 1
        if before is not None and node != ROOT:
            self._leave(before)
        return before

    def _leave(self, entry: E) -> None:
        waiting = self._crowded.get((entry.parent, entry.name))
        if waiting is not None and entry.id in waiting:
            waiting.remove(entry.id)
        siblings = self._children.get(entry.parent)
        if siblings is None or siblings.get(entry.name) != entry.id:
            return
        if waiting:
            siblings[entry.name] = waiting.pop()
        else:
            del siblings[entry.name]
        if waiting is not None and not waiting:
            del self._crowded[entry.parent, entry.name]
        if not siblings:
            del self._children[entry.parent]


class LocalTree(Tree[LocalNode]):
    """What the user sees, and how many bytes of contents are here, in ``held_bytes``."""

    __slots__ = ("held_bytes",)

    def __init__(self) -> None:
        super().__init__(is_exclusive=True)
        self.held_bytes = 0

    def put(self, entry: LocalNode) -> LocalNode | None:
        """Set a node's entry, as in any tree."""
        before = super().put(entry)
        self.held_bytes += _held_bytes(entry) - _held_bytes(before)
        return before

    def drop(self, node: NodeId) -> LocalNode | None:
        """Remove a node, as from any tree."""
        before = super().drop(node)
        self.held_bytes -= _held_bytes(before)
        return before


def _held_bytes(node: LocalNode | None) -> int:
    return node.content.size if node is not None and node.blob is not None and node.content is not None else 0


class SyncedView:
    """The local tree as the planner sees it: without local-only nodes. Satisfies ``model.TreeView``."""

    __slots__ = ("_tree",)

    def __init__(self, tree: Tree[LocalNode]) -> None:
        self._tree = tree

    def get(self, node: NodeId) -> LocalNode | None:
        """Return the entry of a synchronised node, or None."""
        entry = self._tree.get(node)
        return None if entry is None or entry.is_local_only else entry

    def child(self, parent: NodeId, name: str) -> NodeId | None:
        """Return the synchronised node of that name in a directory, or None."""
        node = self._tree.child(parent, name)
        return node if node is not None and self.get(node) is not None else None

    def children(self, parent: NodeId) -> Mapping[str, NodeId]:
        """Return the directory's synchronised nodes by name."""
        names = self._tree.children(parent)
        return {name: node for name, node in names.items() if self.get(node) is not None}

    def __iter__(self) -> Iterator[NodeId]:
        return (entry.id for entry in self._tree.entries() if not entry.is_local_only)

    def __len__(self) -> int:
        return len(self._tree)
