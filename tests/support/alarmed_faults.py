"""Faults of the embedded server that a test can wait for."""

from __future__ import annotations

import threading

from jobfs.server.faults import Fault, Faults


class AlarmedFaults(Faults):
    """Faults that tell when one of them strikes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.has_struck = threading.Event()

    def strike(self, method: str, path: str) -> tuple[Fault, ...]:
        struck = super().strike(method, path)
        if struck:
            self.has_struck.set()
        return struck
