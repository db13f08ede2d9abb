"""Answers that are lost: what unanswered creates and replaces have made is found. What simulated time found.

Each test is one story; nothing sleeps, and the order of events is the same every time.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from engine_harness import Mounted, eventually
from story_harness import Open, TimedRemote, ending, make, play, remove

from jobfs.errors import OutcomeUnknown, Unreachable


async def make_unanswered(mount: Mounted, remote: TimedRemote, path: str, data: bytes | None) -> None:
    """Make something whose create is done; its answer is lost, and that of the look for it as well."""
    name = "create_file" if data is not None else "create_directory"
    lost = remote.fail("after", (name, path, OutcomeUnknown("lost")), ("find", path, Unreachable("lost")))
    await make(mount, path, data)
    await eventually(lambda: not lost)
    assert path in remote.tree()


async def replace_unanswered(mount: Mounted, remote: TimedRemote, path: str, data: bytes) -> None:
    """Save a file that is there; the answer that it is in place is lost, and that of the look for it as well."""
    lost = remote.fail("after", ("update", f" {path}", OutcomeUnknown("lost")), ("get", "", Unreachable("lost")))
    await mount.write(path, data)
    await eventually(lambda: not lost)
    assert remote.tree()[path] == data


def appearances(mount: Mounted) -> list[str]:
    """Return a list that will hold each name that comes to be shown through no program's doing."""
    names: list[str] = []
    mount.session.workspace.listeners.append(lambda change: names.append(change.name))
    return names


file_or_directory = pytest.mark.parametrize("data", [b"bytes", None], ids=["file", "directory"])
restarted_or_not = pytest.mark.parametrize("is_restarted", [False, True], ids=["going-on", "restarted"])

# ------------------------------------------------------------------------------------------------- creates unanswered


@file_or_directory
@restarted_or_not
def test_what_an_unanswered_create_made_moves_to_where_its_file_was_renamed_to(
    tmp_path: Path, data: bytes | None, is_restarted: bool
) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        async with open_(remote) as mount:
            await make_unanswered(mount, remote, "a", data)
            names = appearances(mount)
            await mount.rename("a", "b")
            if not is_restarted:
                await eventually(lambda: "b" in remote.tree())
                assert await ending(mount) == {"b": data}
            assert names == []
        async with open_(remote) as mount:
            assert await ending(mount) == {"b": data}

    play(tmp_path, story)


@file_or_directory
@restarted_or_not
def test_what_an_unanswered_create_made_is_deleted_when_its_file_was_deleted(
    tmp_path: Path, data: bytes | None, is_restarted: bool
) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        async with open_(remote) as mount:
            await make_unanswered(mount, remote, "a", data)
            names = appearances(mount)
            remove(mount, "a")
            if not is_restarted:
                assert await ending(mount) == {}
            assert names == []
        async with open_(remote) as mount:
            assert await ending(mount) == {}

    play(tmp_path, story)


@file_or_directory
@pytest.mark.parametrize("is_by_us", [True, False], ids=["by us", "by another"])
@pytest.mark.parametrize("children_follow", [True, False], ids=["following", "left behind"])
@restarted_or_not
def test_what_an_unanswered_create_made_in_a_directory_that_was_renamed_since_is_found(
    tmp_path: Path, data: bytes | None, is_by_us: bool, children_follow: bool, is_restarted: bool
) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote(children_follow=children_follow)
        remote.put("d", None)
        remote.put("d/z", b"z")
        async with open_(remote) as mount:
            await make_unanswered(mount, remote, "d/a", data)
            await mount.rename("d/a", "b")
            if is_by_us:
                await mount.rename("d", "e")
                await eventually(lambda: "e" in remote.tree() and "d/z" not in remote.tree())
            elif children_follow:
                await remote.update(remote.item("d").id, path="e")
            else:
                for path in ("d", "d/z", "d/a"):
                    await remote.update(remote.item(path).id, path=f"e{path[1:]}")
            if not is_restarted:
                assert await ending(mount) == {"b": data, "e": None, "e/z": b"z"}
        async with open_(remote) as mount:
            assert await ending(mount) == {"b": data, "e": None, "e/z": b"z"}

    play(tmp_path, story)


