"""Items over HTTP: endpoints 6 to 13 and 20 to 24.

One set of handlers serves both levels: a path with a job means that job's instance, one without means the application's
workspace.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from starlette.responses import Response

from jobfs.server.answers import Bytes, bytes_answer, data_answer, json_answer, page_answer
from jobfs.server.bodies import CreateItem, CreateItemBase64, UpdateItem, read_body
from jobfs.server.content import ContentWriter
from jobfs.server.forms import BodyReader, Form
from jobfs.server.items import ItemRecord, View
from jobfs.server.operations import SKIP, TAKE, Call, Operation, anything, identifier, text
from jobfs.server.refusals import FAILED_TO_AUTHENTICATE, FILE_NOT_FOUND, NOT_A_FILE, Refused
from jobfs.server.shapes import Json, many_items_json, one_item_json
from jobfs.server.times import iso
from jobfs.server.workspace import Change, Draft

_STALE_PAGES = 1000
"""Pages remembered for the fault ``stale_pages``."""


async def list_items(call: Call) -> Response:
    """Answer one page of what the view sees (I-33 to I-36)."""
    take, skip = call.query["take"], call.query["skip"]
    view = _listed_view(call)
    if view is None:
        return page_answer(total=0, take=take, skip=skip, workspaceItems=[])
    state = call.state
    target = f"{view.own} {take} {skip}"
    if call.is_struck_by("stale_pages") and target in state.stale_pages:
        return json_answer(state.stale_pages[target])
    order = "random" if call.is_struck_by("shuffled_pages") else state.switches.list_order
    records = state.storage.items.page(view, order=order, skip=skip, take=take)
    total = state.storage.items.count(view)
    if call.is_struck_by("mutate_pages"):
        with state.transaction():
            state.rules.renew(view)
    rows = many_items_json(records, view.application, state.switches)
    page = {"data": {"workspaceItems": rows}, "meta": {"total": total, "take": take, "skip": skip}}
    if state.faults.has("stale_pages"):
        if len(state.stale_pages) >= _STALE_PAGES:
            state.stale_pages.clear()
        state.stale_pages[target] = page
    return json_answer(page)


async def find_items(call: Call) -> Response:
    """Answer everything at a path, without pages (I-30, I-31)."""
    view = _listed_view(call)
    found = call.state.rules.find(view, call.query["path"]) if view is not None else ()
    rows = many_items_json(found, view.application, call.state.switches) if view is not None else []
    return data_answer(workspaceItems=rows)


async def create_item(call: Call) -> Response:
    """Make a file or a directory, from a form or from JSON (I-3)."""
    call.view()
    with call.body() as reader:
        form = await reader.form_or_json()
        draft, writer = _draft(form, reader)
        view = call.view()
        with call.state.transaction():
            record = call.state.rules.create(view, draft)
        if writer is not None:
            writer.keep()
    return _item_answer(call, view, record)


async def get_item(call: Call) -> Response:
    """Answer one item."""
    view = call.view()
    return _item_answer(call, view, call.state.rules.get(view, call.ids["workspaceItemId"]))


async def update_item(call: Call) -> Response:
    """Change path, permission or lifecycle; content too where the switch lets it (I-15 to I-17)."""
    item_id, rules = call.ids["workspaceItemId"], call.state.rules
    rules.get(call.view(), item_id)
    with call.body() as reader:
        body = read_body(UpdateItem, await reader.json_object())
        writer = None
        if call.state.switches.content_update == "on" and (content := body.given("content")) is not None:
            writer = _base64_content(reader, content)
        lifecycle = body.given("lifecycle")
        change = Change(
            path=body.given("path"),
            permission=body.given("permission"),
            is_shared=None if lifecycle is None else lifecycle == "application",
        )
        view = call.view()
        with call.state.transaction():
            if writer is not None:
                record = rules.set_content(view, item_id, key=writer.key, size=writer.size)
                item_id = record.id
            if writer is None or not change.is_empty:
                record = rules.update(view, item_id, change)
        if writer is not None:
            writer.keep()
    return _item_answer(call, view, record)


async def delete_item(call: Call) -> Response:
    """Delete an item; the body of the answer is a switch of its own (I-24)."""
    view = call.view()
    with call.state.transaction():
        call.state.rules.delete(view, call.ids["workspaceItemId"])
    match call.state.switches.delete_body:
        case "json":
            return json_answer({})
        case "empty":
            return Response(status_code=200)
        case "no_content":
            return Response(status_code=204)


async def download_item(call: Call) -> Response:
    """Answer the bytes of a file (I-40 to I-44)."""
    view = call.view()
    record = call.state.rules.get(view, call.ids["workspaceItemId"])
    if record.is_directory:
        raise Refused(400, NOT_A_FILE) if view.instance is None else Refused(404, FILE_NOT_FOUND)
    if call.is_struck_by("missing_bytes"):
        raise Refused(404, FILE_NOT_FOUND)
    path = call.state.storage.contents.path(record.key)
    content = Bytes(path, record.size, record.mime_type, record.key)
    return bytes_answer(call.request, content, call.state.switches)


async def get_instance(call: Call) -> Response:
    """Answer a job's workspace instance, with names of variables and secrets only (V-1)."""
    job = call.job()
    names = {
        "envVariables": call.state.environment.names(job.application_id, is_secret=False),
        "envSecrets": call.state.environment.names(job.application_id, is_secret=True),
    }
    return data_answer(workspaceInstance=_instance_json(call, "workspaceInstance") | names)


