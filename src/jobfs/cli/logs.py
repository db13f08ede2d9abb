"""``jobfs logs``: what a mount or synchronised folder has done, and does."""

from __future__ import annotations

import io
import os
import re
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import IO, Annotated

import typer

from jobfs.cli.logbook import LOG_NAME
from jobfs.cli.mount import LevelChoice
from jobfs.cli.terminal import say, shown, tell
from jobfs.workspace.instance import find

_LOOK_S = 0.25
_RECORD = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2},\d{3} ([A-Z]+) ")
_LEVELS = {"DEBUG": 0, "INFO": 1, "WARNING": 2, "ERROR": 3, "CRITICAL": 3}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("logs", epilog="Example: jobfs logs ~/job -n 20 --level warning")(logs)


def logs(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The mount point, or the synchronised folder.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="So many of the last lines.")] = 100,
    level: Annotated[LevelChoice, typer.Option(help="Only this, and what is more important.")] = LevelChoice.DEBUG,
) -> None:
    """Show the log of a mount or synchronised folder, also after it has ended. What goes into it: --log-level there."""
    log = find(directory)[0].state / LOG_NAME
    wanted = Wanted(_LEVELS[level.value.upper()])
    before, after = _files(log)
    for line in deque(wanted(before), maxlen=lines):
        say(shown(line))
    if not follow:
        return
    tell(f"following {log}; Ctrl-C ends it")
    try:
        for line in wanted(grown(log, after)):
            say(shown(line))
    except KeyboardInterrupt:
        return  # that is how it ends


class Wanted:
    """Keeps the records of a log that are important enough, each with all of its lines.

    :param least: the importance from which on.
    """

    def __init__(self, least: int) -> None:
        self._least = least
        self._is_shown = True

    def __call__(self, lines: Iterable[str]) -> Iterator[str]:
        """Yield the lines to show."""
        for line in lines:
            record = _RECORD.match(line)
            if record is not None:
                self._is_shown = _LEVELS.get(record[1], self._least) >= self._least
            if self._is_shown:
                yield line


def _files(log: Path) -> tuple[list[str], int]:
    """Return all lines that there are, oldest first, and how far the newest file was read."""
    older = sorted(log.parent.glob(f"{log.name}.*"), key=lambda path: int(path.suffix[1:] or 0), reverse=True)
    lines = [line for path in older for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    newest = log.read_bytes() if log.exists() else b""
    whole = newest.rfind(b"\n") + 1
    return lines + newest[:whole].decode("utf-8", "replace").splitlines(), whole


def grown(log: Path, at: int) -> Generator[str, None, None]:
    """Yield each line that is added to a log, for ever; over the change to a new file as well.

    :param at: where to begin.
    """
    file: IO[bytes] = log.open("rb") if log.exists() else io.BytesIO()
    file.seek(at)
    rest = b""
    try:
        while True:
            # Looked at before the last read: what was renamed away gets no further line, so that read is its end.
            is_over = log.exists() and not _is_same(log, file)
            piece = file.read()
            *lines, rest = (rest + piece).split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in lines)
            if is_over:
                file.close()
                file, rest = log.open("rb"), b""
            elif not piece:
                time.sleep(_LOOK_S)
    finally:
        file.close()


def _is_same(log: Path, file: IO[bytes]) -> bool:
    return isinstance(file, io.BufferedReader) and os.path.samestat(log.stat(), os.fstat(file.fileno()))
