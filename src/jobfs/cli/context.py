"""What commands share: the general options, and the way to the server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import typer

from jobfs.api.runs import DEFAULT_BASE as DEFAULT_RUNS_BASE
from jobfs.api.runs import RunFiles, Runs, base_of
from jobfs.api.studio import Studio
from jobfs.api.transport import RequestHook, Transport
from jobfs.cli import settings
from jobfs.cli.meter import Meter, MeteredTransport
from jobfs.cli.places import RUN_PREFIX, Place
from jobfs.cli.settings import Chosen, Settings
from jobfs.cli.terminal import tell
from jobfs.engine.remote import Remote
from jobfs.errors import Interrupted, Refused

_T = TypeVar("_T")


def chosen(context: typer.Context) -> Chosen:
    """Return the general options of the command that runs."""
    found = context.find_root().obj
    return found if isinstance(found, Chosen) else Chosen()


def load_settings(context: typer.Context) -> Settings:
    """Decide server and key, and tell the warnings."""
    found = settings.load(chosen(context), os.environ)
    for warning in found.warnings:
        tell(f"jobfs: warning: {warning}")
    return found


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end; Ctrl-C cancels it.

    :raises Interrupted: the user stopped it.
    """
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise Interrupted("stopped") from None


@asynccontextmanager
async def open_studio(found: Settings) -> AsyncIterator[Studio]:
    """Open the studio's API."""
    async with Transport(found.url, found.api_key, found.system_key) as transport:
        yield Studio(transport)


def runs_base(found: Settings) -> str:
    """Return the address of the API of runs."""
    return DEFAULT_RUNS_BASE if found.is_default_url else base_of(found.url)


@asynccontextmanager
async def open_runs(found: Settings) -> AsyncIterator[Runs]:
    """Open the API of runs."""
    async with Transport(runs_base(found), found.api_key) as transport:
        yield Runs(transport)


@asynccontextmanager
async def open_remote(
    found: Settings, job: str, on_request: RequestHook | None = None, *, meter: Meter | None = None
) -> AsyncIterator[Remote]:
    """Open the workspace of a job, or the files of a run where its id is written ``run:RUN``.

    :param meter: counts large contents while they pass.
    """
    is_run = job.startswith(RUN_PREFIX)
    base = runs_base(found) if is_run else found.url
    keys = (found.api_key, None if is_run else found.system_key)
    if meter is None:
        opened = Transport(base, *keys, on_request=on_request)
    else:
        opened = MeteredTransport(base, *keys, meter=meter, on_request=on_request)
    async with opened as transport:
        if is_run:
            yield RunFiles(Runs(transport), job.removeprefix(RUN_PREFIX))
        else:
            yield Studio(transport).workspace(job)


@asynccontextmanager
async def open_writable(found: Settings, place: Place) -> AsyncIterator[Remote]:
    """Open a workspace that is to be changed.

    :raises Refused: it is a run, which nobody can change.
    """
    async with open_remote(found, place.job) as remote:
        if remote.is_read_only:
            raise Refused(f"{place}: the files of a run cannot be changed", "copy them to a place of your own")
        yield remote
