"""Runs and their files over HTTP: endpoints 28 to 32."""

from __future__ import annotations

import asyncio
import math
import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from starlette.responses import Response

from jobfs.server.answers import Bytes, FileAnswer, json_answer
from jobfs.server.artifacts import Artifact
from jobfs.server.content import ContentFolder
from jobfs.server.jobs import JobRecord
from jobfs.server.operations import Audience, Call, Family, Operation, Query, anything, choice, number
from jobfs.server.refusals import FILE_NOT_FOUND, JOB_NOT_FOUND, Refused
from jobfs.server.registry import expert_name
from jobfs.server.routes_files import stored_bytes
from jobfs.server.runs import EXPANSIONS, artifact_json, run_json, run_list_json, run_status, sample_rank
from jobfs.server.times import from_iso

RUN_NOT_FOUND = "No such run"
ARTIFACT_NOT_FOUND = "No such artifact"


async def get_run(call: Call) -> Response:
    """Answer one run, with the sections that ``expand`` asks for (E-12)."""
    job = _job(call)
    return json_answer(
        run_json(
            job,
            call.state.expert(job.expert_key),
            _artifacts(call, job),
            expand=call.query["expand"] or (),
            artifact_size=call.state.switches.artifact_size,
        )
    )


async def list_runs(call: Call) -> Response:
    """Answer one page of runs, by default the newest first, and where the next one begins (E-16)."""
    query = call.query
    limit, is_ascending = query["limit"], query["order"] == "asc"
    found: list[JobRecord] = []
    for job in _all_jobs(call, query["order"]):
        if _is_after(job, query["cursor"], is_ascending=is_ascending) and _is_wanted(job, query):
            found.append(job)
    page = found[query["offset"] : query["offset"] + limit]
    is_last = query["offset"] + limit >= len(found)
    runs = [run_list_json(job, call.state.expert(job.expert_key)) for job in page]
    return json_answer({"runs": runs, "nextCursor": None if is_last or not page else f"r{page[-1].number}"})


async def list_artifacts(call: Call) -> Response:
    """Answer the files of a run, or its outputs as one archive (E-18)."""
    artifacts = _artifacts(call, _job(call))
    if call.query["zip"] is not None:
        return await _archive(call, artifacts)
    size = call.state.switches.artifact_size
    return json_answer({"artifacts": [artifact_json(artifact, size) for artifact in artifacts]})


async def get_artifact(call: Call) -> Response:
    """Answer the bytes of one file; slashes in its path may be literal or encoded (E-2)."""
    wanted = call.ids["path"]
    for artifact in _artifacts(call, _job(call)):
        if artifact.path == wanted:
            path = call.state.storage.contents.path(artifact.key)
            return stored_bytes(call, Bytes(path, artifact.size, artifact.mime_type, artifact.key))
    raise Refused(404, ARTIFACT_NOT_FOUND)


def _job(call: Call) -> JobRecord:
    try:
        return call.state.jobs.get(call.application, call.ids["id"])
    except Refused as refused:
        raise Refused(404, RUN_NOT_FOUND if refused.reason == JOB_NOT_FOUND else refused.reason) from None


def _artifacts(call: Call, job: JobRecord) -> Sequence[Artifact]:
    """Return the frozen list of a finished run, else what the workspace holds now (E-9)."""
    if job.is_final:
        return call.state.artifacts.frozen(job.id)
    return call.state.artifacts.live(call.state.jobs.view(job))


def _is_after(job: JobRecord, cursor: int | None, *, is_ascending: bool) -> bool:
    return cursor is None or (job.number > cursor if is_ascending else job.number < cursor)


def _all_jobs(call: Call, order: str) -> Iterator[JobRecord]:
    step = 1000
    for skip in range(0, 2**62, step):
        jobs, _ = call.state.jobs.page(call.application, prefix="", sort="createdAt", order=order, skip=skip, take=step)
        yield from jobs
        if len(jobs) < step:
            return


def _is_wanted(job: JobRecord, query: Any) -> bool:
    return (
        query["type"] in (None, "agent")
        and query["trigger"] in (None, "api")
        and query["source"] in (None, expert_name(job.expert_key))
        and query["hasReview"] in (None, "false")
        and query["hasCorrections"] in (None, "false")
        and query["noReview"] != "false"
        and not any(query[name] for name in _UNKNOWN_HERE)
        and (query["status"] is None or run_status(job) in query["status"].split(","))
        and (query["ids"] is None or job.id in query["ids"].split(","))
        and _is_in_time(job, query)
        and (query["sampleRate"] is None or sample_rank(job) < query["sampleRate"])
    )


