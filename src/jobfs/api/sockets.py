"""Socket options: what a connection can have under way, and when it is given up.

A connection is given up when the other end is no longer there, not when it takes long to answer. What is sent and not
acknowledged, and what is waited for, would otherwise be waited for in silence until an idle limit: TCP repeats ever
more rarely, so after a line's return the next repeat may be as far away as the line was gone. Only the kernel can tell
a dead line from a slow server, whose kernel acknowledges all the same.
"""

from __future__ import annotations

import socket
from functools import cache
from pathlib import Path

Option = tuple[int, int, int]

_PROBES = 2

_SEND_BUFFER_BYTES = 8 << 20
"""What an upload may have sent and not yet acknowledged, at most: at 20 ms 400 MB a second.

Linux lets a connection's buffer grow to 4 MiB by itself, not all of which can be under way: at 20 ms that is 120 MB a
second, whatever the line could carry."""

_UNSENT_BYTES = 256 << 10
"""What waits here to be sent, at most: on a slow line a buffer of megabytes would otherwise hold minutes of an upload,
of which nobody could tell whether it still moves."""

_NOTSENT_LOWAT = 25
"""``TCP_NOTSENT_LOWAT`` of Linux (linux/tcp.h), which the library does not name in all its versions."""

_SETTINGS = Path("/proc/sys/net")


def options(dead_s: float) -> list[Option]:
    """Return the options of a connection that is given up after so many seconds without an acknowledgement.

    On systems that lack some of them it is given up later.
    """
    probe_s = max(1, round(dead_s / _PROBES))
    wanted = {
        "TCP_NODELAY": 1,
        "TCP_KEEPIDLE": probe_s,
        "TCP_KEEPALIVE": probe_s,  # the same, as macOS calls it
        "TCP_KEEPINTVL": probe_s,
        "TCP_KEEPCNT": _PROBES,
        "TCP_USER_TIMEOUT": round(dead_s * 1000),
    }
    known = [(getattr(socket, name, None), value) for name, value in wanted.items()]
    found = [(socket.IPPROTO_TCP, number, value) for number, value in known if number is not None]
    return [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *found, *buffering(_SETTINGS)]


@cache
def buffering(settings: Path) -> tuple[Option, ...]:
    """Return the options that let more be under way than the system does by itself; none where it does as much.

    :param settings: where the system tells its limits.
    """
    try:
        allowed = int((settings / "core/wmem_max").read_text())
        grows_to = int((settings / "ipv4/tcp_wmem").read_text().split()[2])
    except (OSError, ValueError, IndexError):  # another system, or one that hides them
        return ()
    size = min(allowed, _SEND_BUFFER_BYTES // 2)  # Linux doubles what it is asked for
    if 2 * size <= grows_to:
        return ()
    return (
        (socket.SOL_SOCKET, socket.SO_SNDBUF, size),
        (socket.IPPROTO_TCP, _NOTSENT_LOWAT, _UNSENT_BYTES),
    )