@restarted_or_not
def test_writing_on_after_an_unanswered_create_is_no_conflict(tmp_path: Path, is_restarted: bool) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        async with open_(remote) as mount:
            await make_unanswered(mount, remote, "a", b"first")
            await mount.write("a", b"second")
            if not is_restarted:
                assert await ending(mount) == {"a": b"second"}
        async with open_(remote) as mount:
            assert await ending(mount) == {"a": b"second"}

    play(tmp_path, story)


@restarted_or_not
def test_writing_on_after_the_last_answer_of_a_replace_was_lost_is_no_conflict(
    tmp_path: Path, is_restarted: bool
) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("a", b"old")
        async with open_(remote) as mount:
            await replace_unanswered(mount, remote, "a", b"first")
            await mount.write("a", b"second")
            if not is_restarted:
                assert await ending(mount) == {"a": b"second"}
        async with open_(remote) as mount:
            assert await ending(mount) == {"a": b"second"}

    play(tmp_path, story)


def test_an_atomic_save_after_the_last_answer_of_a_replace_was_lost_is_no_conflict(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("a", b"old")
        async with open_(remote) as mount:
            await replace_unanswered(mount, remote, "a", b"first")
            await mount.write("a.tmp", b"second")
            await mount.rename("a.tmp", "a")
            assert await ending(mount) == {"a": b"second"}

    play(tmp_path, story)


@pytest.mark.parametrize("is_listing", [False, True], ids=["idle", "listing"])
def test_what_a_replace_could_not_delete_is_gone_within_seconds_although_the_job_has_ended(
    tmp_path: Path, is_listing: bool
) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("a", b"old")
        async with open_(remote) as mount:
            await mount.settle()
            left = remote.fail("before", ("delete", "", Unreachable("cut")))
            if is_listing:
                remote.meanwhile["list_page"] = lambda: asyncio.sleep(1.0)
                mount.session.feed.request()
            await mount.write("a", b"new")
            await eventually(lambda: not left)
            await asyncio.sleep(5.0)
            assert remote.tree() == {"a": b"new"}

    play(tmp_path, story)


def test_what_a_replace_left_that_failed_during_a_listing_is_gone_within_seconds(tmp_path: Path) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("a", b"old")
        async with open_(remote) as mount:
            await mount.settle()
            left = remote.fail("after", ("create_file", "", OutcomeUnknown("cut")), ("find", "", Unreachable("cut")))
            remote.meanwhile["list_page"] = lambda: eventually(lambda: not left)  # so nobody waits for the server then
            mount.session.feed.request()
            await mount.write("a", b"new")
            await asyncio.sleep(5.0)
            assert remote.tree() == {"a": b"new"}

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("old", "request_name", "expected"),
    [(None, "create_file", {"b": b"bytes"}), (b"old", "update", {"b": b"bytes"}), (b"old", "delete", {})],
    ids=["create-renamed", "replace-renamed", "replace-deleted"],
)
def test_a_file_is_sent_elsewhere_while_a_listing_is_searched_for_what_was_made_of_it(
    tmp_path: Path, old: bytes | None, request_name: str, expected: dict[str, bytes]
) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        if old is not None:
            remote.put("a", old)
        async with open_(remote) as mount:

            async def rename_or_remove() -> None:
                if expected:
                    await mount.rename("a", "b")
                else:
                    remove(mount, "a")
                remote.meanwhile[request_name] = lambda: asyncio.sleep(0.09)
                await asyncio.sleep(0.1)  # the request is sent before the comparison ends, and done after it

            lose = make_unanswered if old is None else replace_unanswered
            await lose(mount, remote, "a", b"bytes")
            remote.meanwhile["download"] = rename_or_remove
            await mount.pull()
            assert await ending(mount) == expected

    play(tmp_path, story)
