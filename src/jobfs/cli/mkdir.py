"""``jobfs mkdir``: make directories in a workspace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.listed import list_workspace
from jobfs.cli.remote import by_job, open_writable, run
from jobfs.errors import PathExists
from jobfs.workspace.changes import check_parent, open_writer
from jobfs.workspace.places import Place, check_new, parse_place
from jobfs.workspace.settings import Settings
from jobfs.workspace.snapshot import Snapshot
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
    for places_of_one in by_job(wanted):
        run(_make(settings, places_of_one, has_parents=parents))


async def _make(settings: Settings, places: Sequence[Place], *, has_parents: bool) -> None:
    """Make directories in one workspace, which is listed once: what was made since is taken in."""
    async with (
        open_writable(settings, places[0]) as remote,
        open_writer(remote, state_root(), settings.url, places[0].job) as writer,
    ):
        snapshot: Snapshot | None = None
        for place in places:
            if snapshot is None:
                snapshot = await list_workspace(remote)
            for step in _missing(snapshot, place, has_parents=has_parents):
                item = await writer.make_directory(step)
                if snapshot is not None and not snapshot.add(item):
                    snapshot = None


def _missing(snapshot: Snapshot, place: Place, *, has_parents: bool) -> list[Place]:
    """Return the directories to make for one that is wanted, the topmost first.

    :raises PathExists: something is there; with ``has_parents``, a file. :raises NotFound: the directory above is not.
    """
    if not has_parents:
        if snapshot.get(place.path) is not None:
            raise PathExists(f"{place} is there already", "choose another name")
        check_parent(snapshot, place)
        return [place]
    parts = place.path.split("/")
    missing = []
    for length in range(1, len(parts) + 1):
        step = Place(place.job, "/".join(parts[:length]))
        there = snapshot.get(step.path)
        if there is None:
            missing.append(step)
        elif not there.is_directory:
            raise PathExists(f"{step} is a file", "choose another name")
    return missing
