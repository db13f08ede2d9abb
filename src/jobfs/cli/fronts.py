"""Who is told how a mount or a folder does: a terminal with a moving display, plain lines, or a program.

All satisfy ``service.Front``. Results go to stdout, everything else to stderr; ``front_of`` chooses.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as ProgressBar
from rich.table import Column
from rich.text import Text

from jobfs.cli.gauge import Gauge, Reading, left_of
from jobfs.cli.instance import FOLDER, Instance
from jobfs.cli.order import Order
from jobfs.cli.outcome import Outcome, describe, describe_outcome, event_json, outcome_json
from jobfs.cli.terminal import Progress, human_size, progress, say, shown, tell
from jobfs.folder.report import SyncEvent, What
from jobfs.folder.sync import FolderSync
from jobfs.workspace.meter import Meter

_REDRAW_S = 0.2
_SCALE = 1000


def front_of(order: Order, *, as_json: bool = False) -> Lines | Events:
    """Return who is to be told: by what stdout and stderr are."""
    console = Console(stderr=True, highlight=False)
    has_display = console.is_interactive and not console.is_dumb_terminal
    if as_json:
        # Where both are the same terminal, lines and display would write over each other.
        return Events(order, Display(console) if has_display and not sys.stdout.isatty() else None)
    return Lines(Display(console) if has_display else None)


def tell_ready(instance: Instance) -> None:
    """Say what serves where."""
    if instance.kind == FOLDER:
        say(f"{instance.job} is kept in step with {instance.directory}")
    else:
        say(f"{instance.job} is mounted on {instance.directory} ({instance.transport})")


class Listener(Protocol):
    """What somebody who waits for a job or run tells meanwhile."""

    def show(self, text: str) -> None:
        """Show how far it is; nothing of it stays."""

    def step(self, line: str, value: dict[str, object]) -> None:
        """Tell something that stays: in words, and as a value for programs."""

    def happened(self, event: SyncEvent) -> None:
        """Tell what was done in the folder."""


class _Output:
    """Takes lines from within the work, to which it must be no failure that nobody reads them.

    What comes after the first line that could not be written is dropped.
    """

    def __init__(self) -> None:
        self.failure: OSError | None = None

    def put(self, write: Callable[[str], None], line: str) -> None:
        if self.failure is None:
            try:
                write(line)
            except OSError as error:
                self.failure = error


class _Spoken:
    def __init__(self, display: Progress) -> None:
        self._display = display
        self._output = _Output()

    def show(self, text: str) -> None:
        self._display.show(text)

    def step(self, line: str, value: dict[str, object]) -> None:
        self._output.put(self._display.step, f"{datetime.now().astimezone():%H:%M:%S} {line}")

    def happened(self, event: SyncEvent) -> None:
        self.step(describe(event), {})


class _Written:
    def __init__(self, events: Events) -> None:
        self._events = events

    def show(self, text: str) -> None:
        """Say nothing: it does not stay."""

    def step(self, line: str, value: dict[str, object]) -> None:
        self._events.put(value)

    def happened(self, event: SyncEvent) -> None:
        self._events.happened(event)


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
            self.print(f"{last.files:,} files, {human_size(last.size)} in {gauge.elapsed_s():.1f} s")


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


class Lines:
    """For people.

    :param display: of the terminal; None: a plain line for each event instead.
    """

    def __init__(self, display: Display | None) -> None:
        self._display = display
        self._output = _Output()

    def _tell(self, line: str) -> None:
        write = self._display.print if self._display is not None and self._display.is_on else tell
        self._output.put(write, shown(line))

    def note(self, line: str) -> None:
        """Tell something that is no failure."""
        self._tell(f"jobfs: {line}")

    def ready(self, instance: Instance) -> None:
        """Tell that it serves."""
        tell_ready(instance)
        tell("Ctrl-C ends it and sends what is left; a second one keeps that for the next time")

    @contextmanager
    def listening(self, text: str) -> Iterator[Listener]:
        """Give somebody who waits the means to tell what happens meanwhile.

        :param text: what is shown on a terminal until there is more to say.
        """
        with progress(text) as display:
            yield _Spoken(display)

    def happened(self, event: SyncEvent) -> None:
        """Tell what was done in a folder. Where the display shows files and bytes it counts them."""
        if self._display is not None and self._display.is_on:
            self._display.note(event)
            if event.what not in (What.CONFLICT, What.POLLING):
                return
        self._tell(describe(event))

    def draining(self, left: int) -> None:
        """Tell how many changes are still to be sent."""
        tell(f"sending {left} changes")

    @asynccontextmanager
    async def working(self, sync: FolderSync, meter: Meter) -> AsyncIterator[None]:
        """Show how far a synchronisation is while the context lasts."""
        if self._display is None:
            yield
            return
        async with self._display.showing(sync, meter):
            yield

    def ended(self, outcome: Outcome) -> None:
        """Tell what was done in a folder, all in all."""
        for line in describe_outcome(outcome):
            say(shown(line))
        if outcome.is_trial and outcome.summary.guard:
            tell(f"jobfs: it would be stopped: {outcome.summary.guard}")
        if outcome.unsent:
            tell(f"jobfs: {outcome.unsent} changes could not be sent; they stay in the folder")
            tell("  next: see the reasons, change what they name, and synchronise again")


class Events:
    """For programs: each event is one line of JSON on stdout.

    :param display: shown beside that on stderr; None: nothing is.
    """

    def __init__(self, order: Order, display: Display | None) -> None:
        self._lines = Lines(display)
        self._display = display
        self._disputed: set[str] = set()
        self._output = _Output()
        self.put({"event": "start", "job": order.job, "directory": order.directory, "direction": order.direction})

    def put(self, value: dict[str, object]) -> None:
        """Print an event."""
        self._output.put(say, json.dumps(value, ensure_ascii=True))

    def note(self, line: str) -> None:
        """Tell something that is no failure."""
        self._lines.note(line)

    def ready(self, instance: Instance) -> None:
        """Tell that it serves."""
        self.put({"event": "ready"})

    @contextmanager
    def listening(self, text: str) -> Iterator[Listener]:
        """Give somebody who waits the means to tell what happens meanwhile."""
        yield _Written(self)

    def happened(self, event: SyncEvent) -> None:
        """Tell what was done in a folder."""
        if self._display is not None:
            self._display.note(event)
        if event.what is What.CONFLICT:
            self._disputed.add(event.path)
        self.put(event_json(event))

    def draining(self, left: int) -> None:
        """Tell how many changes are still to be sent."""
        self.put({"event": "draining", "left": left})

    @asynccontextmanager
    async def working(self, sync: FolderSync, meter: Meter) -> AsyncIterator[None]:
        """Show how far a synchronisation is while the context lasts."""
        async with self._lines.working(sync, meter):
            yield

    def ended(self, outcome: Outcome) -> None:
        """Tell what was done in a folder, all in all.

        :raises OSError: not every event could be written.
        """
        for step in outcome.summary.steps:
            self.happened(step)
        for conflict in outcome.conflicts:
            if conflict.path not in self._disputed:
                self.put({"event": "conflict", "path": conflict.path, "reason": conflict.reason})
        for skipped in outcome.skipped:
            self.put({"event": "skipped", "path": skipped.path, "reason": skipped.reason})
        self.put(outcome_json(outcome))
        if self._output.failure is not None:
            raise self._output.failure
