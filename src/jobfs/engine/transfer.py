"""Receive one content completely and provably: the right length, from one revision, with its hash.

Used by the hydrator (into a blob) and by folder mode (into a file beside the target).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from jobfs.engine.remote import Remote
from jobfs.errors import NotFound, ProtocolViolation
from jobfs.model import Revision
from jobfs.store.blobs import full_disk

_LENGTH_TRIES = 2


class RevisionGone(NotFound):
    """The server no longer has this revision: the file was changed or deleted since the listing."""


async def receive(
    remote: Remote, revision: Revision, descriptor: int, on_progress: Callable[[int], None] = lambda received: None
) -> str:
    """Download a revision's bytes into an open, empty file and return their SHA-256, lower-case hex.

    The size in the listing is checked against what arrives (contract I-40): on a mismatch the item is read again, and
    the download tried once more where it still is the same revision.

    :param on_progress: called with the number of bytes that are in the file, from its start, without gaps.
    :raises RevisionGone: the item changed or is gone.
    :raises ProtocolViolation: the server twice sent another length than it lists.
    :raises ApiError: the download failed. :raises StateFull: the disk is full.
    """
    for _ in range(_LENGTH_TRIES):
        try:
            received, digest = await _attempt(remote, revision, descriptor, on_progress)
        except NotFound as error:
            await _check_still_there(remote, revision)
            raise ProtocolViolation(
                "the server lists the file but has no bytes for it", "try again later", status=error.status
            ) from error
        if received == revision.size:
            return digest
        await _check_still_there(remote, revision)
        on_progress(0)
    raise ProtocolViolation(
        f"the server sent {received} bytes of a file that it lists with {revision.size}", "try again later"
    )


async def _attempt(
    remote: Remote, revision: Revision, descriptor: int, on_progress: Callable[[int], None]
) -> tuple[int, str]:
    digest = hashlib.sha256()
    received = 0
    with full_disk():
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
    async with remote.download(revision.item) as download:
        async for chunk in download.chunks():
            if received + len(chunk) > revision.size:
                return received + len(chunk), ""
            _write_all(descriptor, chunk)
            digest.update(chunk)
            received += len(chunk)
            on_progress(received)
    return received, digest.hexdigest()


async def _check_still_there(remote: Remote, revision: Revision) -> None:
    try:
        item = await remote.get(revision.item)
    except NotFound as error:
        raise RevisionGone("the file is gone from the server", status=error.status) from error
    if item.revision != revision:
        raise RevisionGone("the file has changed on the server")


def _write_all(descriptor: int, chunk: bytes) -> None:
    """Append to the file. The descriptor's position is the receiver's alone: readers use positioned reads, which
    leave it.

    A positioned write would say the same and does not exist on Windows, where folder mode needs this.
    """
    view = memoryview(chunk)
    with full_disk():
        while view:
            view = view[os.write(descriptor, view) :]
