"""Files whose downloads a test holds back, breaks off and looks at."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine_harness import Mounted
from model_remote import ModelRemote

MIB = 1 << 20
BLOCK = os.urandom(MIB)


def content_of(size: int) -> bytes:
    """Return bytes of which no two MiB are alike."""
    blocks = (bytes([number]) + BLOCK[1:] for number in range(-(-size // MIB)))
    return b"".join(blocks)[:size]


def large(remote: ModelRemote, size: int) -> bytes:
    """Put a large file there."""
    remote.chunk_bytes = MIB // 2
    data = content_of(size)
    remote.put("big", data)
    return data


def digest(data: bytes) -> str:
    """Return what stands for large contents in a comparison."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def opened(mount: Mounted, path: str) -> Iterator[int]:
    handle = mount.vfs.open(mount.node(path), os.O_RDONLY)
    try:
        yield handle
    finally:
        mount.vfs.release(handle)


def blobs_in(directory: Path) -> list[Path]:
    return [file for file in (directory / "blobs").rglob("*") if file.is_file()]


def is_hydrated(mount: Mounted, path: str) -> bool:
    record = mount.session.state.local.get(mount.node(path))
    return record is not None and record.blob is not None


class Hold:
    """Holds back the chunks of a file that lie in a stretch, until it is let go."""

    def __init__(self, start: int, end: int) -> None:
        self._start = start
        self._end = end
        self._gate = asyncio.Event()
        self.held = 0
        self.given_up = 0

    async def __call__(self, offset: int) -> None:
        if self._start <= offset < self._end and not self._gate.is_set():
            self.held += 1
            try:
                await self._gate.wait()
            except asyncio.CancelledError:
                self.given_up += 1
                raise

    def let_go(self) -> None:
        self._gate.set()
