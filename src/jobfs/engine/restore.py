"""Put versions of the history back into the local tree, as a program would by renaming a new file into place.

What is put back is a new node, dirty, that is pushed like any save; whoever has the file open that it replaces keeps
that one. What it replaces becomes a version itself, whether it was sent or not. A folder has its own way
(``folder.restore``).

**Invariant: a version is put back in one transaction**, with the directories that it needs: a crash leaves the file as
it was, or as it is to be. Between the last look at the place and that transaction nothing is awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Protocol

from jobfs.engine.workspace import Happening, LocalChange, Workspace
from jobfs.errors import HistoryError, NoSuchVersion
from jobfs.model import ROOT, BlobId, Content, Kind, LocalNode, NodeId, Permission, node_at
from jobfs.planner.naming import check_name, check_path
from jobfs.store.history import DELETIONS, Reason, Version

INLINE_COPY_BYTES = 4 << 20
"""Up to here a copy on the loop is quicker than what waits for it would notice."""

TOGETHER_NS = 10 * 10**9
"""Files deleted within so long of each other went in one go."""


OTHER_PLACE = "choose another place: jobfs restore PATH --at VERSION --to OTHER"


SEE_HISTORY = "see 'jobfs history PATH'"


def is_there(path: str, version: Version) -> HistoryError:
    """Return the failure where something has the place of what is to come back."""
    remedy = f"'jobfs restore PATH --at {version.number}' replaces a file; with --to OTHER both stay"
    return HistoryError(f"{path} is there", remedy)


@dataclass(frozen=True, slots=True)
class PutBack:
    """What became of a version.

    :param path: where it is now. :param is_changed: whether it was not there already.
    """

    path: str
    version: Version
    is_changed: bool = True


def last_deleted(versions: Collection[Version]) -> list[Version]:
    """Return the versions that went last and in one go, the newest of each path, in the order of their paths. Pure.

    :param versions: of a directory and all below it.
    """
    gone = sorted((one for one in versions if one.reason in DELETIONS), key=lambda one: (one.at_ns, one.number))
    if not gone:
        return []
    found: dict[str, Version] = {}
    until_ns = gone[-1].at_ns
    for version in reversed(gone):
        if until_ns - version.at_ns > TOGETHER_NS:
            break
        until_ns = version.at_ns
        found.setdefault(version.path, version)
    return [found[path] for path in sorted(found)]


def deleted_in(versions: Collection[Version]) -> list[Version]:
    """Return the newest version of each path, where that one was deleted, in the order of the paths. Pure."""
    newest = {version.path: version for version in sorted(versions, key=lambda one: one.number)}
    return [newest[path] for path in sorted(newest) if newest[path].reason in DELETIONS]


def check_place(path: str) -> None:
    """Make sure that something could be at a path of a workspace.

    :raises HistoryError: a name cannot be used.
    """
    trouble = next(filter(None, map(check_name, path.split("/"))), None) or check_path(path)
    if trouble is not None:
        raise HistoryError(f"nothing can be at {path!r}: {trouble.value}", OTHER_PLACE)


def check_unsent(workspace: Workspace, record: LocalNode) -> None:
    """Make sure that what is about to be replaced, and is nowhere else, will be in the history.

    :raises HistoryError: there is no room for it.
    """
    size = record.content.size if record.content is not None else 0
    if record.is_dirty and size and not workspace.history.has_room(size):
        raise HistoryError(
            f"{record.name} was changed and not sent yet, and the history has no room for it",
            f"send it first (jobfs push), or {OTHER_PLACE}",
        )


class Restorer(Protocol):
    """What puts versions back: into the tree of a mount, or into a folder."""

    async def restore(self, version: Version, path: str, *, is_undelete: bool = False) -> PutBack:
        """Put the bytes of a version at a path, replacing the file that is there.

        :param path: from the root, without a leading slash.
        :param is_undelete: it replaces nothing, and has the time that it had.
        :raises NoSuchVersion: it went meanwhile. :raises StateFull: there is no room for it.
        :raises HistoryError: something is there that is not to be replaced, or nothing may be.
        """


class TreeRestorer:
    """Puts versions back into the local tree of a mount, running or not. Satisfies ``Restorer``."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def restore(self, version: Version, path: str, *, is_undelete: bool = False) -> PutBack:
        """Put the bytes of a version at a path; see ``Restorer``."""
        workspace = self._workspace
        if _Place(workspace, path, version, may_replace=not is_undelete).has_it():
            return PutBack(path, version, is_changed=False)
        blob = await _copy(workspace, version)
        with workspace.state.blobs.unless_failed(blob):
            place = _Place(workspace, path, version, may_replace=not is_undelete)
            place.put(blob, workspace.clock.wall_ns(), is_undelete=is_undelete)
        await workspace.caught_up()  # whoever asked looks at it next
        return PutBack(path, version)


