"""Jobs: their records, how they start, continue and change status (contract 5.3).

Nothing here runs a job; the runner does, through the API's internal endpoints. Every changing call runs inside the
caller's transaction and announces nothing: the caller does so after the commit.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobfs.model import JobClass, job_class
from jobfs.server.artifacts import Artifacts
from jobfs.server.bodies import ContinueJob, JobParameters, StartJob
from jobfs.server.ids import IdSource
from jobfs.server.items import View
from jobfs.server.refusals import CANNOT_CONTINUE, INSTANCE_NOT_FOUND, JOB_NOT_FOUND, NO_QUERY, Refused
from jobfs.server.storage import Storage
from jobfs.server.times import Clock

USAGE = ("inputTokens", "outputTokens", "reasoningTokens", "totalTokens", "cachedInputTokens")
"""The counts of a usage object."""

_DEFAULTS = {"model": "claude-sonnet-4-5", "temperature": 0.0, "max_steps": 100.0, "max_retries": 5.0}

_PARAMETERS = {"model": "model", "temperature": "temperature", "maxSteps": "max_steps", "maxRetries": "max_retries"}


_VIEW = """
SELECT job.application_id, own.id AS own, shared.id AS shared FROM job
LEFT JOIN space AS own ON own.job_id = job.id
LEFT JOIN space AS shared ON shared.application_id = job.application_id AND shared.job_id IS NULL
WHERE job.id = ?
"""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job; the fields are the columns of its table."""

    number: int
    id: str
    application_id: str
    created_ms: int
    updated_ms: int
    status: str
    is_held: bool
    expert_key: str
    query: str | None
    files: tuple[str, ...]
    answers_tool: bool | None
    model: str
    temperature: float
    max_steps: float
    max_retries: float
    current_step: float
    total_steps: float
    duration_ms: int
    started_ms: int | None
    first_ms: int | None
    finished_ms: int | None
    usage: Mapping[str, float]

    @property
    def is_final(self) -> bool:
        """Whether the status is one of the final class."""
        return job_class(self.status) is JobClass.FINAL


