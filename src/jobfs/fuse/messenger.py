"""The waker's process, as the daemon has it: started, sent on errands, ended. See ``waker``.

**A request of the waker is never taken for that of a program.** So its process number is known before its first request
and is forgotten only after its last one, when it is dead; and it is not given to another process before it is
forgotten, since until then nobody has asked for the dead one's exit status.

All calls from the loop's thread. The loop must go on serving the mount: what blocks is done in threads.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from jobfs.fuse import waker

NOBODY = -1
"""The process number where there is no waker; the kernel gives 0 for processes that it cannot name to us."""

_PATIENCE_S = 10.0
"""Errands take less than a millisecond each, and longer only while a program has a directory to itself."""

_INHERITED = ("LD_LIBRARY_PATH",)


class WakerLost(Exception):
    """There is no waker any more, or there cannot be one; its text says why."""


class Messenger:
    """At most one waker for one mount. ``pid`` is that of the process, or ``NOBODY``."""

    def __init__(self) -> None:
        self._spawning: asyncio.Task[subprocess.Popen[bytes]] | None = None
        self._errands: socket.socket | None = None
        self.pid = NOBODY

    @property
    def is_there(self) -> bool:
        """Whether there is a waker."""
        return self._spawning is not None

    async def start(self, place: Path, device: int) -> None:
        """Start the waker.

        :param place: where the mount is. :param device: its ``st_dev``.
        :raises WakerLost: there can be no more processes.
        """
        self._errands, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errands.setblocking(False)
        self._errands.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * waker.MAX_MESSAGE_BYTES)
        self._spawning = asyncio.create_task(asyncio.to_thread(_spawn, theirs, place, device), name="fuse-waker")
        try:
            process = await asyncio.shield(self._spawning)  # whoever ends us meanwhile has it ended as well
        except OSError as error:
            raise WakerLost(f"no process could be started: {error}") from error
        self.pid = process.pid

    async def ask(self, errands: Iterable[tuple[bytes, Iterable[tuple[str, int, str]]]]) -> list[int]:
        """Have errands done, one after the other.

        :param errands: the verb and the places of each: the path of a directory, its inode number, and a name.
        :return: for each its errno, or 0.
        :raises WakerLost: the waker is dead, or does not come back.
        """
        if self._errands is None:
            raise WakerLost("it was never started")
        words: list[bytes] = []
        for verb, places in errands:
            words.append(verb)
            for path, inode, name in places:
                words += [os.fsencode(path), b"%d" % inode, os.fsencode(name)]
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await loop.sock_sendall(self._errands, waker.SEPARATOR.join(words))
                answer = await loop.sock_recv(self._errands, waker.MAX_MESSAGE_BYTES)
        except TimeoutError:
            raise WakerLost(f"it has not come back within {_PATIENCE_S:.0f} s") from None
        except OSError as error:
            raise WakerLost(f"it cannot be reached: {error}") from error
        if not answer:
            raise WakerLost("it has died")
        return [int(number) for number in answer.split()]

    async def stop(self) -> None:
        """End the waker, if there is one. Its last request is answered meanwhile."""
        if self._errands is not None:
            self._errands.close()
            self._errands = None
        spawning, self._spawning = self._spawning, None
        if spawning is not None:
            with suppress(OSError):  # it could not be started
                await self._end(await spawning)

    async def _end(self, process: subprocess.Popen[bytes]) -> None:
        os.kill(process.pid, signal.SIGKILL)  # not process.kill, which asks for the exit status first
        await asyncio.to_thread(os.waitid, os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self.pid = NOBODY
        process.wait()  # at once, since it is dead


def _spawn(theirs: socket.socket, place: Path, device: int) -> subprocess.Popen[bytes]:
    # -I: what lies beside it must not be taken for modules of Python; and it needs none but those.
    words = [sys.executable, "-I", "-S", waker.__file__, str(place), str(device), str(os.getpid())]
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    with theirs:
        return subprocess.Popen(
            words, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, cwd="/", env=environment, start_new_session=True
        )
