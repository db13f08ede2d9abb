"""Signed links to bytes: where redirected downloads and presigned uploads go (contract E-3, E-20).

They need no key. They are served below ``/storage/`` of the server itself, and again on a second origin, which refuses
any key and remembers that one came: a client must never send its key to another origin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from jobfs.server.answers import Bytes, bytes_answer, json_answer
from jobfs.server.forms import BodyReader
from jobfs.server.ids import random_id
from jobfs.server.operations import Family, refusal
from jobfs.server.refusals import Refused
from jobfs.server.state import ServerState


def download_link(state: ServerState, request: Request, content: Bytes) -> str:
    """Return a link to a content: on the second origin or on this one, as ``artifact_redirect`` says."""
    token = state.signer.sign("get", content.tag, str(content.size), content.mime_type)
    path = f"/storage/{token}"
    if state.switches.artifact_redirect == "cross_origin" and state.storage_origin:
        return state.storage_origin + path
    return str(request.scope.get("root_path", "")) + path


def upload_link(state: ServerState, request: Request, application: str, upload_id: str) -> str:
    """Return a link to which an upload's bytes are put: on the second origin where there is one."""
    path = f"/storage/{state.signer.sign('put', application, upload_id)}"
    if state.storage_origin:
        return state.storage_origin + path
    return str(request.base_url).rstrip("/") + path


def add_routes(app: FastAPI, state: ServerState, *, is_foreign: bool = False) -> None:
    """Serve the links.

    :param is_foreign: this is the second origin: refuse keys.
    """

    def guarded(
        handler: Callable[[ServerState, Request], Awaitable[Response]],
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                if is_foreign and "authorization" in request.headers:
                    state.storage_saw_key = True
                    raise Refused(400, "A key was sent to an origin that it is not for")
                return await handler(state, request)
            except Refused as refused:
                return refusal(Family.EIGENPAL, refused, random_id())
            except ClientDisconnect:
                return Response(status_code=400)  # nobody is left to read it

        return answer

    for method, handler in (("GET", _download), ("PUT", _upload)):
        app.add_api_route(
            "/storage/{token}",
            guarded(handler),
            methods=[method],
            response_model=None,
            include_in_schema=False,
        )


def create_storage_app(state: ServerState) -> FastAPI:
    """Return the application of the second origin."""
    app = FastAPI(openapi_url=None)
    add_routes(app, state, is_foreign=True)
    return app


async def _download(state: ServerState, request: Request) -> Response:
    key, size, mime_type = state.signer.open("get", request.path_params["token"])
    content = Bytes(state.storage.contents.path(key), int(size), mime_type, key)
    return bytes_answer(request, content, replace(state.switches, download_type="item_mime"))


async def _upload(state: ServerState, request: Request) -> Response:
    application, upload_id = state.signer.open("put", request.path_params["token"])
    state.pool.upload(application, upload_id)
    with BodyReader(request, state.storage.contents, state.upload_limit) as reader:
        writer = await reader.raw()
        with state.transaction():
            state.pool.put(application, upload_id, writer)
        writer.keep()
    return json_answer({})
