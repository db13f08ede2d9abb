"""Find out what changed in the real folder, and bring the record of it, the local tree, in line.

Three steps. A *walk* (in a thread) lists directories; a comparison with the record leaves the places that differ; and a
*settlement* (``settle``) looks at those places once more and writes down what it sees, in one go with nothing awaited.
So a walk may be outdated by the time it is compared: it only says where to look.

**Invariants.** What could not be looked at is never taken for deleted: an unreadable directory, a name that is not
UTF-8, whatever lies behind a link. A file that was written within the last 50 ms waits, so that a recorded size and
time stand for the bytes: every later write has a later time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from jobfs.engine.workspace import Workspace
from jobfs.folder.coalesce import EVERYWHERE, NOWHERE, Places, is_covered, reduced
from jobfs.folder.disk import Disk, Listed, Seen, reason_of
from jobfs.folder.names import composed
from jobfs.folder.root import Root
from jobfs.folder.settle import Digests, Settlement
from jobfs.model import ROOT, Kind, LocalNode, NodeId, Problem, Trouble, node_at
from jobfs.planner.naming import Suffix, parse_hidden

_HASHERS = 4
"""Files hashed at once: hashing leaves the interpreter's lock, and reading waits for the disk."""


@dataclass(slots=True)
class Findings:
    """What a scan found.

    :param touched: nodes whose record changed, those that are gone included.
    :param later: places to look at again, with the time from which that may help, in nanoseconds since the epoch.
    """

    touched: set[NodeId] = field(default_factory=set)
    later: dict[str, int] = field(default_factory=dict)


