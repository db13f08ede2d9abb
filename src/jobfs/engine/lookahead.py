"""Hydrate ahead of readers: who reads two files of a directory will read its others.

Small files only, in the order of the directory, a bounded number at once and within a budget of bytes, and never more
than one wave per directory at a time. A download that nobody comes for costs its bytes; the budget bounds that.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import Enum, unique

from jobfs.engine.hydrator import Hydrator
from jobfs.engine.workspace import Workspace
from jobfs.errors import JobfsError
from jobfs.model import LocalNode, NodeId

SMALL_BYTES = 256 << 10
WAVE_BYTES = 32 << 20
PARALLEL = 24
_READS_BEFORE = 2


@unique
class Prefetch(Enum):
    """What is brought here before anybody reads it."""

    NONE = "none"
    SMALL = "small"
    ALL = "all"


class LookAhead:
    """Watches cold reads and starts downloads."""

    def __init__(self, workspace: Workspace, hydrator: Hydrator, mode: Prefetch) -> None:
        self._workspace = workspace
        self._hydrator = hydrator
        self._mode = mode
        self._cold_reads: dict[NodeId, set[NodeId]] = {}
        self._waves: dict[NodeId, asyncio.Task[None]] = {}

    def note(self, record: LocalNode) -> None:
        """Note a read of a file that is not here."""
        if self._mode is Prefetch.NONE:
            return
        directory = record.parent
        reads = self._cold_reads.setdefault(directory, set())
        reads.add(record.id)
        if len(reads) >= _READS_BEFORE and directory not in self._waves:
            self._waves[directory] = asyncio.create_task(self._wave(directory), name="look-ahead")

    async def _wave(self, directory: NodeId) -> None:
        wanted = iter(self._wanted(directory))

        async def one_after_another() -> None:
            for node in wanted:  # the same iterator for all of them: as one download ends, the next begins
                await self._fetch(node)

        try:
            await asyncio.gather(*(one_after_another() for _ in range(PARALLEL)))
        finally:
            self._waves.pop(directory, None)
            self._cold_reads.pop(directory, None)

    def _wanted(self, directory: NodeId) -> list[NodeId]:
        local = self._workspace.state.local
        budget = WAVE_BYTES
        wanted = []
        for node in local.children(directory).values():
            record = local.get(node)
            if record is None or record.blob is not None or record.content is None or record.content.revision is None:
                continue
            size = record.content.size
            if size <= SMALL_BYTES or self._mode is Prefetch.ALL:
                budget -= size
                if budget < 0 and self._mode is Prefetch.SMALL:
                    break
                wanted.append(node)
        return wanted

    async def _fetch(self, node: NodeId) -> None:
        with suppress(JobfsError):  # nobody waits for it; whoever reads the file meets the error himself
            await self._hydrator.fetch(node)

    async def stop(self) -> None:
        """End the waves under way."""
        tasks = list(self._waves.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
