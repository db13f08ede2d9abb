"""The local disk fills up under a mount, or the server's does: what fails, what stays, and how it goes on by itself."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from engine_harness import DEADLINE_S, QUICK, Mounted, eventually, mounted, run
from model_remote import ModelRemote, refuse_changes
from small_disk import MIB, Disk, PretendedDisk, can_mount, fill_database, free_database, mounted_disk

from jobfs.engine.session import Options
from jobfs.errors import Refused, StateFull, TooLarge
from jobfs.fuse.errno import errno_of
from jobfs.model import ROOT, BlobId, Content, Kind, LocalNode, NodeId, Permission
from jobfs.store.repair import decide
from jobfs.store.state import State
from jobfs.store.stock import read_stock, write_repair

pytestmark = pytest.mark.allow_log("the local store failed")


@pytest.fixture(params=["pretended", *(["mounted"] if can_mount() else [])])
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A small disk: a real one where that is possible."""
    if request.param == "mounted":
        with mounted_disk(tmp_path / "disk") as real:
            yield real
    else:
        yield PretendedDisk(tmp_path, monkeypatch)


def alike(state: State) -> None:
    """Check that memory and SQLite say the same, but for what is only saved at the next flush."""
    stock = read_stock(state.directory)
    shown = state._shown | {ROOT}
    here = {node.id: node for node in state.local.entries() if node.id not in shown}
    assert {number: node for number, node in stock.local.items() if number not in shown} == here
    assert dict(stock.base) == {entry.id: entry for entry in state.base.entries() if entry.id != ROOT}
    assert state.check() == []


async def error_of(work: Awaitable[object]) -> int:
    """Return the errno that a program sees; 0 where there is none."""
    try:
        await work
    except (StateFull, OSError) as error:
        return errno_of(error)
    return 0


def blob_files(directory: Path) -> int:
    return sum(file.is_file() for file in (directory / "blobs").rglob("*"))


class Wall:
    """Between a client and its server: requests that change something are not let through while it stands."""

    def __init__(self, remote: ModelRemote) -> None:
        self.stands = True
        remote.before = self._before

    def _before(self, call: str, subject: str) -> None:
        if self.stands:
            refuse_changes(call, subject)


# ------------------------------------------------------------------------------------------------- the local disk


def test_a_write_that_finds_no_room_fails_and_what_was_closed_before_stays_and_is_pushed(disk: Disk) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        wall = Wall(remote)
        async with mounted(disk.directory, remote) as mount:
            await mount.write("closed", b"closed before")
            _, handle = mount.vfs.create(ROOT, "growing", mode=0o644, flags=os.O_WRONLY)
            await mount.vfs.write(handle, b"first", 0)
            disk.fill(mount.session.state)
            failed = [await error_of(mount.vfs.write(handle, bytes(MIB), 5 + MIB * turn)) for turn in range(4)]
            assert failed[-1] == errno.ENOSPC
            assert await mount.read("closed") == b"closed before"
            wall.stands = False
            disk.free(mount.session.state)
            await mount.vfs.truncate(mount.node("growing"), 5)
            assert await error_of(mount.vfs.flush(handle)) == 0
            mount.vfs.release(handle)
            await mount.settle()
            alike(mount.session.state)
        assert remote.tree() == {"closed": b"closed before", "growing": b"first"}

    run(scenario())