class Scanner:
    """Scans one folder. One scan at a time; changes by ``apply`` may happen between its steps.

    :param arrivals: what is on its way to its place, and no litter.

    ``problems`` by place: what cannot be kept in step, as far as the last look at each place goes.
    """

    def __init__(self, workspace: Workspace, disk: Disk, root: Root, *, arrivals: Container[str]) -> None:
        self._workspace = workspace
        self._local = workspace.state.local
        self._disk = disk
        self._root = root
        self._arrivals = arrivals
        self._is_first = True
        self._missed: dict[NodeId, int] = {}
        self.problems: dict[str, Problem] = {}

    async def scan(self, places: Places) -> Findings:
        """Look at places, and record what is there. Downloads that nobody goes on with are removed.

        :raises FolderError: the folder is gone or another one; nothing of what was seen is recorded then.
        """
        findings = Findings()
        pending = places
        while pending:
            pending = await self._pass(self._widened(pending), findings)
        self._is_first = self._is_first and places != EVERYWHERE
        return findings

    def _widened(self, places: Places) -> Places:
        """Take the directory for a place where the spelling of a hint proves nothing about the name on the disk."""
        if self._disk.folds_names:
            trees = places.trees | {entry.rpartition("/")[0] for entry in places.entries}
            places = Places(trees=frozenset(map(self._as_recorded, trees)))
        return reduced(places)

    async def _pass(self, places: Places, findings: Findings) -> Places:
        self._root.check()
        listings = await asyncio.to_thread(self._walk, places.trees) if places.trees else []
        self._root.check()
        for listed in listings if self._disk.folds_names else ():
            listed.place = self._as_recorded(listed.place)
        for place in [place for place in self.problems if is_covered(place, places.trees)]:
            del self.problems[place]
        differing = {*places.entries, *places.trees} - {""}
        for listed in listings:
            differing.update(self._compare(listed))
        walked = {listed.place for listed in listings if not listed.error}
        return await self._settle(differing, walked, findings)

    def _walk(self, trees: Iterable[str]) -> list[Listed]:
        is_ignored = self._workspace.ignore.is_ignored
        found: list[Listed] = []
        for tree in sorted(trees):
            try:
                if self._disk.is_real(tree):
                    found += self._disk.walk(tree, is_ignored)
            except OSError as error:
                found.append(Listed(tree, error=reason_of(error)))
        return found

    async def _settle(self, places: set[str], walked: set[str], findings: Findings) -> Places:
        """Record what is at these places; return where to look next: below what turned out to be new or moved."""
        first = self._settlement(places, walked, None, findings)
        again = first.again
        if first.wanted:
            digests = await self._digest(first.wanted)
            self._root.check()
            again |= self._settlement(first.wanted | first.postponed, walked, digests, findings).again
        return again or NOWHERE

    def _settlement(
        self, places: set[str], walked: set[str], digests: Digests | None, findings: Findings
    ) -> Settlement:
        settlement = Settlement(self._workspace, self._disk, walked=walked, missed=self._missed, digests=digests)
        settlement.run(places)
        for place in settlement.judged:
            self.problems.pop(place, None)
        self.problems.update(settlement.problems)
        findings.touched |= settlement.touched
        findings.later.update(settlement.later)
        return settlement

    # -- comparing

    def _compare(self, listed: Listed) -> Iterator[str]:
        """Yield the places in a directory at which the record says something else."""
        self._note_odd(listed)
        if listed.error or listed.is_gone:
            return
        prefix = f"{listed.place}/" if listed.place else ""
        node = node_at(self._local, listed.place)
        recorded = dict(self._local.children(node)) if node is not None else {}
        if self._disk.folds_names:
            self._recompose(listed, prefix, recorded)
        for name, seen in listed.entries.items():
            child = recorded.pop(name, None)
            record = self._local.get(child) if child is not None else None
            if record is None:
                if not (self._is_download(prefix, name) or self._is_second_name(listed, prefix, name)):
                    yield prefix + name
            elif not is_as_recorded(record, seen):
                yield prefix + name
        for name in recorded:
            if name not in listed.odd:
                yield prefix + name

    def _as_recorded(self, place: str) -> str:
        """Return a place as it is recorded, where this file system has only composed the names in it otherwise."""
        found, node = "", NodeId(ROOT)
        for name in place.split("/") if place else ():
            above = f"{found}/" if found else ""
            names = self._local.children(node)
            if name not in names:
                like = (one for one in names if composed(one) == composed(name))
                name = next((one for one in like if self._disk.look(above + one) is not None), name)
            found, node = above + name, names.get(name, NodeId(-1))
        return found

    def _recompose(self, listed: Listed, prefix: str, recorded: dict[str, NodeId]) -> None:
        """Call by its recorded name what a file system lists under a name composed otherwise."""
        missing = {composed(name): name for name in recorded if name not in listed.entries}
        for name in [name for name in listed.entries if name not in recorded] if missing else ():
            known = missing.pop(composed(name), None)
            if known is not None and self._disk.look(prefix + known) is not None:
                listed.entries[known] = listed.entries.pop(name)

    def _is_download(self, prefix: str, name: str) -> bool:
        """Tell whether this is a download of ours that is not in its place yet, and remove it if it never will be."""
        hidden = parse_hidden(name)
        if hidden is None or hidden.suffix is not Suffix.NEW:
            return False
        if hidden.token not in self._arrivals:
            with suppress(OSError):  # the next scan tries it again
                self._disk.remove_file(prefix + name)
        return True

    def _is_second_name(self, listed: Listed, prefix: str, name: str) -> bool:
        """Tell whether a crash left a file with two names, while it was moved to this hidden one; take that away."""
        hidden = parse_hidden(name)
        if not self._is_first or hidden is None or hidden.suffix is not Suffix.OLD:
            return False
        own = listed.entries[name]
        others = (other for other, seen in listed.entries.items() if other != name and seen.inode == own.inode)
        with suppress(OSError):  # the next start tries it again
            for other in others if own.kind is Kind.FILE and own.inode else ():
                seen, first = self._disk.look(prefix + name), self._disk.look(prefix + other)
                if seen is not None and first is not None and seen.is_same_file(first):
                    self._disk.remove_file(prefix + name)
                    return True
        return False

    def _note_odd(self, listed: Listed) -> None:
        prefix = f"{listed.place}/" if listed.place else ""
        if listed.error:
            detail = f"the directory cannot be read ({listed.error}): what is in it is left alone on both sides"
            self._note(listed.place, Trouble.UNREADABLE, detail)
        for name, (trouble, detail) in listed.odd.items():
            self._note(prefix + name, trouble, detail)

    def _note(self, place: str, trouble: Trouble, detail: str) -> None:
        shown = place.encode(errors="replace").decode()
        self.problems[place] = Problem(node_at(self._local, place), shown, trouble, detail)

    # -- hashing

    async def _digest(self, places: Iterable[str]) -> Digests:
        ordered = sorted(places)
        batches = [ordered[at::_HASHERS] for at in range(min(_HASHERS, len(ordered)))]
        found: Digests = {}
        for digests in await asyncio.gather(*(asyncio.to_thread(_digest_all, self._disk.digest, b) for b in batches)):
            found.update(digests)
        return found


def _digest_all(digest: Callable[[str], tuple[Seen, str] | None], places: Iterable[str]) -> Digests:
    found: Digests = {}
    for place in places:
        try:
            found[place] = digest(place)
        except OSError as error:
            found[place] = error
    return found


def is_as_recorded(record: LocalNode, seen: Seen) -> bool:
    """Tell whether a look agrees with the record, so that nothing is to be done."""
    if record.kind is not seen.kind or record.is_local_only:
        return False
    if seen.kind is Kind.DIRECTORY:
        return record.inode == seen.inode
    return seen.is_untouched(record)
