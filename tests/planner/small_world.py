"""A little executor over model trees, with which the tests apply plans, and a notation for tiny trees.

The executor does what the engine does, without I/O, and checks on the way what a plan promises: every place is free
when its turn comes, directories are there, what is removed is empty, a stage names a node once.

Trees are written as words: ``a`` a file with content 1, ``a=2`` one with content 2, ``d/`` a directory, ``d/a`` a file
in it, ``x<a`` the node that base has at ``a``, now at ``x``, ``!a`` another node than the one base has at ``a``. Marks
follow a colon: ``ro`` read-only, ``shared``, ``implicit``, ``touched`` (a new revision of the same bytes), ``seen``
(remote bytes that were looked at), ``link`` a symbolic link, ``item`` (recreated under another item).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jobfs.model import ROOT, Content, Entry, FrozenTree, ItemId, Kind, NodeId, Permission, Revision, TreeView, path_of
from jobfs.planner.naming import ConflictStamp
from jobfs.planner.plan import (
    Acknowledge,
    AddLocal,
    Conflict,
    ConflictPolicy,
    DeleteRemote,
    Displace,
    Forget,
    LocalChange,
    MakeDirectory,
    MoveRemote,
    Plan,
    Rebind,
    RemoteChange,
    SetRemotePermission,
    SplitConflict,
    Upload,
    recorded,
    shown,
)
from jobfs.planner.reconcile import reconcile

STAMP = ConflictStamp("desk", "2024-05-06 070809")


class Tree:
    """A tree that changes, and that does not let itself be broken."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = {ROOT: Entry(ROOT, ROOT, "", Kind.DIRECTORY)}
        self._children: dict[NodeId, dict[str, NodeId]] = {}
        for entry in entries:
            self.put(entry)

    def get(self, node: NodeId) -> Entry | None:
        return self._entries.get(node)

    def child(self, parent: NodeId, name: str) -> NodeId | None:
        return self._children.get(parent, {}).get(name)

    def children(self, parent: NodeId) -> Mapping[str, NodeId]:
        return self._children.get(parent, {})

    def __iter__(self) -> Iterator[NodeId]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, entry: Entry) -> None:
        before = self._entries.get(entry.id)
        if before is not None and self.child(before.parent, before.name) == entry.id:
            del self._children[before.parent][before.name]
        self._entries[entry.id] = entry
        self._children.setdefault(entry.parent, {})[entry.name] = entry.id

    def drop(self, node: NodeId) -> None:
        entry = self._entries.pop(node, None)
        if entry is not None and self.child(entry.parent, entry.name) == node:
            del self._children[entry.parent][entry.name]

    def rekey(self, old: NodeId, new: NodeId) -> None:
        children = list(self.children(old).values())
        entry = self._entries.get(old)
        if entry is not None:
            self.drop(old)
            self.put(replace(entry, id=new))
        for child in children:
            self.put(replace(self._entries[child], parent=new))
        self._children.pop(old, None)


