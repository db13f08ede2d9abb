"""A studio whose answers are whatever a test says: honest by itself, with a hand on each word that goes out.

It answers requests on httpx's transport seam, so that thousands of lies cost little. What only shows on a real
connection (framing, encodings, lengths) is ``hostile_wire``'s matter.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, unquote

import httpx

from jobfs.api.retry import Retries
from jobfs.api.studio import Studio
from jobfs.api.transport import Transport
from jobfs.api.workspace import Workspace

Row = dict[str, Any]
Lie = Callable[[httpx.Request, httpx.Response], httpx.Response]
"""Makes the answer that goes out from the request and the honest answer."""

KEY = "jobfs_k_0123456789abcdef"
BASE = "http://127.0.0.1:9"
JOB = "jobjobjobjobjobjobjobjob"
STAMP = "2026-01-01T00:00:00.000Z"
QUICK_RETRIES = Retries(attempts=2, first_s=0.001, longest_s=0.01)
_PREFIX = f"/api/studio/v1/expert_jobs/{JOB}"
_ITEMS = f"{_PREFIX}/workspace_instance/items"
_ITEM = re.compile(rf"{_ITEMS}/(?P<id>[^/]+)(?P<download>/download)?/?")


def file_row(identifier: str, path: str, size: int, **other: Any) -> Row:
    """Return a file as the contract spells it."""
    return {
        "type": "workspaceItemFile",
        "id": identifier,
        "owner": "expert",
        "lifecycle": "expertJob",
        "permission": "readWrite",
        "path": path,
        "createdAt": STAMP,
        "updatedAt": STAMP,
        "key": f"key-{identifier[:40]}",
        "mimeType": "text/plain",
        "size": size,
        **other,
    }


def directory_row(identifier: str, path: str, **other: Any) -> Row:
    """Return a directory as the contract spells it."""
    row = file_row(identifier, path, 0, type="workspaceItemDirectory", **other)
    return {name: value for name, value in row.items() if name not in ("key", "mimeType", "size")}


def reply(value: object, status: int = 200, **headers: str) -> httpx.Response:
    """Return a JSON answer; numbers and texts of any kind are written as they are."""
    return httpx.Response(status, content=json.dumps(value).encode(), headers={"content-type": "application/json"})


class HostileStudio:
    """One job's workspace.

    :ivar rows: what the list shows, as it goes out. :ivar bodies: content by id.
    :ivar lies: by word (job, instance, list, find, get, download, create, update, delete, stream) what becomes of the
        honest answer.
    :ivar asked: the words of the requests, in order.
    """

    def __init__(self, rows: Iterable[Row] = (), bodies: dict[str, bytes] | None = None) -> None:
        self.rows = list(rows)
        self.bodies = dict(bodies or {})
        self.lies: dict[str, Lie] = {}
        self.status = "completed"
        self.asked: list[str] = []
        self._made = 0

    def add(self, path: str, data: bytes | None, **other: Any) -> Row:
        """Put a file, or with None a directory, among the rows; returns its row."""
        self._made += 1
        identifier = f"own{self._made:021d}"
        row = directory_row(identifier, path) if data is None else file_row(identifier, path, len(data))
        row.update(other)
        self.rows.append(row)
        if data is not None:
            self.bodies[identifier] = data
        return row

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        word, honest = self._honest(request)
        self.asked.append(word)
        lie = self.lies.get(word)
        return honest if lie is None else lie(request, honest)

    def _honest(self, request: httpx.Request) -> tuple[str, httpx.Response]:
        path = request.url.raw_path.decode().partition("?")[0]
        if path.rstrip("/") == _PREFIX:
            return "job", reply({"data": {"expertJob": {"id": JOB, "status": self.status}}})
        if path.rstrip("/") == f"{_PREFIX}/workspace_instance":
            return "instance", reply({"data": {"workspaceInstance": {"id": "instance"}}})
        if path.startswith(f"{_PREFIX}/checkpoints"):
            return "stream", _refusal(404, "no stream")
        if path.rstrip("/") == _ITEMS:
            return self._collection(request)
        if path.rstrip("/") == f"{_ITEMS}/find":
            wanted = parse_qs(request.url.query.decode())["path"][0]
            return "find", reply({"data": {"workspaceItems": [row for row in self.rows if row.get("path") == wanted]}})
        found = _ITEM.fullmatch(path)
        if found is None:
            raise AssertionError(f"a request that no call of the contract makes: {request.method} {path[:200]}")
        return self._item(request, unquote(found["id"]), is_download=found["download"] is not None)

    def _collection(self, request: httpx.Request) -> tuple[str, httpx.Response]:
        if request.method == "POST":
            fields = _form(request.content)
            data = fields.get("file")
            row = self.add(fields["path"].decode(), data, permission=fields["permission"].decode(), owner="user")
            return "create", reply({"data": {"workspaceItem": row}})
        query = parse_qs(request.url.query.decode())
        take, skip = int(query["take"][0]), int(query["skip"][0])
        page = {"data": {"workspaceItems": self.rows[skip : skip + take]}, "meta": {"total": len(self.rows)}}
        return "list", reply(page)

    def _item(self, request: httpx.Request, identifier: str, *, is_download: bool) -> tuple[str, httpx.Response]:
        word = {"GET": "download" if is_download else "get", "POST": "update", "DELETE": "delete"}[request.method]
        row = next((row for row in self.rows if row.get("id") == identifier), None)
        if row is None:
            return word, _refusal(404, "Item not found")
        if word == "download":
            return word, httpx.Response(200, content=self.bodies.get(identifier, b""))
        if word == "delete":
            self.rows.remove(row)
            return word, reply({})
        if word == "update":
            self._change(row, json.loads(request.content))
        return word, reply({"data": {"workspaceItem": row}})

    def _change(self, row: Row, fields: dict[str, Any]) -> None:
        old, new = row["path"], fields.get("path")
        if new is not None:
            for other in self.rows:
                if isinstance(other.get("path"), str) and other["path"].startswith(f"{old}/"):
                    other["path"] = new + other["path"][len(old) :]
        row.update(fields)

    @asynccontextmanager
    async def workspace(self, **options: Any) -> AsyncIterator[Workspace]:
        """Give a client of the job's workspace."""
        async with self.transport(**options) as transport:
            yield Studio(transport).workspace(JOB)

    def transport(self, **options: Any) -> Transport:
        """Return a transport to this studio."""
        options.setdefault("retries", QUICK_RETRIES)
        return Transport(BASE, KEY, http=httpx.MockTransport(self.answer), **options)


def _refusal(status: int, reason: str) -> httpx.Response:
    return reply({"code": status, "error": "Not Found", "reason": reason}, status)


def _form(body: bytes) -> dict[str, bytes]:
    """Return the fields of a multipart form that the client made."""
    boundary = body.partition(b"\r\n")[0]
    fields = {}
    for part in body.split(boundary)[1:-1]:
        head, _, value = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]*)"', head)
        if name is None:
            raise AssertionError("a form field without a name")
        fields[name[1].decode()] = value.removesuffix(b"\r\n")
    return fields
