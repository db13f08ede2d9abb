"""``jobfs status``: what is mounted and synchronised, and how it goes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from jobfs.cli.loading import load
from jobfs.cli.overview import describe_status
from jobfs.cli.report import identity
from jobfs.cli.terminal import say, say_json, say_line_json
from jobfs.errors import JobfsError, MountError
from jobfs.workspace.instance import Instance, instances
from jobfs.workspace.states import real_directory

_LEAST_PAUSE_S = 1.0
_PAUSE_SHARE = 20
"""Looking costs the mounts some time: between two looks passes this many times as much, and at least a second."""

_NOTHING = "nothing is mounted or synchronised"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status", epilog="Example: jobfs status --json")(status)


def status(
    directory: Annotated[Path | None, typer.Argument(metavar="DIR", help="Only of this mount or folder.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it, until Ctrl-C.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For programs; with --watch a line for each change.")] = False,
) -> None:
    """Show every mount and synchronised folder: job, items, what is on its way, problems and conflicts.

    Each problem and conflict comes with what to do next. The same is in the files of .jobfs/ in a mount.
    """
    if not watch:
        _say(_look(directory), as_json=json)
        return
    try:
        if sys.stdout.isatty() and not json:
            _show(directory)
        else:
            _tell_changes(directory, as_json=json)
    except KeyboardInterrupt:
        return  # that is how it ends


def _look(directory: Path | None) -> list[dict[str, Any]]:
    place = None if directory is None else real_directory(directory)
    found = [_status(instance) for instance in instances() if place in (None, instance.directory)]
    if directory is not None and not found:
        raise MountError(f"nothing of jobfs was ever mounted or synchronised at {directory}", "see 'jobfs status'")
    return found


def _status(instance: Instance) -> dict[str, Any]:
    if not instance.is_running():
        return {**identity(instance), "pid": 0, "isRunning": False}
    try:
        told: dict[str, Any] = instance.ask("status")
    except JobfsError as error:
        return {**identity(instance), "isRunning": True, "trouble": error.cause}
    return {**told, "isRunning": True}


def _lines(found: list[dict[str, Any]]) -> list[str]:
    return [line for one in found for line in describe_status(one)] or [_NOTHING]


def _say(found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        say_json(found)
        return
    for line in _lines(found):
        say(line)


def _looks(directory: Path | None) -> Iterator[list[dict[str, Any]]]:
    """Look again and again, with a pause after each look."""
    while True:
        began_s = time.monotonic()
        yield _look(directory)
        time.sleep(max(_LEAST_PAUSE_S, _PAUSE_SHARE * (time.monotonic() - began_s)))


def _show(directory: Path | None) -> None:
    load("pictures").show_pages(map(_lines, _looks(directory)))


def _tell_changes(directory: Path | None, *, as_json: bool) -> None:
    """Print what is different from the last look, as a whole, each time that something is."""
    before: object = None
    for found in _looks(directory):
        told = [{name: value for name, value in one.items() if name not in _UNSTEADY} for one in found]
        if told == before:
            continue
        before = told
        if as_json:
            say_line_json(found)
        else:
            _say(found, as_json=False)


_UNSTEADY = ("lastListingSecondsAgo", "listings", "requests")
"""What is different at each look though nothing has happened."""