def test_bytes_written_before_the_disk_was_full_outlive_a_flush_that_found_no_room(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        async with mounted(tmp_path, remote) as mount:
            _, handle = mount.vfs.create(ROOT, "a", mode=0o644, flags=os.O_WRONLY)
            await mount.vfs.write(handle, b"written", 0)
            fill_database(mount.session.state)
            errors = [await error_of(mount.vfs.flush(handle)), await error_of(mount.vfs.fsync(handle))]
            assert errors == [errno.ENOSPC, errno.ENOSPC]
            free_database(mount.session.state)
            await error_of(mount.vfs.flush(handle))
            mount.vfs.release(handle)
            await mount.settle()
            alike(mount.session.state)
        assert remote.tree() == {"a": b"written"}

    run(scenario())


def test_every_change_of_a_name_on_a_full_disk_fails_and_changes_nothing(disk: Disk) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        for path, data in (("d", None), ("d/x", b"x"), ("a", b"a"), ("b", b"b")):
            remote.put(path, data)
        async with mounted(disk.directory, remote) as mount:
            vfs, state = mount.vfs, mount.session.state
            before = dict(read_stock(state.directory).local)
            fill_database(state)
            changes: list[Callable[[], Awaitable[object]]] = [
                lambda: mount.rename("a", "c"),
                lambda: mount.rename("a", "b"),
                lambda: mount.rename("d", "e"),
                lambda: call(vfs.unlink, *mount.place("a")),
                lambda: call(vfs.make, ROOT, "new", Kind.DIRECTORY, mode=0o755),
                lambda: call(vfs.set_mode, mount.node("a"), 0o444),
                lambda: call(vfs.set_times, mount.node("a"), mtime_ns=7),
                lambda: call(vfs.open, mount.node("a"), os.O_WRONLY | os.O_TRUNC),
                lambda: mount.vfs.truncate(mount.node("a"), 0),
            ]
            assert [await error_of(change()) for change in changes] == [errno.ENOSPC] * len(changes)
            alike(state)
            assert dict(read_stock(state.directory).local) == before
            free_database(state)
            assert await error_of(changes[0]()) == 0
            await mount.settle()
        assert remote.tree() == {"b": b"b", "c": b"a", "d": None, "d/x": b"x"}

    run(scenario())


async def call(function: Callable[..., object], *values: object, **options: object) -> object:
    return function(*values, **options)


def test_a_download_that_finds_no_room_fails_its_read_and_leaves_nothing_behind(disk: Disk) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        data = os.urandom(MIB)
        remote.put("big", data)
        remote.put("small", b"small")
        async with mounted(disk.directory, remote) as mount:
            assert await mount.read("small") == b"small"
            files = blob_files(disk.directory)
            disk.fill(mount.session.state, room=MIB // 2)
            assert await error_of(mount.read("big")) == errno.ENOSPC
            assert await mount.read("small") == b"small"
            assert blob_files(disk.directory) == files
            record = mount.session.state.local.get(mount.node("big"))
            assert record is not None
            assert record.blob is None
            disk.free(mount.session.state)
            assert await mount.read("big") == data
            alike(mount.session.state)

    run(scenario())


def test_a_listing_that_finds_no_room_is_taken_in_once_there_is_some(disk: Disk) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        often = Options(times=replace(QUICK, status_s=0.2, status_max_s=0.2))
        async with mounted(disk.directory, remote, options=often) as mount:
            names = [f"file-{number:04}" * 8 for number in range(100)]
            disk.fill(mount.session.state)
            for name in names:
                remote.put(name, b"x")
            mount.session.feed.request()
            await mount.offline()
            assert mount.names() == []
            alike(mount.session.state)
            disk.free(mount.session.state)
            await eventually(lambda: mount.names() == sorted(names))
            alike(mount.session.state)

    run(scenario())


def test_an_upload_whose_end_cannot_be_recorded_is_made_once_and_found_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("old", b"old")
        async with mounted(tmp_path, remote) as mount:
            remote.before = lambda name, subject: fill_once(mount.session.state, name)
            await mount.write("new", b"new bytes")
            await eventually(lambda: remote.at("new") is not None)
            await mount.offline()
            alike(mount.session.state)
            free_database(mount.session.state)
            await mount.pull()
            await mount.settle()
            alike(mount.session.state)
        assert remote.tree() == {"new": b"new bytes", "old": b"old"}
        assert [name for name, _ in remote.asked("create_file")] == ["create_file"]

    run(scenario())


def fill_once(state: State, name: str) -> None:
    if name == "create_file":
        fill_database(state)


@contextmanager
def full_during(state: State) -> Iterator[None]:
    fill_database(state)
    try:
        yield
    finally:
        free_database(state)


def test_a_download_whose_end_cannot_be_recorded_fails_its_read_and_the_next_one_succeeds(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"bytes")
        async with mounted(tmp_path, remote) as mount, heard() as unheard:
            with full_during(mount.session.state):
                async with asyncio.timeout(1):
                    assert await error_of(mount.session.hydrator.fetch(mount.node("a"))) == errno.ENOSPC
            assert await mount.read("a") == b"bytes"
            await mount.session.hydrator.fetch(mount.node("a"))
            assert blob_files(tmp_path) == 1
            alike(mount.session.state)
            assert unheard() == []

    run(scenario())


@asynccontextmanager
async def heard() -> AsyncIterator[Callable[[], list[str]]]:
    """Collect the exceptions of tasks that nobody asks for their result, instead of logging them."""
    loop = asyncio.get_running_loop()
    found: list[str] = []

    def unheard() -> list[str]:
        gc.collect()  # such a task tells when it is thrown away
        return found

    loop.set_exception_handler(lambda _, context: found.append(str(context.get("exception"))))
    try:
        yield unheard
        unheard()
    finally:
        loop.set_exception_handler(None)


def test_a_replace_whose_end_cannot_be_recorded_leaves_no_litter(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"old")
        async with mounted(tmp_path, remote) as mount, heard() as unheard:
            remote.before = lambda name, subject: fill_database(mount.session.state) if name == "delete" else None
            await mount.write("a", b"new")
            await eventually(lambda: remote.tree() == {"a": b"new"})
            remote.before = lambda name, subject: None
            free_database(mount.session.state)
            await mount.pull()
            await mount.settle()
            assert unheard() == []
        assert remote.tree() == {"a": b"new"}

    run(scenario())


def test_a_copy_that_finds_no_room_leaves_no_part_of_it(disk: Disk) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        async with mounted(disk.directory, remote) as mount:
            state = mount.session.state
            await mount.write("a", bytes(MIB))
            await mount.settle()
            files = blob_files(disk.directory)
            disk.fill(state, room=MIB // 2)
            with state.blobs.pinned(blob_of(mount, "a")):
                handle = mount.vfs.open(mount.node("a"), os.O_WRONLY)
                assert await error_of(mount.vfs.write(handle, b"x", 0)) == errno.ENOSPC
                mount.vfs.release(handle)
            assert blob_files(disk.directory) == files
            disk.free(state)
            await mount.settle()

    run(scenario())


def blob_of(mount: Mounted, path: str) -> BlobId:
    record = mount.session.state.local.get(mount.node(path))
    assert record is not None
    assert record.blob is not None
    return record.blob


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_WRONLY | os.O_TRUNC])
def test_a_first_write_that_cannot_be_recorded_leaves_no_bytes_that_nothing_names(tmp_path: Path, flags: int) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"a")
        async with mounted(tmp_path, remote) as mount:
            state = mount.session.state
            if flags == os.O_WRONLY:
                await mount.session.hydrator.fetch(mount.node("a"))
            files = blob_files(tmp_path)
            pins = state.blobs.pinned(blob_of(mount, "a")) if files else nullcontext()
            with full_during(state), pins, pytest.raises(StateFull):
                handle = mount.vfs.open(mount.node("a"), flags)
                try:
                    await mount.vfs.write(handle, b"x", 0)
                finally:
                    mount.vfs.release(handle)
            assert blob_files(tmp_path) == files

    run(scenario())


