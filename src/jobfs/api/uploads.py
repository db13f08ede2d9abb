"""The pool of reusable files beside the runs (endpoints 33 to 37). It cannot be listed (contract E-19).

Uploading starts with a negotiation whose answer binds (E-20): either one form, or a PUT to signed storage on another
origin, without key, followed by ``complete``. The negotiation carries one idempotency key for the whole upload, so it
and ``complete`` may be repeated; what failed half-way is aborted.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from jobfs import errors
from jobfs.api import address, wire
from jobfs.api.address import segment
from jobfs.api.answer import WRONG_ANSWER
from jobfs.api.body import FilePart, Json, Multipart, Raw
from jobfs.api.call import Call, Redirects
from jobfs.api.failures import Envelope
from jobfs.api.items import Download, open_download
from jobfs.api.keys import KeyKind
from jobfs.api.transport import Transport
from jobfs.api.wire import PoolFile, UploadOrder

_PREFIXES = ("/api/v1/", "/v1/")
_NEVER_SENT = frozenset(
    {"authorization", "connection", "content-length", "cookie", "host", "proxy-authorization", "transfer-encoding"}
)


class FilePool:
    """The calls on reusable files."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, file_id: str) -> PoolFile:
        """Return what the server knows of a file."""
        return _file(await self._transport.json(run_call("GET", f"/files/{segment(file_id)}", f"file {file_id}")))

    async def delete(self, file_id: str) -> None:
        """Remove a file; copies inside runs stay. Repeated after an unclear outcome."""
        await self._transport.done(run_call("DELETE", f"/files/{segment(file_id)}", f"file {file_id}"))

    @asynccontextmanager
    async def download(self, file_id: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[Download]:
        """Open the content; a range is a wish, as for items."""

        def call(headers: Mapping[str, str]) -> Call:
            path = f"/files/{segment(file_id)}/content"
            return bytes_call(path, f"file {file_id}", headers)

        async with open_download(self._transport, call, offset, length) as download:
            yield download

    async def upload(
        self,
        source: Path,
        *,
        content_type: str = "application/octet-stream",
        filename: str | None = None,
        purpose: str | None = None,
        idempotency_key: str | None = None,
    ) -> PoolFile:
        """Upload a local file in constant memory, in the way the server orders.

        :param purpose: None keeps the file; ``run-input`` and ``builder-attachment`` let it go after 24 hours.
        :param idempotency_key: give the same one again to resume an upload of unclear outcome.
        :raises TooLarge: before anything is sent, where the server's limit is lower.
        """
        name = filename or source.name
        size = source.stat().st_size
        wishes: dict[str, object] = {"filename": name, "contentType": content_type, "size": size}
        wishes |= {"purpose": purpose} if purpose is not None else {}
        wishes["idempotencyKey"] = idempotency_key or secrets.token_hex(16)
        subject = f"upload of {name}"
        call = run_call("POST", "/files/uploads", subject, body=Json(wishes), can_repeat=True, is_sensitive=True)
        order = wire.read_one(UploadOrder, await self._transport.json(call), subject)
        if order.max_file_size_bytes is not None and size > order.max_file_size_bytes:
            raise errors.TooLarge(
                f"{subject}: {size} bytes, and the server takes {order.max_file_size_bytes:.0f}", "make it smaller"
            )
        if order.transport == "multipart":
            return await self._post_form(order, FilePart("file", name, source, content_type), purpose, subject)
        if order.transport == "presigned-put" and order.upload_id:
            return await self._put_signed(order, Raw(source, content_type), subject)
        raise errors.ProtocolViolation(
            f"{subject}: the server orders an unknown way of upload ({order.transport[:40]!r})", WRONG_ANSWER
        )

    async def _post_form(self, order: UploadOrder, part: FilePart, purpose: str | None, subject: str) -> PoolFile:
        fields = [("purpose", purpose)] if purpose is not None else []
        body = Multipart(fields, [part])
        path = self._path_of(order.url, subject)
        return _file(await self._transport.json(run_call("POST", path, subject, body=body, is_transfer=True)))

    def _path_of(self, url: str, subject: str) -> str:
        """Return the path below our base that an ordered address means, whichever prefix it is spelt with."""
        absolute = address.redirect_target(self._transport.base, url)
        if absolute is None or absolute.origin != self._transport.base.origin:
            raise errors.ProtocolViolation(f"{subject}: the server orders an upload to a place that is not its own")
        path = absolute.path.removeprefix(self._transport.base.path)
        for prefix in _PREFIXES:
            path = f"/{path.removeprefix(prefix)}" if path.startswith(prefix) else path
        return path

    async def _put_signed(self, order: UploadOrder, body: Raw, subject: str) -> PoolFile:
        headers = {name: value for name, value in order.headers.items() if name.lower() not in _NEVER_SENT}
        if any(name.lower() == "content-type" for name in headers):
            body.content_type = ""
        put = run_call(
            "PUT", order.url, subject, body=body, headers=headers, key=KeyKind.NONE, can_repeat=True, is_transfer=True
        )
        path = f"/files/uploads/{segment(order.upload_id)}"
        try:
            await self._transport.done(put)
            return _file(await self._transport.json(run_call("POST", f"{path}/complete", subject, can_repeat=True)))
        except errors.OutcomeUnknown:
            raise
        except errors.ApiError as failure:
            try:
                await self._transport.done(run_call("DELETE", path, subject))
            except errors.ApiError as second:
                failure.add_note(f"giving the upload up failed as well: {second}")
            raise


def bytes_call(path: str, subject: str, headers: Mapping[str, str]) -> Call:
    """Return the call for bytes, which alone may be redirected, to storage (contract E-3)."""
    return run_call("GET", path, subject, headers=headers, is_transfer=True, redirects=Redirects.FOLLOW)


def run_call(method: str, path: str, subject: str, **more: Any) -> Call:
    """Return a call: without final slashes, and its JSON not redirected (contract E-4)."""
    more.setdefault("redirects", Redirects.REPORT)
    return Call(method=method, path=path, subject=subject, envelope=Envelope.RUNS, has_slash_twin=False, **more)


def _file(answer: object) -> PoolFile:
    return wire.read_one(PoolFile, answer, "file")
