"""Checkpoints: what the runtime reports after each step, and the actions that tell a file client what changed (C-8)."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt

from jobfs.server.bodies import Body, Identifier, ShortText, Text, whole
from jobfs.server.ids import IdSource
from jobfs.server.jobs import JobRecord
from jobfs.server.refusals import CHECKPOINT_NOT_FOUND, Refused
from jobfs.server.storage import Storage
from jobfs.server.times import Clock, iso

FILE_TOOLS = frozenset({"writeTextFile", "editTextFile", "appendTextFile", "deleteFile", "moveFile", "createDirectory"})
"""The tools whose actions say which files changed."""

_PLAIN_TOOLS = FILE_TOOLS | {"readImageFile", "readPdfFile", "readTextFile", "getFileInfo", "listDirectory", "think"}

_ARGUMENTS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("path", "source", "destination", "mimeType", "error"), (str,)),
    "size": (int, float),
    "workspaceItem": (),  # a whole item, which the runtime has no business to make up
}
"""What an action's own fields have to be; every other argument is kept as it came."""

Real = Annotated[StrictInt | StrictFloat, Field(ge=-1e15, le=1e15)]
"""A number that everybody can read exactly; a JSON text may hold integers of any length."""


class _Open(BaseModel):
    """A part that is kept as it came, unknown fields included."""

    model_config = ConfigDict(extra="allow", frozen=True)


class MessagePart(_Open):
    """A part of a message."""

    id: Text = ""
    type: Text


class Message(_Open):
    """A message of the expert's conversation."""

    id: Text = ""
    type: Text
    contents: list[MessagePart]
    cache: StrictBool = False


class UsageReport(Body):
    """Token counts of a step."""

    inputTokens: Real
    outputTokens: Real
    reasoningTokens: Real
    totalTokens: Real
    cachedInputTokens: Real


class ToolCall(Body):
    """What the expert asked a tool to do."""

    id: ShortText
    skillName: ShortText
    toolName: ShortText
    args: dict[str, Any]


class ToolResult(Body):
    """What the tool answered."""

    id: ShortText
    skillName: ShortText
    toolName: ShortText
    result: list[MessagePart]


class ExpertRef(Body):
    """An expert as the runtime names it."""

    key: Text
    name: Text
    version: Text


class DelegateTo(Body):
    """The expert that this one hands over to."""

    expert: ExpertRef
    toolCallId: ShortText
    toolName: ShortText
    query: Text


class DelegatedBy(Body):
    """The expert that handed over to this one."""

    expert: ExpertRef
    toolCallId: ShortText
    toolName: ShortText
    checkpointId: Identifier


class RuntimeCheckpoint(Body):
    """The runtime's snapshot after a step."""

    runId: Text = ""
    status: Literal[
        "init",
        "proceeding",
        "completed",
        "stoppedByInteractiveTool",
        "stoppedByDelegate",
        "stoppedByExceededMaxSteps",
        "stoppedByError",
    ]
    stepNumber: Annotated[Real, Field(ge=0)]
    messages: list[Message]
    expert: ExpertRef
    delegateTo: DelegateTo | None = None
    delegatedBy: DelegatedBy | None = None
    usage: UsageReport
    contextWindow: Annotated[Real, Field(ge=0)] = 0
    contextWindowUsage: Annotated[Real, Field(ge=0)] = 0


class RuntimeStep(Body):
    """What happened in the step itself. Times are milliseconds here and ISO text in answers."""

    stepNumber: Real
    inputMessages: tuple[Message, ...] = ()
    newMessages: list[Message]
    toolCall: ToolCall | None = None
    toolResult: ToolResult | None = None
    usage: UsageReport
    startedAt: Annotated[Real, Field(ge=0, le=253402300799999)]
    finishedAt: Annotated[Real, Field(ge=0, le=253402300799999)] = 0


class CreateCheckpoint(Body):
    """Body of endpoint 17."""

    checkpoint: RuntimeCheckpoint
    step: RuntimeStep


Digest = Callable[[ExpertRef], dict[str, Any]]
"""Turns the runtime's name of an expert into what answers show; 400 for an unknown one."""


