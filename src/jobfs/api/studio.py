"""The studio's jobs, their instances and checkpoints (endpoints 1 to 6 and 14 to 19).

Starting and continuing are never repeated after an unclear outcome (contract J-16): ``OutcomeUnknown`` or
``ServerFailure`` says that the job may exist, and the caller lists before trying again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from jobfs import errors
from jobfs.api import wire
from jobfs.api.address import segment
from jobfs.api.answer import inside, read_rows, total_of
from jobfs.api.application import Application
from jobfs.api.body import FilePart, Json, Multipart
from jobfs.api.call import Call
from jobfs.api.items import PAGE_ROWS, Items
from jobfs.api.keys import KeyKind
from jobfs.api.sse import Messages
from jobfs.api.stream import Stream
from jobfs.api.transport import Transport
from jobfs.api.wire import Checkpoint, Instance, InstanceToRun, Job, Rows
from jobfs.api.workspace import JOBS, PREFIX, Workspace, checkpoints_call, job_path
from jobfs.model import Lifecycle

_ANSWER = "interactiveToolCallResult"
_MOST_QUERY_CHARACTERS = 20480
_W = TypeVar("_W", bound=wire.Wire)

JobFile = str | Path
"""A file for a job: a name as text, or a local file whose bytes are sent (contract J-6)."""


@dataclass(frozen=True, slots=True)
class JobSettings:
    """How a job is to run; what is None is left to the server, and zero is a value (contract J-5)."""

    temperature: float | None = None
    max_steps: int | None = None
    max_retries: int | None = None
    model: str | None = None

    def pairs(self) -> list[tuple[str, str]]:
        """Return the form fields."""
        fields = {
            "temperature": self.temperature,
            "maxSteps": self.max_steps,
            "maxRetries": self.max_retries,
            "model": self.model,
        }
        return [(name, _text(value)) for name, value in fields.items() if value is not None]


class Studio:
    """The calls of the studio. Holds no state but what its transport learns."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.application = Application(transport, PREFIX)

    def workspace(self, job_id: str) -> Workspace:
        """Return the workspace of a job; nothing is asked of the server yet."""
        return Workspace(self._transport, job_id)

    def items(self, job_id: str) -> Items:
        """Return the items of a job's instance."""
        path = f"{job_path(job_id)}/workspace_instance/items/"
        return Items(self._transport, path, f"workspace of job {job_id}", Lifecycle.EXPERT_JOB)

    async def list_jobs(
        self,
        *,
        application_id: str | None = None,
        filter: str | None = None,
        sort: Literal["createdAt", "updatedAt"] | None = None,
        order: Literal["asc", "desc"] | None = None,
        take: int = PAGE_ROWS,
        skip: int = 0,
    ) -> Rows[Job]:
        """Return one page of jobs.

        :param filter: part of the expert key; the server's rule is unknown, so it is narrowed again here (J-2), and
            a page may be shorter than its ``total`` suggests.
        """
        query = {"take": str(take), "skip": str(skip)}
        wishes = {"applicationId": application_id, "filter": filter, "sort": sort, "order": order}
        query.update({name: value for name, value in wishes.items() if value is not None})
        answer = await self._transport.json(Call(method="GET", path=JOBS, subject="jobs", query=query))
        page = _rows(Job, answer, ("expertJobs",), "jobs")
        if filter is None:
            return page
        wanted = filter.casefold()
        return Rows([job for job in page.rows if wanted in job.expert_key.casefold()], page.total, page.malformed)

    async def iter_jobs(
        self, *, filter: str | None = None, order: Literal["asc", "desc"] = "desc", application_id: str | None = None
    ) -> AsyncIterator[Job]:
        """Yield every job, newest first by default, each once, page by page as they are consumed."""
        seen: set[str] = set()
        skip = 0
        while True:
            page = await self.list_jobs(
                application_id=application_id, sort="createdAt", order=order, take=PAGE_ROWS, skip=skip
            )
            fresh = [job for job in page.rows if job.id not in seen]
            for job in fresh:
                seen.add(job.id)
                if filter is None or filter.casefold() in job.expert_key.casefold():
                    yield job
            skip += len(page.rows) + page.malformed
            if not fresh or (page.total is not None and skip >= page.total):
                return

    async def get_job(self, job_id: str) -> Job:
        """Return a job."""
        subject = f"job {job_id}"
        return _job(await self._transport.json(Call(method="GET", path=job_path(job_id), subject=subject)), subject)

    async def start_job(
        self,
        expert_key: str,
        query: str | None = None,
        files: Sequence[JobFile] = (),
        settings: JobSettings | None = None,
    ) -> Job:
        """Start a job; it runs on the server from then on.

        Everything that is not None is sent, zero included (contract J-4, J-5).

        :raises SettingsError: where there is neither a query nor a file (J-7).
        :raises OutcomeUnknown: it may have been started.
        """
        body = _job_form({"expertKey": expert_key}, query, files, settings)
        return await self._post_job(JOBS, f"job of {expert_key}", body)

    async def continue_job(
        self,
        job_id: str,
        query: str | None = None,
        files: Sequence[JobFile] = (),
        settings: JobSettings | None = None,
        *,
        interactive_tool_call_result: bool | None = None,
    ) -> Job:
        """Resume a stopped job from its latest checkpoint. Whether its state allows it, the server decides (J-10).

        :param interactive_tool_call_result: True marks the query as the answer to a pending question.
        """
        fields = {} if interactive_tool_call_result is None else {_ANSWER: _text(interactive_tool_call_result)}
        body = _job_form(fields, query, files, settings)
        return await self._post_job(f"{job_path(job_id)}/continue", f"job {job_id}", body)

    async def resume_job(self, job_id: str, checkpoint_id: str, query: str | None = None) -> Job:
        """Resume a job from a chosen checkpoint. Undocumented, so no server need know it (contract J-13)."""
        body = _job_form({"checkpointId": checkpoint_id}, query, (), None, must_ask=False)
        return await self._post_job(f"{job_path(job_id)}/resume_from", f"job {job_id}", body)

    async def update_status(self, job_id: str, status: str) -> Job:
        """Set the status of a job. Internal: needs the system key (endpoint 4)."""
        subject = f"status of job {job_id}"
        call = Call(
            method="POST",
            path=job_path(job_id),
            subject=subject,
            body=Json({"status": status}),
            key=KeyKind.SYSTEM,
        )
        return _job(await self._transport.json(call), subject)

    async def instance(self, job_id: str) -> Instance:
        """Return the workspace instance of a job.

        :raises NotFound: also before the first step and after its retention (contract I-46).
        """
        subject = f"workspace of job {job_id}"
        path = f"{job_path(job_id)}/workspace_instance/"
        answer = await self._transport.json(Call(method="GET", path=path, subject=subject))
        return wire.read_one(Instance, inside(answer, ("workspaceInstance",), subject), subject)

    async def workspace_instance_to_run(self, job_id: str) -> InstanceToRun:
        """Return the instance with the values of its environment. Internal: needs the system key (endpoint 14).

        The values are ``SecretStr``; nothing of the answer reaches a log, an exception or a ``repr``.
        """
        subject = f"workspace to run of job {job_id}"
        path = f"{job_path(job_id)}/workspace_instance_to_run/"
        call = Call(method="GET", path=path, subject=subject, key=KeyKind.SYSTEM, is_sensitive=True)
        answer = await self._transport.json(call)
        return wire.read_one(InstanceToRun, inside(answer, ("workspaceInstanceToRun",), subject), subject)

    async def list_checkpoints(self, job_id: str, *, take: int = PAGE_ROWS, skip: int = 0) -> Rows[Checkpoint]:
        """Return one page of a job's checkpoints, oldest first (contract C-1, C-2)."""
        subject = f"checkpoints of job {job_id}"
        query = {"take": str(take), "skip": str(skip), "sort": "createdAt", "order": "asc"}
        path = f"{job_path(job_id)}/checkpoints/"
        answer = await self._transport.json(Call(method="GET", path=path, subject=subject, query=query))
        page = _rows(Checkpoint, answer, ("checkpoints",), subject)
        return Rows(sorted(page.rows, key=lambda row: (row.step_number, row.started_at)), page.total, page.malformed)

    async def get_checkpoint(self, job_id: str, checkpoint_id: str) -> Checkpoint:
        """Return one checkpoint."""
        subject = f"checkpoint {checkpoint_id}"
        path = f"{job_path(job_id)}/checkpoints/{segment(checkpoint_id)}"
        return _checkpoint(await self._transport.json(Call(method="GET", path=path, subject=subject)), subject)

    async def create_checkpoint(
        self,
        job_id: str,
        checkpoint: Mapping[str, Any],
        step: Mapping[str, Any],
        *,
        key: KeyKind = KeyKind.SYSTEM,
    ) -> Checkpoint:
        """Record a step of a job; for its runtime (contract C-9)."""
        subject = f"checkpoint of job {job_id}"
        body = Json({"checkpoint": dict(checkpoint), "step": dict(step)})
        path = f"{job_path(job_id)}/checkpoints/"
        call = Call(method="POST", path=path, subject=subject, body=body, key=key)
        return _checkpoint(await self._transport.json(call), subject)

    @asynccontextmanager
    async def stream_checkpoints(self, job_id: str) -> AsyncIterator[CheckpointStream]:
        """Open the stream of a job's checkpoints, an accelerator of polling and nothing more (contract C-5 to C-7)."""
        async with self._transport.stream(checkpoints_call(job_id)) as stream:
            yield CheckpointStream(stream)

    async def _post_job(self, path: str, subject: str, body: Multipart) -> Job:
        call = Call(method="POST", path=path, subject=subject, body=body, is_transfer=not body.is_small)
        return _job(await self._transport.json(call), subject)


