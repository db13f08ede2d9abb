"""The local history of a folder: what comes from the server never destroys bytes, and what is kept can come back."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from failing_disk import FailingDisk
from folder_harness import QUICK, Desk, run
from kept_versions import kept_versions
from model_remote import ModelRemote

from jobfs.engine.workspace import SystemClock, Workspace
from jobfs.errors import HistoryError, StateError
from jobfs.folder.arrivals import Arrivals
from jobfs.folder.coalesce import EVERYWHERE
from jobfs.folder.disk import Disk
from jobfs.folder.keeping import Keeping
from jobfs.folder.restore import FolderRestorer
from jobfs.folder.sync import FolderSync, SyncOptions
from jobfs.model import ROOT, Content, Kind, LocalNode, NodeId
from jobfs.planner.ignore import Ignore
from jobfs.planner.retention import Wanted
from jobfs.store.history import Version
from jobfs.store.state import State

ONCE = SyncOptions(host="testhost", times=QUICK)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.write("a.txt", "first")
    made.write("sub/b.txt", "other")
    run(made.in_step())
    return made


def versions(desk: Desk) -> list[tuple[str, bytes, str]]:
    with desk.opened() as state:
        return kept_versions(state)


def restore(desk: Desk, data: bytes, path: str, *, is_undelete: bool = False) -> list[str]:
    """Put the version with these bytes back, as a command does where nothing runs."""
    changed: list[str] = []

    async def put_back() -> None:
        with desk.opened() as state:
            [version] = [one for one in state.versions.all() if state.blobs.path(one.blob).read_bytes() == data]  # type: ignore[arg-type]
            workspace = Workspace(state, Ignore(), SystemClock(), host="h", is_read_only=False)
            restorer = FolderRestorer(workspace, Disk(desk.root), Arrivals(lambda: "abcdefgh"), changed.append)
            await restorer.restore(version, path, is_undelete=is_undelete)

    run(put_back())
    return changed


def test_what_a_remote_version_replaces_or_a_remote_deletion_takes_is_kept(desk: Desk) -> None:
    desk.model.put("a.txt", b"second")
    desk.model.remove("sub/b.txt")
    run(desk.sync())
    assert desk.tree()["a.txt"] == b"second"
    assert sorted(versions(desk)) == [
        ("a.txt", b"first", "replaced on the server"),
        ("sub/b.txt", b"other", "deleted on the server"),
    ]


def test_a_directory_that_is_deleted_on_the_server_leaves_its_files_in_the_history(desk: Desk) -> None:
    desk.write("sub/c.txt", "third")
    run(desk.sync())
    desk.model.remove("sub")
    run(desk.sync(replace(ONCE, max_deletions=None)))
    assert "sub" not in desk.tree()
    assert {path for path, _, _ in versions(desk)} == {"sub/b.txt", "sub/c.txt"}


def test_a_scan_leaves_a_version_alone_that_is_on_its_way_to_its_place(desk: Desk) -> None:
    written, scanned = threading.Event(), threading.Event()

    class Slow(Disk):
        def sync(self, descriptor: int) -> None:
            written.set()
            assert scanned.wait(10)
            super().sync(descriptor)

    async def restore_beside_a_scan(version: Version) -> None:
        async with desk.watching(make_disk=Slow) as sync:
            putting = asyncio.create_task(sync.restorer.restore(version, "a.txt"))
            await asyncio.to_thread(written.wait, 10)
            await sync.side.scan(EVERYWHERE)
            scanned.set()
            assert (await putting).is_changed

    desk.model.put("a.txt", b"second")
    run(desk.sync())
    with desk.opened() as state:
        [version] = state.versions.all()
    run(restore_beside_a_scan(version))
    assert desk.tree()["a.txt"] == b"first"


def test_what_programs_do_to_their_own_files_leaves_nothing_to_keep(desk: Desk) -> None:
    desk.write("a.txt", "edited here")
    (desk.root / "sub" / "b.txt").unlink()
    run(desk.sync(replace(ONCE, max_deletions=None)))
    assert versions(desk) == []


def test_a_kept_file_has_no_second_name_that_somebody_could_write_through(desk: Desk) -> None:
    os.link(desk.root / "a.txt", desk.root / "twin.txt")
    run(desk.sync())
    desk.model.put("a.txt", b"second")
    run(desk.sync())
    (desk.root / "twin.txt").write_text("changed")
    assert ("a.txt", b"first", "replaced on the server") in versions(desk)


def test_with_the_history_off_nothing_is_kept(desk: Desk) -> None:
    desk.model.put("a.txt", b"second")
    run(desk.sync(replace(ONCE, history=Wanted(days=0))))
    assert (desk.tree()["a.txt"], versions(desk)) == (b"second", [])


def test_a_version_comes_back_and_what_it_replaces_is_kept_whether_it_was_sent_or_not(desk: Desk) -> None:
    desk.model.put("a.txt", b"second")
    run(desk.sync())
    desk.write("a.txt", "never sent")
    assert restore(desk, b"first", "a.txt") == ["a.txt"]
    assert desk.tree()["a.txt"] == b"first"
    assert [data for _, data, _ in versions(desk)] == [b"first", b"never sent"]
    run(desk.sync())
    assert desk.model.tree()["a.txt"] == b"first"


def test_a_deleted_file_comes_back_with_its_directory_and_its_time(desk: Desk) -> None:
    mtime_ns = (desk.root / "sub" / "b.txt").stat().st_mtime_ns
    desk.model.remove("sub")
    run(desk.sync(replace(ONCE, max_deletions=None)))
    restore(desk, b"other", "sub/b.txt", is_undelete=True)
    assert (desk.root / "sub" / "b.txt").stat().st_mtime_ns == mtime_ns
    run(desk.sync())
    assert desk.model.tree()["sub/b.txt"] == b"other"


@pytest.mark.parametrize(
    ("path", "says"), [("sub", "is there"), ("a.txt/x", "no directory"), ("link/x", "no directory"), ("b\n", "nothing")]
)
def test_a_place_that_cannot_be_had_is_refused_and_nothing_is_left_behind(desk: Desk, path: str, says: str) -> None:
    desk.model.put("a.txt", b"second")
    run(desk.sync())
    (desk.root / "link").symlink_to(desk.state_directory, target_is_directory=True)
    before = sorted(desk.root.rglob("*"))
    with pytest.raises(HistoryError, match=says):
        restore(desk, b"first", path)
    assert sorted(desk.root.rglob("*")) == before


def test_a_file_that_is_there_is_not_undeleted_over(desk: Desk) -> None:
    desk.model.put("a.txt", b"second")
    run(desk.sync())
    with pytest.raises(HistoryError, match="is there"):
        restore(desk, b"first", "a.txt", is_undelete=True)
    assert desk.tree()["a.txt"] == b"second"


def test_a_version_goes_back_to_where_no_scan_has_been(desk: Desk) -> None:
    desk.model.put("a.txt", b"second")
    run(desk.sync())
    desk.write("new/place.txt", "unknown")
    restore(desk, b"first", "new/place.txt")
    [kept] = [one for one in _all(desk) if one.path == "new/place.txt"]
    assert (kept.content.size, kept.content.revision) == (len(b"unknown"), None)


def _all(desk: Desk) -> list[Version]:
    with desk.opened() as state:
        return state.versions.all()


@pytest.mark.parametrize("call", ["BEGIN", "INSERT", "COMMIT"])
def test_what_the_history_could_not_record_takes_no_room_either(tmp_path: Path, call: str) -> None:
    """Each new try would leave one more copy, on a disk that may be full."""
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / "a"
    disk = FailingDisk()
    state = State.open(tmp_path / "state", connect=disk.connect, system=disk)
    workspace = Workspace(state, Ignore(), SystemClock(), host="h", is_read_only=False)
    workspace.history.start(Wanted())
    folder = Disk(tmp_path / "folder")
    keeping, record = Keeping(workspace, folder), LocalNode(NodeId(5), ROOT, "a", Kind.FILE, content=Content(3))

    def kept() -> list[bytes]:
        return [path.read_bytes() for path in (tmp_path / "state" / "blobs").rglob("*") if path.is_file()]

    file.write_bytes(b"one")
    with disk.failing(call, number=errno.ENOSPC), pytest.raises(StateError):
        keeping.keep(record, "a", "a")
    assert kept() == []
    keeping.keep(record, "a", "a")
    file.write_bytes(b"two")
    restorer = FolderRestorer(workspace, folder, Arrivals(lambda: "abcdefgh"), lambda place: None)
    with disk.failing(call, number=errno.ENOSPC), pytest.raises(StateError):
        run(restorer.restore(state.versions.all()[0], "a"))
    assert (kept(), file.read_bytes()) == ([b"one"], b"two")
    state.close()


def test_a_large_file_that_could_not_be_recorded_as_it_was_sent_leaves_no_copy(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = FailingDisk()
        state = State.open(tmp_path / "state", connect=disk.connect, system=disk)
        sync = FolderSync(state, ModelRemote(), tmp_path / "folder")
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "a").write_bytes(b"x" * (2 << 20))
        await sync.record()
        (node,) = (node for node in state.local if node != ROOT)
        record = state.local.get(node)
        assert record is not None
        with state.transaction():
            state.put_local(replace(record, content=Content(2 << 20)))  # as of a file that is written to all the time
        with disk.failing("COMMIT", number=errno.ENOSPC), pytest.raises(StateError):
            async with sync.side.snapshot(node):
                pass
        assert [path for path in (tmp_path / "state" / "blobs").rglob("*") if path.is_file()] == []
        state.close()

    run(scenario())
