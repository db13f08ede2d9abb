"""From the merge to what base records and what the user sees.

Internal to the planner.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import assert_never

from jobfs.model import Content, Entry, Kind, NodeId
from jobfs.planner.arrange import Aside, Order, Put, arrange
from jobfs.planner.cases import Case, Fate, Places, Step
from jobfs.planner.merge import Merge
from jobfs.planner.naming import ConflictStamp, Suffix, hidden_name, token_of
from jobfs.planner.plan import (
    Acknowledge,
    AddLocal,
    BaseChange,
    Forget,
    LocalChange,
    MarkClean,
    MoveLocal,
    RemoveLocal,
    ReplaceContent,
    SetLocalPermission,
    SplitConflict,
)


def base_changes(cases: Iterable[Case]) -> list[BaseChange]:
    """Return the records that change without anything being done for it."""
    changes: list[BaseChange] = []
    for case in cases:
        if case.fate is Fate.HELD:
            continue
        if case.base is not None and case.remote is None:
            if case.fate is Fate.KEPT or case.local is None:
                changes.append(Forget(case.node))
        elif case.local is not None and case.remote is not None:
            entry = _agreed(case, case.local, case.remote)
            if entry is not None and entry != case.base:
                changes.append(Acknowledge(entry))
        elif case.base is not None and case.remote is not None and case.fate is Fate.GONE:
            entry = _linked(case.base, case.remote)  # what is to be deleted is known by its present revision
            if entry != case.base:
                changes.append(Acknowledge(entry))
    return changes


def _agreed(case: Case, local: Entry, remote: Entry) -> Entry | None:
    """Return what base may record as it is: the attributes in which both sides agree, the rest as before."""
    entry = case.base
    if entry is None:
        return remote if remote.kind is not Kind.FILE else None  # a file's record comes with its content
    if (local.parent, local.name) == (remote.parent, remote.name):
        entry = replace(entry, parent=remote.parent, name=remote.name)
    if local.permission is remote.permission:
        entry = replace(entry, permission=remote.permission)
    if remote.kind is not Kind.FILE:
        return replace(entry, item=remote.item, is_shared=remote.is_shared)
    if case.step is Step.PUSH and entry.content is not None:
        return replace(_linked(entry, remote), item=remote.item, is_shared=remote.is_shared)
    return entry


def _linked(entry: Entry, remote: Entry) -> Entry:
    """Return an entry of base with the revision that the server has of the same bytes."""
    if entry.content is None or remote.content is None or entry.content.revision == remote.content.revision:
        return entry
    return replace(entry, content=_proved(remote.content, entry.content))


def _proved(content: Content, equal: Content | None) -> Content:
    """Return a remote content with the digest of another one of which it was proved that the bytes are the same."""
    if content.sha256 is not None or equal is None or equal.sha256 is None:
        return content
    return replace(content, sha256=equal.sha256)


def local_changes(merge: Merge, cases: Sequence[Case], stamp: ConflictStamp) -> tuple[list[LocalChange], set[NodeId]]:
    """Return what changes for the user, in the order in which it can be applied, and the nodes that have to wait.

    :param cases: all of them, sorted by depth and path.
    """
    moves = _Moves(merge, cases, stamp)
    changes = list(moves.changes())
    blocked = {put.node for put, _ in moves.order.blocked}
    blocked |= moves.full(blocked)
    for case in cases:
        if case.fate is Fate.KEPT and case.local is not None and case.remote is not None:
            changes += _content_changes(merge, case, case.remote, is_placed=case.node not in blocked)
            if case.local.permission is not case.permission:
                changes.append(SetLocalPermission(case.node, case.permission))
    changes += moves.removals(blocked)
    return changes, blocked


def _content_changes(merge: Merge, case: Case, remote: Entry, *, is_placed: bool) -> list[LocalChange]:
    match case.step:
        case Step.NONE | Step.PUSH | Step.OVERRULE:
            return []
        case Step.CLEAN:
            known = case.local.content if case.local is not None else None
            content = remote.content if remote.content is None else _proved(remote.content, known)
            return [MarkClean(case.node, replace(remote, content=content))]
        case Step.PULL:
            return [ReplaceContent(case.node, remote)]
        case Step.SPLIT:
            name = merge.copies[case.node]
            return [SplitConflict(case.node, remote, case.parent, name)] if is_placed else []
        case Step.YIELD:
            return [SplitConflict(case.node, remote, case.parent, None)]
        case _:
            assert_never(case.step)


class _Moves:
    """Additions, moves and removals, which depend on each other's places."""

    def __init__(self, merge: Merge, cases: Sequence[Case], stamp: ConflictStamp) -> None:
        self._merge = merge
        self._cases = cases
        self._stamp = stamp
        self._removed: set[NodeId] = set()
        puts = (put for case in cases if (put := _local_put(case, merge.places)) is not None)
        self.order: Order = arrange(merge.local, puts, self._is_leaving, self._aside_name)

    def changes(self) -> Iterator[LocalChange]:
        """Yield additions and moves, and removals of files that are in their way."""
        cases = self._merge.cases
        for turns in self.order.rounds:
            for turn in turns:
                if isinstance(turn, Aside):
                    if turn.is_leaving and cases[turn.node].kind is not Kind.DIRECTORY:
                        self._removed.add(turn.node)
                        yield RemoveLocal(turn.node)
                    else:
                        yield MoveLocal(turn.node, turn.parent, turn.name, settles=False)
                    continue
                case = cases[turn.node]
                if case.local is None and case.remote is not None:
                    yield AddLocal(case.remote)
                    if not _is_settling(case):  # it has a hidden name there, and gets one of its own
                        yield MoveLocal(turn.node, turn.parent, turn.name, settles=False)
                else:
                    yield MoveLocal(turn.node, turn.parent, turn.name, settles=_is_settling(case))

    def full(self, blocked: Iterable[NodeId]) -> set[NodeId]:
        """Return the directories to be removed that cannot be yet: something that cannot move out is still in them."""
        found: set[NodeId] = set()
        for node in blocked:
            entry = self._merge.local.get(node)
            while entry is not None and self._is_leaving(entry.parent) and entry.parent not in found:
                found.add(entry.parent)
                entry = self._merge.local.get(entry.parent)
        return found

    def removals(self, waiting: Collection[NodeId]) -> list[LocalChange]:
        """Return the other removals, what is in a directory before the directory.

        :param waiting: nodes that are not removed yet.
        """
        gone = [
            case
            for case in self._cases
            if case.fate is Fate.GONE
            and case.local is not None
            and case.node not in self._removed
            and case.node not in waiting
        ]
        return [RemoveLocal(case.node) for case in reversed(gone)]

    def _is_leaving(self, node: NodeId) -> bool:
        case = self._merge.cases.get(node)
        return case is not None and case.fate is Fate.GONE

    def _aside_name(self, node: NodeId, name: str) -> str:
        return hidden_name(name, token_of(node, self._stamp), Suffix.OLD)


def _local_put(case: Case, places: Places) -> Put | None:
    if case.fate is not Fate.KEPT:
        return None
    local = case.local
    if local is not None and (local.parent, local.name) == (case.parent, case.name):
        return None
    return Put(case.node, case.parent, case.name, places.key(case)[0])


def _is_settling(case: Case) -> bool:
    remote = case.remote
    return remote is not None and (remote.parent, remote.name) == (case.parent, case.name)
