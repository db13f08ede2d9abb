"""Wait for what other processes do, without asking again and again."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable

from commands import DEADLINE_S

from jobfs.server.front import RequestRecord


class Requests(list[RequestRecord]):
    """The requests of a server, in place of its own list: whoever waits is woken by each of them."""

    def __init__(self) -> None:
        super().__init__()
        self._came = threading.Event()

    def append(self, record: RequestRecord) -> None:
        """Take in a request; called on the server's loop, after what was asked for is done."""
        super().append(record)
        self._came.set()

    def wait_until(self, what: Callable[[], bool]) -> None:
        """Return once something is so that a request brings about."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            self._came.clear()
            if what():
                return
            assert self._came.wait(deadline - time.monotonic()), "no request has brought it about"


def wait_for_end(pid: int) -> None:
    """Return once a process has ended and let go of everything. Linux only."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        assert ended.poll(DEADLINE_S * 1000), f"process {pid} does not end"
    finally:
        os.close(descriptor)
