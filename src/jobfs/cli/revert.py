"""``jobfs revert``: undo changes that the server does not have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from jobfs.cli.remote import run
from jobfs.cli.review import copy_of
from jobfs.cli.terminal import progress, say, shown
from jobfs.errors import SettingsError
from jobfs.workspace.copies import AsyncLocalCopy

_MOST_NAMED = 20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("revert", epilog="Example: jobfs revert ~/job/draft.md")(revert)


def revert(
    context: typer.Context,
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="A file or directory; else the current directory's mount.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before everything is reverted.")] = False,
) -> None:
    """Undo what was changed at or below a path and is not on the server: edits, new files, deletions, moves, modes.

    The bytes that go are kept in the local history. Local-only names, such as .git, stay.
    """
    copy, inner = copy_of(context, path)
    reverted = run(_revert(copy, inner, is_sure=yes))
    for one in reverted[:_MOST_NAMED]:
        say(f"reverted: {shown(one)}")
    if len(reverted) > _MOST_NAMED:
        say(f"reverted: and {len(reverted) - _MOST_NAMED} more")
    if not reverted:
        say("nothing to revert")


async def _revert(copy: AsyncLocalCopy, path: str, *, is_sure: bool) -> list[str]:
    if not path and not is_sure:
        number = len(await copy.differences())
        if number:
            _confirm(f"revert all {number} changes in {copy.directory}?")
    with progress("reverting"):
        return await copy.revert(path)


def _confirm(question: str) -> None:
    """Go on only where somebody says so.

    :raises SettingsError: there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise SettingsError("everything would be reverted", "name a path, or say so with --yes")
    typer.confirm(question, abort=True, err=True)
