"""Look at local changes, publish them, undo them: what ``jobfs diff``, ``push``, ``revert`` and ``hold`` do.

Works on a session, started or not: differences and reverts of a mount need no server. In a workspace that is not held
there is little to see, since changes are sent at once; what could not be sent is there all the same.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from jobfs.engine.history import MOST_COPIED_BYTES
from jobfs.engine.leftover import Unsynced
from jobfs.engine.pusher import Gone
from jobfs.engine.remote import Remote
from jobfs.engine.revert import plan_revert
from jobfs.engine.session import Session
from jobfs.engine.transfer import RevisionGone, receive
from jobfs.errors import ApiError, DeadlineExceeded, GuardTripped, JobfsError, NotFound, Refused, StateError
from jobfs.model import BlobId, Entry, Kind, LocalNode, NodeId, path_of
from jobfs.planner.difference import at_or_below, rivals, shifted, tops, with_needs
from jobfs.planner.guards import Side
from jobfs.planner.plan import is_same_content

_PARALLEL = 8
_BUSY_S = 30.0
_TOLD_S = 2.0


@dataclass(frozen=True, slots=True)
class Difference:
    """One node that is otherwise here than on the server, as last acknowledged.

    :param kind: the same on both sides.
    :param old_path: where the server has it; None where it does not. :param new_path: likewise here.
    :param known: its record in base. :param here: its record in the local tree.
    :param is_same: whether the bytes are the same; of a directory, True.
    :param is_overtaken: whether the server has another version by now than the one that this was made from.
    """

    node: NodeId
    kind: Kind
    old_path: str | None
    new_path: str | None
    known: Entry | None
    here: LocalNode | None
    is_same: bool
    is_overtaken: bool = False


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a publication.

    :param sent: paths that the server has now as they are here, or no longer has.
    :param along: those of them that were not asked for, but without which the others could not be.
    :param left: what the server does not have, with the reason.
    """

    sent: tuple[str, ...]
    along: tuple[str, ...]
    left: tuple[Unsynced, ...]


class InTheWay(JobfsError):
    """Something stands where a revert would bring back something else."""