async def get_instance_to_run(call: Call) -> Response:
    """Answer a job's instance with the clear values of variables and secrets: for the runner alone (V-2)."""
    values = call.state.environment_values(call.job().application_id)
    response = data_answer(workspaceInstanceToRun=_instance_json(call, "workspaceInstanceToRun") | dict(values))
    response.headers["cache-control"] = "no-store"
    return response


async def get_workspace(call: Call) -> Response:
    """Answer the application's workspace."""
    return data_answer(workspace=workspace_json(call))


def workspace_json(call: Call) -> Json:
    """Return the application's workspace as answers show it."""
    state, application = call.state, call.application
    view = View(state.jobs.application_space(application))
    row = state.storage.one("SELECT * FROM space WHERE id = ?", view.own)
    instances = state.storage.one(
        "SELECT count(*) AS n FROM space WHERE application_id = ? AND job_id IS NOT NULL", application
    )
    if row is None or instances is None:
        raise LookupError(f"application {application} has no space")
    return {
        "type": "workspace",
        "id": view.own,
        "applicationId": application,
        "application": state.application(application),
        "createdAt": iso(row["created_ms"]),
        "updatedAt": iso(row["updated_ms"]),
        "items": _embedded(call, view),
        "countItems": state.storage.items.count(view),
        "envVariables": state.environment.names(application, is_secret=False),
        "envSecrets": state.environment.names(application, is_secret=True),
        "countWorkspaceInstances": instances["n"],
    }


def _instance_json(call: Call, type_name: str) -> Json:
    state, job = call.state, call.job()
    row = state.jobs.instance(job)
    view = state.jobs.view(job)
    shape: Json = {
        "type": type_name,
        "id": row["id"],
        "applicationId": job.application_id,
        "application": state.application(job.application_id),
        "expertJob": state.job_shape(job),
        "createdAt": iso(row["created_ms"]),
        "updatedAt": iso(row["updated_ms"]),
        "items": _embedded(call, view, is_complete=type_name == "workspaceInstanceToRun"),
        "countItems": state.storage.items.count(view),
    }
    if state.switches.dialect != "v1":
        shape["expertJobId"] = job.id
    return shape


