"""Jobs read as Eigenpal runs (contract 5.6): the shapes of a run and of its files.

A run is a job under another name: same id, its status in the other API's words, its workspace as artifacts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from jobfs.server.artifacts import Artifact
from jobfs.server.jobs import JobRecord
from jobfs.server.registry import ExpertInfo, expert_version
from jobfs.server.times import iso

EXPANSIONS = ("input", "usage", "execution", "debug")
"""The sections that ``expand`` may ask for (E-12)."""

FINAL = frozenset({"completed", "failed", "cancelled", "rejected"})
"""The statuses of a finished run (E-10)."""

_STATUSES = {
    "queued": "pending",
    "processing": "running",
    "canceling": "running",
    "requestInteractiveToolResult": "waiting",
    "requestDelegateResult": "waiting",
    "exceededMaxSteps": "waiting",
    "completed": "completed",
    "failed": "failed",
    "canceled": "cancelled",
    "expired": "failed",
}

_ERRORS = {"failed": "The job failed", "expired": "The job expired", "canceled": "The job was canceled"}

Json = dict[str, Any]


def run_status(job: JobRecord) -> str:
    """Return the status of a job as a run has it."""
    return _STATUSES[job.status]


def sample_rank(job: JobRecord) -> float:
    """Return the stable pseudo-random rank of a run, at least 0 and below 1."""
    return int.from_bytes(hashlib.sha256(job.id.encode()).digest()[:6], "big") / 2**48


def run_list_json(job: JobRecord, info: ExpertInfo) -> Json:
    """Return a run as the list shows it."""
    return {
        "id": job.id,
        "type": "agent",
        "finished": run_status(job) in FINAL,
        "sampleRank": sample_rank(job),
        "timing": _timing_json(job),
        "source": {
            "id": info.name,
            "name": info.name,
            "version": expert_version(job.expert_key, info),
            "versionId": None,
            "slug": None,
            "model": job.model,
            "git": None,
            "implementationAvailable": True,
            "automationFound": True,
            "currentVersion": info.version,
        },
        "trigger": {"type": "api", "by": None},
        "execution": _execution_json(job),
        "error": _ERRORS.get(job.status),
    }


def run_json(
    job: JobRecord,
    info: ExpertInfo,
    artifacts: Sequence[Artifact],
    *,
    expand: Collection[str],
    artifact_size: Literal["known", "null"],
) -> Json:
    """Return a run; files and output appear when it has finished (E-5, E-6)."""
    shape = run_list_json(job, info)
    if shape["finished"]:
        shape["output"] = {} if job.status == "completed" else None
        shape["files"] = [artifact_json(artifact, artifact_size) for artifact in artifacts]
    if "execution" in expand:
        outputs = [{"name": _name(artifact)} for artifact in artifacts if artifact.role == "output"]
        shape["execution"] |= {"files": {"output": outputs}}
    if "input" in expand:
        inputs = [{"name": name} for name in job.files]
        shape["input"] = {"args": {"query": job.query}, "files": inputs, "metadata": None}
    if "usage" in expand:
        shape["usage"] = _usage_json(job)
    if "debug" in expand:
        shape["debug"] = {"observability": None, "traceId": None}
    return shape


def artifact_json(artifact: Artifact, artifact_size: Literal["known", "null"]) -> Json:
    """Return one file of a run (E-5, E-7)."""
    is_known = artifact_size == "known"
    return {
        "name": _name(artifact),
        "role": artifact.role,
        "path": artifact.path,
        "contentType": artifact.mime_type if is_known else None,
        "size": artifact.size if is_known else None,
    }


def _name(artifact: Artifact) -> str:
    return artifact.path.rpartition("/")[2]


def _timing_json(job: JobRecord) -> Json:
    is_finished = job.finished_ms is not None
    return {
        "createdAt": iso(job.created_ms),
        "startedAt": None if job.first_ms is None else iso(job.first_ms),
        "completedAt": None if job.finished_ms is None else iso(job.finished_ms),
        "durationMs": job.duration_ms if is_finished else None,
        "cancelRequestedAt": iso(job.updated_ms) if job.status in ("canceling", "canceled") else None,
    }


def _execution_json(job: JobRecord) -> Json:
    return {
        "status": run_status(job),
        "schemaValid": None,
        "batchId": None,
        "retry": {"number": 0, "previousRunId": None, "nextRun": None},
        "review": None,
    }


def _usage_json(job: JobRecord) -> Json:
    usage: Mapping[str, float] = job.usage
    return {
        "tokens": {
            "input": usage["inputTokens"],
            "output": usage["outputTokens"],
            "cacheRead": usage["cachedInputTokens"],
            "cacheWrite": None,
        },
        "creditsCharged": None,
        "durationMs": job.duration_ms,
        "llmCallCount": 0,
        "ocrPagesProcessed": 0,
        "agentTurns": job.total_steps,
    }
