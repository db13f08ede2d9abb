"""Run the command line on a pseudo-terminal, as a person does."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios

from commands import COMMAND, DEADLINE_S, without_size

ROWS = 30


def on_terminal(
    *words: object, columns: int = 80, until: str = "", then: bytes = b"", command: list[str] | None = None
) -> tuple[int, str]:
    """Run a command whose input and outputs are a terminal; return its code, and all that came there.

    :param until: once this is shown, ``then`` is typed.
    :param command: instead of jobfs.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    with subprocess.Popen(
        [*(command or COMMAND), *map(str, words)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**without_size(os.environ), "TERM": "xterm"},
        preexec_fn=_own_terminal,
    ) as running:
        os.close(theirs)
        shown = b""
        while piece := _next(ours, running):
            shown += piece
            if then and until.encode() in shown:
                os.write(ours, then)
                then = b""
        code = running.wait(DEADLINE_S)
    os.close(ours)
    return code, shown.decode()


def _next(terminal: int, running: subprocess.Popen[bytes]) -> bytes:
    if not select.select([terminal], [], [], DEADLINE_S)[0]:
        running.kill()
        raise AssertionError("nothing is shown any more, and the command does not end")
    return read(terminal)


def _own_terminal() -> None:
    """Make the terminal the one that controls the process, so that Ctrl-C typed there reaches it."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def read(terminal: int) -> bytes:
    """Return what comes next; nothing once nobody has the other end open any more."""
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # this is how Linux says it
        return b""
