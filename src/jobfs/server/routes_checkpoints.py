"""Checkpoints over HTTP: endpoints 16 to 19, the stream included (contract 5.4)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response, StreamingResponse

from jobfs.model import JobClass, job_class
from jobfs.server.answers import data_answer, page_answer
from jobfs.server.bodies import read_body
from jobfs.server.checkpoints import CreateCheckpoint, ExpertRef
from jobfs.server.operations import ORDER, SKIP, Audience, Call, Operation, choice, text
from jobfs.server.operations import number as whole_number
from jobfs.server.refusals import EXPERT_NOT_FOUND, Refused
from jobfs.server.registry import expert_name
from jobfs.server.shapes import Json, expert_digest_json
from jobfs.server.state import ServerState

HEARTBEAT_S = 15.0
"""Pause after which a stream sends a comment, so that a dead connection is noticed (contract C-6)."""


async def list_checkpoints(call: Call) -> Response:
    """Answer one page of a job's checkpoints (C-1, C-2)."""
    query = call.query
    rows, total = call.state.checkpoints.page(
        call.job(),
        filter_text=query["filter"] or "",
        order=query["order"] or "asc",
        skip=query["skip"],
        take=query["take"],
    )
    shown = [_shown(call, row, query["skip"] + offset) for offset, row in enumerate(rows)]
    return page_answer(total=total, take=query["take"], skip=query["skip"], checkpoints=shown)


async def get_checkpoint(call: Call) -> Response:
    """Answer one checkpoint."""
    return data_answer(checkpoint=_shown(call, call.state.checkpoints.get(call.job(), call.ids["checkpointId"]), 0))


async def create_checkpoint(call: Call) -> Response:
    """Record a checkpoint: for the runner (C-9)."""
    state, job = call.state, call.job()
    application = state.application(job.application_id)

    def digest(expert: ExpertRef) -> Json:
        info = state.experts(expert_name(expert.key))
        if info is None:
            raise Refused(400, EXPERT_NOT_FOUND)
        return expert_digest_json(expert.key, info, application)

    with call.body() as reader:
        body = read_body(CreateCheckpoint, await reader.json_object())
    with state.transaction():
        shape = state.checkpoints.create(job, body, digest)
        usage = {name: float(count) for name, count in body.step.usage.model_dump().items()}
        state.jobs.record_step(job, step_number=float(body.checkpoint.stepNumber), usage=usage)
    state.news.job_changed(job.id)
    return data_answer(checkpoint=shape)


async def stream_checkpoints(call: Call) -> Response:
    """Send a job's checkpoints as they come, the existing ones first, until it leaves active (C-5 to C-7)."""
    call.job()
    headers = {"cache-control": "no-store"}
    return StreamingResponse(_events(call), media_type="text/event-stream", headers=headers)


async def _events(call: Call) -> AsyncIterator[bytes]:
    state, seen = call.state, 0
    while True:
        mark = state.news.mark(call.ids["expertJobId"])
        job = call.job()
        for number, shape in state.checkpoints.since(job, seen):
            seen = number
            event = _event(shape, state)
            if state.switches.sse == "cut":
                yield event[: len(event) * 2 // 3]
                return
            yield event
        if job_class(job.status) is not JobClass.ACTIVE or state.news.is_closing:
            return
        if not await state.news.wait(job.id, mark, timeout_s=HEARTBEAT_S) and not state.news.is_closing:
            yield b": still here\r\n\r\n" if state.switches.sse == "crlf" else b": still here\n\n"


def _event(shape: Json, state: ServerState) -> bytes:
    """Spell one event (C-6). ``cut`` is spelt as usual; the stream breaks it."""
    match state.switches.sse:
        case "multiline":
            lines = json.dumps(shape, ensure_ascii=False, indent=1).split("\n")
        case _:
            lines = [json.dumps(shape, ensure_ascii=False, separators=(",", ":"))]
    end = "\r\n" if state.switches.sse == "crlf" else "\n"
    rows = ["event: message", *(f"data: {line}" for line in lines), "", ""]
    return end.join(rows).encode("utf-8")


def _shown(call: Call, shape: Json, sequence: int) -> Json:
    """Return a checkpoint, with the later client's fields where the dialect asks for them."""
    if call.state.switches.dialect == "v1":
        return shape
    extra: dict[str, Any] = {"sequence": sequence, "createdAt": shape["startedAt"]}
    return shape | extra


_BASE = "/api/studio/v1/expert_jobs/{expertJobId}/checkpoints/"
_NO_JOB = {404: "No such job."}

OPERATIONS = (
    Operation(
        "GET", _BASE, list_checkpoints, "List checkpoints", "checkpoints",
        query=(
            text("filter", high=256), choice("sort", "createdAt", "updatedAt", default="createdAt"), ORDER,
            whole_number("take", default=10, low=1, high=100), SKIP,
        ),
        answers=_NO_JOB,
    ),
    Operation(
        "POST", _BASE, create_checkpoint, "Record a checkpoint", "checkpoints",
        audience=Audience.RUNTIME, body=CreateCheckpoint, answers={400: EXPERT_NOT_FOUND, **_NO_JOB},
    ),
    Operation("GET", f"{_BASE}stream", stream_checkpoints, "Follow checkpoints", "checkpoints", answers=_NO_JOB),
    Operation(
        "GET", f"{_BASE}{{checkpointId}}", get_checkpoint, "Get a checkpoint", "checkpoints",
        answers={404: "No such job or checkpoint."},
    ),
)  # fmt: skip
