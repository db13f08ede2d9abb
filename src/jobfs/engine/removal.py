"""When the files of removed blobs go: a second after the first of them was removed, all together.

Before that the disk has to have the commits that forgot them (``store.blobs``): one wait for the disk a second, and not
one for every file that a program deletes or saves. A thread does the waiting, so that the loop has little of it.
"""

from __future__ import annotations

import asyncio
import logging

from jobfs.errors import StateError
from jobfs.store.state import State

REST_S = 1.0

_log = logging.getLogger(__name__)


class Removal:
    """Lets the files of one state's removed blobs go."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._waiting = asyncio.Event()
        state.blobs.on_waiting = self._waiting.set

    async def run(self) -> None:
        """Go on until cancelled. Where the disk fails, they wait for a later turn, or for the next start."""
        while True:
            await self._waiting.wait()
            await asyncio.sleep(REST_S)
            self._waiting.clear()
            try:
                await asyncio.to_thread(self._state.sync_log)
                if self._state.blobs.has_waiting:
                    self._state.finish_removals()
            except StateError as error:
                _log.info("removed files stay for now: %s", error)
                self._waiting.set()
