"""What is under way over a connection, and what waits to be sent."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import httpx
import pytest

from jobfs.api import sockets
from jobfs.api.body import FilePart, Multipart
from jobfs.api.call import Timeouts
from jobfs.api.direct import DirectTransport

DEADLINE_S = 10.0
LIMITS = Timeouts()
MIB = 1 << 20


def no_tls() -> NoReturn:
    raise AssertionError("plain addresses need no certificates")


def system(folder: Path, *, allowed: int, grows_to: int) -> Path:
    """Return the settings of a system."""
    for name, text in (("core/wmem_max", f"{allowed}\n"), ("ipv4/tcp_wmem", f"4096\t16384\t{grows_to}\n")):
        path = folder / name
        path.parent.mkdir()
        path.write_text(text)
    return folder


def asked_size(found: tuple[sockets.Option, ...]) -> int | None:
    return next((value for level, name, value in found if (level, name) == (socket.SOL_SOCKET, socket.SO_SNDBUF)), None)


def test_a_system_that_allows_more_than_it_does_by_itself_is_asked_for_it(tmp_path: Path) -> None:
    found = sockets.buffering(system(tmp_path, allowed=4 * MIB, grows_to=4 * MIB))
    assert asked_size(found) == 4 * MIB
    assert len(found) == 2  # and for little that waits to be sent


def test_nobody_is_asked_for_more_than_a_fast_line_needs(tmp_path: Path) -> None:
    assert asked_size(sockets.buffering(system(tmp_path, allowed=512 * MIB, grows_to=4 * MIB))) == 4 * MIB


@pytest.mark.parametrize(("allowed", "grows_to"), [(212_992, 4 * MIB), (2 * MIB, 4 * MIB), (512 * MIB, 512 * MIB)])
def test_a_system_that_does_as_much_by_itself_is_left_to_that(tmp_path: Path, allowed: int, grows_to: int) -> None:
    assert sockets.buffering(system(tmp_path, allowed=allowed, grows_to=grows_to)) == ()


def test_a_system_that_does_not_tell_is_left_to_itself(tmp_path: Path) -> None:
    assert sockets.buffering(tmp_path) == ()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such options")
def test_an_upload_over_the_slowest_line_is_seen_to_move_within_the_idle_limit(run, tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.write_bytes(bytes(32 * MIB))
    body = Multipart([], [FilePart("file", "large", source, "")])
    moved = asyncio.Event()

    async def content() -> AsyncIterator[bytes]:
        async for chunk in body.chunks():
            moved.set()
            yield chunk

    async def take(connection: socket.socket) -> None:
        """Take what the slowest line takes within the limit, again and again until everything between us is full."""
        for _ in range(40):
            moved.clear()
            left = int(LIMITS.idle_s * LIMITS.slowest_bytes_per_s)
            while left:
                left -= len(await asyncio.get_running_loop().sock_recv(connection, left))
            async with asyncio.timeout(DEADLINE_S):
                await moved.wait()

    async def main(far: socket.socket) -> None:
        carrier = DirectTransport(no_tls, sockets.buffering(system(tmp_path, allowed=4 * MIB, grows_to=4 * MIB)))
        request = httpx.Request(
            "POST",
            f"http://127.0.0.1:{far.getsockname()[1]}/",
            headers={"Content-Length": str(body.length)},
            content=content(),
            extensions={"timeout": {"connect": DEADLINE_S, "read": DEADLINE_S, "write": DEADLINE_S}},
        )
        sending = asyncio.create_task(carrier.handle_async_request(request))
        connection, _ = await asyncio.get_running_loop().sock_accept(far)
        with connection:
            await take(connection)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await carrier.aclose()

    with socket.socket() as far:
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        far.bind(("127.0.0.1", 0))
        far.listen()
        far.setblocking(False)
        run(main(far))