def _is_in_time(job: JobRecord, query: Any) -> bool:
    """Tell whether a run was made and has ended when the query says; ``from`` and ``to`` include their moments."""
    created, finished = job.created_ms, job.finished_ms
    return (
        (query["from"] is None or created >= query["from"])
        and (query["to"] is None or created <= query["to"])
        and (query["createdAfter"] is None or created > query["createdAfter"])
        and (query["createdBefore"] is None or created < query["createdBefore"])
        and (query["completedAfter"] is None or (finished is not None and finished > query["completedAfter"]))
        and (query["completedBefore"] is None or (finished is not None and finished < query["completedBefore"]))
    )


async def _archive(call: Call, artifacts: Sequence[Artifact]) -> Response:
    chosen = [artifact for artifact in artifacts if artifact.role == "output"]
    if call.query["files"] is not None:
        names = set(call.query["files"].split(","))
        chosen = [artifact for artifact in chosen if artifact.path in names]
    limit = call.state.switches.zip_limit
    if sum(artifact.size for artifact in chosen) > limit:
        raise Refused(413, f"An archive may hold {limit} bytes", code="artifacts_zip_too_large")
    is_review = call.query["bundle"] == "review"
    fd = await asyncio.to_thread(_write_archive, call.state.storage.contents, chosen, is_review=is_review)
    length = os.fstat(fd).st_size
    headers = {"content-type": "application/zip", "content-length": str(length)}
    return FileAnswer(fd, first=0, length=length, status=200, headers=headers)


def _write_archive(contents: ContentFolder, artifacts: Sequence[Artifact], *, is_review: bool) -> int:
    """Write an archive and return its open descriptor; runs on a thread, since compressing takes long.

    :param is_review: put everything into ``output/``, beside an ``expected/`` that no run of this server can fill.
    """
    folder = "output/" if is_review else ""
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in ("output", "expected") if is_review else ():
                archive.mkdir(name)
            for artifact in artifacts:
                try:
                    archive.write(contents.path(artifact.key), folder + artifact.path)
                except FileNotFoundError:
                    raise Refused(404, FILE_NOT_FOUND) from None
        return os.dup(file.fileno())


# ---------------------------------------------------------------------- query parameters of these routes


def _read_expand(value: str) -> frozenset[str]:
    tokens = frozenset(token for token in value.split(",") if token)
    if unknown := tokens - set(EXPANSIONS):
        raise ValueError(f"unknown section {sorted(unknown)[0]!r}")
    return tokens


def _read_filter(value: str) -> str | None:
    return value or None


def _read_time(value: str) -> int | None:
    return from_iso(value) if value else None


def _read_cursor(value: str) -> int | None:
    if not value:
        return None
    digits = value.removeprefix("r")
    if not value.startswith("r") or not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        raise ValueError("not a cursor of this list")
    return int(digits)


def _read_rate(value: str) -> float:
    rate = float(value) if "_" not in value else math.nan
    if not math.isfinite(rate):
        raise ValueError("not a number")
    return rate


_TEXT = {"type": "string"}
_FILTERS = ("type", "source", "trigger", "hasReview", "hasCorrections", "noReview", "status", "ids")
_TIMES = ("from", "to", "createdAfter", "createdBefore", "completedAfter", "completedBefore")
_UNKNOWN_HERE = (
    "sourceRef",
    "triggeredBy",
    "batchId",
    "exampleId",
    "exampleIdContains",
    "experiments",
    "reviewStatus",
    "reviewVerdict",
    "reviewNoteContains",
)
"""Filters by what no run of this server has: whoever asks for it gets no run, rather than all of them."""

_RUN = "/api/v1/runs/{id}"
_NO_RUN = {404: "No such run."}

OPERATIONS = tuple(
    replace(operation, family=Family.EIGENPAL)
    for operation in (
        Operation(
            "GET", _RUN, get_run, "Get a run", "runs",
            query=(Query("expand", _read_expand, schema=_TEXT),), answers={400: "Unknown section.", **_NO_RUN},
        ),
        Operation(
            "GET", "/api/v1/runs", list_runs, "List runs", "runs",
            query=(
                Query("cursor", _read_cursor, schema=_TEXT), number("offset", default=0, low=0),
                number("limit", default=50, low=1, high=1000), Query("sampleRate", _read_rate, schema=_TEXT),
                choice("order", "asc", "desc", default="desc"),
                *(Query(name, _read_time, schema=_TEXT) for name in _TIMES),
                *(Query(name, _read_filter, schema=_TEXT) for name in (*_FILTERS, *_UNKNOWN_HERE)),
            ),
            answers={400: "A parameter does not fit."},
        ),
        Operation(
            "GET", f"{_RUN}/artifacts", list_artifacts, "List the files of a run", "artifacts",
            audience=Audience.LINK, query=(choice("zip", "1"), choice("bundle", "review"), anything("files")),
            answers={400: "A parameter does not fit.", 413: "The archive is too large.", **_NO_RUN},
        ),
        Operation(
            "GET", f"{_RUN}/artifacts/{{path:path}}", get_artifact, "Download a file of a run", "artifacts",
            answers={302: "The bytes are elsewhere.", 404: "No such run or file."},
        ),
    )
)  # fmt: skip
