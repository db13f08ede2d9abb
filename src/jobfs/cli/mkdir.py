"""``jobfs mkdir``: make directories in a workspace."""

from __future__ import annotations

from typing import Annotated

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.listed import list_workspace
from jobfs.cli.remote import open_writable, run
from jobfs.errors import PathExists
from jobfs.workspace.changes import check_parent, open_writer
from jobfs.workspace.places import Place, check_new, parse_place
from jobfs.workspace.settings import Settings
from jobfs.workspace.states import state_root


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("mkdir", epilog="Example: jobfs mkdir -p abc123:/reports/2026")(mkdir)


def mkdir(
    context: typer.Context,
    places: Annotated[list[str], typer.Argument(metavar="JOB:/PATH...", help="Directories.")],
    parents: Annotated[bool, typer.Option("-p", "--parents", help="Also those above; no failure if there.")] = False,
) -> None:
    """Make directories."""
    wanted = [parse_place(place) for place in places]
    for place in wanted:
        check_new(place)
    settings = load_settings(context)
    for place in wanted:
        run(_make(settings, place, has_parents=parents))


async def _make(settings: Settings, place: Place, *, has_parents: bool) -> None:
    async with (
        open_writable(settings, place) as remote,
        open_writer(remote, state_root(), settings.url, place.job) as writer,
    ):
        snapshot = await list_workspace(remote)
        if not has_parents:
            if snapshot.get(place.path) is not None:
                raise PathExists(f"{place} is there already", "choose another name")
            check_parent(snapshot, place)
            await writer.make_directory(place)
            return
        parts = place.path.split("/")
        for length in range(1, len(parts) + 1):
            step = Place(place.job, "/".join(parts[:length]))
            there = snapshot.get(step.path)
            if there is None:
                await writer.make_directory(step)
            elif not there.is_directory:
                raise PathExists(f"{step} is a file", "choose another name")
