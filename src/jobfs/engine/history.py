"""The local history: what becomes a version of it, how long it stays, and who finds it.

A version is what the server had acknowledged and is now replaced, deleted or reverted here or there, or what was closed
here and deleted before it was sent; only as far as its bytes are here. One save makes one version, however many
writes it had. Bytes come in by handing their blob over: nothing is copied, and nothing is in two places.

**Invariants.** A blob is handed over in the transaction that takes it from its node. The history never makes an
operation of a program fail: where there is no room nothing is kept. A version goes only by age or for room, and
not while somebody reads it (``planner.retention`` decides which).

It leaves to others: putting bytes back (``restore``), and the rows (``store.history``). Plain calls, nothing awaits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import replace

from jobfs.engine.schedule import QUIET_S
from jobfs.errors import StateError
from jobfs.model import BlobId, Kind, LocalNode, NodeId, Revision, node_at, path_of
from jobfs.planner.naming import is_passing_name
from jobfs.planner.retention import Held, Retention, Wanted, surplus
from jobfs.store.history import Reason, Version, cost_of
from jobfs.store.state import State

MOST_COPIED_BYTES = 16 << 20
"""A write into a file must not wait for a copy of it: above this size, and where the file system cannot share bytes
between files, what a program changes in place is not kept."""

LEAST_FREE_BYTES = 64 << 20
"""The last room on the disk is for files."""

_SETTING = "history"
_PASSING_NS = 60 * 10**9
_QUIET_NS = int(QUIET_S * 10**9)
_MOST_LEFT = 1000
_GROWTH = 1.1
"""Where what may not go takes more than the limit, look for what may only after so much has come."""

_log = logging.getLogger(__name__)


class History:
    """The versions of one workspace.

    :param wall_ns: gives nanoseconds since the epoch.
    """

    def __init__(self, state: State, wall_ns: Callable[[], int]) -> None:
        self._state = state
        self._wall_ns = wall_ns
        self._left: dict[NodeId, str] = {}
        self._is_pruning = False
        self._room_made = 0
        self.retention = _retention_of(state.setting(_SETTING))
        self.blobs_in_use: Callable[[], Collection[BlobId]] = tuple
        """Which blobs programs still read that have the files open to which they belonged."""

    def start(self, wanted: Wanted) -> None:
        """Set how much is kept, for later sessions too, and remove the rest."""
        retention = wanted.over(self.retention)
        if retention != self.retention:
            with self._state.transaction():
                self._state.remember(_SETTING, _setting_of(retention))
            self.retention = retention
        self.make_room()

    # -- coming in; in the caller's transaction

    def keep(self, record: LocalNode, reason: Reason, *, path: str | None = None) -> bool:
        """Keep a version; in the caller's transaction, which also takes the blob from its node.

        :param record: the file as it was, with the blob that has its bytes; its directory is in the local tree.
        :param path: where it was, if that is not what the record says.
        :return: whether the blob is the history's from now on. Otherwise it is the caller's to remove.
        """
        content = record.content
        if content is None or (record.blob is None and content.size):
            return False
        version = Version(
            self._path(record) if path is None else path,
            record.blob if content.size else None,
            content,
            reason,
            self._wall_ns(),
            record.id,
            record.permission,
            record.mode,
            record.mtime_ns,
        )
        if not version.is_sole and not self.has_room(content.size):
            return False
        same = self._same(version)
        if same is not None:
            self._state.versions.drop(same)
            self._state.versions.add(replace(version, blob=same.blob))
            return False
        self._state.versions.add(version)
        self._state.after_commit(self._added)
        return version.blob is not None

    def has_room(self, size: int) -> bool:
        """Tell whether so many bytes would be kept."""
        if self.retention.is_off or cost_of(size) > self.retention.limit_bytes:
            return False
        return self._state.blobs.free_bytes() >= LEAST_FREE_BYTES

    def _same(self, version: Version) -> Version | None:
        """Return the last version at the path where it has the same bytes: its time is renewed instead."""
        if version.is_sole or version.content.sha256 is None:
            return None
        last = self._state.versions.newest_at(version.path)
        if last is None or last.is_sole:
            return None
        is_same = (last.content.sha256, last.content.size) == (version.content.sha256, version.content.size)
        return last if is_same else None

    def replaced(self, record: LocalNode, reason: Reason = Reason.REPLACED) -> bool:
        """Keep what other bytes take the place of, if it counts as a version; see ``keep``."""
        content = record.content
        if content is None or content.revision is None or not content.size:
            return False  # written here since, or nothing: the version before was kept at the first write
        place = self._place(record)
        return place is not None and self.keep(record, reason, path=place)

    def deleted(self, record: LocalNode, reason: Reason = Reason.DELETED) -> bool:
        """Keep a file that is deleted, if it counts as a version; see ``keep``."""
        if record.kind is not Kind.FILE:
            return False
        place = self._place(record)
        if place is None or not self._was_at_rest(record):
            return False
        if place != self._path(record) and node_at(self._state.local, place) is not None:
            reason = Reason.REPLACED
        return self.keep(record, reason, path=place)

    def _place(self, record: LocalNode) -> str | None:
        """Return the path under which a file is kept, or None where it is none of the user's.

        What an editor moved out of the way before it saved is a version of the name that it had.
        """
        left = self._left.get(record.id) if not record.is_dirty else None
        if left is not None and node_at(self._state.local, left) is not None:
            return left
        return self._path(record) if self._is_own(record) else left

    def _was_at_rest(self, record: LocalNode) -> bool:
        """Tell whether a file was ever more than a moment's."""
        is_known = self._state.base.get(record.id) is not None or not record.is_dirty
        return is_known or self._wall_ns() - record.ctime_ns >= _QUIET_NS

    def _path(self, record: LocalNode) -> str:
        above = path_of(self._state.local, record.parent)
        return f"{above}/{record.name}" if above else record.name

    def _is_own(self, record: LocalNode) -> bool:
        """Tell whether a file is the user's, and not a program's for a moment or this machine's alone."""
        if not _is_scratch(record):
            return True
        is_known = not record.is_local_only and self._state.base.get(record.id) is not None
        return is_known and self._wall_ns() - record.mtime_ns > _PASSING_NS

    def moved(self, before: LocalNode, after: LocalNode) -> None:
        """Note that a file moved: one that leaves the names of the user may be a version of what takes its place."""
        if before.kind is not Kind.FILE or before.is_dirty or self.retention.is_off:
            return
        if not _is_scratch(after):
            self._left.pop(after.id, None)
        elif not _is_scratch(before):
            self._left[after.id] = self._path(before)
            if len(self._left) > _MOST_LEFT:
                del self._left[next(iter(self._left))]

    # -- before bytes change in place

    def wants_copy(self, record: LocalNode) -> bool:
        """Tell whether the blob of a file must stay as it is, for the history, while the file is written to.

        The caller makes a copy of it the file's own, and hands over the blob itself (``replaced``).
        """
        content = record.content
        if content is None or content.revision is None or not content.size or not self._is_own(record):
            return False
        return content.size <= MOST_COPIED_BYTES and self.has_room(content.size)

    def owns(self, blob: BlobId | None) -> bool:
        """Tell whether a blob is that of a version: nobody else may change or remove it."""
        return self._state.versions.owns(blob)

    def give_back(self, blob: BlobId) -> None:
        """Make a blob its open file's own again, in the caller's transaction: it is about to change."""
        for version in self._state.versions.of_blob(blob):
            self._state.versions.drop(version)

    # -- looking

    def find(self, revision: Revision) -> Version | None:
        """Return the version with the bytes of a revision, or None.

        The server may stamp an item anew with its bytes as they were (a move, another permission); its storage key,
        which a change of the bytes would change, tells.
        """
        for version in reversed(self._state.versions.of_item(revision.item)):
            known = version.content.revision
            if known is None:
                continue
            if known == revision or (revision.key and (known.size, known.key) == (revision.size, revision.key)):
                return version
        return None

    # -- going out

    def make_room(self) -> None:
        """Remove what is too old or has no room any more. A local store that fails now is nobody's failure: later."""
        self._is_pruning = True
        try:
            self.prune()
        except StateError as error:
            _log.warning("the history keeps more than its limit until the local store works again: %s", error)
        finally:
            self._is_pruning = False

    def prune(self) -> int:
        """Remove what is too old or has no room any more; return how many versions went."""
        versions = {version.number: version for version in self._state.versions.all()}
        held = [Held(one.number, one.path, one.cost, one.at_ns, one.is_sole) for one in versions.values()]
        going = [versions[number] for number in surplus(held, self.retention, self._wall_ns())]
        in_use = self.blobs_in_use() if going else ()
        gone = [one for one in going if one.blob not in in_use and not self._is_pinned(one)]
        if gone:
            with self._state.transaction():
                for version in gone:
                    self.forget(version)
        self._room_made = self._state.versions.held_bytes
        return len(gone)

    def _is_pinned(self, version: Version) -> bool:
        return version.blob is not None and self._state.blobs.is_pinned(version.blob)

    def forget(self, version: Version) -> None:
        """Remove a version and its bytes, in the caller's transaction."""
        self._state.versions.drop(version)
        if version.blob is not None:
            blob = version.blob
            self._state.after_commit(lambda: self._state.blobs.remove(blob))

    def _added(self) -> None:
        held = self._state.versions.held_bytes
        if held > max(self.retention.limit_bytes, self._room_made * _GROWTH) and not self._is_pruning:
            self.make_room()


def _setting_of(retention: Retention) -> str:
    return f"{retention.days:g} days {retention.limit_bytes} bytes"


def _retention_of(setting: str | None) -> Retention:
    if setting is None:
        return Retention()
    days, _, limit_bytes, _ = setting.split()
    return Retention(float(days), int(limit_bytes))


def _is_scratch(record: LocalNode) -> bool:
    """Tell whether a file has a place or a name that programs choose."""
    return record.is_local_only or is_passing_name(record.name)
