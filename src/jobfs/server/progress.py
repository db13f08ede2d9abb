"""The checkpoints of a run: what the expert did to the workspace, and at the end its output and exit code.

Shapes as the runtime of the API sends them (endpoint 17). The server makes from them the actions that clients take as
hints of changed files (contract C-8).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from jobfs.server.command import Ending, Outcome
from jobfs.server.ids import random_id
from jobfs.server.internal_api import InternalApi, WorkspaceToRun
from jobfs.server.registry import expert_name
from jobfs.server.working_copy import Change

SINGLE_CHANGES = 20
"""More changes at once become one checkpoint of a general tool, which tells clients that anything may have changed."""

_SKILL = "@jobfs/runner"
_NO_USAGE = dict.fromkeys(("inputTokens", "outputTokens", "reasoningTokens", "totalTokens", "cachedInputTokens"), 0)
_VERSION = "1.0.0"

_STATUS = {
    "completed": "completed",
    "exceededMaxSteps": "stoppedByExceededMaxSteps",
    "requestInteractiveToolResult": "stoppedByInteractiveTool",
}

_MAX_LEFT_OUT = 20

Json = dict[str, Any]


class Progress:
    """Records the steps of one run."""

    def __init__(self, api: InternalApi, job_id: str, told: WorkspaceToRun) -> None:
        self._api = api
        self._job_id = job_id
        self._expert_key = told.expert_key
        self._step = told.current_step
        self._messages = [_message("userMessage", told.query)] if told.query else []
        self._run_id = random_id()
        self._since_ms = _now_ms()

    async def changed(self, changes: Sequence[Change]) -> None:
        """Record what the expert did to the workspace."""
        if len(changes) > SINGLE_CHANGES:
            await self._record("proceeding", *_tool("storeOutputs", {"count": len(changes)}, ""))
            return
        for change in changes:
            await self._record("proceeding", *_tool(change.deed.value, {"path": change.path}, "done"))

    async def failed(self, reason: str) -> None:
        """Record that the job failed without a command that could have said something."""
        await self.ended("failed", Outcome(Ending.NOT_STARTED), reason=reason, left_out={})

    async def ended(self, status: str, outcome: Outcome, *, reason: str, left_out: Mapping[str, str]) -> None:
        """Record the end of the command.

        :param status: of the job.
        :param reason: why it failed; empty where it did not.
        :param left_out: paths that are not in the workspace, or were not in the copy, each with its reason.
        """
        said = [outcome.output, reason, _left_out_text(left_out)]
        text = "\n".join(part.rstrip("\n") for part in said if part)
        self._messages.append(_message("expertMessage", text))
        arguments: Json = {"ending": outcome.ending.value, "reason": reason}
        if outcome.ending is Ending.EXITED:
            arguments["exitCode"] = outcome.exit_code
        await self._record(_STATUS.get(status, "stoppedByError"), *_tool("command", arguments, text))

    async def _record(self, status: str, call: Json, result: Json) -> None:
        self._step += 1
        now, is_last = _now_ms(), status != "proceeding"
        name = expert_name(self._expert_key)
        checkpoint: Json = {
            "id": random_id(),
            "runId": self._run_id,
            "status": status,
            "stepNumber": self._step,
            "messages": self._messages if is_last else [],
            "expert": {"key": f"{name}@{_VERSION}", "name": name, "version": _VERSION},
            "usage": _NO_USAGE,
        }
        step: Json = {
            "stepNumber": self._step,
            "newMessages": self._messages[-1:] if is_last else [],
            "toolCall": call,
            "toolResult": result,
            "usage": _NO_USAGE,
            "startedAt": self._since_ms,
            "finishedAt": now,
        }
        self._since_ms = now
        await self._api.add_checkpoint(self._job_id, {"checkpoint": checkpoint, "step": step})


def _tool(name: str, arguments: Json, text: str) -> tuple[Json, Json]:
    """Return call and result of a tool."""
    head = {"id": random_id(), "skillName": _SKILL, "toolName": name}
    return head | {"args": arguments}, head | {"result": [_text_part(text)]}


def _message(kind: str, text: str) -> Json:
    return {"id": random_id(), "type": kind, "contents": [_text_part(text)]}


def _text_part(text: str) -> Json:
    return {"id": random_id(), "type": "textPart", "text": text}


def _left_out_text(left_out: Mapping[str, str]) -> str:
    # A name that is not UTF-8 has no place in JSON; it is shown with its bytes spelt out.
    names = {path.encode("utf-8", "backslashreplace").decode(): reason for path, reason in left_out.items()}
    shown = [f"left out: {path}: {reason}" for path, reason in sorted(names.items())]
    more = len(shown) - _MAX_LEFT_OUT
    return "\n".join(shown[:_MAX_LEFT_OUT] + ([f"left out: {more} more"] if more > 0 else []))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
