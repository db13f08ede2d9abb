"""Runs one command to its end: its own process group, a time limit, its output kept in part, nothing left running.

Knows nothing of jobs or workspaces. POSIX process groups are used where there are any.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, unique
from pathlib import Path

OUTPUT_LIMIT = 64 * 1024
"""Bytes of output that are kept: the last ones."""

GRACE_S = 5.0
"""Seconds between asking a command to end and killing it."""

_DRAIN_S = 1.0
"""Seconds to read what is left in the pipe of a command that has ended."""

_INHERITED = re.compile(r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|TEMP|TMP|SYSTEMROOT")
"""What a command sees of the server's own environment: where things are, and nothing that could be a key."""

_SHORTEST_SECRET = 4
"""Shorter values would blot out harmless text and hide nothing."""


@unique
class Ending(Enum):
    """Why a command is no longer running."""

    EXITED = "exited"
    TIMED_OUT = "timed out"
    STOPPED = "stopped"
    NOT_STARTED = "not started"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended.

    :param exit_code: of a command that exited; negative for the signal that killed it.
    :param output: the end of what it wrote to standard output and error, without the values of secrets.
    :param trouble: why it was not started; else empty.
    """

    ending: Ending
    exit_code: int = 0
    output: str = ""
    trouble: str = ""


def environment(*layers: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command: a few of the server's own variables, then each layer over the one before."""
    merged = {name: value for name, value in os.environ.items() if _INHERITED.fullmatch(name)}
    for layer in layers:
        merged |= layer
    return merged


async def run(
    words: Sequence[str],
    *,
    folder: Path,
    variables: Mapping[str, str],
    secrets: Iterable[str],
    timeout_s: float,
    stop: asyncio.Event,
    grace_s: float = GRACE_S,
) -> Outcome:
    """Run a command and wait until it and every process of its group have ended.

    :param folder: its working directory.
    :param variables: its whole environment.
    :param secrets: values that must not stay in the output.
    :param stop: ends the command when it is set.
    :param grace_s: seconds between asking it to end and killing it.
    """
    output = Output(secrets)
    read_end, write_end = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            cwd=folder,
            env=dict(variables),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=write_end,
            stderr=write_end,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        os.close(read_end)
        # ValueError: a NUL in an argument or a value. The error's text names the program, never a value.
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Outcome(Ending.NOT_STARTED, trouble=f"cannot start {words[0]}: {reason}")
    finally:
        os.close(write_end)
    reading = asyncio.create_task(_read(read_end, output))
    try:
        ending = await _ending(process, timeout_s, stop)
    finally:
        await _end_group(process, grace_s)
        # A process that left the group may hold the pipe open; nothing it still writes is waited for.
        await asyncio.wait({reading}, timeout=_DRAIN_S)
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
    return Outcome(ending, process.returncode or 0, output.text())


async def _read(read_end: int, output: Output) -> None:
    """Collect what comes through a pipe of our own.

    Not asyncio's: with that one, waiting for the process would also wait for everybody who has inherited the pipe.
    """
    reader = asyncio.StreamReader()
    pipe = os.fdopen(read_end, "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        while chunk := await reader.read(64 * 1024):
            output.add(chunk)
    finally:
        transport.close()


async def _ending(process: asyncio.subprocess.Process, timeout_s: float, stop: asyncio.Event) -> Ending:
    exited = asyncio.create_task(process.wait())
    stopped = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({exited, stopped}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        exited.cancel()
        stopped.cancel()
    if exited in done:
        return Ending.EXITED
    return Ending.STOPPED if stopped in done else Ending.TIMED_OUT


async def _end_group(process: asyncio.subprocess.Process, grace_s: float) -> None:
    """Ask what is left of the group to end, and kill it when the grace is over."""
    if process.returncode is None:
        _signal_group(process, signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), grace_s)
    # A group lives, and keeps its number, as long as any member runs; the first process may have left others behind.
    _signal_group(process, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    await process.wait()


def _signal_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        # PermissionError is macOS's answer for a group of which only the dead first process is left.
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


class Output:
    """The end of what a command wrote, without the values of secrets."""

    def __init__(self, secrets: Iterable[str], limit: int = OUTPUT_LIMIT) -> None:
        self._secrets = sorted(
            {value.encode("utf-8", "surrogatepass") for value in secrets if len(value) >= _SHORTEST_SECRET}, key=len
        )
        self._limit = limit
        self._kept = bytearray()
        self._is_clipped = False

    def add(self, chunk: bytes) -> None:
        """Append what was written."""
        self._kept += chunk
        # Cut in big steps, not for every chunk.
        if len(self._kept) > 2 * self._limit:
            del self._kept[: -self._limit]
            self._is_clipped = True

    def text(self) -> str:
        """Return it as text."""
        kept = bytes(self._kept)
        is_clipped = self._is_clipped or len(kept) > self._limit
        kept = kept[-self._limit :]
        if is_clipped:
            kept = self._without_torn_secret(kept)
        for secret in reversed(self._secrets):  # the longest first: one may contain another
            kept = kept.replace(secret, b"***")
        return ("[...]\n" if is_clipped else "") + kept.decode("utf-8", "replace")

    def _without_torn_secret(self, kept: bytes) -> bytes:
        """Cut away the rest of a secret whose beginning fell off."""
        torn = 0
        for secret in self._secrets:
            rests = (length for length in range(len(secret) - 1, 0, -1) if kept.startswith(secret[-length:]))
            torn = max(torn, next(rests, 0))
        return kept[torn:]