def test_an_open_that_cannot_empty_the_file_leaves_no_handle(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"a")
        async with mounted(tmp_path, remote) as mount:
            with full_during(mount.session.state), pytest.raises(StateFull):
                mount.vfs.open(mount.node("a"), os.O_WRONLY | os.O_TRUNC)
            assert (mount.vfs.table.handles, dict(mount.session.workspace.writers)) == ({}, {})

    run(scenario())


@pytest.mark.allow_log("unexpected")
def test_a_file_that_both_sides_changed_is_compared_once_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"base")
        async with mounted(tmp_path, remote) as mount:
            await mount.read("a")
            wall = Wall(remote)
            handle = mount.vfs.open(mount.node("a"), os.O_WRONLY)
            await mount.vfs.write(handle, b"mine", 0)
            remote.put("a", b"them")
            with full_during(mount.session.state):
                await mount.session.feed.poll()
                await eventually(lambda: mount.session.offline is not None or errors_in(caplog) != [])
            assert errors_in(caplog) == []
            wall.stands = False
            mount.vfs.release(handle)
            await mount.pull()
            await mount.settle()
        assert sorted(filter(None, remote.tree().values())) == [b"mine", b"them"]

    run(scenario())


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.allow_log("unexpected")
def test_what_was_refused_without_that_being_recorded_is_asked_for_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("a", b"a")
        async with mounted(tmp_path, remote) as mount:

            def refuse(name: str, subject: str) -> None:
                if name == "update":
                    fill_database(mount.session.state)
                    raise Refused("not now", status=422)

            remote.before = refuse
            mount.vfs.set_mode(mount.node("a"), 0o444)
            await eventually(lambda: mount.session.offline is not None or errors_in(caplog) != [])
            assert errors_in(caplog) == []
            remote.before = lambda name, subject: None
            free_database(mount.session.state)
            await mount.settle()
        assert [item.permission for item in remote.items.values()] == [Permission.READ_ONLY]

    run(scenario())


