"""What commands share that work on one workspace: the way to it, and to the end of what they do there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager
from itertools import groupby
from typing import Any, TypeVar

from jobfs.engine.remote import Remote
from jobfs.errors import Interrupted, Refused
from jobfs.workspace.instance import tell_mounts
from jobfs.workspace.line import Line, check_changes
from jobfs.workspace.meter import Meter
from jobfs.workspace.places import Place
from jobfs.workspace.settings import Settings

_T = TypeVar("_T")

_TELL_S = 2.0
"""So long a mount of the same workspace has to take it in that it should look; one that is stopped is left alone."""


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end; Ctrl-C cancels it.

    :raises Interrupted: the user stopped it.
    """
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise Interrupted("stopped") from None


def by_job(places: Iterable[Place]) -> Iterator[list[Place]]:
    """Yield places in their order, those of one workspace that follow each other together."""
    for _, found in groupby(places, key=lambda place: place.job):
        yield list(found)


@asynccontextmanager
async def open_remote(found: Settings, job: str, meter: Meter | None = None) -> AsyncIterator[Remote]:
    """Open the workspace of a job, or the files of a run where its id is written ``run:RUN``.

    :param meter: counts requests, and large contents while they pass.
    """
    async with aclosing(Line(found, meter=meter)) as line:
        yield line.remote(job)


@asynccontextmanager
async def open_writable(found: Settings, place: Place, meter: Meter | None = None) -> AsyncIterator[Remote]:
    """Open a workspace that is to be changed. Mounts and folders of it on this machine look at it afterwards.

    :raises Refused: it is a run, which nobody can change, or the profile is read-only.
    """
    check_changes(is_read_only=found.is_read_only)
    async with open_remote(found, place.job, meter) as remote:
        if remote.is_read_only:
            raise Refused(f"{place}: the files of a run cannot be changed", "copy them to a place of your own")
        yield remote
    tell_mounts(found.url, place.job, "poke", timeout_s=_TELL_S)
