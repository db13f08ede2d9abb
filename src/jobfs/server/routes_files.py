"""The Eigenpal file pool over HTTP: endpoints 33 to 37."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import get_args

from starlette.responses import RedirectResponse, Response

from jobfs.server.answers import Bytes, bytes_answer, json_answer
from jobfs.server.bodies import CreateUpload, Purpose, read_body
from jobfs.server.files import file_json
from jobfs.server.operations import Call, Family, Operation
from jobfs.server.refusals import Refused
from jobfs.server.routes_storage import download_link, upload_link
from jobfs.server.signing import LIFETIME_MS
from jobfs.server.times import iso


async def create_file(call: Call) -> Response:
    """Take a file in one form."""
    with call.body() as reader:
        form = await reader.multipart()
        part, purpose = form.file("file"), form.fields.get("purpose")
        if part is None:
            raise Refused(400, [{"path": "file", "message": "missing: a file part of the form"}])
        if purpose is not None and purpose not in get_args(Purpose):
            raise Refused(400, [{"path": "purpose", "message": f"not one of {', '.join(get_args(Purpose))}"}])
        with call.state.transaction():
            row = call.state.pool.create(call.application, part, purpose)
        part.content.keep()
    return json_answer(file_json(row))


async def get_file(call: Call) -> Response:
    """Answer what is known of a file."""
    return json_answer(file_json(call.state.pool.get(call.application, call.ids["fileId"])))


async def delete_file(call: Call) -> Response:
    """Remove a file."""
    with call.state.transaction():
        call.state.pool.delete(call.application, call.ids["fileId"])
    return json_answer({"deleted": True})


async def download_file(call: Call) -> Response:
    """Answer the bytes of a file, or where they are."""
    row = call.state.pool.get(call.application, call.ids["fileId"])
    content = Bytes(call.state.storage.contents.path(row["key"]), row["size"], row["content_type"] or "", row["key"])
    return stored_bytes(call, content)


async def create_upload(call: Call) -> Response:
    """Say how to upload a file (E-20)."""
    state = call.state
    with call.body() as reader:
        body = read_body(CreateUpload, await reader.json_object())
    if body.size > state.upload_limit:
        raise Refused(413, f"A file may have {state.upload_limit} bytes")
    if state.switches.upload_transport == "multipart":
        url = call.request.scope["path"].rstrip("/").removesuffix("/uploads")
        return json_answer({"transport": "multipart", "url": url, "maxFileSizeBytes": state.upload_limit})
    with state.transaction():
        row = state.pool.open_upload(call.application, body)
    return json_answer(_presigned_json(call, row))


async def complete_upload(call: Call) -> Response:
    """Turn an upload into a file; safe to repeat."""
    with call.state.transaction():
        row = call.state.pool.complete(call.application, call.ids["uploadId"])
    return json_answer(file_json(row))


async def abort_upload(call: Call) -> Response:
    """Give an upload up."""
    with call.state.transaction():
        call.state.pool.abort(call.application, call.ids["uploadId"])
    return json_answer({"aborted": True})


def stored_bytes(call: Call, content: Bytes) -> Response:
    """Answer bytes, or a short-lived link to them where the switch ``artifact_redirect`` says so (E-3)."""
    if call.state.switches.artifact_redirect != "off":
        return RedirectResponse(download_link(call.state, call.request, content), 302)
    return bytes_answer(call.request, content, replace(call.state.switches, download_type="item_mime"))


def _presigned_json(call: Call, row: sqlite3.Row) -> dict[str, object]:
    return {
        "transport": "presigned-put",
        "uploadId": row["id"],
        "fileId": row["file_id"],
        "url": upload_link(call.state, call.request, call.application, row["id"]),
        "headers": {"content-type": row["content_type"]},
        "expiresAt": iso(call.state.clock() + LIFETIME_MS),
        "maxFileSizeBytes": call.state.upload_limit,
    }


_FILES = "/api/v1/files"
_NO_FILE = {404: "No such file."}
_NO_UPLOAD = {404: "No such upload."}

OPERATIONS = tuple(
    replace(operation, family=Family.EIGENPAL)
    for operation in (
        Operation(
            "POST", _FILES, create_file, "Upload a file", "files",
            file_field="file", answers={400: "No file.", 413: "Too large."},
        ),
        Operation(
            "POST", f"{_FILES}/uploads", create_upload, "Ask how to upload", "files",
            body=CreateUpload, answers={400: "The body does not fit.", 413: "Too large."},
        ),
        Operation(
            "POST", f"{_FILES}/uploads/{{uploadId}}/complete", complete_upload, "Complete an upload", "files",
            answers={400: "Nothing was uploaded.", **_NO_UPLOAD},
        ),
        Operation(
            "DELETE", f"{_FILES}/uploads/{{uploadId}}", abort_upload, "Abort an upload", "files", answers=_NO_UPLOAD,
        ),
        Operation("GET", f"{_FILES}/{{fileId}}", get_file, "Get a file", "files", answers=_NO_FILE),
        Operation("DELETE", f"{_FILES}/{{fileId}}", delete_file, "Delete a file", "files", answers=_NO_FILE),
        Operation("GET", f"{_FILES}/{{fileId}}/content", download_file, "Download a file", "files", answers=_NO_FILE),
    )
)  # fmt: skip
