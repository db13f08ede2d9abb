"""What is to be: the fate, place, write bit and content of each node in question (design section 4, "Rules").

Internal to the planner, and the only place that knows the rules. It decides node by node first, and then settles what
single nodes cannot know: directories that something kept is in, directories moved into each other, and names that two
nodes want. How to get there is the business of ``pull`` and ``push``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from jobfs.model import ROOT, Entry, Kind, NodeId, Permission, TreeView, Trouble
from jobfs.planner.cases import Case, Fate, Places, Step
from jobfs.planner.guards import RESERVED
from jobfs.planner.naming import ConflictStamp, Suffix, conflict_name, is_hidden_name, parse_hidden, visible_name
from jobfs.planner.plan import Conflict, ConflictKind, ConflictPolicy, is_same_content


class Merge:
    """One three-way merge. ``run`` once; then the public attributes are filled.

    ``cases`` by node; ``fetch``; ``conflicts``; ``refusals`` with their reasons; ``copies``: names of conflict copies.
    """

    def __init__(
        self,
        base: TreeView,
        local: TreeView,
        remote: TreeView,
        *,
        policy: ConflictPolicy,
        stamp: ConflictStamp,
        opaque: Collection[NodeId],
    ) -> None:
        self._base = base
        self.local = local
        self.remote = remote
        self._policy = policy
        self._stamp = stamp
        self._opaque = frozenset(opaque)
        self._reserved: dict[NodeId, bool] = {ROOT: False}
        self.cases: dict[NodeId, Case] = {}
        self.fetch: set[NodeId] = set()
        self.conflicts: list[Conflict] = []
        self.refusals: list[tuple[Case, Trouble, str]] = []
        self.copies: dict[NodeId, str] = {}
        self._disputes: list[tuple[Case, ConflictKind]] = []
        self.places = Places(self.cases, local, remote)

    def run(self, nodes: Iterable[NodeId]) -> None:
        """Decide for these nodes, which must be all that disagree or decide about one that does."""
        for node in nodes:
            self.cases[node] = self._judge(node)
        self._keep_directories(list(self.cases.values()))
        self._break_cycles()
        self._end_clashes()
        self.places = Places(self.cases, self.local, self.remote)  # the targets are final: paths may be remembered
        self._report()

    def refuse(self, case: Case, trouble: Trouble, detail: str) -> None:
        """Tell the user why a node stays as it is on the server."""
        self.refusals.append((case, trouble, detail))

    def _dispute(self, case: Case, kind: ConflictKind) -> None:
        self._disputes.append((case, kind))

    # --- one node ---------------------------------------------------------------------------------------------------

    def _judge(self, node: NodeId) -> Case:
        base, local, remote = self._base.get(node), self.local.get(node), self.remote.get(node)
        shown = local or remote or base
        if shown is None:
            raise ValueError(f"node {node} is in no tree")
        place = self._wish(base, local) if local is not None else (shown.parent, shown.name)
        case = Case(node, base, local, remote, Fate.KEPT, *place, shown.permission)
        if local is None and base is None:
            return case  # new on the server: the common case of a first listing
        case.is_protected = remote is not None and (remote.is_shared or self._is_reserved(remote))
        if local is not None and remote is not None:
            self._judge_both(case, local, remote)
        elif local is not None and base is not None:
            self._judge_deleted_there(case, base, local)
        elif remote is not None and base is not None:
            self._judge_deleted_here(case, base, remote)
        elif base is not None:
            case.fate = Fate.GONE
        return case

    @staticmethod
    def _wish(base: Entry | None, local: Entry) -> tuple[NodeId, str]:
        """Return where the user has a node. One that only stepped aside, to a hidden name, is where it was.

        One that base has under a hidden name too was to be deleted, and was kept for what others had put into it. One
        that base no longer has was to be deleted here, and was kept for what the user had put into it.
        """
        hidden = parse_hidden(local.name)
        if hidden is None or (base is None and hidden.suffix is not Suffix.OLD):
            return local.parent, local.name
        return (local.parent, hidden.name) if base is None else (base.parent, visible_name(base.name))

    def _judge_both(self, case: Case, local: Entry, remote: Entry) -> None:
        base = case.base
        here, there = self._wish(base, local), (remote.parent, remote.name)
        before = there if base is None else (base.parent, base.name)
        is_fixed = here != there and (case.is_protected or self._holds_shared(case, remote))
        if there != before or is_fixed:
            case.parent, case.name = there
            if is_fixed and here != before:
                self.refuse(case, Trouble.SHARED_ITEM, "belongs to all jobs or to the runtime: it was moved back")
            elif here not in (before, there):
                self._dispute(case, ConflictKind.PLACE)
        mode = Permission.READ_WRITE if base is None else base.permission  # what is new starts read-write
        if remote.permission is not mode or case.is_protected:
            case.permission = remote.permission
            if case.is_protected and base is not None and local.permission not in (base.permission, remote.permission):
                self.refuse(case, Trouble.SHARED_ITEM, "belongs to all jobs or to the runtime: its mode was set back")
        if local.kind is Kind.FILE:
            self._judge_content(case, local, remote)

    def _judge_content(self, case: Case, local: Entry, remote: Entry) -> None:
        known = case.base.content if case.base is not None else None
        is_edited = case.base is None or not is_same_content(local.content, known)
        is_there = False if case.base is None else is_same_content(remote.content, known)
        if not is_edited:
            case.step = self._follow(case, local, remote) if is_there else Step.PULL
            return
        if is_there:
            case.step = Step.PUSH
            return
        is_alike = is_same_content(local.content, remote.content)
        if is_alike:
            case.step = Step.CLEAN
        elif is_alike is None or (is_there is None and known is not None and known.sha256 is not None):
            case.fate = Fate.HELD
            self.fetch.add(case.node)
        else:
            case.step = _LOSER[self._policy]
            self._dispute(case, ConflictKind.CONTENT)

    def _follow(self, case: Case, local: Entry, remote: Entry) -> Step:
        """Return the step for a file whose bytes nobody changed, though somebody may have written them again."""
        base = case.base
        if base is None or local.content is None or remote.content is None or base.content is None:
            return Step.NONE
        is_linked = local.content.revision == remote.content.revision == base.content.revision
        is_linked = is_linked and base.item == remote.item and base.is_shared == remote.is_shared
        return Step.NONE if is_linked else Step.CLEAN

    def _judge_deleted_there(self, case: Case, base: Entry, local: Entry) -> None:
        is_edited = local.kind is Kind.FILE and not is_same_content(local.content, base.content)
        if is_edited:
            self._dispute(case, ConflictKind.DELETION)
        else:
            case.fate = Fate.GONE

    def _judge_deleted_here(self, case: Case, base: Entry, remote: Entry) -> None:
        case.parent, case.name, case.permission = remote.parent, visible_name(remote.name), remote.permission
        if case.is_protected:
            self.refuse(case, Trouble.SHARED_ITEM, "belongs to all jobs or to the runtime: it was put back")
        elif case.node in self._opaque:
            self.refuse(case, Trouble.UNKNOWN_TYPE, "holds items on the server that cannot be shown: it was put back")
        elif None not in (base.item, remote.item) and base.item != remote.item:
            self._dispute(case, ConflictKind.DELETION)  # somebody made it anew
        elif remote.kind is not Kind.FILE or (is_there := is_same_content(remote.content, base.content)):
            case.fate = Fate.GONE
        elif is_there is None and base.content is not None and base.content.sha256 is not None:
            case.fate = Fate.HELD  # moved or its mode set, and perhaps edited
            self.fetch.add(case.node)
        else:
            self._dispute(case, ConflictKind.DELETION)

    def _is_reserved(self, entry: Entry) -> bool:
        """Tell whether a remote entry is ``perstack`` at the root or below it."""
        chain: list[NodeId] = []
        node, name = entry.parent, entry.name
        while node not in self._reserved:
            chain.append(node)
            above = self.remote.get(node)
            if above is None or len(chain) > len(self.remote):
                return False
            node, name = above.parent, above.name
        verdict = self._reserved[node] or (node == ROOT and name == RESERVED)
        self._reserved.update(dict.fromkeys(chain, verdict))
        return verdict

    def _holds_shared(self, case: Case, remote: Entry) -> bool:
        """Tell whether a directory that the user moved holds, on the server, what may not move."""
        base = case.base
        if case.kind is not Kind.DIRECTORY or base is None or (remote.parent, remote.name) != (base.parent, base.name):
            return False
        queue = [case.node]
        while queue:
            for node in self.remote.children(queue.pop()).values():
                entry = self.remote.get(node)
                if entry is not None and entry.is_shared:
                    return True
                queue.append(node)
        return False

    # --- what single nodes cannot know ------------------------------------------------------------------------------

    def _keep_directories(self, cases: Iterable[Case]) -> None:
        """Keep every directory that something kept is to be in; hold those in which something is held."""
        queue = [case for case in cases if case.fate is Fate.KEPT]
        while queue:
            above = self.cases.get(queue.pop().parent)
            if above is not None and above.fate is not Fate.KEPT:
                above.fate = Fate.KEPT
                entry = above.any_entry
                above.parent, above.name, above.permission = entry.parent, visible_name(entry.name), entry.permission
                self._dispute(above, ConflictKind.DELETION)
                queue.append(above)
        held = [case for case in self.cases.values() if case.fate is Fate.HELD]
        while held:
            case = held.pop()
            for side in (case.local, case.remote):
                above = self.cases.get(side.parent) if side is not None else None
                if above is not None and above.fate is Fate.GONE:
                    above.fate = Fate.HELD
                    held.append(above)

    def _break_cycles(self) -> None:
        """Undo local moves of directories that remote moves have put below themselves."""
        ours, theirs = [], False
        for case in self.cases.values():
            if case.fate is not Fate.KEPT or case.kind is not Kind.DIRECTORY or not (case.local and case.remote):
                continue
            target = (case.parent, case.name)
            theirs = theirs or target != (case.local.parent, case.local.name)
            if target != (case.remote.parent, case.remote.name):
                ours.append(case)
        if not theirs:
            return
        for case in sorted(ours, key=lambda case: case.node):
            if self._is_below_itself(case) and case.remote is not None:
                case.parent, case.name = case.remote.parent, visible_name(case.remote.name)
                self._dispute(case, ConflictKind.PLACE)
                self._keep_directories([case])

    def _is_below_itself(self, case: Case) -> bool:
        seen: set[NodeId] = set()
        node: NodeId | None = case.parent
        while node is not None and node != ROOT and node not in seen:
            if node == case.node:
                return True
            seen.add(node)
            node = self.places.parent(node)
        return False

    def _end_clashes(self) -> None:
        """Give one of two nodes that want one name another: the one that the server does not have there."""
        wanted: dict[tuple[NodeId, str], Case] = {}
        clashes: list[tuple[Case, Case]] = []
        for case in self.cases.values():
            if case.fate is Fate.KEPT:
                rival = wanted.setdefault((case.parent, case.name), case)
                if rival is not case:
                    clashes.append((case, rival))
        for case in sorted((case for case in wanted.values() if self._is_settled_there(case)), key=_by_name):
            case.name = self._free_name(case, wanted)
            wanted[case.parent, case.name] = case
            self._dispute(case, ConflictKind.NAME)
        for case, rival in sorted(clashes, key=lambda pair: _by_name(pair[0])):
            winner, loser = (case, rival) if _is_at_home(case) else (rival, case)
            is_mixed = Kind.DIRECTORY in (winner.kind, loser.kind) and winner.kind is not loser.kind
            wanted[loser.parent, loser.name] = winner
            loser.name = self._free_name(loser, wanted)
            wanted[loser.parent, loser.name] = loser
            self._dispute(loser, ConflictKind.KIND if is_mixed else ConflictKind.NAME)
        for case in sorted((case for case in self.cases.values() if case.step is Step.SPLIT), key=_by_name):
            self.copies[case.node] = name = self._free_name(case, wanted)
            wanted[case.parent, name] = case

    def _is_settled_there(self, case: Case) -> bool:
        """Tell whether what comes back from a hidden name finds its own one taken by what stays there.

        A directory that is on the server alone waits: what is in it is moved to where it was (``engine/replace.py``).
        """
        entry = case.remote or case.local
        if entry is None or not is_hidden_name(entry.name) or (case.local is None and case.kind is Kind.DIRECTORY):
            return False
        found = {tree.child(case.parent, case.name) for tree in (self.local, self.remote)} - {None, case.node}
        return not found.issubset(self.cases)

    def _free_name(self, case: Case, wanted: Collection[tuple[NodeId, str]]) -> str:
        """Return a conflict name beside a node that no tree and no other node has."""
        parent = case.parent

        def is_taken(name: str) -> bool:
            trees = (self.local, self.remote)
            return (parent, name) in wanted or any(tree.child(parent, name) is not None for tree in trees)

        return conflict_name(case.name, self._stamp, is_taken, is_directory=case.kind is Kind.DIRECTORY)

    def _report(self) -> None:
        for case, kind in self._disputes:
            above = self.places.directory(case.parent)[1]
            prefix = f"{above}/" if above else ""
            path, copy = prefix + case.name, self.copies.get(case.node)
            if kind in (ConflictKind.NAME, ConflictKind.KIND):
                conflict = Conflict(case.node, prefix + case.any_entry.name, kind, path)
            else:
                is_copied = kind is ConflictKind.CONTENT and copy is not None
                conflict = Conflict(case.node, path, kind, f"{prefix}{copy}" if is_copied else None)
            self.conflicts.append(conflict)


_LOSER = {
    ConflictPolicy.KEEP_BOTH: Step.SPLIT,
    ConflictPolicy.LOCAL: Step.OVERRULE,
    ConflictPolicy.REMOTE: Step.YIELD,
}


def _by_name(case: Case) -> tuple[str, NodeId]:
    return case.name, case.node


def _is_at_home(case: Case) -> bool:
    remote = case.remote
    return remote is not None and (remote.parent, remote.name) == (case.parent, case.name)
