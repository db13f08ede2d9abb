"""``jobfs conflicts``: the conflict copies that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobfs.cli.terminal import say, say_json, shown
from jobfs.workspace.ended import conflicts_of
from jobfs.workspace.instance import Instance, find, instances


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("conflicts", epilog="Example: jobfs conflicts ~/job")(conflicts)


def conflicts(
    directory: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="Only of this mount, folder or path.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List conflict copies. To settle one: jobfs resolve, or keep what you want and remove the copy."""
    found = [
        {"directory": instance.directory, "job": instance.job, **copy}
        for instance, inner in ([find(directory)] if directory is not None else ((one, "") for one in instances()))
        for copy in _copies(instance)
        if not inner or copy["path"].startswith(f"{inner}/") or inner in (copy["path"], copy["original"])
    ]
    if json:
        say_json(found)
        return
    for one in found:
        say(shown(f"{one['directory']}/{one['path']}  beside  {one['original']}"))


def _copies(instance: Instance) -> list[dict[str, str]]:
    if instance.is_running():
        told: list[dict[str, str]] = instance.ask("conflicts")
        return told
    return conflicts_of(instance)
