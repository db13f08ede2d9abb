"""``jobfs rm``: delete files of a workspace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.listed import list_workspace
from jobfs.cli.remote import by_job, open_writable, run
from jobfs.engine.remote import Remote
from jobfs.errors import Refused
from jobfs.workspace.changes import Writer, open_writer
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
    for places_of_one in by_job(wanted):
        run(_remove_all(settings, places_of_one, is_recursive=recursive))


async def _remove_all(settings: Settings, places: Sequence[Place], *, is_recursive: bool) -> None:
    """Delete from one workspace, over one connection."""
    async with (
        open_writable(settings, places[0]) as remote,
        open_writer(remote, state_root(), settings.url, places[0].job) as writer,
    ):
        for place in places:
            await _remove(remote, writer, place, is_recursive=is_recursive)


async def _remove(remote: Remote, writer: Writer, place: Place, *, is_recursive: bool) -> None:
    found = await locate(remote, place)
    if not found.is_directory:
        await writer.remove_file(place, found)
        return
    if not is_recursive:
        raise Refused(f"{place} is a directory", "add -r to delete it with all that it holds")
    # What goes with a directory must have been seen.
    snapshot = await list_workspace(remote)
    await writer.remove(place, snapshot.at(place), snapshot)
