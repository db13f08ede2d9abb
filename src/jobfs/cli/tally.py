"""How far ``jobfs put`` and ``jobfs get`` are: files, bytes, rate and remaining time, where somebody waits for them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from jobfs.cli.gauge import Gauge, Left
from jobfs.cli.loading import load
from jobfs.cli.terminal import progress
from jobfs.folder.report import SyncEvent, What
from jobfs.workspace.meter import Meter

_PATIENCE_S = 0.5
"""So long nobody wonders: most files are through by then."""

_REDRAW_S = 0.2


class Tally:
    """Counts what one command moves.

    :param verb: what is done to a file: ``sending``. :param sizes: of all files, in bytes.
    :param meter: counts large contents while they pass.
    """

    def __init__(self, verb: str, sizes: Iterable[int], meter: Meter) -> None:
        told = list(sizes)
        self._verb = verb
        self._path = ""
        self._left = Left(len(told), sum(told))
        self._gauge = Gauge(lambda: self._left, meter)

    @contextmanager
    def moving(self, path: str, size: int) -> Iterator[None]:
        """Count a file as done when the context ends well."""
        self._path = path
        yield
        self._left = Left(self._left.files - 1, self._left.size - size)
        self._gauge.note(SyncEvent(What.PUSHED, path, size))

    def told(self) -> str:
        """Say how far it is."""
        numbers: str = load("pictures").progress_numbers(self._gauge.read())
        # A long path is cut at the edge of the terminal, so it comes last.
        return f"{self._verb} {' '.join(numbers.split())}  {self._path}"


@asynccontextmanager
async def tallied(verb: str, sizes: Iterable[int], meter: Meter) -> AsyncIterator[Tally]:
    """Show on a terminal how far it is, where it takes long; nothing of it stays."""
    tally = Tally(verb, sizes, meter)
    if not sys.stderr.isatty():
        yield tally
        return
    drawing = asyncio.create_task(_draw(tally), name="tally-display")
    try:
        yield tally
    finally:
        drawing.cancel()
        with suppress(asyncio.CancelledError):
            await drawing


async def _draw(tally: Tally) -> None:
    await asyncio.sleep(_PATIENCE_S)
    with progress(tally.told()) as display:
        while True:
            await asyncio.sleep(_REDRAW_S)
            display.show(tally.told())
