"""A connection that is made while what will use it is still being loaded.

Whoever knows early where the first requests will go begins one for each, and says so (``expect``); the first carriers
that need a connection to that place take them over (``take``). All others make their own, and so do those whose has
failed or is late: what a failure means, and how long a connection may take, is judged there alone. Only the way to the
server is made here; TLS and requests are the carrier's.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterable
from contextvars import ContextVar

from jobfs.api.address import Url, is_loopback

_PATIENCE_S = 5.0
"""How long one address may take."""

_LATE_S = 0.25
"""Who needs the connection waits so long at most for one that is under way."""

_FRESH_S = 5.0
"""One that has waited longer may have been given up by the server."""


class EarlyConnection:
    """A connection that a thread makes. It is taken once; what comes too late is closed.

    :param host: a name or an address, as in a URL.
    """

    def __init__(self, host: str, port: int) -> None:
        self.place = host.strip("[]"), port
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._made_at_s = 0.0
        self._is_over = False
        self._thread = threading.Thread(target=self._connect, name="early-connection", daemon=True)
        self._thread.start()

    def _connect(self) -> None:
        try:
            made = socket.create_connection(self.place, _PATIENCE_S)
        except (OSError, UnicodeError):  # the carrier's own try tells what is wrong
            return
        with self._lock:
            self._made_at_s = time.monotonic()
            if not self._is_over:
                self._socket = made
                return
        made.close()

    async def take(self) -> socket.socket | None:
        """Return the connection, which is the caller's from then on; None where it is not there after a moment."""
        if self._thread.is_alive():
            from asyncio import to_thread  # this module comes before most others

            try:
                await to_thread(self._thread.join, _LATE_S)
            except BaseException:  # nobody else comes for it
                if (made := self._handed_over()) is not None:
                    made.close()
                raise
        made = self._handed_over()
        if made is not None and time.monotonic() - self._made_at_s > _FRESH_S:
            made.close()
            return None
        return made

    def _handed_over(self) -> socket.socket | None:
        """Return the connection where it is there; what comes from now on is closed."""
        with self._lock:
            self._is_over = True
            made, self._socket = self._socket, None
        return made


_expected: ContextVar[list[EarlyConnection] | None] = ContextVar("expected", default=None)


def begin(base: Url, count: int) -> list[EarlyConnection]:
    """Begin to connect to a server; not where a proxy may be in between, for to find that out takes loading."""
    is_direct = is_loopback(base.host) or (sys.platform == "linux" and not _names_a_proxy())
    return [EarlyConnection(base.host, base.port) for _ in range(count)] if is_direct else []


def expect(begun: Iterable[EarlyConnection]) -> None:
    """Let the carriers of this context know of connections."""
    _expected.set(list(begun))


async def take(host: str, port: int) -> socket.socket | None:
    """Return a connection to this place that is expected, each once."""
    begun = _expected.get() or []
    found = next((early for early in begun if early.place == (host, port)), None)
    if found is None:
        return None
    begun.remove(found)
    return await found.take()


def _names_a_proxy() -> bool:
    """Tell whether the environment names a proxy. On Linux nothing else does."""
    return any(name.lower().endswith("_proxy") and value for name, value in os.environ.items())
