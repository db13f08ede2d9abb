"""What moves or is drawn on a terminal: loaded only where there is one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.progress import BarColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as ProgressBar
from rich.status import Status
from rich.table import Column, Table
from rich.text import Text

from jobfs.cli.gauge import Gauge, Left, Reading
from jobfs.cli.terminal import human_size, many
from jobfs.engine.session import Session
from jobfs.folder.report import SyncEvent
from jobfs.folder.sync import FolderSync
from jobfs.workspace.meter import Meter

_REDRAW_S = 0.2
_SCALE = 1000
_GAP = 2
_READABLE = 20
"""A column is at least this wide, or as its longest cell: no time or size is folded."""


class _Terminal(Console):
    """A terminal that keeps its cursor: one that is hidden stays so where a signal ends us."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


def _console(*, stderr: bool = False) -> Console:
    """Return a terminal. With NO_COLOR it gets plain text altogether, where the library would still print bold."""
    return _Terminal(stderr=stderr, highlight=False, color_system=None if os.environ.get("NO_COLOR") else "auto")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], whole: Collection[str] = ()) -> None:
    """Print rows on stdout, aligned and headed; where they would not be readable so, each on several lines.

    Nothing is cut: cells are folded.

    :param whole: headings of columns whose cells are not even folded, since they are there to be copied.
    """
    console = _console()
    columns = [_column(heading, [row[at] for row in rows], whole) for at, heading in enumerate(headings)]
    # The library counts the gap of the last column, too.
    if sum((column.min_width or 0) + _GAP for column in columns) > console.width:
        _print_records(console, headings, rows, whole)
        return
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _column(heading: str, cells: Sequence[str], whole: Collection[str]) -> Column:
    if heading in whole:
        width = max(map(cell_len, (heading, *cells)))
        return Column(heading, no_wrap=True, min_width=width)
    longest = max(map(cell_len, (heading, *cells)))
    return Column(heading, overflow="fold", min_width=min(longest, _READABLE))


def _print_records(
    console: Console, headings: Sequence[str], rows: Iterable[Sequence[str]], whole: Collection[str]
) -> None:
    """Print of each row first what is to be copied, as it is, and below it the rest."""
    for row in rows:
        told = [(heading in whole, cell) for heading, cell in zip(headings, row, strict=True) if cell]
        console.print(Text("  ".join(cell for is_whole, cell in told if is_whole)), soft_wrap=True)
        rest = Text("  ".join(cell for is_whole, cell in told if not is_whole), overflow="fold")
        console.print(Padding(rest, (0, 0, 0, 2), expand=False))


def show_pages(pages: Iterable[Sequence[str]]) -> None:
    """Fill the screen with lines, and with others as they come; afterwards it is as before."""
    console = _console()
    with Live(console=console, auto_refresh=False, screen=True) as live:
        for lines in pages:
            text = "\n".join(lines[: max(1, console.height)])
            live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)


def _one_line(text: str) -> Text:
    """Return a text that is cut at the edge of the terminal: what took two lines could not be drawn over."""
    return Text(text, no_wrap=True, overflow="ellipsis")


class Spinner:
    """One line on stderr that moves while the context lasts."""

    def __init__(self, text: str) -> None:
        self._status = Status(_one_line(text), console=_console(stderr=True))

    def __enter__(self) -> Spinner:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def update(self, text: str) -> None:
        """Show something else."""
        self._status.update(_one_line(text))

    def print(self, text: str) -> None:
        """Print a line above it that stays."""
        self._status.console.print(Text(text), soft_wrap=True)


def display() -> Display | None:
    """Return a display on stderr; None where that terminal cannot move what it shows."""
    console = _console(stderr=True)
    return Display(console) if console.is_interactive and not console.is_dumb_terminal else None


class Display:
    """One line on a terminal that shows how far a synchronisation is: drawn anew five times a second, never oftener.

    It is drawn by the loop, between other things: whatever happens meanwhile is only counted.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._gauge: Gauge | None = None

    @property
    def is_on(self) -> bool:
        """Whether it is shown now."""
        return self._gauge is not None

    def note(self, event: SyncEvent) -> None:
        """Count an event."""
        if self._gauge is not None:
            self._gauge.note(event)

    def print(self, line: str) -> None:
        """Print a line above it that stays."""
        self._console.print(Text(line), soft_wrap=True)

    @asynccontextmanager
    async def showing(self, sync: FolderSync, meter: Meter) -> AsyncIterator[None]:
        """Show a synchronisation while the context lasts; nothing of it stays."""
        self._gauge = gauge = Gauge(partial(left_of, sync.session), meter)
        numbers = TextColumn("{task.fields[numbers]}", markup=False, table_column=Column(no_wrap=True))
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=None), numbers)
        with ProgressBar(
            *columns,
            console=self._console,
            auto_refresh=False,
            transient=True,
            expand=True,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as bar:
            drawing = asyncio.create_task(_draw(bar, gauge), name="progress-display")
            try:
                yield
            finally:
                self._gauge = None
                drawing.cancel()
                with suppress(asyncio.CancelledError):
                    await drawing
        last = gauge.read()
        if last.files:
            self.print(f"{many(last.files, 'file')}, {human_size(last.size)} in {gauge.elapsed_s():.1f} s")


def left_of(session: Session) -> Left:
    """Return what a session has still to send or to receive, as far as it knows by now. Looks at every node."""
    base, remote = session.state.base, session.trees.remote
    coming = {}
    if session.options.pulls:
        for entry in remote.entries():
            if entry.content is not None:
                known = base.get(entry.id)
                if known is None or known.content is None or known.content.revision != entry.content.revision:
                    coming[entry.id] = entry.content.size
    files, size = len(coming), sum(coming.values())
    if session.options.pushes:
        for record in session.state.local.entries():
            is_going = record.is_dirty and not record.is_local_only and record.id not in coming
            is_going = is_going and not session.hold.keeps(record.id)
            if record.content is not None and is_going:
                files += 1
                size += record.content.size
    return Left(files, size)


async def _draw(bar: ProgressBar, gauge: Gauge) -> None:
    task = bar.add_task("comparing", total=None, numbers="")
    while True:
        reading = gauge.read()
        if reading.share is not None:
            numbers = progress_numbers(reading)
            completed = reading.share * _SCALE
            bar.update(task, description="", total=_SCALE, completed=completed, numbers=numbers)
        bar.refresh()
        await asyncio.sleep(_REDRAW_S)


def progress_numbers(reading: Reading) -> str:
    """Return files, bytes, rate and remaining time as one short text."""
    total = f"{reading.total_files:,}"
    parts = [f"{reading.files:>{len(total)},}/{total} files"]
    parts.append(f"{human_size(reading.size):>8}/{human_size(reading.total_size)}")
    parts.append(f"{human_size(int(reading.rate)):>8}/s")
    if reading.remaining_s is not None:
        minutes, seconds = divmod(round(reading.remaining_s), 60)
        hours, minutes = divmod(minutes, 60)
        parts.append(f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left")
    return "  ".join(parts)
