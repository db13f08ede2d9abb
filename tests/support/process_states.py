"""How long a process was in uninterruptible sleep (state D of proc_pid_stat(5)), thread by thread."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_EVERY_S = 0.02


class StateWatch:
    """Looks at the threads of a process for as long as the context lasts. Linux only.

    ``longest_s`` is the longest time that one thread was in state D without a break.
    """

    def __init__(self, pid: int) -> None:
        self._tasks = Path(f"/proc/{pid}/task")
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="state-watch")
        self.longest_s = 0.0

    def __enter__(self) -> StateWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        since: dict[str, float] = {}
        while not self._is_over.wait(_EVERY_S):
            states = {task.name: state_of(task) for task in self._list()}
            now = time.monotonic()
            since = {task: since.get(task, now) for task, state in states.items() if state == "D"}
            self.longest_s = max([self.longest_s, *(now - began for began in since.values())])

    def _list(self) -> list[Path]:
        with suppress(OSError):  # it has ended
            return list(self._tasks.iterdir())
        return []


def state_of(process: Path) -> str:
    """Return the state letter of a process or thread; empty where it is gone."""
    with suppress(OSError):
        return (process / "stat").read_text().rpartition(")")[2].split()[0]
    return ""
