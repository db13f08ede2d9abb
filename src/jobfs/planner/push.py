"""From the merge to the requests that make the server agree, in stages.

Internal to the planner.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from jobfs.model import ROOT, Entry, Kind, NodeId, Permission, Trouble
from jobfs.planner.arrange import Aside, Order, Put, arrange
from jobfs.planner.cases import Case, Fate, Places, Step
from jobfs.planner.guards import is_reserved
from jobfs.planner.merge import Merge
from jobfs.planner.naming import ConflictStamp, Suffix, check_name, check_path, hidden_name, path_units, token_of
from jobfs.planner.plan import (
    DeleteRemote,
    Displace,
    MakeDirectory,
    MoveRemote,
    RemoteChange,
    SetRemotePermission,
    Stage,
    Upload,
)

_TROUBLES = {
    Trouble.INVALID_NAME: "the server cannot hold this name; rename it",
    Trouble.NAME_TOO_LONG: "the name is over 255 bytes; give it a shorter one",
    Trouble.PATH_TOO_LONG: "the path is over the server's 1024 characters; shorten it or move it up",
}


def remote_changes(merge: Merge, cases: Sequence[Case], stamp: ConflictStamp) -> tuple[list[Stage], set[NodeId]]:
    """Return the stages of requests, and the nodes that have to wait.

    The stages: items of their own for implicit directories, write bits that are in the way, directories and moves by
    depth, contents and the other write bits, deletions.

    :param cases: all of them, sorted by depth and path. What the server cannot hold is refused in ``merge``.
    """
    push = _Push(merge, cases, stamp)
    return push.stages(), push.waiting


class _Push:
    def __init__(self, merge: Merge, cases: Sequence[Case], stamp: ConflictStamp) -> None:
        self._merge = merge
        self._cases = cases
        self._stamp = stamp
        self._refused: set[NodeId] = set()
        self._implicit: dict[NodeId, Entry] = {}
        self._needed: set[NodeId] = set()
        self.waiting: set[NodeId] = set()
        self._depths = Places({}, merge.remote, merge.remote)

    def stages(self) -> list[Stage]:
        kept = [case for case in self._cases if case.fate is Fate.KEPT and case.local is not None]
        puts = [put for case in kept if (put := self._put(case)) is not None]
        self._needed = self._still_needed({put.node for put in puts})
        order = arrange(self._merge.remote, puts, self._is_leaving, self._aside_name)
        self._refuse_blocked(order)
        places = self._places(order)
        pushed = [case for case in kept if case.node not in self._refused]
        contents = [change for case in pushed for change in self._content(case)]
        loosened = [change for case in pushed if (change := self._permission(case, Permission.READ_WRITE))]
        tightened = [change for case in pushed if (change := self._permission(case, Permission.READ_ONLY))]
        stages = [*self._own_items(), loosened, *places, [*contents, *tightened], self._deletions(order)]
        return [tuple(stage) for stage in stages if stage]

    # --- places -----------------------------------------------------------------------------------------------------

    def _put(self, case: Case) -> Put | None:
        """Return what brings a node to its place on the server; None where it is there, or where it cannot be."""
        remote = case.remote
        if remote is not None and (remote.parent, remote.name) == (case.parent, case.name):
            return None
        depth, path = self._merge.places.key(case)
        trouble = self._trouble(case, path)
        if trouble is not None:
            self._refused.add(case.node)
            self._merge.refuse(case, *trouble)
            return None
        return Put(case.node, case.parent, case.name, depth)

    def _trouble(self, case: Case, path: str) -> tuple[Trouble, str] | None:
        if case.kind not in (Kind.FILE, Kind.DIRECTORY):
            return Trouble.UNSUPPORTED_KIND, f"the server cannot hold a {case.kind.value}; it stays here only"
        if is_reserved(path):
            return Trouble.SHARED_ITEM, "the directory perstack belongs to the runtime; this stays here only"
        trouble = check_name(case.name) or check_path(path)
        if trouble is None and case.remote is not None and case.kind is Kind.DIRECTORY:
            trouble = self._longest_below(case, path)
        return None if trouble is None else (trouble, _TROUBLES[trouble])

    def _longest_below(self, case: Case, path: str) -> Trouble | None:
        """Tell whether what is below a moved directory would have paths over the limit (contract I-21)."""
        queue = [(case.node, path)]
        while queue:
            directory, above = queue.pop()
            for name, node in self._merge.remote.children(directory).items():
                below = f"{above}/{name}"
                if path_units(below) > _LONG and check_path(below) is Trouble.PATH_TOO_LONG:
                    return Trouble.PATH_TOO_LONG
                queue.append((node, below))
        return None

    def _refuse_blocked(self, order: Order) -> None:
        for put, occupant in order.blocked:
            self._refused.add(put.node)
            self.waiting.add(put.node)
            case = self._merge.cases.get(occupant) if occupant is not None else None
            if case is not None and case.fate is not Fate.HELD:
                detail = "its place on the server is held by something that cannot be moved away"
                self._merge.refuse(self._merge.cases[put.node], Trouble.NAME_COLLISION, detail)

    def _places(self, order: Order) -> list[list[RemoteChange]]:
        stages: list[list[RemoteChange]] = []
        for turns in order.rounds:
            stage = [change for turn in turns if (change := self._turn(turn)) is not None]
            stages.append(stage)
        return stages

    def _turn(self, turn: Put | Aside) -> RemoteChange | None:
        self._need_item(turn.parent)
        if isinstance(turn, Aside):
            self._need_item(turn.node)
            kind = Displace if turn.is_leaving else MoveRemote
            return kind(turn.node, turn.parent, turn.name)
        case = self._merge.cases[turn.node]
        if case.remote is not None:
            self._need_item(turn.node)
            return MoveRemote(turn.node, turn.parent, turn.name)
        if case.kind is Kind.DIRECTORY:
            return MakeDirectory(turn.node, turn.parent, turn.name, case.permission)
        return None  # a new file: its content comes with it, in the stage of the contents

    def _need_item(self, node: NodeId) -> None:
        """Note that a directory which may be implicit (view rule 3) has to become an item, after those above it."""
        while node != ROOT and node not in self._implicit:
            entry = self._merge.remote.get(node)
            if entry is None or entry.item is not None:
                return
            self._implicit[node] = entry
            node = entry.parent

    def _own_items(self) -> list[list[RemoteChange]]:
        by_depth: dict[int, list[RemoteChange]] = {}
        for node, entry in sorted(self._implicit.items()):
            case = self._merge.cases.get(node)
            permission = case.permission if case is not None else entry.permission
            depth = self._depths.directory(node)[0]
            by_depth.setdefault(depth, []).append(MakeDirectory(node, entry.parent, entry.name, permission))
        return [by_depth[depth] for depth in sorted(by_depth)]

    # --- contents and write bits ------------------------------------------------------------------------------------

    def _content(self, case: Case) -> Iterable[RemoteChange]:
        if case.kind is not Kind.FILE:
            return
        remote = case.remote
        if remote is None:
            self._need_item(case.parent)
            yield Upload(case.node, case.parent, case.name, case.permission)
        elif case.step in (Step.PUSH, Step.OVERRULE):
            if remote.is_shared:
                yield Upload(case.node, case.parent, case.name, case.permission, covers_shared=True)
            elif case.is_protected:
                self._merge.refuse(case, Trouble.SHARED_ITEM, "belongs to the runtime: the change stays here only")
            else:
                yield self._replacement(case, remote)

    def _replacement(self, case: Case, remote: Entry) -> Upload:
        return Upload(
            case.node,
            case.parent,
            case.name,
            case.permission,
            replaces=case.node,
            expected=remote.content.revision if remote.content is not None else None,
            keeps_loser=case.step is Step.OVERRULE,
        )

    def _permission(self, case: Case, permission: Permission) -> RemoteChange | None:
        """Return the request that sets a write bit to a value, where it is to have that value and has the other.

        Setting it comes first, since a server may refuse to move or replace what is read-only (contract I-29). Taking
        it away comes last, and a file that is uploaded anew has it from the start.
        """
        remote = case.remote
        if remote is None or case.permission is not permission or remote.permission is permission:
            return None
        if case.node in self._implicit or (
            permission is Permission.READ_ONLY and case.step in (Step.PUSH, Step.OVERRULE)
        ):
            return None
        if remote.item is None:
            self._need_item(case.node)
            return None
        return SetRemotePermission(case.node, permission)

    # --- deletions --------------------------------------------------------------------------------------------------

    def _deletions(self, order: Order) -> list[RemoteChange]:
        gone = [case for case in self._cases if case.fate is Fate.GONE and case.remote is not None]
        if not gone:
            return []
        needed = self._still_needed({turn.node for turns in order.rounds for turn in turns if isinstance(turn, Put)})
        tops: dict[NodeId, list[NodeId]] = {}
        top_of: dict[NodeId, NodeId] = {}
        for case in sorted(gone, key=lambda case: self._depths.directory(case.node)):
            if case.remote is None or case.node in needed:
                continue
            top = top_of.get(case.remote.parent)
            if top is None and case.remote.item is None:
                continue  # an implicit directory goes with the last thing in it
            top_of[case.node] = top if top is not None else case.node
            tops.setdefault(top_of[case.node], []).append(case.node)
        return [DeleteRemote(top, tuple(nodes)) for top, nodes in tops.items()]

    def _still_needed(self, moved: Collection[NodeId]) -> set[NodeId]:
        """Return the directories to be deleted below which, on the server, something stays that is not moved out."""
        needed: set[NodeId] = set()
        for case in self._merge.cases.values():
            if case.remote is None or case.fate is Fate.GONE or case.node in moved:
                continue
            above = self._merge.cases.get(case.remote.parent)
            while above is not None and above.node not in needed and above.fate is Fate.GONE:
                needed.add(above.node)
                above = self._merge.cases.get(above.remote.parent) if above.remote is not None else None
        return needed

    def _is_leaving(self, node: NodeId) -> bool:
        case = self._merge.cases.get(node)
        return case is not None and case.fate is Fate.GONE and node not in self._needed

    def _aside_name(self, node: NodeId, name: str) -> str:
        return hidden_name(name, token_of(node, self._stamp), Suffix.OLD)


_LONG = 900
"""Paths below this cannot be over the limit; they are not looked at closely."""
