"""A held folder: the same review as of a mount, over real files."""

from __future__ import annotations

from pathlib import Path

from folder_harness import QUICK, Desk, eventually, run
from kept_versions import kept_versions

from jobfs.engine.hold import set_held
from jobfs.engine.review import Review
from jobfs.folder.sync import FolderSync, SyncOptions


def held_desk(base: Path) -> Desk:
    desk = Desk(base)
    desk.model.put("src", None)
    desk.model.put("src/a.py", b"one\n")
    desk.model.put("src/b.py", b"two\n")
    desk.model.put("notes", b"three\n")
    return desk


async def hold(desk: Desk) -> None:
    """Synchronise once, and hold what comes after."""
    await desk.sync()
    with desk.opened() as state, state.transaction():
        set_held(state, is_held=True)
    desk.model.calls.clear()


def test_edits_in_a_held_folder_stay_here_until_they_are_pushed(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = held_desk(tmp_path)
        await hold(desk)
        async with desk.watching() as sync:
            review = Review(sync.session, sync.look)
            desk.write("src/a.py", b"edited\n")
            desk.write("new", b"new\n")
            (desk.root / "notes").unlink()
            assert [one.new_path or one.old_path for one in await review.differences("")] == [
                "new",
                "notes",
                "src/a.py",
            ]
            assert desk.model.asked() == []
            assert (await review.publish("src", 10.0)).sent == ("src/a.py",)
            assert desk.model.tree()["src/a.py"] == b"edited\n"
            desk.model.put("src/b.py", b"from the server\n")
            await sync.session.feed.poll()
            await eventually(lambda: (desk.root / "src/b.py").read_bytes() == b"from the server\n")
        assert desk.model.at("notes") is not None
        assert desk.model.at("new") is None

    run(scenario())


def test_synchronising_a_held_folder_once_only_brings_changes_here(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = held_desk(tmp_path)
        await hold(desk)
        desk.write("src/a.py", b"edited\n")
        desk.model.put("notes", b"newer on the server\n")
        summary = await desk.sync()
        assert [(one.path, one.is_held) for one in summary.skipped] == [("src/a.py", True)]
        assert desk.tree()["notes"] == b"newer on the server\n"
        assert desk.model.asked("create_file", "update", "delete") == []

    run(scenario())


def test_a_revert_of_a_folder_brings_the_files_back_and_keeps_the_edited_bytes_in_the_history(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = held_desk(tmp_path)
        await hold(desk)
        desk.write("src/a.py", b"edited\n")
        desk.write("lib/new", b"new\n")
        (desk.root / "notes").unlink()
        (desk.root / "src/b.py").rename(desk.root / "lib/b.py")
        (desk.root / "lib/.git").mkdir()
        with desk.opened() as state:
            sync = FolderSync(state, desk.remote, desk.root, options=SyncOptions(host="testhost", times=QUICK))
            review = Review(sync.session, sync.record)
            assert await review.revert("") == ["lib", "lib/b.py", "lib/new", "notes", "src/a.py"]
            kept = {path: data for path, data, reason in kept_versions(state) if reason == "reverted"}
            await sync.session.stop()
        assert kept == {"lib/new": b"new\n", "src/a.py": b"edited\n"}
        assert {**desk.model.tree(), "lib": None, "lib/.git": None} == desk.tree()
        assert desk.model.asked("create_file", "update", "delete") == []

    run(scenario())


def test_one_reverted_file_leaves_the_others_edited(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = held_desk(tmp_path)
        await hold(desk)
        async with desk.watching() as sync:
            desk.write("src/a.py", b"edited\n")
            desk.write("src/b.py", b"edited too\n")
            review = Review(sync.session, sync.look)
            await review.revert("src/a.py")
            assert (desk.root / "src/a.py").read_bytes() == b"one\n"
            assert [one.new_path for one in await review.differences("")] == ["src/b.py"]

    run(scenario())
