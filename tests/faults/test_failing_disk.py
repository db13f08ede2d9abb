"""The disk of the local store fails for a moment: what fails with it, what does not, and that all goes on later."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_harness import Mounted, mounted, run
from failing_disk import FailingDisk
from model_remote import ModelRemote

from jobfs.engine.feed import FeedTimes
from jobfs.engine.hold import Hold
from jobfs.engine.review import Review
from jobfs.engine.session import Options
from jobfs.errors import NotFound, StateError, StateFull
from jobfs.fuse.errno import errno_of
from jobfs.model import ROOT, NodeId, Trouble
from jobfs.planner.guards import Side
from jobfs.store.blobs import Blobs
from jobfs.store.state import Refusal, State

pytestmark = pytest.mark.allow_log("the local store failed")

NEVER = FeedTimes(active_s=3600, ended_s=3600, ended_max_s=3600, status_s=3600, status_max_s=3600)


@pytest.fixture
def disk() -> FailingDisk:
    return FailingDisk()


def shown(mount: Mounted, path: str) -> bytes:
    """Return a file's bytes as they are here."""
    record = mount.session.state.local.get(mount.node(path))
    assert record is not None
    assert record.blob is not None
    return mount.session.state.blobs.path(record.blob).read_bytes()


# ---------------------------------------------------------------------------------------- what a program is told


@pytest.mark.parametrize("is_sent", [False, True], ids=["dirty", "clean"])
@pytest.mark.parametrize("call", ["open", "ftruncate", "BEGIN", "COMMIT"])
def test_an_emptying_open_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, disk: FailingDisk, call: str, is_sent: bool
) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        async with mounted(tmp_path, remote, disk=disk) as mount:
            await mount.write("a", b"before")
            if is_sent:
                await mount.settle()
            failed = 0
            with disk.failing(call):
                try:
                    mount.vfs.release(mount.vfs.open(mount.node("a"), os.O_WRONLY | os.O_TRUNC))
                except (StateError, OSError) as error:
                    failed = errno_of(error)
                    assert shown(mount, "a") == b"before"
                else:
                    assert call not in ("open", "BEGIN", "COMMIT") or not is_sent  # these it cannot do without
            assert failed in (0, errno.EIO)
            await mount.settle()
            assert remote.tree() == {"a": b"before" if failed else b""}

    run(scenario())


@pytest.mark.parametrize("call", ["BEGIN", "INSERT", "COMMIT"])
def test_a_change_of_a_name_that_fails_changes_nothing(tmp_path: Path, disk: FailingDisk, call: str) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        async with mounted(tmp_path, remote, disk=disk) as mount:
            for path in ("a", "b"):
                await mount.write(path, path.encode())
            await mount.settle()
            with disk.failing(call):
                with pytest.raises(StateError):
                    await mount.rename("a", "b")
                with pytest.raises(StateError):
                    mount.vfs.create(ROOT, "new", mode=0o644, flags=os.O_WRONLY)
            assert mount.names() == ["a", "b"]
            assert await mount.read("b") == b"b"
            await mount.settle()
            assert remote.tree() == {"a": b"a", "b": b"b"}

    run(scenario())


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
@pytest.mark.parametrize("change", ["unlink", "rename over it", "replaced there"])
def test_a_file_that_could_not_be_removed_keeps_its_bytes(
    tmp_path: Path, disk: FailingDisk, change: str, is_open: bool
) -> None:
    """Also what a program that has it open goes on writing."""

    async def scenario() -> None:
        remote = ModelRemote()
        async with mounted(tmp_path, remote, disk=disk, options=Options(times=NEVER)) as mount:
            await mount.write("a", b"kept")
            await mount.write("b", b"other")
            await mount.settle()
            handle = mount.vfs.open(mount.node("a"), os.O_RDWR) if is_open else None
            if change == "replaced there":
                remote.put("a", b"theirs")
            with disk.failing("COMMIT"):
                if change == "unlink":
                    with pytest.raises(StateError):
                        mount.vfs.unlink(ROOT, "a")
                elif change == "rename over it":
                    with pytest.raises(StateError):
                        await mount.rename("b", "a")
                else:
                    await mount.session.feed.poll()
                    await mount.offline()
            assert await mount.read("a") == b"kept"
            if handle is not None:
                assert not handle.inode.is_detached
                mount.vfs.release(handle)
            assert await mount.read("a") == b"kept"

    run(scenario())


def test_a_file_that_was_deleted_is_gone_even_if_its_bytes_cannot_be_removed(tmp_path: Path, disk: FailingDisk) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, ModelRemote(), disk=disk) as mount:
            await mount.write("a.swp", b"only here")
            blob = mount.session.state.blobs.path(next(iter(mount.session.state.named_blobs())))
            with disk.failing("unlink"):
                mount.vfs.unlink(ROOT, "a.swp")
            assert mount.names() == []
            assert blob.exists()
        async with mounted(tmp_path, ModelRemote(), disk=disk):
            assert not blob.exists()

    run(scenario())


