"""The ends of a control socket that live on a loop: what answers, and who awaits an answer. See ``control``."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from jobfs.errors import JobfsError
from jobfs.workspace.control import CONNECT_S, Address, broken_off, ended, nobody, result_of

_log = logging.getLogger(__name__)

SOCKET_NAME = "control"
MOST_SOCKET_PATH_BYTES = 100
"""Longest path of a Unix socket that every system takes: sun_path has 104 to 108 bytes with its end."""

_MOST_LINE_BYTES = 64 * 1024 * 1024

Send = Callable[[object], Awaitable[None]]
"""Sends a progress value to who asked."""

Handler = Callable[[Mapping[str, Any], Send], Awaitable[object]]


def remove_leftover(address: Address, state: Path) -> None:
    """Remove the private folder of a socket whose process was killed; the caller holds the lock of its state."""
    folder = Path(address.path).parent
    if address.path and folder != state:
        Path(address.path).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else is in it: it is not ours any more
            folder.rmdir()


class ControlServer:
    """The daemon's end.

    It ends in two steps: ``stop_listening`` while the state is still locked, since the path belongs to whoever holds
    the lock; ``hang_up`` after everything else, since the end of a connection tells that the process is done.
    """

    def __init__(self) -> None:
        self._handlers: Mapping[str, Handler] = {}
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._private: Path | None = None
        self._token = ""
        self._path = ""

    async def listen(self, state: Path, handlers: Mapping[str, Handler], *, has_unix: bool | None = None) -> Address:
        """Begin to answer; return where.

        :param state: the state folder, whose lock the caller holds.
        :param has_unix: whether to use a Unix socket; None: where the system has them.
        """
        self._handlers = handlers
        if sys.platform != "win32" and (hasattr(socket, "AF_UNIX") if has_unix is None else has_unix):
            path = state / SOCKET_NAME
            if len(os.fsencode(path)) > MOST_SOCKET_PATH_BYTES:
                self._private = Path(tempfile.mkdtemp(prefix="jobfs-"))
                path = self._private / SOCKET_NAME
            path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._serve, path, limit=_MOST_LINE_BYTES)
            self._path = str(path)
            return Address(path=self._path)
        self._token = secrets.token_urlsafe(32)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_MOST_LINE_BYTES)
        return Address(port=self._server.sockets[0].getsockname()[1], token=self._token)

    async def stop_listening(self) -> None:
        """Take no further connection, and let the requests under way be answered."""
        if self._server is None:
            return
        self._server.close()
        if self._path:
            Path(self._path).unlink(missing_ok=True)
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)
        if self._busy:
            await asyncio.wait(self._busy, timeout=CONNECT_S)

    async def hang_up(self) -> None:
        """Close every connection."""
        for writer in list(self._writers):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                task = asyncio.create_task(self._answer(line, writer), name="control-request")
                self._busy.add(task)
                task.add_done_callback(self._busy.discard)
                await task
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            _log.info("a control connection ended: %s", error)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        async def send(value: object) -> None:
            # Who asked may have gone; what he asked for goes on.
            with contextlib.suppress(OSError):
                await _write(writer, {"progress": value})

        try:
            answer: dict[str, object] = {"result": await self._do(line, send)}
        except JobfsError as error:
            kind = type(error).__name__
            answer = {
                "error": {"kind": kind, "cause": error.cause, "remedy": error.remedy, "exit_code": error.exit_code}
            }
        except Exception as error:  # noqa: BLE001  (told and logged; a request must not end the mount)
            _log.exception("a control request failed")
            answer = {"error": {"cause": f"unexpected: {error}", "remedy": "see the log", "exit_code": 1}}
        with contextlib.suppress(OSError):
            await _write(writer, answer)

    async def _do(self, line: bytes, send: Send) -> object:
        try:
            request = json.loads(line)
            name = request["do"]
            token = str(request.get("token", ""))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise JobfsError("the request is not understood") from None
        if self._token and not hmac.compare_digest(token.encode(), self._token.encode()):
            raise JobfsError("the request has no valid token")
        handler = self._handlers.get(name)
        if handler is None:
            raise JobfsError(f"this kind of mount cannot do {name!r}", "it may be of another version of jobfs")
        return await handler(request, send)


async def ask_async(
    address: Address, do: str, *, on_progress: Callable[[Any], None] = lambda value: None, **more: object
) -> Any:
    """Send one request and return its result, however long that takes; who is cancelled hangs up.

    :raises NotAnswering: nobody listens. :raises JobfsError: the other side's failure, with its exit code.
    """
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await _open(address)
    except (OSError, TimeoutError) as error:
        raise nobody(error) from error
    try:
        await _write(writer, {"do": do, "token": address.token, **more})
        while line := await reader.readline():
            answer = json.loads(line)
            if "progress" not in answer:
                return result_of(answer)
            on_progress(answer["progress"])
    except (OSError, ValueError) as error:
        raise broken_off(error) from error
    finally:
        writer.close()
    raise ended()


async def _open(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.path and sys.platform != "win32":
        return await asyncio.open_unix_connection(address.path, limit=_MOST_LINE_BYTES)
    return await asyncio.open_connection("127.0.0.1", address.port, limit=_MOST_LINE_BYTES)


async def _write(writer: asyncio.StreamWriter, value: object) -> None:
    writer.write(json.dumps(value).encode() + b"\n")
    await writer.drain()
