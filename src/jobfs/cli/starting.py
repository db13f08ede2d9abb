"""Have an order served: in this process, or by one in the background.

The order, with the key in it, goes through the standard input of that process; what is to be told, up to the readiness
or the failure, comes back as lines of JSON through its standard output. Nothing of it is in its arguments.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from jobfs.cli.launch import take
from jobfs.cli.loading import load
from jobfs.cli.order import CRASH_NAME, Order
from jobfs.cli.process import Process
from jobfs.cli.terminal import Progress, progress
from jobfs.errors import Interrupted, JobfsError
from jobfs.workspace.instance import Instance, read_instance


def serve_here(order: Order) -> int:
    """Serve in this process until the user ends it; return the exit code."""
    code: int = load("serving").serve(order, load("fronts").front_of(order))
    return code


def start_in_background(order: Order) -> Instance:
    """Have a process serve; return its record when it does.

    :raises JobfsError: it could not, with the reason and the exit code that it gave.
    """
    crash = Path(order.state_root) / CRASH_NAME
    crash.unlink(missing_ok=True)  # what an earlier one complained of
    process = take()
    try:
        with progress("listing the workspace") as display:
            with process.orders as orders:
                orders.write(order.to_line())
            return _await_ready(process.answers, display)
    except (BrokenPipeError, EOFError):
        reason = _last_words(process, process.wait(), crash)
        raise JobfsError(f"the background process could not start: {reason}", "try --foreground --debug") from None
    except JobfsError:
        process.wait()  # it is ending; afterwards it holds nothing any more, and another try meets nobody
        raise
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise Interrupted("stopped before it was ready") from None
    finally:
        process.let_go()


def _await_ready(answers: Iterable[bytes], display: Progress) -> Instance:
    for line in answers:
        told = json.loads(line)
        match told["event"]:
            case "note":
                display.step(f"jobfs: {told['line']}")
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


def _last_words(process: Process, code: int, crash: Path) -> str:
    """Return the last line of what a process that has ended complained of, before it had its order or after."""
    complaints = process.complaints.read() or (crash.read_bytes() if crash.exists() else b"")
    lines = complaints.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"it ended with code {code}"
