"""The way to one server: its connections, and the workspaces behind them. All that a mount needs of a server.

``connection`` adds the APIs of jobs and runs, whose shapes take longer to load than everything here.
"""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack

from jobfs.api.address import DEFAULT_RUNS_BASE, base_of_runs
from jobfs.api.call import Timeouts
from jobfs.api.limiter import Limits
from jobfs.api.transport import Transport
from jobfs.api.workspace import Workspace
from jobfs.engine.remote import Remote
from jobfs.errors import Refused
from jobfs.workspace.meter import Meter, MeteredTransport, Pace
from jobfs.workspace.places import RUN_PREFIX
from jobfs.workspace.settings import Settings


class Line:
    """One server with one key. Connects when it is needed; close it in the end, on the loop that has used it.

    :param meter: counts requests, and large contents while they pass.
    """

    def __init__(self, settings: Settings, *, meter: Meter | None = None) -> None:
        self.settings = settings
        self._meter = meter or meter_of(settings)
        self._stack = AsyncExitStack()
        self._jobs: Transport | None = None
        self._runs: Transport | None = None

    def to_jobs(self) -> Transport:
        """Return what carries requests to the API of jobs."""
        if self._jobs is None:
            self._jobs = self._open(self.settings.url, self.settings.system_key)
        return self._jobs

    def to_runs(self) -> Transport:
        """Return what carries requests to the API of runs."""
        if self._runs is None:
            self._runs = self._open(runs_base(self.settings), None)
        return self._runs

    def _open(self, base: str, system_key: str | None) -> Transport:
        transport = _transport(self.settings, base, system_key, self._meter)
        self._stack.push_async_callback(transport.aclose)
        return transport

    def remote(self, job: str) -> Remote:
        """Return the workspace of a job, or the files of a run where it is written ``run:RUN``; asks nothing yet."""
        if job.startswith(RUN_PREFIX):
            from jobfs.api.runs import RunFiles, Runs

            return RunFiles(Runs(self.to_runs()), job.removeprefix(RUN_PREFIX))
        return Workspace(self.to_jobs(), job)

    async def aclose(self) -> None:
        """Close every connection. May be called twice."""
        self._jobs = self._runs = None
        await self._stack.aclose()


def runs_base(found: Settings) -> str:
    """Return the address of the API of runs."""
    return DEFAULT_RUNS_BASE if found.is_default_url else base_of_runs(found.url)


def check_changes(*, is_read_only: bool) -> None:
    """Refuse to change anything on a server whose profile says so.

    :raises Refused:
    """
    if is_read_only:
        raise Refused("the profile is read-only", "choose another one with --profile")


def meter_of(found: Settings) -> Meter:
    """Return a meter that keeps to the limits of the settings."""
    return Meter(up=Pace(found.pacing.up), down=Pace(found.pacing.down))


def _transport(found: Settings, base: str, system_key: str | None, meter: Meter) -> Transport:
    most = found.pacing.connections or Limits().most
    limits = Limits(min(Limits().start, most), most)
    # What may be slow is given the time for it, shared by all that goes at once.
    slowest = min(Timeouts().slowest_bytes_per_s, max(1, (found.pacing.up or sys.maxsize) // (2 * most)))
    return MeteredTransport(
        base,
        found.api_key,
        system_key,
        meter=meter,
        limits=limits,
        timeouts=Timeouts(slowest_bytes_per_s=slowest),
    )
