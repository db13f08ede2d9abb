"""Answers that are lost, requests that are done late, others who write at the same moment: what simulated runs found.

Each test is one story, in simulated time: nothing sleeps, and the order of events is the same every time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from engine_harness import Mounted, eventually, mounted
from model_remote import ModelRemote
from virtual_loop import VirtualClock, run_virtually

from jobfs.engine.creations import LATE_S
from jobfs.errors import OutcomeUnknown, Refused, Unreachable
from jobfs.model import ROOT, Item, Kind
from jobfs.planner.naming import Suffix, hidden_name

REQUEST_S = 0.01
"""What every request takes; so what asks again and again makes time go on, and is counted."""

Open = Callable[[ModelRemote], AbstractAsyncContextManager[Mounted]]


class TimedRemote(ModelRemote):
    """A server at some distance. ``meanwhile`` is awaited while a request is on its way to it."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: dict[str, Callable[[], Awaitable[None]]] = {}
        """What happens during the next request of a name."""

    @asynccontextmanager
    async def _call(self, name: str, subject: str) -> AsyncIterator[None]:
        await asyncio.sleep(REQUEST_S)
        if (event := self.meanwhile.pop(name, None)) is not None:
            await event()
        async with super()._call(name, subject):
            yield

    def fail(self, moment: str, *faults: tuple[str, str, Exception]) -> list[tuple[str, str, Exception]]:
        """Let requests fail once each, in this order; return those that are still to fail.

        :param moment: ``before`` or ``after`` they are done. :param faults: name, end of the subject, and error.
        """
        left = list(faults)

        def hook(name: str, subject: str) -> None:
            if left and name == left[0][0] and subject.endswith(left[0][1]):
                raise left.pop(0)[2]

        setattr(self, moment, hook)
        return left

    def item(self, path: str) -> Item:
        found = self.at(path)
        assert found is not None
        return found


def play(directory: Path, story: Callable[[Open], Coroutine[Any, Any, None]]) -> None:
    """Run a story in simulated time; what it opens is one state directory, so a second opening is a restart."""

    async def bounded(clock: VirtualClock) -> None:
        async with asyncio.timeout(7200):
            await story(lambda remote: mounted(directory, remote, clock=clock))  # type: ignore[arg-type]

    run_virtually(1, lambda loop: bounded(loop.clock))


async def shown(mount: Mounted, directory: str = "") -> dict[str, bytes | None]:
    """Return what a program sees: path to bytes, None for directories."""
    found: dict[str, bytes | None] = {}
    for name in mount.names(directory):
        path = f"{directory}/{name}" if directory else name
        if mount.vfs.namespace.record(mount.node(path)).kind is Kind.DIRECTORY:
            found |= {path: None, **await shown(mount, path)}
        else:
            found[path] = await mount.read(path)
    return found


async def ending(mount: Mounted) -> dict[str, bytes | None]:
    """Let time pass until nothing can come late any more; return what the server has then, which is what is shown."""
    for _ in range(8):
        await mount.pull()
        await asyncio.sleep(LATE_S / 5)
    await mount.settle()
    assert await shown(mount) == mount.remote.tree()
    return mount.remote.tree()


async def make(mount: Mounted, path: str, data: bytes | None) -> None:
    """Write a file, or with None make a directory."""
    if data is not None:
        await mount.write(path, data)
    else:
        mount.vfs.make(*mount.place(path), Kind.DIRECTORY, mode=0o755)


def remove(mount: Mounted, path: str) -> None:
    """Unlink a file, remove a directory."""
    is_directory = mount.vfs.namespace.record(mount.node(path)).kind is Kind.DIRECTORY
    (mount.vfs.rmdir if is_directory else mount.vfs.unlink)(*mount.place(path))


async def make_unanswered(mount: Mounted, remote: TimedRemote, path: str, data: bytes | None) -> None:
    """Make something whose create is done; its answer is lost, and that of the look for it as well."""
    name = "create_file" if data is not None else "create_directory"
    lost = remote.fail("after", (name, path, OutcomeUnknown("lost")), ("find", path, Unreachable("lost")))
    await make(mount, path, data)
    await eventually(lambda: not lost)
    assert path in remote.tree()


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
            lost = remote.fail("after", ("update", " a", OutcomeUnknown("lost")), ("get", "", Unreachable("lost")))
            await mount.write("a", b"first")
            await eventually(lambda: not lost)
            assert remote.tree()["a"] == b"first"
            await mount.write("a", b"second")
            if not is_restarted:
                assert await ending(mount) == {"a": b"second"}
        async with open_(remote) as mount:
            assert await ending(mount) == {"a": b"second"}

    play(tmp_path, story)


# -------------------------------------------------------------------------------------------------------- done late


@file_or_directory
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
            remote.meanwhile["delete"] = _doing(lambda: setattr(remote, "before", cut_off))
            await mount.write("d/a", b"new")
            await asyncio.sleep(2 * LATE_S)  # so long that the next listing is the last one that is searched
            assert len(remote.tree()) == 3
            remote.before = lambda name, subject: None
            remote.meanwhile["get"] = rename
            assert await ending(mount) == {"e": None, "e/a": b"new"}

    play(tmp_path, story)


def _doing(act: Callable[[], object]) -> Callable[[], Awaitable[None]]:
    async def event() -> None:
        act()

    return event


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


def test_a_replace_that_two_others_overtake_leaves_every_version_visible(tmp_path: Path, expected_logs: Any) -> None:
    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("a.txt", b"old")

        def write(data: bytes) -> Callable[[str, str], None]:
            def hook(name: str, subject: str) -> None:
                if name == "update" and subject.endswith(".old"):
                    remote.before = remote.after if data == b"second" else remote.before
                    remote.put("a.txt", data)

            return hook

        async with open_(remote) as mount:
            remote.before, remote.after = write(b"second"), write(b"third")
            await mount.write("a.txt", b"ours")
            await mount.session.drain(10)
            remote.before = remote.after = lambda name, subject: None
            tree = await ending(mount)
        assert sorted(filter(None, tree.values())) == [b"ours", b"second", b"third"]
        assert tree["a.txt"] == b"third"
        assert [path for path in tree if "(conflict from testhost" not in path] == ["a.txt"]

    expected_logs.expect("a.txt was changed by two others at once")
    play(tmp_path, story)


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
            assert await ending(mount) == {"d": None, "d/x": b"theirs"}

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
            remote.meanwhile["list_page"] = _doing(lambda: mount.vfs.unlink(*mount.place("a")))
            await mount.pull()
            await asyncio.sleep(LATE_S)
            assert remote.tree() == {hidden: b"theirs"}
            await remote.update(item.id, path="a")
            assert await ending(mount) == {"a": b"theirs"}

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
