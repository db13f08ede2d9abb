"""``jobfs find``: find files in a workspace by name, kind and size."""

from __future__ import annotations

from enum import Enum, unique
from fnmatch import fnmatchcase
from typing import Annotated

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.listed import list_workspace
from jobfs.cli.remote import open_remote, run
from jobfs.cli.terminal import say, say_json, shown
from jobfs.workspace.places import Place, parse_place
from jobfs.workspace.settings import Settings
from jobfs.workspace.snapshot import Found, as_json


@unique
class FindKind(Enum):
    """The kinds as find(1) names them."""

    FILE = "f"
    DIRECTORY = "d"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("find", epilog="Example: jobfs find abc123:/ --name '*.csv' --type f")(find)


def find(
    context: typer.Context,
    place: Annotated[str, typer.Argument(metavar="JOB[:/PATH]", help="Where to look; run:RUN:/PATH for a run.")],
    name: Annotated[str | None, typer.Option(help="Only names that match this pattern.", metavar="PATTERN")] = None,
    kind: Annotated[FindKind | None, typer.Option("--type", help="Only files (f) or directories (d).")] = None,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Print the paths below a directory that match. Finding none is no failure."""
    wanted = parse_place(place)
    found = [entry for entry in run(_below(load_settings(context), wanted)) if _matches(entry, name, kind)]
    if json:
        say_json([as_json(entry) for entry in found])
        return
    for entry in found:
        say(shown(f"{wanted.job}:/{entry.path}"))


async def _below(settings: Settings, place: Place) -> list[Found]:
    async with open_remote(settings, place.job) as remote:
        snapshot = await list_workspace(remote)
    return list(snapshot.below(snapshot.at(place).path))


def _matches(entry: Found, name: str | None, kind: FindKind | None) -> bool:
    if kind is not None and entry.is_directory is not (kind is FindKind.DIRECTORY):
        return False
    return name is None or fnmatchcase(entry.name, name)