@dataclass
class World:
    """Base, local, remote, and the bytes on the server by revision."""

    base: Tree
    local: Tree
    remote: Tree
    texts: dict[Revision, str] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    rebinds: int = 0
    policy: ConflictPolicy = ConflictPolicy.KEEP_BOTH
    requests: int = 0
    last_node: int = 1000
    last_revision: int = 0

    def plan(self, touched: Iterable[NodeId] | None = None, opaque: Iterable[NodeId] = ()) -> Plan:
        nodes = self.all_nodes() if touched is None else touched
        return reconcile(
            self.base, self.local, self.remote, nodes, policy=self.policy, stamp=STAMP, opaque=frozenset(opaque)
        )

    def all_nodes(self) -> list[NodeId]:
        return sorted({*self.base, *self.local, *self.remote} - {ROOT})

    def converge(self, rounds: int = 6) -> int:
        """Plan and apply until nothing is left to do; return the number of rounds that it took."""
        for count in range(rounds):
            self.relist()
            plan = self.plan()
            if plan.is_empty:
                return count
            self.apply(plan)
        raise AssertionError(f"not converged after {rounds} rounds: {self.plan()}")

    def converge_by_touch(self, touched: Iterable[NodeId], rounds: int = 6) -> None:
        """Plan and apply as the engine does, which touches only what changed."""
        for _ in range(rounds):
            plan = self.plan(touched)
            if plan.is_empty:
                return
            before = self._entries()
            self.apply(plan)
            self.relist()
            after = self._entries()
            changed = {node for node in {*before, *after} if before.get(node) != after.get(node)}
            touched = {*changed, *plan.waiting, *plan.fetch}
        raise AssertionError(f"not converged after {rounds} rounds: {self.plan()}")

    def _entries(self) -> dict[NodeId, tuple[Entry | None, ...]]:
        return {
            node: tuple(tree.get(node) for tree in (self.base, self.local, self.remote)) for node in self.all_nodes()
        }

    def relist(self) -> None:
        """Drop implicit directories that lost their last item: the next listing does not show them."""
        for node in sorted(self.remote, key=lambda node: -len(path_of(self.remote, node) or "")):
            entry = self.remote.get(node)
            is_implicit = entry is not None and entry.kind is Kind.DIRECTORY and entry.item is None
            if node != ROOT and is_implicit and not self.remote.children(node):
                self.remote.drop(node)

    def apply(self, plan: Plan) -> None:
        self.conflicts += plan.conflicts
        for change in plan.to_base:
            match change:
                case Acknowledge(entry):
                    self.base.put(entry)
                case Forget(node):
                    self.base.drop(node)
                case Rebind(old, new):
                    assert self.local.get(old) is None
                    self.rebinds += 1
                    self.base.rekey(old, new)
                    self.remote.rekey(old, new)
        for local_change in plan.to_local:
            self._apply_locally(local_change)
        for stage in plan.to_remote:
            assert len({change.node for change in stage}) == len(stage)
            self._check_stage(stage)
            for remote_change in stage:
                self._request(remote_change)
        for node in plan.fetch:
            self._fetch(node)

    # --- local ---

    def _apply_locally(self, change: LocalChange) -> None:
        node = change.node
        before = self.local.get(node)
        if isinstance(change, AddLocal):
            assert before is None
        else:
            assert before is not None
        if isinstance(change, SplitConflict):
            self._split(change)
        after = shown(before, change)
        if after is None:
            assert not self.local.children(node), "a directory that is removed is empty"
            self.local.drop(node)
            self.base.drop(node)
            return
        self._check_place(self.local, after)
        self.local.put(after)
        record = recorded(self.base.get(node), change)
        if record is not None:
            self.base.put(record)

    def _split(self, change: SplitConflict) -> None:
        entry = self.local.get(change.node)
        assert entry is not None
        assert entry.content is not None
        assert entry.content.sha256 is not None
        if change.copy_name is None:
            self.history.append(entry.content.sha256)
            return
        assert entry.parent == change.parent
        copy = replace(entry, id=self.new_node(), name=change.copy_name, content=replace(entry.content, revision=None))
        self._check_place(self.local, copy)
        self.local.put(copy)

    def _check_place(self, tree: Tree, entry: Entry) -> None:
        assert tree.child(entry.parent, entry.name) in (None, entry.id), f"the place of {entry} is taken"
        above = tree.get(entry.parent)
        is_directory = above is not None and above.kind is Kind.DIRECTORY
        assert is_directory, f"the directory of {entry} is not there"
        node = entry.parent
        while node != ROOT:
            assert node != entry.id, f"{entry} would be below itself"
            above = tree.get(node)
            assert above is not None
            node = above.parent

    # --- remote ---

    def _check_stage(self, stage: Iterable[RemoteChange]) -> None:
        """Check that every change of a stage can be done before the others."""
        for change in stage:
            if isinstance(change, MakeDirectory | Upload | MoveRemote | Displace):
                assert change.parent == ROOT or self.remote.get(change.parent) is not None
                assert self.remote.child(change.parent, change.name) in (None, change.node)

    def _request(self, change: RemoteChange) -> None:
        self.requests += 1
        node = change.node
        match change:
            case MakeDirectory(_, parent, name, permission):
                self._acknowledge(Entry(node, parent, name, Kind.DIRECTORY, permission, None, self.new_item()))
            case Upload():
                self._upload(change)
            case MoveRemote(_, parent, name) | Displace(_, parent, name):
                self._acknowledge(replace(self._item(node), parent=parent, name=name))
            case SetRemotePermission(_, permission):
                self._acknowledge(replace(self._item(node), permission=permission))
            case DeleteRemote(_, nodes):
                assert self._item(node)
                assert set(nodes) == set(below(self.remote, node))
                for gone in nodes:
                    entry = self.remote.get(gone)
                    assert entry is not None
                    assert not entry.is_shared
                    assert self.local.get(gone) is None
                    self.remote.drop(gone)
                    self.base.drop(gone)

    def _item(self, node: NodeId) -> Entry:
        entry = self.remote.get(node)
        assert entry is not None
        assert entry.item is not None, "only an item can be changed"
        assert not entry.is_shared, "what belongs to all jobs is never changed"
        return entry

    def _upload(self, change: Upload) -> None:
        local = self.local.get(change.node)
        replaced = self.remote.get(change.replaces) if change.replaces is not None else None
        assert local is not None
        assert local.content is not None
        assert local.content.sha256 is not None
        if change.covers_shared:
            covered = self.remote.get(change.node)
            assert covered is not None
            assert covered.is_shared
            self.history.append(self.text(covered))  # it is still there, below
        elif change.replaces is None:
            assert self.remote.get(change.node) is None
        else:
            assert replaced is not None
            assert replaced.content is not None
            assert not replaced.is_shared
            assert replaced.content.revision == change.expected
            if change.keeps_loser:
                assert change.expected is not None
                self.history.append(self.texts[change.expected])
        item = self.new_item()
        content = Content(local.content.size, local.content.sha256, self.new_revision(item, local.content.sha256))
        self.local.put(replace(local, content=content))
        self._acknowledge(Entry(change.node, change.parent, change.name, Kind.FILE, change.permission, content, item))

    def _acknowledge(self, entry: Entry) -> None:
        self._check_place(self.remote, entry)
        before, above = self.remote.get(entry.id), self.remote.get(entry.parent)
        if entry.parent != ROOT and (before is None or before.parent != entry.parent):
            assert above is not None
            assert above.item is not None, "what is created or moved needs a real directory"
        self.remote.put(entry)
        self.base.put(entry)

    def _fetch(self, node: NodeId) -> None:
        entry = self.remote.get(node)
        assert entry is not None
        assert entry.content is not None
        assert entry.content.revision is not None
        text = self.texts[entry.content.revision]
        self.remote.put(replace(entry, content=replace(entry.content, sha256=text)))

    # --- numbers ---

    def new_node(self) -> NodeId:
        self.last_node += 1
        return NodeId(self.last_node)

    def new_item(self) -> ItemId:
        self.last_revision += 1
        return ItemId(f"i{self.last_revision}")

    def new_revision(self, item: ItemId, text: str) -> Revision:
        self.last_revision += 1
        revision = Revision(item, f"{self.last_revision:06}", len(text), "")
        self.texts[revision] = text
        return revision

    # --- views ---

    def text(self, entry: Entry) -> str:
        assert entry.content is not None
        revision = entry.content.revision
        return entry.content.sha256 or self.texts[revision] if revision is not None else entry.content.sha256 or "?"

    def listing(self, tree: TreeView) -> dict[str, str]:
        """Return path to content (``/`` for a directory), read-only ones marked."""
        result = {}
        for node in tree:
            entry, path = tree.get(node), path_of(tree, node)
            if node != ROOT and entry is not None:
                assert path is not None
                mark = ":ro" if entry.permission is Permission.READ_ONLY else ""
                body = self.text(entry) if entry.kind is Kind.FILE else "/" if entry.kind is Kind.DIRECTORY else "@"
                result[path] = body + mark
        return dict(sorted(result.items()))

    def outcome(self, rounds: int) -> list[str]:
        """Say in one line, or two where the sides still differ, what there is after so many rounds."""
        here, there = (self._words(self.listing(tree)) for tree in (self.local, self.remote))
        if here == there:
            return [f"after {rounds}: {here}".rstrip()]
        return [f"here {rounds}: {here}".rstrip(), f"there {rounds}: {there}".rstrip()]

    @staticmethod
    def _words(listing: dict[str, str]) -> str:
        words = (f"{path}{body}" if body.startswith("/") else f"{path}={body}" for path, body in listing.items())
        return ", ".join(words).replace(f" (conflict from {STAMP.host} {STAMP.time}", "(C")

    def check_agreement(self) -> None:
        """Check that the three trees say the same."""
        assert self.listing(self.local) == self.listing(self.remote)
        assert self.listing(self.base) == self.listing(self.remote)
        assert set(self.base) == set(self.local) == set(self.remote)


