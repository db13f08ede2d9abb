"""A real folder as a side of the synchronisation: the local tree is the record of the last scan, the folder the truth.

Ties scanner and applier to the session: what a scan finds is planned, what could not be applied is scanned again. It
leaves to others: when to scan (``sync``), and which events say so (``watch``).
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

from jobfs.engine.applier import Applier
from jobfs.engine.pusher import Gone, Snapshot
from jobfs.engine.remote import Remote
from jobfs.engine.trees import Trees
from jobfs.engine.workspace import Workspace
from jobfs.errors import JobfsError, Refused, StateError
from jobfs.folder.apply import FolderApplier
from jobfs.folder.arrivals import Arrivals
from jobfs.folder.attempt import Attempts
from jobfs.folder.coalesce import EVERYWHERE, NOWHERE, Places, is_covered
from jobfs.folder.contents import Contents
from jobfs.folder.disk import Disk, reason_of
from jobfs.folder.report import Ledger, SyncEvent
from jobfs.folder.root import Root
from jobfs.folder.scan import Findings, Scanner
from jobfs.model import BlobId, Content, Kind, LocalNode, NodeId, Problem, path_of
from jobfs.planner.plan import LocalChange

_SMALL_BYTES = 1 << 16
"""Up to here a file is copied at once: it was just read to be hashed, and handing it to a thread takes longer."""


class FolderSide:
    """Satisfies ``side.LocalSide`` and ``attempt.Observer``.

    :param restores_here: what was deleted here comes back from the server instead of being deleted there.
    :param restores_there: the other way round.
    :param arrivals: what a scan leaves alone.
    """

    is_instant = False

    def __init__(
        self,
        workspace: Workspace,
        trees: Trees,
        disk: Disk,
        root: Root,
        remote: Remote,
        *,
        ledger: Ledger,
        restores_here: bool,
        restores_there: bool,
        arrivals: Arrivals,
    ) -> None:
        self._workspace = workspace
        self._state = workspace.state
        self._trees = trees
        self._disk = disk
        self._ledger = ledger
        self._restores_here = restores_here
        self._restores_there = restores_there
        self.recorder = Applier(workspace, trees)
        attempts = Attempts(workspace, disk, self)
        contents = Contents(workspace, self.recorder, disk, remote, attempts=attempts, observer=self, arrivals=arrivals)
        self.scanner = Scanner(workspace, disk, root, arrivals=arrivals)
        self._applier = FolderApplier(
            workspace, self.recorder, disk, contents=contents, attempts=attempts, observer=self, tokens=arrivals.tokens
        )
        self._wanted = NOWHERE
        self._waiting: dict[str, set[NodeId]] = {}
        self.obstacles: dict[str, Problem] = {}
        self.deleted: dict[NodeId, str] = {}
        self.on_touched: Callable[[Collection[NodeId]], None] = lambda nodes: None
        self.on_wanted: Callable[[], None] = lambda: None
        self.on_postponed: Callable[[NodeId, JobfsError], None] = lambda node, error: None
        self.on_outdated: Callable[[NodeId], None] = lambda node: None

    # -- scanning

    def want(self, places: Places) -> None:
        """Ask for a scan of places."""
        self._wanted |= places
        self.on_wanted()

    @property
    def has_wanted(self) -> bool:
        """Whether a scan was asked for."""
        return bool(self._wanted)

    def take_wanted(self) -> Places:
        """Return, and forget, the places that were asked for."""
        wanted, self._wanted = self._wanted, NOWHERE
        return wanted

    async def scan(self, places: Places) -> Findings:
        """Scan places, and have planned what changed and what waited for that.

        :raises FolderError: the folder is gone or another one.
        """
        findings = await self.scanner.scan(places)
        released = {node for place in self._settled(places, findings) for node in self._waiting.pop(place, ())}
        self.on_touched(findings.touched | released)
        return findings

    def _settled(self, places: Places, findings: Findings) -> list[str]:
        """Return the places for which something waits and which this scan has made clear."""
        looked = [place for place in self._waiting if place in places.entries or is_covered(place, places.trees)]
        settled = [place for place in looked if place not in self.scanner.problems and place not in findings.later]
        for place in settled:
            self.obstacles.pop(place, None)
        return settled

    def problems(self) -> list[Problem]:
        """Return what cannot be kept in step here."""
        return [problem for _, problem in sorted({**self.scanner.problems, **self.obstacles}.items())]

    # -- what the applier tells

    def revisit(self, place: str, node: NodeId) -> None:
        """Have a place scanned, and the node planned again when that has settled what is there."""
        self._waiting.setdefault(place, set()).add(node)
        record = self._state.local.get(node)
        if not place:
            self.want(EVERYWHERE)
        elif record is not None and record.kind is Kind.DIRECTORY:
            self.want(Places(trees=frozenset({place})))
        else:
            self.want(Places(frozenset({place})))

    def blocked(self, place: str, problem: Problem) -> None:
        """Remember what is in the way until a scan finds something else there."""
        self.obstacles[place] = problem
        if problem.node is not None:
            self._waiting.setdefault(place, set()).add(problem.node)

    def homeless(self, node: NodeId, directory: NodeId) -> None:
        """Let a node wait for what its directory waits for; where that is not known, for the next listing."""
        company = next((nodes for nodes in self._waiting.values() if directory in nodes), None)
        if company is None:
            self.on_outdated(node)
        else:
            company.add(node)

    def postponed(self, node: NodeId, error: JobfsError) -> None:
        """Have a node planned again after a pause."""
        self.on_postponed(node, error)

    def outdated(self, node: NodeId) -> None:
        """Have a node planned again after the next listing."""
        self.on_outdated(node)

    def done(self, event: SyncEvent) -> None:
        """Count what was changed here."""
        self._ledger.note(event)

    # -- what the session asks for

    async def apply(self, changes: Iterable[LocalChange]) -> set[NodeId]:
        """Change the real folder; see ``FolderApplier.apply``."""
        return await self._applier.apply(changes)

    async def prepare(self, nodes: Iterable[NodeId]) -> None:
        """Decide which deletions count. The scan has hashed what it found already."""
        due = set(nodes)
        base = self._state.base
        for node in due:
            if base.get(node) is not None and self._state.synced.get(node) is None:
                self.deleted[node] = path_of(base, node) or ""
        forgotten = sorted(self.restored(due), key=lambda node: -(path_of(base, node) or "").count("/"))
        if forgotten:
            with self._state.transaction():
                for node in forgotten:  # what is in a directory before the directory
                    self._state.drop_base(node)

    async def settle_hash(self, node: NodeId) -> None:
        """Do nothing: the scan has hashed what it found."""

    def restored(self, nodes: Collection[NodeId]) -> set[NodeId]:
        """Return the nodes to be taken for never synchronised, with all below them: deletions that do not count.

        What one side lacks is then new on the other.
        """
        base, found = self._state.base, []
        for node in nodes:
            is_here, is_there = self._state.synced.get(node) is not None, self._trees.remote.get(node) is not None
            restores = self._restores_here if is_there else self._restores_there
            if restores and is_here is not is_there and base.get(node) is not None:
                found.append(node)
        for node in found:
            found += base.children(node).values()
        return set(found)

    @asynccontextmanager
    async def snapshot(self, node: NodeId) -> AsyncIterator[Snapshot]:
        """Hold the present version of a file: a copy that was checked to be of one moment, in memory where it is small.

        :raises Gone: the file is not as recorded; it is scanned again. :raises Refused: the user may not read it.
        :raises StateError: the disk did not serve.
        """
        record = self._state.local.get(node)
        place = path_of(self._state.local, node)
        if record is None or place is None or record.content is None:
            raise Gone
        if record.content.size <= _SMALL_BYTES:
            yield self._read_small(record, place)
            return
        blob, content = await self._copy(record, place)
        try:
            with self._state.blobs.pinned(blob):
                yield Snapshot(self._state.blobs.path(blob), content)
        finally:
            self._state.blobs.discard(blob)

    def _read_small(self, record: LocalNode, place: str) -> Snapshot:
        with self._reading(record, place):
            self._check(record, place)
            with io.BufferedReader(self._disk.open(place)) as file:
                data = file.read(_SMALL_BYTES + 1)  # one that has grown since fails the check
            self._check(record, place)
        return Snapshot(data, self._learn(record, Content(len(data), hashlib.sha256(data).hexdigest())))

    async def _copy(self, record: LocalNode, place: str) -> tuple[BlobId, Content]:
        with self._reading(record, place):
            self._check(record, place)
            blob, sha256, size = await asyncio.to_thread(self._take, place)
        with self._state.blobs.unless_failed(blob):
            with self._reading(record, place):
                self._check(record, place)
            return blob, self._learn(record, Content(size, sha256))

    @contextmanager
    def _reading(self, record: LocalNode, place: str) -> Iterator[None]:
        """Say what it means that a file cannot be read."""
        try:
            yield
        except FileNotFoundError:
            self.revisit(place, record.id)
            raise Gone from None
        except OSError as error:
            raise _unreadable(place, error) from error

    def _learn(self, record: LocalNode, content: Content) -> Content:
        """Keep the hash that was taken, if the record is still of the same version."""
        now = self._state.local.get(record.id)
        if now is not None and now.content is record.content and content.sha256 != (record.content or content).sha256:
            with self._state.transaction():
                self._state.put_local(replace(now, content=content))
        return content

    def _take(self, place: str) -> tuple[BlobId, str, int]:
        with self._disk.open(place) as source:
            return self._state.blobs.import_file(source)

    def _check(self, record: LocalNode, place: str) -> None:
        """Make sure that the file is as recorded, and no link leads to it."""
        seen = self._disk.look(place) if self._disk.is_real(place.rpartition("/")[0]) else None
        if seen is None or seen.kind is not Kind.FILE or not seen.is_untouched(record):
            self.revisit(place, record.id)
            raise Gone

    def pushed(self, node: NodeId, sent: Content, acknowledged: Content) -> None:
        """Mark the file clean if the record still has the bytes that were sent."""
        record = self._state.local.get(node)
        if record is None or record.content is None:
            return
        if (record.content.sha256, record.content.size) == (sent.sha256, sent.size):
            with self._state.transaction():
                self._state.put_local(replace(record, content=acknowledged))

    def read_local(self, record: LocalNode) -> bytes | None:
        """Return the bytes of a small file that the engine itself reads: the ignore rules."""
        place = path_of(self._state.local, record.id)
        if place is None:
            return None
        try:
            seen = self._disk.look(place)
            return self._disk.read(place) if seen is not None and seen.kind is Kind.FILE else None
        except OSError:
            return None


def _unreadable(place: str, error: OSError) -> JobfsError:
    """Return what it means that a file cannot be read: final where it is forbidden, else the disk may serve later."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return Refused(f"it cannot be read here: {reason_of(error)}", "make it readable")
    return StateError(f"{place} cannot be read here: {reason_of(error)}", "it is tried again; look after the disk")
