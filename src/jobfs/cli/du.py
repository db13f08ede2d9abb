"""``jobfs du``: how much a workspace holds, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.listed import list_workspace
from jobfs.cli.remote import open_remote, run
from jobfs.cli.terminal import human_size, many, say, say_json, say_table
from jobfs.workspace.places import Place, parse_place
from jobfs.workspace.settings import Settings
from jobfs.workspace.snapshot import Found, Snapshot


@dataclass(frozen=True, slots=True)
class Usage:
    """What a file is, or what a directory holds with all that is below it.

    :param path: from the root. :param size: bytes.
    """

    path: str
    is_directory: bool
    files: int
    size: int


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("du", epilog="Example: jobfs du abc123:/reports")(du)


def du(
    context: typer.Context,
    place: Annotated[str, typer.Argument(metavar="JOB[:/PATH]", help="A directory or file; run:RUN:/PATH for a run.")],
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Tell how many files and bytes a directory of a workspace holds, and each thing in it, the largest first."""
    wanted = parse_place(place)
    snapshot = run(_snapshot(load_settings(context), wanted))
    top = snapshot.at(wanted)
    inside = snapshot.children(top.path) if top.is_directory else []
    parts = sorted((usage_of(snapshot, one) for one in inside), key=lambda one: (-one.size, one.path))
    total = usage_of(snapshot, top)
    if json:
        say_json({"total": _as_json(total), "parts": [_as_json(one) for one in parts]})
        return
    if parts:
        say_table(("size", "files", "name"), [_row(one) for one in parts], whole=("name",))
    say(f"{human_size(total.size)} in {many(total.files, 'file')}")


async def _snapshot(settings: Settings, place: Place) -> Snapshot:
    async with open_remote(settings, place.job) as remote:
        return await list_workspace(remote)


def usage_of(snapshot: Snapshot, found: Found) -> Usage:
    """Return what a file is, or a directory holds."""
    files = [one for one in (found, *snapshot.below(found.path)) if not one.is_directory]
    return Usage(found.path, found.is_directory, len(files), sum(one.size for one in files))


def _row(one: Usage) -> tuple[str, str, str]:
    name = one.path.rpartition("/")[2]
    return human_size(one.size), f"{one.files:,}" if one.is_directory else "", name + ("/" if one.is_directory else "")


def _as_json(one: Usage) -> dict[str, object]:
    return {"path": one.path, "isDirectory": one.is_directory, "files": one.files, "size": one.size}
