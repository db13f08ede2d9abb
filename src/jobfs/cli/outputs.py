"""``jobfs outputs``: bring the files of a run here, while it goes on and when it has finished."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import typer

from jobfs.api.runs import Runs
from jobfs.api.wire import Run
from jobfs.cli.choices import load_settings
from jobfs.cli.context import open_runs
from jobfs.cli.failures import RUN_CODES
from jobfs.cli.fronts import Listener, front_of
from jobfs.cli.once import folder_order, synchronise
from jobfs.cli.remote import run
from jobfs.cli.sync import DirectoryArgument, EventsOption
from jobfs.cli.terminal import say, shown
from jobfs.cli.waiting import pull_while
from jobfs.workspace.follow import follow_run, status_of
from jobfs.workspace.places import RUN_PREFIX
from jobfs.workspace.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("outputs", epilog="Example: jobfs outputs run_abc123 ~/outputs")(outputs)


def outputs(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run.")],
    directory: DirectoryArgument,
    wait: Annotated[bool, typer.Option(help="Go on until the run has finished.")] = True,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds after which to give up the wait.")] = None,
    json: EventsOption = False,
) -> None:
    """Bring the files of a run into a folder as they appear; the exit code tells how the run has ended."""
    settings = load_settings(context)
    name = run_id.removeprefix(RUN_PREFIX)
    order = replace(folder_order(settings, RUN_PREFIX + name, directory, command="pull"), direction="pull")
    front = front_of(order, as_json=json)
    found = run(_look(settings, name))
    if found.finished or not wait:
        with front.listening(f"run {name}") as listener:
            _tell(listener, name, status_of(found))
        synchronise(order, front)
    else:

        async def finish(listener: Listener, look: Callable[[], None]) -> Run:
            async with open_runs(settings) as runs:
                return await _finished(runs, name, timeout, listener, look)

        found = pull_while(order, front, finish, text=f"run {name}")
    if not json:
        say(shown(f"{name} {status_of(found)}"))
    if found.finished:
        raise typer.Exit(RUN_CODES.get(found.status, 0))


async def _look(settings: Settings, run_id: str) -> Run:
    async with open_runs(settings) as runs:
        return await runs.get_run(run_id)


async def _finished(
    runs: Runs, run_id: str, timeout_s: float | None, listener: Listener, look: Callable[[], None]
) -> Run:
    """Return the run once it has finished.

    :raises DeadlineExceeded: it has not in time.
    """

    def changed(found: Run) -> None:
        _tell(listener, run_id, status_of(found))
        look()

    return await follow_run(runs, run_id, timeout_s=timeout_s, on_run=changed)


def _tell(listener: Listener, run_id: str, status: str) -> None:
    listener.show(f"run {run_id}: {status}")
    listener.step(status, {"event": "status", "run": run_id, "status": status})
