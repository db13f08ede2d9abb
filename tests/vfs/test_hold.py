"""A held workspace: what stays here, what an approval lets out, and what a revert brings back."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from engine_harness import DEADLINE_S, QUICK, Mounted, eventually, mounted, run
from kept_versions import kept_versions, lost_bytes
from model_remote import ModelRemote

from jobfs.engine.leftover import Unsynced
from jobfs.engine.review import InTheWay, Published, Review
from jobfs.engine.session import Options
from jobfs.errors import NotFound, ServerFailure, Unreachable
from jobfs.model import Kind, path_of
from jobfs.planner.plan import ConflictPolicy


class Held(Mounted):
    """A mount whose changes are held."""

    def __init__(self, mount: Mounted) -> None:
        super().__init__(mount.vfs, mount.session, mount.remote)
        self.review = Review(mount.session)

    async def push(self, path: str = "") -> Published:
        return await self.review.publish(path, DEADLINE_S)

    async def quiet(self) -> list[Unsynced]:
        """Let everything happen that will happen by itself; return what the server does not have."""
        left = await self.session.drain(DEADLINE_S)
        assert self.session.state.check() == []
        return left

    async def differing(self, path: str = "") -> list[tuple[str | None, str | None]]:
        return [(one.old_path, one.new_path) for one in await self.review.differences(path)]


@asynccontextmanager
async def held(directory: Path, remote: ModelRemote, options: Options | None = None) -> AsyncIterator[Held]:
    """Open a held workspace; it stays held for those that open it later."""
    async with mounted(directory, remote, options=options) as plain:
        mount = Held(plain)
        if not mount.session.hold.is_on:
            await mount.review.hold(is_on=True)
        remote.calls.clear()
        yield mount


def workspace() -> ModelRemote:
    remote = ModelRemote()
    remote.put("src", None)
    remote.put("src/a.py", b"one\n")
    remote.put("src/b.py", b"two\n")
    remote.put("notes", b"three\n")
    return remote


def test_held_edits_of_every_kind_are_no_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = workspace()
        before = remote.tree()
        async with held(tmp_path, remote) as mount:
            await mount.write("src/a.py", b"edited\n")
            await mount.write("new.txt", b"new\n")
            mount.vfs.make(*mount.place("lib"), Kind.DIRECTORY, mode=0o755)
            await mount.rename("src/b.py", "lib/b.py")
            mount.vfs.unlink(*mount.place("notes"))
            left = await mount.quiet()
            assert [(one.path, one.reason, one.is_held) for one in left] == [
                (path, "held", True) for path in ("lib", "lib/b.py", "new.txt", "notes", "src/a.py")
            ]
            assert remote.asked() == []
        assert remote.tree() == before

    run(scenario())


def test_what_is_held_is_held_in_the_next_session_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = workspace()
        async with held(tmp_path, remote) as mount:
            await mount.write("src/a.py", b"edited\n")
        async with mounted(tmp_path, remote) as mount:
            assert [one.is_held for one in await mount.session.drain(DEADLINE_S)] == [True]
            assert remote.asked() == []
            assert await mount.read("src/a.py") == b"edited\n"

    run(scenario())


def test_a_push_sends_what_is_at_or_below_its_path_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = workspace()
        async with held(tmp_path, remote) as mount:
            await mount.write("src/a.py", b"edited\n")
            mount.vfs.unlink(*mount.place("src/b.py"))
            await mount.write("notes", b"mine\n")
            assert await mount.push("src") == Published(("src/a.py", "src/b.py"), (), ())
            assert [one.path for one in await mount.quiet()] == ["notes"]
        assert remote.tree() == {"notes": b"three\n", "src": None, "src/a.py": b"edited\n"}

    run(scenario())


def test_a_push_makes_the_directories_above_and_no_sibling(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = workspace()
        async with held(tmp_path, remote) as mount:
            mount.vfs.make(*mount.place("x"), Kind.DIRECTORY, mode=0o755)
            mount.vfs.make(*mount.place("x/y"), Kind.DIRECTORY, mode=0o755)
            await mount.write("x/y/new", b"new")
            await mount.write("x/y/other", b"other")
            published = await mount.push("x/y/new")
            assert published == Published(("x", "x/y", "x/y/new"), ("x", "x/y"), ())
            assert [one.path for one in await mount.quiet()] == ["x/y/other"]
        assert set(remote.tree()) == {"notes", "src", "src/a.py", "src/b.py", "x", "x/y", "x/y/new"}

    run(scenario())


def test_a_push_of_a_file_in_a_renamed_directory_takes_the_rename_along_and_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = workspace()
        async with held(tmp_path, remote) as mount:
            await mount.rename("src", "lib")
            await mount.write("lib/a.py", b"edited\n")
            await mount.write("lib/b.py", b"held\n")
            assert await mount.push("lib/a.py") == Published(("lib", "lib/a.py"), ("lib",), ())
        assert remote.tree() == {"lib": None, "lib/a.py": b"edited\n", "lib/b.py": b"two\n", "notes": b"three\n"}

    run(scenario())


def test_a_push_of_the_old_path_of_a_file_in_a_renamed_directory_renames_that(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = workspace()
        async with held(tmp_path, remote) as mount:
            await mount.rename("src", "lib")
            assert await mount.push("src/a.py") == Published(("lib",), ("lib",), ())
        assert set(remote.tree()) == {"lib", "lib/a.py", "lib/b.py", "notes"}

    run(scenario())


def test_a_push_takes_along_what_stands_at_its_place_on_the_server(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = workspace()
        async with held(tmp_path, remote) as mount:
            await mount.rename("notes", "old-notes")
            await mount.rename("src/a.py", "notes")
            await mount.quiet()
            assert await mount.push("notes") == Published(("notes", "old-notes"), (), ())
        assert remote.tree() == {"notes": b"one\n", "old-notes": b"three\n", "src": None, "src/b.py": b"two\n"}

    run(scenario())


def test_a_push_of_a_deleted_directory_first_moves_out_what_is_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = workspace()
        async with held(tmp_path, remote) as mount:
            await mount.rename("src/a.py", "a.py")
            mount.vfs.unlink(*mount.place("src/b.py"))
            mount.vfs.rmdir(*mount.place("src"))
            assert (await mount.push("src")).sent == ("a.py", "src", "src/b.py")
        assert remote.tree() == {"a.py": b"one\n", "notes": b"three\n"}

    run(scenario())


def test_one_file_of_a_deleted_directory_can_be_deleted_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = workspace()
        async with held(tmp_path, remote) as mount:
            mount.vfs.unlink(*mount.place("src/a.py"))
            mount.vfs.unlink(*mount.place("src/b.py"))
            mount.vfs.rmdir(*mount.place("src"))
            assert (await mount.push("src/b.py")).sent == ("src/b.py",)
            assert remote.tree() == {"notes": b"three\n", "src": None, "src/a.py": b"one\n"}
            assert (await mount.push()).sent == ("src", "src/a.py")
        assert remote.tree() == {"notes": b"three\n"}

    run(scenario())


def test_what_is_edited_again_while_it_is_sent_is_held_again_and_the_approved_version_is_on_the_server(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        remote = workspace()
        async with held(tmp_path, remote) as mount:
            await mount.write("notes", b"reviewed\n")
            node = mount.node("notes")
            handle = mount.vfs.open(node, os.O_WRONLY)

            def edit(call: str, subject: str) -> None:
                if call == "create_file":
                    mount.session.workspace.touch(node)

            remote.before = edit
            await mount.push("notes")
            remote.before = lambda call, subject: None
            await mount.vfs.write(handle, b"AGAIN", 0)
            await mount.vfs.flush(handle)
            mount.vfs.release(handle)
            assert [one.path for one in await mount.quiet()] == ["notes"]
            assert remote.tree()["notes"] == b"reviewed\n"
            assert await mount.read("notes") == b"AGAINwed\n"

    run(scenario())


def test_an_edit_before_the_sending_begins_takes_the_approval_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = workspace()
        async with held(tmp_path, remote) as mount:
            await mount.write("notes", b"reviewed\n")
            mount.session.hold.approve([mount.node("notes")])
            await mount.write("notes", b"not reviewed\n")
            assert [one.path for one in await mount.quiet()] == ["notes"]
            assert remote.asked() == []

    run(scenario())


def test_what_was_approved_is_sent_by_the_next_session(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = workspace()

        def is_away(call: str, subject: str) -> None:
            raise Unreachable("the network is down")

        async with held(tmp_path, remote) as mount:
            await mount.write("notes", b"approved\n")
            await mount.write("src/a.py", b"held\n")
            remote.before = is_away
            published = await mount.review.publish("notes", 0.05)
            assert [one.path for one in published.left] == ["notes"]
            await eventually(lambda: mount.session.offline is not None)
            [reason] = [one.reason for one in mount.session.unsynced() if not one.is_held]
            assert reason == "the network is down"
        remote.before = lambda call, subject: None
        async with mounted(tmp_path, remote) as mount:
            assert [one.path for one in await mount.session.drain(DEADLINE_S)] == ["src/a.py"]
        assert remote.tree()["notes"] == b"approved\n"

    run(scenario())


def test_a_replace_that_was_cut_off_is_finished_while_held(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = workspace()
        async with mounted(tmp_path, remote) as mount:

            def fail(call: str, subject: str) -> None:
                if call in ("update", "delete") and len(remote.asked("update")) > 1:
                    raise ServerFailure("the power went")

            remote.before = fail
            await mount.write("notes", b"new\n")
            await mount.session.drain(0.2)
            mount.session.hold.switch(is_on=True)
        remote.before = lambda call, subject: None
        async with mounted(tmp_path, remote) as mount:
            await mount.pull()
            assert all(".jobfs-" not in path for path in remote.tree())
            assert remote.tree()["notes"] == b"three\n"
            assert (mount.names(), await mount.read("notes")) == (["notes", "src"], b"new\n")

    run(scenario())


def test_remote_changes_are_shown_and_a_conflict_copy_is_held(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = workspace()
        async with held(tmp_path, remote) as mount:
            await mount.write("notes", b"mine\n")
            await mount.quiet()
            remote.put("notes", b"theirs, longer\n")
            remote.put("src/a.py", b"theirs too\n")
            await mount.pull()
            assert len(mount.session.conflicts) == 1
            left = await mount.quiet()
            assert await mount.read("notes") == b"theirs, longer\n"
            assert await mount.read("src/a.py") == b"theirs too\n"
            [copy] = [name for name in mount.names() if "conflict from testhost" in name]
            assert ([one.path for one in left], await mount.read(copy)) == ([copy], b"mine\n")
            assert remote.asked("create_file", "update", "delete") == []

    run(scenario())


def test_a_conflict_that_is_to_be_overruled_is_told_once_and_its_loser_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = workspace()
        options = Options(policy=ConflictPolicy.LOCAL, times=QUICK)
        async with held(tmp_path, remote, options) as mount:
            await mount.write("notes", b"mine\n")
            await mount.quiet()
            remote.put("notes", b"theirs, longer\n")
            await mount.pull()
            await mount.write("notes", b"mine, again\n")
            assert [one.path for one in await mount.quiet()] == ["notes"]
            assert [conflict.path for conflict in mount.session.conflicts] == ["notes"]
            assert [one.is_overtaken for one in await mount.review.differences("notes")] == [True]
            await mount.push()
            assert (remote.tree()["notes"], lost_bytes(mount.session.state)) == (
                b"mine, again\n",
                [b"theirs, longer\n"],
            )

    run(scenario())


def test_a_file_says_that_it_is_held(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with held(tmp_path, workspace()) as mount:
            await mount.write("notes", b"mine\n")
            await mount.quiet()
            states = [mount.vfs.extended.get(mount.node(path), "user.jobfs.state") for path in ("notes", "src/a.py")]
            assert states == [b"held", b"clean"]

    run(scenario())


def test_letting_go_sends_everything(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = workspace()
        async with held(tmp_path, remote) as mount:
            await mount.write("notes", b"mine\n")
            mount.vfs.unlink(*mount.place("src/b.py"))
            await mount.quiet()
            assert await mount.review.hold(is_on=False) == 2
            await mount.settle()
        assert remote.tree() == {"notes": b"mine\n", "src": None, "src/a.py": b"one\n"}

    run(scenario())


def test_close_does_not_wait_for_the_server_in_a_held_workspace(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = workspace()
        async with held(tmp_path, remote) as mount:
            await mount.write("notes", b"mine\n")
            await mount.session.push_now(mount.node("notes"))
            assert remote.asked() == []

    run(scenario())


# -- revert


async def _edit_everything(mount: Mounted) -> None:
    await mount.write("src/a.py", b"edited\n")
    await mount.write("new.txt", b"new\n")
    mount.vfs.make(*mount.place("lib"), Kind.DIRECTORY, mode=0o755)
    await mount.rename("src/b.py", "lib/b.py")
    await mount.write("lib/b.py", b"moved and edited\n")
    mount.vfs.set_mode(mount.node("src/a.py"), 0o444)
    mount.vfs.unlink(*mount.place("notes"))


def _tree(mount: Mounted) -> list[str]:
    local = mount.session.state.synced
    return sorted(path_of(local, node) or "" for node in local)


def test_a_revert_brings_back_bytes_names_places_and_permissions(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = workspace()
        before = remote.tree()
        async with held(tmp_path, remote) as mount:
            await _edit_everything(mount)
            await mount.quiet()
            assert await mount.review.revert("") == ["lib", "lib/b.py", "new.txt", "notes", "src/a.py"]
            assert await mount.quiet() == []
            assert _tree(mount) == ["", "notes", "src", "src/a.py", "src/b.py"]
            assert [await mount.read(path) for path in ("notes", "src/a.py", "src/b.py")] == [
                b"three\n",
                b"one\n",
                b"two\n",
            ]
            assert mount.vfs.attributes(mount.node("src/a.py")).mode == 0o644
            kept = [(data, reason) for _, data, reason in kept_versions(mount.session.state) if reason == "reverted"]
            assert sorted(data for data, _ in kept) == [b"edited\n", b"moved and edited\n", b"new\n"]
            assert remote.asked("create_file", "update", "delete") == []
        assert remote.tree() == before

    run(scenario())


def test_a_revert_of_one_path_leaves_the_others_edited(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with held(tmp_path, workspace()) as mount:
            await _edit_everything(mount)
            await mount.review.revert("src")
            assert await mount.read("src/a.py") == b"one\n"
            assert await mount.read("src/b.py") == b"two\n"
            assert [one.path for one in await mount.quiet()] == ["lib", "new.txt", "notes"]

    run(scenario())


def test_whoever_has_an_edited_file_open_keeps_it_when_it_is_reverted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with held(tmp_path, workspace()) as mount:
            await mount.write("notes", b"edited\n")
            before = mount.node("notes")
            handle = mount.vfs.open(before, os.O_RDONLY)
            await mount.review.revert("notes")
            assert await mount.vfs.read(handle, 100, 0) == b"edited\n"
            mount.vfs.release(handle)
            assert mount.node("notes") != before
            assert await mount.read("notes") == b"three\n"
            assert await mount.quiet() == []

    run(scenario())


def test_a_deleted_directory_comes_back_for_one_file_of_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with held(tmp_path, workspace()) as mount:
            mount.vfs.unlink(*mount.place("src/a.py"))
            mount.vfs.unlink(*mount.place("src/b.py"))
            mount.vfs.rmdir(*mount.place("src"))
            await mount.review.revert("src/b.py")
            assert await mount.read("src/b.py") == b"two\n"
            assert [one.path for one in await mount.quiet()] == ["src/a.py"]

    run(scenario())


def test_a_revert_that_would_overwrite_something_else_changes_nothing_and_names_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with held(tmp_path, workspace()) as mount:
            await mount.rename("notes", "moved")
            await mount.write("notes", b"another file\n")
            with pytest.raises(InTheWay, match="notes is where something has to come back"):
                await mount.review.revert("moved")
            assert await mount.read("notes") == b"another file\n"
            assert await mount.read("moved") == b"three\n"

    run(scenario())


def test_two_files_that_were_exchanged_are_exchanged_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with held(tmp_path, workspace()) as mount:
            await mount.rename("src/a.py", "t")
            await mount.rename("src/b.py", "src/a.py")
            await mount.rename("t", "src/b.py")
            await mount.review.revert("src/a.py")
            assert [await mount.read("src/a.py"), await mount.read("src/b.py")] == [b"one\n", b"two\n"]
            assert await mount.quiet() == []

    run(scenario())


def test_local_only_names_survive_a_revert(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with held(tmp_path, workspace()) as mount:
            mount.vfs.make(*mount.place("lib"), Kind.DIRECTORY, mode=0o755)
            mount.vfs.make(*mount.place("lib/.git"), Kind.DIRECTORY, mode=0o755)
            await mount.write("lib/.git/HEAD", b"ref\n")
            await mount.write("lib/x", b"x\n")
            await mount.review.revert("")
            assert await mount.read("lib/.git/HEAD") == b"ref\n"
            assert mount.names("lib") == [".git"]

    run(scenario())


def test_a_path_that_never_was_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with held(tmp_path, workspace()) as mount:
            for ask in (mount.review.revert, mount.review.differences, mount.push):
                with pytest.raises(NotFound, match="there is no nothing"):
                    await ask("nothing")

    run(scenario())


# -- differences


def test_differences_name_where_a_file_was_and_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with held(tmp_path, workspace()) as mount:
            await _edit_everything(mount)
            await mount.rename("src", "code")
            assert await mount.differing() == [
                ("src", "code"),
                ("src/a.py", "code/a.py"),
                (None, "lib"),
                ("src/b.py", "lib/b.py"),
                (None, "new.txt"),
                ("notes", None),
            ]
            assert await mount.differing("src/b.py") == [("src/b.py", "lib/b.py")]

    run(scenario())
