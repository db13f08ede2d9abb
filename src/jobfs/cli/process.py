"""A process that waits for its order, as the one that has begun it sees it. Loads nothing."""

from __future__ import annotations

import os
from io import BufferedReader, BufferedWriter

_TERMINATE = 15


class Process:
    """A branch of this process. All of it from one thread.

    :param orders: its standard input. :param answers: its standard output. :param complaints: its standard error.
    """

    def __init__(self, pid: int, orders: BufferedWriter, answers: BufferedReader, complaints: BufferedReader) -> None:
        self.pid = pid
        self.orders = orders
        self.answers = answers
        self.complaints = complaints
        self._code: int | None = None

    def wait(self) -> int:
        """Return the code with which it ends, once it has: below zero the signal that ended it."""
        if self._code is None:
            _, status = os.waitpid(self.pid, 0)
            self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def terminate(self) -> None:
        """Ask it to end, unless it has."""
        if self._code is None:
            os.kill(self.pid, _TERMINATE)

    def let_go(self) -> None:
        """Close our ends of its pipes. It goes on by itself, or ends where it has no order."""
        for pipe in (self.orders, self.answers, self.complaints):
            pipe.close()