def _embedded(call: Call, view: View, *, is_complete: bool = False) -> list[Json]:
    """Return the items inside an instance or workspace, as many as the switch says (I-37); a runner needs all."""
    embedded = "all" if is_complete else call.state.switches.embedded_items
    take = -1 if embedded == "all" else int(embedded)
    records = call.state.storage.items.page(view, order="created", skip=0, take=take)
    return many_items_json(records, view.application, call.state.switches)


def _listed_view(call: Call) -> View | None:
    """Return the view of a list or find; None where an unknown job is to look empty (T-7)."""
    if call.query.get("applicationId") not in (None, call.caller.application):
        raise Refused(401, FAILED_TO_AUTHENTICATE)
    try:
        return call.view()
    except Refused:
        if call.state.switches.unknown_job_list == "empty":
            return None
        raise


def _item_answer(call: Call, view: View, record: ItemRecord) -> Response:
    return data_answer(**one_item_json(record, view.application, call.state.switches))


def _draft(form: Form, reader: BodyReader) -> tuple[Draft, ContentWriter | None]:
    """Return what is to be made, and its content where it is a file."""
    if form.is_json and "content" in form.fields and form.fields.get("type") != "workspaceItemDirectory":
        later = read_body(CreateItemBase64, form.fields)
        writer = _base64_content(reader, later.content)
        return _file_draft(later.path, later.permission, writer, "application/octet-stream"), writer
    body = read_body(CreateItem, form.fields)
    if body.type == "workspaceItemDirectory":
        return Draft(body.path, is_directory=True, permission=body.permission), None
    part = form.file("file")
    if part is None:
        raise Refused(422, [{"path": "file", "message": "missing: a file part of a multipart form"}])
    return _file_draft(body.path, body.permission, part.content, part.mime_type), part.content


def _file_draft(path: str, permission: Any, writer: ContentWriter, mime_type: str) -> Draft:
    return Draft(path, is_directory=False, permission=permission, key=writer.key, mime_type=mime_type, size=writer.size)


def _base64_content(reader: BodyReader, content: str) -> ContentWriter:
    try:
        raw = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(422, [{"path": "content", "message": "not base64"}]) from None
    writer = reader.writer()
    reader.write(writer, raw)
    return writer


_LIST_QUERY = (TAKE, SKIP)
_CREATED = {400: "Invalid path, or its directory is not there, or the path is taken.", 404: "No such job."}
_CHANGED = {400: "Nothing to change, invalid path, no such directory, or the path is taken.", 404: "No such item."}


def _item_operations(base: str, tag: str, *extra: Any) -> tuple[Operation, ...]:
    one = f"{base}{{workspaceItemId}}"
    gone = {404: "No such item."}
    return (
        Operation(
            "POST", base, create_item, "Create a file or directory", tag,
            body=CreateItem, file_field="file", answers=_CREATED,
        ),
        Operation(
            "GET", base, list_items, "List items", tag,
            query=(*_LIST_QUERY, *extra), answers={404: "No such job."},
        ),
        Operation(
            "GET", f"{base}find", find_items, "Find items by path", tag,
            query=(text("path", is_required=True), *extra), answers={404: "No such job."},
        ),
        Operation("GET", one, get_item, "Get an item", tag, answers=gone),
        Operation("POST", one, update_item, "Update an item", tag, body=UpdateItem, answers=_CHANGED),
        Operation("DELETE", one, delete_item, "Delete an item", tag, answers=gone),
        Operation("GET", f"{one}/download", download_item, "Download a file", tag, answers=gone),
    )  # fmt: skip


INSTANCE_OPERATIONS = _item_operations("/api/studio/v1/expert_jobs/{expertJobId}/workspace_instance/items/", "instance")
WORKSPACE_OPERATIONS = (
    *_item_operations("/api/studio/v1/workspace/items/", "workspace", anything("applicationId")),
    Operation(
        "GET", "/api/studio/v1/workspace/", get_workspace, "Get the application's workspace", "workspace",
        query=(identifier("expertJobId"),),
    ),
)  # fmt: skip