class Review:
    """The changes of one workspace.

    :param look: makes sure that the local tree is what the user sees; of a real folder that is a scan.
    """

    def __init__(self, session: Session, look: Callable[[], Awaitable[None]] | None = None) -> None:
        self.session = session
        self._state = session.state
        self._look = look

    async def hold(self, *, is_on: bool) -> int:
        """Hold changes from now on, or let them go; return how many wait, or are sent now. Durable.

        :raises Refused: nothing can be changed, or is sent, from here.
        """
        if is_on and (self.session.workspace.is_read_only or not self.session.options.pushes):
            raise Refused("nothing is ever sent from here, so there is nothing to hold", "see 'jobfs status'")
        self.session.hold.switch(is_on=is_on)
        waiting = self.session.differing()
        if not is_on:
            self.session.look_again(waiting)
        return len(waiting)

    # -- look

    async def differences(self, path: str) -> list[Difference]:
        """Return what differs at or below a path, by path, with what stood at the places of that, or stands there now.

        :raises NotFound: there is nothing, and was nothing.
        """
        nodes = self._below(await self._tops(path))
        nodes |= shifted(self._state.base, self._state.synced, nodes)
        nodes |= rivals(self._state.base, self._state.synced, nodes)
        return sorted(map(self._difference, nodes), key=lambda one: (one.new_path or one.old_path or "", one.node))

    async def _tops(self, path: str) -> set[NodeId]:
        """Return what is at a path and what was.

        :raises NotFound: there is nothing, and was nothing.
        """
        if self._look is not None:
            await self._look()
        found = tops(self._state.base, self._state.synced, path)
        if not found:
            raise NotFound(f"there is no {path}, and there was none", "see 'jobfs diff' for all changes")
        return found

    def _below(self, nodes: Iterable[NodeId]) -> set[NodeId]:
        return at_or_below(self._state.base, self._state.synced, nodes)

    def _difference(self, node: NodeId) -> Difference:
        base, local = self._state.base, self._state.synced
        known, here, there = base.get(node), local.get(node), self.session.trees.remote.get(node)
        either = here or known
        if either is None:
            raise AssertionError(f"node {node} differs, and is nowhere")
        one, other = known.content if known is not None else None, here.content if here is not None else None
        is_overtaken = known is not None and (there is None or is_same_content(one, there.content) is False)
        old_path = path_of(base, node) if known is not None else None
        new_path = path_of(local, node) if here is not None else None
        is_same = bool(is_same_content(one, other))
        return Difference(node, either.kind, old_path, new_path, known, here, is_same, is_overtaken)

    async def fetch(self, nodes: Iterable[NodeId], directory: Path) -> dict[NodeId, list[str]]:
        """Put both versions of files into a directory, as ``NODE.old`` and ``NODE.new``.

        :return: for each node why a version could not be had; nothing for a version that does not exist.
        """
        slots = asyncio.Semaphore(_PARALLEL)

        async def one(node: NodeId) -> tuple[NodeId, list[str]]:
            async with slots:
                return node, await self._fetch(node, directory)

        return dict(await asyncio.gather(*map(one, nodes)))

    async def _fetch(self, node: NodeId, directory: Path) -> list[str]:
        known, here = self._state.base.get(node), self._state.synced.get(node)
        failures: list[str] = []
        try:
            if known is not None and known.content is not None:
                await self._fetch_base(known, directory / f"{node}.old")
        except RevisionGone:
            failures.append("the server no longer has the version that this was made from")
        except ApiError as error:
            failures.append(f"the version that this was made from cannot be had: {error.cause}")
        try:
            if here is not None and here.kind is Kind.FILE:
                async with self.session.side.snapshot(node) as snapshot:
                    await asyncio.to_thread(snapshot.copy_to, directory / f"{node}.new")
        except (Gone, JobfsError) as error:
            failures.append(f"the version here cannot be had: {getattr(error, 'cause', 'it changes just now')}")
        return failures

    async def _fetch_base(self, known: Entry, target: Path) -> None:
        """Bring the version of a file that the server last acknowledged: from the local history, or by a download."""
        revision = known.content.revision if known.content is not None else None
        version = self.session.workspace.history.find(revision) if revision is not None else None
        if version is None or version.blob is None:
            await download_base(self.session.remote, known, target)
            return
        with self._state.blobs.pinned(version.blob):
            await asyncio.to_thread(shutil.copyfile, self._state.blobs.path(version.blob), target)

    # -- publish

    async def publish(self, path: str, deadline_s: float | None, *, allow: int | None = 0) -> Published:
        """Send what differs at or below a path, and what that relies on, as it is now; return when it is done.

        What was approved stays so: where the deadline comes first, or the process ends, it is sent later.

        :param allow: so many deletions are never asked about; None: any number.
        :raises NotFound: there is nothing, and was nothing.
        :raises GuardTripped: too much would be deleted on the server.
        """
        asked, nodes = await self._chosen(path)
        paths = {node: self._path(node) for node in nodes}
        self._approve(nodes)
        left = {one.node: one for one in await self._drain(nodes, deadline_s, allow) if one.node in nodes}
        sent = nodes - left.keys()
        return Published(
            tuple(sorted(paths[node] for node in sent)),
            tuple(sorted(paths[node] for node in sent - asked)),
            tuple(self._told(one) for one in left.values()),
        )

    async def drain(self, deadline_s: float | None, *, allow: int | None = 0) -> Published:
        """Send what is not held, or was approved before; return when that is done.

        :param allow: as for ``publish``. :raises GuardTripped: likewise.
        """
        return Published((), (), tuple(await self._drain(self.session.differing(), deadline_s, allow)))

    async def _drain(self, nodes: Collection[NodeId], deadline_s: float | None, allow: int | None) -> list[Unsynced]:
        """Look at nodes again and send what is to be sent; deletions as far as they are allowed this once.

        What is found deleted later, while this waits, is not allowed with them.
        """
        session = self.session
        with session.guard.allowing(Side.REMOTE, allow) as given:
            given.is_about(nodes)
            session.look_again(nodes)
            left = await session.drain(deadline_s)
        if session.guard.side is Side.REMOTE and any(session.guard.keeps(node) for node in nodes):
            raise GuardTripped(session.guard.detail, "look first: jobfs diff --name-only; undelete or revert undoes it")
        return left

    def _told(self, one: Unsynced) -> Unsynced:
        """Say why something that was to be sent is not."""
        return replace(one, reason="changed again meanwhile, and held") if one.is_held else one

    async def approve(self, path: str) -> None:
        """Have what differs at or below a path, and what that relies on, sent by the next session; durable.

        :raises NotFound: there is nothing, and was nothing.
        """
        _, nodes = await self._chosen(path)
        self._approve(nodes)

    async def _chosen(self, path: str) -> tuple[set[NodeId], set[NodeId]]:
        """Return what differs at or below a path, and that with what it relies on."""
        named = await self._tops(path)
        asked = self._below(named)
        return asked, with_needs(asked | named, self._state.base, self._state.synced)

    def _approve(self, nodes: Collection[NodeId]) -> None:
        if self.session.hold.is_on:
            self.session.hold.approve(nodes)

    def _path(self, node: NodeId) -> str:
        return path_of(self._state.synced, node) or path_of(self._state.base, node) or f"#{node}"

    # -- revert

    async def revert(self, path: str) -> list[str]:
        """Make everything at or below a path here what the server last acknowledged; return what was changed.

        Bytes that no server has are in the local history before they go. Of a mount it is one transaction.

        :raises NotFound: there is nothing, and was nothing. :raises InTheWay: nothing was changed.
        """
        named = await self._tops(path)
        await self._idle(self._below(named))
        planned = plan_revert(
            self._state.base,
            self._state.synced,
            self._below(named),
            everything=self._state.local,
            stamp=self.session.workspace.conflict_stamp(),
        )
        if planned.blockers:
            blocking = ", ".join(self._path(node) for node in planned.blockers[:3])
            raise InTheWay(f"{blocking} is where something has to come back", "revert that too, or move it away")
        paths = sorted(self._path(node) for node in planned.nodes)
        self.session.hold.withdraw(planned.nodes)
        self._bring_bytes(await self.session.apply_here(planned.changes))
        with suppress(TimeoutError):  # the bytes are back; a kernel that takes no word will ask when its copy expires
            async with asyncio.timeout(_TOLD_S):
                await self.session.workspace.caught_up()
        return paths

    def _bring_bytes(self, nodes: Iterable[NodeId]) -> None:
        """Give reverted files their bytes from the local history where it has them; others are brought when read."""
        for node in nodes:
            record = self._state.synced.get(node)
            revision = record.content.revision if record is not None and record.content is not None else None
            if record is None or revision is None or record.blob is not None:
                continue
            version = self.session.workspace.history.find(revision) if self.session.side.is_instant else None
            if version is not None and version.blob is not None and version.content.size <= MOST_COPIED_BYTES:
                with suppress(StateError):  # then these are brought when they are read, too
                    self._give_bytes(record, version.blob)

    def _give_bytes(self, record: LocalNode, source: BlobId) -> None:
        blob = self._state.blobs.copy(source)
        with self._state.blobs.unless_failed(blob), self._state.transaction():
            self._state.put_local(replace(record, blob=blob))

    async def _idle(self, nodes: Collection[NodeId]) -> None:
        """Return when no request about these nodes is under way.

        :raises DeadlineExceeded: that takes long; nothing changed.
        """
        try:
            async with asyncio.timeout(_BUSY_S):
                while busy := [node for node in nodes if node in self.session.busy]:
                    await self.session.released(busy[0])
        except TimeoutError:
            raise DeadlineExceeded("what is to be reverted is being sent just now", "try again in a moment") from None


async def download_base(remote: Remote, known: Entry, target: Path) -> None:
    """Download the version of a file that the server last acknowledged.

    :raises RevisionGone: it has another one by now. :raises ApiError: it cannot be had.
    """
    if known.content is None or known.content.revision is None:
        raise AssertionError("the record of a file in base names its revision")
    revision = known.content.revision
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        sha256 = await receive(remote, revision, descriptor)
    finally:
        os.close(descriptor)
    if known.content.sha256 is not None:
        is_it = sha256 == known.content.sha256
    else:  # what changes the bytes of an item changes its size or storage key; what only moves it does not
        now = (await remote.get(revision.item)).revision
        is_it = (now.size, now.key) == (revision.size, revision.key)
    if not is_it:
        raise RevisionGone("the file has changed on the server", "look again in a moment")
