"""A state is opened on a disk that has not a byte left: what it holds can be read, and made to give way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from engine_harness import Mounted, mounted, run
from model_remote import ModelRemote
from small_disk import MountedDisk, can_mount, mounted_disk

from jobfs.errors import StateFull
from jobfs.model import ROOT, Kind, LocalNode
from jobfs.store.reserve import RESERVE_BYTES
from jobfs.store.state import State

pytestmark = [
    pytest.mark.allow_log("the local store failed"),
    pytest.mark.skipif(not can_mount(), reason="no file system can be mounted here"),
]

SIZES = {"large": 900_000, "small": 5_000}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[MountedDisk]:
    with mounted_disk(tmp_path / "disk") as real:
        yield real


def reserve_of(directory: Path) -> int:
    return (directory / "reserve").stat().st_size


def a_remote() -> ModelRemote:
    remote = ModelRemote()
    for name, size in SIZES.items():
        remote.put(name, os.urandom(size))
    return remote


def here(mount: Mounted) -> set[str]:
    return {node.name for node in mount.session.state.local.entries() if node.blob is not None}


def add_directories(state: State, *names: str) -> None:
    """Change as many rows, each in a commit of its own."""
    for name in names:
        with state.transaction():
            state.put_local(LocalNode(state.allocate(), ROOT, name, Kind.DIRECTORY, mode=0o755))


def test_a_state_is_opened_and_changed_however_often_the_room_it_leaves_is_taken(disk: MountedDisk) -> None:
    State.open(disk.directory).close()
    for life in range(4):
        disk.fill(None)
        with closing(State.open(disk.directory)) as state:
            disk.fill(state)
            add_directories(state, f"{life} first", f"{life} second")
    disk.free(None)
    with closing(State.open(disk.directory)) as state:
        assert (state.check(), len(state.local)) == ([], 1 + 2 * 4)
        assert reserve_of(disk.directory) == RESERVE_BYTES


def test_what_a_killed_process_left_on_a_full_disk_is_opened_there(disk: MountedDisk, tmp_path: Path) -> None:
    State.open(disk.directory).close()
    disk.fill(None)
    with closing(State.open(disk.directory)) as state:
        add_directories(state, "before")
        shutil.copytree(disk.directory, tmp_path / "left")
    disk.free(None)
    shutil.rmtree(disk.directory)
    shutil.copytree(tmp_path / "left", disk.directory)
    disk.fill(None)
    with closing(State.open(disk.directory)) as state:
        add_directories(state, "after")
        assert sorted(node.name for node in state.local.entries()) == ["", "after", "before"]


def test_a_mount_on_a_full_disk_reads_what_is_here_and_what_is_on_the_server_and_sends_what_waits(
    disk: MountedDisk,
) -> None:
    async def scenario() -> None:
        remote = a_remote()
        async with mounted(disk.directory, remote) as mount:
            await mount.read("large")
            await mount.session.stop()
            await mount.write("waiting", b"not sent")
        disk.fill(None)
        async with mounted(disk.directory, remote) as mount:
            assert await mount.read("large") == remote.tree()["large"]
            await mount.settle()
            assert remote.tree()["waiting"] == b"not sent"
            assert await mount.read("small") == remote.tree()["small"]
            assert "large" not in here(mount)

    run(scenario())


def test_where_nothing_is_kept_back_the_message_says_where_room_is_needed_and_nothing_has_changed(
    disk: MountedDisk,
) -> None:
    State.open(disk.directory).close()
    (disk.directory / "reserve").unlink()
    disk.fill(None)
    with pytest.raises(StateFull) as caught:
        State.open(disk.directory)
    assert str(disk.directory) in caught.value.cause
    assert "nothing that was saved is lost" in caught.value.remedy
    disk.free(None)
    with closing(State.open(disk.directory)) as state:
        assert state.check() == []


def test_a_disk_with_room_for_the_index_of_the_log_alone_is_as_good_as_a_full_one(disk: MountedDisk) -> None:
    State.open(disk.directory).close()
    disk.fill(None, room=40 * 1024)
    with closing(State.open(disk.directory)) as state:
        disk.fill(state)
        add_directories(state, *(str(number) for number in range(5)))
        assert len(state.local) == 6
