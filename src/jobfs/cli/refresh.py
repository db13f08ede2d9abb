"""``jobfs refresh``: look at the server now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobfs.cli.mount import MaxDeleteOption, YesOption
from jobfs.cli.terminal import many, progress, say
from jobfs.cli.wishes import allowed_deletions
from jobfs.workspace.instance import find


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("refresh", epilog="Example: jobfs refresh ~/job")(refresh)


def refresh(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The mount or folder, or a path in it.")],
    max_delete: MaxDeleteOption = None,
    yes: YesOption = False,
) -> None:
    """Have a mount or synchronised folder look at the server now, and return when it shows what is there.

    Where most of the files are gone on the server, they stay here until --yes or --max-delete says that it is meant.
    """
    found, _ = find(directory)
    with progress("listing the workspace"):
        told = found.ask("refresh", timeout_s=120.0, allow=allowed_deletions(max_delete, is_any=yes))
    say(f"{many(told['items'], 'item')}; the job is {told['jobStatus']}")