class Checkpoints:
    """The checkpoints of all jobs, kept as the answers that they become."""

    def __init__(self, storage: Storage, *, clock: Clock, new_id: IdSource) -> None:
        self._storage = storage
        self._clock = clock
        self._new_id = new_id

    def create(self, job: JobRecord, body: CreateCheckpoint, digest: Digest) -> dict[str, Any]:
        """Store a checkpoint and return its answer. Runs inside the caller's transaction."""
        checkpoint_id = self._new_id()
        shape = _checkpoint_json(checkpoint_id, job.id, body, digest)
        self._storage.insert(
            "checkpoint",
            id=checkpoint_id,
            job_id=job.id,
            created_ms=self._clock(),
            body=json.dumps(shape, ensure_ascii=False),
        )
        return shape

    def get(self, job: JobRecord, checkpoint_id: str) -> dict[str, Any]:
        """Return one checkpoint of a job; 404 otherwise."""
        row = self._storage.one("SELECT body FROM checkpoint WHERE id = ? AND job_id = ?", checkpoint_id, job.id)
        if row is None:
            raise Refused(404, CHECKPOINT_NOT_FOUND)
        shape: dict[str, Any] = json.loads(row["body"])
        return shape

    def page(
        self, job: JobRecord, *, filter_text: str, order: str, skip: int, take: int
    ) -> tuple[Sequence[dict[str, Any]], int]:
        """Return a slice of a job's checkpoints in the order of their creation (C-2), and how many there are.

        :param filter_text: a part of the expert's key, in any case; "" for all.
        """
        where = "WHERE job_id = ? AND instr(lower(json_extract(body, '$.expert.key')), lower(?)) > 0"
        way = {"asc": "ASC", "desc": "DESC"}[order]
        total = self._storage.one(f"SELECT count(*) AS n FROM checkpoint {where}", job.id, filter_text)  # noqa: S608
        rows = self._storage.all(
            f"SELECT body FROM checkpoint {where} ORDER BY number {way} LIMIT ? OFFSET ?",  # noqa: S608  (fixed words)
            job.id,
            filter_text,
            take,
            min(skip, 2**62),
        )
        return [json.loads(row["body"]) for row in rows], int(total["n"]) if total else 0

    def since(self, job: JobRecord, number: int) -> Sequence[tuple[int, dict[str, Any]]]:
        """Return what came after a number, with the numbers."""
        rows = self._storage.all(
            "SELECT number, body FROM checkpoint WHERE job_id = ? AND number > ? ORDER BY number", job.id, number
        )
        return [(row["number"], json.loads(row["body"])) for row in rows]


def _checkpoint_json(checkpoint_id: str, job_id: str, body: CreateCheckpoint, digest: Digest) -> dict[str, Any]:
    checkpoint, step = body.checkpoint, body.step
    shape: dict[str, Any] = {
        "type": "checkpoint",
        "id": checkpoint_id,
        "action": _action(body),
        "runId": checkpoint.runId or job_id,
        "expertJobId": job_id,
        "stepNumber": whole(checkpoint.stepNumber),
        "status": checkpoint.status,
        "expert": digest(checkpoint.expert),
        "messages": _dump(checkpoint.messages),
        "newMessages": _dump(step.newMessages),
        "usage": step.usage.model_dump(),
        "contextWindow": checkpoint.contextWindow,
        "contextWindowUsage": checkpoint.contextWindowUsage,
        "startedAt": iso(int(step.startedAt)),
    }
    if "finishedAt" in step.model_fields_set:
        shape["finishedAt"] = iso(int(step.finishedAt))
    if "inputMessages" in step.model_fields_set:
        shape["inputMessages"] = _dump(step.inputMessages)
    if step.toolCall is not None:
        shape |= {"skillName": step.toolCall.skillName, "toolName": step.toolCall.toolName}
        shape["toolCall"] = step.toolCall.model_dump(exclude_unset=True)
    if step.toolResult is not None:
        shape["toolResult"] = step.toolResult.model_dump(exclude_unset=True)
    for name, other in (("delegateTo", checkpoint.delegateTo), ("delegatedBy", checkpoint.delegatedBy)):
        if other is not None:
            shape[name] = other.model_dump(exclude={"expert", "query"}) | {"expert": digest(other.expert)}
    return shape


def _action(body: CreateCheckpoint) -> dict[str, Any]:
    """Return what the step did: the file tools keep their arguments, so that a client knows which paths changed."""
    call, result = body.step.toolCall, body.step.toolResult
    if call is None:
        match body.checkpoint.status:
            case "completed":
                return {"type": "attemptCompletion"}
            case "stoppedByError":
                return {"type": "error"}
            case _:
                return {"type": "think"}
    if call.toolName in _PLAIN_TOOLS and all(type(call.args[name]) in _ARGUMENTS[name] for name in _told(call)):
        return {**call.args, "type": call.toolName}
    shape: Mapping[str, Any] = {"type": "generalTool", "skillName": call.skillName, "toolName": call.toolName}
    return {**shape, "args": call.args, "result": _dump(result.result) if result is not None else []}


def _told(call: ToolCall) -> Collection[str]:
    return call.args.keys() & _ARGUMENTS.keys()


def _dump(parts: Sequence[_Open]) -> list[dict[str, Any]]:
    return [part.model_dump(exclude_unset=True) for part in parts]
