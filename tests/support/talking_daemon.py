"""A mount in a process of its own that is told what happens on its server, and to watch itself: ``mount/daemon.py``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jobfs
from jobfs.fuse import mounting

DAEMON = Path(__file__).resolve().parents[1] / "mount" / "daemon.py"


class TalkingDaemon:
    """Mounts below a folder, for as long as its context lasts.

    :param user: as whom, where that is another one; the folder must be his.
    """

    def __init__(self, folder: Path, *, user: int | None = None) -> None:
        self._point = folder / "mnt"
        self._point.mkdir(exist_ok=True)
        words = [sys.executable, DAEMON, folder / "state", self._point, *([] if user is None else [str(user)])]
        environment = {**os.environ, "PYTHONPATH": str(Path(jobfs.__file__).parents[1])}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, env=environment, text=True)

    def __enter__(self) -> TalkingDaemon:
        self.hear("ready")
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        if mounting.mount_at(self._point) is not None:
            mounting.detach(self._point, lazy=True)

    def tell(self, line: str) -> None:
        """Say something to it."""
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)

    def hear(self, wanted: str) -> None:
        """Return when it has said something."""
        assert self._process.stdout is not None
        said = []
        while line := self._process.stdout.readline():
            if line.rstrip("\n") == wanted:
                return
            said.append(line)
        pytest.fail(f"not said: {wanted}, but {said}")

    def children(self) -> list[int]:
        """Return the numbers of the processes that it has started."""
        tasks = Path(f"/proc/{self._process.pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]

    def kill(self) -> None:
        """End it, without asking."""
        self._process.kill()
        self._process.communicate()
