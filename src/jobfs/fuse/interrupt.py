"""Whether the signal that interrupts a waiting system call is one to give up for.

The kernel sends FUSE_INTERRUPT for *any* signal. On a local disk only a deadly signal ends a read early, and programs
count on that: a window resize or a timer must not make a read fail with EINTR. So the state of the waiting thread
decides: it is given up on when it is to die, or when somebody wants it to stop.
"""

from __future__ import annotations

import signal
from pathlib import Path

_WANTED_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL)
_HARMLESS_BY_DEFAULT = (
    *(signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT),
    *(signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
)


def _mask(signals: tuple[signal.Signals, ...]) -> int:
    return sum(1 << (number - 1) for number in signals)


_STOPS = _mask(_WANTED_STOPS)
_HARMLESS = _mask(_HARMLESS_BY_DEFAULT)


def is_to_stop(thread: int) -> bool:
    """Tell whether a thread waits with a signal pending that is to end it or its work.

    :param thread: its number as the kernel gave it; of one that cannot be looked at (0, gone, in another namespace) the
        answer is yes, so that nothing hangs.
    """
    try:
        status = Path(f"/proc/{thread}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True
    return is_stopped_by(status)


def is_stopped_by(status: str) -> bool:
    """Tell the same from the text of ``/proc/PID/status`` (proc_pid_status(5))."""
    masks = {"SigPnd": 0, "ShdPnd": 0, "SigBlk": 0, "SigIgn": 0, "SigCgt": 0}
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name in masks:
            masks[name] = int(value, 16)
    pending = (masks["SigPnd"] | masks["ShdPnd"]) & ~masks["SigBlk"] & ~masks["SigIgn"]
    deadly = pending & ~masks["SigCgt"] & ~_HARMLESS
    return bool(pending & _STOPS) or bool(deadly)
