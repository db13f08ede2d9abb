"""``jobfs history``: the versions of a file that are kept on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jobfs.cli.remote import run
from jobfs.cli.review import copy_of
from jobfs.cli.terminal import human_size, local_time, say_json, say_table, tell

NOW = "now"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("history", epilog="Example: jobfs history ~/job/notes.md")(history)


def history(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file, also a deleted one; or a directory.")],
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List what a file of a mount or folder was, the newest first: replaced, deleted and conflicting versions.

    They are kept on this machine, for a month and within a size (jobfs mount --history-days, --history-size), as far
    as their bytes were here. To get one back: jobfs restore. Of a directory: what was in it.
    """
    copy, inner = copy_of(context, path)
    told = run(copy.ask_past("story", inner))
    if json:
        say_json(told)
        return
    rows = [_row(version, is_directory=told["isDirectory"], path=inner) for version in told["versions"]]
    if told["current"] is not None:
        current = told["current"]
        rows.insert(0, [NOW, local_time(current["written"]), human_size(current["size"]), "", ""])
    if not rows:
        tell(f"{path} is there, and no earlier version of it is kept")
        return
    headings = ["version", "written", "size", "why", "path"]
    if not any(row[-1] for row in rows):
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    say_table(headings, rows, whole=("version", "path"))


def _row(version: dict[str, Any], *, is_directory: bool, path: str) -> list[str]:
    why = f"{version['reason']} {local_time(version['at'])}"
    where = version["path"] if is_directory or version["path"] != path else ""
    return [str(version["version"]), local_time(version["written"]), human_size(version["size"]), why, where]
