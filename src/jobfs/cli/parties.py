"""Who has a say while a mount or folder is served: the user, who ends it, and the front, which is told how it goes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from jobfs.workspace.instance import Instance


class Notes(Protocol):
    """Who is told what the start of a session has to say."""

    def note(self, line: str) -> None:
        """Tell something that is no failure."""


class Front(Protocol):
    """Who is told how it goes: the terminal, or the command that started a process in the background."""

    def note(self, line: str) -> None:
        """Tell something that is no failure."""

    def ready(self, instance: Instance) -> None:
        """Tell that it serves."""

    def draining(self, left: int) -> None:
        """Tell how many changes are still to be sent."""


class Stop:
    """How the user ends it: the first signal asks for a drain, the second one ends that too."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurry = asyncio.Event()

    def signalled(self) -> None:
        """Note one signal."""
        (self.hurry if self.asked.is_set() else self.asked).set()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Take SIGINT, SIGTERM, and where there is one the signal that the terminal was closed."""
        loop = asyncio.get_running_loop()
        names = ("SIGINT", "SIGTERM", "SIGHUP")
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        before = [signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.signalled)) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
