"""``jobfs put``: send local files to a workspace."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.listed import list_workspace
from jobfs.cli.remote import open_writable, run
from jobfs.cli.tally import Tally, tallied
from jobfs.cli.terminal import tell
from jobfs.errors import JobfsError, PathExists, SettingsError
from jobfs.planner.naming import check_path
from jobfs.workspace.changes import Writer, check_parent, open_writer, target_in
from jobfs.workspace.line import meter_of
from jobfs.workspace.places import Place, parse_place
from jobfs.workspace.settings import Settings
from jobfs.workspace.snapshot import Snapshot
from jobfs.workspace.states import state_root

_PARALLEL = 8
_STDIN = "-"


@dataclass(frozen=True, slots=True)
class _Task:
    """One thing to send: a directory to be made, or a file.

    :param size: bytes of a file, as it is now.
    """

    place: Place
    source: Path
    is_directory: bool
    size: int = 0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("put", epilog="Example: jobfs put -r data notes.md abc123:/inputs/")(put)


def put(
    context: typer.Context,
    words: Annotated[
        list[str], typer.Argument(metavar="FILE... JOB:/PATH", help="Local files, then where to; - is standard input.")
    ],
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Also directories.")] = False,
) -> None:
    """Send local files. A file that is there is replaced: both versions exist until the new one is in its place."""
    if len(words) < 2:
        raise SettingsError("put needs a file and where it goes", "write jobfs put FILE JOB:/PATH")
    place = parse_place(words[-1])
    with ExitStack() as stack:
        sources = [_local(word, stack) for word in words[:-1]]
        for source in sources:
            _check_local(source, is_recursive=recursive)
        run(_put(load_settings(context), [(Path(word).name, one) for word, one in _named(words, sources)], place))


def _named(words: list[str], sources: list[Path]) -> Iterator[tuple[str, Path]]:
    for word, source in zip(words, sources, strict=False):
        yield ("stdin" if word == _STDIN else str(Path(word).resolve())), source


def _local(word: str, stack: ExitStack) -> Path:
    """Return a local file; standard input is kept in a temporary one, for its length must be known."""
    if word != _STDIN:
        return Path(word)
    spool = stack.enter_context(tempfile.NamedTemporaryFile(prefix="jobfs-"))  # noqa: SIM115  (the stack closes it)
    shutil.copyfileobj(sys.stdin.buffer, spool)
    spool.flush()
    return Path(spool.name)


def _check_local(source: Path, *, is_recursive: bool) -> None:
    if source.is_dir():
        if not is_recursive:
            raise SettingsError(f"{source} is a directory", "add -r to send directories")
    elif not source.is_file():
        raise SettingsError(f"{source} is no file here", "check the name")


async def _put(settings: Settings, sources: list[tuple[str, Path]], place: Place) -> None:
    meter = meter_of(settings)
    async with (
        open_writable(settings, place, meter) as remote,
        open_writer(remote, state_root(), settings.url, place.job) as writer,
    ):
        snapshot = await list_workspace(remote)
        tasks: list[_Task] = []
        for name, source in sources:
            if len(sources) > 1 and not _is_directory(snapshot, place):
                raise SettingsError(f"{place} is no directory, and cannot take several files", "make it first")
            target = target_in(snapshot, place, name)
            check_parent(snapshot, target)
            tasks += _tasks(target, source)
        await _make_all(writer, snapshot, tasks)
        files = [task for task in tasks if not task.is_directory]
        async with tallied("sending", (task.size for task in files), meter) as tally:
            await _send_all(writer, snapshot, files, tally)


def _is_directory(snapshot: Snapshot, place: Place) -> bool:
    found = snapshot.get(place.path)
    return found is not None and found.is_directory


def _tasks(target: Place, source: Path) -> Iterator[_Task]:
    """Yield what a local file or directory comes to; what the server cannot hold is named and left out."""
    if not source.is_dir():
        yield _Task(target, source, False, source.stat().st_size)
        return
    yield _Task(target, source, True)
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        place = target.child(entry.name)
        if check_path(place.path) is not None:
            tell(f"left out: {Path(entry.path)!s}: the server cannot hold this name".encode(errors="replace").decode())
        elif entry.is_symlink() or not (entry.is_dir() or entry.is_file()):
            tell(f"left out: {entry.path} is no ordinary file")
        else:
            yield from _tasks(place, Path(entry.path))


async def _make_all(writer: Writer, snapshot: Snapshot, tasks: list[_Task]) -> None:
    for task in tasks:
        if task.is_directory:
            await _make(writer, snapshot, task.place)


async def _send_all(writer: Writer, snapshot: Snapshot, files: list[_Task], tally: Tally) -> None:
    """Send files, several at once."""
    slots = asyncio.Semaphore(_PARALLEL)

    async def send(task: _Task) -> None:
        async with slots:
            with tally.moving(task.place.path, task.size):
                await writer.put(task.place, task.source, snapshot.get(task.place.path))

    try:
        async with asyncio.TaskGroup() as group:
            for task in files:
                group.create_task(send(task))
    except ExceptionGroup as failures:
        raise _first(failures) from None


async def _make(writer: Writer, snapshot: Snapshot, place: Place) -> None:
    there = snapshot.get(place.path)
    if there is not None and there.is_directory:
        return
    if there is not None:
        raise PathExists(f"{place} is a file there and a directory here", "remove or move one of them")
    await writer.make_directory(place)


def _first(failures: ExceptionGroup[Exception]) -> Exception:
    """Return the failure to tell of: one of ours before any other."""
    flat = list(_flat(failures))
    return next((error for error in flat if isinstance(error, JobfsError)), flat[0])


def _flat(failures: ExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in failures.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _flat(error)
        else:
            yield error
