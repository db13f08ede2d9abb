"""Who waits for pages that a request has locked, as far as a transport can see.

Whoever reads a page of a file that somebody else reads already sleeps in the kernel (``folio_wait_bit_common``), and
asks us nothing. Programs that have opened the file themselves are known to the vfs. The threads of a program share one
opening, and so do processes that inherited it from one another: these are looked at here. One that has a file mapped,
and closed, is not seen: to read its mappings could wait for the very lock that it sleeps with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from jobfs.model import NodeId

_PROCESSES = Path("/proc")
_FRESH_S = 1.0
"""For so long it is remembered which processes sleep: many reads may wait, and each looks every few seconds."""


class Sleepers:
    """The programs of this machine that sleep uninterruptibly (state D of proc_pid_stat(5)).

    :param clock_s: gives monotonic seconds.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._looked_s = -_FRESH_S
        self._found: list[Path] = []

    def are_beside(self, thread: int, node: NodeId) -> bool:
        """Tell whether another thread of a thread's program sleeps so, or another process that has the file open.

        :param thread: its number as the kernel gave it. :param node: the file's, which is its inode number.
        """
        return threads_sleep_beside(thread) or any(_has_open(process, node) for process in self._all())

    def _all(self) -> list[Path]:
        now_s = self._clock_s()
        if now_s - self._looked_s >= _FRESH_S:
            self._found = [process for process in _listed(_PROCESSES) if process.name.isdecimal() and _sleeps(process)]
            self._looked_s = now_s
        return self._found


def threads_sleep_beside(thread: int) -> bool:
    """Tell whether another thread of a thread's program sleeps uninterruptibly.

    :param thread: its number as the kernel gave it; of one that cannot be looked at the answer is no.
    """
    tasks = _listed(_PROCESSES / str(thread) / "task")
    return any(_sleeps(other) for other in tasks if other.name != str(thread))


def _has_open(process: Path, node: NodeId) -> bool:
    """Tell whether a process has a descriptor of an inode with that number: ours, but for a rare chance.

    Of what cannot be looked at, such as another user's, the answer is no.
    """
    wanted = f"ino:\t{node}"
    for descriptor in _listed(process / "fdinfo"):
        with suppress(OSError):  # it was closed meanwhile
            if wanted in descriptor.read_text(encoding="utf-8", errors="replace").splitlines():
                return True
    return False


def _listed(directory: Path) -> Iterator[Path]:
    with suppress(OSError):  # there is none, or it has ended
        yield from directory.iterdir()


def _sleeps(task: Path) -> bool:
    """Tell whether a process or thread does; its state stands behind its name, which may contain anything."""
    with suppress(OSError):  # it has ended
        return (task / "stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2][:1] == "D"
    return False