def test_a_short_write_is_told_as_one(tmp_path: Path, disk: FailingDisk) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        async with mounted(tmp_path, remote, disk=disk) as mount:
            _, handle = mount.vfs.create(ROOT, "a", mode=0o644, flags=os.O_WRONLY)
            with disk.failing("pwrite", number=errno.ENOSPC, times=1):
                written = await mount.vfs.write(handle, b"12345678", 0)
            assert written == 4
            await mount.vfs.write(handle, b"5678", written)
            await mount.vfs.flush(handle)
            mount.vfs.release(handle)
            await mount.settle()
        assert remote.tree() == {"a": b"12345678"}

    run(scenario())


# ------------------------------------------------------------------------------------------------ the engine


def test_changes_of_a_plan_whose_local_half_fails_are_sent_later(tmp_path: Path, disk: FailingDisk) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        async with mounted(tmp_path, remote, disk=disk) as mount:
            await mount.write("both", b"first")
            await mount.settle()
            await mount.write("both", b"here")
            remote.put("both", b"there")
            with disk.failing("INSERT"):  # a conflict is a change here and one there, in one plan
                await mount.session.feed.poll()
                await mount.offline()
            await mount.pull()
            await mount.settle()
        assert sorted(data or b"" for data in remote.tree().values()) == [b"here", b"there"]

    run(scenario())


def test_nothing_is_deleted_on_the_word_of_a_listing_that_a_failing_store_has_forgotten(
    tmp_path: Path, disk: FailingDisk
) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"first")
        remote.put("other", b"first")
        async with mounted(tmp_path, remote, disk=disk, options=Options(times=NEVER)) as mount:
            mount.vfs.unlink(ROOT, "a")
            for path in ("a", "other"):
                remote.put(path, b"written by somebody")
            with disk.failing("INSERT"):
                await mount.session.feed.poll()
                await mount.offline()
            await mount.settle()
        assert remote.tree() == {"a": b"written by somebody", "other": b"written by somebody"}

    run(scenario())


def test_a_create_that_the_store_could_not_remember_hides_nobodys_file(tmp_path: Path, disk: FailingDisk) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        async with mounted(tmp_path, remote, disk=disk) as mount:
            await mount.write("a", b"ours")
            with disk.failing("INSERT"):
                await mount.offline()
            await mount.rename("a", "b")
            remote.put("a", b"somebody's")
            await mount.pull()
            await mount.settle()
            assert await mount.read("a") == b"somebody's"
        assert remote.tree() == {"a": b"somebody's", "b": b"ours"}

    run(scenario())


def test_a_create_whose_refusal_the_store_could_not_record_hides_nobodys_file(
    tmp_path: Path, disk: FailingDisk
) -> None:
    async def scenario() -> None:
        remote = ModelRemote()

        def refuse(call: str, subject: str) -> None:
            if call == "create_file" and subject == "a":
                raise NotFound("gone", status=404)

        async with mounted(tmp_path, remote, disk=disk) as mount:
            remote.before = refuse
            await mount.write("a", b"ours")
            with disk.failing("DELETE"):
                await mount.offline()
            remote.before = lambda call, subject: None
            await mount.rename("a", "b")
            remote.put("a", b"somebody's")
            await mount.pull()
            await mount.settle()
            assert await mount.read("a") == b"somebody's"

    run(scenario())


# ------------------------------------------------------------------------------------------------- the store


READINGS: dict[str, Callable[[State], object]] = {
    "settings": lambda state: state.setting("hold"),
    "replaces": lambda state: state.asides(),
    "creates": lambda state: state.creations(),
    "refusals": lambda state: state.refusals(),
    "approvals": lambda state: state.approvals(),
    "history": lambda state: state.versions.all(),
}


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
def test_what_cannot_be_read_is_an_error_of_the_store(
    tmp_path: Path, disk: FailingDisk, reading: Callable[[State], object]
) -> None:
    state = State.open(tmp_path, connect=disk.connect, system=disk)
    with disk.failing("SELECT"), pytest.raises(StateError):
        reading(state)
    state.close()


def test_a_transaction_in_which_reading_failed_is_undone_whoever_caught_that(tmp_path: Path, disk: FailingDisk) -> None:
    """SQLite may have undone it by itself: what came after would be in the store alone."""
    state = State.open(tmp_path, connect=disk.connect, system=disk)
    with disk.failing("SELECT", times=1), pytest.raises(StateError), state.transaction():
        state.put_refusal(ROOT, Refusal(Trouble.REFUSED, "x"))
        try:
            state.versions.all()
        except StateError:
            state.put_refusal(ROOT, Refusal(Trouble.REFUSED, "y"))
    assert state.refusals() == {}
    state.close()


def test_a_store_on_a_disk_that_fails_is_closed_all_the_same(tmp_path: Path, disk: FailingDisk) -> None:
    state = State.open(tmp_path, connect=disk.connect, system=disk)
    with disk.failing("BEGIN", "INSERT", "COMMIT"):
        state.close()
    State.open(tmp_path).close()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("call", ["open", "mkdir", "write", "ftruncate"])
