"""``jobfs rm``: delete files of a workspace."""

from __future__ import annotations

from typing import Annotated

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.listed import list_workspace
from jobfs.cli.remote import open_writable, run
from jobfs.errors import Refused
from jobfs.workspace.changes import open_writer
from jobfs.workspace.places import Place, parse_place
from jobfs.workspace.settings import Settings
from jobfs.workspace.sight import locate
from jobfs.workspace.states import state_root


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rm", epilog="Example: jobfs rm -r abc123:/old-reports")(rm)


def rm(
    context: typer.Context,
    places: Annotated[list[str], typer.Argument(metavar="JOB:/PATH...", help="Files, or with -r directories.")],
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Also directories with all they hold.")] = False,
) -> None:
    """Delete files. What belongs to all jobs, and what the runtime keeps, is refused."""
    wanted = [parse_place(place) for place in places]
    settings = load_settings(context)
    for place in wanted:
        run(_remove(settings, place, is_recursive=recursive))


async def _remove(settings: Settings, place: Place, *, is_recursive: bool) -> None:
    async with (
        open_writable(settings, place) as remote,
        open_writer(remote, state_root(), settings.url, place.job) as writer,
    ):
        found = await locate(remote, place)
        if not found.is_directory:
            await writer.remove_file(place, found)
            return
        if not is_recursive:
            raise Refused(f"{place} is a directory", "add -r to delete it with all that it holds")
        # What goes with a directory must have been seen.
        snapshot = await list_workspace(remote)
        await writer.remove(place, snapshot.at(place), snapshot)
