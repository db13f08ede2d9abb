"""How many files are on their way at once: small ones wait for round trips, large ones share the line."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from engine_harness import eventually, mounted, run
from model_remote import ModelRemote

from jobfs.model import Item, Permission


class HoldingRemote(ModelRemote):
    """A server that answers no create before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.held: set[str] = set()
        self.answers = asyncio.Event()

    async def create_file(self, path: str, permission: Permission, source: Path | bytes, mime_type: str) -> Item:
        self.held.add(path)
        await self.answers.wait()
        return await super().create_file(path, permission, source, mime_type)


@pytest.mark.parametrize(("size", "at_once"), [(4 << 10, 32), (300 << 10, 14)])
def test_so_many_new_files_are_sent_at_once_and_all_in_the_end(tmp_path: Path, size: int, at_once: int) -> None:
    async def scenario() -> None:
        remote = HoldingRemote()
        async with mounted(tmp_path, remote) as mount:
            for number in range(40):
                await mount.write(f"{number}", bytes(size))
            await eventually(lambda: len(remote.held) >= at_once)
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(remote.held) == at_once
            remote.answers.set()
            await mount.settle()
        assert len(remote.tree()) == 40

    run(scenario())


def test_small_files_do_not_wait_for_large_ones(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = HoldingRemote()
        async with mounted(tmp_path, remote) as mount:
            for number in range(20):
                await mount.write(f"large-{number}", bytes(300 << 10))
            await eventually(lambda: len(remote.held) == 14)
            await mount.write("small", b"small")
            await eventually(lambda: "small" in remote.held)
            remote.answers.set()
            await mount.settle()

    run(scenario())
