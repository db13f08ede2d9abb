"""``jobfs ls``: list a directory of a workspace."""

from __future__ import annotations

from typing import Annotated

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.listed import list_workspace
from jobfs.cli.remote import open_remote, run
from jobfs.cli.terminal import human_size, local_time, say, say_json, say_table, shown
from jobfs.model import Permission
from jobfs.workspace.places import Place, parse_place
from jobfs.workspace.settings import Settings
from jobfs.workspace.snapshot import Found, Snapshot, as_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ls", epilog="Example: jobfs ls -l abc123:/reports")(ls)


def ls(
    context: typer.Context,
    place: Annotated[str, typer.Argument(metavar="JOB[:/PATH]", help="A directory or file; run:RUN:/PATH for a run.")],
    long: Annotated[bool, typer.Option("-l", "--long", help="Show permission, owner, size and time.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List a directory of a workspace, without a mount."""
    wanted = parse_place(place)
    found = run(_entries(load_settings(context), wanted))
    if json:
        say_json([as_json(entry) for entry in found])
    elif long:
        say_table(("", "owner", "size", "updated", "name"), [_row(entry) for entry in found], whole=("name",))
    else:
        for entry in found:
            say(shown(_name(entry)))


async def _entries(settings: Settings, place: Place) -> list[Found]:
    async with open_remote(settings, place.job) as remote:
        snapshot: Snapshot = await list_workspace(remote)
    found = snapshot.at(place)
    return snapshot.children(found.path) if found.is_directory else [found]


def _name(entry: Found) -> str:
    return entry.name + ("/" if entry.is_directory else "")


def _row(entry: Found) -> list[str]:
    item = entry.item
    if item is None:
        return ["rw", "", "", "", _name(entry)]
    access = "rw" if item.permission is Permission.READ_WRITE else "ro"
    owner = f"{item.owner}, all jobs" if entry.is_shared else item.owner
    size = "" if entry.is_directory else human_size(item.size)
    return [access, owner, size, local_time(item.updated_at), _name(entry)]
