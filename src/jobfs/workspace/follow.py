"""Follow a job or a run until it stops: its status by polling, a job's steps as they come (protocol W; C-5 to C-7)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from jobfs.api.runs import Runs
from jobfs.api.studio import Studio
from jobfs.api.wire import Checkpoint, Job, Run
from jobfs.errors import ApiError, DeadlineExceeded
from jobfs.model import JobClass, job_class

_log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LAST_PAUSE_S = 15.0
PAUSE_GROWTH = 1.5
_LAST_STEPS_S = 5.0
_DELEGATED = "requestDelegateResult"


def has_stopped(status: str) -> bool:
    """Tell whether a job does nothing more by itself. One that waits for a delegate goes on by itself."""
    return job_class(status) is not JobClass.ACTIVE and status != _DELEGATED


async def follow(
    studio: Studio,
    job_id: str,
    *,
    timeout_s: float | None = None,
    after_step: float = 0,
    on_job: Callable[[Job], None] = lambda job: None,
    on_step: Callable[[Checkpoint], None] = lambda step: None,
) -> Job:
    """Return the job once it has stopped.

    The stream of checkpoints, where the server has one, tells the steps and wakes the polling; what counts is the poll.

    :param on_job: called with the job at first and whenever its status or step has changed.
    :param on_step: called once for every step with a number above ``after_step``, those already made included.
    :raises DeadlineExceeded: it has not stopped in time.
    """
    wake = asyncio.Event()
    listener = asyncio.create_task(_listen(studio, job_id, wake, after_step, on_step), name="job-steps")
    try:
        async with asyncio.timeout(timeout_s):
            return await _poll(studio, job_id, wake, listener, on_job)
    except TimeoutError:
        raise DeadlineExceeded(
            f"job {job_id} has not stopped within {timeout_s:g} s", f"wait on: jobfs jobs wait {job_id}"
        ) from None
    finally:
        listener.cancel()
        with suppress(asyncio.CancelledError):
            await listener


async def _poll(
    studio: Studio, job_id: str, wake: asyncio.Event, listener: asyncio.Task[None], on_job: Callable[[Job], None]
) -> Job:
    pause_s = FIRST_PAUSE_S
    seen: tuple[str, float | None] | None = None
    while True:
        wake.clear()
        job = await studio.get_job(job_id)
        if has_stopped(job.status):
            # The stream ends with the job; what it still holds is told before the end is.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_STEPS_S):
                    await asyncio.shield(listener)
            on_job(job)
            return job
        if seen != (job.status, job.current_step):
            seen = (job.status, job.current_step)
            pause_s = FIRST_PAUSE_S
            on_job(job)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await wake.wait()
        pause_s = min(pause_s * PAUSE_GROWTH, LAST_PAUSE_S)


async def _listen(
    studio: Studio, job_id: str, wake: asyncio.Event, after_step: float, on_step: Callable[[Checkpoint], None]
) -> None:
    """Read the stream once, to its end. Its failure costs nothing: polling goes on by itself."""
    told: set[str] = set()
    try:
        async with studio.stream_checkpoints(job_id) as stream:
            async for step in stream:
                if step.id not in told and step.step_number > after_step:
                    told.add(step.id)
                    on_step(step)
                wake.set()
    except ApiError as error:
        _log.info("the steps of job %s cannot be followed, its status can: %s", job_id, error)
    finally:
        wake.set()


async def follow_run(
    runs: Runs, run_id: str, *, timeout_s: float | None = None, on_run: Callable[[Run], None] = lambda run: None
) -> Run:
    """Return the run once it has finished.

    :param on_run: called with the run at first and whenever its status has changed.
    :raises DeadlineExceeded: it has not finished in time.
    """
    pause_s, told = FIRST_PAUSE_S, None
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                found = await runs.get_run(run_id)
                if (found.status, found.finished) != told:
                    told, pause_s = (found.status, found.finished), FIRST_PAUSE_S
                    on_run(found)
                if found.finished:
                    return found
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * PAUSE_GROWTH, LAST_PAUSE_S)
    except TimeoutError:
        raise DeadlineExceeded(
            f"run {run_id} has not finished within {timeout_s:g} s", "run the same command again; it goes on"
        ) from None


def status_of(found: Run) -> str:
    """Return the status of a run, also where the server only says whether it has finished."""
    return found.status or ("finished" if found.finished else "running")


def describe_step(step: Checkpoint) -> str:
    """Return a step as one line."""
    words = [f"step {step.step_number:g}", step.action.type or step.status]
    words += [part for part in (step.action.source, step.action.path, step.action.destination) if part]
    if step.action.error:
        words.append(f"failed: {step.action.error}")
    return "  ".join(words)
