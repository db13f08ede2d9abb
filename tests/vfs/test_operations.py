"""Every operation of the file system without FUSE; tests/mount asks the same of real mounts."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_harness import mounted, run
from model_remote import ModelRemote

from jobfs.model import ROOT, Kind, Lifecycle
from jobfs.vfs.control import CONTROL
from jobfs.vfs.namespace import RenameFlags


def refused(number: int, action: Callable[[], object]) -> None:
    """Check that an action fails with an errno."""
    with pytest.raises(OSError) as caught:
        action()
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[number]


async def refuses(number: int, action: object) -> None:
    """Check that a coroutine fails with an errno."""
    with pytest.raises(OSError) as caught:
        await action  # type: ignore[misc]
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[number]


def test_making_names_follows_posix(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, ModelRemote()) as mount:
            vfs = mount.vfs
            made = vfs.make(ROOT, "d", Kind.DIRECTORY, mode=0o755)
            assert (made.kind, made.mode, vfs.parent(made.inode)) == (Kind.DIRECTORY, 0o755, ROOT)
            refused(errno.EEXIST, lambda: vfs.make(ROOT, "d", Kind.FILE, mode=0o644))
            refused(errno.ENAMETOOLONG, lambda: vfs.make(ROOT, "n" * 256, Kind.FILE, mode=0o644))
            refused(errno.EINVAL, lambda: vfs.make(ROOT, "tab\there", Kind.FILE, mode=0o644))
            refused(errno.EINVAL, lambda: vfs.make(ROOT, ".a.jobfs-abcdefgh.new", Kind.FILE, mode=0o644))
            refused(errno.EILSEQ, lambda: vfs.make(ROOT, "\udcff", Kind.FILE, mode=0o644))
            for kind in (Kind.SYMLINK, Kind.FIFO, Kind.SOCKET):
                refused(errno.EPERM, lambda kind=kind: vfs.make(ROOT, "x", kind, mode=0o644))
            refused(errno.ENOENT, lambda: vfs.lookup(ROOT, "nothing"))
            file = vfs.make(ROOT, "f", Kind.FILE, mode=0o644)
            refused(errno.ENOTDIR, lambda: vfs.lookup(file.inode, "x"))
            refused(errno.ENOTDIR, lambda: vfs.names(file.inode))
            refused(errno.EINVAL, lambda: vfs.read_link(file.inode))
            refused(errno.EPERM, lambda: vfs.link(file.inode, ROOT, "second"))

    run(scenario())


def test_removing_names_follows_posix(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("d", None)
        remote.put("d/x", b"x")
        async with mounted(tmp_path, remote) as mount:
            vfs = mount.vfs
            refused(errno.EISDIR, lambda: vfs.unlink(ROOT, "d"))
            refused(errno.ENOTEMPTY, lambda: vfs.rmdir(ROOT, "d"))
            refused(errno.ENOTDIR, lambda: vfs.rmdir(mount.node("d"), "x"))
            vfs.unlink(mount.node("d"), "x")
            vfs.rmdir(ROOT, "d")
            assert mount.names() == []

    run(scenario())


def test_renaming_follows_posix(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        for directory in ("d", "d/sub", "empty", "full"):
            remote.put(directory, None)
        remote.put("full/x", b"x")
        remote.put("a", b"A")
        remote.put("b", b"B")
        async with mounted(tmp_path, remote) as mount:
            vfs, node = mount.vfs, mount.node
            await refuses(errno.EINVAL, vfs.rename(ROOT, "d", node("d/sub"), "inside itself"))
            await refuses(errno.ENOTEMPTY, vfs.rename(ROOT, "d", ROOT, "full"))
            await refuses(errno.EISDIR, vfs.rename(ROOT, "a", ROOT, "d"))
            await refuses(errno.ENOTDIR, vfs.rename(ROOT, "d", ROOT, "a"))
            await refuses(errno.EEXIST, vfs.rename(ROOT, "a", ROOT, "b", RenameFlags.NOREPLACE))
            await refuses(errno.ENOENT, vfs.rename(ROOT, "no", ROOT, "b"))
            before = node("a"), node("b")
            await vfs.rename(ROOT, "a", ROOT, "b", RenameFlags.EXCHANGE)
            assert (node("b"), node("a")) == before
            await vfs.rename(ROOT, "d", ROOT, "empty")
            assert mount.names("empty") == ["sub"]
            assert await mount.read("a") == b"B"

    run(scenario())


def test_writing_follows_posix(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, ModelRemote()) as mount:
            vfs = mount.vfs
            made, handle = vfs.create(ROOT, "f", mode=0o600, flags=os.O_RDWR)
            assert await vfs.write(handle, b"abcdef", 0) == 6
            assert vfs.read_now(handle, 3, 2) == b"cde"
            assert await vfs.write(handle, b"Z", 10) == 1
            assert vfs.read_now(handle, 20, 0) == b"abcdef\0\0\0\0Z"
            await vfs.truncate(made.inode, 3)
            await vfs.truncate(made.inode, 5)
            assert vfs.read_now(handle, 20, 0) == b"abc\0\0"
            await refuses(errno.EFBIG, vfs.truncate(made.inode, 1 << 63))
            await refuses(errno.EFBIG, vfs.write(handle, b"x", (1 << 63) - 1))
            await vfs.fsync(handle)
            appending = vfs.open(made.inode, os.O_WRONLY | os.O_APPEND)
            assert await vfs.write(appending, b"!", 0) == 1
            assert vfs.attributes(made.inode).size == 6
            emptied = vfs.open(made.inode, os.O_WRONLY | os.O_TRUNC)
            assert vfs.attributes(made.inode).size == 0
            for opened in (handle, appending, emptied):
                await vfs.flush(opened)
                vfs.release(opened)
            refused(errno.EBADF, lambda: vfs.handle(handle.number))
            refused(errno.EISDIR, lambda: vfs.open(ROOT, os.O_RDONLY))

    run(scenario())


def test_space_is_reserved_punched_and_sought(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, ModelRemote()) as mount:
            vfs = mount.vfs
            made, handle = vfs.create(ROOT, "f", mode=0o600, flags=os.O_RDWR)
            await vfs.write(handle, b"x" * 10_000, 0)
            await vfs.allocate(handle, 0, 0, 20_000)
            assert vfs.attributes(made.inode).size == 20_000
            await vfs.allocate(handle, 1, 0, 40_000)
            assert vfs.attributes(made.inode).size == 20_000
            await vfs.allocate(handle, 1 | 2, 10, 100)
            assert vfs.read_now(handle, 120, 0) == b"x" * 10 + bytes(100) + b"x" * 10
            await refuses(errno.EOPNOTSUPP, vfs.allocate(handle, 8, 0, 4096))
            assert vfs.seek(handle, 0, os.SEEK_DATA) == 0
            refused(errno.ENXIO, lambda: vfs.seek(handle, 20_000, os.SEEK_HOLE))
            vfs.release(handle)
            block, blocks, free = vfs.space()
            assert block > 0
            assert blocks >= free > 0

    run(scenario())


def test_times_and_modes_are_kept_here_and_survive_the_push(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("f", b"x")
        async with mounted(tmp_path, remote) as mount:
            node = mount.node("f")
            mount.vfs.set_times(node, mtime_ns=-1)
            mount.vfs.set_mode(node, 0o755)
            mount.vfs.set_times(node, mtime_ns=None)
            await mount.settle()
        async with mounted(tmp_path, remote) as mount:
            shown = mount.vfs.attributes(mount.node("f"))
            assert (shown.mtime_ns, shown.mode, shown.links) == (-1, 0o755, 1)
        assert remote.asked() == []

    run(scenario())


def test_extended_attributes_tell_what_the_server_says(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        item = remote.put("f", b"x")
        async with mounted(tmp_path, remote) as mount:
            extended, node = mount.vfs.extended, mount.node("f")
            assert extended.get(node, "user.jobfs.item") == item.id.encode()
            assert extended.get(node, "user.jobfs.lifecycle") == b"expertJob"
            assert extended.get(node, "user.jobfs.state") == b"clean"
            assert "user.jobfs.permission" in extended.names(node)
            refused(errno.ENODATA, lambda: extended.get(node, "user.other"))
            refused(errno.EPERM, lambda: extended.remove(node, "user.jobfs.item"))
            await refuses(errno.ENOTSUP, extended.set(node, "user.other", b"1"))
            await refuses(errno.EPERM, extended.set(node, "user.jobfs.item", b"1"))
            await refuses(errno.EINVAL, extended.set(node, "user.jobfs.lifecycle", b"forever"))
            await extended.set(node, "user.jobfs.lifecycle", b"application")
            assert remote.at("f").lifecycle is Lifecycle.APPLICATION
            assert extended.get(mount.node("f"), "user.jobfs.lifecycle") == b"application"

    run(scenario())


def test_the_control_directory_is_there_by_name_only_and_cannot_be_changed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, ModelRemote()) as mount:
            vfs = mount.vfs
            assert mount.names() == []
            assert vfs.lookup(ROOT, ".jobfs").inode == CONTROL
            [(name, node)] = vfs.names(CONTROL)
            handle = vfs.open(node, os.O_RDONLY)
            assert (name, json.loads(vfs.read_now(handle, 1000, 0) or b"")) == ("status.json", {"host": "testhost"})
            await vfs.flush(handle)
            vfs.release(handle)
            refused(errno.EACCES, lambda: vfs.open(node, os.O_RDWR))
            refused(errno.EPERM, lambda: vfs.make(ROOT, ".jobfs", Kind.FILE, mode=0o644))
            refused(errno.EPERM, lambda: vfs.unlink(CONTROL, name))
            await refuses(errno.EPERM, vfs.rename(ROOT, ".jobfs", ROOT, "x"))

    run(scenario())


def test_a_read_only_workspace_refuses_every_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote(is_read_only=True)
        remote.put("d", None)
        remote.put("f", b"x")
        async with mounted(tmp_path, remote) as mount:
            for action in (
                lambda: mount.vfs.make(ROOT, "new", Kind.FILE, mode=0o644),
                lambda: mount.vfs.unlink(ROOT, "f"),
                lambda: mount.vfs.rmdir(ROOT, "d"),
                lambda: mount.vfs.open(mount.node("f"), os.O_WRONLY),
                lambda: mount.vfs.set_mode(mount.node("f"), 0o600),
            ):
                refused(errno.EROFS, action)
            await refuses(errno.EROFS, mount.vfs.rename(ROOT, "f", ROOT, "g"))
            assert await mount.read("f") == b"x"
            assert mount.vfs.attributes(mount.node("f")).mode == 0o444

    run(scenario())
