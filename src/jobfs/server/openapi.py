"""Describes operations for the OpenAPI page that FastAPI serves. The routes read requests themselves."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from jobfs.server.operations import Audience, Family, Operation

_IDS = {"expertJobId", "workspaceItemId", "checkpointId"}

_NAMES = {"envVariableName", "envSecretName"}

_AUDIENCES = {
    Audience.ORDINARY: "",
    Audience.SYSTEM: "Needs the system key.",
    Audience.RUNTIME: "Needs the system key.",
    Audience.LINK: "Takes a signed link instead of a key.",
}


def describe(operation: Operation) -> dict[str, Any]:
    """Return what ``add_api_route`` is told about an operation besides its path and handler."""
    extra: dict[str, Any] = {"parameters": [*_path_parameters(operation), *_query_parameters(operation)]}
    if operation.body is not None:
        extra["requestBody"] = _request_body(operation)
    elif operation.file_field:
        form = {"type": "object", "properties": _file_property(operation), "required": [operation.file_field]}
        extra["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": form}}}
    return {
        "summary": operation.summary,
        "description": _AUDIENCES[operation.audience],
        "tags": [operation.tag],
        "name": operation.handler.__name__,
        "operation_id": f"{operation.tag}_{operation.handler.__name__}",
        "responses": _responses(operation),
        "openapi_extra": extra,
    }


def request_schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the schemas of all bodies, for the page's components."""
    schemas: dict[str, Any] = {}
    for operation in operations:
        if operation.body is not None:
            schema = operation.body.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs", {})
            schemas[operation.body.__name__] = schema
    return schemas


def _request_body(operation: Operation) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{operation.body.__name__}"} if operation.body else {}
    content: dict[str, Any] = {"application/json": {"schema": reference}}
    if operation.file_field:
        form = {"allOf": [reference, {"type": "object", "properties": _file_property(operation)}]}
        content["multipart/form-data"] = {"schema": form}
    return {"required": True, "content": content}


def _file_property(operation: Operation) -> dict[str, Any]:
    return {operation.file_field: {"type": "string", "format": "binary"}}


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    names = [part[1:-1].partition(":")[0] for part in operation.path.split("/") if part.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": _path_schema(name)} for name in names]


def _path_schema(name: str) -> dict[str, Any]:
    if name in _IDS:
        return {"type": "string", "pattern": "^[a-z0-9]+$", "minLength": 24, "maxLength": 24}
    if name in _NAMES:
        return {"type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9_-]*$", "minLength": 1, "maxLength": 256}
    return {"type": "string", "minLength": 1}


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": query.name, "in": "query", "required": query.is_required, "schema": dict(query.schema)}
        for query in operation.query
    ]


def _responses(operation: Operation) -> dict[int | str, dict[str, Any]]:
    statuses = {401: "The key is missing or of the wrong kind.", **operation.answers}
    if operation.family is Family.PERSTACK:
        statuses[422] = "Path, query or body do not fit."
    return {status: {"description": text or HTTPStatus(status).phrase} for status, text in sorted(statuses.items())}
