"""One workspace as its two faces see it: the local tree, its rules, and how to say that something changed.

The vfs (mount) and the folder mode read and change the local tree through this object only; the session watches it and
derives the work. It leaves to others: what to push (planner), how (pusher), bringing bytes here (hydrator).

All calls from the loop's thread; nothing here awaits, and nothing here needs the network.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import Enum, unique
from typing import Protocol

from jobfs.engine.history import History
from jobfs.model import ROOT, Content, Kind, LocalNode, NodeId, TreeView, path_of
from jobfs.planner.guards import RESERVED, is_reserved
from jobfs.planner.ignore import Ignore
from jobfs.planner.naming import ConflictStamp, conflict_name, is_passing_name
from jobfs.store.state import State


@unique
class Happening(Enum):
    """What the remote side did to a place that the user sees."""

    APPEARED = "appeared"
    VANISHED = "vanished"
    REPLACED = "replaced"
    ATTRIBUTES = "attributes"


@dataclass(frozen=True, slots=True)
class LocalChange:
    """A change of the local tree that no local program made; transports invalidate what they cached of it.

    :param node: of what appeared, vanished or has other attributes; of a replacement, the new one.
    :param kind: of the node. :param old: of a replacement, the node that had the name, if it was shown.
    """

    happening: Happening
    parent: NodeId
    name: str
    node: NodeId
    kind: Kind
    old: NodeId | None = None


async def _at_once() -> None:
    """Wait for nothing: nobody keeps a copy of what is announced."""


class Clock(Protocol):
    """Time, as a parameter."""

    def wall_ns(self) -> int:
        """Return nanoseconds since the epoch."""

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never jumps."""


class SystemClock:
    """The machine's clocks."""

    def wall_ns(self) -> int:
        """Return nanoseconds since the epoch."""
        return time.time_ns()

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never jumps."""
        return time.monotonic()


class Workspace:
    """The local side of one workspace.

    :param host: this machine's name, for conflict copies.
    :param is_read_only: nothing may be written at all: a finished run, or ``--read-only``.
    """

    def __init__(self, state: State, ignore: Ignore, clock: Clock, *, host: str, is_read_only: bool) -> None:
        self.state = state
        self.ignore = ignore
        self.clock = clock
        self.host = host
        self.is_read_only = is_read_only
        self.history = History(state, clock.wall_ns)
        self.writers: Counter[NodeId] = Counter()
        self.keepers: Counter[NodeId] = Counter()
        self.on_touch: Callable[[NodeId], None] = lambda node: None
        self.on_replaced: Callable[[LocalNode], bool] = lambda node: False
        """Leaves a node that lost its place to the other side to who has it open; tells whether somebody has."""
        self.is_open: Callable[[NodeId], bool] = lambda node: False
        self.is_known: Callable[[NodeId], bool] = lambda node: False
        """Whether a program has a node open, or a transport's caches name it: its number stands for that version."""
        self.caught_up: Callable[[], Awaitable[None]] = _at_once
        """Returns when programs see what was announced until now: a transport may pass it on in its own time."""
        self.listeners: list[Callable[[LocalChange], None]] = []

    def touch(self, *nodes: NodeId) -> None:
        """Say that nodes changed on this side: their push starts when they have been quiet for a moment."""
        for node in nodes:
            self.on_touch(node)

    def let_go(self, record: LocalNode, *, is_kept: bool) -> None:
        """Let go, in the caller's transaction, of a node that loses its place to a version from elsewhere, or to none.

        Its bytes go after the commit, unless somebody has them open.

        :param is_kept: nor then, for the history has them.
        """

        def part() -> None:
            if not self.on_replaced(record) and record.blob is not None and not is_kept:
                self.state.blobs.remove(record.blob)

        self.state.after_commit(part)

    def announce(self, change: LocalChange) -> None:
        """Tell the transports of a change that no local program made."""
        for listener in self.listeners:
            listener(change)

    def path(self, node: NodeId) -> str | None:
        """Return a node's local path, or None once it is gone."""
        return path_of(self.state.local, node)

    def place_path(self, parent: NodeId, name: str) -> str:
        """Return the path of a place in a directory."""
        above = self.path(parent)
        return f"{above}/{name}" if above else name

    def is_ignored(self, parent: NodeId, name: str, *, is_directory: bool) -> bool:
        """Tell whether a node at this place would be local-only."""
        directory = self.state.local.get(parent)
        if directory is not None and directory.is_local_only:
            return True
        return self.ignore.is_ignored(self.place_path(parent, name), is_directory)

    def is_being_written(self, node: NodeId) -> bool:
        """Tell whether a program has a file open for writing."""
        return bool(self.writers.get(node))

    def is_passing(self, node: NodeId) -> bool:
        """Tell whether a file is new, and has a name like those under which programs write what they then rename."""
        record = self.state.local.get(node)
        if record is None or record.kind is not Kind.FILE or self.state.base.get(node) is not None:
            return False
        return is_passing_name(record.name)

    def is_protected(self, node: NodeId) -> bool:
        """Tell whether nothing may be written at this node: a read-only workspace, or the runtime's own directory."""
        if self.is_read_only:
            return True
        if self.state.local.child(ROOT, RESERVED) is None:
            return False  # asked for with each look at a node, and nearly always the answer
        top = self.top_name(self.state.local, node)
        return top is not None and is_reserved(top)

    @staticmethod
    def top_name(tree: TreeView, node: NodeId) -> str | None:
        """Return the name, right below the root, of the branch that a node is in; None for the root."""
        name = None
        while node != ROOT:
            entry = tree.get(node)
            if entry is None:
                return None
            name = entry.name
            node = entry.parent
        return name

    def is_shared(self, node: NodeId) -> bool:
        """Tell whether a node stands for an item that belongs to all jobs (contract I-27)."""
        entry = self.state.base.get(node)
        return entry is not None and entry.is_shared

    def conflict_stamp(self) -> ConflictStamp:
        """Return what a conflict copy made now says about its origin."""
        return ConflictStamp.at(self.host, self.clock.wall_ns())

    def place_conflict_copy(self, record: LocalNode) -> LocalNode:
        """Give a node that has no place any more a conflict name where it was, as dirty; return it as it now is.

        :param record: not in the local tree.
        """
        above = self.state.local.get(record.parent)
        parent = record.parent if above is not None else ROOT
        siblings = self.state.local.children(parent)
        size = record.content.size if record.content is not None else 0
        copy = replace(
            record,
            parent=parent,
            name=conflict_name(record.name, self.conflict_stamp(), lambda name: name in siblings),
            content=Content(size),
        )
        with self.state.transaction():
            self.state.put_local(copy)
        self.announce(LocalChange(Happening.APPEARED, parent, copy.name, copy.id, copy.kind))
        self.touch(copy.id)
        return copy
