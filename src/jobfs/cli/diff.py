"""``jobfs diff``: what is otherwise here than on the server, as lines that ``git apply`` takes."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from jobfs.cli.context import run
from jobfs.cli.failures import TO_DO
from jobfs.cli.report import is_conflict_copy, original_of
from jobfs.cli.review import Ask, asking, place_of
from jobfs.cli.terminal import say, say_json, shown
from jobfs.errors import SettingsError
from jobfs.workspace.instance import Instance
from jobfs.workspace.patch import MOST_BYTES, Change, Version, patch_lines, quoted, stat_lines

_AT_ONCE = 64
"""So many files are fetched together: what is printed begins early, and little lies on the disk."""

_COLOURS = {b"diff ": "bold", b"--- ": "bold", b"+++ ": "bold", b"@@": "cyan", b"-": "red", b"+": "green"}

_What = Mapping[str, Any]
"""A difference as ``review.handlers_of`` tells it."""


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
    found, inner = place_of(path)
    inner = inner if path is not None else ""
    if json or name_only:
        told = run(_differences(context, found, inner))
        say_json([_public(one) for one in told]) if json else _say_names(told)
        is_any = bool(told)
    else:
        is_any = run(_show(context, found, inner, is_stat=stat))
    if is_any and exit_code:
        raise typer.Exit(TO_DO)


async def _differences(context: typer.Context, instance: Instance, path: str) -> list[_What]:
    async with asking(context, instance) as ask:
        told: list[_What] = await ask("differences", path=path)
        return told


def _public(one: _What) -> dict[str, object]:
    """Return a difference for programs: without our numbers, and permission bits as they are usually written."""
    sides = {side: one[side] and {**one[side], "mode": f"{one[side]['mode']:04o}"} for side in ("old", "new")}
    return {name: value for name, value in {**one, **sides}.items() if name != "node"}


def _say_names(told: Sequence[_What]) -> None:
    for one in told:
        side = one["new"] or one["old"]
        say(quoted(side["path"] + "/" * (one["kind"] == "directory")))


# -- contents


@dataclass(frozen=True, slots=True)
class Pair:
    """A file of the old side and one of the new side that are shown as one change; either may be missing.

    :param old, new: the differences whose versions they are; of a rename or an edit, the same one.
    """

    old: _What | None
    new: _What | None


def paired(told: Sequence[_What]) -> list[Pair]:
    """Return which versions of files are shown side by side, by path.

    A file that moved is a rename, unless another one stood at its new place or stands at its old one. Patch programs
    know places only, so then each place is shown for itself.
    """
    files = [one for one in told if one["kind"] == "file"]
    old = {one["old"]["path"]: one for one in files if one["old"] is not None}
    new = {one["new"]["path"]: one for one in files if one["new"] is not None}
    pairs: dict[str, Pair] = {}
    for one in files:
        if one["old"] and one["new"] and one["new"]["path"] not in old and one["old"]["path"] not in new:
            pairs[one["new"]["path"]] = Pair(one, one)
            del old[one["old"]["path"]], new[one["new"]["path"]]
    for place in {*old, *new}:
        pairs[place] = Pair(old.get(place), new.get(place))
    return [pairs[place] for place in sorted(pairs)]


async def _show(context: typer.Context, instance: Instance, path: str, *, is_stat: bool) -> bool:
    """Print the differences; return whether there are any."""
    async with asking(context, instance) as ask:
        told: list[_What] = await ask("differences", path=path)
        for what in _of_directories(told):
            _print(f"jobfs: {what}\n".encode())
        found: list[Change] = []
        async with aclosing(_changes(ask, paired(told))) as changes:
            async for change in changes:
                if is_stat:
                    found.append(change)
                    continue
                for line in patch_lines(change):
                    _print(line)
    for row in stat_lines(found, shutil.get_terminal_size().columns):
        say(row)
    return bool(told)


def _of_directories(told: Sequence[_What]) -> Iterator[str]:
    """Yield what a patch cannot say: of directories without files, renamed, or with another permission."""
    paths = {
        side: [one[side]["path"] for one in told if one["kind"] == "file" and one[side]] for side in ("old", "new")
    }
    for one in told:
        if one["kind"] != "directory":
            continue
        old, new = one["old"], one["new"]
        if old is None or new is None:
            side = "new" if old is None else "old"
            place = one[side]["path"]
            if not any(path.startswith(f"{place}/") for path in paths[side]):
                yield f"{'new' if old is None else 'deleted'} directory {quoted(place)}"
            continue
        if old["path"] != new["path"]:
            yield f"directory {quoted(old['path'])} is now {quoted(new['path'])}"
        if old["permission"] != new["permission"]:
            yield f"directory {quoted(new['path'])} is now {new['permission']}"


async def _changes(ask: Ask, pairs: Sequence[Pair]) -> AsyncGenerator[Change, None]:
    """Yield the pairs with their bytes."""
    with tempfile.TemporaryDirectory(prefix="jobfs-diff-") as folder:
        for at in range(0, len(pairs), _AT_ONCE):
            part = pairs[at : at + _AT_ONCE]
            nodes = sorted({one["node"] for pair in part if _is_wanted(pair) for one in (pair.old, pair.new) if one})
            failures = await ask("versions", nodes=nodes, directory=folder) if nodes else {}
            for pair in part:
                yield _change(pair, Path(folder), failures)
            for left in Path(folder).iterdir():
                left.unlink()


def _is_same(pair: Pair) -> bool:
    return pair.old is pair.new and bool(pair.old and pair.old["isSame"])


def _is_wanted(pair: Pair) -> bool:
    """Tell whether the bytes of a pair are shown."""
    sides = [one[side] for one, side in ((pair.old, "old"), (pair.new, "new")) if one is not None]
    return not _is_same(pair) and all(side["size"] <= MOST_BYTES for side in sides)


def _change(pair: Pair, folder: Path, failures: Mapping[str, Sequence[str]]) -> Change:
    notes: list[str] = []
    for one in (pair.old, pair.new) if pair.old is not pair.new else (pair.new,):
        if one is not None:
            notes += failures.get(str(one["node"]), ()) if _is_wanted(pair) else ()
    if pair.old is not None and pair.old["isOvertaken"]:
        notes.append(f"the server has another version of {quoted(pair.old['old']['path'])} by now")
    if pair.new is not None and pair.old is None and is_conflict_copy(pair.new["new"]["path"]):
        original = quoted(original_of(pair.new["new"]["path"]))
        notes.append(f"this is the version from here of {original}, which was changed on the server meanwhile")
    return Change(_version(pair.old, "old", folder), _version(pair.new, "new", folder), _is_same(pair), tuple(notes))


def _version(one: _What | None, side: str, folder: Path) -> Version | None:
    if one is None:
        return None
    told = one[side]
    found = folder / f"{one['node']}.{side}"
    data = found.read_bytes() if found.exists() else None
    return Version(told["path"], told["mode"], told["size"], data, told["sha256"])


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
