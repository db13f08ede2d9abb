"""What is set on a file open for writing is in the store once that is closed; what the server hears of, at once."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from engine_harness import mounted, run
from model_remote import ModelRemote

from jobfs.model import ROOT, NodeId, Permission

MTIME_NS = 1_234_567_890_123_456_789


def stored(folder: Path, node: NodeId) -> tuple[object, ...]:
    """Return size, mode, mtime and permission as they would be found after a crash."""
    database = sqlite3.connect(folder / "state.db")
    try:
        query = "SELECT size, mode, mtime_ns, permission FROM local WHERE id = ?"
        return tuple(database.execute(query, (node,)).fetchone())
    finally:
        database.close()


def test_an_archivers_settings_are_in_the_store_when_the_file_is_closed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, ModelRemote()) as mount:
            vfs = mount.vfs
            made, handle = vfs.create(ROOT, "unpacked", mode=0o600, flags=os.O_WRONLY)
            assert vfs.write_now(handle, b"12345", 0) == 5
            vfs.set_times(made.inode, mtime_ns=MTIME_NS)
            vfs.set_mode(made.inode, 0o755)
            assert (vfs.attributes(made.inode).mtime_ns, vfs.attributes(made.inode).mode) == (MTIME_NS, 0o755)
            assert stored(tmp_path, made.inode)[:2] == (0, 0o600)
            assert vfs.flush_now(handle)
            assert stored(tmp_path, made.inode) == (5, 0o755, MTIME_NS, Permission.READ_WRITE.value)
            vfs.release(handle)

    run(scenario())


def test_a_permission_that_the_server_will_hear_of_is_in_the_store_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, ModelRemote()) as mount:
            vfs = mount.vfs
            made, handle = vfs.create(ROOT, "finished", mode=0o644, flags=os.O_WRONLY)
            vfs.set_mode(made.inode, 0o444)
            assert stored(tmp_path, made.inode)[3] == Permission.READ_ONLY.value
            vfs.release(handle)

    run(scenario())


def test_a_name_that_is_taken_leaves_no_bytes_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, ModelRemote()) as mount:
            vfs = mount.vfs
            _, handle = vfs.create(ROOT, "taken", mode=0o644, flags=os.O_WRONLY)
            before = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
            with pytest.raises(FileExistsError):
                vfs.create(ROOT, "taken", mode=0o644, flags=os.O_WRONLY)
            assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == before
            vfs.release(handle)

    run(scenario())
