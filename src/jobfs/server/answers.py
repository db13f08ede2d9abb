"""Answers: envelopes, JSON and bytes (contract, sections 2 and 3)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from jobfs.server.refusals import FILE_NOT_FOUND, Refused, error_name
from jobfs.server.switches import Switches

_CHUNK = 1024 * 1024
"""Bytes read and handed to the socket at once; larger ones only cost memory."""

_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")

_FAR = 2**63
"""Stands for every position beyond any file: a range may be written with any number of digits."""

_HEADER_TEXT = re.compile(r"[\t\x20-\x7e\xa0-\xff]+")
"""What a content type has to be made of to be sent in a header."""


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode("utf-8"), status, headers, media_type="application/json")


def data_answer(**data: Any) -> Response:
    """Return a Perstack answer that holds one record, or a list without pages."""
    return json_answer({"data": data})


def page_answer(*, total: int, take: int, skip: int, **data: Any) -> Response:
    """Return a Perstack answer that holds a page."""
    return json_answer({"data": data, "meta": {"total": total, "take": take, "skip": skip}})


def perstack_refusal(refused: Refused) -> Response:
    """Return the Perstack error envelope."""
    body = {"code": refused.status, "error": error_name(refused.status), "reason": refused.reason}
    return json_answer(body, refused.status, refused.headers)


def eigenpal_refusal(refused: Refused, request_id: str) -> Response:
    """Return the Eigenpal error envelope: a list of issues and the request's id."""
    complaints = refused.reason if isinstance(refused.reason, list) else [{"message": str(refused.reason)}]
    issues = [
        {
            "field": complaint.get("path") or "<root>",
            "message": complaint["message"],
            "code": refused.code,
            "severity": "error",
        }
        for complaint in complaints
    ]
    headers = refused.headers | {"x-request-id": request_id}
    return json_answer({"issues": issues, "requestId": request_id}, refused.status, headers)


class Unsatisfiable:
    """A range that the file does not have."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """What a download sends.

    :param tag: names exactly these bytes, for ``etag``.
    """

    path: Path
    size: int
    mime_type: str
    tag: str


def bytes_answer(request: Request, content: Bytes, switches: Switches) -> Response:
    """Return the bytes of a file as the switches say: whole or a range, with or without length and tag.

    Raises ``Refused`` with 404 ``File not found`` where the bytes are missing (contract I-44).
    """
    headers = {"etag": f'"{content.tag}"'} if switches.etag == "on" else {}
    if headers and _is_known(request.headers.get("if-none-match", ""), headers["etag"]):
        return Response(status_code=304, headers=headers)
    first, length, status = 0, content.size, 200
    wanted = request.headers.get("range")
    if switches.range == "honour":
        headers["accept-ranges"] = "bytes"
        if wanted is not None and request.headers.get("if-range") in (None, headers.get("etag")):
            found = _parse_range(wanted, content.size)
            if isinstance(found, Unsatisfiable):
                return Response(status_code=416, headers=headers | {"content-range": f"bytes */{content.size}"})
            if found is not None:
                first, length = found
                status = 206
                headers["content-range"] = f"bytes {first}-{first + length - 1}/{content.size}"
    if switches.chunked == "off":
        headers["content-length"] = str(length)
    match switches.download_type:
        case "text_plain":
            headers["content-type"] = "text/plain"
        case "item_mime":
            is_sendable = _HEADER_TEXT.fullmatch(content.mime_type.strip()) is not None
            headers["content-type"] = content.mime_type.strip() if is_sendable else "application/octet-stream"
        case "octet_stream":
            headers["content-type"] = "application/octet-stream"
    return FileAnswer(_open(content.path), first=first, length=length, status=status, headers=headers)


class FileAnswer(Response):
    """A part of an open file, sent in large pieces; the descriptor is closed at the end, however it comes.

    A client that has left ends it: what is written to a lost connection is neither sent nor waited for, so the rest of
    the file would be read for nobody, in one go, while every other request waits.
    """

    def __init__(self, fd: int, *, first: int, length: int, status: int, headers: dict[str, str]) -> None:
        super().__init__(status_code=status, headers=headers)
        if "content-length" not in headers:
            del self.headers["content-length"]
        self._fd = fd
        self._first = first
        self._length = length

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            os.lseek(self._fd, self._first, os.SEEK_SET)
            left = self._length
            while left > 0:
                if _is_lost(scope):
                    await _until_told(receive)
                    return
                chunk = os.read(self._fd, min(_CHUNK, left))
                if not chunk:
                    raise OSError(f"a content file is {left} bytes shorter than its row says")
                left -= len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": left > 0})
            if self._length == 0:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            os.close(self._fd)


def _is_lost(scope: Scope) -> bool:
    transport = scope.get("extensions", {}).get("jobfs.transport")
    return transport is not None and bool(transport.is_closing())


async def _until_told(receive: Receive) -> None:
    """Return once the loss of the connection is told to the application as well, which may end then."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise Refused(404, FILE_NOT_FOUND) from None


def _is_known(condition: str, tag: str) -> bool:
    """Tell whether an ``If-None-Match`` names a tag; a weak comparison, as RFC 9110 wants it there."""
    names = [name.strip().removeprefix("W/") for name in condition.split(",")]
    return tag in names or names == ["*"]


def _parse_range(header: str, size: int) -> tuple[int, int] | Unsatisfiable | None:
    """Read one byte range: first byte and length; None for what is to be ignored."""
    found = _RANGE.fullmatch(header.strip())
    if found is None or found.group(0) == "bytes=-":
        return None
    start, end = found.groups()
    if not start:
        length = min(_position(end), size)
        return (size - length, length) if length else Unsatisfiable()
    first = _position(start)
    last = min(_position(end), size - 1) if end else size - 1
    if first >= size:
        return Unsatisfiable()
    return (first, last - first + 1) if last >= first else None


def _position(digits: str) -> int:
    return int(digits) if len(digits) < 19 else _FAR
