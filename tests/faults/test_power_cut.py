"""A power cut, also after the disk has failed: what the store then says is there is there, with those bytes."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from engine_harness import QUICK, Mounted, mounted, run
from model_remote import ModelRemote
from power_cut import OTHER_BOOT, CachedDisk, Lost, told_wrong

from jobfs.engine.session import Options
from jobfs.errors import StateError
from jobfs.model import ROOT, Content, ItemId, Kind, LocalNode, Revision
from jobfs.planner.retention import Wanted
from jobfs.store.aftermath import PowerCut
from jobfs.store.blobs import write_all
from jobfs.store.state import State

pytestmark = pytest.mark.allow_log("the local store failed|the unsent bytes of ")

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


def check_after_cut(disk: CachedDisk) -> None:
    """Make sure of the same after a power cut, whatever it takes of what nobody has waited for."""
    for lost in Lost:
        for is_log_written in (False, True):
            check_after(disk.after_power_cut(lost, is_log_written=is_log_written))


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
            disk.on_moment = lambda: check_after_cut(disk)
            await story(mount)
        check_after_cut(disk)

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


async def unsynced_write(mount: Mounted, path: str, data: bytes) -> None:
    """Write into a file in place, and close it."""
    handle = mount.vfs.open(mount.node(path), os.O_RDWR)
    try:
        await mount.vfs.write(handle, data, 0)
        await mount.vfs.flush(handle)
    finally:
        mount.vfs.release(handle)


@pytest.mark.parametrize("is_log_written", [False, True], ids=["log lost", "log written"])
@pytest.mark.parametrize("lost", Lost)
def test_an_unsent_file_rewritten_at_its_length_is_not_taken_for_what_it_was(
    tmp_path: Path, lost: Lost, is_log_written: bool
) -> None:
    disk = CachedDisk(tmp_path)
    state = State.open(tmp_path, connect=disk.connect, system=disk)
    before, after = b"before" * 1000, b"after!" * 1000
    blob = state.blobs.allocate()
    descriptor = state.blobs.open(blob, create=True)
    write_all(disk, descriptor, before)
    disk.fsync(descriptor)
    content = Content(len(before), hashlib.sha256(before).hexdigest())
    node = LocalNode(state.allocate(), ROOT, "file", Kind.FILE, content=content, blob=blob)
    with state.transaction(durable=True):
        state.put_local(node)
    with state.transaction():
        state.put_local(replace(node, content=Content(len(after))))
    disk.pwrite(descriptor, after, 0)
    with disk.after_power_cut(lost, is_log_written=is_log_written) as found:
        left = found.local.get(node.id)
        assert left is not None
        assert (left.is_dirty, left.content) == (True, Content(len(after)))
        assert told_wrong(found) == []
    os.close(descriptor)
    state.close()


@pytest.mark.parametrize("is_log_written", [False, True], ids=["log lost", "log written"])
@pytest.mark.parametrize("lost", Lost)
def test_after_a_power_cut_a_mount_shows_what_the_server_has_or_sends_what_it_shows(
    tmp_path: Path, lost: Lost, is_log_written: bool
) -> None:
    async def scenario() -> None:
        remote, disk = a_remote(), CachedDisk(tmp_path)
        with ExitStack() as images:
            async with mounted(tmp_path, remote, disk=disk) as mount:
                for name in ("a", "b"):
                    await mount.read(name)
                await unsynced_write(mount, "a", b"A" * 5000)
                await mount.settle()
                await unsynced_write(mount, "b", b"B" * 5000)
                image = images.enter_context(disk.left_by_power_cut(lost, is_log_written=is_log_written))
            assert remote.tree()["b"] == b"b" * 5000
            State.open(image, boot=OTHER_BOOT).close()
            async with mounted(image, remote) as again:
                await again.settle()
                shown = {name: await again.read(name) for name in again.names()}
                assert shown == remote.tree()
                assert b"A" * 5000 in shown.values()

    run(scenario())


def a_copy(state: State, name: str, *, ctime_ns: int) -> LocalNode:
    """Make a file that says of its bytes, which are zeros, that they are the server's."""
    blob = state.blobs.allocate()
    descriptor = state.blobs.open(blob, create=True)
    write_all(os, descriptor, bytes(5))
    os.close(descriptor)
    revision = Revision(ItemId(name), "2026-01-01T00:00:00.000Z", 5, name)
    content = Content(5, hashlib.sha256(b"bytes").hexdigest(), revision)
    node = LocalNode(state.allocate(), ROOT, name, Kind.FILE, content=content, blob=blob, ctime_ns=ctime_ns)
    with state.transaction():
        state.put_local(node)
    return node


def test_only_what_was_written_last_is_looked_at_after_a_power_cut(tmp_path: Path) -> None:
    hour_ns = 3600 * 10**9
    state = State.open(tmp_path)
    early = a_copy(state, "early", ctime_ns=0)
    late = a_copy(state, "late", ctime_ns=time.time_ns() + hour_ns)
    cut = PowerCut(state.blobs, state.base, (early, late), (), now_ns=late.ctime_ns + hour_ns)
    assert list(cut.nodes()) == [replace(late, blob=None)]
    state.close()


def test_while_the_machine_runs_no_copy_is_looked_at_again(tmp_path: Path) -> None:
    state = State.open(tmp_path, boot="this run")
    node = a_copy(state, "copy", ctime_ns=0)
    state.close()
    for boot, blob in (("this run", node.blob), ("the next run", None), ("the next run", None)):
        state = State.open(tmp_path, boot=boot)
        found = state.local.get(node.id)
        assert found is not None
        assert found.blob == blob
        assert state.check() == []
        state.close()


def test_where_the_system_does_not_name_its_runs_every_opening_looks(tmp_path: Path) -> None:
    state = State.open(tmp_path, boot="")
    node = a_copy(state, "copy", ctime_ns=0)
    state.close()
    state = State.open(tmp_path, boot="")
    assert state.local.get(node.id) == replace(node, blob=None)
    state.close()


def test_a_version_that_did_not_reach_the_disk_keeps_its_label_and_says_what_it_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = CachedDisk(tmp_path)
        async with mounted(tmp_path, a_remote(), disk=disk) as mount:
            await mount.read("a")
            await mount.write("a", b"emptied and written")
            (kept,) = mount.session.state.versions.at("a")
            with disk.after_power_cut(Lost.PAGES, is_log_written=True) as found:
                (version,) = found.versions.at("a")
                assert (version.number, version.content.size, version.content.revision) == (kept.number, 5000, None)
                assert version.content.sha256 == hashlib.sha256(bytes(5000)).hexdigest()
            with disk.after_power_cut(Lost.NAMES, is_log_written=True) as found:
                assert found.versions.at("a") == []

    run(scenario())
