"""How one path of a workspace stands: whether the server has it, what is in its way, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobfs.engine.session import Session
from jobfs.errors import NotFound
from jobfs.model import Kind, LocalNode, NodeId, node_at
from jobfs.planner.difference import below, tops
from jobfs.workspace.conflicts import is_conflict_copy, original_of, resolve_command


class Standing:
    """Answers about the paths of one session.

    :param directory: where it is mounted or kept in step.
    """

    def __init__(self, session: Session, directory: str) -> None:
        self._session = session
        self._directory = directory

    def of(self, path: str) -> dict[str, object]:
        """Return how a file stands, or how many of the files of a directory do not stand as on the server.

        ``state`` is ``in step``, ``on the server`` (its bytes are brought when they are read), ``waiting``, ``held``,
        ``sending``, ``receiving`` or ``local only``.

        :raises NotFound: there is nothing, and was nothing.
        """
        state = self._session.state
        local = node_at(state.local, path)
        nodes = {local} if local is not None else tops(state.base, state.synced, path)
        if not nodes:
            raise NotFound(f"there is no {path}, and there was none", "see 'jobfs status'")
        (node, *_) = sorted(nodes)
        record = state.local.get(node)
        inside = {one for tree in (state.local, state.base) for one in below(tree, node)} - {node}
        unsent = {one.node: one for one in self._session.unsynced() if one.node == node or one.node in inside}
        either = record or state.base.get(node)
        kind = either.kind if either is not None else Kind.FILE
        told: dict[str, object] = {"path": path, "directory": self._directory, "state": self._state(node, record)}
        told |= {"kind": kind.value, "size": _size(record), "isHere": record is not None}
        if node in unsent:
            told |= {"state": self._unsent(node, is_held=unsent[node].is_held), "reason": unsent[node].reason}
        told |= {"waitingBelow": _count(unsent, node, is_held=False), "heldBelow": _count(unsent, node, is_held=True)}
        if is_conflict_copy(path):
            told |= {"conflictWith": original_of(path), "next": resolve_command(self._directory, path)}
        return told

    def _state(self, node: NodeId, record: LocalNode | None) -> str:
        if record is not None and record.is_local_only:
            return "local only"
        if any(node == arriving for arriving, _, _ in self._session.hydrator.arriving()):
            return "receiving"
        is_elsewhere = record is not None and record.kind is Kind.FILE and record.blob is None and not record.inode
        return "on the server" if is_elsewhere and _size(record) else "in step"

    def _unsent(self, node: NodeId, *, is_held: bool) -> str:
        if node in self._session.pusher.in_flight:
            return "sending"
        return "held" if is_held else "waiting"


def _size(record: LocalNode | None) -> int:
    return record.content.size if record is not None and record.content is not None else 0


def _count(unsent: Mapping[NodeId, Any], top: NodeId, *, is_held: bool) -> int:
    return sum(one.is_held is is_held for node, one in unsent.items() if node != top)
