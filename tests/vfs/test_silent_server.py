"""No program waits for ever: servers that say nothing, and servers that say next to nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from pathlib import Path

import pytest
from engine_harness import QUICK, eventually, mounted, run
from model_remote import ModelRemote

from jobfs.engine.session import Options
from jobfs.errors import DeadlineExceeded
from jobfs.model import Item, Permission

DEADLINE_S = 0.2
SOON_S = 2.0


class SilentRemote(ModelRemote):
    """A server that can stop answering creates, listings, or whatever else waits for ``answers``."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()
        self.answers.set()
        self.status_s = 0.0

    async def create_file(self, path: str, permission: Permission, source: Path | bytes, mime_type: str) -> Item:
        await self.answers.wait()
        return await super().create_file(path, permission, source, mime_type)

    async def status(self) -> str:
        await self.answers.wait()
        await asyncio.sleep(self.status_s)
        return await super().status()


def drips(remote: ModelRemote, chunk_bytes: int) -> None:
    """Have a server send so many bytes every tenth of the deadline."""

    async def rest(at: int) -> None:
        await asyncio.sleep(DEADLINE_S / 10)

    remote.chunk_bytes = chunk_bytes
    remote.before_chunk = rest


OPTIONS = Options(times=QUICK, read_deadline_s=DEADLINE_S)


@pytest.mark.parametrize("way", ["write_through", "durable_remotely"])
def test_waiting_for_the_server_in_close_or_fsync_ends_at_the_deadline_and_the_file_is_sent_later(
    tmp_path: Path, way: str
) -> None:
    async def scenario() -> None:
        remote = SilentRemote()
        async with mounted(tmp_path, remote, options=OPTIONS) as mount:
            setattr(mount.vfs, way, True)
            remote.answers.clear()
            parent, name = mount.place("new")
            _, handle = mount.vfs.create(parent, name, mode=0o644, flags=os.O_WRONLY)
            await mount.vfs.write(handle, b"kept", 0)
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await (mount.vfs.flush(handle) if way == "write_through" else mount.vfs.fsync(handle))
            assert time.monotonic() - began < SOON_S
            mount.vfs.release(handle)
            remote.answers.set()
            await mount.settle()
            assert remote.tree() == {"new": b"kept"}

    run(scenario())


def test_a_server_that_drips_is_no_better_than_a_silent_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = SilentRemote()
        remote.put("a", b"x" * 1000)
        async with mounted(tmp_path, remote, options=OPTIONS) as mount:
            drips(remote, chunk_bytes=1)
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await mount.read("a")
            assert time.monotonic() - began < SOON_S

    run(scenario())


def test_a_server_that_is_slow_but_steady_is_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = SilentRemote()
        remote.put("a", data := b"0123456789" * 500)
        async with mounted(tmp_path, remote, options=OPTIONS) as mount:
            drips(remote, chunk_bytes=100)
            began = time.monotonic()
            assert await mount.read("a") == data
            assert time.monotonic() - began > 3 * DEADLINE_S

    run(scenario())


def test_opening_a_version_that_is_gone_does_not_wait_for_a_listing_that_does_not_come(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = SilentRemote()
        remote.put("a", b"old")
        async with mounted(tmp_path, remote, options=OPTIONS) as mount:
            handle = mount.vfs.open(mount.node("a"), os.O_RDONLY)
            remote.put("a", b"newer")
            remote.answers.clear()
            async with asyncio.timeout(SOON_S):
                with pytest.raises(OSError, match="Stale"):
                    await mount.vfs.confirm(handle)
            assert mount.vfs.table.handles == {}

    run(scenario())


def test_opening_a_version_that_is_gone_does_not_wait_for_the_feeds_rest(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = SilentRemote()
        remote.put("a", b"old")
        remote.status_s = 1.0  # upon which the feed rests for 19 s
        async with mounted(tmp_path, remote) as mount:
            await mount.session.feed.refresh()
            remote.status_s = 0.0
            handle = mount.vfs.open(mount.node("a"), os.O_RDONLY)
            remote.put("a", b"newer")
            async with asyncio.timeout(SOON_S):
                with pytest.raises(OSError, match="Stale"):
                    await mount.vfs.confirm(handle)
            assert await mount.read("a") == b"newer"

    run(scenario())


def test_a_rename_that_would_have_to_wait_for_bytes_is_left_to_the_program(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = SilentRemote()
        remote.put("a", b"not here yet")
        async with mounted(tmp_path, remote) as mount:
            parent, name = mount.place(".git")
            mount.vfs.namespace.make(parent, name, mount.vfs.namespace.record(parent).kind)
            remote.gate.clear()
            async with asyncio.timeout(SOON_S):
                with pytest.raises(OSError, match="cross-device") as refused:
                    await mount.rename("a", ".git/a")
            assert refused.value.errno == errno.EXDEV
            remote.gate.set()
            await eventually(lambda: mount.vfs.namespace.record(mount.node("a")).blob is not None)
            await mount.rename("a", ".git/a")
            assert await mount.read(".git/a") == b"not here yet"

    run(scenario())


def test_who_asks_for_a_listing_gets_one_though_the_last_one_took_long(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = SilentRemote()
        async with mounted(tmp_path, remote) as mount:
            remote.status_s = 1.0  # upon which the feed would rest for 19 s
            await mount.session.feed.refresh()
            remote.status_s = 0.0
            remote.put("a", b"new")
            async with asyncio.timeout(SOON_S):
                await mount.session.feed.refresh(is_urgent=True)
            await eventually(lambda: mount.names() == ["a"])

    run(scenario())
