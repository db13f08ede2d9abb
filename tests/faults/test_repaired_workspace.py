"""After a repair the workspace goes on with the server: nothing is deleted there, and what was not sent gets there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from engine_harness import Mounted, mounted, run
from model_remote import ModelRemote
from state_workshop import NOW_NS, free_name

from jobfs.store.repair import decide
from jobfs.store.stock import Finding, read_stock, write_repair


async def filled(directory: Path, remote: ModelRemote) -> None:
    """Mount, read and edit; then end without having sent the edit."""
    remote.put("docs", None)
    remote.put("docs/edited", b"as it was")
    remote.put("docs/remote", b"only there")
    remote.put("plain", b"plain")
    async with mounted(directory, remote) as mount:
        await mount.read("plain")
        await mount.settle()
        await mount.session.stop()
        await mount.write("docs/edited", b"edited here")
        await mount.write("docs/new", b"never sent")
        await mount.write("plain.swp", b"stays here")


def broken(directory: Path, statement: str) -> Finding:
    with closing(sqlite3.connect(directory / "state.db", isolation_level=None)) as database:
        database.execute(statement)
    repair = decide(read_stock(directory), free_name, now_ns=NOW_NS)
    write_repair(directory, repair)
    return repair.findings[0]


async def settled(mount: Mounted) -> None:
    for _ in range(3):
        await mount.pull()
    await mount.settle()


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM local WHERE name = 'docs'",
        "UPDATE local SET parent = 99999 WHERE name IN ('new', 'plain', 'plain.swp')",
        "UPDATE local SET name = 'plain' WHERE name = 'plain.swp'",
        "UPDATE base SET parent = 99999",
        "UPDATE base SET item = 'one' WHERE kind = 'file'",
        "UPDATE base SET kind = 'nonsense'",
        "UPDATE base SET name = 'x' WHERE name IN ('remote', 'edited')",
        "UPDATE local SET kind = 'nonsense' WHERE name IN ('docs', 'remote')",
        "UPDATE local SET name = 'remote' WHERE name = 'edited'",
        "UPDATE local SET blob = 999 WHERE name = 'plain'",
    ],
)
def test_after_a_repair_nothing_is_deleted_on_the_server_and_what_was_not_sent_gets_there(
    tmp_path: Path, damage: str
) -> None:
    remote = ModelRemote()

    async def play() -> None:
        await filled(tmp_path, remote)
        assert broken(tmp_path, damage).what
        remote.calls.clear()
        async with mounted(tmp_path, remote) as mount:
            await settled(mount)
            present = set(remote.tree().values())
            assert present >= {b"edited here", b"never sent", b"only there", b"plain"}
            assert b"stays here" not in present
            assert [path for path, data in remote.tree().items() if not await is_shown(mount, path, data)] == []

    run(play())


async def is_shown(mount: Mounted, path: str, data: bytes | None) -> bool:
    return await mount.read(path) == data if data is not None else bool(mount.node(path))


def test_a_base_record_dropped_for_a_deleted_file_brings_back_the_servers_version_and_no_more(tmp_path: Path) -> None:
    remote = ModelRemote()
    remote.put("a", b"a")
    remote.put("b", b"b")

    async def play() -> None:
        async with mounted(tmp_path, remote) as mount:
            await mount.session.stop()
            mount.vfs.unlink(*mount.place("a"))
            mount.vfs.unlink(*mount.place("b"))
        broken(tmp_path, "UPDATE base SET item = NULL WHERE name = 'a'")
        async with mounted(tmp_path, remote) as mount:
            await settled(mount)
            assert (mount.names(), remote.tree()) == (["a"], {"a": b"a"})

    run(play())
