"""``jobfs fsck``: look whether the local state is sound, and repair what can safely be."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from jobfs.cli.instance import read_instance, real_directory
from jobfs.cli.states import all_states, state_root
from jobfs.cli.terminal import say, say_json, shown, tell
from jobfs.errors import MountError, StateCorrupt, StateLocked
from jobfs.model import ROOT, BlobId
from jobfs.planner.naming import alias_name
from jobfs.store.blobs import Blobs
from jobfs.store.state import State


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("fsck", epilog="Example: jobfs fsck --repair")(fsck)


def fsck(
    directory: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Only of this mount or folder.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Save unsent files of a damaged state, and set it aside.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check the state of every workspace. Nothing is deleted: a damaged state is set aside, its unsent files saved."""
    reports = [_check(state, is_repairing=repair) for state in _wanted(directory)]
    if json:
        say_json(reports)
    else:
        _say(reports)
    if any(report["verdict"] == "damaged" for report in reports):
        raise typer.Exit(StateCorrupt.exit_code)


def _wanted(directory: Path | None) -> Iterator[Path]:
    place = None if directory is None else real_directory(directory)
    is_any = False
    for state in all_states(state_root()):
        found = read_instance(state)
        if place is None or (found is not None and found.directory == place):
            is_any = True
            yield state
    if place is not None and not is_any:
        raise MountError(f"nothing of jobfs was ever mounted or synchronised at {directory}", "see 'jobfs status'")


def _check(directory: Path, *, is_repairing: bool) -> dict[str, object]:
    found = read_instance(directory)
    report: dict[str, object] = {
        "state": str(directory),
        "job": found.job if found is not None else None,
        "directory": found.directory if found is not None else None,
    }
    try:
        state = State.open(directory)
    except StateLocked:
        return {**report, "verdict": "in use", "wrong": []}
    except StateCorrupt as error:
        return {**report, **_damaged(directory, [error.cause], is_repairing=is_repairing)}
    with closing(state):
        wrong = state.check()
    return (
        {**report, **_damaged(directory, wrong, is_repairing=is_repairing)}
        if wrong
        else {
            **report,
            "verdict": "sound",
            "wrong": [],
        }
    )


def _damaged(directory: Path, wrong: list[str], *, is_repairing: bool) -> dict[str, object]:
    if not is_repairing:
        return {"verdict": "damaged", "wrong": wrong}
    aside = directory.parent.parent / "damaged" / f"{directory.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    aside.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.rename(aside)
    saved = list(_save_unsent(aside))
    return {"verdict": "set aside", "wrong": wrong, "aside": str(aside), "saved": saved}


def _say(reports: list[dict[str, object]]) -> None:
    for report in reports:
        name = f"{report['job'] or 'unknown job'} at {report['directory'] or report['state']}"
        say(shown(f"{name}: {report['verdict']}"))
        for line in _lines(report.get("wrong")):
            say(shown(f"  {line}"))
        if report["verdict"] == "damaged":
            tell("  next: jobfs fsck --repair saves unsent files and sets the state aside; the next mount begins anew")
        if report["verdict"] == "set aside":
            say(shown(f"  it is now {report['aside']}; delete that when you need nothing of it"))
            for line in _lines(report.get("saved")):
                say(shown(f"  saved: {line}"))
    if not reports:
        say("there is no state of any workspace")


def _lines(value: object) -> list[str]:
    return [str(line) for line in value] if isinstance(value, list) else []


def _save_unsent(aside: Path) -> Iterator[str]:
    """Copy the unsent files of a damaged state into ``unsent/`` beside it, under the paths that can still be read.

    A row that cannot be read any more costs the name of its file, not the file: its bytes stay under ``blobs/``.
    """
    rows = _readable_rows(aside / "state.db")
    blobs = Blobs(aside / "blobs")
    for node, (_, _, blob, item) in rows.items():
        if blob is None or item is not None:
            continue
        source = blobs.path(BlobId(blob))
        if not source.is_file():
            continue
        target = aside / "unsent" / _path(rows, node)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        yield str(target)


_Row = tuple[int, str, int | None, str | None]
"""Parent, name, blob, and the item of the revision that the server has; None for unsent bytes."""


def _readable_rows(database: Path) -> dict[int, _Row]:
    found: dict[int, _Row] = {}
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            for node, *row in connection.execute("SELECT id, parent, name, blob, rev_item FROM local"):
                found[node] = (row[0], row[1], row[2], row[3])
    except sqlite3.Error as error:
        tell(f"jobfs: only a part of {database} can be read: {error}")
    return found


def _path(rows: dict[int, _Row], node: int) -> PurePosixPath:
    """Return the path of a node as far as its ancestors can be read; never one that leads elsewhere."""
    names: list[str] = []
    seen: set[int] = set()
    while node in rows and node not in seen and node != ROOT:
        seen.add(node)
        parent, name, _, _ = rows[node]
        names.append(alias_name(name) if name in ("", ".", "..") or os.sep in name else name)
        node = parent
    return PurePosixPath(*reversed(names))
