"""A reader sees one version of a file, whole or in part, or an error: never a mixture, however it came here."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from downloads import MIB, Hold, blobs_in, content_of, digest, is_hydrated, large, opened
from engine_harness import QUICK, eventually, mounted, run
from model_remote import ModelRemote

from jobfs.engine.lookahead import Prefetch
from jobfs.engine.pieces import FRONT_BYTES, PIECE_BYTES
from jobfs.engine.session import Options
from jobfs.errors import NotFound, Unreachable


def read_in_order_while_it_changes(
    directory: Path, size: int, step: int
) -> tuple[set[int], type[BaseException] | None]:
    """Read a file whose content is changed when its reader has come half-way; return which bytes were seen."""

    async def scenario() -> tuple[set[int], type[BaseException] | None]:
        remote = ModelRemote(honours_ranges=True)
        remote.chunk_bytes = MIB
        remote.put("big", b"1" * size)
        hold = Hold(size // 2, size)
        remote.before_chunk = hold
        seen: set[int] = set()
        async with mounted(directory, remote) as mount:
            with opened(mount, "big") as handle:
                try:
                    for at in range(0, size, step):
                        seen |= set(await mount.vfs.read(handle, step, at))
                        if at + step >= size // 2:
                            remote.put("big", b"2" * size)
                            hold.let_go()
                except NotFound as error:
                    return seen, type(error)
        return seen, None

    return run(scenario())


def test_a_reader_of_a_file_that_changes_sees_one_version_or_an_error(tmp_path: Path) -> None:
    seen, error = read_in_order_while_it_changes(tmp_path, 10 * PIECE_BYTES, MIB)
    assert seen == set(b"1")
    assert error is not None
    assert blobs_in(tmp_path) == []


def test_a_reader_keeps_the_version_that_is_arriving_when_another_takes_its_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.chunk_bytes = 5
        remote.put("a", b"1" * 10)
        remote.before_chunk = hold = Hold(5, 10)
        async with mounted(tmp_path, remote) as mount:
            with opened(mount, "a") as handle:
                first = await mount.vfs.read(handle, 5, 0)
                remote.put("a", b"2" * 10)
                await mount.pull()
                hold.let_go()
                assert await mount.read("a") == b"2" * 10
                assert first + await mount.vfs.read(handle, 10, 5) == b"1" * 10
                assert len(remote.asked("download")) == 2
        assert len(blobs_in(tmp_path)) == 1

    run(scenario())


@pytest.mark.parametrize("size", [10, 10 * PIECE_BYTES], ids=["small", "large"])
def test_after_a_download_broke_under_a_reader_he_gets_nothing_of_a_later_version(tmp_path: Path, size: int) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.chunk_bytes = size // 10
        remote.put("a", b"1" * size)
        hold = Hold(size // 2, size)

        async def broken(offset: int) -> None:
            await hold(offset)
            if offset >= size // 2:
                raise Unreachable("the connection broke")

        remote.before_chunk = broken
        async with mounted(tmp_path, remote) as mount:
            with opened(mount, "a") as handle:
                assert await mount.vfs.read(handle, 1, 0) == b"1"
                remote.put("a", b"2" * size)
                hold.let_go()
                with pytest.raises(Unreachable):
                    await mount.vfs.files.read(handle, size, 1)
                remote.before_chunk = None
                with pytest.raises(NotFound):
                    await mount.vfs.files.read(handle, size, 1)
            await mount.pull()
            assert await mount.read("a") == b"2" * size

    run(scenario())


def test_what_was_read_and_evicted_is_not_gone_on_with_in_a_later_version(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"1" * 10)
        remote.put("b", b"other" * 2)
        options = Options(times=QUICK, cache_bytes=12, prefetch=Prefetch.NONE)
        async with mounted(tmp_path, remote, options=options) as mount:
            with opened(mount, "a") as handle:
                assert await mount.vfs.read(handle, 5, 0) == b"1" * 5
            await mount.read("b")
            assert not is_hydrated(mount, "a")
            remote.put("a", b"2" * 10)  # no listing has told of it
            with opened(mount, "a") as handle, pytest.raises(NotFound):
                await mount.vfs.read(handle, 5, 5)
            await mount.pull()
            assert await mount.read("a") == b"2" * 10

    run(scenario())


def test_far_ahead_nobody_is_shown_a_newer_version_than_the_listed_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote(honours_ranges=True)
        remote.chunk_bytes = MIB
        remote.put("big", b"1" * (4 * PIECE_BYTES))
        hold = Hold(MIB, 3 * PIECE_BYTES)
        remote.before_chunk = hold
        async with mounted(tmp_path, remote) as mount:
            with opened(mount, "big") as handle:
                assert await mount.vfs.read(handle, 4096, 0) == b"1" * 4096
                newer = remote.put("big", b"2" * (4 * PIECE_BYTES))
                with pytest.raises(NotFound):
                    await mount.vfs.read(handle, 4096, 4 * PIECE_BYTES - 4096)
            hold.let_go()
            await mount.pull()
            assert set(await mount.read("big")) == set(b"2")
            await eventually(lambda: is_hydrated(mount, "big"))
            assert mount.session.state.local.get(mount.node("big")).content.revision == newer.revision

    run(scenario())


def test_a_file_that_changes_during_its_download_is_not_content_though_nobody_reads_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote(honours_ranges=True)
        large(remote, 3 * PIECE_BYTES)
        hold = Hold(2 * PIECE_BYTES, 3 * PIECE_BYTES)
        remote.before_chunk = hold
        async with mounted(tmp_path, remote) as mount:
            whole = asyncio.create_task(mount.session.hydrator.fetch(mount.node("big")))
            await eventually(lambda: hold.held == 1)
            remote.put("big", content_of(3 * PIECE_BYTES)[::-1])
            hold.let_go()
            with pytest.raises(NotFound):
                await whole
            assert blobs_in(tmp_path) == []

    run(scenario())


def test_a_rename_of_ours_during_a_download_is_no_other_version(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote(honours_ranges=True)
        data = large(remote, 4 * PIECE_BYTES)
        hold = Hold(MIB, 4 * PIECE_BYTES)
        remote.before_chunk = hold
        async with mounted(tmp_path, remote) as mount:
            with opened(mount, "big") as handle:
                whole = asyncio.create_task(mount.vfs.read(handle, len(data), 0))
                await eventually(lambda: hold.held == 4)
                await mount.rename("big", "renamed")
                await mount.settle()
                hold.let_go()
                assert digest(await whole) == digest(data)
            await eventually(lambda: is_hydrated(mount, "renamed"))
            assert len([at for at, _ in remote.ranges if not 0 < at < FRONT_BYTES]) == 4

    run(scenario())


@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_a_write_that_waits_for_bytes_while_the_file_loses_its_name_goes_to_a_copy_with_all_of_them(
    tmp_path: Path, change: str
) -> None:
    remote = ModelRemote()
    remote.put("a.txt", b"x" * 300_000)
    remote.put("other", b"stays")

    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            remote.gate.clear()
            handle = mount.vfs.open(mount.node("a.txt"), os.O_RDWR)
            writing = asyncio.create_task(mount.vfs.write(handle, b"mine", 10))
            await eventually(lambda: bool(remote.asked("download")))
            if change == "deleted":
                remote.remove("a.txt")
            else:
                remote.put("a.txt", b"theirs")
            await mount.pull()
            remote.gate.set()
            async with asyncio.timeout(10):
                assert await writing == 4
            await mount.vfs.flush(handle)
            mount.vfs.release(handle)
            await mount.settle()
            [copy] = [name for name in remote.tree() if "conflict" in name]
            assert remote.tree()[copy] == b"x" * 10 + b"mine" + b"x" * 299_986

    run(scenario())