def below(tree: TreeView, node: NodeId) -> list[NodeId]:
    """Return a node and everything below it."""
    found = [node]
    for each in found:
        found.extend(tree.children(each).values())
    return found


# --- the notation -----------------------------------------------------------------------------------------------------

_WORD = re.compile(r"(?P<new>!)?(?P<path>[^<=:]+?)(?P<dir>/)?(<(?P<was>[^=:]+))?(=(?P<text>[^:]+))?(:(?P<marks>.+))?")


@dataclass
class _Names:
    """The nodes by the names that a plan is shown with."""

    nodes: dict[str, NodeId] = field(default_factory=dict)
    last: int = 1

    def node(self, key: str) -> NodeId:
        if key not in self.nodes:
            self.last += 1
            self.nodes[key] = NodeId(self.last)
        return self.nodes[key]


def world(
    base: str = "", local: str = "", remote: str = "", policy: ConflictPolicy = ConflictPolicy.KEEP_BOTH
) -> World:
    """Make a world from the notation. Without a mark a path of local or remote is the node that base has there."""
    made = World(Tree(), Tree(), Tree(), policy=policy)
    names = _Names()
    _fill(made, names, "base", base)
    _fill(made, names, "local", local)
    _fill(made, names, "remote", remote)
    made.last_node = 1000
    return made


