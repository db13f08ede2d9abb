"""A power cut, also after the disk has failed: what the store then says is there is there, with those bytes."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from engine_harness import QUICK, Mounted, mounted, run
from model_remote import ModelRemote
from power_cut import CachedDisk, told_wrong

from jobfs.engine.session import Options
from jobfs.errors import StateError
from jobfs.model import ROOT, Content, Kind, LocalNode
from jobfs.planner.retention import Wanted
from jobfs.store.state import State

pytestmark = pytest.mark.allow_log("the local store failed")

NO_HISTORY = Options(times=QUICK, history=Wanted(limit_bytes=0))


async def synced_write(mount: Mounted, path: str, data: bytes) -> None:
    """Write into a file in place, and wait for the disk."""
    handle = mount.vfs.open(mount.node(path), os.O_RDWR)
    try:
        await mount.vfs.write(handle, data, 0)
        await mount.vfs.fsync(handle)
    finally:
        mount.vfs.release(handle)


async def story(mount: Mounted) -> None:
    """Do whatever makes a blob needless."""
    for name in ("a", "b", "c"):
        await mount.read(name)
    await synced_write(mount, "a", b"written in place, and on the disk")
    await mount.write("a", b"emptied and written")
    await synced_write(mount, "b", b"B")
    await mount.write("new", b"saved as an editor does")
    await mount.rename("new", "b")
    mount.vfs.unlink(*mount.place("c"))
    await mount.settle()
    mount.remote.put("a", b"written there")
    await mount.pull()
    await mount.read("a")
    mount.session.cache.make_room()
    await mount.read("b")
    await synced_write(mount, "b", b"once more")
    await mount.settle()


def check_after(cut: AbstractContextManager[State]) -> None:
    """Make sure that what is found after an end holds together, with the bytes that it says."""
    with cut as state:
        assert state.check() == []
        assert told_wrong(state) == []


def a_remote() -> ModelRemote:
    remote = ModelRemote()
    for name in ("a", "b", "c"):
        remote.put(name, name.encode() * 5000)
    return remote


@pytest.mark.parametrize("options", [Options(times=QUICK), NO_HISTORY], ids=["history", "no history"])
def test_no_row_that_a_power_cut_brings_back_names_bytes_that_are_gone_or_changed(
    tmp_path: Path, options: Options
) -> None:
    async def scenario() -> None:
        disk = CachedDisk(tmp_path)
        async with mounted(tmp_path, a_remote(), disk=disk, options=options) as mount:
            disk.on_moment = lambda: check_after(disk.after_power_cut())
            await story(mount)
        check_after(disk.after_power_cut())

    run(scenario())


@pytest.mark.parametrize("failing", range(4))
def test_what_a_commit_that_failed_may_have_left_names_no_bytes_that_are_gone(tmp_path: Path, failing: int) -> None:
    async def scenario() -> None:
        disk, waits = CachedDisk(tmp_path), 0

        def fails() -> bool:
            nonlocal waits
            waits += 1
            return waits == failing + 1

        def moment() -> None:
            check_after(disk.after_power_cut())
            check_after(disk.after_death())

        async with mounted(tmp_path, a_remote(), disk=disk, options=NO_HISTORY) as mount:
            for name in ("a", "b", "c"):
                await mount.read(name)
            disk.fails, disk.on_moment = fails, moment
            failed = 0
            for name in ("a", "b", "c", "a"):
                try:
                    await synced_write(mount, name, f"{name} in place".encode())
                except StateError:
                    failed += 1
            await mount.write("b", b"emptied and written")
            await mount.settle()
            assert failed == 1
        check_after(disk.after_power_cut())

    run(scenario())


def test_new_bytes_that_a_failed_commit_may_name_stay_until_it_cannot_come_back(tmp_path: Path) -> None:
    disk = CachedDisk(tmp_path)
    state = State.open(tmp_path, connect=disk.connect, system=disk)
    blob = state.blobs.allocate()
    os.close(state.blobs.open(blob, create=True))
    disk.fails = lambda: True
    with pytest.raises(StateError), state.transaction(durable=True):
        state.put_local(LocalNode(state.allocate(), ROOT, "new", Kind.FILE, content=Content(0), blob=blob))
    state.blobs.discard(blob)
    with disk.after_death() as found:
        assert [node.name for node in found.local.entries() if node.blob] == ["new"]  # told as failed, and there
        assert found.check() == []
    disk.fails = lambda: False
    assert state.finish_removals() == 0
    assert not state.blobs.has(blob)
    with disk.after_power_cut() as found:
        assert len(found.local) == 1
    state.close()


def test_a_wait_for_the_disk_after_one_that_failed_waits_for_what_that_left_unwritten(tmp_path: Path) -> None:
    """Systems take what they could not write for written: the second wait alone would be told that all is well."""
    disk = CachedDisk(tmp_path)
    state = State.open(tmp_path, connect=disk.connect, system=disk)
    made = [
        LocalNode(state.allocate(), ROOT, name, Kind.DIRECTORY, mode=0o755) for name in ("before", "failed", "after")
    ]
    with state.transaction():
        state.put_local(made[0])
    disk.fails = lambda: True
    with pytest.raises(StateError), state.transaction(durable=True):
        state.put_local(made[1])
    disk.fails = lambda: False
    with state.transaction(durable=True):
        state.put_local(made[2])
    with disk.after_power_cut() as found:
        assert sorted(node.name for node in found.local.entries()) == ["", "after", "before"]
    state.close()


def test_a_commit_that_changes_nothing_waits_for_those_before_it(tmp_path: Path) -> None:
    disk = CachedDisk(tmp_path)
    state = State.open(tmp_path, connect=disk.connect, system=disk)
    with state.transaction():
        state.put_local(LocalNode(state.allocate(), ROOT, "made", Kind.DIRECTORY, mode=0o755))
    with state.transaction(durable=True):
        """As an fsync of what is as it was."""
    with disk.after_power_cut() as found:
        assert sorted(node.name for node in found.local.entries()) == ["", "made"]
    state.close()
