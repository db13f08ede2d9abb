"""What the store asks of the operating system for its blobs: functions of ``os``, and no others.

A seam: ``os`` itself satisfies it, and so can a disk that is simulated. Whoever changes a blob goes through it
(``blobs.Blobs.system``); reading and closing a descriptor are nobody's business here.
"""

from __future__ import annotations

import os
from typing import Protocol


class System(Protocol):
    """The functions of ``os`` that change blobs, each with the meaning and the errors that it has there."""

    def open(self, path: str, flags: int, mode: int = 0o777, /) -> int:
        """As ``os.open``."""

    def mkdir(self, path: str, mode: int = 0o777, /) -> None:
        """As ``os.mkdir``."""

    def unlink(self, path: str, /) -> None:
        """As ``os.unlink``."""

    def stat(self, path: str, /) -> os.stat_result:
        """As ``os.stat``."""

    def write(self, fd: int, data: bytes | memoryview, /) -> int:
        """As ``os.write``: it may take less than all."""

    def pwrite(self, fd: int, data: bytes | memoryview, at: int, /) -> int:
        """As ``os.pwrite``."""

    def ftruncate(self, fd: int, length: int, /) -> None:
        """As ``os.ftruncate``."""

    def fsync(self, fd: int, /) -> None:
        """As ``os.fsync``."""
