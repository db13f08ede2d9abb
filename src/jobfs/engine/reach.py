"""Whether the server can be reached, and when it is worth asking again.

A server that failed is spared: each pause is longer than the one before, up to a minute. Where nobody answers at all
there is nobody to spare, and the user waits: one small request at a time asks whether somebody is there, so that a
network that comes back is noticed within seconds, however long it was gone. Nothing else is sent meanwhile: it would
only hang.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from jobfs.engine.attention import FIRST_PAUSE_S, LAST_PAUSE_S
from jobfs.engine.remote import Remote
from jobfs.errors import JobfsError, Unreachable

_log = logging.getLogger(__name__)

SILENCE_S = 1.0
"""The pause between two questions whether somebody is there."""

_ANSWER_S = 3.0


class Reach:
    """How the server of one session is reached.

    :param on_back: called when it is worth asking again; told whether nobody had answered until then.

    ``error``: why it is not reached now, or None.
    """

    def __init__(self, remote: Remote, on_back: Callable[[bool], None]) -> None:
        self._remote = remote
        self._on_back = on_back
        self._pause_s = FIRST_PAUSE_S
        self._waiting: asyncio.Task[None] | None = None
        self.error: JobfsError | None = None

    @property
    def is_silent(self) -> bool:
        """Whether nobody answers."""
        return isinstance(self.error, Unreachable)

    def lost(self, error: JobfsError) -> None:
        """Note that the server could not be reached or did not take us."""
        if self.error is None:
            _log.info("the server cannot be reached: %s", error)
            self.error = error
            self.wait()

    def found(self) -> None:
        """Note that the server does what it is asked for."""
        self._pause_s = FIRST_PAUSE_S
        self.error = None
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def wait(self) -> None:
        """Have it told when it is worth asking again."""
        if self._waiting is None or self._waiting.done():
            self._waiting = asyncio.create_task(self._wait(), name="session-pause")

    async def stop(self) -> None:
        """End the waiting."""
        if self._waiting is not None:
            self._waiting.cancel()
            with suppress(asyncio.CancelledError):
                await self._waiting

    async def _wait(self) -> None:
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(self._pause_s * 2, LAST_PAUSE_S)
        was_silent = self.is_silent
        while self.is_silent:
            if await self._is_answered():
                break
            await asyncio.sleep(SILENCE_S)
        self.error = self._waiting = None
        self._on_back(was_silent)

    async def _is_answered(self) -> bool:
        """Tell whether the server answers, whatever it says."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._remote.status()
        except (Unreachable, TimeoutError):
            return False
        except JobfsError as error:
            _log.info("the server answers: %s", error)
        return True
