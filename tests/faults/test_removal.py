"""Removed bytes leave the disk by themselves, soon, and all together."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_harness import eventually, mounted, run
from failing_disk import FailingDisk
from model_remote import ModelRemote

pytestmark = pytest.mark.allow_log("the local store failed")


def blob_files(directory: Path) -> int:
    return sum(file.is_file() for file in (directory / "blobs").rglob("*"))


def test_what_was_removed_leaves_the_disk_while_the_mount_is_idle(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = FailingDisk()
        async with mounted(tmp_path, ModelRemote(), disk=disk) as mount:
            for number in range(20):
                await mount.write(f"{number}.swp", b"only here")
            for number in range(20):
                mount.vfs.unlink(*mount.place(f"{number}.swp"))
            assert blob_files(tmp_path) == 20
            before = disk.asked("INSERT")
            await eventually(lambda: not blob_files(tmp_path))
            assert disk.asked("INSERT") == before + 1  # one commit is waited for, for all of them

    run(scenario())


def test_where_the_disk_fails_they_leave_it_when_it_works_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = FailingDisk()
        async with mounted(tmp_path, ModelRemote(), disk=disk) as mount:
            await mount.write("a.swp", b"only here")
            mount.vfs.unlink(*mount.place("a.swp"))
            with disk.failing("COMMIT"):
                before = disk.asked("COMMIT")
                await eventually(lambda: disk.asked("COMMIT") > before)
            assert blob_files(tmp_path) == 1
            await eventually(lambda: not blob_files(tmp_path))

    run(scenario())
