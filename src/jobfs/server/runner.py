"""Runs queued jobs as local commands, at most two at a time.

The runner learns of a queued job at once, from the server's own news, and looks by itself every few seconds in case it
missed one. It asks for what it needs and reports what happened through the internal endpoints (``internal_api``); the
files go through the side door (``sandbox``). A job runs like this:

1. ``processing``; the workspace is copied into a scratch directory (``working_copy``).
2. The expert's command runs there (``command``), while its outputs are stored as they appear, each with a checkpoint.
3. Everything is stored, the last checkpoint keeps output and exit code, and only then the status changes: whoever sees
   a job that has ended sees all of its files.

A job that is ``canceling`` has its command ended and becomes ``canceled``; so do the jobs that run when the server
shuts down. A job that was running when the server was *killed* becomes ``failed`` at the next start, with the reason in
its last checkpoint: its command may have done half of something outside the workspace, so repeating it is for people to
decide. A command that outlived the killed server is ended then.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from jobfs.model import JobClass, job_class
from jobfs.server import command
from jobfs.server.command import Ending, Outcome
from jobfs.server.experts import Expert
from jobfs.server.internal_api import InternalApi, WorkspaceToRun
from jobfs.server.progress import Progress
from jobfs.server.registry import expert_name
from jobfs.server.sandbox import Sandbox, unsettled_jobs
from jobfs.server.state import ServerState
from jobfs.server.working_copy import WorkingCopy

_log = logging.getLogger("jobfs.server.runner")

CONCURRENCY = 2
SCAN_S = 0.25
"""Seconds between two looks at a working directory; an output is stored at the second look that finds it unchanged."""
SCAN_SHARE = 10
"""A look at a large directory is followed by a pause this many times as long."""
POLL_S = 5.0
"""Seconds after which the runner looks for queued jobs by itself."""

EXIT_STATUS = {0: "completed", 75: "exceededMaxSteps", 76: "requestInteractiveToolResult"}
"""Job statuses by exit code; 75 is EX_TEMPFAIL of sysexits. Any other code means ``failed``."""


class Runner:
    """The runner of one server. All of it lives on the server's loop.

    :param experts: finds an expert by its name.
    :param scratch: a directory that is the runner's alone; emptied at start.
    """

    def __init__(
        self,
        state: ServerState,
        api: InternalApi,
        experts: Callable[[str], Expert | None],
        scratch: Path,
        *,
        poll_s: float = POLL_S,
    ) -> None:
        self._state = state
        self._api = api
        self._experts = experts
        self._scratch = scratch
        self._poll_s = poll_s
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._broken: set[str] = set()
        self._taking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Settle what a killed server left, and begin to take jobs."""
        await asyncio.to_thread(_end_processes_below, self._scratch)
        await asyncio.to_thread(_empty, self._scratch)
        for job_id, status in unsettled_jobs(self._state):
            if status == "processing":
                told = await self._api.workspace_to_run(job_id)
                await self._fail(job_id, told, "the server was killed while the command ran; start the job again")
            else:
                await self._api.set_status(job_id, "canceled")
        self._state.news.on_job_queued(self._on_queued)
        self._taking = asyncio.create_task(self._take_jobs(), name="runner")

    async def stop(self) -> None:
        """Cancel what runs, store what it made, and return when all has ended. Queued jobs stay queued."""
        self._stop.set()
        self._wake.set()
        if self._taking is not None:
            await self._taking
        await asyncio.gather(*self._running.values())

    async def _take_jobs(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                self._start_queued()
            except Exception:  # noqa: BLE001  (a full disk, say: it may be over at the next look)
                _log.exception("queued jobs cannot be taken; trying again in %g s", self._poll_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._poll_s)

    def _on_queued(self, job_id: str) -> None:
        self._broken.discard(job_id)
        self._wake.set()

    async def _fail(self, job_id: str, told: WorkspaceToRun, reason: str) -> None:
        """Mark a job as failed that has no command which could say why."""
        if self._experts(expert_name(told.expert_key)) is not None:  # no checkpoint can name an expert that is gone
            await Progress(self._api, job_id, told).failed(reason)
        await self._api.set_status(job_id, "failed")
        _log.info("job %s failed: %s", job_id, reason)

    def _start_queued(self) -> None:
        waiting = [job for job in self._state.queued_jobs() if job not in self._running and job not in self._broken]
        for job_id in waiting[: CONCURRENCY - len(self._running)]:
            task = asyncio.create_task(self._run(job_id), name=f"job {job_id}")
            self._running[job_id] = task
            task.add_done_callback(partial(self._on_ended, job_id))

    def _on_ended(self, job_id: str, _task: asyncio.Task[None]) -> None:
        del self._running[job_id]
        self._wake.set()

    async def _run(self, job_id: str) -> None:
        """Run one job. Whatever goes wrong concerns this job only, and never the runner."""
        try:
            await self._run_job(job_id)
        except Exception:  # noqa: BLE001  (an outside command and a full disk have many ways to fail)
            _log.exception("job %s could not be run", job_id)
            await self._give_up(job_id)

    async def _give_up(self, job_id: str) -> None:
        # A job that cannot even be marked is left alone until somebody queues it again, not tried in a circle.
        self._broken.add(job_id)
        try:
            await self._api.set_status(job_id, "failed")
        except Exception:  # noqa: BLE001  (as above)
            _log.exception("job %s could not be marked as failed", job_id)

    async def _run_job(self, job_id: str) -> None:
        told = await self._api.workspace_to_run(job_id)
        expert = self._experts(expert_name(told.expert_key))
        if expert is None:
            await self._fail(job_id, told, f"this server no longer has the expert {expert_name(told.expert_key)}")
            return
        progress = Progress(self._api, job_id, told)
        await self._api.set_status(job_id, "processing")
        folder = self._scratch / f"{job_id}-{secrets.token_hex(4)}"
        started = time.monotonic()
        try:
            folder.mkdir()
            status = await Run(self._state, job_id, told, expert, folder, progress).to_its_end(self._stop)
        except OSError as error:
            status = "failed"
            await progress.failed(f"the workspace cannot be copied or stored: {os.strerror(error.errno or 0)}")
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        # The status comes last: it tells the clients to fetch the files for the last time (contract 5.3).
        if job_class(self._state.jobs.get(None, job_id).status) is JobClass.ACTIVE:
            await self._api.set_status(job_id, status)
        _log.info("job %s (%s): %s after %.1f s", job_id, expert.name, status, time.monotonic() - started)


class Run:
    """One run of one expert's command for one job."""

    def __init__(
        self,
        state: ServerState,
        job_id: str,
        told: WorkspaceToRun,
        expert: Expert,
        folder: Path,
        progress: Progress,
    ) -> None:
        self._job_id = job_id
        self._told = told
        self._expert = expert
        self._progress = progress
        self._sandbox = Sandbox(state, job_id)
        self._copy = WorkingCopy(folder, self._sandbox, clock=state.clock, max_files=expert.max_files)

    async def to_its_end(self, shutdown: asyncio.Event) -> str:
        """Run the command and store what it makes; returns the status that the job now deserves."""
        await self._copy.fill()
        stop = asyncio.Event()
        running = asyncio.create_task(self._command(stop))
        try:
            while not running.done():
                took_s = await self._store()
                if shutdown.is_set() or self._copy.has_too_many_files or self._sandbox.status != "processing":
                    stop.set()
                await asyncio.wait({running}, timeout=max(SCAN_S, took_s * SCAN_SHARE))
        finally:
            stop.set()
            outcome = await running
        await self._store(is_final=True)
        return await self._report(outcome)

    async def _command(self, stop: asyncio.Event) -> Outcome:
        told = self._told
        return await command.run(
            self._expert.arguments(told.query, told.files),
            folder=self._copy.root,
            variables=command.environment(
                self._expert.environment, told.variables, told.secrets, variables_of(self._job_id, told)
            ),
            secrets=told.secrets.values(),
            timeout_s=self._expert.timeout_s,
            stop=stop,
        )

    async def _store(self, *, is_final: bool = False) -> float:
        """Store what has come to rest, with its checkpoints; returns the seconds that it took."""
        started = time.monotonic()
        await self._progress.changed(await self._copy.store(is_final=is_final))
        return time.monotonic() - started

    async def _report(self, outcome: Outcome) -> str:
        status, reason = self._verdict(outcome)
        await self._progress.ended(status, outcome, reason=reason, left_out=self._copy.left_out)
        return status

    def _verdict(self, outcome: Outcome) -> tuple[str, str]:
        """Return the job's status and, where it failed, why."""
        if self._copy.has_too_many_files:
            return "failed", f"the command left more than {self._expert.max_files} new files"
        match outcome.ending:
            case Ending.NOT_STARTED:
                return "failed", outcome.trouble
            case Ending.TIMED_OUT:
                return "failed", f"the command took longer than {self._expert.timeout_s:g} s"
            case Ending.STOPPED:
                return "canceled", "the job was canceled"
            case Ending.EXITED:
                status = EXIT_STATUS.get(outcome.exit_code, "failed")
                return status, "" if status != "failed" else _exit_text(outcome.exit_code)


def variables_of(job_id: str, told: WorkspaceToRun) -> dict[str, str]:
    """Return what every command is told by its environment (documented in ``experts``)."""
    return {
        "JOBFS_QUERY": told.query,
        "JOBFS_FILES": "\n".join(told.files),
        "JOBFS_MAX_STEPS": str(told.max_steps),
        "JOBFS_JOB": job_id,
        "JOBFS_EXPERT": told.expert_key,
        "JOBFS_CONTINUES": "1" if told.is_continue else "0",
    }


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"the command ended with exit code {code}"
    try:
        return f"the command was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"the command was ended by signal {-code}"


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def _end_processes_below(folder: Path) -> None:
    """Kill the commands of a server that was itself killed: whoever still works in a directory that is the runner's.

    Only Linux tells the directories of processes; elsewhere a left command ends by itself and its work goes nowhere.
    """
    here = os.path.realpath(folder)
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or is somebody else's
            place = str((process / "cwd").readlink()).removesuffix(" (deleted)")
            if place.startswith(here + os.sep):
                os.kill(int(process.name), signal.SIGKILL)
