"""The disk of a store, which fails when a test says so."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from simulated_store import BadDisk, StoreWeather


class FailingDisk(BadDisk):
    """A disk on which the calls of a test's choice fail."""

    def __init__(self) -> None:
        super().__init__(StoreWeather, lambda probability: probability > 0)
        self._failing: tuple[str, ...] = ()
        self._left = 0
        self._number = errno.EIO
        self._asked: Counter[str] = Counter()

    def asked(self, call: str) -> int:
        """Return how often there was a call."""
        return self._asked[call]

    def fault(self, call: str, *, needs_room: bool) -> int:
        self._asked[call] += 1
        if call not in self._failing or not self._left:
            return 0
        self._left -= 1
        return self._number

    @contextmanager
    def failing(self, *calls: str, number: int = errno.EIO, times: int = 1 << 30) -> Iterator[None]:
        """Let calls fail for the length of a block.

        :param calls: of ``store.system.System``, or first words of statements. :param times: so many of them do.
        """
        self._failing, self._number, self._left = calls, number, times
        try:
            yield
        finally:
            self._failing = ()
