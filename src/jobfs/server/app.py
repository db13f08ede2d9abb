"""Puts the server together: a FastAPI application over one data folder."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import compile_path

from jobfs.server import (
    routes_checkpoints,
    routes_environment,
    routes_files,
    routes_items,
    routes_jobs,
    routes_runs,
    routes_storage,
)
from jobfs.server.faults import Faults
from jobfs.server.front import Front, OnRequest
from jobfs.server.ids import IdSource, random_id
from jobfs.server.openapi import describe, request_schemas
from jobfs.server.operations import Audience, Family, Operation, admit, endpoint, refusal
from jobfs.server.page import api_page
from jobfs.server.refusals import Refused
from jobfs.server.registry import ExpertLookup, no_experts
from jobfs.server.state import DEFAULT_UPLOAD_LIMIT, ServerState
from jobfs.server.switches import Switches
from jobfs.server.times import Clock, system_clock

OPERATIONS: Sequence[Operation] = (
    # The router tries one after the other, so the items come first: they are most of all requests.
    *routes_items.INSTANCE_OPERATIONS,
    *routes_jobs.OPERATIONS,
    *routes_checkpoints.OPERATIONS,
    *routes_items.WORKSPACE_OPERATIONS,
    *routes_environment.OPERATIONS,
    *routes_files.OPERATIONS,
    *routes_runs.OPERATIONS,
)


def create_app(
    data_dir: Path,
    *,
    switches: Switches | None = None,
    faults: Faults | None = None,
    experts: ExpertLookup = no_experts,
    upload_limit: int = DEFAULT_UPLOAD_LIMIT,
    on_request: OnRequest | None = None,
    clock: Clock = system_clock,
    new_id: IdSource = random_id,
) -> FastAPI:
    """Open a data folder and return the application that serves it; its ``state.server`` is the ``ServerState``.

    The caller closes the state when the application is no longer used.

    :raises StateLocked: another server has the folder open.
    :raises StateCorrupt: the folder is damaged.
    """
    state = ServerState(
        data_dir,
        switches=switches,
        faults=faults,
        experts=experts,
        upload_limit=upload_limit,
        clock=clock,
        new_id=new_id,
    )
    app = FastAPI(title="jobfs studio server", version="1", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.server = state
    for operation in OPERATIONS:
        _add(app, operation, state)
    routes_storage.add_routes(app, state)
    app.add_api_route("/docs", lambda: HTMLResponse(api_page(app.openapi())), include_in_schema=False)
    app.add_exception_handler(HTTPException, _unrouted)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(Front, state=state, on_request=on_request)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend the page
    return app


def server_state(app: FastAPI) -> ServerState:
    """Return the state behind an application."""
    state: ServerState = app.state.server
    return state


def _add(app: FastAPI, operation: Operation, state: ServerState) -> None:
    handler = endpoint(operation, state)
    paths = [operation.path]
    match operation.family:
        case Family.PERSTACK:
            paths.append(operation.path.rstrip("/") if operation.path.endswith("/") else operation.path + "/")
        case Family.EIGENPAL:
            paths.append(operation.path.removeprefix("/api"))
    for path in paths:
        app.add_api_route(
            path,
            handler,
            methods=[operation.method],
            response_model=None,
            include_in_schema=path == operation.path,
            **describe(operation),
        )
        if operation.path.rpartition("/")[2] in _STATIC_WORDS:
            # Without this, another method would reach the route of a parameter in the same place.
            app.add_api_route(path, _wrong_method, methods=_other_methods(operation), include_in_schema=False)


_STATIC_WORDS = frozenset({"find", "stream", "uploads"})
"""Last segments that win over a parameter in the same place (contract, section 2, routing)."""

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def _other_methods(operation: Operation) -> list[str]:
    return [method for method in _METHODS if method != operation.method]


async def _wrong_method() -> None:
    raise HTTPException(405)


def _allowed_methods(path: str) -> str:
    """Return the methods that a path has, for the ``Allow`` header."""
    same = next((template for template, pattern in _PATTERNS if pattern.fullmatch(path.rstrip("/") or "/")), None)
    return ", ".join(sorted({operation.method for operation in OPERATIONS if _template(operation) == same}))


def _template(operation: Operation) -> str:
    return operation.path.rstrip("/")


_PATTERNS = [(_template(operation), compile_path(_template(operation))[0]) for operation in OPERATIONS]


async def _unrouted(request: Request, error: Exception) -> Response:
    """Answer what no route takes: 401 first here too, then 404 or 405 in an envelope."""
    if not isinstance(error, HTTPException):
        raise error
    path: str = request.scope["path"]
    if "/v1/" not in path + "/":
        return Response(HTTPStatus(error.status_code).phrase, error.status_code, media_type="text/plain")
    family = Family.PERSTACK if "/studio/v1/" in path + "/" else Family.EIGENPAL
    documented = path.removeprefix(request.scope.get("root_path", ""))
    documented = documented if documented.startswith("/api/") else "/api" + documented
    try:
        if _is_known_key(request):
            headers = {"allow": _allowed_methods(documented)} if error.status_code == 405 else {}
            raise Refused(error.status_code, error.detail, headers=headers)
        admit(request.app.state.server, request, Audience.ORDINARY)
    except Refused as refused:
        return refusal(family, refused, random_id())
    raise error


def _is_known_key(request: Request) -> bool:
    state: ServerState = request.app.state.server
    return state.keys.caller(request.headers.get("authorization")) is not None


async def _failed(request: Request, _error: Exception) -> Response:
    """Answer a bug in the envelope; the server logs the traceback."""
    family = Family.PERSTACK if "/studio/v1/" in request.scope["path"] else Family.EIGENPAL
    return refusal(family, Refused(500, "The server failed; its log says why"), random_id())


def _openapi(app: FastAPI) -> dict[str, Any]:
    if not app.openapi_schema:
        page = get_openapi(title=app.title, version=app.version, routes=app.routes)
        page.setdefault("components", {}).setdefault("schemas", {}).update(request_schemas(OPERATIONS))
        page["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        page["security"] = [{"key": []}]
        app.openapi_schema = page
    return app.openapi_schema
