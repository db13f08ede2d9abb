"""``jobfs cat``: print files of a workspace."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.remote import open_remote, run
from jobfs.errors import ProtocolViolation, Refused
from jobfs.workspace.places import Place, parse_place
from jobfs.workspace.settings import Settings
from jobfs.workspace.sight import locate


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("cat", epilog="Example: jobfs cat abc123:/word-count.md")(cat)


def cat(
    context: typer.Context,
    places: Annotated[list[str], typer.Argument(metavar="JOB:/PATH...", help="Files; run:RUN:/PATH for a run.")],
) -> None:
    """Print files as they are, one after the other."""
    wanted = [parse_place(place) for place in places]
    settings = load_settings(context)
    for place in wanted:
        run(_print(settings, place))


async def _print(settings: Settings, place: Place) -> None:
    async with open_remote(settings, place.job) as remote:
        found = await locate(remote, place)
        if found.item is None or found.is_directory:
            raise Refused(f"{place} is a directory", f"see 'jobfs ls {place}'")
        received = 0
        async with remote.download(found.item.id) as download:
            async for chunk in download.chunks():
                received += len(chunk)
                sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        if received != found.size:
            raise ProtocolViolation(
                f"{place}: the server sent {received} bytes of a file that it lists with {found.size}",
                "do not trust what was printed; try again",
            )
