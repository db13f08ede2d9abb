"""What reaches the server of what a program does, and with how many requests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from engine_harness import Mounted, eventually, mounted, run
from model_remote import ModelRemote

from jobfs.errors import OutcomeUnknown, Refused, ServerFailure, Unreachable
from jobfs.model import Kind


def test_a_new_file_is_one_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        async with mounted(tmp_path, remote) as mount:
            await mount.write("report.md", b"# report")
            await mount.settle()
        assert remote.asked() == [("create_file", "report.md")]
        assert remote.tree() == {"report.md": b"# report"}

    run(scenario())


def test_a_save_over_a_file_is_four_requests_and_the_third_makes_it_visible(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a.txt", b"old")
        seen: list[tuple[str, bytes | None]] = []
        remote.after = lambda call, subject: seen.append((call, remote.tree().get("a.txt")))
        async with mounted(tmp_path, remote) as mount:
            seen.clear()
            await mount.write("a.txt", b"new")
            await mount.settle()
        assert seen == [("create_file", b"old"), ("update", None), ("update", b"new"), ("delete", b"new")]
        assert remote.tree() == {"a.txt": b"new"}

    run(scenario())


def test_a_save_with_equal_bytes_is_no_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a.txt", b"same")
        async with mounted(tmp_path, remote) as mount:
            assert await mount.read("a.txt") == b"same"
            remote.calls.clear()
            await mount.write("a.txt", b"same")
            await mount.settle()
            assert remote.asked() == []

    run(scenario())


@pytest.mark.parametrize("temporary", [".a.txt.swp", "a.txt.tmp", ".goutputstream-AB12CD", "a.txt___jb_tmp___"])
def test_an_atomic_save_is_one_save_and_its_temporary_file_is_never_on_the_server(
    tmp_path: Path, temporary: str
) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a.txt", b"old")
        async with mounted(tmp_path, remote) as mount:
            await mount.write(temporary, b"new")
            await mount.rename(temporary, "a.txt")
            await mount.settle()
        assert [call for call, _ in remote.asked()] == ["create_file", "update", "update", "delete"]
        assert remote.tree() == {"a.txt": b"new"}

    run(scenario())


def test_a_save_that_moves_the_old_version_to_a_backup_name_is_one_save(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a.txt", b"old")
        async with mounted(tmp_path, remote) as mount:
            await mount.rename("a.txt", "a.txt~")
            remote.calls.clear()
            await mount.write("a.txt", b"new")
            mount.vfs.unlink(*mount.place("a.txt~"))
            await mount.settle()
        assert [call for call, _ in remote.asked()] == ["create_file", "update", "update", "delete"]
        assert remote.tree() == {"a.txt": b"new"}

    run(scenario())


def test_what_is_deleted_before_its_push_is_no_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        async with mounted(tmp_path, remote) as mount:
            await mount.write("scratch", b"x")
            mount.vfs.unlink(*mount.place("scratch"))
            await mount.settle()
        assert remote.asked() == []

    run(scenario())


def test_renaming_a_file_and_renaming_a_directory_are_one_request_each(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("d", None)
        remote.put("e", None)
        for number in range(5):
            remote.put(f"d/{number}", b"x")
        async with mounted(tmp_path, remote) as mount:
            await mount.rename("d", "learns")  # the first one finds out whether children follow
            await mount.settle()
            remote.calls.clear()
            await mount.rename("learns", "moved")
            await mount.rename("moved/0", "moved/zero")
            await mount.settle()
            assert [call for call, _ in remote.asked()] == ["update", "update"]
        assert sorted(remote.tree()) == ["e", "moved", "moved/1", "moved/2", "moved/3", "moved/4", "moved/zero"]

    run(scenario())


def test_renaming_a_directory_moves_its_children_where_the_server_does_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote(children_follow=False)
        remote.put("d", None)
        remote.put("d/sub", None)
        remote.put("d/sub/x", b"x")
        remote.put("d/y", b"y")
        async with mounted(tmp_path, remote) as mount:
            await mount.rename("d", "moved")
            await mount.settle()
            await mount.pull()
            assert mount.names("moved") == ["sub", "y"]
        assert remote.tree() == {"moved": None, "moved/sub": None, "moved/sub/x": b"x", "moved/y": b"y"}

    run(scenario())


def test_removing_a_tree_is_one_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("d", None)
        remote.put("d/x", b"x")
        remote.put("d/sub", None)
        remote.put("d/sub/y", b"y")
        remote.put("keep", b"k")
        async with mounted(tmp_path, remote) as mount:
            for path in ("d/x", "d/sub/y"):
                mount.vfs.unlink(*mount.place(path))
            for path in ("d/sub", "d"):
                mount.vfs.rmdir(*mount.place(path))
            await mount.settle()
        assert [call for call, _ in remote.asked()] == ["delete"]
        assert remote.tree() == {"keep": b"k"}

    run(scenario())


def test_a_tree_of_new_directories_and_files_arrives_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        async with mounted(tmp_path, remote) as mount:
            for directory in ("a", "a/b", "a/b/c"):
                mount.vfs.make(*mount.place(directory), Kind.DIRECTORY, mode=0o755)
                for number in range(3):
                    await mount.write(f"{directory}/{number}", f"{directory}{number}".encode())
            await mount.settle()
        assert len(remote.asked()) == 12
        assert remote.tree()["a/b/c/2"] == b"a/b/c2"

    run(scenario())


def test_swapping_two_names_ends_as_the_user_sees_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"A")
        remote.put("b", b"B")
        async with mounted(tmp_path, remote) as mount:
            await mount.rename("a", "t")
            await mount.rename("b", "a")
            await mount.rename("t", "b")
            await mount.settle()
        assert remote.tree() == {"a": b"B", "b": b"A"}

    run(scenario())


def test_renaming_a_file_over_another_leaves_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"A")
        remote.put("b", b"B")
        async with mounted(tmp_path, remote) as mount:
            await mount.rename("a", "b")
            await mount.settle()
        assert remote.tree() == {"b": b"A"}

    run(scenario())


@pytest.mark.parametrize("lost", [OutcomeUnknown, ServerFailure])
@pytest.mark.parametrize("call", ["create_file", "create_directory", "update", "delete"])
def test_a_lost_answer_is_looked_up_and_not_sent_twice(
    tmp_path: Path, call: str, lost: type[OutcomeUnknown | ServerFailure]
) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("old", b"old")
        remote.put("gone", b"gone")
        pending = [call]

        def lose(name: str, subject: str) -> None:
            if name in pending:
                pending.remove(name)
                raise lost("the connection broke")

        async with mounted(tmp_path, remote) as mount:
            remote.after = lose
            await mount.write("new", b"new")
            mount.vfs.make(*mount.place("dir"), Kind.DIRECTORY, mode=0o755)
            await mount.rename("old", "renamed")
            mount.vfs.unlink(*mount.place("gone"))
            await mount.settle()
        assert pending == []
        assert remote.tree() == {"dir": None, "new": b"new", "renamed": b"old"}
        assert len(remote.asked(call)) == 1

    run(scenario())


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_replace_cut_off_at_any_request_is_finished_when_the_server_is_back(
    tmp_path: Path, step: int, moment: str
) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"old")
        counted = [0]

        def fail(name: str, subject: str) -> None:
            if name in ("create_file", "update", "delete"):
                counted[0] += 1
                if counted[0] == step + 1:
                    raise Unreachable("cut off")

        async with mounted(tmp_path, remote) as mount:
            setattr(remote, moment, fail)
            await mount.write("a", b"new")
            await eventually(lambda: counted[0] > step)
            await mount.settle()
            await mount.pull()
            await mount.pull()
            await eventually(lambda: sorted(remote.tree()) == ["a"])
            assert await mount.read("a") == b"new"
        assert remote.tree() == {"a": b"new"}

    run(scenario())


def test_a_refused_file_stays_dirty_with_the_servers_reason_and_is_sent_again_after_a_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()

        def refuse(name: str, subject: str) -> None:
            if name == "create_file":
                raise Refused("the server refused the file", reason="too pink")

        async with mounted(tmp_path, remote) as mount:
            remote.before = refuse
            await mount.write("a", b"pink")
            [left] = await mount.session.drain(5)
            assert (left.path, left.reason) == ("a", "the server refused the file (too pink)")
            assert len(remote.asked("create_file")) == 1
            assert mount.vfs.extended.get(mount.node("a"), "user.jobfs.reason") == left.reason.encode()
            remote.before = lambda name, subject: None
            await mount.write("a", b"blue")
            await mount.settle()
        assert remote.tree() == {"a": b"blue"}

    run(scenario())


def test_what_was_closed_is_pushed_by_the_next_session(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()

        def down(name: str, subject: str) -> None:
            raise Unreachable("no server")

        async with mounted(tmp_path, remote) as mount:
            remote.before = down
            await mount.write("a", b"offline work")
            mount.vfs.make(*mount.place("d"), Kind.DIRECTORY, mode=0o755)
            await mount.write("d/b", b"more")
        remote.before = lambda name, subject: None
        async with mounted(tmp_path, remote) as mount:
            await mount.settle()
        assert remote.tree() == {"a": b"offline work", "d": None, "d/b": b"more"}

    run(scenario())


def test_offline_work_is_pushed_without_being_asked_when_the_server_returns(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()

        def down(name: str, subject: str) -> None:
            raise Unreachable("no server")

        async with mounted(tmp_path, remote) as mount:
            remote.before = down
            await mount.write("a", b"offline")
            await eventually(lambda: mount.session.offline is not None)
            remote.before = lambda name, subject: None
            await eventually(lambda: remote.tree() == {"a": b"offline"})

    run(scenario())


def test_a_file_that_changes_during_its_upload_is_never_half_old_half_new(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        async with mounted(tmp_path, remote) as mount:

            def change(name: str, subject: str) -> None:
                if name == "create_file":
                    remote.before = lambda name, subject: None
                    _overwrite(mount, "a", b"BBBB")

            remote.before = change
            await mount.write("a", b"AAAA")
            seen: list[bytes | None] = []
            remote.after = lambda name, subject: seen.append(remote.tree().get("a"))
            await mount.settle()
        assert set(seen) <= {None, b"AAAA", b"BBBB"}
        assert remote.tree() == {"a": b"BBBB"}

    run(scenario())


def _overwrite(mount: Mounted, path: str, data: bytes) -> None:
    handle = mount.vfs.open(mount.node(path), os.O_WRONLY)
    assert mount.vfs.write_now(handle, data, 0) == len(data)
    mount.vfs.release(handle)


def test_chmod_of_the_write_bit_is_one_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"A")
        async with mounted(tmp_path, remote) as mount:
            mount.vfs.set_mode(mount.node("a"), 0o444)
            await mount.settle()
            assert remote.at("a").permission.value == "readOnly"
            with pytest.raises(PermissionError):
                mount.vfs.open(mount.node("a"), os.O_WRONLY)
            mount.vfs.set_mode(mount.node("a"), 0o755)
            await mount.settle()
            assert mount.vfs.attributes(mount.node("a")).mode == 0o755
        assert [call for call, _ in remote.asked()] == ["update", "update"]

    run(scenario())


def test_a_save_into_a_directory_that_no_item_stands_for_makes_the_directory_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("implied/deep/a", b"old")
        async with mounted(tmp_path, remote) as mount:
            await mount.write("implied/deep/a", b"new")
            await mount.settle()
        assert remote.tree() == {"implied": None, "implied/deep": None, "implied/deep/a": b"new"}

    run(scenario())


def test_a_replace_cut_off_is_mended_although_its_directory_was_renamed_since(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("d", None)
        remote.put("d/a", b"old")

        def fail(name: str, subject: str) -> None:
            if name == "delete":
                raise Unreachable("cut off")

        async with mounted(tmp_path, remote) as mount:
            remote.before = fail
            await mount.write("d/a", b"new")
            await eventually(lambda: remote.tree().get("d/a") == b"new" and bool(remote.asked("delete")))
            remote.before = lambda name, subject: None
            remote.put("elsewhere", None)
            await remote.update(remote.at("d").id, path="elsewhere/d")
            await mount.pull()
            await eventually(lambda: sorted(remote.tree()) == ["elsewhere", "elsewhere/d", "elsewhere/d/a"])

    run(scenario())
