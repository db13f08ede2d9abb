"""What commands share that ask for jobs and runs: the way to the two APIs, whose shapes ``remote`` does not need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from jobfs.api.runs import Runs
from jobfs.api.studio import Studio
from jobfs.workspace.connection import Connection
from jobfs.workspace.settings import Settings


@asynccontextmanager
async def open_studio(found: Settings) -> AsyncIterator[Studio]:
    """Open the studio's API."""
    async with aclosing(Connection(found)) as connection:
        yield connection.studio


@asynccontextmanager
async def open_runs(found: Settings) -> AsyncIterator[Runs]:
    """Open the API of runs."""
    async with aclosing(Connection(found)) as connection:
        yield connection.runs
