"""The Linux transport: the FUSE protocol spoken on ``/dev/fuse`` itself, from the asyncio loop, without libfuse.

Here is the life of a mount; what is said on it is in ``connection`` and ``dispatch``. Mounting and unmounting block,
since the kernel may ask us in between, and are therefore done in threads.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from jobfs.errors import FuseUnavailable, MountError, MountPointBusy
from jobfs.fuse import mounting, protocol
from jobfs.fuse.connection import Connection
from jobfs.fuse.options import MountOptions
from jobfs.vfs.operations import Vfs

_INIT_DEADLINE_S = 10.0


def is_supported() -> bool:
    """Tell whether this transport can serve on this machine at all; whether the kernel is new enough, INIT tells."""
    return sys.platform == "linux" and sys.byteorder == "little"


class KernelTransport:
    """One mount. ``mount``, then ``wait_unmounted`` or ``unmount``; not used again. All calls on the loop."""

    name = "kernel"

    def __init__(self) -> None:
        self._point = Path()
        self._connection: Connection | None = None
        self._ended: asyncio.Task[None] | None = None

    @property
    def detail(self) -> str:
        """What ``jobfs status`` says of this transport."""
        minor = self._connection.minor if self._connection is not None else 0
        return f"{self.name} (FUSE {protocol.MAJOR}.{minor})"

    @property
    def requests(self) -> dict[str, int]:
        """How often the kernel has asked for what, by the protocol's names."""
        asked = self._connection.asked if self._connection is not None else {}
        known = set(protocol.Opcode)
        return {protocol.Opcode(code).name if code in known else str(code): count for code, count in asked.items()}

    async def mount(self, vfs: Vfs, mountpoint: Path, options: MountOptions) -> None:
        """Mount a workspace; returns once programs can use it.

        :param vfs: of a started session; it is this transport's alone until the mount has ended.
        :raises MountPointBusy, FuseUnavailable, MountError: see ``mounting.attach``; FuseUnavailable also where the
            kernel is too old for this transport.
        """
        if not is_supported():
            raise FuseUnavailable("this transport needs Linux on a little-endian machine", "use --transport fusepy")
        self._point = mounting.real_place(mountpoint)
        descriptor = await asyncio.to_thread(mounting.attach, self._point, options)
        self._connection = Connection(descriptor, vfs, options)
        self._connection.start()
        self._ended = asyncio.create_task(self._close_when_disconnected(self._connection), name="fuse-end")
        try:
            async with asyncio.timeout(_INIT_DEADLINE_S):
                await asyncio.shield(self._connection.initialised)
        except BaseException as error:
            await self.unmount()
            if isinstance(error, TimeoutError):
                raise MountError("the kernel did not begin to speak FUSE", "use --transport fusepy") from None
            raise
        await asyncio.to_thread(mounting.allow_read_ahead, self._point, protocol.MAX_TRANSFER_BYTES)
        self._wake(self._connection)

    def _wake(self, connection: Connection) -> None:
        mounted = mounting.mount_at(self._point)
        if mounted is not None:
            connection.wakes.begin(self._point, mounted.number)

    @staticmethod
    async def _close_when_disconnected(connection: Connection) -> None:
        await connection.disconnected
        await connection.close()

    async def wait_unmounted(self) -> None:
        """Return once the mount is gone, however it was ended, and every handle is closed."""
        if self._ended is not None:
            await asyncio.shield(self._ended)

    async def unmount(self, *, lazy: bool = True) -> None:
        """Unmount, and return once every handle is closed.

        :param lazy: if programs use the mount, take it away from them all the same: they get ENOTCONN from then on.
        :raises MountPointBusy: programs use it and ``lazy`` was not asked for; it is mounted as before.
        """
        if self._connection is not None and not self._connection.disconnected.done():
            await self._without_waker(partial(self._detach, lazy))
            if not self._connection.disconnected.done():
                self._connection.disconnected.set_result(None)
        await self.wait_unmounted()

    async def detach(self) -> None:
        """Unmount; does not wait for the end.

        :raises MountPointBusy: programs use it; it is mounted as before.
        """
        await self._without_waker(partial(mounting.detach, self._point))

    async def _without_waker(self, detach: Callable[[], None]) -> None:
        """Unmount while nothing of ours is open in the mount."""
        connection = self._connection
        if connection is not None:
            await connection.wakes.close()
        try:
            await asyncio.to_thread(detach)
        except MountPointBusy:
            if connection is not None:
                self._wake(connection)
            raise

    def _detach(self, lazy: bool) -> None:
        try:
            mounting.detach(self._point)
        except MountPointBusy:
            if not lazy:
                raise
            with suppress(MountError):  # it is gone by now: its last user ended
                mounting.detach(self._point, lazy=True)
        except MountError:
            if mounting.mount_at(self._point) is not None:
                raise  # otherwise somebody else unmounted it at the same moment