class Jobs:
    """The jobs of all applications."""

    def __init__(self, storage: Storage, artifacts: Artifacts, *, clock: Clock, new_id: IdSource) -> None:
        self._storage = storage
        self._artifacts = artifacts
        self._clock = clock
        self._new_id = new_id

    def get(self, application: str | None, job_id: str) -> JobRecord:
        """Return a job that the caller may see; 404 otherwise.

        :param application: None for a system key, which sees all.
        """
        row = self._storage.one("SELECT * FROM job WHERE id = ?", job_id)
        if row is None or application not in (None, row["application_id"]):
            raise Refused(404, JOB_NOT_FOUND)
        return _record(row)

    def view(self, job: JobRecord) -> View:
        """Return the eyes of a job's workspace instance."""
        return View(self.application_space(job.application_id), self.instance(job)["id"])

    def view_of(self, application: str | None, job_id: str) -> View:
        """Return the same for a job by its id, without its record: every request about an item asks for it.

        :param application: see ``get``.
        """
        row = self._storage.one(_VIEW, job_id)
        if row is None or application not in (None, row["application_id"]):
            raise Refused(404, JOB_NOT_FOUND)
        if row["own"] is None:
            raise Refused(404, INSTANCE_NOT_FOUND)
        if row["shared"] is None:
            raise LookupError(f"application {row['application_id']} has no space")
        return View(row["shared"], row["own"])

    def instance(self, job: JobRecord) -> sqlite3.Row:
        """Return the row of a job's instance; 404 when it is gone."""
        row = self._storage.one("SELECT * FROM space WHERE job_id = ?", job.id)
        if row is None:
            raise Refused(404, INSTANCE_NOT_FOUND)
        return row

    def application_space(self, application: str) -> str:
        """Return the space that holds an application's defaults."""
        row = self._storage.one("SELECT id FROM space WHERE application_id = ? AND job_id IS NULL", application)
        if row is None:
            raise LookupError(f"application {application} has no space")
        return str(row["id"])

    def page(
        self, application: str, *, prefix: str, sort: str, order: str, skip: int, take: int
    ) -> tuple[Sequence[JobRecord], int]:
        """Return a slice of an application's jobs and how many there are.

        :param prefix: of the expert key, in any case (contract J-2); "" for all.
        """
        where = "WHERE application_id = ? AND lower(substr(expert_key, 1, ?)) = lower(?)"
        values = (application, len(prefix), prefix)
        by = {"createdAt": "number", "updatedAt": "updated_ms"}[sort]
        way = {"asc": "ASC", "desc": "DESC"}[order]
        total = self._storage.one(f"SELECT count(*) AS n FROM job {where}", *values)  # noqa: S608  (fixed words)
        rows = self._storage.all(
            f"SELECT * FROM job {where} ORDER BY {by} {way}, number {way} LIMIT ? OFFSET ?",  # noqa: S608
            *values,
            take,
            min(skip, 2**62),
        )
        return [_record(row) for row in rows], int(total["n"]) if total else 0

    def queued(self) -> Sequence[JobRecord]:
        """Return what waits for the runner, the oldest first."""
        rows = self._storage.all("SELECT * FROM job WHERE status = 'queued' AND NOT is_held ORDER BY number")
        return [_record(row) for row in rows]

    def create(self, application: str, body: StartJob, files: Sequence[str], *, is_held: bool = False) -> JobRecord:
        """Make a job in ``queued``, and its workspace instance with it (contract I-46).

        :param files: the names to record.
        """
        if not body.query and not files:
            raise Refused(400, NO_QUERY)
        job_id, now = self._new_id(), self._clock()
        self._storage.insert(
            "job",
            **_DEFAULTS,
            id=job_id,
            application_id=application,
            created_ms=now,
            updated_ms=now,
            status="queued",
            is_held=is_held,
            expert_key=body.expertKey,
            query=body.query or None,
            files=json.dumps(list(files)),
            current_step=0,
            total_steps=0,
            duration_ms=0,
            usage=json.dumps(dict.fromkeys(USAGE, 0)),
        )
        self._update(job_id, **_given_parameters(body))
        self._storage.insert(
            "space",
            id=self._new_id(),
            application_id=application,
            job_id=job_id,
            created_ms=now,
            updated_ms=now,
        )
        return self.get(None, job_id)

    def resume(self, job: JobRecord, body: ContinueJob, query: str, files: Sequence[str]) -> JobRecord:
        """Queue a stopped job again (contract J-10).

        :param query: the new text, from whichever field of the body carried it.
        """
        answers = body.given("interactiveToolCallResult")
        may = job.status in ("exceededMaxSteps", "completed") or (
            job.status == "requestInteractiveToolResult" and answers is True
        )
        if not may:
            raise Refused(400, CANNOT_CONTINUE)
        changes: dict[str, Any] = _given_parameters(body)
        if query:
            changes["query"] = query
        if answers is not None:
            changes["answers_tool"] = answers
        self._update(job.id, files=json.dumps([*job.files, *files]), **changes)
        return self.set_status(job.id, "queued")

    def set_status(self, job_id: str, status: str) -> JobRecord:
        """Change the status, and what follows from it: durations, and the frozen artifacts of a finished run."""
        job, now = self.get(None, job_id), self._clock()
        changes: dict[str, Any] = {"status": status}
        if status == "processing" and job.status != "processing":
            changes |= {"started_ms": now, "first_ms": job.first_ms or now}
        if job.status == "processing" and status != "processing" and job.started_ms is not None:
            changes["duration_ms"] = job.duration_ms + max(0, now - job.started_ms)
        is_final = job_class(status) is JobClass.FINAL
        if is_final and not job.is_final:
            changes["finished_ms"] = now
            self._artifacts.freeze(job_id, self.view(job))
        if job.is_final and not is_final:
            changes["finished_ms"] = None
            self._artifacts.thaw(job_id)
        self._update(job_id, **changes)
        return self.get(None, job_id)

    def record_step(self, job: JobRecord, *, step_number: float, usage: Mapping[str, float]) -> None:
        """Count a step of the runtime."""
        total = {name: job.usage[name] + usage[name] for name in USAGE}
        self._update(
            job.id,
            current_step=step_number,
            total_steps=max(job.total_steps + 1, step_number),
            usage=json.dumps(total),
        )

    def release(self, job_id: str) -> JobRecord:
        """Let the runner have a job that was held."""
        self._update(job_id, is_held=False)
        return self.get(None, job_id)

    def _update(self, job_id: str, **changes: Any) -> None:
        setters = "".join(f"{column} = ?, " for column in changes)
        self._storage.run(
            f"UPDATE job SET {setters}updated_ms = max(updated_ms + 1, ?) WHERE id = ?",  # noqa: S608  (fixed words)
            *changes.values(),
            self._clock(),
            job_id,
        )


def _given_parameters(body: JobParameters) -> dict[str, Any]:
    given = {column: body.given(name) for name, column in _PARAMETERS.items()}
    return {column: value for column, value in given.items() if value is not None}


def _record(row: sqlite3.Row) -> JobRecord:
    values = dict(row)
    values["is_held"] = bool(values["is_held"])
    values["files"] = tuple(json.loads(values["files"]))
    values["usage"] = json.loads(values["usage"])
    if values["answers_tool"] is not None:
        values["answers_tool"] = bool(values["answers_tool"])
    return JobRecord(**values)
