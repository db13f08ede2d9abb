"""A full disk on which copies lie that the server has too: they give way, and nothing else does."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from engine_harness import Mounted, mounted, run
from failing_disk import FailingDisk
from model_remote import ModelRemote, refuse_changes
from small_disk import MIB, MountedDisk, can_mount, mounted_disk

from jobfs.errors import StateFull
from jobfs.fuse.errno import errno_of
from jobfs.model import ROOT
from jobfs.store.reserve import RESERVE_BYTES
from jobfs.store.state import State

pytestmark = pytest.mark.allow_log("the local store failed")

needs_disk = pytest.mark.skipif(not can_mount(), reason="no file system can be mounted here")

CACHED = {"large": 700_000, "middle": 300_000, "small": 5_000}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[MountedDisk]:
    with mounted_disk(tmp_path / "disk") as real:
        yield real


@pytest.fixture
def failing() -> FailingDisk:
    return FailingDisk()


def here(mount: Mounted) -> set[str]:
    """Return the files whose bytes are here."""
    return {node.name for node in mount.session.state.local.entries() if node.blob is not None}


def reserve_of(directory: Path) -> int:
    return (directory / "reserve").stat().st_size


async def cached(mount: Mounted) -> None:
    for name in CACHED:
        await mount.read(name)
    assert here(mount) == CACHED.keys()


async def write_without_room(disk: MountedDisk, mount: Mounted, size: int) -> None:
    """Write a file on a disk that has none: it reaches the server, and room is kept back again."""
    disk.fill(mount.session.state)
    await mount.write("new", bytes(size))
    await mount.settle()
    assert mount.remote.tree()["new"] == bytes(size)
    assert reserve_of(disk.directory) == RESERVE_BYTES


def a_remote() -> ModelRemote:
    remote = ModelRemote()
    for name, size in CACHED.items():
        remote.put(name, os.urandom(size))
    return remote


@needs_disk
def test_on_a_disk_without_any_room_a_write_succeeds_where_clean_copies_can_give_way(disk: MountedDisk) -> None:
    async def scenario() -> None:
        async with mounted(disk.directory, a_remote()) as mount:
            await cached(mount)
            await write_without_room(disk, mount, 200_000)
            assert "large" not in here(mount)
            assert mount.session.offline is None

    run(scenario())


@needs_disk
def test_on_a_disk_without_any_room_a_file_is_read_in_place_of_others(disk: MountedDisk) -> None:
    async def scenario() -> None:
        remote = a_remote()
        data = os.urandom(900_000)
        remote.put("unread", data)
        async with mounted(disk.directory, remote) as mount:
            await cached(mount)
            disk.fill(mount.session.state)
            assert await mount.read("unread") == data
            assert reserve_of(disk.directory) == RESERVE_BYTES

    run(scenario())


@needs_disk
def test_many_small_copies_give_way_with_no_more_room_than_the_reserve(disk: MountedDisk) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        for number in range(300):
            remote.put(f"file-{number}", bytes([number % 251]) * 3000)
        async with mounted(disk.directory, remote) as mount:
            for number in range(300):
                await mount.read(f"file-{number}")
            await write_without_room(disk, mount, 300_000)

    run(scenario())


@needs_disk
def test_what_only_this_machine_has_never_gives_way_and_is_sent_from_a_disk_without_any_room(disk: MountedDisk) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.before = refuse_changes
        async with mounted(disk.directory, remote) as mount:
            await mount.write("dirty", bytes(MIB))
            await mount.write("ignored.swp", b"only here")
            disk.fill(mount.session.state)
            with pytest.raises(StateFull) as caught:
                await mount.write("more", bytes(MIB))
            assert errno_of(caught.value) == errno.ENOSPC
            assert here(mount) >= {"dirty", "ignored.swp"}
            remote.before = lambda call, subject: None
            await mount.settle()
            assert remote.tree()["dirty"] == bytes(MIB)
            assert await mount.read("ignored.swp") == b"only here"

    run(scenario())


@needs_disk
def test_what_was_written_is_closed_on_a_disk_without_any_room(disk: MountedDisk) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        async with mounted(disk.directory, remote) as mount:
            _, handle = mount.vfs.create(ROOT, "a", mode=0o644, flags=os.O_WRONLY)
            await mount.vfs.write(handle, b"written", 0)
            disk.fill(mount.session.state)
            await mount.vfs.flush(handle)
            mount.vfs.release(handle)
            await mount.settle()
            assert mount.session.state.check() == []
        assert remote.tree() == {"a": b"written"}

    run(scenario())


@pytest.mark.parametrize("call", ["pwrite", "open", "INSERT", "COMMIT"])
def test_what_finds_no_room_for_a_moment_is_tried_again_when_copies_gave_way(
    tmp_path: Path, failing: FailingDisk, call: str
) -> None:
    async def scenario() -> None:
        remote = a_remote()
        async with mounted(tmp_path, remote, disk=failing) as mount:
            await cached(mount)
            with failing.failing(call, number=errno.ENOSPC, times=1):
                await mount.write("new", b"x")  # of more there could be a short write
            assert here(mount) == {"new"}  # a megabyte goes at least, and that is all of it
            await mount.settle()
        assert remote.tree()["new"] == b"x"

    run(scenario())


def test_an_open_file_and_one_that_is_being_read_do_not_give_way(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, a_remote()) as mount:
            await cached(mount)
            handle = mount.vfs.open(mount.node("large"), os.O_RDONLY)
            blob = mount.session.state.local.get(mount.node("middle"))
            assert blob is not None
            assert blob.blob is not None
            with mount.session.state.blobs.pinned(blob.blob):
                assert mount.session.cache.make_room()
                assert here(mount) == {"large", "middle"}
            mount.vfs.release(handle)

    run(scenario())


def test_where_nothing_can_give_way_that_is_found_out_once_a_second_and_not_at_every_write(
    tmp_path: Path, failing: FailingDisk
) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, ModelRemote(), disk=failing) as mount:
            _, handle = mount.vfs.create(ROOT, "a", mode=0o644, flags=os.O_WRONLY)
            with failing.failing("pwrite", number=errno.ENOSPC):
                for _ in range(50):
                    with pytest.raises(StateFull):
                        await mount.vfs.write(handle, b"x", 0)
            assert failing.asked("ftruncate") <= 1
            mount.vfs.release(handle)

    run(scenario())


@pytest.mark.parametrize("call", ["open", "ftruncate", "INSERT", "COMMIT", "write", "unlink"])
def test_room_that_cannot_be_made_leaves_a_state_that_holds_together(
    tmp_path: Path, failing: FailingDisk, call: str
) -> None:
    async def scenario() -> None:
        remote = a_remote()
        async with mounted(tmp_path, remote, disk=failing) as mount:
            await cached(mount)
            with failing.failing(call, number=errno.EIO):
                mount.session.cache.make_room()
            assert mount.session.state.check() == []
            for name in CACHED:
                assert await mount.read(name) == remote.tree()[name]
        with closing(State.open(tmp_path)) as state:
            assert state.check() == []
            assert reserve_of(tmp_path) == RESERVE_BYTES

    run(scenario())
