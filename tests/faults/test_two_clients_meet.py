"""Others write at the same moment: what runs in simulated time found. No version of anybody's is deleted unseen."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from engine_harness import eventually
from story_harness import REQUEST_S, Open, TimedRemote, doing, ending, make, play, remove

from jobfs.engine.creations import LATE_S
from jobfs.errors import OutcomeUnknown
from jobfs.model import ROOT, Item
from jobfs.planner.naming import Suffix, hidden_name

# ----------------------------------------------------------------------------------------- open files


def test_a_file_put_back_after_an_unlink_is_another_one_than_the_one_still_open(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("a", b"old")
        async with open_(remote) as mount:
            node = mount.node("a")
            handle = mount.vfs.open(node, os.O_RDWR | os.O_TRUNC)
            await mount.vfs.write(handle, b"our ", 0)
            mount.vfs.unlink(*mount.place("a"))
            remote.put("a", b"their version")
            await mount.pull()
            assert mount.node("a") != node
            assert await mount.read("a") == b"their version"
            await mount.vfs.write(handle, b"own", 4)
            await mount.vfs.flush(handle)
            assert await mount.vfs.read(handle, 100, 0) == b"our own"
            assert await mount.read("a") == b"their version"
            mount.vfs.release(handle)
            assert await ending(mount) == {"a": b"their version"}

    play(tmp_path, story)


def test_the_two_versions_of_an_open_file_are_compared_once(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("a", b"......")
        async with open_(remote) as mount:
            handle = mount.vfs.open(mount.node("a"), os.O_WRONLY | os.O_TRUNC)
            await mount.vfs.write(handle, b"ours..", 0)
            remote.put("a", b"theirs")

            async def write_on() -> None:
                await mount.vfs.write(handle, b"..", 4)

            remote.meanwhile["download"] = write_on
            await mount.session.feed.poll()
            remote.calls.clear()
            await asyncio.sleep(60)
            assert len(remote.asked("download")) == 1
            assert len(remote.calls) < 60
            mount.vfs.release(handle)
            assert sorted((await ending(mount)).values()) == [b"ours..", b"theirs"]  # type: ignore[type-var]

    play(tmp_path, story)


# ------------------------------------------------------------------------------- nothing is deleted unseen


def test_removing_a_directory_that_another_made_first_spares_what_he_put_into_it(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        async with open_(remote) as mount:
            remote.put("d", None)
            remote.put("d/x", b"theirs")
            await make(mount, "d", None)
            await mount.settle()
            assert mount.names("d") == []
            remove(mount, "d")
            await mount.settle()
            assert await ending(mount) == {"d": None, "d/x": b"theirs"}

    play(tmp_path, story)


def test_removing_a_directory_spares_a_file_of_which_it_is_not_known_yet_whether_it_is_ours(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        async with open_(remote) as mount:
            await make(mount, "d", None)
            await mount.settle()

            async def remove_all_and_wait() -> None:
                remove(mount, "d/a")
                remove(mount, "d")
                await mount.session.feed.poll()
                await asyncio.sleep(5)

            remote.meanwhile["create_file"] = doing(lambda: remote.put("d/a", b"them"))
            remote.meanwhile["download"] = remove_all_and_wait
            await mount.write("d/a", b"ours")
            assert await ending(mount) == {"d": None, "d/a": b"them"}

    play(tmp_path, story)


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "new"])
def test_renaming_a_directory_over_an_empty_one_spares_what_another_moved_into_that(
    tmp_path: Path, is_known: bool
) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("d", None)
        remote.put("d/k", b"kept")
        remote.put("e", None)
        if is_known:
            remote.put("x", b"theirs")
        async with open_(remote) as mount:
            if is_known:
                await remote.update(remote.item("x").id, path="e/x")
            else:
                remote.put("e/x", b"theirs")
            await mount.rename("d", "e")
            await eventually(lambda: mount.session.state.base.child(ROOT, "d") is None)
            assert await ending(mount) == {"e": None, "e/k": b"kept", "e/x": b"theirs"}

    play(tmp_path, story)


def test_a_version_that_came_while_a_move_was_acknowledged_is_not_deleted_with_the_old_one(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("a", b"old")
        async with open_(remote) as mount:

            async def move_then_write_then_unlink() -> None:
                await mount.rename("a", "b")
                await mount.session.push_now(mount.node("b"))
                remote.put("b", b"theirs")
                mount.vfs.unlink(*mount.place("b"))

            remote.meanwhile["list_page"] = move_then_write_then_unlink
            await mount.pull()
            assert await ending(mount) == {"b": b"theirs"}

    play(tmp_path, story)


def test_a_version_written_while_another_client_had_the_file_under_a_hidden_name_is_not_deleted(
    tmp_path: Path,
) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        item = remote.put("a", b"old")
        hidden = hidden_name("a", "theirown", Suffix.OLD)
        async with open_(remote) as mount:
            await remote.update(item.id, path=hidden)
            remote.put(hidden, b"theirs")
            remote.meanwhile["list_page"] = doing(lambda: mount.vfs.unlink(*mount.place("a")))
            await mount.pull()
            await asyncio.sleep(LATE_S)
            assert remote.tree() == {hidden: b"theirs"}
            await remote.update(item.id, path="a")
            assert await ending(mount) == {"a": b"theirs"}

    play(tmp_path, story)


def test_what_somebody_wrote_under_a_hidden_name_before_it_was_deleted_gets_a_name(
    tmp_path: Path, expected_logs: Any
) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        item = remote.put("a", b"old")
        async with open_(remote) as mount:

            async def write_there() -> None:
                remote.put((await remote.get(item.id)).path, b"theirs")
                await mount.session.feed.poll()

            async def be_ready() -> None:
                remote.meanwhile["update"] = write_there  # while the new version moves to its place

            remote.meanwhile["update"] = be_ready
            await mount.write("a", b"new")
            found = await ending(mount)
            assert (found.pop("a"), list(found.values())) == (b"new", [b"theirs"])

    play(tmp_path, story)
    expected_logs.expect("changed by two others at once")


@pytest.mark.parametrize("data", [b"theirs", b"old"], ids=["written", "only-moved"])
def test_what_somebody_took_from_under_a_hidden_name_before_it_was_deleted_is_his(tmp_path: Path, data: bytes) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        item = remote.put("a", b"old")
        async with open_(remote) as mount:

            async def take_it() -> None:
                await remote.update(item.id, path="b")
                if data != b"old":
                    remote.put("b", data)
                await mount.session.feed.poll()

            async def be_ready() -> None:
                remote.meanwhile["update"] = take_it  # while the new version moves to its place

            remote.meanwhile["update"] = be_ready
            await mount.write("a", b"new")
            await mount.settle()
            assert await ending(mount) == {"a": b"new", "b": data}

    play(tmp_path, story)


def test_a_version_listed_while_its_deletion_waits_for_earlier_requests_is_not_deleted(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("a", b"old")
        async with open_(remote) as mount:

            async def write_and_list() -> None:
                remote.put("a", b"theirs")
                await mount.session.feed.poll()

            remote.meanwhile["create_file"] = write_and_list
            await mount.write("new", b"new")
            mount.vfs.unlink(*mount.place("a"))
            assert await ending(mount) == {"a": b"theirs", "new": b"new"}
            assert remote.asked("delete") == []

    play(tmp_path, story)


def test_a_version_listed_under_a_hidden_name_while_its_deletion_waits_is_not_deleted(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        item = remote.put("a", b"old")
        async with open_(remote) as mount:

            async def write_step_aside_and_list() -> None:
                remote.put("a", b"theirs")
                await remote.update(item.id, path=hidden_name("a", "theirown", Suffix.OLD))
                await mount.session.feed.poll()

            remote.meanwhile["create_file"] = write_step_aside_and_list
            await mount.write("new", b"new")
            mount.vfs.unlink(*mount.place("a"))
            await asyncio.sleep(LATE_S)
            assert remote.asked("delete") == []
            await remote.update(item.id, path="a")
            assert await ending(mount) == {"a": b"theirs", "new": b"new"}

    play(tmp_path, story)


def test_a_directory_is_not_deleted_on_a_listing_older_than_what_a_request_found_in_it(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("d", None)
        item = remote.put("d/b", b"old")
        async with open_(remote) as mount:

            async def delete_both() -> None:
                remove(mount, "d/b")
                remove(mount, "d")

            async def another_replaces_it() -> None:
                await remote.update(item.id, path=f"d/{hidden_name('b', 'theirown', Suffix.OLD)}")
                remote.put("d/b", b"theirs")
                await mount.session.feed.poll()  # the listing cannot say whose place this is: our replace is under way

            async def ours_is_moved_away() -> None:
                await delete_both()
                remote.meanwhile["update"] = another_replaces_it

            remote.meanwhile["create_file"] = ours_is_moved_away
            await mount.write("d/b", b"ours")
            await mount.session.drain(10)
            assert await ending(mount) == {"d": None, "d/b": b"theirs"}

    play(tmp_path, story)


def test_a_directory_that_somebody_filled_while_another_was_renamed_over_it_is_not_left_under_a_hidden_name(
    tmp_path: Path,
) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("e", None)
        remote.put("f", None)
        remote.put("f/k", b"kept")
        async with open_(remote) as mount:

            async def listed_with_a_stranger_in_it() -> None:
                remote.put("e/x", b"theirs")
                await mount.session.feed.poll()

            remote.meanwhile["update"] = listed_with_a_stranger_in_it
            await mount.rename("f", "e")
            await eventually(lambda: not remote.meanwhile)
            assert await ending(mount) == {"e": None, "e/k": b"kept", "e/x": b"theirs"}

    play(tmp_path, story)


def test_bytes_of_a_version_that_came_while_two_were_compared_are_not_taken_for_the_listed_one(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("a", b"first.")
        async with open_(remote) as mount:
            await mount.write("a", b"ours..")
            remote.put("a", b"second")
            remote.meanwhile["download"] = doing(lambda: remote.put("a", b"third."))
            remote.meanwhile["create_file"] = mount.session.feed.poll
            await eventually(lambda: "download" not in remote.meanwhile)
            await asyncio.sleep(0.005)  # the bytes are here, and no listing has come since
            mount.vfs.unlink(*mount.place("a"))
            assert await ending(mount) == {"a": b"third."}  # what was unlinked was ours

    play(tmp_path, story)


def test_a_replace_that_two_others_overtake_leaves_every_version_visible(tmp_path: Path, expected_logs: Any) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("a.txt", b"old")

        def overtake(moment: str, data: bytes) -> None:
            def hook(name: str, subject: str) -> None:
                if subject.endswith(".old"):
                    setattr(remote, moment, lambda name, subject: None)
                    remote.put("a.txt", data)

            setattr(remote, moment, hook)

        async with open_(remote) as mount:
            overtake("before", b"second")
            overtake("after", b"third")
            await mount.write("a.txt", b"ours")
            await mount.session.drain(10)
            tree = await ending(mount)
        assert sorted(filter(None, tree.values())) == [b"ours", b"second", b"third"]
        assert tree["a.txt"] == b"third"
        assert [path for path in tree if "(conflict from testhost" not in path] == ["a.txt"]

    expected_logs.expect("a.txt was changed by two others at once")
    play(tmp_path, story)


@pytest.mark.parametrize("theirs", [b"their", b"somebody's"], ids=["as long", "longer"])
@pytest.mark.parametrize("is_removed", [False, True], ids=["kept", "removed"])
def test_what_somebody_wrote_over_a_save_before_its_answer_came_is_not_taken_for_it(
    tmp_path: Path, theirs: bytes, is_removed: bool
) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("a", b"old")
        async with open_(remote) as mount:
            lost = remote.fail("after", ("update", " a", OutcomeUnknown("lost")))
            remote.meanwhile["get"] = doing(lambda: remote.put("a", theirs))
            await mount.write("a", b"ours!")
            await eventually(lambda: not lost)
            await mount.settle()
            if is_removed:
                remove(mount, "a")
            assert await ending(mount) == {"a": theirs}

    play(tmp_path, story)


def test_a_directory_is_not_deleted_with_what_somebody_put_where_its_last_file_was_being_deleted(
    tmp_path: Path,
) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("d", None)
        remote.put("d/b", b"old")
        async with open_(remote) as mount:

            async def put_another_there() -> None:
                remote.remove("d/b")
                remote.put("d/b", b"theirs")
                await mount.session.feed.poll()
                remove(mount, "d")

            remote.meanwhile["delete"] = put_another_there
            remove(mount, "d/b")
            assert await ending(mount) == {"d": None, "d/b": b"theirs"}

    play(tmp_path, story)


def test_what_was_deleted_while_it_was_made_in_a_directory_that_somebody_replaced_does_not_come_back(
    tmp_path: Path,
) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("d", None)
        async with open_(remote) as mount:

            async def put_another_there() -> None:
                remote.remove("d")
                await mount.session.feed.poll()
                await asyncio.sleep(1)  # what is to become of the directory waits for the file in it
                remote.put("d", None)
                remote.put("d/x", b"theirs")
                remove(mount, "d/c")
                remove(mount, "d")

            remote.meanwhile["create_file"] = put_another_there
            await mount.write("d/c", b"ours")
            assert await ending(mount) == {"d": None, "d/x": b"theirs"}

    play(tmp_path, story)


# ------------------------------------------------------------------------------------- our own, at one time


def test_what_moves_out_of_a_renamed_directory_at_the_same_time_is_not_taken_along(tmp_path: Path) -> None:
    """On a server that leaves children behind they are moved by us: after what moves by itself has arrived."""

    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.children_follow = False
        remote.put("d", None)
        remote.put("d/b", b"moved")
        async with open_(remote) as mount:
            remote.meanwhile["update"] = lambda: asyncio.sleep(1.5 * REQUEST_S)  # the file's: its directory is quicker
            await mount.rename("d", "e")
            await mount.rename("e/b", "c")
            await mount.settle()
            assert remote.tree() == {"c": b"moved", "e": None}
            assert await ending(mount) == {"c": b"moved", "e": None}

    play(tmp_path, story)


def test_what_steps_aside_in_a_directory_that_somebody_replaces_does_not_stay_under_its_hidden_name(
    tmp_path: Path,
) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote(children_follow=False)
        for path, data in (("d", None), ("d/b", b"ours"), ("d/c", b"replaced"), ("e", None)):
            remote.put(path, data)
        async with open_(remote) as mount:

            async def put_another_there() -> None:
                await remote.update(remote.item("d").id, path=".d.jobfs-0123abcd.old")
                await remote.update(remote.item("e").id, path="d")
                await mount.session.feed.poll()
                remote.remove(".d.jobfs-0123abcd.old")

            remote.meanwhile["update"] = put_another_there
            await mount.rename("d/b", "d/c")
            found = await ending(mount)
            assert b"ours" in found.values()
            assert not any(".jobfs-" in path for path in found)

    play(tmp_path, story)


def test_what_somebody_wrote_again_with_the_same_bytes_makes_room_for_what_is_renamed_over_it(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("a", b"ours")
        remote.put("b", b"the same")
        async with open_(remote) as mount:
            assert await mount.read("b") == b"the same"
            remote.put("b", b"the same")
            await mount.rename("a", "b")
            assert await ending(mount) == {"b": b"ours"}

    play(tmp_path, story)


def test_what_somebody_wrote_into_a_file_of_ours_before_its_answer_came_is_not_deleted_with_it(tmp_path: Path) -> None:
    class Slow(TimedRemote):
        """A server whose answer to a create comes after something else."""

        async def create_file(self, *args: Any) -> Item:
            made = await super().create_file(*args)
            await before_the_answer()
            return made

    async def story(open_: Open) -> None:
        nonlocal before_the_answer
        remote = Slow()
        async with open_(remote) as mount:

            async def write_and_list() -> None:
                mount.vfs.unlink(*mount.place("a"))
                remote.put("a", b"somebody's")
                await mount.session.feed.poll()

            before_the_answer = write_and_list
            await mount.write("a", b"ours")
            assert await ending(mount) == {"a": b"somebody's"}

    async def before_the_answer() -> None:
        raise AssertionError("the story sets this")

    play(tmp_path, story)
