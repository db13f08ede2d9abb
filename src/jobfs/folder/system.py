"""What folder mode asks of the operating system for the user's files: the functions of ``os``, and no others.

A seam: ``os`` itself satisfies it, and so can a file system that is simulated. Only ``disk`` calls it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol


class System(Protocol):
    """The functions of ``os`` that ``disk`` uses, each with the meaning and the errors that it has there."""

    def stat(self, path: str, /) -> os.stat_result:
        """As ``os.stat``."""

    def lstat(self, path: str, /) -> os.stat_result:
        """As ``os.lstat``."""

    def fstat(self, fd: int, /) -> os.stat_result:
        """As ``os.fstat``."""

    def scandir(self, path: str, /) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        """As ``os.scandir``."""

    def open(self, path: str, flags: int, mode: int = 0o777, /) -> int:
        """As ``os.open``. Reading, writing and closing the descriptor are nobody's business here."""

    def fsync(self, fd: int, /) -> None:
        """As ``os.fsync``."""

    def link(self, src: str, dst: str, /, *, follow_symlinks: bool) -> None:
        """As ``os.link``."""

    def rename(self, src: str, dst: str, /) -> None:
        """As ``os.rename``."""

    def replace(self, src: str, dst: str, /) -> None:
        """As ``os.replace``."""

    def unlink(self, path: str, /) -> None:
        """As ``os.unlink``."""

    def mkdir(self, path: str, /) -> None:
        """As ``os.mkdir``."""

    def rmdir(self, path: str, /) -> None:
        """As ``os.rmdir``."""

    def chmod(self, path: str, mode: int, /) -> None:
        """As ``os.chmod``."""

    def utime(self, path: str, /, *, ns: tuple[int, int]) -> None:
        """As ``os.utime``."""
