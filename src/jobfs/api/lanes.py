"""The connections of one server: which way they go, and which of them the next request takes."""

from __future__ import annotations

import logging
import ssl
import urllib.request
from collections import deque
from collections.abc import Callable
from functools import cache

import httpx

from jobfs import errors
from jobfs.api import address, sockets
from jobfs.api.direct import KEPT_WARM_S, DirectTransport

_A_LANES_LIMITS = httpx.Limits(max_connections=2, max_keepalive_connections=2, keepalive_expiry=KEPT_WARM_S)
"""One connection to the server, and one to where it redirects."""


class Lanes:
    """A connection pool of its own for each request under way; the one used last is the first to be used again.

    One pool for all would look at every connection of it, with a system call each, whenever a request begins or ends:
    with sixteen of them that was half of the cost of a small request.
    """

    def __init__(self, lay: Callable[[], httpx.AsyncBaseTransport]) -> None:
        self._lay = lay
        self._free = deque([(lay(), 0.0)])
        self._taken: set[httpx.AsyncBaseTransport] = set()
        self._is_closed = False

    def take(self) -> httpx.AsyncBaseTransport:
        """Return a lane that nobody uses. It must be given back once the answer is closed."""
        lane = self._free.pop()[0] if self._free else self._lay()
        self._taken.add(lane)
        return lane

    def lay(self) -> httpx.AsyncBaseTransport:
        """Return a new lane, as ``take`` does: its connections are still to be made."""
        lane = self._lay()
        self._taken.add(lane)
        return lane

    def give_back(self, lane: httpx.AsyncBaseTransport, now: float) -> None:
        """Let the next request have a lane.

        :param now: monotonic seconds.
        """
        self._taken.discard(lane)
        self._free.append((lane, now))

    async def prune(self, now: float) -> None:
        """Close what nobody has used for long, but for one: a burst leaves nothing behind.

        Once the lanes are closed, that is all of them: a request that was under way then may have connected since.
        """
        while self._free and (self._is_closed or (len(self._free) > 1 and now - self._free[0][1] > KEPT_WARM_S)):
            await self._free.popleft()[0].aclose()

    async def forget(self, before: float) -> None:
        """Close what nobody uses and nobody has used since: what stood then can bring nothing any more.

        :param before: monotonic seconds.
        """
        stale = []
        while self._free and self._free[0][1] < before:
            stale.append(self._free.popleft()[0])
        for lane in stale:
            await lane.aclose()

    async def drop(self, lane: httpx.AsyncBaseTransport) -> None:
        """Close a lane that was taken, instead of giving it back: others are connected already."""
        self._taken.discard(lane)
        await lane.aclose()

    async def aclose(self) -> None:
        """Close every connection, and from now on each one when its request has ended."""
        self._is_closed = True
        for lane in (*self._taken, *(lane for lane, _ in self._free)):
            await lane.aclose()


def laying(base: address.Url, dead_s: float) -> Callable[[], httpx.AsyncBaseTransport]:
    """Return what makes lanes, through the proxy that the environment names for this host, if any.

    :param dead_s: see ``sockets``.
    """
    # httpcore logs the headers of answers at DEBUG, and with them the signed links of redirects (contract E-3).
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    proxy = None if address.is_loopback(base.host) or urllib.request.proxy_bypass(base.host) else _proxy(base.scheme)
    options = sockets.options(dead_s)
    context = cache(_context)
    if proxy is None:
        return lambda: DirectTransport(context, options)

    def lay() -> httpx.AsyncBaseTransport:
        try:
            return httpx.AsyncHTTPTransport(
                verify=context(), proxy=proxy, socket_options=options, limits=_A_LANES_LIMITS
            )
        except (ImportError, ValueError):
            raise errors.SettingsError(
                "the proxy that the environment names cannot be used", "name an http proxy in HTTPS_PROXY, or none"
            ) from None

    return lay


def _context() -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _proxy(scheme: str) -> str | None:
    proxies = urllib.request.getproxies()
    return proxies.get(scheme) or proxies.get("all")
