"""``jobfs conflicts``: the conflict copies that are there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from jobfs.cli.report import conflict_copies
from jobfs.cli.terminal import say, say_json, shown
from jobfs.errors import MountError
from jobfs.store.state import State
from jobfs.workspace.instance import Instance, instances
from jobfs.workspace.states import real_directory


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("conflicts", epilog="Example: jobfs conflicts ~/job")(conflicts)


def conflicts(
    directory: Annotated[Path | None, typer.Argument(metavar="DIR", help="Only of this mount or folder.")] = None,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List conflict copies. To settle one: jobfs resolve, or keep what you want and remove the copy."""
    found = [
        {"directory": instance.directory, "job": instance.job, **copy}
        for instance in _wanted(directory)
        for copy in _copies(instance)
    ]
    if json:
        say_json(found)
        return
    for one in found:
        say(shown(f"{one['directory']}/{one['path']}  beside  {one['original']}"))


def _wanted(directory: Path | None) -> Iterator[Instance]:
    if directory is None:
        yield from instances()
        return
    place = real_directory(directory)
    found = [instance for instance in instances() if instance.directory == place]
    if not found:
        raise MountError(f"nothing of jobfs was ever mounted or synchronised at {directory}", "see 'jobfs status'")
    yield from found


def _copies(instance: Instance) -> list[dict[str, str]]:
    if instance.is_running():
        told: list[dict[str, str]] = instance.ask("conflicts")
        return told
    state = State.open(instance.state)
    try:
        return conflict_copies(state, instance.directory)
    finally:
        state.close()
