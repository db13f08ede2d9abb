"""What a synchronisation did, as values: events while it runs, a summary at its end, the steps of a trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import TypeAlias

from jobfs.engine.leftover import Unsynced
from jobfs.model import Content, NodeId, Problem, TreeView, path_of
from jobfs.planner import plan as planned
from jobfs.planner.plan import Conflict, Plan


@unique
class What(Enum):
    """What happened, or would."""

    PUSHED = "pushed"
    PULLED = "pulled"
    MADE_HERE = "made here"
    MADE_THERE = "made on the server"
    MOVED_HERE = "moved here"
    MOVED_THERE = "moved on the server"
    DELETED_HERE = "deleted here"
    DELETED_THERE = "deleted on the server"
    CHANGED_HERE = "mode changed here"
    CHANGED_THERE = "mode changed on the server"
    CONFLICT = "conflict"
    COMPARED = "compared"
    POLLING = "polling"


@dataclass(frozen=True, slots=True)
class SyncEvent:
    """One thing that was done, or that a trial would do.

    :param path: in the workspace; where something moved, the new place.
    :param size: bytes, of a file that was sent or received; else 0.
    :param detail: one line; empty where the rest says it all.
    """

    what: What
    path: str
    size: int = 0
    detail: str = ""


Progress: TypeAlias = Callable[[SyncEvent], None]
"""Called on the loop's thread, once for each event, as it happens."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of a synchronisation.

    :param counts: how often each thing was done.
    :param sent: bytes of the files that were pushed; ``received`` likewise.
    :param conflicts: disagreements that were settled, with the names of the copies.
    :param skipped: changes here that the server does not have, with the reason.
    :param problems: places that cannot be kept in step, with the reason.
    :param steps: of a trial, what would be done, in order; else empty.
    :param guard: why deletions were, or of a trial would be, stopped; else empty.
    """

    counts: dict[What, int] = field(default_factory=dict)
    sent: int = 0
    received: int = 0
    conflicts: tuple[Conflict, ...] = ()
    skipped: tuple[Unsynced, ...] = ()
    problems: tuple[Problem, ...] = ()
    steps: tuple[SyncEvent, ...] = ()
    guard: str = ""

    def count(self, what: What) -> int:
        """Return how often something was done."""
        return self.counts.get(what, 0)


class Ledger:
    """Counts events, and passes them on."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self.counts: Counter[What] = Counter()
        self.sent = 0
        self.received = 0

    def note(self, event: SyncEvent) -> None:
        """Count an event, and tell whoever listens."""
        self.counts[event.what] += 1
        if event.what is What.PUSHED:
            self.sent += event.size
        elif event.what is What.PULLED:
            self.received += event.size
        if self._progress is not None:
            self._progress(event)


def distinct(conflicts: list[Conflict]) -> tuple[Conflict, ...]:
    """Return conflicts once each: one that cannot be settled in one direction is found by every plan."""
    return tuple({(conflict.node, conflict.path, conflict.kind): conflict for conflict in conflicts}.values())


def steps_of(plan: Plan, local: TreeView, remote: TreeView, *, pushes: bool, pulls: bool) -> tuple[SyncEvent, ...]:
    """Return what a plan would do, in its order, as far as the direction allows it."""
    steps: list[SyncEvent] = []
    if pulls:
        steps += [step for change in plan.to_local if (step := _local_step(change, local, remote)) is not None]
    if pushes:
        steps += [_remote_step(change, local, remote) for stage in plan.to_remote for change in stage]
    for node in plan.fetch:
        detail = "both sides have it; the bytes are compared before anything is done"
        steps.append(SyncEvent(What.COMPARED, _path(local, node), detail=detail))
    return tuple(steps)


def _local_step(change: planned.LocalChange, local: TreeView, remote: TreeView) -> SyncEvent | None:
    match change:
        case planned.AddLocal(entry):
            what = What.MADE_HERE if entry.content is None else What.PULLED
            return SyncEvent(what, _path(remote, entry.id), _size(entry.content))
        case planned.ReplaceContent(node, entry):
            return SyncEvent(What.PULLED, _path(local, node), _size(entry.content))
        case planned.SplitConflict(node, entry, _, name):
            detail = f"the version from here is kept as {name}" if name else "the version from here goes to the history"
            return SyncEvent(What.CONFLICT, _path(local, node), _size(entry.content), detail)
        case planned.MoveLocal(node, parent, name):
            return SyncEvent(What.MOVED_HERE, _place(local, remote, parent, name), detail=f"from {_path(local, node)}")
        case planned.RemoveLocal(node):
            return SyncEvent(What.DELETED_HERE, _path(local, node))
        case planned.SetLocalPermission(node, permission):
            return SyncEvent(What.CHANGED_HERE, _path(local, node), detail=permission.value)
        case planned.MarkClean():
            return None


def _remote_step(change: planned.RemoteChange, local: TreeView, remote: TreeView) -> SyncEvent:
    match change:
        case planned.MakeDirectory(node):
            return SyncEvent(What.MADE_THERE, _path(local, node) or _path(remote, node))
        case planned.Upload(node):
            entry = local.get(node)
            return SyncEvent(What.PUSHED, _path(local, node), _size(entry.content if entry is not None else None))
        case planned.MoveRemote(node, parent, name) | planned.Displace(node, parent, name):
            return SyncEvent(
                What.MOVED_THERE, _place(remote, local, parent, name), detail=f"from {_path(remote, node)}"
            )
        case planned.SetRemotePermission(node, permission):
            return SyncEvent(What.CHANGED_THERE, _path(remote, node), detail=permission.value)
        case planned.DeleteRemote(node):
            return SyncEvent(What.DELETED_THERE, _path(remote, node))


def remote_event(change: planned.RemoteChange, base: TreeView, deleted: Mapping[NodeId, str]) -> SyncEvent:
    """Return what a request has done, once base records it.

    :param deleted: where the nodes were that are gone.
    """
    path = _path(base, change.node)
    match change:
        case planned.MakeDirectory():
            return SyncEvent(What.MADE_THERE, path)
        case planned.Upload(node):
            entry = base.get(node)
            return SyncEvent(What.PUSHED, path, _size(entry.content if entry is not None else None))
        case planned.MoveRemote() | planned.Displace():
            return SyncEvent(What.MOVED_THERE, path)
        case planned.SetRemotePermission(_, permission):
            return SyncEvent(What.CHANGED_THERE, path, detail=permission.value)
        case planned.DeleteRemote(node):
            return SyncEvent(What.DELETED_THERE, deleted.get(node, ""))


def _size(content: Content | None) -> int:
    return content.size if content is not None else 0


def _path(tree: TreeView, node: NodeId) -> str:
    return path_of(tree, node) or ""


def _place(tree: TreeView, other: TreeView, parent: NodeId, name: str) -> str:
    """Return where something moves to; into a directory that is still to be made, as it is in the other tree."""
    above = path_of(tree, parent)
    if above is None:
        above = _path(other, parent)
    return f"{above}/{name}" if above else name
