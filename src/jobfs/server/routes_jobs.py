"""Jobs over HTTP: endpoints 1 to 6, 14 and 15."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from starlette.responses import Response

from jobfs.server.answers import data_answer, page_answer
from jobfs.server.bodies import MODELS, ContinueJob, JobParameters, ResumeJob, StartJob, UpdateStatus, read_body
from jobfs.server.forms import FilePart, Form
from jobfs.server.items import View
from jobfs.server.operations import ORDER, SKIP, TAKE, Audience, Call, Operation, choice, identifier, text
from jobfs.server.refusals import (
    CANNOT_CONTINUE,
    EXPERT_NOT_FOUND,
    FAILED_TO_AUTHENTICATE,
    NO_QUERY,
    Refused,
)
from jobfs.server.registry import expert_name
from jobfs.server.routes_items import get_instance, get_instance_to_run
from jobfs.server.workspace import Draft


async def list_jobs(call: Call) -> Response:
    """Answer one page of the application's jobs (J-1 to J-3)."""
    query = call.query
    if query["applicationId"] not in (None, call.application):
        raise Refused(401, FAILED_TO_AUTHENTICATE)
    jobs, total = call.state.jobs.page(
        call.application,
        prefix=query["filter"] or "",
        sort=query["sort"],
        order=query["order"] or "desc",
        skip=query["skip"],
        take=query["take"],
    )
    rows = [call.state.job_shape(job) for job in jobs]
    return page_answer(total=total, take=query["take"], skip=query["skip"], expertJobs=rows)


async def start_job(call: Call) -> Response:
    """Queue a new job with its own workspace instance (J-4 to J-8, I-46)."""
    state = call.state
    with call.body() as reader:
        form = await reader.form_or_json()
        names = _file_names(form)
        body = read_body(StartJob, form.fields)
        _check_model(call, body)
        if state.experts(expert_name(body.expertKey)) is None:
            raise Refused(404, EXPERT_NOT_FOUND)
        with state.transaction():
            job = state.jobs.create(call.application, body, [*body.files, *names])
            _place_files(call, state.jobs.view(job), form)
        _keep_files(form)
    state.announce(job)
    return data_answer(expertJob=state.job_shape(job))


async def get_job(call: Call) -> Response:
    """Answer one job."""
    return data_answer(expertJob=call.state.job_shape(call.job()))


async def update_job_status(call: Call) -> Response:
    """Set a job's status: for the runner alone (J-11)."""
    job = call.job()
    with call.body() as reader:
        body = read_body(UpdateStatus, await reader.json_object())
    return data_answer(expertJob=call.state.job_shape(call.state.set_status(job.id, body.status)))


async def continue_job(call: Call) -> Response:
    """Queue a stopped job again with a new query or an answer (J-9, J-10)."""
    return await _resume(call, ContinueJob)


async def resume_job(call: Call) -> Response:
    """Queue a stopped job again from a checkpoint, where the switch has this operation (J-13)."""
    if call.state.switches.resume_from == "off":
        raise Refused(404, "Not Found")
    return await _resume(call, ResumeJob)


async def _resume(call: Call, model: type[ContinueJob]) -> Response:
    state = call.state
    state.jobs.instance(call.job())
    with call.body() as reader:
        form = await reader.form_or_json()
        names = _file_names(form)
        body = read_body(model, _counted(call, form.fields))
        _check_model(call, body)
        if isinstance(body, ResumeJob):
            state.checkpoints.get(call.job(), body.checkpointId)
        query = body.query or body.response
        if not query and not body.files and not names:
            raise Refused(400, NO_QUERY)
        if not body.query and query and "interactiveToolCallResult" not in body.model_fields_set:
            body = body.model_copy(update={"interactiveToolCallResult": True})
        job = call.job()
        with state.transaction():
            resumed = state.jobs.resume(job, body, query, [*body.files, *names])
            _place_files(call, state.jobs.view(job), form)
        _keep_files(form)
    state.announce(resumed)
    return data_answer(expertJob=state.job_shape(resumed))


def _counted(call: Call, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields that count: the later client's word for the query is none of the documents' (J-9)."""
    is_read = call.state.switches.accept_response == "on" and fields.get("response") != ""
    return fields if is_read else {name: value for name, value in fields.items() if name != "response"}


def _parts(form: Form) -> Sequence[FilePart]:
    return [part for part in form.files if part.name == "files"]


def _file_names(form: Form) -> Sequence[str]:
    """Return the base names of the form's file parts; 422 for a part that has none (J-6)."""
    names = [_base_name(part.filename) for part in _parts(form)]
    if not all(names):
        raise Refused(422, [{"path": "files", "message": "a file part needs a file name"}])
    return names


def _base_name(filename: str) -> str:
    return PurePosixPath(filename.replace("\\", "/")).name


def _place_files(call: Call, view: View, form: Form) -> None:
    """Put the form's files into the root of the workspace."""
    for part in _parts(form):
        draft = Draft(
            _base_name(part.filename),
            is_directory=False,
            key=part.content.key,
            mime_type=part.mime_type,
            size=part.content.size,
        )
        call.state.rules.create(view, draft)


def _keep_files(form: Form) -> None:
    for part in _parts(form):
        part.content.keep()


def _check_model(call: Call, body: JobParameters) -> None:
    if call.state.switches.model_check == "on" and body.model and body.model not in MODELS:
        raise Refused(422, [{"path": "model", "message": "not one of the known models"}])


_JOB = "/api/studio/v1/expert_jobs/{expertJobId}"
_NO_JOB = {404: "No such job, or its workspace is gone."}
_RESUMED = {400: f"{NO_QUERY}, or: {CANNOT_CONTINUE}.", **_NO_JOB}

OPERATIONS = (
    Operation("GET", _JOB, get_job, "Get a job", "jobs", answers=_NO_JOB),
    Operation(
        "POST", _JOB, update_job_status, "Set a job's status", "internal",
        audience=Audience.SYSTEM, body=UpdateStatus, answers=_NO_JOB,
    ),
    Operation(
        "GET", "/api/studio/v1/expert_jobs/", list_jobs, "List jobs", "jobs",
        query=(
            identifier("applicationId"), text("filter", high=256),
            choice("sort", "createdAt", "updatedAt", default="createdAt"), ORDER, TAKE, SKIP,
        ),
    ),
    Operation(
        "POST", "/api/studio/v1/expert_jobs/", start_job, "Start a job", "jobs",
        body=StartJob, file_field="files", answers={400: NO_QUERY, 404: EXPERT_NOT_FOUND},
    ),
    Operation(
        "POST", f"{_JOB}/continue", continue_job, "Continue a job", "jobs",
        body=ContinueJob, file_field="files", answers=_RESUMED,
    ),
    Operation(
        "POST", f"{_JOB}/resume_from", resume_job, "Resume a job from a checkpoint", "jobs",
        body=ResumeJob, file_field="files", answers=_RESUMED,
    ),
    Operation("GET", f"{_JOB}/workspace_instance/", get_instance, "Get the instance", "instance", answers=_NO_JOB),
    Operation(
        "GET", f"{_JOB}/workspace_instance_to_run/", get_instance_to_run, "Get what a job runs with", "internal",
        audience=Audience.SYSTEM, answers=_NO_JOB,
    ),
)  # fmt: skip
