"""kill -9 at any line of what the history does: each blob is named by one row or is litter, and no version is lost."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from crash_images import Album, PhotographedState
from engine_harness import QUICK, Mounted, run
from model_remote import ModelRemote

from jobfs.engine.compose import mirror_session
from jobfs.engine.restore import TreeRestorer
from jobfs.engine.session import Options
from jobfs.planner.ignore import Ignore
from jobfs.planner.plan import ConflictPolicy
from jobfs.planner.retention import Wanted
from jobfs.vfs.operations import Vfs


@asynccontextmanager
async def photographed(folder: Path, album: Album, *, wanted: Wanted) -> AsyncIterator[Mounted]:
    """Mount a workspace with two files that are here; every change of the store from then on is photographed."""
    remote = ModelRemote()
    remote.put("a", b"a1")
    remote.put("b", b"b1")
    state = PhotographedState.open(folder)
    assert isinstance(state, PhotographedState)
    options = Options(policy=ConflictPolicy.REMOTE, times=QUICK, history=wanted)
    session = mirror_session(state, remote, ignore=Ignore(), host="h", options=options)
    try:
        await session.start(wait_for_listing=True)
        await session.drain(10)
        mount = Mounted(Vfs(session, reports={}), session, remote)
        assert (await mount.read("a"), await mount.read("b")) == (b"a1", b"b1")
        await mount.settle()
        album.promised |= {b"a1", b"b1"}
        state.camera = album.take
        yield mount
        state.camera = lambda: None
        await mount.settle()
    finally:
        await session.stop()
        state.close()


async def in_place(mount: Mounted, path: str, data: bytes) -> None:
    handle = mount.vfs.open(mount.node(path), os.O_RDWR)
    await mount.vfs.write(handle, data, 0)
    await mount.vfs.flush(handle)
    mount.vfs.release(handle)


def test_no_crash_takes_a_version(tmp_path: Path) -> None:
    album = Album(tmp_path / "state", tmp_path / "images")

    async def story() -> None:
        async with photographed(tmp_path / "state", album, wanted=Wanted()) as mount:
            await in_place(mount, "a", b"a2")
            album.promised.add(b"a2")
            await mount.settle()
            await mount.write("new", b"a3")
            await mount.rename("new", "a")
            album.promised.add(b"a3")
            await mount.settle()
            await mount.write("a", b"a4")
            album.promised.add(b"a4")
            mount.remote.put("b", b"b2")
            await mount.pull()
            handle = mount.vfs.open(mount.node("a"), os.O_RDWR)
            mount.vfs.unlink(*mount.place("a"))
            await mount.vfs.write(handle, b"--", 0)
            mount.vfs.release(handle)
            [first] = [one for one in mount.session.state.versions.at("a") if one.number == 1]
            await TreeRestorer(mount.session.workspace).restore(first, "b")
            await TreeRestorer(mount.session.workspace).restore(first, "x/y/a")
            await mount.settle()

    run(story())
    assert len(album.images) > 30
    album.look()


def test_no_crash_leaves_anything_half_pruned(tmp_path: Path) -> None:
    album = Album(tmp_path / "state", tmp_path / "images")

    async def story() -> None:
        wanted = Wanted(limit_bytes=3 * 4096)
        async with photographed(tmp_path / "state", album, wanted=wanted) as mount:
            album.promised.clear()
            for number in range(6):
                await mount.write("a", b"%d" % number)
                await mount.session.drain(10)
            assert len(mount.session.state.versions.all()) <= 3

    run(story())
    album.look()


def test_a_conflict_that_is_given_up_and_written_on_is_whole_after_any_crash(tmp_path: Path) -> None:
    album = Album(tmp_path / "state", tmp_path / "images")

    async def story() -> None:
        async with photographed(tmp_path / "state", album, wanted=Wanted()) as mount:
            handle = mount.vfs.open(mount.node("a"), os.O_RDWR)
            mount.remote.put("a", b"theirs")
            await mount.vfs.write(handle, b"ours", 0)
            await mount.vfs.flush(handle)
            album.promised.add(b"ours")
            await mount.pull()
            await mount.vfs.write(handle, b"more", 0)
            await mount.vfs.flush(handle)
            mount.vfs.release(handle)
            album.promised.add(b"more")

    run(story())
    album.look()
