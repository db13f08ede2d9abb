"""``jobfs tree``: show a workspace as a tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.listed import list_workspace
from jobfs.cli.remote import open_remote, run
from jobfs.cli.terminal import human_size, say, say_json, shown
from jobfs.workspace.places import Place, parse_place
from jobfs.workspace.settings import Settings
from jobfs.workspace.snapshot import Found, Snapshot, as_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tree", epilog="Example: jobfs tree abc123:/reports")(tree)


def tree(
    context: typer.Context,
    place: Annotated[str, typer.Argument(metavar="JOB[:/PATH]", help="A directory; run:RUN:/PATH for a run.")],
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show everything below a directory of a workspace."""
    wanted = parse_place(place)
    snapshot = run(_snapshot(load_settings(context), wanted))
    top = snapshot.at(wanted)
    if json:
        say_json([as_json(found) for found in snapshot.below(top.path)])
        return
    say(shown(str(wanted)))
    for line in _lines(snapshot, top):
        say(shown(line))


async def _snapshot(settings: Settings, place: Place) -> Snapshot:
    async with open_remote(settings, place.job) as remote:
        return await list_workspace(remote)


def _lines(snapshot: Snapshot, top: Found) -> Iterator[str]:
    # Not recursive: a server may hold paths of five hundred directories.
    waiting = [(child, "", at == 0) for at, child in enumerate(reversed(snapshot.children(top.path)))]
    while waiting:
        found, prefix, is_last = waiting.pop()
        mark = "/" if found.is_directory else f"  {human_size(found.size)}"
        yield f"{prefix}{'└── ' if is_last else '├── '}{found.name}{mark}"
        inner = prefix + ("    " if is_last else "│   ")
        waiting += [(child, inner, at == 0) for at, child in enumerate(reversed(snapshot.children(found.path)))]
