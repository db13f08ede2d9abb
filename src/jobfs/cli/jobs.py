"""``jobfs jobs``: list, show, start, continue and await jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from jobfs.api.studio import JobFile, JobSettings, Studio
from jobfs.api.wire import Checkpoint, Job
from jobfs.cli.choices import load_settings
from jobfs.cli.context import open_studio
from jobfs.cli.failures import STATUS_CODES
from jobfs.cli.fronts import Lines, Listener, front_of
from jobfs.cli.once import folder_order
from jobfs.cli.remote import run
from jobfs.cli.terminal import local_time, say, say_json, say_table, shown, tell
from jobfs.cli.waiting import pull_while
from jobfs.cli.whole import Whole
from jobfs.errors import ApiError, Interrupted, OutcomeUnknown, ServerFailure, SettingsError
from jobfs.model import CONTINUABLE
from jobfs.planner.view import time_of
from jobfs.workspace.follow import describe_step, follow
from jobfs.workspace.instance import tell_mounts
from jobfs.workspace.line import check_changes
from jobfs.workspace.places import parse_job
from jobfs.workspace.settings import Settings

_app = typer.Typer(
    cls=Whole,
    help="List, show, start, continue and await jobs.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="Example: jobfs jobs start --expert @jobfs/word-count --query 'Count the words' --wait",
)

_QUERY_COLUMNS = 60
_RECENT = 10

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
QueryOption = Annotated[str | None, typer.Option(help="What the expert is asked to do.", metavar="TEXT")]
FilesOption = Annotated[list[Path] | None, typer.Option("--file", help="A file to send along; may be repeated.")]
StepsOption = Annotated[int | None, typer.Option(min=1, help="How many steps it may take.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Return when it has stopped, with a code for how.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="jobs")


@_app.command("list", epilog="Example: jobfs jobs list --expert @jobfs/word-count --limit 5")
def list_(
    context: typer.Context,
    expert: Annotated[str | None, typer.Option(help="Only jobs whose expert key contains this.")] = None,
    status: Annotated[str | None, typer.Option(help="Only jobs of this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 20,
    json: JsonOption = False,
) -> None:
    """List jobs, the newest first."""
    jobs = run(_list(load_settings(context), expert, status, limit))
    if json:
        say_json([_as_json(job) for job in jobs])
        return
    if not jobs:
        tell("there is no such job" if expert or status else "there is no job yet: see 'jobfs jobs start --help'")
        return
    rows = [(job.id, job.status, job.expert_key, local_time(job.created_at), _clipped(job.query)) for job in jobs]
    say_table(("id", "status", "expert", "created", "query"), rows, whole=("id", "created"))


@_app.command("show", epilog="Example: jobfs jobs show abc123 --json")
def show(context: typer.Context, job: JobArgument, json: JsonOption = False) -> None:
    """Show what the server knows of a job."""
    found = run(_show(load_settings(context), parse_job(job)))
    if json:
        say_json(_as_json(found))
        return
    times = {"createdAt": local_time(found.created_at), "updatedAt": local_time(found.updated_at)}
    for name, value in (_as_json(found) | times).items():
        if value not in (None, "", [], ()):
            say(f"{name + ':':<12} {shown(str(value))}")


@_app.command("start", epilog="Example: jobfs jobs start --expert @jobfs/csv-profile --query 'Profile all' --wait")
def start(
    context: typer.Context,
    expert: Annotated[str, typer.Option(help="The expert's key, such as @jobfs/word-count.", metavar="KEY")],
    query: QueryOption = None,
    file: FilesOption = None,
    model: Annotated[str | None, typer.Option(help="The model to use.")] = None,
    max_steps: StepsOption = None,
    wait: WaitOption = False,
    json: JsonOption = False,
) -> None:
    """Start a job. Its id is printed; mount or sync its workspace with it."""
    settings = load_settings(context)
    check_changes(is_read_only=settings.is_read_only)
    files = _files(file)
    job = run(_start(settings, expert, query, files, JobSettings(max_steps=max_steps, model=model)))
    _started(settings, job, is_awaited=wait, as_json=json)


@_app.command("continue", epilog="Example: jobfs jobs continue abc123 --query 'Now count the CSV files too' --wait")
def continue_(
    context: typer.Context,
    job: JobArgument,
    query: QueryOption = None,
    file: FilesOption = None,
    answer: Annotated[bool, typer.Option("--answer", help="The query answers the job's question.")] = False,
    max_steps: StepsOption = None,
    wait: WaitOption = False,
    json: JsonOption = False,
) -> None:
    """Give a job that has stopped more to do: a new query, more steps, or the answer that it waits for."""
    settings = load_settings(context)
    check_changes(is_read_only=settings.is_read_only)
    job_id = parse_job(job)
    files = _files(file)
    continued = run(_continue(settings, job_id, query, files, JobSettings(max_steps=max_steps), is_answer=answer))
    tell_mounts(settings.url, job_id, "poke")
    _started(settings, continued, is_awaited=wait, as_json=json)


@_app.command("wait", epilog="Example: jobfs jobs wait abc123 --timeout 600")
def wait(
    context: typer.Context,
    job: JobArgument,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds after which to give up.")] = None,
    pull: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Bring its files into this folder meanwhile, as they appear.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show a job's progress until it has stopped. The exit code tells how; see 'jobfs --help'.

    With --pull, --json gives a line for each event, as for 'jobfs pull'.
    """
    settings = load_settings(context)
    if pull is None:
        _wait(settings, parse_job(job), timeout_s=timeout, after_step=0, as_json=json)
    else:
        _wait_and_pull(settings, parse_job(job), pull, timeout_s=timeout, as_json=json)


