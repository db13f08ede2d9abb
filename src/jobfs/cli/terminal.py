"""What the user sees: results on stdout, everything else on stderr; pictures on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol, TextIO

from jobfs.cli.loading import load

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


def say(line: str) -> None:
    """Print a line of a result."""
    _put(sys.stdout, line)


def tell(line: str) -> None:
    """Print a line that is no result: progress, a hint, a warning."""
    _put(sys.stderr, line)


def say_json(value: object) -> None:
    """Print a result for programs."""
    say(json.dumps(value, indent=2, ensure_ascii=True))


def say_line_json(value: object) -> None:
    """Print a result for programs on one line, at once."""
    say(json.dumps(value, ensure_ascii=True))


def _put(stream: TextIO, line: str) -> None:
    try:
        stream.write(f"{line}\n")
    except UnicodeEncodeError:  # a locale that has no such character
        stream.write(f"{line.encode(stream.encoding, 'backslashreplace').decode(stream.encoding)}\n")
    stream.flush()  # whoever reads it is to see it now


def shown(text: str) -> str:
    """Return text of a server or a file name without anything that would steer the terminal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def say_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, whole: Collection[str] = ("id",)) -> None:
    """Print rows: aligned and headed on a terminal; one line each, cells parted by tabs, elsewhere.

    :param whole: headings of columns that are never cut or folded, however narrow the terminal is.
    """
    cells = [[shown(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in cells:
            say("\t".join(row))
        return
    load("pictures").print_table(headings, cells, whole)


def local_time(told: str | datetime | None) -> str:
    """Return a time as a user of this machine reads it; of none, nothing."""
    if not told:
        return ""
    moment = datetime.fromisoformat(told) if isinstance(told, str) else told
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def many(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def human_size(size: int) -> str:
    """Return a number of bytes in three digits and a unit."""
    value = float(size)
    for unit in _SIZES:
        if value < 1024 or unit == _SIZES[-1]:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("the last unit takes every size")


class _Spinner(Protocol):
    """What ``pictures`` moves on a terminal."""

    def update(self, text: str) -> None:
        """Show something else."""

    def print(self, text: str) -> None:
        """Print a line above it that stays."""


class Progress:
    """One line that changes on a terminal; elsewhere only what is told with ``step``."""

    def __init__(self, spinner: _Spinner | None) -> None:
        self._spinner = spinner

    def show(self, text: str) -> None:
        """Show how far it is; nothing of it stays."""
        if self._spinner is not None:
            self._spinner.update(shown(text))

    def step(self, text: str) -> None:
        """Tell something that stays."""
        if self._spinner is not None:
            self._spinner.print(shown(text))
        else:
            tell(shown(text))


@contextmanager
def progress(text: str) -> Iterator[Progress]:
    """Show that something is under way, on stderr."""
    if not sys.stderr.isatty():
        yield Progress(None)
        return
    with load("pictures").Spinner(shown(text)) as spinner:
        yield Progress(spinner)
