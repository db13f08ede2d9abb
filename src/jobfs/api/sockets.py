"""Socket options: connections are given up when the other end is no longer there, not when it takes long to answer.

What is sent and not acknowledged, and what is waited for, would otherwise be waited for in silence until an idle limit:
TCP repeats ever more rarely, so after a line's return the next repeat may be as far away as the line was gone. Only the
kernel can tell a dead line from a slow server, whose kernel acknowledges all the same.
"""

from __future__ import annotations

import socket

Option = tuple[int, int, int]

_PROBES = 2


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
    return [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *found]