async def _list(settings: Settings, expert: str | None, status: str | None, limit: int) -> list[Job]:
    found: list[Job] = []
    async with open_studio(settings) as studio:
        async for job in studio.iter_jobs(filter=expert):
            if status is None or job.status == status:
                found.append(job)
            if len(found) == limit:
                break
    return found


async def _show(settings: Settings, job_id: str) -> Job:
    async with open_studio(settings) as studio:
        return await studio.get_job(job_id)


async def _start(
    settings: Settings, expert: str, query: str | None, files: list[JobFile], job_settings: JobSettings
) -> Job:
    async with open_studio(settings) as studio:
        return await _once(studio, expert, query, studio.start_job(expert, query, files, job_settings))


async def _continue(
    settings: Settings,
    job_id: str,
    query: str | None,
    files: list[JobFile],
    job_settings: JobSettings,
    *,
    is_answer: bool,
) -> Job:
    async with open_studio(settings) as studio:
        job = await studio.get_job(job_id)
        if job.status == "requestInteractiveToolResult" and not is_answer:
            raise SettingsError(f"job {job_id} waits for the answer to a question", "add --answer to give it")
        if job.status not in CONTINUABLE and job.status in STATUS_CODES:
            raise SettingsError(f"job {job_id} is {job.status}, which cannot be continued", "start another job")
        asked = studio.continue_job(
            job_id, query, files, job_settings, interactive_tool_call_result=True if is_answer else None
        )
        return await _once(studio, job.expert_key, query, asked)


async def _once(studio: Studio, expert: str, query: str | None, asked: Awaitable[Job]) -> Job:
    """Ask once. Where the answer is lost, say what the server lists instead of asking again (contract J-16)."""
    try:
        return await asked
    except (OutcomeUnknown, ServerFailure) as error:
        candidates = await _recent(studio, expert, query)
        if not candidates:
            raise
        error.advise(f"it may be job {candidates[0].id}, which has this query: look with 'jobfs jobs show' first")
        raise


async def _recent(studio: Studio, expert: str, query: str | None) -> list[Job]:
    """Return new jobs that look like the one just asked for; none where the server still does not answer."""
    try:
        page = await studio.list_jobs(sort="createdAt", order="desc", take=_RECENT)
    except ApiError:
        return []
    return [job for job in page.rows if job.expert_key == expert and job.query == (query or "")]


