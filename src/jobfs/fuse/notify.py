"""Tell the kernel what changed behind its back, from a thread of its own.

A notification takes the lock of the directory or inode that it is about, which a program may hold while it waits for
our answer to a request. So it must never be sent by the thread that answers: it would wait for itself. Here it waits
alone, and the order of the changes is kept.

The thread knows the kernel's device and nothing else; it is the only one besides the loop's that writes to it.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from jobfs.fuse.protocol import Buffer

_log = logging.getLogger(__name__)

_UNKNOWN = (errno.ENOENT, errno.ENOTDIR)
"""The kernel knows no such name or inode: nothing is cached, nothing to do."""

_IN_USE = (errno.ENOTEMPTY, errno.EBUSY)
"""A directory that is gone is somebody's working directory or has a mount in it: its name is forgotten all the same."""

_GONE = (errno.ENODEV, errno.ENOTCONN, errno.ECONNABORTED, errno.EBADF)


class Notifier:
    """Sends notifications in order. ``send`` from any thread, never waits."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._queue: SimpleQueue[Sequence[Buffer] | Callable[[], object] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="jobfs-notify", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def send(self, message: Sequence[Buffer]) -> None:
        """Queue one notification."""
        self._queue.put(message)

    def when_sent(self, callback: Callable[[], object]) -> None:
        """Call back, from the thread, when all that is queued now has been sent; never, if the connection is gone."""
        self._queue.put(callback)

    def stop(self) -> None:
        """Send what is queued and end the thread. Blocks: the loop must go on answering meanwhile."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (message := self._queue.get()) is not None:
            if callable(message):
                message()
                continue
            try:
                os.writev(self._descriptor, message)
            except OSError as error:
                if error.errno in _GONE:
                    return
                if error.errno not in (*_UNKNOWN, *_IN_USE):
                    _log.warning("the kernel refused a notification: %s", error)
