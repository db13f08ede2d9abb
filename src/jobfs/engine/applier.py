"""Apply to the local tree what the planner wants shown: the mount's half of "pull".

In a mount the local tree is the truth, so every change is memory and one transaction, with nothing awaited between plan
and effect. Folder mode has its own applier, which must also change a real folder (``folder.apply``).

**Invariants.** A remote content change takes a new node number: whoever has the old version open keeps it (design,
1.7). In a conflict the old number stays with the local bytes, so programs that have them open go on writing the copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from jobfs.engine.trees import Trees
from jobfs.engine.workspace import Happening, LocalChange, Workspace
from jobfs.model import Entry, Kind, LocalNode, NodeId, Permission
from jobfs.planner import plan as planned
from jobfs.planner.plan import recorded, shown
from jobfs.planner.view import time_of
from jobfs.store.history import Reason


class Applier:
    """Applies the local half of plans to a mount's tree."""

    def __init__(self, workspace: Workspace, trees: Trees) -> None:
        self._workspace = workspace
        self._state = workspace.state
        self._history = workspace.history
        self._trees = trees
        self._moment_ns = 0  # one object for the hundred thousand nodes of a first listing
        self._changed: set[NodeId] = set()
        """Directories in which names came, went, or came to stand for something else, in the changes under way."""

    def apply_base(self, changes: Iterable[planned.BaseChange]) -> None:
        """Record what needs no work."""
        for change in changes:
            match change:
                case planned.Acknowledge(entry):
                    with self._state.transaction():
                        self._state.put_base(entry)
                        self._share_content(entry)
                case planned.Forget(node):
                    with self._state.transaction():
                        self._state.drop_base(node)
                case planned.Rebind(old, new):
                    self._trees.rebind(old, new)

    def _share_content(self, entry: Entry) -> None:
        """Let a clean local file name the revision that base now names."""
        local = self._state.local.get(entry.id)
        if local is not None and local.content is not None and entry.content is not None:
            same = planned.is_same_content(local.content, entry.content)
            if same and local.content.revision != entry.content.revision:
                self._state.put_local(replace(local, content=entry.content))

    def apply_local(self, changes: Iterable[planned.LocalChange]) -> set[NodeId]:
        """Apply changes in order, each one transaction; return the nodes to look at again."""
        numbers: dict[NodeId, NodeId] = {}
        touched: set[NodeId] = set()
        self._moment_ns = self._workspace.clock.wall_ns()
        for change in changes:
            node = numbers.get(change.node, change.node)
            self._apply(change, node, numbers)
            touched.update((change.node, numbers.get(change.node, change.node)))
        self._stamp_changed()
        return touched

    def _stamp_changed(self) -> None:
        """Give the directories in which something changed the time of that, as if a program here had done it."""
        for directory in self._changed:
            record = self._state.local.get(directory)
            if record is not None:
                self._state.show_local(replace(record, mtime_ns=self._moment_ns, ctime_ns=self._moment_ns))
        self._changed = set()

    def _apply(self, change: planned.LocalChange, node: NodeId, numbers: dict[NodeId, NodeId]) -> None:
        match change:
            case planned.AddLocal(entry):
                self._add(entry, numbers)
            case planned.RemoveLocal():
                self._remove(node, keeps=change.keeps)
            case planned.ReplaceContent():
                self._replace(change, node, numbers)
            case planned.SplitConflict():
                self._split(change, node, numbers)
            case planned.MoveLocal():
                self._move(change, node, numbers)
            case planned.MarkClean() | planned.SetLocalPermission():
                self._change(change, node)

    def _add(self, entry: Entry, numbers: dict[NodeId, NodeId]) -> None:
        parent = numbers.get(entry.parent, entry.parent)
        number = entry.id
        with self._state.transaction():
            if self._state.base.get(entry.id) is not None or self._workspace.is_known(entry.id):
                # It was here before and was deleted: whoever still has that one open keeps it.
                number = numbers[entry.id] = self._state.allocate()
                self._trees.rebind(entry.id, number)
            if (number, parent) != (entry.id, entry.parent):
                entry = replace(entry, id=number, parent=parent)  # else base shares the listing's own record
            node = remote_node(entry, self._moment_ns)
            self._state.put_local(node)
            self._state.put_base(entry)
        self._announce(Happening.APPEARED, node)

    def _remove(self, node: NodeId, *, keeps: bool) -> None:
        record = self._state.local.get(node)
        if record is None:
            return
        with self._state.transaction():
            self._state.drop_base(node)
            if self._state.local.children(node) or self._state.links.get(node):
                return  # it holds local-only entries: it stays, and is made anew on the server
            self._state.drop_local(node)
            self.removed(node)
            self._give_up(record, self._history.deleted, Reason.DELETED_THERE, keeps=keeps)
        self._announce(Happening.VANISHED, record)

    def _replace(self, change: planned.ReplaceContent, node: NodeId, numbers: dict[NodeId, NodeId]) -> None:
        record = self._present(node)
        fresh = self._state.allocate()
        with self._state.transaction():
            self._trees.rebind(node, fresh)
            self.record(change, fresh)
            self._state.drop_local(node)
            self._give_up(record, self._history.replaced, Reason.REPLACED_THERE, keeps=change.keeps)
            self._state.put_local(self._fresh(record, change, fresh))
        numbers[change.node] = fresh
        self._announce(Happening.REPLACED, replace(record, id=fresh), old=node)

    def _split(self, change: planned.SplitConflict, node: NodeId, numbers: dict[NodeId, NodeId]) -> None:
        record = self._present(node)
        fresh = self._state.allocate()
        with self._state.transaction():
            self._trees.rebind(node, fresh)
            self.record(change, fresh)
            self._state.drop_local(node)
            if change.copy_name is None:
                self._workspace.let_go(record, is_kept=self._history.keep(record, Reason.LOST))
            else:
                parent = numbers.get(change.parent, change.parent)
                self._state.put_local(replace(record, parent=parent, name=change.copy_name))
            self._state.put_local(self._fresh(record, change, fresh))
        numbers[change.node] = fresh
        self._announce(Happening.REPLACED, replace(record, id=fresh), old=node)
        if change.copy_name is not None:
            self._announce(Happening.APPEARED, self._present(node))
            self._workspace.touch(node)

    def _move(self, change: planned.MoveLocal, node: NodeId, numbers: dict[NodeId, NodeId]) -> None:
        record = self._present(node)
        parent = numbers.get(change.parent, change.parent)
        with self._state.transaction():
            self._state.put_local(replace(record, parent=parent, name=change.name))
            self.record(replace(change, parent=parent), node)
        self._announce(Happening.VANISHED, record)
        self._announce(Happening.APPEARED, self._present(node))

    def _change(self, change: planned.MarkClean | planned.SetLocalPermission, node: NodeId) -> None:
        record = self._present(node)
        changed = _local(shown(record, change))
        with self._state.transaction():
            self._state.put_local(replace(changed, mode=writable_as(changed.mode, changed.permission)))
            self.record(change, node)
        self._announce(Happening.ATTRIBUTES, record)

    # -- pieces

    def _present(self, node: NodeId) -> LocalNode:
        record = self._state.local.get(node)
        if record is None:
            raise AssertionError(f"a planned change of node {node}, which is gone")
        return record

    def _fresh(
        self, record: LocalNode, change: planned.ReplaceContent | planned.SplitConflict, node: NodeId
    ) -> LocalNode:
        """Return the record of the remote version that takes a name: its bytes are not here yet."""
        content = change.entry.content
        mtime_ns = mtime_of(change.entry) or self._workspace.clock.wall_ns()
        return replace(
            record, id=node, content=content, blob=None, mtime_ns=mtime_ns, ctime_ns=self._workspace.clock.wall_ns()
        )

    def record(self, change: planned.LocalChange, node: NodeId) -> None:
        """Record in base what a change that was applied says about the server; in the caller's transaction."""
        base = recorded(self._state.base.get(node), change)
        if base is not None:
            self._state.put_base(replace(base, id=node))

    def removed(self, node: NodeId) -> None:
        """Note, in the caller's transaction, that a node is removed here because the server no longer has it."""
        self._trees.removed_here(node)

    def _give_up(
        self, record: LocalNode, usual: Callable[[LocalNode, Reason], bool], reason: Reason, *, keeps: bool
    ) -> None:
        """Let go of a node's bytes, which the history gets: by its usual rules, or because nobody else has them."""
        is_kept = self._history.keep(record, Reason.REVERTED) if keeps else usual(record, reason)
        self._workspace.let_go(record, is_kept=is_kept)

    def _announce(self, happening: Happening, record: LocalNode, *, old: NodeId | None = None) -> None:
        if happening is not Happening.ATTRIBUTES:
            self._changed.add(record.parent)
        self._workspace.announce(LocalChange(happening, record.parent, record.name, record.id, record.kind, old))


