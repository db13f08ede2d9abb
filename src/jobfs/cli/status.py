"""``jobfs status``: what is mounted and synchronised, and how it goes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from jobfs.cli.loading import load
from jobfs.cli.overview import describe_standing, describe_status
from jobfs.cli.terminal import say, say_json, say_line_json
from jobfs.errors import JobfsError
from jobfs.workspace.instance import Instance, find, identity, instances

_LEAST_PAUSE_S = 1.0
_PAUSE_SHARE = 20
"""Looking costs the mounts some time: between two looks passes this many times as much, and at least a second."""

_NOTHING = "nothing is mounted or synchronised"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status", epilog="Example: jobfs status --json")(status)


def status(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="PATH", help="Only of this mount or folder, or of one path in it."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it, until Ctrl-C.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For programs; with --watch a line for each change.")] = False,
) -> None:
    """Show every mount and synchronised folder: job, items, what is on its way, problems and conflicts.

    Each problem and conflict comes with what to do next. The same is in the files of .jobfs/ in a mount. Of a file:
    whether the server has it, and what is in its way where it does not.
    """
    directory = path
    if path is not None:
        found, inner = find(path)
        if inner and not watch:
            _say_standing(found, inner, as_json=json)
            return
        directory = Path(found.directory)
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
    wanted = (one for one in instances() if directory is None or one.directory == str(directory))
    return sorted(map(_status, wanted), key=lambda one: (not one["isRunning"], one["directory"], one["started"]))


def _status(instance: Instance) -> dict[str, Any]:
    if not instance.is_running():
        return {
            **identity(instance),
            "pid": 0,
            "isRunning": False,
            "isBrokenOff": instance.is_broken_off,
            "unsent": instance.unsent,
        }
    try:
        told: dict[str, Any] = instance.ask("status")
    except JobfsError as error:
        return {**identity(instance), "isRunning": True, "trouble": error.cause}
    return {**told, "isRunning": True}


def _say_standing(instance: Instance, inner: str, *, as_json: bool) -> None:
    told = instance.ask("standing", path=inner)
    if as_json:
        say_json(told)
        return
    for line in describe_standing(told):
        say(line)


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
