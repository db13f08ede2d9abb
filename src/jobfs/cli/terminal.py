"""What the user sees: results on stdout, everything else on stderr; pictures on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


def say(line: str) -> None:
    """Print a line of a result."""
    typer.echo(line)


def tell(line: str) -> None:
    """Print a line that is no result: progress, a hint, a warning."""
    typer.echo(line, err=True)


def say_json(value: object) -> None:
    """Print a result for programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=True))


def say_line_json(value: object) -> None:
    """Print a result for programs on one line, at once."""
    typer.echo(json.dumps(value, ensure_ascii=True))
    sys.stdout.flush()


def shown(text: str) -> str:
    """Return text of a server or a file name without anything that would steer the terminal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def say_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows: aligned and headed on a terminal; one line each, cells parted by tabs, elsewhere."""
    cells = [[shown(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in cells:
            say("\t".join(row))
        return
    table = Table(*headings, box=None, pad_edge=False, header_style="bold")
    for row in cells:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def human_size(size: int) -> str:
    """Return a number of bytes in three digits and a unit."""
    value = float(size)
    for unit in _SIZES:
        if value < 1024 or unit == _SIZES[-1]:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("the last unit takes every size")


class Progress:
    """One line that changes on a terminal; elsewhere only what is told with ``step``."""

    def __init__(self, status: Status | None) -> None:
        self._status = status

    def show(self, text: str) -> None:
        """Show how far it is; nothing of it stays."""
        if self._status is not None:
            self._status.update(Text(shown(text)))

    def step(self, text: str) -> None:
        """Tell something that stays."""
        if self._status is not None:
            self._status.console.print(Text(shown(text)))
        else:
            tell(shown(text))


@contextmanager
def progress(text: str) -> Iterator[Progress]:
    """Show that something is under way, on stderr."""
    if not sys.stderr.isatty():
        yield Progress(None)
        return
    with Console(stderr=True, highlight=False).status(Text(shown(text))) as status:
        yield Progress(status)