class CheckpointStream:
    """An open stream of checkpoints.

    Its end proves nothing; a new stream may repeat what this one gave, so the consumer tells them apart by ``id``.

    :ivar skipped: events that were no checkpoint.
    """

    def __init__(self, stream: Stream) -> None:
        self._messages = Messages(stream)
        self._unread = 0

    @property
    def skipped(self) -> int:
        """Events that were no checkpoint, or too large to be one."""
        return self._unread + self._messages.skipped

    async def __aiter__(self) -> AsyncIterator[Checkpoint]:
        """Yield checkpoints as they come.

        :raises Unreachable: where the connection broke.
        """
        async for value in self._messages:
            try:
                checkpoint = Checkpoint.model_validate(value)
            except ValueError:
                self._unread += 1
                continue
            yield checkpoint


def _job(answer: object, subject: str) -> Job:
    return wire.read_one(Job, inside(answer, ("expertJob",), subject), subject)


def _checkpoint(answer: object, subject: str) -> Checkpoint:
    return wire.read_one(Checkpoint, inside(answer, ("checkpoint",), subject), subject)


def _rows(shape: type[_W], answer: object, names: Sequence[str], subject: str) -> Rows[_W]:
    rows, malformed = read_rows(inside(answer, names, subject), shape.model_validate, subject)
    return Rows(rows, total_of(answer), malformed)


def _job_form(
    fields: Mapping[str, str],
    query: str | None,
    files: Sequence[JobFile],
    settings: JobSettings | None,
    *,
    must_ask: bool = True,
) -> Multipart:
    """Return the form of a start or continue: numbers as text, booleans as ``true`` and ``false`` (J-4 to J-7)."""
    if must_ask and not query and not files:
        raise errors.SettingsError("a job needs a query or at least one file", "say what is to be done")
    if query is not None and len(query) > _MOST_QUERY_CHARACTERS:
        raise errors.SettingsError(
            f"the query has {len(query)} characters, more than {_MOST_QUERY_CHARACTERS}",
            "put the text into a file of the workspace and name it in the query",
        )
    pairs = list(fields.items())
    if query is not None:
        pairs.append(("query", query))
    pairs += [("files", file) for file in files if isinstance(file, str)]
    pairs += (settings or JobSettings()).pairs()
    parts = [FilePart("files", file.name, file, "application/octet-stream") for file in files if isinstance(file, Path)]
    return Multipart(pairs, parts)


def _text(value: str | bool | float) -> str:
    """Return a value as form text; a number as plain decimals, never with an exponent."""
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.12f}".rstrip("0").rstrip(".")
        case _:
            return str(value)
