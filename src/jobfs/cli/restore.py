"""``jobfs restore``: bring a version of a file back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobfs.cli.remote import run
from jobfs.cli.review import copy_of
from jobfs.cli.terminal import local_time, progress, say, shown
from jobfs.errors import SettingsError
from jobfs.workspace.copies import AsyncLocalCopy


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("restore", epilog="Example: jobfs restore ~/job/notes.md --at 1")(restore)


def restore(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file, also a deleted one.")],
    at: Annotated[int, typer.Option("--at", min=1, metavar="VERSION", help="Which one: see jobfs history PATH.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="OTHER", help="Put it here, in the same mount or folder.")
    ] = None,
) -> None:
    """Bring a version of a file back. It is sent like any save, and what it replaces becomes a version itself."""
    copy, inner = copy_of(context, path)
    target = None if to is None else _beside(context, copy, to)
    with progress(f"restoring version {at}"):
        put = run(copy.restore(inner, at, to=target))
    what = f"version {at}" + (f" of {local_time(put.written)}" if put.written else "")
    say(shown(f"{to or path} is {what}" if put.is_changed else f"{to or path} has these bytes already"))


def _beside(context: typer.Context, copy: AsyncLocalCopy, to: Path) -> str:
    """Return the other place, from the root.

    :raises SettingsError: it is somewhere else.
    """
    other, inner = copy_of(context, to)
    if other.instance.state != copy.instance.state:
        raise SettingsError(f"{to} is not in {copy.directory}", "bring it back there, and copy it then")
    return inner
