"""Who waits for pages that a request has locked, as far as a transport can see.

Whoever reads a page of a file that somebody else reads already sleeps in the kernel (``folio_wait_bit_common``), and
asks us nothing. Programs that have opened the file themselves are known to the vfs; the threads of a program share one
opening, and are looked at here. Processes that inherited a descriptor from one another are not seen.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def sleep_beside(thread: int) -> bool:
    """Tell whether another thread of a thread's program sleeps uninterruptibly (state D of proc_pid_stat(5)).

    :param thread: its number as the kernel gave it; of one that cannot be looked at the answer is no.
    """
    with suppress(OSError):
        return any(
            _state(other) == "D" for other in Path(f"/proc/{thread}/task").iterdir() if other.name != str(thread)
        )
    return False


def _state(task: Path) -> str:
    """Return a thread's state; it stands behind the program's name, which may contain anything."""
    with suppress(OSError):  # it has ended
        return (task / "stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2][:1]
    return ""
