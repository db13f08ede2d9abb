"""The internal endpoints, as the runner calls them: by the server's own HTTP application, but without a socket.

A request goes through routing, the check of the key and the validation of the body like anybody's. It is marked as the
server's own (``is_internal``), so that it is neither counted nor made to fail by test switches.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from jobfs.errors import ApiError

_MARK = "jobfs.internal"
_PREFIX = "/api/studio/v1/expert_jobs"

Message = MutableMapping[str, Any]
AsgiApp = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


def is_internal(scope: Mapping[str, Any]) -> bool:
    """Tell whether a request comes from this module. Nothing that arrives over a socket can carry the mark."""
    return _MARK in scope.get("extensions", {})


@dataclass(frozen=True, slots=True)
class WorkspaceToRun:
    """What the runner is told of a job (endpoint 14).

    Variables and secrets are in clear here, and so never shown (contract V-2).
    """

    expert_key: str
    query: str
    files: tuple[str, ...]
    max_steps: int
    current_step: int
    is_continue: bool
    variables: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, str] = field(repr=False)


class InternalApi(Protocol):
    """What the runner needs of the API. Every call raises ``ApiError`` where it is refused."""

    async def workspace_to_run(self, job_id: str) -> WorkspaceToRun:
        """Return what is needed to run a job."""

    async def set_status(self, job_id: str, status: str) -> None:
        """Change a job's status (endpoint 4)."""

    async def add_checkpoint(self, job_id: str, body: Mapping[str, Any]) -> None:
        """Record a step (endpoint 17)."""


class AsgiInternalApi:
    """``InternalApi`` by plain calls of the application.

    :param system_key: opens the internal endpoints; never logged.
    """

    def __init__(self, app: AsgiApp, system_key: str) -> None:
        self._app = app
        self._authorization = f"Bearer {system_key}".encode()

    async def workspace_to_run(self, job_id: str) -> WorkspaceToRun:
        answer = await self._request("GET", f"{_PREFIX}/{job_id}/workspace_instance_to_run/")
        told = answer["data"]["workspaceInstanceToRun"]
        job = told["expertJob"]
        return WorkspaceToRun(
            expert_key=job["expertKey"],
            query=job.get("query", ""),
            files=tuple(job["files"]),
            max_steps=int(job["maxSteps"]),
            current_step=int(job["currentStep"]),
            is_continue=job["totalSteps"] > 0,
            variables=told["envVariables"],
            secrets=told["envSecrets"],
        )

    async def set_status(self, job_id: str, status: str) -> None:
        await self._request("POST", f"{_PREFIX}/{job_id}", {"status": status})

    async def add_checkpoint(self, job_id: str, body: Mapping[str, Any]) -> None:
        await self._request("POST", f"{_PREFIX}/{job_id}/checkpoints/", body)

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send one request and return the parsed answer. Raises ``ApiError`` for any status but 200."""
        sent = b"" if body is None else json.dumps(body).encode()
        incoming: list[Message] = [{"type": "http.request", "body": sent, "more_body": False}]
        status = 0
        received = bytearray()

        async def receive() -> Message:
            return incoming.pop() if incoming else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                received.extend(message.get("body", b""))

        await self._app(self._scope(method, path, has_body=body is not None, length=len(sent)), receive, send)
        if status != 200:
            # The path names the job, and the body of endpoint 14 is not among refusals: nothing secret is shown.
            reason = received.decode("utf-8", "replace")
            raise ApiError(f"{method} {path} was answered with {status}: {reason}", status=status, reason=reason)
        return json.loads(received)

    def _scope(self, method: str, path: str, *, has_body: bool, length: int) -> Message:
        headers = [(b"host", b"internal"), (b"authorization", self._authorization)]
        if has_body:
            headers += [(b"content-type", b"application/json"), (b"content-length", str(length).encode())]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": None,
            "server": None,
            "extensions": {_MARK: {}},
        }
