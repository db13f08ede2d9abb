"""Read one version of a file, whole or in parts: every byte that is given out is of that version.

A small file is one request, and is kept for as long as the reader is open. Parts of a large one are fetched as they
are asked for, each proven by a look at the item after its answer had begun (contract I-42); where the server does not
honour ranges, what it sends instead, the whole, is kept.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from jobfs.engine.remote import Download, Remote
from jobfs.engine.transfer import SMALL_BYTES, RevisionGone, receive
from jobfs.errors import ProtocolViolation, Refused
from jobfs.model import Item
from jobfs.planner.naming import Suffix, hidden_name
from jobfs.store.blobs import disk_errors

PART_BYTES = 8 << 20
"""A large file is streamed in parts of this length."""


class Reader:
    """The bytes of one version of a file. May be used by several tasks at once; close it in the end.

    :param item: as it was seen when the file was opened.
    """

    def __init__(self, remote: Remote, item: Item) -> None:
        self.item = item
        self._remote = remote
        self._whole: BinaryIO | None = None
        self._is_honoured = False
        self._fetching = asyncio.Lock()

    @property
    def size(self) -> int:
        """The length of the file in bytes."""
        return self.item.size

    async def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes of the file: as many as asked for, fewer only at its end.

        :raises RevisionGone: the server no longer has this version. :raises ApiError: it could not be fetched.
        """
        end = self.size if length is None else min(offset + length, self.size)
        if offset >= end:
            return b""
        if self._whole is None and self.size > SMALL_BYTES and end - offset < self.size:
            part = await self._part(offset, end - offset)
            if part is not None:
                return part
        whole = await self._fetched()
        whole.seek(offset)
        return whole.read(end - offset)

    async def chunks(self, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield bytes of the file in order, a part at a time."""
        end = self.size if length is None else min(offset + length, self.size)
        while offset < end:
            part = await self.read(offset, min(PART_BYTES, end - offset))
            offset += len(part)
            yield part

    def close(self) -> None:
        """Forget what was fetched."""
        if self._whole is not None:
            self._whole.close()
            self._whole = None

    async def _part(self, offset: int, length: int) -> bytes | None:
        """Fetch a part; None where the whole is here instead, or has to be fetched."""
        if self._is_honoured:
            return await self._ranged(offset, length)
        async with self._fetching:  # the answer may be the whole, which nobody needs twice
            return await self._ranged(offset, length) if self._whole is None else None

    async def _ranged(self, offset: int, length: int) -> bytes | None:
        async with self._remote.download(self.item.id, offset=offset, length=length) as download:
            self._is_honoured = _is_honoured(download, offset, length)
            if not self._is_honoured:
                await self._keep(download)
                return None
            part = b"".join([chunk async for chunk in download.chunks()])
        if len(part) != length:
            raise ProtocolViolation(f"{self.item.path}: the server sent another part than it was asked for")
        await self._prove()
        return part

    async def _keep(self, download: Download) -> None:
        """Keep the whole, which came instead of a part; one of the wrong length is dropped."""
        file = tempfile.TemporaryFile(prefix="jobfs-")  # noqa: SIM115  (closed with the reader)
        try:
            async for chunk in download.chunks():
                with disk_errors():
                    file.write(chunk)
            await self._prove()
        except BaseException:
            file.close()
            raise
        if download.offset == 0 and file.tell() == self.size and self._whole is None:
            self._whole = file
        else:
            file.close()

    async def _prove(self) -> None:
        """Find out that the item still is of this version, and so was every answer that began before."""
        now = await self._remote.get(self.item.id)
        if now.revision != self.item.revision:
            raise RevisionGone(f"{self.item.path} was changed by somebody else meanwhile", "open it again")

    async def _fetched(self) -> BinaryIO:
        async with self._fetching:
            if self._whole is None:
                file = tempfile.TemporaryFile(prefix="jobfs-")  # noqa: SIM115  (closed with the reader)
                try:
                    await receive(self._remote, self.item.revision, file.fileno())
                except BaseException:
                    file.close()
                    raise
                self._whole = file
            return self._whole


def _is_honoured(download: Download, offset: int, length: int) -> bool:
    return download.offset == offset and (offset > 0 or download.length == length)


async def fetch(remote: Remote, item: Item, path: Path) -> None:
    """Bring a file to a local path, whole or not at all; a file that is there is replaced once the new one is whole.

    :raises Refused: a directory is in the way. :raises ApiError: it could not be fetched.
    """
    if path.is_dir() and not path.is_symlink():
        raise Refused(f"{path} is a directory", "remove it, or name another target")
    temporary = path.parent / hidden_name(path.name, secrets.token_hex(4), Suffix.NEW)
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        try:
            await receive(remote, item.revision, descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
