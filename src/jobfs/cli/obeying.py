"""What the process in the background does with its order: it serves, and tells how that goes through a pipe."""

from __future__ import annotations

import json
import os
import sys
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from jobfs.cli.failures import failure_of
from jobfs.cli.order import CRASH_NAME, Order
from jobfs.cli.serving import serve
from jobfs.errors import JobfsError
from jobfs.workspace.instance import Instance


class _Pipe:
    """Satisfies ``synced.FolderFront``: tells the command that started us; silent once it is told that we serve."""

    def __init__(self) -> None:
        self._file: BinaryIO | None = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
        os.dup2(os.open(os.devnull, os.O_RDWR), sys.stdout.fileno())

    def note(self, line: str) -> None:
        """Tell something that is no failure."""
        self._send({"event": "note", "line": line})

    def ready(self, instance: Instance) -> None:
        """Tell that it serves; the last thing to be told."""
        self._send({"event": "ready", "state": str(instance.state)})
        self._close()

    def failed(self, error: JobfsError) -> None:
        """Tell that it does not."""
        self._send({"event": "failed", "cause": error.cause, "remedy": error.remedy, "exit_code": error.exit_code})
        self._close()

    def happened(self, event: object) -> None:
        """Say nothing: the log has it."""

    def draining(self, left: int) -> None:
        """Say nothing: who asked for the end is told through the control socket."""

    def working(self, sync: object, meter: object) -> AbstractAsyncContextManager[None]:
        """Show nothing: the command has a display of its own."""
        return nullcontext()

    def ended(self, outcome: object) -> None:
        """Say nothing: the log has every event of it."""

    def _send(self, value: dict[str, object]) -> None:
        if self._file is not None:
            try:
                self._file.write(json.dumps(value).encode() + b"\n")
            except BrokenPipeError:
                self._close()  # the command is gone; that is no reason to stop

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def obey(line: bytes) -> int:
    """Serve what is ordered; return the exit code.

    :param line: see ``Order.to_line``.
    """
    order = Order.from_line(line)
    os.dup2(os.open(os.devnull, os.O_RDWR), sys.stdin.fileno())
    pipe = _Pipe()
    try:
        _settle(Path(order.state_root))
        return serve(order, pipe)
    except JobfsError as error:
        pipe.failed(error)
        return error.exit_code
    except Exception as error:
        pipe.failed(failure_of(error))
        raise


def _settle(root: Path) -> None:
    """Depend no longer on where and by whom we were started.

    :param root: the folder of all states, which keeps our complaints.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    crash = os.open(root / CRASH_NAME, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(crash, sys.stderr.fileno())
    os.close(crash)
    os.chdir("/")  # whatever directory we were started in can be unmounted
