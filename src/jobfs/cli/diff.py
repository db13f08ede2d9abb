"""``jobfs diff``: what is otherwise here than on the server, as lines that ``git apply`` takes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer

from jobfs.cli.failures import TO_DO
from jobfs.cli.remote import run
from jobfs.cli.review import copy_of
from jobfs.cli.terminal import say, say_json, shown
from jobfs.errors import SettingsError
from jobfs.workspace.copies import AsyncLocalCopy
from jobfs.workspace.differences import Told, changes_of, of_directories, paired, patch_of
from jobfs.workspace.patch import quoted, stat_lines

_COLOURS = {b"diff ": "bold", b"--- ": "bold", b"+++ ": "bold", b"@@": "cyan", b"-": "red", b"+": "green"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("diff", epilog="Example: jobfs diff ~/job > changes.patch")(diff)


def diff(
    context: typer.Context,
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="A file or directory; else the current directory's mount.")
    ] = None,
    stat: Annotated[bool, typer.Option("--stat", help="Only how many lines of each file.")] = False,
    name_only: Annotated[bool, typer.Option("--name-only", help="Only the names.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For programs, without contents.")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with code 12 if anything differs.")] = False,
) -> None:
    """Show what was changed here and is not on the server: a unified diff, which 'git apply' and 'patch -p1' take.

    Most useful where changes are held (jobfs hold); elsewhere it shows what is just being sent, or could not be. Binary
    files, and those over 1 MiB, are told by size and SHA-256.
    """
    if stat + name_only + json > 1:
        raise SettingsError("--stat, --name-only and --json contradict each other", "name one of them")
    copy, inner = copy_of(context, path)
    if json or name_only:
        told = run(_differences(copy, inner))
        say_json([_public(one) for one in told]) if json else _say_names(told)
        is_any = bool(told)
    else:
        is_any = run((_show_stat if stat else _show)(copy, inner))
    if is_any and exit_code:
        raise typer.Exit(TO_DO)


async def _differences(copy: AsyncLocalCopy, path: str) -> list[Told]:
    async with copy.asking() as ask:
        told: list[Told] = await ask("differences", path=path)
        return told


def _public(one: Told) -> dict[str, object]:
    """Return a difference for programs: without our numbers, and permission bits as they are usually written."""
    sides = {side: one[side] and {**one[side], "mode": f"{one[side]['mode']:04o}"} for side in ("old", "new")}
    return {name: value for name, value in {**one, **sides}.items() if name != "node"}


def _say_names(told: Sequence[Told]) -> None:
    for one in told:
        side = one["new"] or one["old"]
        say(quoted(side["path"] + "/" * (one["kind"] == "directory")))


async def _show(copy: AsyncLocalCopy, path: str) -> bool:
    """Print the patch; return whether there is any."""
    is_any = False
    async with copy.asking() as ask, aclosing(patch_of(ask, path)) as lines:
        async for line in lines:
            is_any = True
            _print(line)
    return is_any


async def _show_stat(copy: AsyncLocalCopy, path: str) -> bool:
    """Print how many lines of each file differ; return whether any does."""
    async with copy.asking() as ask:
        told: list[Told] = await ask("differences", path=path)
        for what in of_directories(told):
            _print(f"jobfs: {what}\n".encode())
        async with aclosing(changes_of(ask, paired(told))) as changes:
            found = [change async for change in changes]
    for row in stat_lines(found, shutil.get_terminal_size().columns):
        say(row)
    return bool(told)


# -- the terminal


def _print(line: bytes) -> None:
    """Print a line of a patch: exactly as it is, or, for a person, in colour and without what steers the terminal."""
    if not sys.stdout.isatty():
        typer.echo(line, nl=False)
        return
    text = "\n".join("\t".join(map(shown, part.split("\t"))) for part in line.decode("utf-8", "replace").split("\n"))
    colour = next((style for mark, style in _COLOURS.items() if line.startswith(mark)), None)
    if colour is None or os.environ.get("NO_COLOR"):
        typer.echo(text, nl=False)
    elif colour == "bold":
        typer.echo(typer.style(text, bold=True), nl=False)
    else:
        typer.echo(typer.style(text, fg=colour), nl=False)
