"""Sockets and uvicorn: how an application of this server is served on a loop that somebody else runs."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from jobfs.errors import SettingsError

KEEP_ALIVE_S = 75
"""How long an idle connection is kept, so that a client finds its connections warm."""


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with the connection in the scope so that a fault can break it."""

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = {"jobfs.transport": self.transport}  # type: ignore[dict-item]


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals to whoever runs the loop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; port 0 takes a free one. Raises ``SettingsError`` where that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP: asyncio sets TCP_NODELAY only on sockets whose protocol it can see.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if sys.platform != "win32":  # where the option would let two servers share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise SettingsError(f"cannot listen on {host}, port {port}: {error.strerror}", "choose another port") from error
    return listener


def origin_of(listener: socket.socket) -> str:
    """Return scheme, host and port of a listening socket."""
    host, port = listener.getsockname()[:2]
    place = f"[{host}]" if ":" in host else host
    return f"http://{place}:{port}"


async def serve_until(
    stop: asyncio.Event,
    applications: Sequence[tuple[ASGIApp, socket.socket]],
    *,
    grace_s: int,
    on_stop: Callable[[], None],
) -> None:
    """Serve applications, each on its socket, until ``stop`` is set and the requests under way are answered.

    :param grace_s: seconds that they get.
    :param on_stop: called when ``stop`` is set, to end the requests that would not end by themselves.
    """
    servers = [Server(_config(application, grace_s)) for application, _ in applications]
    serving = [
        asyncio.create_task(server.serve(sockets=[listener]))
        for server, (_, listener) in zip(servers, applications, strict=True)
    ]
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({*serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    on_stop()
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*serving)


def _config(application: ASGIApp, grace_s: int) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=Protocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=grace_s,
    )