def test_of_a_copy_that_fails_nothing_is_left(tmp_path: Path, disk: FailingDisk, call: str, number: int) -> None:
    blobs = Blobs(tmp_path, disk)
    blobs._clones = False
    whole = blobs.allocate()
    descriptor = blobs.open(whole, create=True)
    os.write(descriptor, b"bytes")
    os.close(descriptor)
    expected = StateFull if number == errno.ENOSPC else StateError
    with disk.failing(call, number=number), pytest.raises(expected):
        blobs.copy(whole)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [str(whole)]
    assert blobs.read(blobs.copy(whole)) == b"bytes"


def test_what_base_and_remote_know_of_a_node_moves_only_with_the_store(tmp_path: Path, disk: FailingDisk) -> None:
    """A remote version takes a new node: where that cannot be recorded, both trees still have the old one."""

    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"first")
        async with mounted(tmp_path, remote, disk=disk) as mount:
            trees, state = mount.session.trees, mount.session.state
            node = mount.node("a")
            fresh = state.allocate()
            with disk.failing("COMMIT"), pytest.raises(StateError), state.transaction():
                trees.rebind(node, fresh)
            assert (trees.remote.get(node), trees.remote.get(fresh)) == (state.base.get(node), None)

    run(scenario())


def test_bytes_that_were_shown_before_are_still_looked_at_after_a_download_that_could_not_be_recorded(
    tmp_path: Path, disk: FailingDisk
) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"shown")
        async with mounted(tmp_path, remote, disk=disk, options=Options(times=NEVER, cache_bytes=0)) as mount:
            assert await mount.read("a") == b"shown"
            assert mount.session.cache.shrink() == len(b"shown")
            with disk.failing("COMMIT"), pytest.raises(StateError):
                await mount.session.hydrator.fetch(mount.node("a"))
            looks = len(remote.asked("get"))
            assert await mount.read("a") == b"shown"
            assert len(remote.asked("get")) > looks

    run(scenario())


def test_a_change_takes_its_approval_away_and_is_made_once_also_where_the_store_cannot_record_that(
    tmp_path: Path, disk: FailingDisk
) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        async with mounted(tmp_path, remote, disk=disk, options=Options(times=NEVER)) as mount:
            hold = mount.session.hold
            hold.switch(is_on=True)
            await mount.write("a", b"one")
            node = mount.node("a")
            handle = mount.vfs.open(node, os.O_WRONLY | os.O_APPEND)
            assert mount.vfs.write_now(handle, b" two", 0) is not None
            hold.approve({node})
            with disk.failing("BEGIN", number=errno.ENOSPC):
                assert mount.vfs.write_now(handle, b" three", 0) is not None
            assert (shown(mount, "a"), hold.keeps(node)) == (b"one two three", True)
            mount.vfs.release(handle)

    run(scenario())


def test_where_a_workspace_cannot_be_held_or_let_go_its_approvals_stay(tmp_path: Path, disk: FailingDisk) -> None:
    state = State.open(tmp_path, connect=disk.connect, system=disk)
    hold = Hold(state)
    hold.switch(is_on=True)
    hold.approve({NodeId(7)})
    with disk.failing("COMMIT"), pytest.raises(StateError):
        hold.switch(is_on=False)
    assert (hold.is_on, hold.approved) == (True, state.approvals())
    state.close()


@pytest.mark.allow_log("stopped: 40 of ")
def test_what_the_guard_stopped_stays_stopped_where_the_users_word_could_not_be_recorded(
    tmp_path: Path, disk: FailingDisk
) -> None:
    """The deletions were not made, and would look few beside what there is by then."""

    async def scenario() -> None:
        remote = ModelRemote()
        for number in range(50):
            remote.put(f"f{number:02d}", b"x")
        async with mounted(tmp_path, remote, disk=disk, options=Options(times=NEVER)) as mount:
            guard = mount.session.guard
            for number in range(40):
                remote.remove(f"f{number:02d}")
            await mount.pull()
            for number in range(150):
                await mount.write(f"g{number:03d}", b"x")
            with disk.failing("COMMIT"), guard.allowing(Side.LOCAL, None):
                mount.session.look_again(guard.stopped)
                await mount.offline()
            await mount.pull()
            assert (len(mount.names()), guard.side) == (200, Side.LOCAL)

    run(scenario())


def test_a_revert_that_finds_no_room_for_the_bytes_leaves_them_to_be_brought_when_they_are_read(
    tmp_path: Path, disk: FailingDisk
) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"theirs")
        async with mounted(tmp_path, remote, disk=disk, options=Options(times=NEVER)) as mount:
            mount.session.hold.switch(is_on=True)
            assert await mount.read("a") == b"theirs"
            await mount.write("a", b"mine")
            with disk.failing("open", number=errno.ENOSPC):
                assert await Review(mount.session).revert("a") == ["a"]
            assert await mount.read("a") == b"theirs"

    run(scenario())