def test_numbers_promised_in_a_transaction_that_failed_are_promised_again(tmp_path: Path) -> None:
    with closing(State.open(tmp_path / "state")) as state:
        with pytest.raises(StateFull), state.transaction():
            state.allocate()
            raise StateFull("no space left")
        kept = state.allocate()
        with state.transaction():
            state.put_local(LocalNode(kept, ROOT, "a", Kind.FILE, content=Content(0)))
        killed = shutil.ignore_patterns("lock", "*-shm")
        shutil.copytree(tmp_path / "state", tmp_path / "after", ignore=killed)
    with closing(State.open(tmp_path / "after")) as again:
        assert again.check() == []
        assert again.allocate() > kept


def test_a_first_state_for_which_there_is_no_room_says_where_and_opens_later(disk: Disk) -> None:
    disk.directory.mkdir(exist_ok=True)
    disk.fill(None)
    with pytest.raises(StateFull) as caught:
        State.open(disk.directory)
    assert str(disk.directory) in caught.value.cause
    disk.free(None)
    with closing(State.open(disk.directory)) as state:
        assert state.check() == []


def test_what_was_only_shown_is_still_saved_at_the_end_after_a_transaction_that_failed(tmp_path: Path) -> None:
    with closing(State.open(tmp_path)) as state:
        node = LocalNode(NodeId(state.allocate()), ROOT, "d", Kind.DIRECTORY, mtime_ns=1)
        with state.transaction():
            state.put_local(node)
        state.show_local(replace(node, mtime_ns=7))
        with pytest.raises(StateFull), state.transaction():
            state.put_local(replace(node, mtime_ns=9))
            raise StateFull("no space left")
    with closing(State.open(tmp_path)) as again:
        found = again.local.get(node.id)
        assert found is not None
        assert found.mtime_ns == 7


def test_a_repair_on_a_full_disk_changes_nothing_and_says_why(disk: Disk) -> None:
    with closing(State.open(disk.directory)) as state:
        with state.transaction():
            for name in ("a", "b"):
                blob = state.blobs.allocate()
                os.close(state.blobs.open(blob, create=True))
                state.blobs.path(blob).write_bytes(bytes(MIB // 2))
                node = LocalNode(state.allocate(), ROOT, name, Kind.FILE, content=Content(MIB // 2), blob=blob)
                state.put_local(node)
            state.put_local(replace(node, blob=state.local.get(NodeId(node.id - 1)).blob))
        before = read_stock(disk.directory)
        disk.fill(state)
        with pytest.raises((StateFull, OSError)) as caught:
            write_repair(disk.directory, decide(before, lambda name, is_taken, *, is_directory: name, now_ns=1))
        assert errno_of(caught.value) == errno.ENOSPC
        disk.free(state)
        assert read_stock(disk.directory) == before
        state.blobs.sweep(state.named_blobs())


# ------------------------------------------------------------------------------------------------ the server's disk


@pytest.mark.parametrize("status", [413, 507])
def test_what_the_server_has_no_room_for_is_marked_kept_and_asked_for_again_after_its_next_change(
    tmp_path: Path, status: int
) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("old", b"old bytes")

        def refuse(name: str, subject: str) -> None:
            if name == "create_file" and "other" not in subject:
                raise TooLarge("the server does not take this much", "free space there", status=status)

        remote.before = refuse
        async with mounted(tmp_path, remote) as mount:
            await mount.write("new", b"too much")
            await mount.write("old", b"also too much")
            await mount.write("other", b"small enough")
            left = await mount.session.drain(DEADLINE_S)
            assert [(one.path, "does not take this much" in one.reason) for one in left] == [
                ("new", True),
                ("old", True),
            ]
            assert remote.tree() == {"old": b"old bytes", "other": b"small enough"}
            asked = len(remote.asked("create_file"))
            await mount.pull()
            await mount.pull()
            assert len(remote.asked("create_file")) == asked
            assert (await mount.read("new"), await mount.read("old")) == (b"too much", b"also too much")
        async with mounted(tmp_path, remote) as mount:
            assert [one.path for one in await mount.session.drain(DEADLINE_S)] == ["new", "old"]
            assert len(remote.asked("create_file")) == asked
            remote.before = lambda name, subject: None
            await mount.write("new", b"less")
            await mount.write("old", b"less too")
            await mount.settle()
        assert remote.tree() == {"new": b"less", "old": b"less too", "other": b"small enough"}

    run(scenario())
