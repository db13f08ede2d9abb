"""Real programs on a mount that this process serves, beside the log of the server that it shows.

Never a call of our own thread goes to the mount: the thread that asked would wait for itself.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import shutil
import struct
import termios
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from engine_harness import Mounted
from request_log import Files, RequestLog, on_server

from jobfs.engine.workspace import SystemClock
from jobfs.fuse.fusepy import FusepyTransport
from jobfs.fuse.kernel import KernelTransport
from jobfs.fuse.options import MountOptions

TRANSPORTS = {"kernel": KernelTransport, "fusepy": FusepyTransport}

SLOWER = float(os.environ.get("JOBFS_TOOLS_SLOWER", "50"))
"""How much slower than the machine's the mount's clock is; 1 is real life (scripts/tools)."""

_LEAP_S = 6.0
"""More than anything rests before it is pushed."""

MODULES = Path(__file__).resolve().parents[2] / ".tools" / "node_modules"
"""Where scripts/tools puts modules of Node."""

REQUIRED = bool(os.environ.get("JOBFS_REQUIRE_TOOLS"))


def need(*programs: str) -> None:
    """Skip a test, saying so, where a program is missing; with JOBFS_REQUIRE_TOOLS fail it."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing and REQUIRED:
        pytest.fail(f"not installed: {', '.join(missing)}", pytrace=False)
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (scripts/tools installs and tests all)")


def need_module(name: str) -> Path:
    """Return where modules of Node are, one of them a named one; skip or fail as ``need`` does."""
    need("node")
    if not (MODULES / name).is_dir():
        (pytest.fail if REQUIRED else pytest.skip)(f"not installed: {name} (scripts/tools installs and tests all)")
    return MODULES


class SlowClock(SystemClock):
    """A clock slower than the machine's: the pauses of a program on a busy machine stay short for us."""

    _ahead_s = 0.0

    def monotonic_s(self) -> float:
        """Return seconds, each of which takes several of the machine's."""
        return super().monotonic_s() / SLOWER + self._ahead_s

    def leap(self) -> None:
        """Let so much time pass at once that everything has rested."""
        self._ahead_s += _LEAP_S


class Terminal:
    """A terminal, seen by the person before it.

    :param descriptor: the person's side of it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._came = asyncio.Event()
        self.shown = b""
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            self.shown += os.read(self._descriptor, 1 << 16)
        except OSError:  # the program has ended
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._came.set()

    async def shows(self, text: bytes) -> None:
        """Return once a text is shown that was not before the last ``type``."""
        async with asyncio.timeout(30):
            while text not in self.shown:
                self._came.clear()
                await self._came.wait()

    def type(self, keys: bytes) -> None:
        """Type keys."""
        self.shown = b""
        os.write(self._descriptor, keys)

    def close(self) -> None:
        """Look away."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)


