"""``jobfs undelete``: bring deleted files back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from jobfs.cli.failures import show
from jobfs.cli.remote import run
from jobfs.cli.review import copy_of
from jobfs.cli.terminal import Progress, human_size, local_time, progress, say, say_json, say_table, shown, tell
from jobfs.errors import JobfsError
from jobfs.workspace.copies import AsyncLocalCopy


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("undelete", epilog="Example: jobfs undelete ~/job/reports")(undelete)


def undelete(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files, or directories.")],
    list_: Annotated[bool, typer.Option("--list", help="Only show what was deleted there and can come back.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Bring deleted files back as they were: of a directory all that was deleted in it last, in one go.

    What is there is not replaced. It is sent like any new file.
    """
    spots = {path: copy_of(context, path) for path in paths}
    if list_:
        _list(spots.values(), as_json=json)
        return
    codes: list[int] = []
    became: list[dict[str, Any]] = []
    for path, (copy, inner) in spots.items():
        try:
            with progress(f"bringing back {path}") as display:
                became += run(copy.ask_past("undelete", inner, on_progress=_shower(display)))
        except JobfsError as error:
            if len(spots) == 1:
                raise
            show(error, is_debug=False)
            codes.append(error.exit_code)
    if json:
        say_json(became)
    else:
        codes += _say(became)
    if codes:
        raise typer.Exit(max(codes))


def _shower(display: Progress) -> Any:
    return lambda count: display.show(f"{count} files are back")


def _say(became: list[dict[str, Any]]) -> list[int]:
    """Say what came back, and what did not and why; return the exit codes of the failures."""
    for one in became:
        if one["isChanged"]:
            written = local_time(one["written"])
            say(shown(f"{one['path']} is back" + (f", as of {written}" if written else "")))
        elif "cause" in one:
            tell(shown(f"jobfs: {one['cause']}: {one['remedy']}"))
        else:
            tell(shown(f"{one['path']} is there, and was left alone"))
    return [JobfsError.exit_code for one in became if "cause" in one]


def _list(spots: Iterable[tuple[AsyncLocalCopy, str]], *, as_json: bool) -> None:
    found = [one for copy, inner in spots for one in run(copy.ask_past("deleted", inner))]
    if as_json:
        say_json(found)
        return
    rows = [[str(one["version"]), local_time(one["at"]), human_size(one["size"]), one["path"]] for one in found]
    if rows:
        say_table(("version", "deleted", "size", "path"), rows, whole=("version", "path"))
    else:
        tell("nothing that was deleted there is kept")
