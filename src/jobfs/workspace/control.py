"""How commands speak to a running mount or sync: a socket on which each request and each answer is one line of JSON.

A request is ``{"do": NAME, ...}``. Answers are any number of ``{"progress": ...}`` and then ``{"result": ...}`` or
``{"error": {...}}``. The connection stays open until the process ends, so that who asked it to stop can wait for that.

The socket is a Unix one in the state folder, which only its owner can enter; in a private temporary folder where that
path would be too long; and on 127.0.0.1 with a random token where the system has no Unix sockets.

Here is what asks and blocks; ``answering`` has what needs a loop: what answers, and who awaits an answer.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jobfs import errors
from jobfs.errors import DeadlineExceeded, JobfsError

CONNECT_S = 5.0
_SEE_LOG = "see its log: jobfs logs DIR"

_KINDS: Mapping[str, type[JobfsError]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, JobfsError)
}
"""What a failure may be on the other side: each is made of its cause and remedy. Others cross as a plain one."""


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


class NotAnswering(JobfsError):
    """Nobody listens at a control socket."""

    exit_code = 6


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
                    result = result_of(answer)
                    if until_end:
                        lines.read()
                    return result
        except TimeoutError:
            raise DeadlineExceeded("the mount does not answer", _SEE_LOG) from None
        except (ConnectionError, ValueError) as error:
            raise broken_off(error) from error
    raise ended()


def nobody(error: OSError) -> NotAnswering:
    """Return what it means that a connection cannot be made."""
    return NotAnswering(f"nobody answers there: {error.strerror or error}")


def broken_off(error: Exception) -> NotAnswering:
    """Return what it means that a connection failed while an answer was awaited."""
    return NotAnswering(f"the mount broke off: {error}", _SEE_LOG)


def ended() -> NotAnswering:
    """Return what it means that a connection was closed without an answer."""
    return NotAnswering("the mount ended without an answer", _SEE_LOG)


@contextlib.contextmanager
def _connected(address: Address) -> Iterator[socket.socket]:
    try:
        if address.path and sys.platform != "win32":
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(CONNECT_S)
                connection.connect(address.path)
            except OSError:
                connection.close()
                raise
        else:
            connection = socket.create_connection(("127.0.0.1", address.port), timeout=CONNECT_S)
    except OSError as error:
        raise nobody(error) from error
    with connection:
        yield connection


def result_of(answer: Mapping[str, Any]) -> Any:
    """Return the result in an answer.

    :raises JobfsError: the other side's failure, with its exit code.
    """
    if "error" not in answer:
        return answer.get("result")
    told = answer["error"]
    kind = _KINDS.get(str(told.get("kind")), JobfsError)
    failure = kind(str(told["cause"]), str(told["remedy"]))
    failure.exit_code = int(told["exit_code"])
    raise failure
