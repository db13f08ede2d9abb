"""The outermost layer of the server: routes on the raw path, keeps the log of requests, and lets faults strike.

It sees every request before any check and every byte of every answer. It logs method, path and status; never a header,
a query or a body, since keys, links and values travel there.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobfs.server.answers import eigenpal_refusal
from jobfs.server.faults import Fault
from jobfs.server.ids import random_id
from jobfs.server.internal_api import is_internal
from jobfs.server.refusals import Refused
from jobfs.server.state import ServerState

_access = logging.getLogger("jobfs.server.access")

_DRIP = 1024
"""Largest piece of a dripping body, in bytes."""

_NEEDLESS = re.compile(r"%(2[DdEe]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])")
"""The escapes of letters, digits, ``-``, ``.``, ``_`` and ``~``."""

_HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One answered request; status 0 where no answer was sent."""

    method: str
    path: str
    status: int


OnRequest = Callable[[RequestRecord], None]


class Front:
    """ASGI middleware around the application."""

    def __init__(self, app: ASGIApp, state: ServerState, on_request: OnRequest | None = None) -> None:
        self._app = app
        self._state = state
        self._on_request = on_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_internal(scope):
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        exchange = _Exchange(scope, receive, send, self._on_request)
        # Routes match percent-encoded segments, so that %2F is no slash (contract E-2); ``operations`` decodes them.
        raw = scope.get("raw_path")
        scope["path"] = _plain(raw.decode("ascii")) if raw else quote(scope["path"], safe="/~!$&'()*+,;=:@")
        scope["jobfs.faults"] = self._state.faults.strike(scope["method"], scope["path"])
        try:
            await self._serve(exchange)
        finally:
            exchange.note(exchange.status)
            self._log(exchange, started)

    async def _serve(self, exchange: _Exchange) -> None:
        faults = {fault.kind: fault for fault in exchange.scope["jobfs.faults"]}
        if not faults:
            await self._app(exchange.scope, exchange.receive, exchange.pass_on)
            return
        if (fault := faults.get("latency")) is not None:
            await asyncio.sleep(fault.delay_s)
        if "drop_before" in faults:
            await exchange.drop()
        elif (fault := faults.get("error_before")) is not None:
            await exchange.answer_error(fault.status)
        elif "html_502" in faults:
            await exchange.answer_html()
        else:
            await self._serve_and_spoil(exchange, faults)

    async def _serve_and_spoil(self, exchange: _Exchange, faults: dict[str, Fault]) -> None:
        if "lose_response" in faults:
            await self._app(exchange.scope, exchange.receive, exchange.swallow)
            await exchange.drop()
        elif (fault := faults.get("error_after")) is not None:
            await self._app(exchange.scope, exchange.receive, exchange.swallow)
            await exchange.answer_error(fault.status)
        elif "cut_body" in faults:
            await self._app(exchange.scope, exchange.receive, exchange.cut)
        elif "wrong_length" in faults:
            await self._app(exchange.scope, exchange.receive, exchange.clip)
        elif (fault := faults.get("slow_body")) is not None:
            exchange.bytes_per_s = fault.bytes_per_s
            await self._app(exchange.scope, exchange.receive, exchange.drip)
        else:
            await self._app(exchange.scope, exchange.receive, exchange.pass_on)

    def _log(self, exchange: _Exchange, started: float) -> None:
        if _access.isEnabledFor(logging.INFO):
            took_ms = (time.perf_counter() - started) * 1000
            path = _without_token(exchange.scope["path"])
            _access.info("%s %s %d %.1f ms", exchange.scope["method"], path, exchange.status, took_ms)


class _Exchange:
    """One request and its answer on the way out. Each method that takes a message is a ``send`` of its own."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, on_request: OnRequest | None) -> None:
        self.scope = scope
        self.receive = receive
        self._on_request = on_request
        self.status = 0
        self.bytes_per_s = 0
        self._send = send
        self._left = 0
        self._is_over = False
        self._held = b""

    def note(self, status: int) -> None:
        """Record the request, once, and before the client can know of the answer: it counts requests afterwards."""
        self.status = status
        if self._on_request is not None:
            self._on_request(RequestRecord(self.scope["method"], self.scope["path"], status))
            self._on_request = None

    async def pass_on(self, message: Message) -> None:
        """Send as it is."""
        if message["type"] == "http.response.start":
            self.note(message["status"])
        await self._send(message)

    async def swallow(self, message: Message) -> None:
        """Let the application finish without an answer."""

    async def drip(self, message: Message) -> None:
        """Send a body slowly."""
        body = message.get("body", b"")
        for start in range(0, len(body), _DRIP):
            piece = body[start : start + _DRIP]
            await asyncio.sleep(len(piece) / self.bytes_per_s)
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self.pass_on({**message, "body": b""} if body else message)

    async def cut(self, message: Message) -> None:
        """Send half of the announced body, then close the connection."""
        if self._is_over:
            return
        if message["type"] == "http.response.start":
            self._left = _announced(message) // 2
            await self.pass_on(message)
            return
        body = message.get("body", b"")[: self._left]
        self._left -= len(body)
        if self._left > 0 and message.get("more_body"):
            await self._send({**message, "body": body})
            return
        await self._send({**message, "body": body, "more_body": True})
        self._is_over = True
        await self.drop(is_orderly=True)

    async def clip(self, message: Message) -> None:
        """Send all but the last byte, with a length that agrees."""
        if message["type"] == "http.response.start":
            length = _announced(message)
            headers = [(name, value) for name, value in message["headers"] if name.lower() != b"content-length"]
            if length:
                headers.append((b"content-length", str(length - 1).encode("ascii")))
            await self.pass_on({**message, "headers": headers})
            return
        body = self._held + message.get("body", b"")
        self._held = body[-1:] if message.get("more_body") else b""
        await self._send({**message, "body": body[:-1]})

    async def answer_error(self, status: int) -> None:
        """Answer an error envelope of the API that was asked."""
        if "/studio/v1/" in self.scope["path"]:
            error = b'{"code":%d,"error":"Server Error","reason":"A fault was asked for"}' % status
            await self._answer(status, b"application/json", error)
            return
        answer = eigenpal_refusal(Refused(status, "A fault was asked for"), random_id())
        await self._answer(status, b"application/json", bytes(answer.body), answer.headers["x-request-id"])

    async def answer_html(self) -> None:
        """Answer a proxy's page."""
        await self._answer(502, b"text/html", _HTML)

    async def drop(self, *, is_orderly: bool = False) -> None:
        """End the connection: with a reset, or after what was sent has gone out."""
        self.note(self.status)
        transport = self.scope.get("extensions", {}).get("jobfs.transport")
        if transport is None:
            raise ConnectionResetError("a fault ended this call")
        if is_orderly:
            transport.close()
        else:
            transport.abort()
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def _answer(self, status: int, kind: bytes, body: bytes, request_id: str = "") -> None:
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode("ascii"))]
        if request_id:
            headers.append((b"x-request-id", request_id.encode("ascii")))
        await self.pass_on({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def _plain(path: str) -> str:
    """Undo the escapes that change nothing (RFC 3986, 6.2.2.2): a client may escape an underscore, too."""
    return _NEEDLESS.sub(lambda found: chr(int(found[1], 16)), path) if "%" in path else path


def _announced(message: Message) -> int:
    lengths = [int(value) for name, value in message["headers"] if name.lower() == b"content-length"]
    return lengths[0] if lengths else 0


def _without_token(path: str) -> str:
    """Return a path as it may be logged: a signed link is as good as a key."""
    head, found, _ = path.partition("/storage/")
    return f"{head}/storage/…" if found else path
