"""Keep what loses: bytes on the server that a conflict gives up are in the local history before they are replaced.

Used by the pusher where ``--conflict local`` has our version win over one that was never seen here.
"""

from __future__ import annotations

import os

from jobfs.engine.remote import Remote
from jobfs.engine.transfer import receive
from jobfs.model import Content, Revision
from jobfs.store.blobs import disk_errors
from jobfs.store.history import Reason, Version
from jobfs.store.state import State


async def keep_loser(remote: Remote, state: State, revision: Revision, path: str, *, at_ns: int) -> None:
    """Bring a revision's bytes into the history; when this returns they are on the local disk.

    :raises RevisionGone: the server has another version by now. :raises ApiError: it cannot be had.
    :raises StateFull: there is no room for it.
    """
    blob = state.blobs.allocate()
    with state.blobs.unless_failed(blob):
        descriptor = state.blobs.open(blob, create=True)
        try:
            sha256 = await receive(remote, revision, descriptor, state.blobs.system)
            with disk_errors():
                state.blobs.system.fsync(descriptor)
        finally:
            os.close(descriptor)
        with state.transaction(durable=True):
            state.versions.add(Version(path, blob, Content(revision.size, sha256, revision), Reason.LOST, at_ns))
