"""Decide how a damaged state is repaired: from what its rows say to what they are to say. Pure.

It works on rows and not on a loaded ``State``, since a state that cannot be loaded is what it is for. Nothing that only
exists here is ever given up: bytes that no row names any more are kept in the history. What the journals say of
requests under way is kept even where their nodes are gone: so it looks when a file is deleted before its create was
answered.

Two thoughts lead every decision (the planner's reading, ``planner.merge``). A node that base has and local lacks is a
deletion by the user: so whatever is dropped from local is dropped from base too, and the next listing brings back what
the server has. A node that local has and base lacks is on both sides, or new here: so dropping a base record deletes
nothing anywhere. In folder mode the files are real and local is only the record of the last scan: what does not fit is
dropped, and the next scan finds it anew.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Protocol, TypeVar

from jobfs.model import MAX_NAME_BYTES, ROOT, BlobId, Content, Entry, ItemId, Kind, LocalNode, NodeId
from jobfs.store.history import Reason, Version
from jobfs.store.stock import Finding, Repair, Stock

E = TypeVar("E", bound=Entry)

_BLOCK = 1000
_UNUSABLE = re.compile("[\0/]")
_SERVER_KINDS = (Kind.FILE, Kind.DIRECTORY)
_IGNORED_TAIL = "~"
"""Names that end so are local-only by the built-in rules: what was kept from the server stays kept from it."""


class FreeName(Protocol):
    """How two nodes that want one name are told apart: ``planner.naming.conflict_name`` with a stamp."""

    def __call__(self, name: str, is_taken: Callable[[str], bool], *, is_directory: bool) -> str:
        """Return a name made of ``name`` that is not taken."""


def decide(stock: Stock, free_name: FreeName, *, now_ns: int) -> Repair:
    """Return the repair of a state; it has no findings where nothing is wrong.

    :param now_ns: nanoseconds since the epoch, for what is made anew.
    """
    return _Decision(stock, free_name, now_ns).run()


class _Decision:
    """One run of ``decide``: the rows as they will be, and why."""

    def __init__(self, stock: Stock, free_name: FreeName, now_ns: int) -> None:
        self._stock = stock
        self._free_name = free_name
        self._now_ns = now_ns
        self._local = dict(stock.local)
        self._base = dict(stock.base)
        self._links = dict(stock.links)
        self._unbased: set[NodeId] = set()
        self._hints: dict[BlobId, NodeId] = {}
        self._places: Counter[tuple[NodeId, str]] = Counter()
        self._repair = Repair(unreadable=stock.unreadable)
        self._next_blob = max((*stock.blobs, *self._named_blobs()), default=0) + 1

    def run(self) -> Repair:
        """Look at one invariant after the other: each may rely on those before it."""
        self._skip_unreadable()
        self._check_base()
        self._check_bytes()
        self._check_parents()
        self._await_listing()
        self._check_places()
        self._check_links()
        self._check_history()
        self._check_counter()
        repair = self._repair
        if repair.findings:
            self._keep_unnamed()
        repair.local.update(_changes(self._stock.local, self._local))
        repair.base.update(_changes(self._stock.base, self._base))
        repair.links |= self._stock.links.keys() - self._links.keys()
        return repair

    # -- words

    def _note(self, what: str, remedy: str) -> None:
        self._repair.findings.append(Finding(what, remedy))

    def _about(self, node: LocalNode | Entry) -> str:
        side = "node" if isinstance(node, LocalNode) else "base record"
        tree: Mapping[NodeId, LocalNode | Entry] = self._local if isinstance(node, LocalNode) else self._base
        return f"{side} {node.id} ({_path(tree, node)!r})"

    # -- dropping

    def _drop_local(self, node: NodeId) -> None:
        """Take a node out of local, and out of base: what the server has of it is shown again."""
        self._local.pop(node, None)
        self._base.pop(node, None)

    def _drop_base(self, nodes: Iterable[NodeId]) -> None:
        """Take records and those below them out of base: the next listing brings back what they stand for."""
        for gone in _with_below(self._base, nodes):
            self._base.pop(gone, None)
            self._unbased.add(gone)

    def _drop_records(self, nodes: Collection[NodeId], what: Callable[[LocalNode], str]) -> None:
        """Drop what is recorded of real files and directories, and of all below them."""
        for node in sorted(nodes):
            self._note(what(self._local[node]), "its record is dropped; the next scan finds it")
        gone = _with_below(self._local, nodes)
        self._drop_base(gone)
        for node in gone:
            self._drop_local(node)

    # -- rows that are no rows

    def _skip_unreadable(self) -> None:
        for row in self._stock.unreadable:
            self._note(f"a row of the table {row.table} cannot be read: {tuple(row.key.values())}", "it is dropped")
            if row.node is None:
                continue
            if row.table == "base":
                self._unbased.add(row.node)
            known = self._base.get(row.node)
            if row.table == "local" and known is not None:
                if known.kind is Kind.DIRECTORY:
                    self._local[row.node] = self._restored(known)
                else:
                    self._drop_local(row.node)
        root = self._local.get(ROOT)
        if root is not None and (root.parent != ROOT or root.kind is not Kind.DIRECTORY):
            self._note("I1: the root is no directory", "it is made anew")
            del self._local[ROOT]

    def _restored(self, known: Entry) -> LocalNode:
        return LocalNode(
            known.id,
            known.parent,
            known.name,
            Kind.DIRECTORY,
            known.permission,
            mode=0o755,
            mtime_ns=self._now_ns,
            ctime_ns=self._now_ns,
        )

    # -- base

    def _check_base(self) -> None:
        root = self._base.get(ROOT)
        if root is not None and (root.parent != ROOT or root.kind is not Kind.DIRECTORY):
            self._note("I1: the base record of the root is no directory", "it is made anew")
            del self._base[ROOT]
        entries = [entry for entry in self._base.values() if entry.id != ROOT]
        items: Counter[ItemId] = Counter(entry.item for entry in entries if entry.item is not None)
        places = Counter((entry.parent, entry.name) for entry in entries)
        for entry in entries:
            why = self._trouble_of(entry, items, places)
            if why:
                self._note(f"{why[0]}: {self._about(entry)} {why[1]}", "it is dropped; the next listing brings it back")
        for entry in entries:
            if self._trouble_of(entry, items, places):
                self._base.pop(entry.id, None)
                self._unbased.add(entry.id)
        for entry in [self._base[node] for node in sorted(self._base.keys() - _reachable(self._base))]:
            what = f"I1: {self._about(entry)} has no directory above it"
            self._note(what, "it is dropped; the next listing brings it back")
        for node in self._base.keys() - _reachable(self._base):
            self._base.pop(node)
            self._unbased.add(node)

    @staticmethod
    def _trouble_of(
        entry: Entry, items: Counter[ItemId], places: Counter[tuple[NodeId, str]]
    ) -> tuple[str, str] | None:
        """Return the invariant that a base record breaks by itself, and how."""
        if entry.kind not in _SERVER_KINDS:
            return "I1", f"is a {entry.kind.value}, which no server holds"
        if entry.kind is Kind.FILE and entry.item is None:
            return "I5", "names no item"
        if entry.item is not None and items[entry.item] > 1:
            return "I5", "names an item that another one names"
        if _is_unusable(entry.name) or places[entry.parent, entry.name] > 1:
            return "I2", "does not have a place of its own"
        return None

    # -- bytes

    def _named_blobs(self) -> list[BlobId]:
        named = [node.blob for node in self._local.values() if node.blob is not None]
        return named + [kept.blob for kept in self._stock.history.values() if kept.blob is not None]

    def _check_bytes(self) -> None:
        """Give each file bytes of its own, or none."""
        namers = Counter(self._named_blobs())
        taken: set[BlobId] = set()
        for node in [self._local[number] for number in sorted(self._local)]:
            if node.content is None or node.id == ROOT:
                continue
            if node.blob is not None:
                self._hints.setdefault(node.blob, node.id)
            if not node.is_dirty:
                self._check_clean(node, namers)
            elif node.blob is None:
                if node.content.size and not node.inode:
                    self._give_up(node)
            elif node.blob not in self._stock.blobs:
                self._give_up(node)
            elif node.blob in taken:
                self._note(f"I3: {self._about(node)} has the bytes of another file", "it gets a copy of them")
                self._local[node.id] = replace(node, blob=self._copy(node.blob))
            else:
                taken.add(node.blob)

    def _check_clean(self, node: LocalNode, namers: Counter[BlobId]) -> None:
        if node.blob is None or node.content is None:
            return
        size = self._stock.blobs.get(node.blob)
        if namers[node.blob] > 1:
            why = "has the bytes of another file"
        elif size is None:
            why = "has lost its local copy"
        elif size != node.content.size:
            why = f"has a local copy of {size} bytes instead of {node.content.size}"
        else:
            return
        self._note(f"I3: {self._about(node)} {why}", "it is brought here again when it is read")
        self._local[node.id] = replace(node, blob=None)

    def _give_up(self, node: LocalNode) -> None:
        """Nobody has the unsent bytes of a file any more."""
        what = f"I3: the unsent bytes of {self._about(node)} are missing"
        known = self._base.get(node.id)
        if known is not None and known.content is not None:
            self._note(what, "the server's version is shown again")
            self._local[node.id] = replace(node, content=known.content, blob=None)
        else:
            self._note(what, f"{_path(self._local, node)} is gone, and the server never had it")
            self._drop_local(node.id)

    def _copy(self, blob: BlobId) -> BlobId:
        copy = BlobId(self._next_blob)
        self._next_blob += 1
        self._repair.copies[copy] = blob
        return copy

    # -- directories

    def _check_parents(self) -> None:
        self._restore_directories()
        self._places = Counter((node.parent, node.name) for node in self._local.values() if node.id != ROOT)
        self._places.update(self._links.keys())
        while loose := self._local.keys() - (reachable := _reachable(self._local)):
            if self._stock.is_folder:
                self._drop_records(loose, self._homeless)
                return
            tops = [node for node in sorted(loose) if not _is_directory(self._local.get(self._local[node].parent))]
            for node in tops or [self._breaker(min(loose), reachable)]:
                self._rehome(self._local[node], reachable)

    def _restore_directories(self) -> None:
        """Make the directories anew that only base still has although something here is in them."""
        missing = {node.parent for node in self._local.values()} - self._local.keys() - {ROOT}
        while missing:
            known = self._base.get(missing.pop())
            if known is None or known.kind is not Kind.DIRECTORY:
                continue
            self._note(f"I1: the directory {_path(self._base, known)!r} is missing", "it is made anew as base has it")
            self._local[known.id] = self._restored(known)
            if known.parent != ROOT and known.parent not in self._local:
                missing.add(known.parent)

    def _breaker(self, node: NodeId, reachable: Collection[NodeId]) -> NodeId:
        """Return the directory of a circle to take out of it: one that base has elsewhere, where there is one."""
        seen: list[NodeId] = []
        while node not in seen:
            seen.append(node)
            node = self._local[node].parent
        circle = sorted(seen[seen.index(node) :])
        return next((one for one in circle if self._home(one, reachable) is not None), circle[0])

    def _home(self, node: NodeId, reachable: Collection[NodeId]) -> tuple[NodeId, str] | None:
        """Return the place where base has a node, if it is free here and can be reached."""
        known = self._base.get(node)
        if known is None or known.parent not in reachable or self._places[known.parent, known.name]:
            return None
        is_there = known.parent == ROOT or _is_directory(self._local.get(known.parent))
        return (known.parent, known.name) if is_there else None

    def _homeless(self, node: LocalNode) -> str:
        return f"I1: {self._about(node)} has no directory above it"

    def _rehome(self, node: LocalNode, reachable: set[NodeId]) -> None:
        """Find a place for a node that is in no directory."""
        what = self._homeless(node)
        home = self._home(node.id, reachable)
        reachable.add(node.id)
        if home is not None:
            self._note(what, f"it is put back where the server has it, as {home[1]!r}")
            self._put(node, home)
            return
        known = self._base.get(node.id)
        if known is not None and (known.parent, known.name) == (node.parent, node.name):
            self._drop_base([node.id])  # the user never moved it: nor is it moved on the server now
        if self._is_elsewhere(node):
            self._note(what, "it is dropped; the next listing brings it back")
            self._drop_local(node.id)
            return
        name = self._lost_name(ROOT, node)
        self._note(what, f"it is now {name!r} in the root")
        self._put(node, (ROOT, name))

    def _put(self, node: LocalNode, place: tuple[NodeId, str]) -> None:
        self._places[node.parent, node.name] -= 1
        self._places[place] += 1
        self._local[node.id] = replace(node, parent=place[0], name=place[1])

    def _lost_name(self, parent: NodeId, node: LocalNode) -> str:
        above = self._local.get(parent)
        tail = _IGNORED_TAIL if node.is_local_only and not (above is not None and above.is_local_only) else ""
        count = 1
        while True:
            lead = "lost-" if count == 1 else f"lost-{count}-"
            stem = _clipped(_UNUSABLE.sub("_", node.name), MAX_NAME_BYTES - len(lead) - len(tail))
            if not self._places[parent, f"{lead}{stem}{tail}"]:
                return f"{lead}{stem}{tail}"
            count += 1

    # -- names

    def _check_places(self) -> None:
        """Let one node keep each place: the one that base has there, else the first one."""
        rivals: defaultdict[tuple[NodeId, str], list[NodeId]] = defaultdict(list)
        for number in sorted(self._local.keys() - {ROOT}):
            node = self._local[number]
            rivals[node.parent, node.name].append(number)
        for (parent, name), nodes in rivals.items():
            if _is_unusable(name):
                losers = nodes
            elif len(nodes) > 1:
                keeper = next((one for one in nodes if self._is_based_at(one, parent, name)), nodes[0])
                losers = [one for one in nodes if one != keeper]
            else:
                continue
            if self._stock.is_folder:
                self._drop_records([loser for loser in losers if loser in self._local], self._crowded)
                continue
            for loser in losers:
                self._rename(self._local[loser])

    def _crowded(self, node: LocalNode) -> str:
        return f"I2: {self._about(node)} does not have a place of its own"

    def _is_based_at(self, node: NodeId, parent: NodeId, name: str) -> bool:
        known = self._base.get(node)
        return known is not None and (known.parent, known.name) == (parent, name)

    def _rename(self, node: LocalNode) -> None:
        what = self._crowded(node)
        if node.is_local_only or _is_unusable(node.name):
            name = self._lost_name(node.parent, node)
        else:
            name = self._free_name(
                node.name,
                lambda name: bool(self._places[node.parent, name]),
                is_directory=node.kind is Kind.DIRECTORY,
            )
        self._note(what, f"it is now {name!r}")
        self._put(node, (node.parent, name))

    def _check_links(self) -> None:
        taken = {(node.parent, node.name) for node in self._local.values() if node.id != ROOT}
        for (parent, name), node in list(self._links.items()):
            target = self._local.get(node)
            is_there = parent == ROOT or _is_directory(self._local.get(parent))
            if target is None or not is_there or (parent, name) in taken or _is_unusable(name):
                self._note(f"I2: the further name {name!r} of node {node} does not fit", "the name is dropped")
                del self._links[parent, name]

    # -- what comes back by itself

    def _is_elsewhere(self, node: LocalNode) -> bool:
        """Tell whether base no longer knows a clean file of which there is nothing here."""
        if node.id not in self._unbased or node.is_local_only or node.inode or node.content is None:
            return False
        return not node.is_dirty and node.blob is None and bool(node.content.size)

    def _await_listing(self) -> None:
        """Drop files that are only on the server and of which base was lost: what is there now, a listing tells."""
        for node in [node for node in self._local.values() if self._is_elsewhere(node)]:
            self._note(f"I5: {self._about(node)} has no base record", "it is dropped; the next listing brings it back")
            self._drop_local(node.id)

    # -- the rest

    def _check_history(self) -> None:
        taken = {node.blob for node in self._local.values()}
        for number, kept in self._stock.history.items():
            if kept.blob is None and not kept.content.size:
                continue
            if kept.blob is None or kept.blob not in self._stock.blobs:
                self._note(f"I3: the bytes of a lost version of {kept.path!r} are missing", "its record is dropped")
                self._repair.history[number] = None
            elif kept.blob in taken:
                self._note(f"I3: a lost version of {kept.path!r} has the bytes of a file", "it gets a copy of them")
                self._repair.history[number] = self._copy(kept.blob)
            taken.add(kept.blob)

    def _keep_unnamed(self) -> None:
        """Keep the bytes that no row names, which the next start would take for litter."""
        named = {node.blob for node in self._local.values()}
        named |= {kept.blob for kept in self._stock.history.values()}
        for blob in sorted(self._stock.blobs.keys() - named):
            size = self._stock.blobs[blob]
            namer = self._stock.local.get(self._hints.get(blob, NodeId(0)))
            path = _path(self._stock.local, namer) if namer is not None else f"blob {blob}"
            if size:
                self._repair.kept.append(Version(path, blob, Content(size), Reason.FOUND, self._now_ns))

    def _check_counter(self) -> None:
        stock = self._stock
        spoken = {row.node for row in stock.unreadable if row.node is not None}
        top = max((*stock.local, *stock.base, *stock.links.values(), *stock.journalled, *spoken), default=ROOT)
        if stock.next_node < 0 or top >= max(stock.next_node, ROOT + 1):
            self._note(f"I4: node {top} is above the counter {stock.next_node}", "the counter is raised")
            self._repair.next_node = top + _BLOCK


# -- trees that may be broken


def _children(tree: Mapping[NodeId, E]) -> Mapping[NodeId, list[NodeId]]:
    found: defaultdict[NodeId, list[NodeId]] = defaultdict(list)
    for node, entry in tree.items():
        if node != ROOT:
            found[entry.parent].append(node)
    return found


def _with_below(tree: Mapping[NodeId, E], nodes: Iterable[NodeId]) -> set[NodeId]:
    """Return these nodes and all below them."""
    children = _children(tree)
    found: set[NodeId] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += children.get(node, ())
    return found


def _reachable(tree: Mapping[NodeId, E]) -> set[NodeId]:
    """Return the nodes that the way down from the root leads to, the root included."""
    children = _children(tree)
    found = {ROOT}
    pending = [ROOT]
    while pending:
        for node in children.get(pending.pop(), ()):
            found.add(node)
            if tree[node].kind is Kind.DIRECTORY:
                pending.append(node)
    return found


def _path(tree: Mapping[NodeId, E], node: E) -> str:
    """Return the path of a node as far as there are directories above it."""
    names: list[str] = []
    seen: set[NodeId] = set()
    at: E | None = node
    while at is not None and at.id != ROOT and at.id not in seen:
        seen.add(at.id)
        names.append(at.name)
        at = tree.get(at.parent)
    return "/".join(reversed(names))


def _is_directory(entry: Entry | None) -> bool:
    return entry is not None and entry.kind is Kind.DIRECTORY


def _is_unusable(name: str) -> bool:
    return name in ("", ".", "..") or _UNUSABLE.search(name) is not None


def _clipped(name: str, size: int) -> str:
    """Return the longest start of a name that fits into a number of bytes."""
    return name.encode("utf-8", "surrogatepass")[:size].decode("utf-8", "ignore")


def _changes(before: Mapping[NodeId, E], after: Mapping[NodeId, E]) -> dict[NodeId, E | None]:
    changed: dict[NodeId, E | None] = {node: entry for node, entry in after.items() if before.get(node) != entry}
    changed.update(dict.fromkeys(before.keys() - after.keys()))
    return changed