def _fill(made: World, names: _Names, side: str, words: str) -> None:
    places: dict[str, NodeId] = {"": ROOT}
    tree: Tree = getattr(made, side)
    for word in words.split():
        match = _WORD.fullmatch(word)
        assert match is not None, word
        path, marks = match["path"], (match["marks"] or "").split(",")
        in_base = match["was"] or (path if not match["new"] else None)
        is_known = in_base is not None and in_base in names.nodes
        node = names.node(in_base if is_known and in_base is not None else f"{side}:{path}")
        if side == "base":
            node = names.node(path)
        places[path] = node
        above, _, name = path.rpartition("/")
        kind = Kind.DIRECTORY if match["dir"] else Kind.SYMLINK if "link" in marks else Kind.FILE
        permission = Permission.READ_ONLY if "ro" in marks else Permission.READ_WRITE
        entry = Entry(node, places[above], name, kind, permission)
        tree.put(_with_content(made, entry, side, match["text"], marks))


def _with_content(made: World, entry: Entry, side: str, text: str | None, marks: list[str]) -> Entry:
    known = made.base.get(entry.id)
    changes: dict[str, Any] = {}
    if side != "local":
        is_kept = known is not None and "item" not in marks
        item = known.item if is_kept and known is not None else None if "implicit" in marks else made.new_item()
        changes = {"item": item, "is_shared": "shared" in marks}
    if entry.kind is Kind.FILE:
        body = text or (made.text(known) if known is not None else "1")
        same = known is not None and known.content is not None and made.text(known) == body
        if same and known is not None and "touched" not in marks and "item" not in marks:
            changes["content"] = known.content
        elif side == "local":
            changes["content"] = Content(len(body), body)
        else:
            revision = made.new_revision(changes["item"], body)
            is_seen = side == "base" or "seen" in marks
            changes["content"] = Content(len(body), body if is_seen else None, revision)
    return replace(entry, **changes)


def describe(made: World, plan: Plan) -> list[str]:
    """Say a plan in short lines; nodes by the path that they have in local, else in remote, else in base."""

    def name(node: NodeId, *, first: str = "local") -> str:
        trees = [made.local, made.remote, made.base]
        if first == "remote":
            trees = [made.remote, made.local, made.base]
        for tree in trees:
            path = path_of(tree, node)
            if path:
                return path
        return "/" if node == ROOT else f"#{node}"

    def place(parent: NodeId, last: str) -> str:
        last = re.sub(r"jobfs-[0-9a-z]{8}", "jobfs-*", last).replace(f" (conflict from desk {STAMP.time}", "(C")
        return last if parent == ROOT else f"{name(parent)}/{last}"

    lines = []
    for change in (*plan.to_base, *plan.to_local):
        match change:
            case Rebind(old, new):
                lines.append(f"rebind {name(old)} -> {name(new)}")
            case Acknowledge(entry) | AddLocal(entry):
                word = "ack" if isinstance(change, Acknowledge) else "add"
                lines.append(f"{word} {place(entry.parent, entry.name)}")
            case _:
                lines.append(_say(change, name, place))
    for number, stage in enumerate(plan.to_remote, 1):
        lines.extend(f"{number}: {_say(change, name, place)}" for change in stage)
    lines.extend(f"fetch {name(node)}" for node in plan.fetch)
    lines.extend(f"conflict {conflict.kind.value} {conflict.path}" for conflict in plan.conflicts)
    lines.extend(f"problem {problem.trouble.value} {problem.path}" for problem in plan.problems)
    return lines


def _say(change: Any, name: Any, place: Any) -> str:
    word = re.sub("([A-Z])", r" \1", type(change).__name__).split()[0].lower()
    words = {"set": "chmod", "split": "split", "replace": "pull", "mark": "clean"}
    text = f"{words.get(word, word)} {name(change.node)}"
    match change:
        case SplitConflict(_, _, parent, copy):
            return f"{text} -> {place(parent, copy) if copy else 'history'}"
        case MakeDirectory():
            return f"make {place(change.parent, change.name)}"
        case Upload():
            marks = [mark for mark in ("covers_shared", "keeps_loser") if getattr(change, mark)]
            over = " over" if change.replaces is not None else ""
            target = place(change.parent, change.name)
            return " ".join([f"upload{over} {target}", *marks])
        case DeleteRemote(_, nodes):
            return f"delete {name(change.node, first='remote')}" + (f" +{len(nodes) - 1}" if len(nodes) > 1 else "")
        case _ if hasattr(change, "parent"):
            return f"{text} -> {place(change.parent, change.name)}"
        case _ if hasattr(change, "permission"):
            return f"{text} {'ro' if change.permission is Permission.READ_ONLY else 'rw'}"
        case _:
            return text


__all__ = ["STAMP", "FrozenTree", "Tree", "World", "below", "describe", "world"]
