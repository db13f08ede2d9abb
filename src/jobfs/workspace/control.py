"""How commands speak to a running mount or sync: a socket on which each request and each answer is one line of JSON.

A request is ``{"do": NAME, ...}``. Answers are any number of ``{"progress": ...}`` and then ``{"result": ...}`` or
``{"error": {...}}``. The connection stays open until the process ends, so that who asked it to stop can wait for that.

The socket is a Unix one in the state folder, which only its owner can enter; in a private temporary folder where that
path would be too long; and on 127.0.0.1 with a random token where the system has no Unix sockets.
"""

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
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobfs import errors
from jobfs.errors import DeadlineExceeded, JobfsError

_log = logging.getLogger(__name__)

SOCKET_NAME = "control"
MOST_SOCKET_PATH_BYTES = 100
"""Longest path of a Unix socket that every system takes: sun_path has 104 to 108 bytes with its end."""

_MOST_LINE_BYTES = 64 * 1024 * 1024
_CONNECT_S = 5.0
_SEE_LOG = "see its log: jobfs logs DIR"

_KINDS: Mapping[str, type[JobfsError]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, JobfsError)
}
"""What a failure may be on the other side: each is made of its cause and remedy. Others cross as a plain one."""

Send = Callable[[object], Awaitable[None]]
"""Sends a progress value to who asked."""

Handler = Callable[[Mapping[str, Any], Send], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a control socket is.

    :param path: of a Unix socket; empty for TCP. :param port: of 127.0.0.1. :param token: what TCP requests must carry.
    """

    path: str = ""
    port: int = 0
    token: str = field(default="", repr=False)

    def as_json(self) -> dict[str, object]:
        """Return it for the record of the instance."""
        return {"path": self.path, "port": self.port, "token": self.token}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Address:
        """Read what ``as_json`` gave."""
        return cls(str(value["path"]), int(value["port"]), str(value["token"]))


def remove_leftover(address: Address, state: Path) -> None:
    """Remove the private folder of a socket whose process was killed; the caller holds the lock of its state."""
    folder = Path(address.path).parent
    if address.path and folder != state:
        Path(address.path).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else is in it: it is not ours any more
            folder.rmdir()


class NotAnswering(JobfsError):
    """Nobody listens at a control socket."""

    exit_code = 6


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
            await asyncio.wait(self._busy, timeout=_CONNECT_S)

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


async def _write(writer: asyncio.StreamWriter, value: object) -> None:
    writer.write(json.dumps(value).encode() + b"\n")
    await writer.drain()


def ask(
    address: Address,
    do: str,
    *,
    timeout_s: float | None = 30.0,
    on_progress: Callable[[Any], None] = lambda value: None,
    until_end: bool = False,
    **more: object,
) -> Any:
    """Send one request and return its result; blocks.

    :param timeout_s: between two lines of the answer.
    :param until_end: return only when the other process has let go of everything.
    :raises NotAnswering: nobody listens. :raises DeadlineExceeded: no answer in time.
    :raises JobfsError: the other side's failure, with its exit code.
    """
    with _connected(address) as connection:
        connection.settimeout(timeout_s)
        request = {"do": do, "token": address.token, **more}
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                for line in lines:
                    answer = json.loads(line)
                    if "progress" in answer:
                        on_progress(answer["progress"])
                        continue
                    result = _result(answer)
                    if until_end:
                        lines.read()
                    return result
        except TimeoutError:
            raise DeadlineExceeded("the mount does not answer", _SEE_LOG) from None
        except (ConnectionError, ValueError) as error:
            raise _broken(error) from error
    raise _ended()


async def ask_async(
    address: Address, do: str, *, on_progress: Callable[[Any], None] = lambda value: None, **more: object
) -> Any:
    """Send one request and return its result, however long that takes; who is cancelled hangs up.

    :raises NotAnswering: nobody listens. :raises JobfsError: the other side's failure, with its exit code.
    """
    try:
        async with asyncio.timeout(_CONNECT_S):
            reader, writer = await _open(address)
    except (OSError, TimeoutError) as error:
        raise _nobody(error) from error
    try:
        await _write(writer, {"do": do, "token": address.token, **more})
        while line := await reader.readline():
            answer = json.loads(line)
            if "progress" not in answer:
                return _result(answer)
            on_progress(answer["progress"])
    except (OSError, ValueError) as error:
        raise _broken(error) from error
    finally:
        writer.close()
    raise _ended()


async def _open(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.path and sys.platform != "win32":
        return await asyncio.open_unix_connection(address.path, limit=_MOST_LINE_BYTES)
    return await asyncio.open_connection("127.0.0.1", address.port, limit=_MOST_LINE_BYTES)


def _nobody(error: OSError) -> NotAnswering:
    return NotAnswering(f"nobody answers there: {error.strerror or error}")


def _broken(error: Exception) -> NotAnswering:
    return NotAnswering(f"the mount broke off: {error}", _SEE_LOG)


def _ended() -> NotAnswering:
    return NotAnswering("the mount ended without an answer", _SEE_LOG)


@contextlib.contextmanager
def _connected(address: Address) -> Iterator[socket.socket]:
    try:
        if address.path and sys.platform != "win32":
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(_CONNECT_S)
                connection.connect(address.path)
            except OSError:
                connection.close()
                raise
        else:
            connection = socket.create_connection(("127.0.0.1", address.port), timeout=_CONNECT_S)
    except OSError as error:
        raise _nobody(error) from error
    with connection:
        yield connection


def _result(answer: Mapping[str, Any]) -> Any:
    if "error" not in answer:
        return answer.get("result")
    told = answer["error"]
    kind = _KINDS.get(str(told.get("kind")), JobfsError)
    failure = kind(str(told["cause"]), str(told["remedy"]))
    failure.exit_code = int(told["exit_code"])
    raise failure