def _files(paths: list[Path] | None) -> list[JobFile]:
    for path in paths or ():
        if not path.is_file():
            raise SettingsError(f"{path} is no file here", "check the name")
    return list(paths or ())


def _started(settings: Settings, job: Job, *, is_awaited: bool, as_json: bool) -> None:
    if is_awaited:
        tell(f"job {job.id}")
        _wait(settings, job.id, timeout_s=None, after_step=job.current_step or 0, as_json=as_json)
    if as_json:
        say_json(_as_json(job))
    else:
        say(job.id)


def _wait(settings: Settings, job_id: str, *, timeout_s: float | None, after_step: float, as_json: bool) -> None:
    with _the_job_goes_on(job_id), Lines(None).listening(f"job {job_id}") as listener:
        job = run(_follow(settings, job_id, timeout_s, after_step, listener))
        tell_mounts(settings.url, job_id, "refresh")  # who waits for the job wants to see what it made
    if as_json:
        say_json(_as_json(job))
    else:
        say(f"{job.id} {shown(job.status)}")
    raise typer.Exit(STATUS_CODES.get(job.status, 1))


def _wait_and_pull(settings: Settings, job_id: str, folder: Path, *, timeout_s: float | None, as_json: bool) -> None:
    order = replace(folder_order(settings, job_id, folder, command="pull"), direction="pull")

    async def wait(listener: Listener, look: Callable[[], None]) -> Job:
        return await _follow(settings, job_id, timeout_s, 0, listener, look)

    with _the_job_goes_on(job_id):
        job = pull_while(order, front_of(order, as_json=as_json), wait, text=f"job {job_id}")
    tell_mounts(settings.url, job_id, "refresh")
    if not as_json:
        say(f"{job.id} {shown(job.status)}")
    raise typer.Exit(STATUS_CODES.get(job.status, 1))


@contextmanager
def _the_job_goes_on(job_id: str) -> Iterator[None]:
    """Say of a wait that the user ends what it means for the job."""
    try:
        yield
    except Interrupted:
        raise Interrupted("no longer waiting; the job goes on", f"wait again: jobfs jobs wait {job_id}") from None


async def _follow(
    settings: Settings,
    job_id: str,
    timeout_s: float | None,
    after_step: float,
    listener: Listener,
    look: Callable[[], None] = lambda: None,
) -> Job:
    """Follow a job until it has stopped.

    :param look: called whenever it may have written something.
    """

    def on_job(job: Job) -> None:
        at = "" if job.current_step is None else f", step {job.current_step:g}"
        listener.show(f"job {job.id}: {job.status}{at}")
        if job.status != last[-1]:
            last.append(job.status)
            listener.step(job.status, {"event": "status", "job": job.id, "status": job.status})
        look()

    def on_step(step: Checkpoint) -> None:
        value = {"event": "step", "step": _whole(step.step_number), "type": step.action.type or step.status}
        listener.step(describe_step(step), {**value, "path": step.action.path}, at=_moment(step))
        look()

    last = [""]
    async with open_studio(settings) as studio:
        return await follow(studio, job_id, timeout_s=timeout_s, after_step=after_step, on_job=on_job, on_step=on_step)


def _moment(step: Checkpoint) -> datetime | None:
    """Return when a step was made, which may be long before it is waited for; None where the server does not say."""
    return time_of(step.finished_at) or time_of(step.started_at)


def _as_json(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "status": job.status,
        "expertKey": job.expert_key,
        "query": job.query,
        "files": list(job.files),
        "model": job.model,
        "maxSteps": _whole(job.max_steps),
        "currentStep": _whole(job.current_step),
        "totalSteps": _whole(job.total_steps),
        "createdAt": job.created_at,
        "updatedAt": job.updated_at,
    }


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _clipped(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _QUERY_COLUMNS else line[: _QUERY_COLUMNS - 1] + "…"
