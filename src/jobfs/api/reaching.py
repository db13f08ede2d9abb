"""A socket to a server, over the first of its addresses that answers (RFC 8305).

asyncio has such a race, and loses the socket of the winner where who waits is cancelled at the moment of its success:
it stays open until it is collected. Here each try closes its own, unless it is the one that is handed over.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Sequence
from functools import partial
from itertools import chain, zip_longest
from typing import Any

SECOND_ADDRESS_S = 0.25
"""How long one address may take before the next one is tried beside it."""

_Found = tuple[int, int, int, str, Any]
"""An address as ``getaddrinfo`` tells it."""


async def reach(host: str, port: int) -> socket.socket:
    """Return a connected socket, which is the caller's from then on. Cancelling leaves nothing open.

    :raises OSError: no address answers; the reason is that of the first. :raises ValueError: no lookup takes the name.
    """
    waiting = deque(_alternating(await _addresses(host, port)))
    tries: list[asyncio.Task[socket.socket]] = []
    under_way: set[asyncio.Task[socket.socket]] = set()
    failures: list[BaseException] = []
    won: socket.socket | None = None
    try:
        while waiting or under_way:
            if waiting:
                tries.append(asyncio.create_task(_try(waiting.popleft()), name="reach"))
                under_way.add(tries[-1])
            patience_s = SECOND_ADDRESS_S if waiting else None
            done, under_way = await asyncio.wait(under_way, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                failure = ended.exception()
                if failure is None:
                    won = ended.result()
                    return won
                failures.append(failure)
        raise failures[0]
    finally:
        for one in tries:
            one.cancel()
            one.add_done_callback(partial(_close_unless, won))


async def _addresses(host: str, port: int) -> Sequence[_Found]:
    """Return the addresses of a host; of one that is an address itself without a thread that looks it up."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


def _alternating(found: Sequence[_Found]) -> list[_Found]:
    """Return addresses such that their families take turns, and else in the order of the system's preference."""
    families: dict[int, list[_Found]] = {}
    for one in found:
        families.setdefault(one[0], []).append(one)
    return [one for one in chain.from_iterable(zip_longest(*families.values())) if one is not None]


async def _try(found: _Found) -> socket.socket:
    family, kind, protocol, _, address = found
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made


def _close_unless(won: socket.socket | None, ended: asyncio.Task[socket.socket]) -> None:
    if not ended.cancelled() and ended.exception() is None and ended.result() is not won:
        ended.result().close()
