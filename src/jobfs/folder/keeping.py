"""Bytes of a real folder for the local history, before a file of it is replaced or removed by us.

What programs do to the folder's own files happens without us: of those there is nothing to keep.
"""

from __future__ import annotations

import asyncio
import os

from jobfs.engine.history import MOST_COPIED_BYTES
from jobfs.engine.workspace import Workspace
from jobfs.errors import StateFull
from jobfs.folder.attempt import Changed
from jobfs.folder.disk import Disk, Seen
from jobfs.model import BlobId, LocalNode


class Keeping:
    """Takes bytes of one folder."""

    def __init__(self, workspace: Workspace, disk: Disk) -> None:
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
        blob = self._blobs.adopt(self._disk.path(place))
        if blob is not None or not self._history.wants_copy(record) or content.size > MOST_COPIED_BYTES:
            return blob
        try:
            with self._disk.open(place) as source:
                return self._blobs.import_file(source)[0]
        except StateFull:
            return None  # what is kept for the history alone is no reason to fail

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
            self._blobs.remove(blob)
            raise Changed(place)
        return blob, before

    def _import(self, place: str) -> BlobId:
        with self._disk.open(place) as source:
            blob, _, _ = self._blobs.import_file(source)
        descriptor = self._blobs.open(blob)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return blob
