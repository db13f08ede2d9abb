"""Write down what is at some places of the real folder: which node it is, and whether its bytes are new.

Internal to ``scan``. One settlement is one transaction in which nothing is awaited: every place is looked at anew, and
the record is made to agree. Who is who: what stands at its recorded place with its recorded inode is itself; else the
node that had this inode and has left its place has moved here (a file only with unchanged size and time, since freed
inodes are given out again); else a vanished file with equal bytes has; else a file whose bytes are those recorded is
itself, and any other is new, as is in a mount what an editor renames over the file that it saves: the planner knows it
for the next version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import replace
from typing import TypeAlias

from jobfs.engine.workspace import Workspace
from jobfs.folder.coalesce import Places
from jobfs.folder.disk import Disk, Seen, reason_of, trouble_of
from jobfs.folder.names import folded, is_copy_name
from jobfs.model import ROOT, Content, Kind, LocalNode, NodeId, Permission, Problem, Trouble, node_at, path_of
from jobfs.planner.naming import Suffix, conflict_name, is_hidden_name, parse_hidden
from jobfs.planner.plan import is_same_content

MOVING_NS = 50_000_000
"""A file that changed so recently is perhaps still being written (design, section 8)."""

MISSED_NS = 4 * MOVING_NS
"""So long a vanished file may turn up among new ones that are not at rest yet: a copy, then a deletion, is a move."""

Digests: TypeAlias = dict[str, "tuple[Seen, str] | OSError | None"]
"""By place: a look with the SHA-256 that belongs to it; why it could not be read; None for what changed meanwhile."""


class Settlement:
    """One look at some places. ``run`` once; then the public attributes are filled.

    ``touched`` nodes; ``wanted``: places whose bytes must be hashed first; ``postponed``: places of vanished nodes that
    may turn up among those; ``later``; ``again``; ``judged`` places and their ``problems``.

    :param walked: directories that were listed in this scan, so that all new things in them are among the places.
    :param missed: since when vanished nodes have been missed; kept up to date.
    :param digests: None for a first look, after which ``wanted`` is hashed; else what came of that: a final look.
    """

    def __init__(
        self,
        workspace: Workspace,
        disk: Disk,
        *,
        walked: Set[str],
        missed: dict[NodeId, int],
        digests: Digests | None,
    ) -> None:
        self._workspace = workspace
        self._state = workspace.state
        self._local = workspace.state.local
        self._disk = disk
        self._walked = walked
        self._missed = missed
        self._is_final = digests is not None
        self._digests: Digests = digests or {}
        self._now_ns = workspace.clock.wall_ns()
        self._real: dict[str, bool] = {"": True}
        self._present: dict[str, Seen] = {}
        self._gone: dict[NodeId, str] = {}
        self._moves: dict[NodeId, str] = {}
        self._movers: dict[str, LocalNode] = {}
        self._again_entries: set[str] = set()
        self._again_trees: set[str] = set()
        self.touched: set[NodeId] = set()
        self.wanted: set[str] = set()
        self.postponed: set[str] = set()
        self.later: dict[str, int] = {}
        self.judged: set[str] = set()
        self.problems: dict[str, Problem] = {}

    @property
    def again(self) -> Places:
        """Where to look next: below what is new or moved, and at directories that were not known to be there."""
        return Places(frozenset(self._again_entries), frozenset(self._again_trees))

    def run(self, places: Iterable[str]) -> None:
        """Look and record."""
        ordered = sorted(places, key=_depth_first)
        with self._state.transaction():
            for place in ordered:
                self._look(place)
            self._match_inodes()
            self._match_digests()
            self._vacate()
            for place in sorted(self._present, key=_depth_first):
                self._put(place, self._present[place])
            self._drop_gone()
        self._again_entries.difference_update(ordered)

    # -- looking

    def _look(self, place: str) -> None:
        parent, _, name = place.rpartition("/")
        try:
            if not self._is_real(parent):
                self._again_entries.add(parent)
                return
            seen = self._disk.look(place)
        except OSError as error:
            self._note(place, Trouble.UNREADABLE, f"cannot be looked at ({reason_of(error)})")
            return
        record = self._record_at(place)
        there = seen if seen is not None else record
        is_directory = there is not None and there.kind is Kind.DIRECTORY
        self.judged.add(place)
        if self._workspace.ignore.is_ignored(place, is_directory):
            self._leave_alone(record)
        elif seen is None:
            if record is not None:
                self._gone[record.id] = place
        elif (trouble := trouble_of(name, seen)) is not None:
            self._note(place, *trouble)
        else:
            self._compare(place, seen, record)

    def _is_real(self, parent: str) -> bool:
        known = self._real.get(parent)
        if known is None:
            known = self._real[parent] = self._disk.is_real(parent)
        return known

    def _record_at(self, place: str) -> LocalNode | None:
        node = node_at(self._local, place)
        return self._local.get(node) if node is not None else None

    def _leave_alone(self, record: LocalNode | None) -> None:
        """Forget what the rules have made local: the record is about what is kept in step."""
        if record is not None and record.is_local_only:
            self._drop_tree(record.id)

    def _compare(self, place: str, seen: Seen, record: LocalNode | None) -> None:
        if record is not None and record.is_local_only:
            self._drop_tree(record.id)
            record = None
        if record is not None:
            self._missed.pop(record.id, None)
        if record is None or record.kind is not seen.kind:
            self._present[place] = seen
            if record is not None:
                self._gone[record.id] = place
        elif seen.kind is Kind.DIRECTORY:
            if record.inode != seen.inode:
                self._present[place] = seen
        elif not seen.is_untouched(record):
            self._present[place] = seen

    def _note(self, place: str, trouble: Trouble, detail: str) -> None:
        record = self._record_at(place)
        shown = place.encode(errors="replace").decode()
        self.problems[place] = Problem(record.id if record is not None else None, shown, trouble, detail)

    # -- who is who

    def _match_inodes(self) -> None:
        strangers = {place: seen for place, seen in self._present.items() if not self._is_itself(place, seen)}
        if not strangers:
            return
        wanted = {seen.inode for seen in strangers.values()}
        owners: dict[int, list[LocalNode]] = {}
        for record in self._local.entries():
            if record.inode in wanted and record.inode and record.id != ROOT:
                owners.setdefault(record.inode, []).append(record)
        for place, seen in strangers.items():  # directories before what is in them
            came_along = self._came_along(place, seen)
            if came_along is not None and seen.kind is Kind.DIRECTORY:
                self._claim(came_along, place)
                continue
            owner = next((owner for owner in owners.get(seen.inode, ()) if self._has_moved(owner, place, seen)), None)
            if owner is not None:
                self._claim(owner, place)
            elif came_along is not None:
                self._gone.pop(came_along.id, None)  # and was written since

    def _came_along(self, place: str, seen: Seen) -> LocalNode | None:
        """Return the record of what stands where its directory, which has moved, brought it."""
        above, _, name = place.rpartition("/")
        directory = self._movers.get(above)
        node = self._local.child(directory.id, name) if directory is not None else None
        record = self._local.get(node) if node is not None else None
        is_it = record is not None and record.kind is seen.kind and record.inode == seen.inode
        return record if is_it and not (record is not None and record.id in self._moves) else None

    def _is_itself(self, place: str, seen: Seen) -> bool:
        record = self._record_at(place)
        return record is not None and record.kind is seen.kind and record.inode == seen.inode

    def _has_moved(self, owner: LocalNode, place: str, seen: Seen) -> bool:
        """Tell whether what is at a place is a recorded node that is no longer at its own."""
        if owner.id in self._moves or owner.kind is not seen.kind or owner.is_local_only:
            return False
        if seen.kind is Kind.FILE and not seen.is_same_file(owner):
            return False
        own = path_of(self._local, owner.id)
        if own is None or own == place:
            return False
        try:
            there = self._disk.look(own) if self._is_real(own.rpartition("/")[0]) else None
        except OSError as error:  # perhaps it has, perhaps it was copied: the copy is a new one then
            self._note(own, Trouble.UNREADABLE, f"cannot be looked at ({reason_of(error)})")
            return False
        if there is not None and there.inode == owner.inode:
            return self._disk.folds_names and folded(own) == folded(place)  # the user has only spelt it otherwise
        if there is not None and is_copy_name(place.rpartition("/")[2], owner.name):
            return False  # a conflict that a crash cut off: the copy was made, and the name given to the remote version
        return seen.kind is Kind.FILE or self._shares_names(owner.id, place)

    def _shares_names(self, directory: NodeId, place: str) -> bool:
        """Tell whether a directory with a known inode holds what the recorded one held, at least in part."""
        recorded, found = self._local.children(directory).keys(), self._disk.names(place)
        return not recorded or not found.isdisjoint(recorded)

    def _claim(self, owner: LocalNode, place: str) -> None:
        self._moves[owner.id] = place
        self._movers[place] = owner
        self._gone.pop(owner.id, None)

    def _match_digests(self) -> None:
        """Take a new file with the bytes of a vanished one for that one, best under the same name."""
        vanished: dict[str, list[LocalNode]] = {}
        for record in self._vanished_files():
            if record.content is not None and record.content.sha256 is not None and record.content.size:
                vanished.setdefault(record.content.sha256, []).append(record)
        for place, seen in self._present.items() if vanished else ():
            digest = self._digests.get(place)
            if place in self._movers or self._record_at(place) is not None or not isinstance(digest, tuple):
                continue
            candidates = vanished.get(digest[1], []) if digest[0].is_same_file(seen) else []
            if candidates:
                name = place.rpartition("/")[2]
                owner = min(candidates, key=lambda record: (record.name != name, record.id))
                candidates.remove(owner)
                self._claim(owner, place)

    def _vanished_files(self) -> Iterator[LocalNode]:
        pending = list(self._gone)
        while pending:
            record = self._local.get(pending.pop())
            if record is None or record.id in self._moves:
                continue
            if record.kind is Kind.FILE:
                yield record
            pending += self._local.children(record.id).values()

    # -- recording

    def _vacate(self) -> None:
        """Take what has moved off its place, and what it, or something of another kind, has displaced."""
        for place in [place for place in self._present if place in self._movers]:
            occupant = self._record_at(place)
            if occupant is not None and occupant.id not in self._moves:
                self._gone[occupant.id] = place
        for owner in self._movers.values():
            self._state.drop_local(owner.id)
        for node, place in list(self._gone.items()):
            if place in self._present:
                del self._gone[node]
                self._drop_tree(node)

    def _put(self, place: str, seen: Seen) -> None:
        above, _, name = place.rpartition("/")
        owner = self._movers.get(place)
        parent = self._record_at(above)
        if parent is None or parent.kind is not Kind.DIRECTORY:
            self._again_entries.add(above)
            if owner is not None:
                self._drop_tree(owner.id)
            return
        self._make_room(parent.id, name, seen, owner)
        if owner is not None:
            self._put_moved(replace(owner, parent=parent.id, name=name), owner, seen)
            if seen.kind is Kind.DIRECTORY:
                self._again_trees.add(place)
        elif is_hidden_name(name):
            self._bring_back(place, parent.id, seen)
        elif seen.kind is Kind.DIRECTORY:
            self._put_directory(place, parent.id, seen)
        else:
            self._put_file(place, parent.id, seen)

    def _bring_back(self, place: str, parent: NodeId, seen: Seen) -> None:
        """Give what an interrupted move left under a hidden name its own name, or a conflict name beside it."""
        above, slash, name = place.rpartition("/")
        hidden = parse_hidden(name)
        if hidden is None or hidden.suffix is not Suffix.OLD:
            return  # a download, of which the scan takes care
        is_directory = seen.kind is Kind.DIRECTORY

        def is_taken(other: str) -> bool:
            return self._local.child(parent, other) is not None or self._disk.look(above + slash + other) is not None

        try:
            own = hidden.name
            if is_taken(own):
                own = conflict_name(own, self._workspace.conflict_stamp(), is_taken, is_directory=is_directory)
            self._disk.move(place, above + slash + own, is_directory=is_directory)
        except OSError as error:
            detail = f"left here by an interrupted move ({reason_of(error)}); give it the name that it should have"
            self._note(place, Trouble.INVALID_NAME, detail)
        else:
            self._again_entries.add(above + slash + own)

    def _make_room(self, parent: NodeId, name: str, seen: Seen, owner: LocalNode | None) -> None:
        """Drop what came to a place along with its directory, and is not what stands there."""
        occupant = self._local.child(parent, name)
        record = self._local.get(occupant) if occupant is not None else None
        if record is None or (owner is not None and record.id == owner.id):
            return
        if owner is not None or record.kind is not seen.kind:
            self._drop_tree(record.id)

    def _put_moved(self, moved: LocalNode, before: LocalNode, seen: Seen) -> None:
        record = replace(moved, inode=seen.inode, ctime_ns=seen.changed_ns)
        if seen.kind is Kind.FILE:
            permission = _permission(seen)
            record = replace(record, mtime_ns=seen.mtime_ns, mode=seen.mode, permission=permission)
            if self._is_doubtful(before, seen):
                record = replace(record, ctime_ns=0)
                self.later[self._moves[before.id]] = self._now_ns
        self._state.put_local(record)
        if (before.parent, before.name, before.permission) != (record.parent, record.name, record.permission):
            self.touched.add(record.id)

    def _is_doubtful(self, before: LocalNode, seen: Seen) -> bool:
        """Tell whether a file that moved is still to be hashed, beside its move.

        Another one may have got its freed inode number along with its size and time, as when an archive is unpacked
        anew. What is sent is hashed anyway.
        """
        digest = self._digests.get(self._moves[before.id])
        is_hashed = isinstance(digest, tuple) and before.content is not None and before.content.sha256 == digest[1]
        return not (before.is_dirty or is_hashed or seen.is_untouched(before))

    def _put_directory(self, place: str, parent: NodeId, seen: Seen) -> None:
        record = self._record_at(place)
        if record is None:
            name = place.rpartition("/")[2]
            record = LocalNode(self._state.allocate(), parent, name, Kind.DIRECTORY)
            self.touched.add(record.id)
        self._state.put_local(
            replace(record, inode=seen.inode, mode=seen.mode, mtime_ns=seen.mtime_ns, ctime_ns=seen.changed_ns)
        )
        if place not in self._walked:
            self._again_trees.add(place)

    def _put_file(self, place: str, parent: NodeId, seen: Seen) -> None:
        digest = self._digests.get(place)
        if isinstance(digest, OSError):
            self._note(place, Trouble.UNREADABLE, f"cannot be read ({reason_of(digest)}); make it readable")
            return
        if digest is None or not digest[0].is_same_file(seen):
            self._wait_or_want(place, seen)
            return
        before = self._record_at(place)
        content = Content(seen.size, digest[1])
        if before is not None and before.content is not None and is_same_content(before.content, content):
            content = before.content  # written again with the same bytes: what the server acknowledged still holds
        elif before is not None and before.inode != seen.inode:
            self._drop_tree(before.id)  # saved by renaming: another file, as in a mount, and the planner knows which
            before = None
        if before is None:
            name = place.rpartition("/")[2]
            before = LocalNode(self._state.allocate(), parent, name, Kind.FILE)
        record = _described(before, content, seen)
        self._state.put_local(record)
        if content is not before.content or record.permission is not before.permission:
            self.touched.add(record.id)

    def _wait_or_want(self, place: str, seen: Seen) -> None:
        """Let a file rest that was written just now; have any other one hashed."""
        rest_ns = seen.changed_ns + MOVING_NS - self._now_ns
        if 0 < rest_ns <= MOVING_NS:
            self.later[place] = seen.changed_ns + MOVING_NS
        elif self._is_final:
            self.later[place] = self._now_ns + MOVING_NS
        else:
            self.wanted.add(place)

    def _drop_gone(self) -> None:
        if self.wanted:
            self.postponed.update(self._gone.values())
            return
        resting_ns = min((at_ns for place, at_ns in self.later.items() if self._record_at(place) is None), default=None)
        for node, place in self._gone.items():
            since_ns = self._missed.setdefault(node, self._now_ns)
            if resting_ns is not None and self._now_ns - since_ns < MISSED_NS:
                self.later[place] = resting_ns
            else:
                self._drop_tree(node)

    def _drop_tree(self, top: NodeId) -> None:
        """Take a node and all below it out of the record."""
        found = [top]
        for node in found:
            found += self._local.children(node).values()
        for node in reversed(found):
            record = self._local.get(node)
            self._state.drop_local(node)
            self._missed.pop(node, None)
            if record is None or not record.is_local_only:
                self.touched.add(node)


def _depth_first(place: str) -> tuple[int, str]:
    return place.count("/"), place


def _permission(seen: Seen) -> Permission:
    return Permission.READ_WRITE if seen.mode & 0o200 else Permission.READ_ONLY


def _described(record: LocalNode, content: Content, seen: Seen) -> LocalNode:
    """Return a file's record as a look and a hash describe it."""
    return replace(
        record,
        content=content,
        permission=_permission(seen),
        mode=seen.mode,
        mtime_ns=seen.mtime_ns,
        ctime_ns=seen.changed_ns,
        inode=seen.inode,
    )
