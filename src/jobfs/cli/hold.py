"""``jobfs hold``: keep changes here until they are looked at, or let them go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobfs.cli.remote import run
from jobfs.cli.review import copy_of
from jobfs.cli.terminal import many, say
from jobfs.errors import SettingsError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("hold", epilog="Example: jobfs hold ~/job; jobfs diff ~/job; jobfs push ~/job")(hold)


def hold(
    context: typer.Context,
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The mount point or folder; else the current directory's.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Hold no more, and send what was held.")] = False,
) -> None:
    """Keep changes here until they are looked at: nothing is sent but by 'jobfs push'. What others change still comes.

    'jobfs diff' shows what is held, 'jobfs push' sends all or a part of it, 'jobfs revert' undoes it. It stays so when
    the mount ends, until --off.
    """
    found, inner = copy_of(context, directory)
    if inner:
        raise SettingsError("only a whole mount or folder can be held", f"write jobfs hold {found.directory}")
    is_running = found.is_running
    number = run(found.hold(is_on=not off))
    changes = many(number, "change")
    if not off:
        say(f"changes in {found.directory} are held" + (f"; {changes} already: see 'jobfs diff'" if number else ""))
    elif is_running:
        say(f"changes in {found.directory} are sent again" + (f", {changes} now" if number else ""))
    else:
        say(f"changes in {found.directory} are no longer held" + (f"; 'jobfs push' sends {changes}" if number else ""))
