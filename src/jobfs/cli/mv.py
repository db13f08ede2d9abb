"""``jobfs mv``: move or rename within a workspace."""

from __future__ import annotations

from typing import Annotated

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.listed import list_workspace
from jobfs.cli.remote import open_writable, run
from jobfs.errors import Refused, SettingsError
from jobfs.workspace.changes import check_parent, open_writer, target_in
from jobfs.workspace.places import Place, parse_place
from jobfs.workspace.settings import Settings
from jobfs.workspace.states import state_root


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("mv", epilog="Example: jobfs mv abc123:/draft.md abc123:/reports/")(mv)


def mv(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="JOB:/PATH", help="What to move.")],
    target: Annotated[str, typer.Argument(metavar="JOB:/PATH", help="Where to; a directory takes it in.")],
) -> None:
    """Move or rename a file or directory of a workspace. A file that is there is replaced."""
    place, wanted = parse_place(source), parse_place(target)
    if place.job != wanted.job:
        raise SettingsError("mv works within one workspace", "use jobfs get and jobfs put between two")
    run(_move(load_settings(context), place, wanted))


async def _move(settings: Settings, place: Place, wanted: Place) -> None:
    async with (
        open_writable(settings, place) as remote,
        open_writer(remote, state_root(), settings.url, place.job) as writer,
    ):
        snapshot = await list_workspace(remote)
        found = snapshot.at(place)
        if not found.path:
            raise Refused(f"{place} is the root of the workspace, which cannot be moved", "name what is in it")
        there = snapshot.get(wanted.path)
        renames = found.is_directory and there is None  # then "new-name/" names the new directory itself
        target = Place(wanted.job, wanted.path) if renames else target_in(snapshot, wanted, found.name)
        check_parent(snapshot, target)
        if target.path != found.path:
            await writer.move(place, found, target, snapshot.get(target.path), snapshot)
