"""``jobfs refresh``: look at the server now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobfs.cli.terminal import many, progress, say
from jobfs.workspace.instance import find


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("refresh", epilog="Example: jobfs refresh ~/job")(refresh)


def refresh(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The mount or folder, or a path in it.")],
) -> None:
    """Have a mount or synchronised folder look at the server now, and return when it shows what is there."""
    found, _ = find(directory)
    with progress("listing the workspace"):
        told = found.ask("refresh", timeout_s=120.0)
    say(f"{many(told['items'], 'item')}; the job is {told['jobStatus']}")
