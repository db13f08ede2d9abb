"""``jobfs restore``: bring a version of a file back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobfs.cli.spots import Spot, ask_past, local_time, spot_of
from jobfs.cli.terminal import progress, say, shown
from jobfs.errors import SettingsError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("restore", epilog="Example: jobfs restore ~/job/notes.md --at 1")(restore)


def restore(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file, also a deleted one.")],
    at: Annotated[int, typer.Option("--at", min=1, metavar="VERSION", help="Which one: see jobfs history PATH.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="OTHER", help="Put it here, in the same mount or folder.")
    ] = None,
) -> None:
    """Bring a version of a file back. It is sent like any save, and what it replaces becomes a version itself."""
    spot = spot_of(path)
    target = spot if to is None else _beside(spot, to)
    with progress(f"restoring version {at}"):
        told = ask_past(spot, "restore", version=at, target=target.path)
    written = local_time(told["written"])
    what = f"version {at}" + (f" of {written}" if written else "")
    say(shown(f"{to or path} is {what}" if told["isChanged"] else f"{to or path} has these bytes already"))


def _beside(spot: Spot, to: Path) -> Spot:
    """Return the other place.

    :raises SettingsError: it is somewhere else.
    """
    other = spot_of(to)
    if other.instance.state != spot.instance.state:
        raise SettingsError(f"{to} is not in {spot.instance.directory}", "bring it back there, and copy it then")
    return other
