"""``jobfs resolve``: end a conflict by keeping one side or both.

Works on the files themselves, in a mount or a synchronised folder: what it renames and removes reaches the server like
any other work there, and is as safe.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from jobfs.cli.terminal import say, shown
from jobfs.errors import SettingsError
from jobfs.workspace.conflicts import is_conflict_copy, original_of


class Keep(StrEnum):
    """Which side stays."""

    LOCAL = "local"
    REMOTE = "remote"
    BOTH = "both"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("resolve", epilog="Example: jobfs resolve ~/job/notes.md --keep local")(resolve)


def resolve(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file in conflict, or its conflict copy.")],
    keep: Annotated[Keep, typer.Option("--keep", help="The side that stays; the copy is the local one.")],
) -> None:
    """End a conflict: the local version takes the name, or goes, or gets a plain name of its own."""
    copy = path if is_conflict_copy(path.name) else _only_copy_of(path)
    if not copy.exists():
        raise SettingsError(f"there is no {copy}", "see 'jobfs conflicts'")
    original = copy.with_name(original_of(copy.name))
    match keep:
        case Keep.LOCAL:
            copy.replace(original)
            say(shown(f"{original} is the local version"))
        case Keep.REMOTE:
            copy.unlink()
            say(shown(f"{original} is the version of the server"))
        case Keep.BOTH:
            plain = _free_name(original)
            copy.rename(plain)
            say(shown(f"both are kept: {original} and {plain}"))


def _only_copy_of(path: Path) -> Path:
    """Return the conflict copy beside a file; which one is meant has to be said where there are several."""
    above = path.parent
    beside = above.iterdir() if above.is_dir() else ()
    copies = [file for file in beside if is_conflict_copy(file.name) and original_of(file.name) == path.name]
    if not copies:
        raise SettingsError(f"{path} is not in conflict", "see 'jobfs conflicts'")
    if len(copies) > 1:
        raise SettingsError(
            f"{path} has {len(copies)} conflict copies", "name the one to settle: see 'jobfs conflicts'"
        )
    return copies[0]


def _free_name(path: Path) -> Path:
    number = 2
    while (plain := path.with_name(f"{path.stem} ({number}){path.suffix}")).exists():
        number += 1
    return plain