async def _copy(workspace: Workspace, version: Version) -> BlobId | None:
    """Copy a version's bytes; pinned meanwhile, so that they do not go for room."""
    if workspace.state.versions.get(version.number) is None:
        raise NoSuchVersion(f"version {version.number} of {version.path} is no longer kept", SEE_HISTORY)
    if version.blob is None:
        return None
    blobs = workspace.state.blobs
    if version.content.size <= INLINE_COPY_BYTES:
        return blobs.copy(version.blob)
    with blobs.pinned(version.blob):
        return await asyncio.to_thread(blobs.copy, version.blob)


class _Place:
    """A path to which a version goes, as things are now.

    :raises HistoryError: nothing can be put there.
    """

    def __init__(self, workspace: Workspace, path: str, version: Version, *, may_replace: bool) -> None:
        self._workspace = workspace
        self._state = workspace.state
        self._path = path
        self._version = version
        *self._above, self._name = path.split("/")
        self._present: LocalNode | None = None
        check_place(path)
        self._check_directories()
        self._check_present(may_replace=may_replace)

    def _check_directories(self) -> None:
        """Make sure that the directories are there, or can be made."""
        node: NodeId | None = ROOT
        for depth, name in enumerate(["", *self._above]):
            node = self._state.local.child(node, name) if depth and node is not None else node
            if node is None:
                return
            record = self._state.local.get(node)
            if record is None or record.kind is not Kind.DIRECTORY:
                above = "/".join(self._above[:depth])
                raise HistoryError(f"{above} is no directory", OTHER_PLACE)
            is_bound = record.permission is Permission.READ_ONLY and not record.is_local_only
            if is_bound or self._workspace.is_protected(node):
                raise HistoryError(f"nothing can be written in /{'/'.join(self._above[:depth])}", OTHER_PLACE)

    def _check_present(self, *, may_replace: bool) -> None:
        node = node_at(self._state.local, self._path)
        record = self._state.local.get(node) if node is not None else None
        if record is None:
            return
        if record.kind is not Kind.FILE or not may_replace:
            raise is_there(self._path, self._version)
        if record.permission is Permission.READ_ONLY and not record.is_local_only:
            raise HistoryError(f"{self._path} is read-only", f"allow writing first (chmod u+w), or {OTHER_PLACE}")
        if not record.is_local_only:
            check_unsent(self._workspace, record)
        self._present = record

    def has_it(self) -> bool:
        """Tell whether the file that is there has the version's bytes."""
        content = self._present.content if self._present is not None else None
        if content is None or content.sha256 is None:
            return False
        return (content.sha256, content.size) == (self._version.content.sha256, self._version.content.size)

    def put(self, blob: BlobId | None, now_ns: int, *, is_undelete: bool) -> None:
        """Put the version there, in one transaction; the blob is the node's from then on."""
        state = self._state
        with state.transaction():
            parent = self._make_directories(now_ns)
            if self._present is not None:
                self._part(self._present)
            mtime_ns = self._version.mtime_ns if is_undelete else 0
            node = replace(self._node(blob, parent, now_ns), mtime_ns=mtime_ns or now_ns)
            state.put_local(node)
            above = state.local.get(parent)
            if above is not None:
                state.show_local(replace(above, mtime_ns=now_ns, ctime_ns=now_ns))
        self._tell(node)

    def _make_directories(self, now_ns: int) -> NodeId:
        parent = ROOT
        for name in self._above:
            there = self._state.local.child(parent, name)
            if there is None:
                there = self._state.allocate()
                is_ignored = self._workspace.is_ignored(parent, name, is_directory=True)
                self._state.put_local(
                    LocalNode(
                        there,
                        parent,
                        name,
                        Kind.DIRECTORY,
                        mode=0o755,
                        mtime_ns=now_ns,
                        ctime_ns=now_ns,
                        is_local_only=is_ignored,
                    )
                )
                self._state.after_commit(
                    self._teller(LocalChange(Happening.APPEARED, parent, name, there, Kind.DIRECTORY))
                )
            parent = there
        return parent

    def _teller(self, change: LocalChange) -> Callable[[], None]:
        def tell() -> None:
            self._workspace.announce(change)
            self._workspace.touch(change.node)

        return tell

    def _part(self, record: LocalNode) -> None:
        """Let go of what is there: its bytes are a version from now on, also where they were never sent."""
        self._state.drop_local(record.id)
        is_kept = not record.is_local_only and self._workspace.history.keep(record, Reason.REPLACED)
        self._workspace.let_go(record, is_kept=is_kept)

    def _node(self, blob: BlobId | None, parent: NodeId, now_ns: int) -> LocalNode:
        present, version = self._present, self._version
        return LocalNode(
            self._state.allocate(),
            parent,
            self._name,
            Kind.FILE,
            version.permission if present is None else present.permission,
            Content(version.content.size, version.content.sha256),
            mode=version.mode if present is None else present.mode,
            ctime_ns=now_ns,
            blob=blob,
            is_local_only=self._workspace.is_ignored(parent, self._name, is_directory=False),
        )

    def _tell(self, node: LocalNode) -> None:
        old = self._present.id if self._present is not None else None
        happening = Happening.APPEARED if old is None else Happening.REPLACED
        self._workspace.announce(LocalChange(happening, node.parent, node.name, node.id, node.kind, old))
        self._workspace.touch(node.id, *([] if old is None else [old]))