def remote_node(entry: Entry, now_ns: int) -> LocalNode:
    """Return the local record of a remote node that appears: not hydrated, with the server's time."""
    usual = 0o755 if entry.kind is Kind.DIRECTORY else 0o644
    return LocalNode(
        entry.id,
        entry.parent,
        entry.name,
        entry.kind,
        entry.permission,
        entry.content,
        mode=writable_as(usual, entry.permission),
        mtime_ns=mtime_of(entry) or now_ns,
        ctime_ns=now_ns,
    )


def writable_as(mode: int, permission: Permission) -> int:
    """Return a mode with the write bits that go with a permission; the others stay."""
    return mode & ~0o222 if permission is Permission.READ_ONLY else mode | 0o200


def mtime_of(entry: Entry) -> int:
    """Return the server's time of a file's content in nanoseconds; 0 where it sent none that can be read."""
    revision = entry.content.revision if entry.content is not None else None
    if revision is None or not revision.updated_at:
        return 0
    moment = time_of(revision.updated_at)
    if moment is None:
        return 0
    mtime_ns = int(moment.timestamp() * 1000) * 1_000_000
    return mtime_ns if 0 <= mtime_ns < 1 << 63 else 0  # what neither the store nor a file system can hold


def _local(entry: Entry | None) -> LocalNode:
    if not isinstance(entry, LocalNode):
        raise AssertionError("the local tree holds local nodes")
    return entry