class Programs:
    """Runs programs in a mount.

    :param point: where the mount is.
    """

    def __init__(self, point: Path) -> None:
        self.point = point

    async def run(self, *words: str | Path, **environment: str) -> str:
        """Run a program in the mount; return what it prints. It must succeed."""
        program = await asyncio.create_subprocess_exec(
            *self._in_mount(words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment(environment),
        )
        try:
            printed, _ = await program.communicate()
        except BaseException:
            with suppress(ProcessLookupError):
                program.kill()
            raise
        assert program.returncode == 0, printed.decode()
        return printed.decode()

    @asynccontextmanager
    async def on_terminal(self, *words: str | Path) -> AsyncIterator[Terminal]:
        """Run a program in the mount that a person uses on a terminal; it must end well, once the work is done."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        program = await asyncio.create_subprocess_exec(
            *self._in_mount(words),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=self._environment({"TERM": "xterm"}),
            start_new_session=True,
        )
        os.close(theirs)
        terminal = Terminal(ours)
        try:
            yield terminal
            async with asyncio.timeout(30):
                assert await program.wait() == 0, terminal.shown.decode(errors="replace")
        finally:
            if program.returncode is None:
                program.kill()
                await program.wait()
            terminal.close()

    def _in_mount(self, words: Sequence[str | Path]) -> list[str]:
        # By a shell, since what is given as ``cwd`` is entered before this process goes on.
        return ["sh", "-c", 'cd "$0" && exec "$@"', str(self.point), *map(str, words)]

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        home = str(self.point.parent)
        own = {"HOME": home, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8"}
        return {**os.environ, **own, **more}

    async def git(self, *words: str) -> str:
        """Run git."""
        return await self.run("git", "-c", "user.name=u", "-c", "user.email=u@localhost", *words)

    async def vim(self, path: str, text: str, backup_copy: str) -> None:
        """Open a file, set its first line, save, and leave."""
        commands = [f"set backupskip= writebackup backupcopy={backup_copy}", f"call setline(1, '{text}')", "wq"]
        await self.run("vim", *vim_words(commands), path)


def vim_words(commands: Sequence[str]) -> list[str]:
    """Return the arguments with which vim does so many commands and nothing of its own."""
    return ["-u", "NONE", "-i", "NONE", "-es", *(word for command in commands for word in ("-c", command))]


@asynccontextmanager
async def served(mount: Mounted, folder: Path, transport: str) -> AsyncIterator[Programs]:
    """Let real programs use a mount."""
    point = folder / "mnt"
    point.mkdir()
    fuse = TRANSPORTS[transport]()
    await fuse.mount(mount.vfs, point, MountOptions("jobfs#tools"))
    try:
        yield Programs(point)
    finally:
        await fuse.unmount()


class Desk:
    """A workspace on the embedded server, mounted, with programs to use it and the server's log.

    Attributes: ``log``, ``mount``, ``programs``; ``outside``, an empty directory that is in no mount.
    """

    def __init__(self, log: RequestLog, mount: Mounted, programs: Programs, *, clock: SlowClock, outside: Path) -> None:
        self._clock = clock
        self._stops = 0
        self.log = log
        self.mount = mount
        self.programs = programs
        self.run = programs.run
        self.outside = outside

    async def read(self, path: str) -> bytes:
        """Have a program read a file, and forget what that asked of the server."""
        await self.run("cat", path)
        await self.settle()
        self.log.forget()
        return await asyncio.to_thread((self.programs.point / path).read_bytes)

    async def stat(self, path: str) -> os.stat_result:
        """Ask the kernel for a stat."""
        return await asyncio.to_thread(os.stat, self.programs.point / path)

    async def settle(self) -> None:
        """Push everything, and take in what the server then lists."""
        for _ in range(2):
            self._clock.leap()
            await self.mount.settle()
            await self.mount.session.feed.poll()

    @property
    def asked(self) -> list[str]:
        """What the server was asked, but for the looks that ``settle`` takes."""
        return [word for word in self.log.asked if word not in ("status", "list")]

    @property
    def job(self) -> str:
        """The job whose workspace this is."""
        return self.log.job

    @property
    def tree(self) -> Files:
        """What is on the server now."""
        return self.log.now

    def stop(self) -> Stop:
        """Return a place at which a program can wait for us; not in the mount."""
        self._stops += 1
        return Stop(self.outside / f"stop-{self._stops}")


class Stop:
    """Where a program stops, tells so, and waits until it may go on.

    Attributes: ``words``, the command with which it does.
    """

    def __init__(self, place: Path) -> None:
        self._here, self._go_on = place.with_suffix(".here"), place.with_suffix(".go-on")
        for path in (self._here, self._go_on):
            os.mkfifo(path)
        self.words = f"echo > '{self._here}'; cat '{self._go_on}'"

    async def reached(self) -> None:
        """Return once a program is there."""
        await asyncio.to_thread(self._here.read_bytes)

    async def leave(self) -> None:
        """Let it go on."""
        await asyncio.to_thread(self._go_on.write_bytes, b"")


@asynccontextmanager
async def at_desk(log: RequestLog, folder: Path, files: Files, transport: str = "kernel") -> AsyncIterator[Desk]:
    """Mount a job that has ended, for programs; the log begins after the mount."""
    outside = folder / "outside"
    outside.mkdir()
    clock = SlowClock()
    async with (
        on_server(log, folder / "state", files, clock=clock) as mount,
        served(mount, folder, transport) as programs,
    ):
        yield Desk(log, mount, programs, clock=clock, outside=outside)
