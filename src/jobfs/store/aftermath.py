"""What is left of the bytes after an end: of this process, or of the machine with all that its disk did not have yet.

Closing a file waits for no disk, and a row and the bytes that it tells of get there each in its own time. After a power
cut a file that nobody waited for may have its old bytes, its new ones, some of both, zeros, or none, as on any disk.

**Invariant: what the store says of bytes after an end is true of those that are there.** A dirty file has the length of
its blob, and no hash that was taken before the machine ended. What is told to be the server's is that: where the bytes
do not have their hash the copy goes, and is fetched again. A version of the history that is not what it was says so.

Looked at is what was written in the last quarter of an hour before the end; older bytes the system has brought to the
disk by itself (Linux does after 30 s, and after ten minutes where it spares a battery). While the machine runs nothing
is looked at: the death of a process loses no bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from jobfs.model import BlobId, Content, Entry, LocalNode
from jobfs.store.blobs import Blobs
from jobfs.store.history import Version
from jobfs.store.trees import Tree

BOOT = "boot"
"""The setting that names the run of the machine in which all that the state says of its bytes became true."""

RECENT_NS = 15 * 60 * 10**9
"""What was written so long before the last that was written may not be on the disk."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_log = logging.getLogger(__name__)


def boot_id() -> str:
    """Return what names this run of the machine; empty where the system does not tell: then any end may be its end."""
    try:
        return _BOOT_ID.read_text("utf-8").strip()
    except (OSError, ValueError):
        return ""


def after_death(node: LocalNode, blobs: Blobs) -> LocalNode:
    """Return a dirty file as its blob is: the last writes before a process died are in the blob, not in the row.

    :raises FileNotFoundError: it has none any more.
    """
    if not node.is_dirty or node.blob is None or node.content is None:
        return node
    stat = blobs.path(node.blob).stat()
    if node.content.sha256 is not None and stat.st_size == node.content.size:
        return node  # the hash is taken away before the first write after it
    # The row's own time stands unless the blob was written after the row, whatever time a program has set.
    is_newer = stat.st_mtime_ns > node.ctime_ns
    return replace(node, content=Content(stat.st_size), mtime_ns=stat.st_mtime_ns if is_newer else node.mtime_ns)


class PowerCut:
    """What a state has to say otherwise after the machine has ended.

    :param now_ns: the present time, nanoseconds since the epoch.
    """

    def __init__(
        self,
        blobs: Blobs,
        base: Tree[Entry],
        nodes: Iterable[LocalNode],
        versions: Iterable[Version],
        *,
        now_ns: int,
    ) -> None:
        self._blobs = blobs
        self._base = base
        self._nodes = [(node, self._written_ns(node.blob, node.ctime_ns)) for node in nodes]
        self._versions = [(version, self._written_ns(version.blob, 0)) for version in versions]
        moments = [at for _, at in (*self._nodes, *self._versions) if at <= now_ns]
        self._since_ns = max(moments, default=0) - RECENT_NS  # what is of the future was written by another clock

    def _written_ns(self, blob: BlobId | None, known_ns: int) -> int:
        """Return when a blob was last written, as its file and its row tell; either may have stayed behind."""
        try:
            stat = self._blobs.path(blob).stat() if blob is not None else None
        except FileNotFoundError:
            stat = None
        return max(known_ns, stat.st_mtime_ns, stat.st_ctime_ns) if stat is not None else known_ns

    def nodes(self) -> Iterator[LocalNode]:
        """Yield each file that is not as its row says, as it is. Blocks, for it reads what was written last."""
        for node, at_ns in self._nodes:
            if node.blob is None or node.content is None:
                continue
            now = self._unsent(node) if node.is_dirty else self._copy(node, node.blob, node.content, at_ns)
            if now != node:
                yield now

    def _unsent(self, node: LocalNode) -> LocalNode:
        try:
            return after_death(replace(node, content=Content(node.content.size if node.content else 0)), self._blobs)
        except FileNotFoundError:
            pass
        known = self._base.get(node.id)
        if known is not None and known.content is not None:
            _log.warning("the unsent bytes of %r did not reach the disk: it is as the server has it", node.name)
            return replace(node, content=known.content, blob=None)
        _log.warning("the unsent bytes of %r did not reach the disk: it is empty", node.name)
        return replace(node, content=Content(0), blob=None)

    def _copy(self, node: LocalNode, blob: BlobId, content: Content, at_ns: int) -> LocalNode:
        found = self._found(blob, content, at_ns)
        if found == content:
            return node
        _log.info("the local copy of %r did not reach the disk: it is brought here again when it is read", node.name)
        return replace(node, blob=None)

    def _found(self, blob: BlobId, content: Content, at_ns: int) -> Content | None:
        """Return what a blob is where it should be ``content``; None where it is gone."""
        is_vague = content.sha256 is None and content.revision is None  # nothing is said but the length
        try:
            size = self._blobs.path(blob).stat().st_size
            if size == content.size and (at_ns < self._since_ns or is_vague):
                return content
            found = Content(size, self._blobs.sha256(blob))
        except FileNotFoundError:
            return None
        return content if (found.size, found.sha256) == (content.size, content.sha256) else found

    def versions(self) -> Iterator[tuple[Version, Content | None]]:
        """Yield each version of the history that is not what it was, and what it is; None: it is gone. Blocks."""
        for version, at_ns in self._versions:
            if version.blob is None:
                continue
            found = self._found(version.blob, version.content, at_ns)
            if found != version.content:
                _log.info("a version of %r did not reach the disk as it was", version.path)
                yield version, found
