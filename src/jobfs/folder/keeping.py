"""Bytes of a real folder for the local history, before a file of it is replaced or removed by us.

What programs do to the folder's own files happens without us: of those there is nothing to keep.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from jobfs.engine.history import MOST_COPIED_BYTES
from jobfs.engine.workspace import Workspace
from jobfs.errors import StateError
from jobfs.folder.attempt import Changed
from jobfs.folder.disk import Disk, Seen
from jobfs.model import BlobId, LocalNode
from jobfs.store.history import Reason


class Keeping:
    """Takes bytes of one folder."""

    def __init__(self, workspace: Workspace, disk: Disk) -> None:
        self._state = workspace.state
        self._blobs = workspace.state.blobs
        self._history = workspace.history
        self._disk = disk

    def take(self, record: LocalNode, place: str) -> BlobId | None:
        """Return a blob with the bytes of a file that is about to lose its name; None where it is not to be kept.

        The file's second name on the same disk; a copy of a file that is not large elsewhere.
        """
        content = record.content
        if content is None or not content.size or self._history.retention.is_off:
            return None
        blob = self._blobs.adopt(partial(self._disk.lend, place))
        if blob is not None or not self._history.wants_copy(record) or content.size > MOST_COPIED_BYTES:
            return blob
        try:
            with self._disk.open(place) as source:
                return self._blobs.import_file(source)[0]
        except StateError:
            return None  # what is kept for the history alone is no reason to fail

    def keep(self, record: LocalNode, found: str, place: str) -> None:
        """Put a file that no server has into the history, durably; blocks for as long as copying it takes.

        :param found: where it is now. :param place: what the history calls it.
        """
        self.hand_over(replace(record, blob=self._import(found)), Reason.REVERTED, place)

    def hand_over(self, record: LocalNode, reason: Reason, place: str) -> None:
        """Give the history the blob of a record, durably; where it does not take it, nothing of it is left."""
        with self._blobs.unless_failed(record.blob), self._state.transaction(durable=True):
            is_kept = self._history.keep(record, reason, path=place)
        if not is_kept and record.blob is not None:
            self._blobs.discard(record.blob)  # it was empty, which its version says by itself; or nothing is to be kept

    async def save(self, place: str) -> tuple[BlobId, Seen]:
        """Copy a file that exists nowhere else into a blob, durably; return the look that it belongs to.

        :raises Changed: it changed meanwhile. :raises StateFull: there is no room for it.
        """
        before = self._disk.look(place)
        if before is None:
            raise Changed(place)
        blob = await asyncio.to_thread(self._import, place)
        after = self._disk.look(place)
        if after is None or not after.is_same_file(before):
            self._blobs.discard(blob)
            raise Changed(place)
        return blob, before

    def _import(self, place: str) -> BlobId:
        with self._disk.open(place) as source:
            blob, _, _ = self._blobs.import_file(source)
        with self._blobs.unless_failed(blob):
            self._blobs.sync(blob)
        return blob
