"""``jobfs runs``: list runs, whose files ``jobfs outputs`` brings here and ``jobfs mount run:RUN`` shows."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from jobfs.api.wire import Run
from jobfs.cli.choices import load_settings
from jobfs.cli.context import open_runs
from jobfs.cli.remote import run
from jobfs.cli.terminal import local_time, say_json, say_table, tell
from jobfs.cli.whole import Whole
from jobfs.workspace.follow import status_of
from jobfs.workspace.settings import Settings

_app = typer.Typer(
    cls=Whole,
    help="List runs, whose files can be brought here.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="Example: jobfs runs list",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="runs")


@_app.command("list", epilog="Example: jobfs runs list --limit 5")
def list_(
    context: typer.Context,
    status: Annotated[str | None, typer.Option(help="Only runs of this status, such as completed.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, as the server orders them.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List runs: 'jobfs outputs RUN DIR' brings the files of one here, 'jobfs mount run:RUN DIR' shows them."""
    found = run(_list(load_settings(context), status, limit))
    if json:
        say_json([_as_json(one) for one in found])
        return
    if not found:
        tell("there is no such run" if status else "there is no run yet")
        return
    rows = [(one.id, status_of(one), _name(one), local_time(one.timing.created_at)) for one in found]
    say_table(("id", "status", "of", "created"), rows, whole=("id", "created"))


async def _list(settings: Settings, status: str | None, limit: int) -> list[Run]:
    found: list[Run] = []
    async with open_runs(settings) as runs:
        async for one in runs.iter_runs():
            if status is None or status_of(one) == status:
                found.append(one)
            if len(found) == limit:
                break
    return found


def _name(one: Run) -> str:
    """Return what was run, where the server says it."""
    name = one.source.get("name")
    return name if isinstance(name, str) else one.type


def _as_json(one: Run) -> dict[str, Any]:
    return {
        "id": one.id,
        "status": status_of(one),
        "finished": one.finished,
        "of": _name(one),
        "createdAt": one.timing.created_at,
        "completedAt": one.timing.completed_at,
    }
