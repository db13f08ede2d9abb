"""How the beginning of a large file comes: over several connections at once, where the server honours ranges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from downloads import MIB, content_of, digest, is_hydrated, large, opened
from engine_harness import eventually, mounted, run
from model_remote import ModelDownload, ModelRemote

from jobfs.engine.pieces import FRONT_BYTES, PIECE_BYTES
from jobfs.errors import NotFound
from jobfs.model import Item, ItemId

_SIZE = 4 * PIECE_BYTES


class SlowFirst(ModelRemote):
    """A server that honours ranges, and says so. It holds back what a test chooses.

    ``first`` lets the first answer begin, ``rest`` lets it go on behind its first chunk, ``look`` lets it be proven.
    """

    def __init__(self) -> None:
        super().__init__(honours_ranges=True)
        self.offers_ranges = True
        self.first, self.rest, self.look = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def download(
        self, item: ItemId, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[ModelDownload]:
        async with super().download(item, offset=offset, length=length) as download:
            if length == PIECE_BYTES and offset == 0:
                await self.first.wait()
                download.behind_first = self.rest.wait
            yield download

    async def get(self, item: ItemId) -> Item:
        found = await super().get(item)
        await self.look.wait()
        return found


def test_the_front_of_a_large_file_comes_beside_its_first_answer_and_is_proven_with_one_look(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = SlowFirst()
        remote.put("small", b"says that ranges are honoured")
        data = large(remote, _SIZE)
        remote.first.set()
        remote.look.set()
        async with mounted(tmp_path, remote) as mount:
            await mount.read("small")
            remote.ranges.clear()
            remote.chunk_bytes = 40 << 10
            with opened(mount, "big") as handle:
                assert await mount.vfs.read(handle, 128 << 10, 0) == data[: 128 << 10]
                assert len(remote.asked("get")) == 1
                assert not remote.rest.is_set()
                assert remote.ranges[:4] == [(0, PIECE_BYTES)] + [(at << 10, 40 << 10) for at in (40, 80, 120)]
                remote.rest.set()
                assert digest(await mount.vfs.read(handle, _SIZE, 0)) == digest(data)

    run(scenario())


def test_who_waits_for_the_front_is_never_kept_waiting_by_bytes_that_are_not_proven(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = SlowFirst()
        remote.put("small", b"says that ranges are honoured")
        data = large(remote, _SIZE)
        remote.first.set()
        async with mounted(tmp_path, remote) as mount:
            await mount.read("small")
            remote.chunk_bytes = 40 << 10
            with opened(mount, "big") as handle:
                reading = asyncio.create_task(mount.vfs.read(handle, FRONT_BYTES, 0))
                await eventually(lambda: bool(remote.asked("get")))
                remote.rest.set()
                assert await reading == data[:FRONT_BYTES]
                remote.look.set()
                assert digest(await mount.vfs.read(handle, _SIZE, 0)) == digest(data)

    run(scenario())


def test_a_first_answer_that_begins_after_others_were_shown_is_trusted_no_more_than_they_were(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = SlowFirst()
        remote.put("small", b"says that ranges are honoured")
        remote.put("big", b"1" * _SIZE)
        remote.look.set()
        remote.rest.set()
        async with mounted(tmp_path, remote) as mount:
            await mount.read("small")
            with opened(mount, "big") as handle:
                assert await mount.vfs.files.read(handle, 4096, _SIZE - 4096) == b"1" * 4096
                remote.put("big", b"2" * _SIZE)
                remote.first.set()
                with pytest.raises(NotFound):
                    await mount.vfs.files.read(handle, 4096, 0)

    run(scenario())


def test_a_server_that_offers_ranges_and_ignores_them_is_found_out_by_the_first_large_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.offers_ranges = True
        data = large(remote, _SIZE)
        for name in ("small", "smaller"):
            remote.put(name, b"offers ranges")
        async with mounted(tmp_path, remote) as mount:
            await mount.read("small")
            assert digest(await mount.read("big")) == digest(data)
            await eventually(lambda: is_hydrated(mount, "big"))
            assert mount.session.state.setting("range") == "ignore"
            await mount.read("smaller")
            remote.put("other", content_of(_SIZE))
            await mount.pull()
            remote.ranges.clear()
            assert digest(await mount.read("other")) == digest(data)
            assert remote.ranges == [(0, PIECE_BYTES)]

    run(scenario())


def test_a_range_whose_reader_was_served_is_used_to_its_end_and_keeps_its_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote(honours_ranges=True)
        data = large(remote, _SIZE)
        remote.chunk_bytes = 64 << 10
        far = 3 * PIECE_BYTES + 3 * MIB
        goes_on = asyncio.Event()
        ended = []

        async def hold(offset: int) -> None:
            if offset != far:
                try:
                    await goes_on.wait()
                finally:
                    ended.append(offset)

        async with mounted(tmp_path, remote) as mount:
            with opened(mount, "big") as handle:
                remote.before_chunk = hold
                assert await mount.vfs.read(handle, 4096, far) == data[far:][:4096]
                await asyncio.sleep(0)
                assert ended == []
                goes_on.set()
                assert digest(await mount.vfs.read(handle, _SIZE, 0)) == digest(data)

    run(scenario())
