"""``jobfs get``: bring files of a workspace here."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Annotated

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.listed import list_workspace
from jobfs.cli.remote import open_remote, run
from jobfs.cli.tally import Tally, tallied
from jobfs.cli.terminal import shown, tell
from jobfs.engine.remote import Remote
from jobfs.errors import JobfsError, Refused, SettingsError
from jobfs.planner.naming import alias_name
from jobfs.workspace.line import meter_of
from jobfs.workspace.places import Place, parse_place
from jobfs.workspace.reading import fetch
from jobfs.workspace.settings import Settings
from jobfs.workspace.sight import locate
from jobfs.workspace.snapshot import Found

_PARALLEL = 8


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("get", epilog="Example: jobfs get -r abc123:/reports .")(get)


def get(
    context: typer.Context,
    place: Annotated[str, typer.Argument(metavar="JOB:/PATH", help="A file or directory; run:RUN:/PATH for a run.")],
    target: Annotated[Path, typer.Argument(metavar="LOCAL", help="Where to; a directory takes it in.")] = Path(),
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Also directories.")] = False,
) -> None:
    """Bring a file here, or with -r a directory. A local file is replaced once the new one is whole."""
    wanted = parse_place(place)
    run(_get(load_settings(context), wanted, target, is_recursive=recursive))


async def _get(settings: Settings, place: Place, target: Path, *, is_recursive: bool) -> None:
    meter = meter_of(settings)
    async with open_remote(settings, place.job, meter) as remote:
        if not is_recursive:
            found = await locate(remote, place)
            if found.is_directory:
                raise SettingsError(f"{place} is a directory", "add -r to bring directories")
            async with tallied("receiving", [found.size], meter) as tally:
                await _fetch(remote, found, _local_target(target, found.name), tally)
            return
        snapshot = await list_workspace(remote)
        top = snapshot.at(place)
        if not top.is_directory:
            async with tallied("receiving", [top.size], meter) as tally:
                await _fetch(remote, top, _local_target(target, top.name), tally)
            return
        root = _local_target(target, top.name) if top.path else target
        _make_directory(root, root)
        below = list(snapshot.below(top.path))
        async with tallied("receiving", (found.size for found in below if not found.is_directory), meter) as tally:
            await _fetch_all(remote, below, top, root, tally)


def _local_target(target: Path, name: str) -> Path:
    return target / _local_name(name) if target.is_dir() else target


def _local_name(name: str) -> str:
    """Return a shown name as it can be used here: on Windows further characters would lead elsewhere."""
    separators = {os.sep, os.altsep or os.sep, ":" if os.name == "nt" else os.sep}
    if any(separator in name for separator in separators):
        return "".join(f"%{ord(one):02X}" if one in separators else one for one in name)
    return alias_name(name) if name in ("", ".", "..") else name


async def _fetch_all(remote: Remote, below: list[Found], top: Found, root: Path, tally: Tally) -> None:
    """Bring everything below a directory here, several files at once.

    Nothing is written outside of ``root``: shown paths have no dots, and a link in the way is refused.
    """
    start = len(top.path) + 1 if top.path else 0
    slots = asyncio.Semaphore(_PARALLEL)
    failed: list[JobfsError] = []

    async def bring(found: Found, path: Path) -> None:
        async with slots:
            try:
                await _fetch(remote, found, path, tally)
            except JobfsError as error:
                tell(f"not received: {shown(found.path)}: {shown(error.cause)}")
                failed.append(error)

    paths = {found.path: root.joinpath(*map(_local_name, found.path[start:].split("/"))) for found in below}
    for found in below:
        _make_directory(paths[found.path] if found.is_directory else paths[found.path].parent, root)
    async with asyncio.TaskGroup() as group:
        for found in below:
            if not found.is_directory:
                group.create_task(bring(found, paths[found.path]))
    if failed:
        raise failed[0]


def _make_directory(path: Path, root: Path) -> None:
    """Make a directory, and refuse a link on the way to it from the root."""
    if path != root:
        _make_directory(path.parent, root)
    try:
        path.mkdir()
    except FileExistsError:
        mode = os.lstat(path).st_mode if path != root else path.stat().st_mode
        if not stat.S_ISDIR(mode):
            raise Refused(f"{path} is in the way: no directory", "remove it, or name another target") from None


async def _fetch(remote: Remote, found: Found, path: Path, tally: Tally) -> None:
    if found.item is None:
        raise AssertionError("a file always has its item")
    with tally.moving(found.path, found.size):
        await fetch(remote, found.item, path)
