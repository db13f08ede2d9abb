"""``jobfs chmod``: make files of a workspace read-only or writable."""

from __future__ import annotations

from typing import Annotated

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.remote import open_writable, run
from jobfs.errors import SettingsError
from jobfs.model import Permission
from jobfs.workspace.changes import open_writer
from jobfs.workspace.places import Place, parse_place
from jobfs.workspace.settings import Settings
from jobfs.workspace.sight import locate
from jobfs.workspace.states import state_root

_MODES = {
    **dict.fromkeys(("+w", "u+w", "a+w", "rw"), Permission.READ_WRITE),
    **dict.fromkeys(("-w", "u-w", "a-w", "ro"), Permission.READ_ONLY),
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    # A mode such as -w must not be read as an option.
    settings = {"ignore_unknown_options": True}
    app.command("chmod", epilog="Example: jobfs chmod -w abc123:/inputs/data.csv", context_settings=settings)(chmod)


def chmod(
    context: typer.Context,
    mode: Annotated[str, typer.Argument(metavar="+w|-w", help="Writable, or read-only.")],
    places: Annotated[list[str], typer.Argument(metavar="JOB:/PATH...", help="Files or directories.")],
) -> None:
    """Set or take the write bit, the only one that the server knows."""
    permission = _MODES.get(mode)
    if permission is None:
        raise SettingsError(f"{mode!r} is no mode that the server knows", "write +w or -w")
    wanted = [parse_place(place) for place in places]
    settings = load_settings(context)
    for place in wanted:
        run(_set(settings, place, permission))


async def _set(settings: Settings, place: Place, permission: Permission) -> None:
    async with (
        open_writable(settings, place) as remote,
        open_writer(remote, state_root(), settings.url, place.job) as writer,
    ):
        await writer.set_permission(place, await locate(remote, place), permission)
