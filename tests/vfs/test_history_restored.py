"""Putting versions back into a mount: what programs, the server and the history see of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from engine_harness import QUICK, Mounted, mounted, run
from kept_versions import kept_versions
from model_remote import ModelRemote

from jobfs.engine.restore import TreeRestorer, deleted_in, last_deleted
from jobfs.engine.session import Options
from jobfs.errors import HistoryError, NoSuchVersion
from jobfs.model import ROOT, Content, Kind
from jobfs.planner.retention import Retention, Wanted
from jobfs.store.history import Reason, Version

S = 10**9


@pytest.fixture
def remote() -> ModelRemote:
    made = ModelRemote()
    made.put("a", b"first")
    made.put("d", None)
    made.put("d/b", b"other")
    return made


def only(mount: Mounted, path: str) -> Version:
    [version] = mount.session.state.versions.at(path)
    return version


async def restored(mount: Mounted, version: Version, path: str, *, is_undelete: bool = False) -> bool:
    restorer = TreeRestorer(mount.session.workspace)
    return (await restorer.restore(version, path, is_undelete=is_undelete)).is_changed


def test_a_version_comes_back_like_a_save_and_what_it_replaces_is_a_version(
    tmp_path: Path, remote: ModelRemote
) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            assert await mount.read("a") == b"first"
            await mount.write("a", b"second")
            await mount.settle()
            remote.calls.clear()
            assert await restored(mount, only(mount, "a"), "a")
            assert await mount.read("a") == b"first"
            await mount.settle()
            assert remote.tree()["a"] == b"first"
            assert [name for name, _ in remote.asked("create_file", "update", "delete")] == [
                "create_file", "update", "update", "delete",
            ]  # fmt: skip
            assert kept_versions(mount.session.state) == [("a", b"first", "replaced"), ("a", b"second", "replaced")]

    run(scenario())


def test_what_was_never_sent_is_a_version_too_when_another_takes_its_place(tmp_path: Path, remote: ModelRemote) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            assert await mount.read("a") == b"first"
            await mount.write("a", b"unsent")
            assert await restored(mount, only(mount, "a"), "a")
            assert [data for _, data, _ in kept_versions(mount.session.state)] == [b"first", b"unsent"]
            await mount.settle()
            assert remote.tree()["a"] == b"first"

    run(scenario())


def test_what_was_never_sent_is_not_replaced_where_the_history_has_no_room(tmp_path: Path, remote: ModelRemote) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            await mount.read("a")
            await mount.write("a", b"unsent")
            version = only(mount, "a")
            mount.session.workspace.history.retention = Retention(limit_bytes=1)
            with pytest.raises(HistoryError, match="not sent yet"):
                await restored(mount, version, "a")
            assert await mount.read("a") == b"unsent"

    run(scenario())


def test_a_program_keeps_the_file_that_it_has_open_and_the_name_is_another_ones(
    tmp_path: Path, remote: ModelRemote
) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            await mount.read("a")
            await mount.write("a", b"second")
            await mount.settle()
            handle = mount.vfs.open(mount.node("a"), os.O_RDWR)
            before = mount.node("a")
            assert await restored(mount, only(mount, "a"), "a")
            assert mount.node("a") != before
            assert await mount.vfs.read(handle, 9, 0) == b"second"
            await mount.vfs.write(handle, b"!", 6)
            await mount.vfs.flush(handle)
            mount.vfs.release(handle)
            await mount.settle()
            copies = [name for name in mount.names() if "conflict" in name]
            assert [await mount.read(name) for name in copies] == [b"second!"]
            assert await mount.read("a") == b"first"
            assert kept_versions(mount.session.state)[-1] == ("a", b"second", "replaced")

    run(scenario())


def test_a_deleted_tree_comes_back_with_its_directories_times_and_modes(tmp_path: Path, remote: ModelRemote) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            mount.vfs.make(mount.node("d"), "e", Kind.DIRECTORY, mode=0o755)
            await mount.write("d/e/run.sh", b"#!/bin/sh")
            mount.vfs.set_mode(mount.node("d/e/run.sh"), 0o755)
            mount.vfs.set_times(mount.node("d/e/run.sh"), mtime_ns=5 * S)
            await mount.read("d/b")
            await mount.settle()
            mount.vfs.unlink(*mount.place("d/e/run.sh"))
            mount.vfs.unlink(*mount.place("d/b"))
            mount.vfs.rmdir(*mount.place("d/e"))
            mount.vfs.rmdir(*mount.place("d"))
            await mount.settle()
            assert "d" not in remote.tree()
            for version in last_deleted(mount.session.state.versions.below("d")):
                assert await restored(mount, version, version.path, is_undelete=True)
            found = mount.vfs.attributes(mount.node("d/e/run.sh"))
            assert (found.mode & 0o777, found.mtime_ns) == (0o755, 5 * S)
            await mount.settle()
            tree = remote.tree()
            assert (tree["d/e/run.sh"], tree["d/b"]) == (b"#!/bin/sh", b"other")

    run(scenario())


def test_an_undelete_before_the_deletion_was_sent_leaves_the_server_as_it_was(
    tmp_path: Path, remote: ModelRemote
) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            await mount.read("a")
            mount.vfs.unlink(ROOT, "a")
            assert await restored(mount, only(mount, "a"), "a", is_undelete=True)
            await mount.settle()
            assert remote.tree()["a"] == b"first"
            assert await mount.read("a") == b"first"

    run(scenario())


def test_a_version_that_is_there_already_changes_nothing(tmp_path: Path, remote: ModelRemote) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            await mount.write("n", b"one")
            await mount.settle()
            await mount.write("n", b"two")
            await mount.settle()
            version = only(mount, "n")
            assert await restored(mount, version, "n")
            await mount.settle()
            node = mount.node("n")
            assert not await restored(mount, version, "n")
            assert mount.node("n") == node

    run(scenario())


@pytest.mark.parametrize(
    ("path", "says"),
    [("d", "is there"), ("d/b", "is there"), ("a/x", "no directory"), ("bad\n", "nothing can be"), ("x" * 300, "can"),
     ("perstack/x", "nothing can be written"), ("locked", "read-only")],
)  # fmt: skip
def test_a_place_that_cannot_be_had_is_refused_with_a_reason(
    tmp_path: Path, remote: ModelRemote, path: str, says: str
) -> None:
    remote.put("perstack", None)
    remote.put("locked", b"x")

    async def scenario() -> None:
        async with mounted(tmp_path, remote) as mount:
            await mount.read("a")
            await mount.write("a", b"second")
            mount.vfs.set_mode(mount.node("locked"), 0o444)
            await mount.settle()
            before = remote.tree()
            with pytest.raises(HistoryError, match=says):
                await restored(mount, only(mount, "a"), path, is_undelete=path == "d/b")
            await mount.settle()
            assert remote.tree() == before

    run(scenario())


def test_a_version_that_went_meanwhile_is_said_to_be_gone(tmp_path: Path, remote: ModelRemote) -> None:
    async def scenario() -> None:
        options = Options(times=QUICK, history=Wanted(30, 1 << 20))
        async with mounted(tmp_path, remote, options=options) as mount:
            await mount.read("a")
            await mount.write("a", b"second")
            version = only(mount, "a")
            with mount.session.state.transaction():
                mount.session.workspace.history.forget(version)
            with pytest.raises(NoSuchVersion):
                await restored(mount, version, "a")

    run(scenario())


def test_how_much_is_kept_is_remembered(tmp_path: Path, remote: ModelRemote) -> None:
    async def scenario(wanted: Wanted) -> Retention:
        async with mounted(tmp_path, remote, options=Options(times=QUICK, history=wanted)) as mount:
            return mount.session.workspace.history.retention

    assert run(scenario(Wanted())) == Retention()
    assert run(scenario(Wanted(limit_bytes=1 << 40))) == Retention(30, 1 << 40)
    assert run(scenario(Wanted(days=7.5))) == Retention(7.5, 1 << 40)
    assert run(scenario(Wanted())) == Retention(7.5, 1 << 40)


def version_of(path: str, at_s: int, number: int, reason: Reason = Reason.DELETED) -> Version:
    return Version(path, None, Content(0), reason, at_s * S, number=number)


def test_what_went_in_one_go_is_what_went_last_without_a_pause() -> None:
    versions = [
        version_of("d/old", 10, 1),
        version_of("d/a", 100, 2),
        version_of("d/a", 105, 3),
        version_of("d/b", 112, 4),
        version_of("d/edited", 113, 5, Reason.REPLACED),
        version_of("d/c", 121, 6, Reason.DELETED_THERE),
    ]
    assert [one.number for one in last_deleted(versions)] == [3, 4, 6]
    assert last_deleted(versions[4:5]) == []


def test_what_is_deleted_is_a_path_whose_last_version_was() -> None:
    versions = [version_of("a", 1, 1), version_of("b", 2, 2), version_of("b", 3, 3, Reason.REPLACED)]
    assert [one.number for one in deleted_in(versions[::-1])] == [1]
