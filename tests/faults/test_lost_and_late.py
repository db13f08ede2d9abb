"""Requests that are done late or cut off, and answers out of order: what runs in simulated time found.

Each test is one story; nothing sleeps, and the order of events is the same every time.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from engine_harness import Mounted, eventually
from story_harness import REQUEST_S, Open, TimedRemote, doing, ending, make, play, remove

from jobfs.engine.creations import LATE_S
from jobfs.errors import OutcomeUnknown, Refused, ServerFailure, Unreachable
from jobfs.model import ROOT, Trouble
from jobfs.planner.naming import Suffix, hidden_name
from jobfs.store.state import Aside

# -------------------------------------------------------------------------------------------------------- done late


@pytest.mark.parametrize("data", [b"bytes", None], ids=["file", "directory"])
def test_a_create_done_late_is_undone_when_its_file_has_moved_on(tmp_path: Path, data: bytes | None) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        async with open_(remote) as mount:
            name = "create_file" if data is not None else "create_directory"
            slow = remote.fail("before", (name, "a", OutcomeUnknown("slow")))
            await make(mount, "a", data)
            await mount.settle()
            assert (slow, remote.tree()) == ([], {"a": data})
            await mount.rename("a", "b")
            await mount.settle()
            await asyncio.sleep(LATE_S / 2)
            remote.put("a", data)
            assert await ending(mount) == {"b": data}

    play(tmp_path, story)


def test_a_create_done_late_is_undone_when_the_next_one_was_refused(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        async with open_(remote) as mount:
            faults = (OutcomeUnknown("slow"), Refused("no", reason="too pink"))
            left = remote.fail("before", *(("create_file", "a", fault) for fault in faults))
            await mount.write("a", b"bytes")
            await eventually(lambda: not left)
            await mount.rename("a", "b")
            await mount.settle()
            assert remote.tree() == {"b": b"bytes"}
            await asyncio.sleep(LATE_S / 2)
            remote.put("a", b"bytes")
            assert await ending(mount) == {"b": b"bytes"}

    play(tmp_path, story)


def test_a_create_done_late_where_another_file_is_being_made_is_undone(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        async with open_(remote) as mount:
            slow = remote.fail(
                "before", ("create_file", "a", OutcomeUnknown("slow")), ("find", "a", Unreachable("slow"))
            )
            await mount.write("a", b"first")
            await eventually(lambda: not slow)
            await mount.rename("a", "b")
            await mount.settle()
            remote.meanwhile["create_file"] = doing(lambda: remote.put("a", b"first"))
            await mount.write("a", b"second")
            assert await ending(mount) == {"a": b"second", "b": b"first"}

    play(tmp_path, story)


def test_a_create_done_late_is_undone_although_another_of_its_path_was_answered_meanwhile(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        async with open_(remote) as mount:
            remote.meanwhile["create_file"] = partial(asyncio.sleep, 1)
            await mount.write("a", b"first")
            await asyncio.sleep(0.5)  # its create is under way
            slow = remote.fail(
                "before", ("create_file", "a", OutcomeUnknown("slow")), ("find", "a", Unreachable("slow"))
            )
            await mount.write("a.tmp", b"second")
            await mount.rename("a.tmp", "a")
            await eventually(lambda: not slow)
            await mount.rename("a", "b")
            await mount.settle()
            assert remote.tree() == {"b": b"second"}
            remote.meanwhile["create_file"] = doing(lambda: remote.put("a", b"second"))
            await mount.write("a", b"third")
            assert await ending(mount) == {"a": b"third", "b": b"second"}

    play(tmp_path, story)


def test_a_hidden_file_that_a_replace_made_late_is_deleted(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("a", b"old")
        async with open_(remote) as mount:
            slow = remote.fail("before", ("create_file", ".new", OutcomeUnknown("slow")))
            await mount.write("a", b"new")
            await mount.settle()
            assert (slow, remote.tree()) == ([], {"a": b"new"})
            await asyncio.sleep(LATE_S / 2)
            [hidden] = {path for _, path in remote.asked("create_file")}
            remote.put(hidden, b"new")
            assert await ending(mount) == {"a": b"new"}

    play(tmp_path, story)


@pytest.mark.parametrize("data", [b"bytes", None], ids=["file", "directory"])
@pytest.mark.parametrize("is_restarted", [False, True], ids=["going-on", "restarted"])
def test_a_step_aside_done_late_when_the_item_had_gone_on_to_its_place_is_taken_back(
    tmp_path: Path, data: bytes | None, is_restarted: bool
) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        item = remote.put("a", data)
        remote.put("d", None)
        async with open_(remote) as mount:
            slow = remote.fail("before", ("update", ".old", OutcomeUnknown("slow")))
            await mount.rename("a", "d/b")
            await make(mount, "a", data and b"another")  # so that the first one has to step aside
            await mount.settle()
            wanted = {"a": data and b"another", "d": None, "d/b": data}
            assert (slow, remote.tree()) == ([], wanted)
            hidden = next(what.split()[-1] for _, what in remote.asked("update") if what.endswith(".old"))
            if not is_restarted:
                await asyncio.sleep(LATE_S / 2)
                await remote.update(item.id, path=hidden)
                assert await ending(mount) == wanted
                return
        async with open_(remote) as mount:
            await remote.update(item.id, path=hidden)
            assert await ending(mount) == wanted

    play(tmp_path, story)


# ------------------------------------------------------------------------------------------------------------ refused


def test_what_was_to_be_done_after_a_request_that_the_server_refused_is_done_without_it(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("d", None)
        remote.put("d/x", b"bytes")
        remote.put("a", b"old")
        async with open_(remote) as mount:
            left = remote.fail("before", ("update", " e", Refused("no", reason="too pink")))
            await mount.rename("d", "e")
            await mount.write("a", b"new")
            await mount.session.drain(10)
            assert (left, remote.tree()) == ([], {"a": b"new", "d": None, "d/x": b"bytes"})

    play(tmp_path, story)


# --------------------------------------------------------------------------------------------- replaces cut off


def test_a_hidden_file_is_deleted_although_its_directory_is_renamed_while_it_is_looked_for(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("d", None)
        remote.put("d/a", b"old")

        def cut_off(name: str, subject: str) -> None:
            raise Unreachable("cut off")

        async def rename() -> None:
            await remote.update(remote.item("d").id, path="e")

        async with open_(remote) as mount:
            remote.meanwhile["delete"] = doing(lambda: setattr(remote, "before", cut_off))
            await mount.write("d/a", b"new")
            await asyncio.sleep(2 * LATE_S)  # so long that the next listing is the last one that is searched
            assert len(remote.tree()) == 3
            remote.before = lambda name, subject: None
            remote.meanwhile["get"] = rename
            assert await ending(mount) == {"e": None, "e/a": b"new"}

    play(tmp_path, story)


def test_a_session_ends_while_the_last_deletion_of_a_replace_is_under_way_and_the_next_one_does_it(
    tmp_path: Path,
) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("a", b"old")
        under_way = asyncio.Event()

        async def hang() -> None:
            under_way.set()
            await asyncio.get_running_loop().create_future()

        async with open_(remote) as mount:
            remote.meanwhile["delete"] = hang
            await mount.write("a", b"new")
            await under_way.wait()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert sorted(remote.tree().values()) == [b"new", b"old"]  # type: ignore[type-var]
        async with open_(remote) as mount:
            assert await ending(mount) == {"a": b"new"}

    play(tmp_path, story)


def test_a_file_that_another_client_left_hidden_is_told_after_an_hour_also_to_who_knew_it(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("a", b"old")
        hidden = hidden_name("a", "0123abcd", Suffix.OLD)
        async with open_(remote) as mount:
            await remote.update(remote.item("a").id, path=hidden)
            await mount.pull()
            assert (mount.names(), mount.session.feed.problems) == (["a"], ())
            later = replace(remote.put("b", b"new"), updated_at="2099-01-01T00:00:00.000Z")
            remote.items[later.id] = later
            await mount.pull()
            assert [(told.path, told.trouble) for told in mount.session.feed.problems] == [(hidden, Trouble.HIDDEN)]

    play(tmp_path, story)


# ------------------------------------------------------------------------------------------------- the unforeseen


def test_a_push_that_fails_unforeseen_is_tried_ever_more_rarely(tmp_path: Path, expected_logs: Any) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()

        def break_down(name: str, subject: str) -> None:
            if name == "create_file":
                raise RuntimeError("unforeseen")

        async with open_(remote) as mount:
            remote.before = break_down
            await mount.write("a", b"bytes")
            await asyncio.sleep(60)
            first = len(remote.asked("create_file"))
            await asyncio.sleep(540)
            tries = len(remote.asked("create_file"))
            assert 3 < first <= 15
            assert 1 <= tries - first <= 10
            remote.before = lambda name, subject: None
            assert await ending(mount) == {"a": b"bytes"}

    expected_logs.expect("unexpected: unforeseen")
    play(tmp_path, story)


# ------------------------------------------------------------------------------------------------- listings in a row


def test_what_an_interrupted_replace_left_is_mended_once_however_many_listings_show_it(tmp_path: Path) -> None:
    """Two menders at once would both forget the same replace: the second one found it gone."""

    async def story(open_: Open) -> None:
        remote = TimedRemote()
        aside = Aside("abcdefgh", ROOT, "a", None)
        async with open_(remote) as mount:
            with mount.session.state.transaction():
                mount.session.state.put_aside(aside)
        async with open_(remote) as mount:
            await asyncio.sleep(2 * LATE_S)
            late = remote.put(hidden_name("a", aside.token, Suffix.NEW), b"done late")
            remote.calls.clear()
            for _ in range(2):
                mount.session.hidden_seen([late], mount.session.trees.begin_listing())
            await mount.settle()
            assert remote.tree() == {}
            assert len(remote.asked("delete")) == 1
            assert mount.session.state.asides() == []

    play(tmp_path, story)


# ------------------------------------------------------------------------------------- answers out of order


def test_a_file_that_is_moved_out_while_its_directory_is_renamed_stays_clean_whatever_answer_comes_last(
    tmp_path: Path,
) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote(children_follow=False)
        for path in ("known", "d"):
            remote.put(path, None)
            remote.put(f"{path}/b", b"their first")
        async with open_(remote) as mount:
            await mount.rename("known", "shown")  # from here on it is known that children do not follow
            await mount.settle()

            async def be_late() -> None:
                await asyncio.sleep(REQUEST_S / 2)

            directory, file = remote.item("d").id, remote.item("d/b").id
            remote.meanwhile["update"] = be_late
            await mount.rename("d/b", "c")
            await mount.rename("d", "e")
            await mount.settle()
            await mount.pull()
            assert remote.asked("update")[-2:] == [("update", f"{directory} e"), ("update", f"{file} c")]
            remote.remove("c")
            remote.put("c", b"their second")
            await mount.pull()
            assert await ending(mount) == {"e": None, "c": b"their second", "shown": None, "shown/b": b"their first"}

    play(tmp_path, story)


async def told_that_children_stay(mount: Mounted, remote: TimedRemote) -> None:
    """Have a mount learn that the children of a directory do not follow it."""
    await mount.rename("known", "shown")
    await mount.settle()


def without_following(*directories: str) -> TimedRemote:
    """Return a server where children do not follow their directory, and each of these has a file of its name."""
    remote = TimedRemote(children_follow=False)
    for path in ("known", *directories):
        remote.put(path, None)
        remote.put(f"{path}/{path}.txt", path.encode())
    return remote


@pytest.mark.allow_log("e/d.txt was changed by two others at once")
def test_a_child_whose_place_is_taken_while_it_follows_its_directory_steps_beside_it(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = without_following("d")

        def take_a_place(name: str, subject: str) -> None:
            if name == "update" and subject.endswith(" e/d.txt") and remote.at("e/d.txt") is None:
                remote.put("e/d.txt", b"somebody's")

        async with open_(remote) as mount:
            await told_that_children_stay(mount, remote)
            remote.before = take_a_place
            await mount.rename("d", "e")
            found = await ending(mount)
            assert sorted(filter(None, found.values())) == [b"d", b"known", b"somebody's"]

    play(tmp_path, story)


def test_a_directory_that_comes_back_from_a_hidden_name_does_not_leave_its_children_there(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = without_following("d", "e")
        lost: list[str] = []
        refused = f"{remote.item('d').id} e"

        def lose_the_step_aside_and_refuse_the_next(name: str, subject: str) -> None:
            if name == "update" and subject.endswith(".old") and not lost:
                lost.append(subject)
                raise OutcomeUnknown("lost")
            if name == "update" and subject == refused:
                raise ServerFailure("out of order")

        async with open_(remote) as mount:
            await told_that_children_stay(mount, remote)
            remote.before, refuse_nothing = lose_the_step_aside_and_refuse_the_next, remote.before
            for before, after in (("d", "t"), ("e", "d"), ("t", "e")):
                await mount.rename(before, after)
            for _ in range(4):
                await mount.pull()
            remote.before = refuse_nothing
            found = await ending(mount)
            assert (len(lost), sorted(filter(None, found.values()))) == (1, [b"d", b"e", b"known"])

    play(tmp_path, story)


def test_a_directory_that_stepped_aside_at_the_second_try_is_not_moved_back_while_it_is_deleted(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote(children_follow=False)
        for path, data in (("d", None), ("d/b", b"bytes"), ("f", None)):
            remote.put(path, data)
        async with open_(remote) as mount:

            async def list_and_mend() -> None:
                await mount.session.feed.poll()
                await asyncio.sleep(1)

            lost = remote.fail("before", ("update", ".old/b", Unreachable("lost")))
            remote.meanwhile["delete"] = list_and_mend
            remove(mount, "d/b")
            await mount.rename("f", "d")
            found = await ending(mount)
            assert (lost, remote.meanwhile, found) == ([], {}, {"d": None})

    play(tmp_path, story)
