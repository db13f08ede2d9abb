"""``jobfs fsck``: look whether the local state is sound, and repair what can safely be.

Where single rows do not fit together, they are mended (``store.repair``), and the workspace goes on from there. Where
the database itself is damaged, what can still be read of it says which unsent files there are: they are saved beside
it, it is set aside, and the next mount begins anew.
"""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from jobfs.cli.terminal import say, say_json, shown, tell
from jobfs.errors import MountError, StateCorrupt, StateFull, StateLocked
from jobfs.model import ROOT, BlobId
from jobfs.planner.naming import ConflictStamp, alias_name, conflict_name
from jobfs.store.blobs import Blobs
from jobfs.store.lock import DirectoryLock
from jobfs.store.repair import decide
from jobfs.store.reserve import Reserve
from jobfs.store.rows import fits
from jobfs.store.state import State, StateTooNew
from jobfs.store.stock import Repair, Stock, read_stock, write_repair
from jobfs.workspace.instance import read_instance
from jobfs.workspace.states import all_states, real_directory, state_root

_Report = dict[str, object]
_WORDS = {"too new": "made by a newer version of jobfs"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("fsck", epilog="Example: jobfs fsck --repair")(fsck)


def fsck(
    directory: Annotated[Path | None, typer.Argument(metavar="DIR", help="Only of this mount or folder.")] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Mend what is wrong; save the unsent files of what cannot be, and set it aside."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check the state of every workspace. Nothing that was not sent is ever deleted; without --repair nothing changes.

    A state that is in use can be checked and repaired once the mount or synced folder has ended.
    """
    reports = [_check(state, is_repairing=repair) for state in _wanted(directory)]
    if json:
        say_json(reports)
    else:
        _say(reports)
    verdicts = {report["verdict"] for report in reports}
    if verdicts & {"damaged", "too new"}:
        raise typer.Exit(StateCorrupt.exit_code)
    if repair and "in use" in verdicts:
        raise typer.Exit(StateLocked.exit_code)


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


def _check(directory: Path, *, is_repairing: bool) -> _Report:
    found = read_instance(directory)
    report: _Report = {
        "state": str(directory),
        "job": found.job if found is not None else None,
        "directory": found.directory if found is not None else None,
    }
    try:
        return {**report, **_verdict(directory, is_repairing=is_repairing)}
    except StateLocked:
        return {**report, "verdict": "in use", "wrong": []}
    except StateTooNew as error:
        return {**report, "verdict": "too new", "wrong": [error.cause]}


def _verdict(directory: Path, *, is_repairing: bool) -> _Report:
    """Check a state, and mend it where that is wanted and can be done.

    :raises StateLocked: it is in use. :raises StateTooNew: a newer version made it. :raises StateFull: no space left.
    """
    try:
        repair = _mend(directory, is_repairing=is_repairing)
        wrong = [finding.what for finding in repair.findings]
        if wrong and not is_repairing:
            return {"verdict": "damaged", "wrong": wrong, "remedies": [finding.remedy for finding in repair.findings]}
        with closing(State.open(directory)) as state:
            left = state.check()
            kept = [f"{kept.path}: {state.blobs.path(kept.blob)}" for kept in repair.kept if kept.blob is not None]
    except StateTooNew:
        raise
    except StateCorrupt as error:
        left, wrong = [error.cause], []
    if left:
        return _set_aside(directory, wrong + left) if is_repairing else {"verdict": "damaged", "wrong": left}
    if not wrong:
        return {"verdict": "sound", "wrong": []}
    remedies = [finding.remedy for finding in repair.findings]
    return {"verdict": "repaired", "wrong": wrong, "remedies": remedies, "kept": kept}


def _mend(directory: Path, *, is_repairing: bool) -> Repair:
    """Decide what is to be done about the rows of a state, and do it where that is wanted."""
    lock = DirectoryLock.take(directory)
    try:
        now_ns = time.time_ns()
        stamp = ConflictStamp.at(socket.gethostname(), now_ns)
        repair = decide(_stock_of(directory), partial(_free_name, stamp), now_ns=now_ns)
        if repair.findings and is_repairing:
            write_repair(directory, repair)
        return repair
    finally:
        lock.release()


def _stock_of(directory: Path) -> Stock:
    """Read a state that is locked. SQLite needs room for the index of its log, which may have to be the reserve's."""
    try:
        return read_stock(directory)
    except StateFull:
        with Reserve(directory).lent():
            return read_stock(directory)


def _free_name(stamp: ConflictStamp, name: str, is_taken: Callable[[str], bool], *, is_directory: bool) -> str:
    return conflict_name(name, stamp, is_taken, is_directory=is_directory)


def _set_aside(directory: Path, wrong: list[str]) -> _Report:
    aside = directory.parent.parent / "damaged" / f"{directory.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    aside.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.rename(aside)
    saved = list(_save_unsent(aside))
    return {"verdict": "set aside", "wrong": wrong, "aside": str(aside), "saved": saved}


def _say(reports: list[_Report]) -> None:
    for report in reports:
        name = f"{report['job'] or 'unknown job'} at {report['directory'] or report['state']}"
        say(shown(f"{name}: {_WORDS.get(str(report['verdict']), report['verdict'])}"))
        remedies = _lines(report.get("remedies"))
        for number, line in enumerate(_lines(report.get("wrong"))):
            say(shown(f"  {line}: {remedies[number]}" if remedies else f"  {line}"))
        for heading in ("kept", "saved"):
            for line in _lines(report.get(heading)):
                say(shown(f"  {heading}: {line}"))
        _say_next(report)
    if not reports:
        say("there is no state of any workspace")


def _say_next(report: _Report) -> None:
    match report["verdict"]:
        case "damaged" if "remedies" in report:
            tell("  next: jobfs fsck --repair does that; what was not sent is kept")
        case "damaged":
            tell("  next: jobfs fsck --repair saves unsent files and sets the state aside; the next mount begins anew")
        case "set aside":
            say(shown(f"  it is now {report['aside']}; delete that when you need nothing of it"))
        case "too new":
            tell("  next: use that version; nothing was touched")


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
        yield str(_save(source, aside / "unsent", _path(rows, node), node))


def _save(source: Path, folder: Path, path: PurePosixPath, node: int) -> Path:
    """Copy a file to a path in a folder; where another one has that, to a name with the node's number in it."""
    target = folder / path
    if target.exists() or any(above.is_file() for above in target.parents):
        target = folder / f"{node}-{path.name}"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return target


_Row = tuple[int, str, int | None, str | None]
"""Parent, name, blob, and the item of the revision that the server has; None for unsent bytes."""

_SELECT = "SELECT id, parent, name, blob, rev_item FROM local"


def _readable_rows(database: Path) -> dict[int, _Row]:
    """Read the rows before the first page that is damaged, and those after the last one."""
    found: dict[int, _Row] = {}
    trouble: sqlite3.Error | None = None
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.text_factory = lambda raw: raw.decode(errors="replace")
        for order in ("ASC", "DESC"):
            try:
                for row in connection.execute(f"{_SELECT} ORDER BY id {order}"):
                    if fits(row, "iisIS"):
                        found[row[0]] = row[1:]
            except sqlite3.Error as error:
                trouble = error
    if trouble is not None:
        tell(f"jobfs: only a part of {database} can be read: {trouble}")
    return found


def _path(rows: dict[int, _Row], node: int) -> PurePosixPath:
    """Return the path of a node as far as its ancestors can be read; never one that leads elsewhere."""
    names: list[str] = []
    seen: set[int] = set()
    while node in rows and node not in seen and node != ROOT:
        seen.add(node)
        parent, name, _, _ = rows[node]
        names.append(alias_name(name) if name in ("", ".", "..") or {os.sep, "\0"} & set(name) else name)
        node = parent
    return PurePosixPath(*reversed(names))
