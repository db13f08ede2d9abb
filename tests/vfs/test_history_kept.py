"""What becomes a version of the local history in a mount, and what does not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from engine_harness import QUICK, Mounted, mounted, run
from kept_versions import kept_versions
from model_remote import ModelRemote

from jobfs.engine import history as kept_by
from jobfs.engine.session import Options
from jobfs.model import ROOT
from jobfs.planner.plan import ConflictPolicy
from jobfs.planner.retention import Wanted
from jobfs.vfs.inodes import Handle

LARGE = kept_by.MOST_COPIED_BYTES + 1


def versions(mount: Mounted) -> list[tuple[str, bytes, str]]:
    assert mount.session.state.check() == []
    return kept_versions(mount.session.state)


def opened(mount: Mounted, path: str, flags: int = os.O_RDWR) -> Handle:
    return mount.vfs.open(mount.node(path), flags)


async def written(mount: Mounted, handle: Handle, data: bytes, at: int = 0) -> None:
    await mount.vfs.write(handle, data, at)
    await mount.vfs.flush(handle)


async def remove(mount: Mounted, path: str) -> None:
    parent, name = mount.place(path)
    mount.vfs.unlink(parent, name)


@pytest.fixture
def remote() -> ModelRemote:
    made = ModelRemote()
    made.put("a", b"first")
    made.put("b", b"other")
    return made


@pytest.mark.parametrize("way", ["truncated and written", "written in place", "renamed over", "cut"])
def test_a_save_makes_one_version_of_what_was_there(tmp_path: Path, remote: ModelRemote, way: str) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            assert await mount.read("a") == b"first"
            if way == "truncated and written":
                await mount.write("a", b"second")
            elif way == "written in place":
                handle = opened(mount, "a")
                await written(mount, handle, b"sec")
                await written(mount, handle, b"ond", 3)
                mount.vfs.release(handle)
            elif way == "renamed over":
                await mount.write("new", b"second")
                await mount.rename("new", "a")
            else:
                await mount.vfs.truncate(mount.node("a"), 2)
            assert versions(mount) == [("a", b"first", "replaced")]
            await mount.settle()
            assert versions(mount) == [("a", b"first", "replaced")]

    run(scenario())


def test_each_save_that_was_sent_is_a_version_and_what_was_never_sent_is_none(
    tmp_path: Path, remote: ModelRemote
) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            await mount.write("new", b"one")
            await mount.write("new", b"two")
            await mount.settle()
            await mount.write("new", b"three")
            await mount.write("new", b"four")
            await mount.settle()
            await mount.write("new", b"five")
            assert versions(mount) == [("new", b"two", "replaced"), ("new", b"four", "replaced")]

    run(scenario())


def test_writing_until_the_last_close_is_one_version_however_often_it_is_sent(
    tmp_path: Path, remote: ModelRemote
) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            assert await mount.read("a") == b"first"
            handle = opened(mount, "a")
            for at in range(5, 9):
                await written(mount, handle, b"+", at)
                await mount.settle()
            mount.vfs.release(handle)
            _, new = mount.vfs.create(ROOT, "log", mode=0o644, flags=os.O_WRONLY)
            for at in range(3):
                await written(mount, new, b"+", at)
                await mount.settle()
            mount.vfs.release(new)
            assert versions(mount) == [("a", b"first", "replaced")]
            handle = opened(mount, "a")
            await written(mount, handle, b"F")
            mount.vfs.release(handle)
            assert versions(mount)[1:] == [("a", b"first++++", "replaced")]

    run(scenario())


def test_a_save_with_the_bytes_of_the_version_before_renews_that_one(tmp_path: Path, remote: ModelRemote) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            for _ in range(3):
                await mount.write("new", b"same")
                await mount.settle()
            await remove(mount, "new")
            assert versions(mount) == [("new", b"same", "deleted")]

    run(scenario())


def test_a_deleted_file_is_kept_and_one_that_was_never_here_is_not_fetched_for_it(
    tmp_path: Path, remote: ModelRemote
) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            assert await mount.read("a") == b"first"
            await remove(mount, "a")
            await remove(mount, "b")
            await mount.settle()
            assert versions(mount) == [("a", b"first", "deleted")]
            assert len(remote.asked("download")) == 1

    run(scenario())


def test_an_empty_file_is_kept_when_it_is_deleted(tmp_path: Path, remote: ModelRemote) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            await mount.write("__init__.py", b"")
            await mount.settle()
            await remove(mount, "__init__.py")
            assert versions(mount) == [("__init__.py", b"", "deleted")]

    run(scenario())


def test_what_another_replaces_or_deletes_is_kept_where_it_is_here(tmp_path: Path, remote: ModelRemote) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            assert await mount.read("a") == b"first"
            assert await mount.read("b") == b"other"
            remote.put("a", b"theirs")
            remote.remove("b")
            await mount.pull()
            assert sorted(versions(mount)) == [
                ("a", b"first", "replaced on the server"),
                ("b", b"other", "deleted on the server"),
            ]

    run(scenario())


@pytest.mark.parametrize("name", ["a.swp~", ".git", "4913", "notes.tmp", ".goutputstream-ABC123"])
def test_what_programs_make_for_themselves_is_no_version(tmp_path: Path, remote: ModelRemote, name: str) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            await mount.write(name, b"scratch")
            await remove(mount, name)
            assert versions(mount) == []

    run(scenario())


@pytest.mark.parametrize("name", ["a~", "a.tmp"])
def test_a_backup_that_an_editor_makes_by_renaming_is_a_version_of_the_file(
    tmp_path: Path, remote: ModelRemote, name: str
) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            assert await mount.read("a") == b"first"
            await mount.rename("a", name)
            await mount.write("a", b"second")
            await mount.settle()
            await remove(mount, name)
            await mount.settle()
            assert versions(mount) == [("a", b"first", "replaced")]

    run(scenario())


def test_a_new_file_that_is_gone_at_once_is_no_version(tmp_path: Path, remote: ModelRemote) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            await mount.write("moment", b"x")
            await remove(mount, "moment")
            assert versions(mount) == []

    run(scenario())


def test_an_open_file_that_is_deleted_is_written_on_without_changing_its_version(
    tmp_path: Path, remote: ModelRemote
) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            handle = opened(mount, "a")
            assert await mount.vfs.read(handle, 9, 0) == b"first"
            await remove(mount, "a")
            await written(mount, handle, b"FIRST")
            assert await mount.vfs.read(handle, 9, 0) == b"FIRST"
            assert versions(mount) == [("a", b"first", "deleted")]
            mount.vfs.release(handle)
            assert versions(mount) == [("a", b"first", "deleted")]

    run(scenario())


@pytest.mark.parametrize("cut", [False, True])
def test_writing_on_after_a_remote_version_came_leaves_the_version_as_it_was(
    tmp_path: Path, remote: ModelRemote, cut: bool
) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            handle = opened(mount, "a")
            assert await mount.vfs.read(handle, 9, 0) == b"first"
            remote.put("a", b"theirs")
            await mount.pull()
            if cut:
                await mount.vfs.truncate(handle.inode.node, 0)
            await written(mount, handle, b"OURS")
            mount.vfs.release(handle)
            await mount.settle()
            assert versions(mount) == [("a", b"first", "replaced on the server")]
            copies = [name for name in mount.names() if "conflict" in name]
            assert [await mount.read(name) for name in copies] == [b"OURS" if cut else b"OURSt"]

    run(scenario())


def test_a_loser_that_is_open_stays_in_the_history_as_it_lost(tmp_path: Path, remote: ModelRemote) -> None:
    async def scenario() -> None:
        options = Options(policy=ConflictPolicy.REMOTE, times=QUICK)
        async with mounted(tmp_path, remote, options=options) as mount:
            handle = opened(mount, "a")
            assert await mount.vfs.read(handle, 9, 0) == b"first"
            remote.put("a", b"theirs")
            await written(mount, handle, b"OURS!")
            await mount.settle()
            await mount.pull()
            await written(mount, handle, b"more!")
            mount.vfs.release(handle)
            assert ("a", b"OURS!", "lost a conflict") in versions(mount)

    run(scenario())


def test_a_large_file_is_kept_where_nothing_is_copied_and_not_where_a_byte_is_changed_in_place(
    tmp_path: Path, remote: ModelRemote
) -> None:
    remote.put("a", bytes(LARGE))

    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            await mount.session.hydrator.fetch(mount.node("a"))
            copies = mount.session.state.blobs.clone(mount.session.state.local.get(mount.node("a")).blob)
            handle = opened(mount, "a")
            await written(mount, handle, b"x")
            mount.vfs.release(handle)
            assert [path for path, _, _ in versions(mount)] == (["a"] if copies else [])
            await mount.settle()
            await remove(mount, "a")
            assert versions(mount)[-1][::2] == ("a", "deleted")
            assert len(versions(mount)[-1][1]) == LARGE

    run(scenario())


def test_a_large_deleted_file_that_is_written_on_takes_its_bytes_back(tmp_path: Path, remote: ModelRemote) -> None:
    remote.put("a", bytes(LARGE))

    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            handle = opened(mount, "a")
            await mount.vfs.read(handle, 9, 0)
            await mount.session.hydrator.fetch(mount.node("a"))
            await remove(mount, "a")
            assert len(versions(mount)) == 1
            shares = mount.session.state.blobs.clone(handle.inode.record.blob) is not None
            await written(mount, handle, b"x")
            assert await mount.vfs.read(handle, 2, 0) == b"x\0"
            assert len(versions(mount)) == shares
            mount.vfs.release(handle)

    run(scenario())


def test_with_the_history_off_nothing_is_kept_but_what_lost_a_conflict(tmp_path: Path, remote: ModelRemote) -> None:
    async def scenario() -> None:
        options = Options(policy=ConflictPolicy.REMOTE, times=QUICK, history=Wanted(limit_bytes=0))
        async with mounted(tmp_path, remote, options=options) as mount:
            await mount.read("b")
            await remove(mount, "b")
            await mount.read("a")
            remote.put("a", b"theirs")
            await mount.write("a", b"ours")
            await mount.settle()
            await mount.pull()
            assert versions(mount) == [("a", b"ours", "lost a conflict")]

    run(scenario())


def test_the_history_keeps_to_its_room_and_never_takes_bytes_from_a_reader(tmp_path: Path, remote: ModelRemote) -> None:
    async def scenario() -> None:
        options = Options(times=QUICK, history=Wanted(limit_bytes=5 * 4096))
        async with mounted(tmp_path, remote, options=options) as mount:
            handle = opened(mount, "a", os.O_RDONLY)
            await mount.vfs.read(handle, 9, 0)
            await remove(mount, "a")
            for number in range(8):
                await mount.write(f"f{number}", b"%d" % number)
            await mount.settle()
            for number in range(8):
                await remove(mount, f"f{number}")
            left = [path for path, _, _ in versions(mount)]
            assert left[0] == "a"
            assert left[-1] == "f7"
            assert len(left) <= 5
            mount.session.state.blobs.path(handle.inode.record.blob).stat()
            assert await mount.vfs.read(handle, 9, 0) == b"first"
            mount.vfs.release(handle)
            mount.session.workspace.history.prune()
            mount.session.state.finish_removals()
            named = mount.session.state.named_blobs()
            assert mount.session.state.blobs.sweep(named) == 0

    run(scenario())


def test_a_revision_is_found_by_whoever_wants_its_bytes(tmp_path: Path, remote: ModelRemote) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            await mount.read("a")
            revision = mount.session.state.local.get(mount.node("a")).content.revision
            assert revision is not None
            assert mount.session.workspace.history.find(revision) is None
            await mount.write("a", b"second")
            found = mount.session.workspace.history.find(revision)
            assert found is not None
            assert mount.session.state.blobs.path(found.blob).read_bytes() == b"first"

    run(scenario())


@pytest.mark.parametrize("size", [1 << 20, 6 << 20])
@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_copy_for_the_history_that_finds_no_room_is_no_failure_of_the_program(
    tmp_path: Path, remote: ModelRemote, monkeypatch: pytest.MonkeyPatch, size: int, is_deleted: bool
) -> None:
    remote.put("a", bytes(size))

    def refuse(descriptor: int, data: object) -> int:  # what a program writes goes through pwrite, into its own blocks
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            handle = opened(mount, "a")
            await mount.session.hydrator.fetch(mount.node("a"))
            can_share = mount.session.state.blobs.clone(mount.session.state.local.get(mount.node("a")).blob)
            if is_deleted:
                await remove(mount, "a")
            with monkeypatch.context() as full:
                full.setattr(os, "write", refuse)
                await written(mount, handle, b"x")
            assert await mount.vfs.read(handle, 2, 0) == b"x\0"
            assert versions(mount) == [] or can_share
            mount.vfs.release(handle)

    run(scenario())
