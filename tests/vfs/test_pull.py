"""What the server changes, and what programs here see of it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from engine_harness import QUICK, eventually, mounted, run
from kept_versions import kept_versions
from model_remote import ModelPage, ModelRemote

from jobfs.engine.lookahead import Prefetch
from jobfs.engine.session import Options
from jobfs.errors import DeadlineExceeded, NotFound, ProtocolViolation
from jobfs.model import ItemId, Kind
from jobfs.planner.ignore import Ignore
from jobfs.planner.plan import ConflictPolicy


def test_a_remote_change_is_a_new_inode_and_an_open_handle_keeps_the_old_bytes(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"old")
        async with mounted(tmp_path, remote) as mount:
            assert await mount.read("a") == b"old"
            before = mount.node("a")
            handle = mount.vfs.open(before, os.O_RDONLY)
            remote.put("a", b"newer")
            await mount.pull()
            assert mount.node("a") != before
            assert await mount.vfs.read(handle, 100, 0) == b"old"
            assert mount.vfs.attributes(before).size == 3
            assert await mount.read("a") == b"newer"
            mount.vfs.release(handle)

    run(scenario())


def test_a_push_of_ours_changes_neither_inode_nor_mtime(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"old")
        async with mounted(tmp_path, remote) as mount:
            await mount.write("a", b"new")
            mount.vfs.set_times(mount.node("a"), mtime_ns=1_234_567_890_123_456_789)
            before = mount.vfs.attributes(mount.node("a"))
            await mount.settle()
            await mount.pull()
            after = mount.vfs.attributes(mount.node("a"))
            assert (after.inode, after.mtime_ns) == (before.inode, 1_234_567_890_123_456_789)
            assert len(remote.asked("download")) == 0

    run(scenario())


def test_remote_creations_moves_and_deletions_are_shown(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"A")
        for number in range(3):
            remote.put(f"stays{number}", b"S")
        async with mounted(tmp_path, remote) as mount:
            assert await mount.read("a") == b"A"
            remote.put("out", None, owner="expert")
            remote.put("out/report.md", b"# done", owner="expert")
            await remote.update(remote.at("a").id, path="out/a")
            remote.remove("stays0")
            await mount.pull()
            assert mount.names() == ["out", "stays1", "stays2"]
            assert mount.names("out") == ["a", "report.md"]
            assert await mount.read("out/report.md") == b"# done"
        assert remote.asked("create_file", "delete", "create_directory") == []

    run(scenario())


def test_both_changed_keeps_both_and_the_remote_one_has_the_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("notes.txt", b"base")
        async with mounted(tmp_path, remote) as mount:
            assert await mount.read("notes.txt") == b"base"
            remote.put("notes.txt", b"theirs")
            await mount.write("notes.txt", b"ours")
            await mount.settle()
            await mount.pull()
            [copy] = [name for name in mount.names() if "conflict" in name]
            assert copy.startswith("notes (conflict from testhost ")
            assert copy.endswith(").txt")
            assert await mount.read("notes.txt") == b"theirs"
            assert await mount.read(copy) == b"ours"
            await mount.pull()
            assert len(mount.names()) == 2
        assert sorted(filter(None, remote.tree().values())) == [b"ours", b"theirs"]

    run(scenario())


def test_both_changed_alike_is_no_conflict(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"base")
        async with mounted(tmp_path, remote) as mount:
            remote.put("a", b"alike")
            await mount.session.feed.poll()
            await mount.write("a", b"alike")
            await mount.settle()
            await mount.pull()
            assert mount.names() == ["a"]
        assert remote.tree() == {"a": b"alike"}

    run(scenario())


def test_with_the_remote_policy_the_losers_bytes_stay_in_the_history(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"base")
        options = Options(policy=ConflictPolicy.REMOTE, times=QUICK)
        async with mounted(tmp_path, remote, options=options) as mount:
            assert await mount.read("a") == b"base"
            remote.put("a", b"theirs")
            await mount.write("a", b"ours")
            await mount.settle()
            await mount.pull()
            assert mount.names() == ["a"]
            assert await mount.read("a") == b"theirs"
            versions = kept_versions(mount.session.state)
            assert versions == [("a", b"base", "replaced"), ("a", b"ours", "lost a conflict")]

    run(scenario())


def test_an_edit_beats_a_remote_delete(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"base")
        remote.put("b", b"other")
        async with mounted(tmp_path, remote) as mount:
            assert await mount.read("a") == b"base"
            remote.remove("a")
            await mount.write("a", b"edited")
            await mount.settle()
            await mount.pull()
            assert await mount.read("a") == b"edited"
        assert remote.tree() == {"a": b"edited", "b": b"other"}

    run(scenario())


def test_deleting_a_directory_spares_what_the_server_gained_unseen(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("d", None)
        remote.put("d/seen", b"seen")
        async with mounted(tmp_path, remote) as mount:
            remote.put("d/unseen", b"unseen", owner="expert")
            await mount.session.feed.poll()
            mount.vfs.unlink(*mount.place("d/seen"))
            await mount.settle()
            await mount.pull()
            assert mount.names("d") == ["unseen"]
        assert remote.tree() == {"d": None, "d/unseen": b"unseen"}

    run(scenario())


def test_an_open_file_that_is_deleted_remotely_can_still_be_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"bytes")
        remote.put("b", b"other")
        async with mounted(tmp_path, remote) as mount:
            handle = mount.vfs.open(mount.node("a"), os.O_RDONLY)
            assert await mount.vfs.read(handle, 100, 0) == b"bytes"
            remote.remove("a")
            await mount.pull()
            assert mount.names() == ["b"]
            assert await mount.vfs.read(handle, 100, 0) == b"bytes"
            mount.vfs.release(handle)
            assert mount.session.state.check() == []

    run(scenario())


def test_an_unread_file_that_is_unlinked_while_open_keeps_its_bytes(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"never read before")
        async with mounted(tmp_path, remote) as mount:
            handle = mount.vfs.open(mount.node("a"), os.O_RDONLY)
            mount.vfs.unlink(*mount.place("a"))
            assert await mount.vfs.read(handle, 100, 0) == b"never read before"
            mount.vfs.release(handle)
            await mount.settle()
        assert remote.tree() == {}

    run(scenario())


def test_writing_on_after_a_remote_version_took_the_name_becomes_a_conflict_copy(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a.txt", b"base")
        async with mounted(tmp_path, remote) as mount:
            assert await mount.read("a.txt") == b"base"
            handle = mount.vfs.open(mount.node("a.txt"), os.O_WRONLY)
            remote.put("a.txt", b"theirs")
            await mount.pull()
            await mount.vfs.write(handle, b"ours", 0)
            await mount.vfs.flush(handle)
            mount.vfs.release(handle)
            await mount.settle()
            [copy] = [name for name in mount.names() if "conflict" in name]
            assert await mount.read(copy) == b"ours"
            assert await mount.read("a.txt") == b"theirs"
        assert remote.tree()[copy] == b"ours"

    run(scenario())


def test_writing_on_after_the_file_was_deleted_elsewhere_becomes_a_conflict_copy(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("d", None)
        remote.put("d/a.txt", b"first")
        for name in "xyz":
            remote.put(name, b"stays")
        async with mounted(tmp_path, remote) as mount:
            handle = mount.vfs.open(mount.node("d/a.txt"), os.O_RDWR)
            assert await mount.vfs.read(handle, 10, 0) == b"first"
            await remote.delete(remote.at("d").id)
            await mount.pull()
            assert mount.names() == ["x", "y", "z"]
            await mount.vfs.write(handle, b" and more", 5)
            await mount.vfs.flush(handle)
            mount.vfs.release(handle)
            await mount.settle()
            [copy] = set(remote.tree()) - set("xyz")
            assert copy.startswith("a (conflict from testhost")
            assert remote.tree()[copy] == b"first and more"

    run(scenario())


def test_one_download_serves_many_readers_as_the_bytes_arrive(tmp_path: Path) -> None:
    async def scenario() -> None:
        import asyncio

        remote = ModelRemote()
        remote.put("big", bytes(range(256)) * 4096)
        async with mounted(tmp_path, remote) as mount:
            handle = mount.vfs.open(mount.node("big"), os.O_RDONLY)
            reads = [mount.vfs.read(handle, 16, at) for at in (0, 500_000, 1_000_000)]
            assert [len(data) for data in await asyncio.gather(*reads)] == [16, 16, 16]
            mount.vfs.release(handle)
        assert len(remote.asked("download")) == 1

    run(scenario())


def test_the_first_bytes_come_before_the_last_have_left_the_server(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.chunk_bytes = 1000
        remote.put("big", b"x" * 100_000)
        async with mounted(tmp_path, remote) as mount:
            handle = mount.vfs.open(mount.node("big"), os.O_RDONLY)
            given = [0]
            whole = remote.gate.wait

            async def stop_after_ten() -> bool:
                given[0] += 1
                if given[0] > 10:
                    remote.gate.clear()
                return await whole()

            remote.gate.wait = stop_after_ten  # type: ignore[method-assign]
            assert await mount.vfs.read(handle, 4096, 0) == b"x" * 4096
            assert mount.session.state.local.get(mount.node("big")).blob is None
            mount.vfs.release(handle)
            remote.gate.set()

    run(scenario())


def test_a_read_without_progress_fails_at_its_deadline(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"x" * 10)
        async with mounted(tmp_path, remote, options=Options(times=QUICK, read_deadline_s=0.05)) as mount:
            remote.gate.clear()
            with pytest.raises(DeadlineExceeded):
                await mount.read("a")

    run(scenario())


def test_a_body_of_the_wrong_length_is_an_error_and_never_content(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        item = remote.put("a", b"0123456789")
        async with mounted(tmp_path, remote) as mount:
            for wrong in (b"01234", b"0123456789X"):
                remote.bytes[item.id] = wrong
                with pytest.raises(ProtocolViolation):
                    await mount.read("a")
            remote.bytes[item.id] = b"0123456789"
            assert await mount.read("a") == b"0123456789"

    run(scenario())


def test_ignored_names_are_local_only_and_remote_ones_stay_untouched(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("node_modules", None)
        remote.put("node_modules/theirs", b"theirs")
        async with mounted(tmp_path, remote) as mount:
            assert mount.names() == []
            mount.vfs.make(*mount.place(".git"), Kind.DIRECTORY, mode=0o755)
            await mount.write(".git/HEAD", b"ref: refs/heads/main\n")
            mount.vfs.make(*mount.place(".git/link"), Kind.SYMLINK, mode=0o777, target="HEAD")
            mount.vfs.link(mount.node(".git/HEAD"), mount.node(".git"), "HARD")
            await mount.settle()
        async with mounted(tmp_path, remote) as mount:
            assert mount.names(".git") == ["HARD", "HEAD", "link"]
            assert await mount.read(".git/HARD") == b"ref: refs/heads/main\n"
            assert mount.vfs.attributes(mount.node(".git/HEAD")).links == 2
            assert mount.vfs.read_link(mount.node(".git/link")) == "HEAD"
        assert remote.asked() == []
        assert sorted(remote.tree()) == ["node_modules", "node_modules/theirs"]

    run(scenario())


def test_moving_out_of_and_into_ignored_names_pushes_and_deletes(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("data", None)
        remote.put("data/x", b"never read here")
        async with mounted(tmp_path, remote) as mount:
            await mount.rename("data", ".venv")
            await mount.settle()
            assert remote.tree() == {}
            assert await mount.read(".venv/x") == b"never read here"
            await mount.rename(".venv", "data")
            await mount.settle()
        assert remote.tree() == {"data": None, "data/x": b"never read here"}

    run(scenario())


def test_a_changed_ignore_rule_never_reads_as_deletions(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("keep", b"k")
        remote.put("logs", None)
        remote.put("logs/1", b"one")
        async with mounted(tmp_path, remote) as mount:
            assert mount.names() == ["keep", "logs"]
        async with mounted(tmp_path, remote, ignore=Ignore(extra=["logs/"])) as mount:
            await mount.settle()
            await mount.pull()
            assert mount.names() == ["keep", "logs"]
            assert await mount.read("logs/1") == b"one"
        async with mounted(tmp_path, remote) as mount:
            await mount.settle()
            await mount.pull()
            assert mount.names() == ["keep", "logs"]
        assert remote.tree() == {"keep": b"k", "logs": None, "logs/1": b"one"}

    run(scenario())


def test_an_unstable_listing_deletes_nothing_that_is_still_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        for number in range(250):
            remote.put(f"f{number:03d}", b"x")
        async with mounted(tmp_path, remote) as mount:
            remote.remove("f007")
            whole = remote.list_page

            async def torn(*, skip: int, take: int) -> ModelPage:
                page = await whole(skip=skip, take=take)
                return ModelPage(page.items[2:] if skip else page.items, page.total)

            remote.list_page = torn  # type: ignore[method-assign]
            await mount.pull()
            assert len(mount.names()) == 249
            assert "f007" not in mount.names()

    run(scenario())


def test_a_remote_wipe_of_most_files_stops_at_the_guard(tmp_path: Path, expected_logs: object) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        for number in range(50):
            remote.put(f"f{number:02d}", b"x")
        async with mounted(tmp_path, remote) as mount:
            for number in range(40):
                remote.remove(f"f{number:02d}")
            await mount.pull()
            assert len(mount.names()) == 50
            assert "40 of 50" in mount.session.guard.detail
        async with mounted(tmp_path, remote, options=Options(times=QUICK, max_deletions=None)) as mount:
            await mount.pull()
            assert len(mount.names()) == 10

    expected_logs.expect("stopped: 40 of 50")  # type: ignore[attr-defined]
    run(scenario())


def test_a_hint_of_the_server_is_followed_by_a_listing_while_the_expert_may_write(tmp_path: Path) -> None:
    remote = ModelRemote()
    remote.job_status = "running"
    times = replace(QUICK, active_s=3600.0, status_s=3600.0, status_max_s=3600.0)

    async def story() -> None:
        async with mounted(tmp_path, remote, options=Options(times=times)) as mount:
            remote.put("made.txt", b"by the expert")
            remote.hinted.put_nowait("a checkpoint")
            await eventually(lambda: mount.names() == ["made.txt"])
            remote.hinted.put_nowait(None)  # the end of the stream is no hint

    run(story())


def test_a_vanished_workspace_freezes_the_local_copy(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"A")
        async with mounted(tmp_path, remote) as mount:
            assert await mount.read("a") == b"A"

            def gone(name: str, subject: str) -> None:
                raise NotFound("no such job", status=404)

            remote.before = gone
            with pytest.raises(NotFound):
                await mount.session.feed.poll()
            assert mount.session.feed.is_frozen
            assert await mount.read("a") == b"A"

    run(scenario())


def test_a_shared_item_is_written_by_a_private_copy_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        shared = remote.put("default.toml", b"default", shared=True)
        async with mounted(tmp_path, remote) as mount:
            for refused in (
                lambda: mount.vfs.unlink(*mount.place("default.toml")),
                lambda: mount.vfs.set_mode(mount.node("default.toml"), 0o444),
            ):
                with pytest.raises(PermissionError):
                    refused()
            with pytest.raises(PermissionError):
                await mount.rename("default.toml", "mine.toml")
            await mount.write("default.toml", b"mine")
            await mount.settle()
            await mount.pull()
            assert await mount.read("default.toml") == b"mine"
        assert remote.bytes[shared.id] == b"default"
        assert remote.asked("update", "delete") == []

    run(scenario())


def test_the_runtimes_own_directory_is_read_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("perstack", None)
        remote.put("perstack/run.json", b"{}")
        async with mounted(tmp_path, remote) as mount:
            assert await mount.read("perstack/run.json") == b"{}"
            assert mount.vfs.attributes(mount.node("perstack/run.json")).mode == 0o444
            with pytest.raises(PermissionError):
                mount.vfs.open(mount.node("perstack/run.json"), os.O_RDWR)
            with pytest.raises(PermissionError):
                mount.vfs.make(mount.node("perstack"), "new", Kind.FILE, mode=0o644)
            with pytest.raises(PermissionError):
                await mount.rename("perstack", "elsewhere")

    run(scenario())


def test_reading_two_files_of_a_directory_brings_its_small_neighbours(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        for number in range(20):
            remote.put(f"f{number:02d}", b"x" * 100)
        remote.put("large", b"x" * (1 << 20))
        async with mounted(tmp_path, remote) as mount:
            await mount.read("f00")
            await mount.read("f01")
            await eventually(lambda: len(remote.asked("download")) == 20)
            assert await mount.read("f19") == b"x" * 100
            assert len(remote.asked("download")) == 20
            assert mount.session.state.local.get(mount.node("large")).blob is None

    run(scenario())


def test_a_listing_of_250_items_takes_as_many_pages_as_the_budget_says(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        for number in range(250):
            remote.put(f"f{number:03d}", b"x")
        async with mounted(tmp_path, remote) as mount:
            assert len(mount.names()) == 250
            assert len(remote.calls) <= 2 + -(-249 // 99)
            before = len(remote.calls)
            for name in mount.names():
                mount.vfs.attributes(mount.node(name))
            assert len(remote.calls) == before

    run(scenario())


def test_an_item_id_that_changes_at_the_same_place_is_the_same_file_changed(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"one")
        async with mounted(tmp_path, remote) as mount:
            assert await mount.read("a") == b"one"
            remote.remove("a")
            assert remote.put("a", b"two").id != ItemId("")
            await mount.pull()
            assert await mount.read("a") == b"two"
            assert mount.names() == ["a"]

    run(scenario())


def test_the_longest_unused_clean_copies_are_evicted_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        for number in range(10):
            remote.put(f"f{number}", bytes([number]) * 1000)
        options = Options(times=QUICK, cache_bytes=4500, prefetch=Prefetch.NONE)
        async with mounted(tmp_path, remote, options=options) as mount:
            await mount.write("dirty", b"d" * 1000)

            held = mount.vfs.open(mount.node("f0"), os.O_RDONLY)
            assert len(await mount.vfs.read(held, 1000, 0)) == 1000
            for number in range(1, 10):
                assert await mount.read(f"f{number}") == bytes([number]) * 1000
            local = mount.session.state.local
            here = {name for name in mount.names() if local.get(mount.node(name)).blob is not None}
            assert {"f0", "f9"} <= here
            assert mount.session.state.local.held_bytes <= 4500
            mount.vfs.release(held)
            assert await mount.read("f1") == bytes([1]) * 1000
            await mount.settle()
        assert remote.tree()["dirty"] == b"d" * 1000

    run(scenario())


def test_opening_a_version_that_the_server_no_longer_has_starts_over_with_the_new_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"old")
        async with mounted(tmp_path, remote) as mount:
            remote.put("a", b"newer", owner="expert")
            before = mount.node("a")
            handle = mount.vfs.open(before, os.O_RDONLY)
            assert mount.vfs.is_cold(handle)
            with pytest.raises(OSError, match="Stale"):
                await mount.vfs.confirm(handle)
            assert mount.vfs.table.handles == {}
            await eventually(lambda: mount.node("a") != before)
            assert await mount.read("a") == b"newer"

    run(scenario())
