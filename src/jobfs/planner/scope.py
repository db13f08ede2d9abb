"""Which nodes a call of ``reconcile`` has to look at, and which local nodes are known ones in disguise.

Internal to the planner. The cost follows the touched nodes: a node on which all three trees agree is dropped at once,
and nothing is looked at because of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from jobfs.model import ROOT, Entry, Kind, NodeId, TreeView
from jobfs.planner.naming import is_hidden_name, visible_name
from jobfs.planner.plan import Rebind


def is_settled(base: Entry | None, local: Entry | None, remote: Entry | None) -> bool:
    """Tell whether the three entries of a node agree, so that nothing is to be done for it.

    A hidden name is nobody's wish, even where all three have it: it was kept for what others had put into it.
    """
    if base is None or local is None or remote is None or is_hidden_name(base.name):
        return False
    if base is not remote and not _is_acknowledged(base, remote):
        return False
    if local.parent != base.parent or local.name != base.name or local.permission is not base.permission:
        return False
    mine, known = local.content, base.content
    return mine is known or (
        mine is not None and known is not None and mine.revision is not None and mine.revision == known.revision
    )


def _is_acknowledged(base: Entry, remote: Entry) -> bool:
    return (
        base.parent == remote.parent
        and base.name == remote.name
        and base.permission is remote.permission
        and base.item == remote.item
        and base.is_shared == remote.is_shared
        and (base.content and base.content.revision) == (remote.content and remote.content.revision)
    )


def unsettled(base: TreeView, local: TreeView, remote: TreeView, touched: Iterable[NodeId]) -> set[NodeId]:
    """Return the touched nodes on which the trees disagree, with every other such node that decides about them.

    These are their directories, whatever has or wants one of their places, for a directory that moves whatever moves
    above its places, and, for a directory that one side lacks, what is in it.
    """
    found: set[NodeId] = set()
    seen: set[NodeId] = {ROOT}
    queue = list(touched)
    while queue:
        node = queue.pop()
        if node in seen:
            continue
        seen.add(node)
        entries = (base.get(node), local.get(node), remote.get(node))
        if entries == (None, None, None) or is_settled(*entries):
            continue
        found.add(node)
        places = {(entry.parent, name): entry for entry in entries if entry is not None for name in _names(entry)}
        for parent, name in places:
            queue.append(parent)
            for tree in (base, local, remote):
                if (occupant := tree.child(parent, name)) is not None and occupant != node:
                    queue.append(occupant)
        if all(entry.kind is not Kind.DIRECTORY for entry in places.values()):
            continue
        if len(places) > 1:
            queue.extend(above for parent, _ in places for above in _ancestors(parent, local, remote))
        is_new_there = entries[0] is None and entries[1] is None  # what is in it is new as well, and touched itself
        if (entries[1] is None or entries[2] is None) and not is_new_there:
            for tree in (base, local, remote):
                queue.extend(tree.children(node).values())
    return found


def _names(entry: Entry) -> Iterator[str]:
    """Yield the name of an entry, and of one with a hidden name that for which it stands: it may be given that back."""
    yield entry.name
    if is_hidden_name(entry.name):
        yield visible_name(entry.name)


def _ancestors(node: NodeId, local: TreeView, remote: TreeView) -> Iterator[NodeId]:
    """Yield the directories above a node. Where the two sides disagree about one, it looks further by itself."""
    seen = {ROOT}
    while node not in seen and (entry := local.get(node) or remote.get(node)) is not None:
        seen.add(node)
        node = entry.parent
        yield node


def find_rebinds(base: TreeView, local: TreeView, remote: TreeView, nodes: Iterable[NodeId]) -> list[Rebind]:
    """Find the new local nodes that stand where a known node stood which the user no longer has.

    That is how editors save: they write a new file and rename it over the old one. Making a directory anew is the same.
    So is a file that both sides created before they knew of each other. Directories come before what they hold.
    """
    new_of: dict[NodeId, NodeId] = {}
    old_of: dict[NodeId, NodeId] = {}

    def stands_for(entry: Entry, old: NodeId | None) -> bool:
        known = None if old is None else remote.get(old)
        return known is not None and known.kind is entry.kind and known.id not in new_of and local.get(known.id) is None

    for entry in _parents_first(local, (node for node in nodes if _is_new(base, local, remote, node))):
        parent = old_of.get(entry.parent, entry.parent)
        for tree in (base, remote):
            old = tree.child(parent, entry.name)
            if old is not None and stands_for(entry, old):
                new_of[old], old_of[entry.id] = entry.id, old
                break
    return [Rebind(old, new) for old, new in new_of.items()]


def _is_new(base: TreeView, local: TreeView, remote: TreeView, node: NodeId) -> bool:
    entry = local.get(node)
    is_known = entry is None or base.get(node) is not None or remote.get(node) is not None
    return not is_known and entry is not None and entry.kind in (Kind.FILE, Kind.DIRECTORY)


def _parents_first(local: TreeView, nodes: Iterable[NodeId]) -> Iterator[Entry]:
    """Yield the local entries of some nodes, each after its directory, siblings by name."""
    entries = {node: entry for node in nodes if (entry := local.get(node)) is not None}
    waiting: dict[NodeId, list[Entry]] = {}
    for entry in entries.values():
        waiting.setdefault(entry.parent, []).append(entry)
    ready = sorted(parent for parent in waiting if parent not in entries)
    while ready:
        for entry in sorted(waiting.pop(ready.pop(), ()), key=lambda entry: entry.name):
            yield entry
            ready.append(entry.id)


class Rebound:
    """A tree in which some nodes have new numbers."""

    __slots__ = ("_new_of", "_old_of", "_tree")

    def __init__(self, tree: TreeView, rebinds: Iterable[Rebind]) -> None:
        self._tree = tree
        self._new_of = {rebind.old: rebind.new for rebind in rebinds}
        self._old_of = {new: old for old, new in self._new_of.items()}

    def get(self, node: NodeId) -> Entry | None:
        """Return the entry of a node, or None."""
        if node in self._new_of:
            return None
        entry = self._tree.get(self._old_of.get(node, node))
        if entry is None or (entry.id == node and entry.parent not in self._new_of):
            return entry
        return replace(entry, id=node, parent=self._new_of.get(entry.parent, entry.parent))

    def child(self, parent: NodeId, name: str) -> NodeId | None:
        """Return the node of that name in a directory, or None."""
        node = self._tree.child(self._old_of.get(parent, parent), name)
        return None if node is None else self._new_of.get(node, node)

    def children(self, parent: NodeId) -> Mapping[str, NodeId]:
        """Return the directory's nodes by name."""
        children = self._tree.children(self._old_of.get(parent, parent))
        return {name: self._new_of.get(node, node) for name, node in children.items()}

    def __iter__(self) -> Iterator[NodeId]:
        return (self._new_of.get(node, node) for node in self._tree)

    def __len__(self) -> int:
        return len(self._tree)
