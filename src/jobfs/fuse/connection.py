"""One connection to the kernel: reads requests, has them answered, writes the replies.

What can be answered from memory and the local disk is answered before the next request is read, without a task. What
has to wait becomes a task; the kernel's INTERRUPT cancels it. Changes that come from outside go to the kernel through a
thread of their own (``notify``). An unexpected exception is logged with its traceback and answered with EIO: **nothing
that comes in ends the loop.**

It knows a descriptor on which each read gives one request; where that comes from is the matter of ``kernel``.
Everything here runs on the loop's thread.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import select
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial

from jobfs.errors import FuseUnavailable
from jobfs.fuse import protocol, replies
from jobfs.fuse.dispatch import Requests
from jobfs.fuse.errno import errno_of, is_expected
from jobfs.fuse.interrupt import is_to_stop
from jobfs.fuse.notify import Notifier
from jobfs.fuse.open_files import Answer
from jobfs.fuse.options import MountOptions
from jobfs.fuse.phantoms import FIRST_PHANTOM
from jobfs.fuse.protocol import Buffer, InitFlag, MalformedRequest, Opcode, RequestHeader
from jobfs.fuse.turns import PAUSE_MS, Turns
from jobfs.fuse.wakes import Wakes
from jobfs.model import ROOT, NodeId
from jobfs.vfs.namespace import fail
from jobfs.vfs.operations import NameChange, Vfs

_log = logging.getLogger(__name__)

_SPIN_S = 0.0001 if (os.cpu_count() or 1) > 1 else 0.0
"""A program that was just answered mostly asks again at once, so its next request is looked for this long before the
loop goes on. To be woken instead takes 30 µs on a virtual machine, half of what a small request takes in all; and each
request of an untar would wait for a turn of a loop that is busy with the uploads of the files before."""

_INTERRUPT_AGAIN_S = 0.1
"""A task that was interrupted by a harmless signal is looked at again this often: the kernel tells of a signal once."""

_MAX_BACKGROUND = 1024
"""Read-ahead requests under way. Many, since one that waits for the network must not keep others from what is here."""

# Not wanted:
# - ASYNC_READ, with which a program that waits for the network waits for a page and not for us: in state D, where
#   signals that it handles do not reach it. What reading ahead gains, the hydrator has gained already: measured on
#   128 MiB, cold and from the local copy, the two differ by less than the noise.
# - ASYNC_DIO, with which nothing can interrupt a program that reads past the page cache.
# - POSIX_ACL, with which whoever is not the owner would be refused where we say that there are no ACLs at all, and ls
#   asks for those of each file where we say that a file has none.
# - WRITEBACK_CACHE, with which a write that a program saw succeed is lost with this process.
_WANTED = (
    InitFlag.ATOMIC_O_TRUNC
    | InitFlag.BIG_WRITES
    | InitFlag.DO_READDIRPLUS
    | InitFlag.PARALLEL_DIROPS
    | InitFlag.MAX_PAGES
    | InitFlag.CACHE_SYMLINKS
    | InitFlag.NO_OPENDIR_SUPPORT
    | InitFlag.EXPLICIT_INVAL_DATA
    | InitFlag.HANDLE_KILLPRIV_V2  # without it the kernel asks for security.capability before each write
    | InitFlag.INIT_EXT
    | InitFlag.DIRECT_IO_ALLOW_MMAP
)

_GAVE_UP = (errno.ENOENT, errno.EINTR)
"""Reading: the asking program gave up before its request was read."""

_ENDED = (errno.ENODEV, errno.ECONNABORTED)

_UNANSWERED = (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT)


@dataclass(slots=True)
class _Waiting:
    """A request that is answered by a task."""

    header: RequestHeader
    task: asyncio.Task[Buffer]
    next_look: asyncio.TimerHandle | None = None


class Connection:
    """Serves one vfs on one descriptor, which it owns. Made on the loop; ``start``, then ``close`` once.

    ``initialised`` is done when the kernel and we have settled how to speak, or failed to. ``disconnected`` is done
    when the kernel ends the connection. ``minor`` is the protocol's minor version; 0 before that is settled. ``asked``
    counts the requests by opcode.
    """

    def __init__(self, descriptor: int, vfs: Vfs, options: MountOptions) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._vfs = vfs
        self._requests = Requests(vfs, options)
        self._handlers: dict[int, Callable[[memoryview], Answer]] = {
            Opcode.INTERRUPT: self._interrupted,
            Opcode.INIT: self._init,
            Opcode.DESTROY: lambda body: b"",
        }
        self._notifier = Notifier(descriptor)
        self.wakes = Wakes(vfs, self._requests, options, told=self._told)
        self._messenger = self.wakes.messenger
        self._buffer = bytearray(protocol.REQUEST_BUFFER_BYTES)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._turns = Turns()
        self._waiting: dict[int, _Waiting] = {}
        self._stale: dict[NodeId, bool] = {}
        self.initialised: asyncio.Future[None] = self._loop.create_future()
        self.disconnected: asyncio.Future[None] = self._loop.create_future()
        self.minor = 0
        self.asked: defaultdict[int, int] = defaultdict(int)

    def start(self) -> None:
        """Begin to serve."""
        os.set_blocking(self._descriptor, False)
        self._notifier.start()
        self._vfs.tell(self)
        self._vfs.workspace.caught_up = self._caught_up
        self._loop.add_reader(self._descriptor, self._on_readable)

    async def close(self) -> None:
        """End: what waits is given up, and the kernel refuses whatever programs still ask.

        In an order in which nobody waits for anybody who waits: wakes and notifications end while requests are served.
        """
        await self.wakes.close()
        await asyncio.to_thread(self._notifier.stop)
        self._loop.remove_reader(self._descriptor)
        tasks = [waiting.task for waiting in self._waiting.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        os.close(self._descriptor)
        self._requests.end()
        if not self.initialised.done():
            self.initialised.cancel()

    # -- what the vfs asks and tells (``operations.Audience``)

    def knows(self, node: NodeId) -> bool:
        """Tell whether the kernel may name a node."""
        return node in self._requests.lookups

    def name_changed(self, change: NameChange) -> None:
        """Make the kernel look a name up anew, and wake who watches, if it knows the directory at all."""
        parent, name, old = change.parent, change.name, change.old
        if parent == ROOT or parent in self._requests.lookups:
            self.wakes.note(change)
            if old is not None and self._can_be_deleted(old):
                self._notifier.send(replies.delete_entry(parent, old, name))
            else:
                self._notifier.send(replies.invalidate_entry(parent, name))
            self._invalidate_later(parent, is_listing=True)

    def _can_be_deleted(self, node: NodeId) -> bool:
        """Tell whether a node is gone, and no program holds the lock that the kernel needs to be told so.

        Who writes to a file holds its lock, and may have to wait for the file's bytes first; whoever then wants to go
        into the directory would wait with the notification.
        """
        is_in_use = any(waiting.header.node == node for waiting in self._waiting.values())
        return not is_in_use and self._vfs.is_gone(node)

    async def _told(self) -> None:
        """Wait until the kernel has got every notification that was sent before."""
        told = asyncio.Event()
        self._notifier.when_sent(lambda: self._loop.call_soon_threadsafe(told.set))
        await told.wait()

    def attributes_changed(self, node: NodeId) -> None:
        """Make the kernel ask for attributes anew, if it knows the node at all."""
        if node == ROOT or node in self._requests.lookups:
            self._invalidate_later(node, is_listing=False)

    def _invalidate_later(self, node: NodeId, *, is_listing: bool) -> None:
        """Make the kernel forget what it knows of a node, after the names that change in this step of the loop.

        After them, since a file whose name was taken shows that it has none: nobody should find it by that name any
        more. The listing too: the kernel has it in its cache, and of a name that it does not know it takes no word.
        """
        if not self._stale:
            self._loop.call_soon(self._invalidate)
        self._stale[node] = is_listing or self._stale.get(node, False)

    async def _caught_up(self) -> None:
        """Return when the kernel was told of everything that has changed until now."""
        await asyncio.sleep(0)  # what changed in this step of the loop is told in the next one
        await self._told()

    def _invalidate(self) -> None:
        for node, is_listing in self._stale.items():
            message = replies.invalidate_listing(node) if is_listing else replies.invalidate_attributes(node)
            self._notifier.send(message)
        self._stale.clear()

    # -- requests

    def _on_readable(self) -> None:
        view = memoryview(self._buffer)
        self._turns.begin(time.monotonic())
        while True:
            try:
                length = os.readv(self._descriptor, [view])
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _GAVE_UP:
                    self._disconnect(error)
                    return
            else:
                self._serve(view[:length])
            if self._turns.is_over(time.monotonic(), is_server_awaited=bool(self._waiting)):
                return
            if not self._is_asked_again():
                return

    def _is_asked_again(self) -> bool:
        """Tell whether there is another request, looking for it for a moment, and in a long turn waiting for one."""
        until_s = time.monotonic() + _SPIN_S
        while not self._poll.poll(0):
            if time.monotonic() > until_s:
                return not self._turns.is_short and bool(self._poll.poll(PAUSE_MS))
        return True

    def _disconnect(self, error: OSError) -> None:
        if error.errno not in _ENDED:
            _log.error("reading from the kernel failed: %s", error)
        self._loop.remove_reader(self._descriptor)
        if not self.disconnected.done():
            self.disconnected.set_result(None)

    def _serve(self, request: memoryview) -> None:
        try:
            header = protocol.read_header(request)
        except MalformedRequest as error:
            _log.error("a request that cannot be answered: %s", error)
            return
        try:
            answer = self._answer(header, request[protocol.HEADER.size :])
        except Exception as error:  # noqa: BLE001 - a failure of whatever kind is answered, and logged if unexpected
            self._refuse(header, error)
            return
        if isinstance(answer, bytes):  # nearly always; asking an abstract class takes a microsecond
            self._send(replies.reply(header.unique, answer))
        elif isinstance(answer, int):
            self._send(replies.error_reply(header.unique, answer))
        elif isinstance(answer, Coroutine):
            self._start_task(header, answer)
        elif answer is not None:
            self._send(replies.reply(header.unique, answer))

    def _answer(self, header: RequestHeader, body: memoryview) -> Answer:
        self.asked[header.opcode] += 1
        own = self._handlers.get(header.opcode)
        if own is not None:
            return own(body)
        if header.pid == self._messenger.pid or header.node >= FIRST_PHANTOM:
            return self.wakes.answer(header, body)
        return self._requests.answer(header, body)

    def _interrupted(self, body: memoryview) -> None:
        self._interrupt(protocol.INTERRUPT_IN.read(body).unique)

    def _init(self, body: memoryview) -> bytes:
        offer = protocol.INIT_IN.read(body)
        if offer.major > protocol.MAJOR:
            return replies.old_major()
        if (offer.major, offer.minor) < (protocol.MAJOR, protocol.OLDEST_MINOR):
            self._refuse_kernel(offer)
            raise fail(errno.EPROTO)
        self.minor = min(offer.minor, protocol.NEWEST_MINOR)
        flags = protocol.read_init_flags(offer, body) & _WANTED
        self._requests.open_files.may_bypass = bool(flags & InitFlag.DIRECT_IO_ALLOW_MMAP)
        if not self.initialised.done():
            self.initialised.set_result(None)
        return replies.init(
            replies.InitOut(
                minor=self.minor,
                max_readahead=protocol.MAX_TRANSFER_BYTES,
                flags=flags,
                max_background=_MAX_BACKGROUND,
                congestion_threshold=_MAX_BACKGROUND * 3 // 4,
            )
        )

    def _refuse_kernel(self, offer: protocol.InitIn) -> None:
        if not self.initialised.done():
            spoken = f"{offer.major}.{offer.minor}"
            needed = f"{protocol.MAJOR}.{protocol.OLDEST_MINOR}"
            self.initialised.set_exception(
                FuseUnavailable(f"the kernel speaks FUSE {spoken}, {needed} is needed", "use --transport fusepy")
            )

    # -- tasks

    def _start_task(self, header: RequestHeader, work: Coroutine[object, object, Buffer]) -> None:
        task = self._loop.create_task(work, name=f"fuse-{Opcode(header.opcode).name.lower()}")
        self._waiting[header.unique] = _Waiting(header, task)
        task.add_done_callback(partial(self._done, header))

    def _done(self, header: RequestHeader, task: asyncio.Task[Buffer]) -> None:
        waiting = self._waiting.pop(header.unique)
        if waiting.next_look is not None:
            waiting.next_look.cancel()
        if task.cancelled():
            self._send(replies.error_reply(header.unique, errno.EINTR))
        elif (error := task.exception()) is not None:
            self._refuse(header, error)
        else:
            self._send(replies.reply(header.unique, task.result()))

    def _interrupt(self, unique: int) -> None:
        """Give up a task whose program is to stop. A request that is not known has been answered already."""
        waiting = self._waiting.get(unique)
        if waiting is None:
            return
        if is_to_stop(waiting.header.pid):
            waiting.task.cancel()
        else:
            waiting.next_look = self._loop.call_later(_INTERRUPT_AGAIN_S, self._interrupt, unique)

    # -- replies

    def _refuse(self, header: RequestHeader, error: BaseException) -> None:
        if isinstance(error, MalformedRequest):
            _log.error("opcode %d: %s", header.opcode, error)
            number = errno.EINVAL
        else:
            number = errno_of(error)
            if not is_expected(error):
                _log.error("unexpected, in opcode %d: %s", header.opcode, error, exc_info=error)
        if header.opcode not in _UNANSWERED:
            self._send(replies.error_reply(header.unique, number))

    def _send(self, message: Sequence[Buffer]) -> None:
        try:
            os.writev(self._descriptor, message)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EPERM, *_ENDED):  # those: nobody waits for this reply any more
                _log.error("a reply was refused: %s", error)
