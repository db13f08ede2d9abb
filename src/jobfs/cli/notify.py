"""Tell the user's desktop of conflicts, through the means of the platform: ``notify-send`` or ``osascript``.

Nothing waits for it and nothing depends on it: it runs as a process of its own that is ended after a few seconds. Many
conflicts at once are one notification. Where there is no desktop nothing is done at all.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from jobfs.cli.terminal import shown
from jobfs.workspace.variables import SECRET_VARIABLES

NOTIFICATIONS = "JOBFS_NOTIFICATIONS"
"""Environment variable: ``off`` keeps quiet."""

_DEADLINE_S = 10.0
_GATHER_S = 1.0
_MOST_CHARACTERS = 200
_APPLESCRIPT = """on run words
display notification (item 2 of words) with title (item 1 of words)
end run"""

_log = logging.getLogger(__name__)


def means(environment: Mapping[str, str], platform: str = sys.platform) -> Sequence[str]:
    """Return the command to which title and text are added; empty where there is no desktop to tell.

    :param platform: as ``sys.platform``.
    """
    if environment.get(NOTIFICATIONS, "").lower() == "off":
        return ()
    path = environment.get("PATH")
    if platform == "darwin":
        found = shutil.which("osascript", path=path)
        return (found, "-e", _APPLESCRIPT) if found else ()
    has_desktop = environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")
    found = shutil.which("notify-send", path=path) if has_desktop else None
    return (found, "--app-name=jobfs", "--") if found else ()


class Desktop:
    """The desktop of the user; made within the loop.

    :param command: see ``means``.
    """

    def __init__(self, command: Sequence[str] | None = None) -> None:
        self._command = means(os.environ) if command is None else command
        self._paths: list[str] = []
        self._task: asyncio.Task[None] | None = None

    def conflict(self, path: str, directory: str) -> None:
        """Tell of a conflict at a path of a mount or folder; returns at once."""
        if not self._command:
            return
        self._paths.append(path)
        if self._task is None:
            self._task = asyncio.create_task(self._tell(directory), name="notify")

    async def close(self) -> None:
        """Give up what was not told yet."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _tell(self, directory: str) -> None:
        while self._paths:
            await asyncio.sleep(_GATHER_S)
            paths, self._paths = self._paths, []
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            text = f"{shown(paths[0])[:_MOST_CHARACTERS]}{more} in {directory}: see 'jobfs conflicts'"
            await self._run("jobfs: both sides changed a file", text)
        self._task = None

    async def _run(self, title: str, text: str) -> None:
        # Not asyncio's own subprocesses: ending one that ends by itself in that moment is a race which they report.
        try:
            process = _started([*self._command, title, text])
        except OSError as error:
            _log.info("the desktop cannot be told: %s", error)
            return
        waiting = asyncio.ensure_future(asyncio.to_thread(_wait, process))
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            process.kill()
            await waiting
            raise


def _started(command: Sequence[str]) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env=environment)


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_DEADLINE_S)
    except subprocess.TimeoutExpired:
        _log.info("the desktop does not take a notification")
        process.kill()
        process.wait()
