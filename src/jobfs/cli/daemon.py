"""Serve in the background: a new process in a session of its own, which is told what to do through a pipe.

Starting anew instead of forking means that no thread, lock or event loop is inherited. The order, with the key in it,
goes through the standard input; what is to be told, up to the readiness or the failure, comes back as lines of JSON
through the standard output. Nothing of it is in the arguments or the environment of the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import typer

from jobfs.cli.failures import of_bug, of_local_file
from jobfs.cli.instance import Instance, read_instance
from jobfs.cli.order import Order
from jobfs.cli.outcome import Outcome
from jobfs.cli.serving import serve
from jobfs.cli.terminal import progress, shown, tell
from jobfs.errors import Interrupted, JobfsError
from jobfs.folder.report import SyncEvent
from jobfs.folder.sync import FolderSync
from jobfs.workspace.meter import Meter
from jobfs.workspace.settings import SECRET_VARIABLES

COMMAND = "daemon"
CRASH_NAME = "crash.txt"


def register(app: typer.Typer) -> None:
    """Add the command; it is for jobfs itself."""
    app.command(COMMAND, hidden=True)(daemon)


# -- the command's side


def start_in_background(order: Order) -> Instance:
    """Start a process that serves; return its record when it does.

    :raises JobfsError: it could not, with the reason and the exit code that it gave.
    """
    root = Path(order.state_root)
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    environment = {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}
    crash_path = root / CRASH_NAME
    with crash_path.open("wb") as crash:
        process = subprocess.Popen(
            # -P: what lies in the current directory must not be taken for a module of Python or of ours.
            [sys.executable, "-P", "-m", "jobfs", COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=crash,
            env=environment,
            start_new_session=True,
        )
    return _attend(process, order, crash_path)


def _attend(process: subprocess.Popen[bytes], order: Order, crash_path: Path) -> Instance:
    if process.stdin is None or process.stdout is None:
        raise AssertionError("the pipes were asked for")
    try:
        with progress("listing the workspace"), process.stdout as answers:
            with process.stdin as orders:
                orders.write(order.to_line())
            return _await_ready(answers)
    except (BrokenPipeError, EOFError):
        process.wait()
        words = crash_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = words[-1] if words else f"it ended with code {process.returncode}"
        raise JobfsError(f"the background process could not start: {reason}", "try --foreground --debug") from None
    except JobfsError:
        process.wait()  # it is ending; afterwards it holds nothing any more, and another try meets nobody
        raise
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise Interrupted("stopped before it was ready") from None
    finally:
        # It goes on by itself; this object must not warn about that when it is collected.
        process.returncode = process.returncode if process.returncode is not None else 0


def _await_ready(answers: BinaryIO | Any) -> Instance:
    for line in answers:
        told = json.loads(line)
        match told["event"]:
            case "note":
                tell(f"jobfs: {shown(told['line'])}")
            case "ready":
                found = read_instance(Path(told["state"]))
                if found is None:
                    raise JobfsError(f"the record in {told['state']} is not readable", "see 'jobfs status'")
                return found
            case "failed":
                failure = JobfsError(told["cause"], told["remedy"])
                failure.exit_code = told["exit_code"]
                raise failure
    raise EOFError


# -- the process in the background


class _Pipe:
    """Satisfies ``service.Front``: tells the command that started us; silent once it is told that we serve."""

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

    def happened(self, event: SyncEvent) -> None:
        """Say nothing: the log has it."""

    def draining(self, left: int) -> None:
        """Say nothing: who asked for the end is told through the control socket."""

    def working(self, sync: FolderSync, meter: Meter) -> AbstractAsyncContextManager[None]:
        """Show nothing: the command has a display of its own."""
        return nullcontext()

    def ended(self, outcome: Outcome) -> None:
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


def daemon() -> None:
    """Serve what is ordered through the standard input. For jobfs itself."""
    order = Order.from_line(sys.stdin.buffer.readline())
    os.dup2(os.open(os.devnull, os.O_RDWR), sys.stdin.fileno())
    os.chdir("/")  # whatever directory we were started in can be unmounted
    pipe = _Pipe()
    try:
        code = serve(order, pipe)
    except JobfsError as error:
        pipe.failed(error)
        raise typer.Exit(error.exit_code) from None
    except OSError as error:
        pipe.failed(of_local_file(error))
        raise
    except Exception as error:
        pipe.failed(of_bug(error))
        raise
    raise typer.Exit(code)
