"""Who is told how a mount or a folder does: a terminal with a moving display, plain lines, or a program.

All satisfy ``synced.FolderFront``. Results go to stdout, everything else to stderr; ``front_of`` chooses.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import datetime
from typing import Protocol

from jobfs.cli.loading import load
from jobfs.cli.order import Order
from jobfs.cli.outcome import Outcome, describe, describe_outcome, event_json, outcome_json
from jobfs.cli.overview import tell_ready
from jobfs.cli.terminal import Progress, local_time, many, progress, say, shown, tell
from jobfs.folder.report import SyncEvent, What
from jobfs.folder.sync import FolderSync
from jobfs.workspace.instance import Instance
from jobfs.workspace.meter import Meter


def front_of(order: Order, *, as_json: bool = False) -> Lines | Events:
    """Return who is to be told: by what stdout and stderr are."""
    display: Display | None = load("pictures").display() if sys.stderr.isatty() else None
    if as_json:
        # Where both are the same terminal, lines and display would write over each other.
        return Events(order, display if not sys.stdout.isatty() else None)
    return Lines(display)


class Display(Protocol):
    """What a terminal shows of a synchronisation; ``pictures`` has it."""

    @property
    def is_on(self) -> bool:
        """Whether it is shown now."""

    def note(self, event: SyncEvent) -> None:
        """Count an event."""

    def print(self, line: str) -> None:
        """Print a line above it that stays."""

    def showing(self, sync: FolderSync, meter: Meter) -> AbstractAsyncContextManager[None]:
        """Show a synchronisation while the context lasts; nothing of it stays."""


class Listener(Protocol):
    """What somebody who waits for a job or run tells meanwhile."""

    def show(self, text: str) -> None:
        """Show how far it is; nothing of it stays."""

    def step(self, line: str, value: dict[str, object], *, at: datetime | None = None) -> None:
        """Tell something that stays: in words, and as a value for programs.

        :param at: when it happened; None: just now.
        """

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

    def step(self, line: str, value: dict[str, object], *, at: datetime | None = None) -> None:
        self._output.put(self._display.step, f"{_clock_time(at)} {line}")

    def happened(self, event: SyncEvent) -> None:
        self.step(describe(event), {})


def _clock_time(moment: datetime | None) -> str:
    """Return a time of today as a clock shows it, another with its day; of none, the present."""
    now = datetime.now().astimezone()
    local = now if moment is None else moment.astimezone()
    return f"{local:%H:%M:%S}" if local.date() == now.date() else local_time(local)


class _Written:
    def __init__(self, events: Events) -> None:
        self._events = events

    def show(self, text: str) -> None:
        """Say nothing: it does not stay."""

    def step(self, line: str, value: dict[str, object], *, at: datetime | None = None) -> None:
        self._events.put(value)

    def happened(self, event: SyncEvent) -> None:
        self._events.happened(event)


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
        tell(f"sending {many(left, 'change')}")

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
            tell(f"jobfs: {many(outcome.unsent, 'change')} could not be sent; kept in the folder")
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
