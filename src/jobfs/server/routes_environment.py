"""Variables and secrets over HTTP: endpoints 25 to 27. Values come in and never go out here (V-1)."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from jobfs.server.answers import data_answer
from jobfs.server.bodies import CreateEnv, UpdateEnv, read_body
from jobfs.server.operations import Call, Operation
from jobfs.server.refusals import ENV_EXISTS, ENV_NOT_FOUND, Refused
from jobfs.server.routes_items import workspace_json


async def create_variable(call: Call) -> Response:
    """Add a variable."""
    body = await _create(call, is_secret=False)
    return _answer(call, variable={"name": body.name, "value": body.value})


async def create_secret(call: Call) -> Response:
    """Add a secret."""
    body = await _create(call, is_secret=True)
    return _answer(call, secret={"name": body.name})


async def update_variable(call: Call) -> Response:
    """Change value or name of a variable (V-5, V-6)."""
    state, name = call.state, call.ids["envVariableName"]
    state.environment.require(call.application, name, is_secret=False)
    with call.body() as reader:
        body = read_body(UpdateEnv, await reader.json_object())
    if not body.model_fields_set:
        raise Refused(422, [{"path": "", "message": "give a name or a value"}])
    with state.transaction():
        state.environment.update(call.application, name, new_name=body.given("name"), value=body.given("value"))
    new_name = body.given("name") or name
    value = state.environment.values(call.application, is_secret=False)[new_name]
    return _answer(call, variable={"name": new_name, "value": value})


async def delete_variable(call: Call) -> Response:
    """Remove a variable."""
    return _delete(call, call.ids["envVariableName"], is_secret=False)


async def delete_secret(call: Call) -> Response:
    """Remove a secret."""
    return _delete(call, call.ids["envSecretName"], is_secret=True)


async def _create(call: Call, *, is_secret: bool) -> CreateEnv:
    with call.body() as reader:
        body = read_body(CreateEnv, await reader.json_object())
    with call.state.transaction():
        call.state.environment.create(call.application, body.name, body.value, is_secret=is_secret)
    return body


def _delete(call: Call, name: str, *, is_secret: bool) -> Response:
    with call.state.transaction():
        call.state.environment.delete(call.application, name, is_secret=is_secret)
    return _answer(call)


def _answer(call: Call, **later: Any) -> Response:
    """Answer with the workspace; the later client also wants the thing itself (V-1)."""
    extra = {} if call.state.switches.dialect == "v1" else later
    return data_answer(workspace=workspace_json(call), **extra)


_BASE = "/api/studio/v1/workspace"
_TAKEN = {400: ENV_EXISTS}
_UNKNOWN = {404: ENV_NOT_FOUND}

OPERATIONS = (
    Operation(
        "POST", f"{_BASE}/variables/", create_variable, "Add a variable", "environment",
        body=CreateEnv, answers=_TAKEN,
    ),
    Operation(
        "POST", f"{_BASE}/variables/{{envVariableName}}", update_variable, "Change a variable", "environment",
        body=UpdateEnv, answers={**_TAKEN, **_UNKNOWN},
    ),
    Operation(
        "DELETE", f"{_BASE}/variables/{{envVariableName}}", delete_variable, "Remove a variable", "environment",
        answers=_UNKNOWN,
    ),
    Operation(
        "POST", f"{_BASE}/secrets/", create_secret, "Add a secret", "environment", body=CreateEnv, answers=_TAKEN,
    ),
    Operation(
        "DELETE", f"{_BASE}/secrets/{{envSecretName}}", delete_secret, "Remove a secret", "environment",
        answers=_UNKNOWN,
    ),
)  # fmt: skip
