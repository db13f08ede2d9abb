"""What the server changes, seen by programs on a real mount: atomic replaces, precise invalidation, nothing torn."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import pytest
from model_remote import ModelRemote

from jobfs.model import Permission

pytestmark = pytest.mark.mount

Live = Any  # see conftest
Eventually = Callable[[Callable[[], bool]], None]


@pytest.fixture
def remote() -> ModelRemote:
    return ModelRemote()


@pytest.fixture
def live(serving: Callable, transport: str, remote: ModelRemote) -> Live:
    remote.put("d", None)
    remote.put("d/a", b"old")
    remote.put("d/gone", b"gone")
    return serving(transport, remote)


def test_a_file_of_the_server_is_read_and_a_changed_one_is_a_new_inode_at_its_name(
    live, remote: ModelRemote, eventually: Eventually
) -> None:
    path = live.path / "d" / "a"
    assert path.read_bytes() == b"old"
    before = path.stat().st_ino
    live.do(lambda: remote.put("d/a", b"newer"))
    live.pull()
    eventually(lambda: path.stat().st_ino != before)
    assert path.read_bytes() == b"newer"


@pytest.mark.usefixtures("torn_by_libfuse")
def test_an_open_file_keeps_its_version_while_the_name_shows_the_new_one(
    live, remote: ModelRemote, eventually: Eventually
) -> None:
    path = live.path / "d" / "a"
    with path.open("rb", buffering=0) as reader:
        assert reader.read(1) == b"o"
        live.do(lambda: remote.put("d/a", b"NEWER BYTES"))
        live.pull()
        eventually(lambda: path.read_bytes() == b"NEWER BYTES")
        assert os.pread(reader.fileno(), 100, 0) == b"old"


def test_an_open_file_shows_that_its_name_was_taken(
    serving: Callable, remote: ModelRemote, eventually: Eventually
) -> None:
    # Through the kernel transport only: libfuse has no path for a file whose name stands for another one.
    remote.put("a", b"old")
    remote.put("b", b"old")
    live = serving("kernel", remote)
    with (live.path / "a").open("rb") as replaced, (live.path / "b").open("rb") as deleted:
        assert [os.fstat(file.fileno()).st_nlink for file in (replaced, deleted)] == [1, 1]
        live.do(lambda: (remote.put("a", b"newer"), remote.remove("b")))
        live.pull()
        eventually(lambda: [os.fstat(file.fileno()).st_nlink for file in (replaced, deleted)] == [0, 0])


def test_a_file_that_was_opened_but_not_yet_read_keeps_its_version_too(live: Live, remote: ModelRemote) -> None:
    path = live.path / "d" / "a"
    path.read_bytes()
    with path.open("rb", buffering=0) as reader:
        live.do(lambda: remote.put("d/a", b"x" * 10_000))
        live.pull()
        assert reader.read() == b"old"


def test_a_file_deleted_remotely_vanishes_but_stays_readable_while_open(
    live, remote: ModelRemote, eventually: Eventually
) -> None:
    path = live.path / "d" / "gone"
    with path.open("rb", buffering=0) as reader:
        assert reader.read() == b"gone"
        live.do(lambda: remote.remove("d/gone"))
        live.pull()
        eventually(lambda: not path.exists())
        assert os.listdir(live.path / "d") == ["a"]
        assert os.pread(reader.fileno(), 100, 0) == b"gone"


def test_a_file_that_appears_is_found_though_its_absence_was_remembered(
    live, remote: ModelRemote, eventually: Eventually
) -> None:
    path = live.path / "d" / "new"
    assert not path.exists()
    assert sorted(os.listdir(live.path / "d")) == ["a", "gone"]
    live.do(lambda: remote.put("d/new", b"here"))
    live.pull()
    eventually(path.exists)
    assert path.read_bytes() == b"here"
    assert sorted(os.listdir(live.path / "d")) == ["a", "gone", "new"]


def test_a_file_that_appears_in_a_directory_that_was_listed_is_listed_though_nobody_asked_for_its_name(
    live: Live, remote: ModelRemote, eventually: Eventually
) -> None:
    assert sorted(os.listdir(live.path / "d")) == ["a", "gone"]
    live.do(lambda: remote.put("d/new", b"here"))
    live.pull()
    eventually(lambda: sorted(os.listdir(live.path / "d")) == ["a", "gone", "new"])


def test_a_directory_that_moves_remotely_is_found_at_its_new_place_only(
    live, remote: ModelRemote, eventually: Eventually
) -> None:
    assert (live.path / "d" / "a").read_bytes() == b"old"

    async def move() -> None:
        item = remote.at("d")
        assert item is not None
        await remote.update(item.id, path="e")

    live.call(move)
    live.pull()
    eventually(lambda: os.listdir(live.path) == ["e"])
    assert (live.path / "e" / "a").read_bytes() == b"old"
    eventually(lambda: not (live.path / "d").exists())


def test_a_remote_change_of_the_permission_shows_in_the_mode(
    live: Live, remote: ModelRemote, eventually: Eventually
) -> None:
    path = live.path / "d" / "a"
    assert path.stat().st_mode & 0o777 == 0o644

    async def protect() -> None:
        item = remote.at("d/a")
        assert item is not None
        await remote.update(item.id, permission=Permission.READ_ONLY)

    live.call(protect)
    live.pull()
    eventually(lambda: path.stat().st_mode & 0o777 == 0o444)
    with pytest.raises(PermissionError):
        path.write_bytes(b"no")


def test_what_is_saved_here_reaches_the_server_and_changes_neither_inode_nor_mtime(
    live: Live, remote: ModelRemote
) -> None:
    path = live.path / "d" / "a"
    path.write_bytes(b"mine")
    before = path.stat()
    live.settle()
    assert live.do(remote.tree) == {"d": None, "d/a": b"mine", "d/gone": b"gone"}
    live.pull()
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_editing_while_the_remote_version_changes_keeps_both(live: Live, remote: ModelRemote) -> None:
    path = live.path / "d" / "a"
    with path.open("r+b", buffering=0) as writer:
        writer.write(b"mine")
        live.do(lambda: remote.put("d/a", b"theirs!"))
        live.pull()
        writer.write(b" more")
    live.settle()
    live.pull()
    contents = sorted(entry.read_bytes() for entry in (live.path / "d").iterdir())
    assert contents == [b"gone", b"mine more", b"theirs!"]


def test_a_reader_loop_against_a_rewriting_server_sees_whole_versions_only(
    live, remote: ModelRemote, eventually: Eventually
) -> None:
    path = live.path / "d" / "a"
    versions = {b"old"} | {bytes([65 + i]) * (3000 + 517 * i) for i in range(20)}
    is_over = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not is_over.is_set():
            try:
                seen.add(path.read_bytes())
            except OSError as error:
                if error.errno != errno.ESTALE:  # opened, and replaced before its first byte came: nobody has it now
                    raise

    reader = threading.Thread(target=read)
    reader.start()
    eventually(lambda: b"old" in seen)
    try:
        for i in range(20):
            version = bytes([65 + i]) * (3000 + 517 * i)
            live.do(lambda version=version: remote.put("d/a", version))
            live.pull()
            eventually(lambda version=version: version in seen)
    finally:
        is_over.set()
        reader.join()
    assert seen == versions


def test_many_changes_while_programs_work_in_the_same_directory_block_nobody(
    live, remote: ModelRemote, eventually: Eventually
) -> None:
    directory = live.path / "d"
    is_over = threading.Event()

    def work() -> None:
        while not is_over.is_set():
            (directory / "mine").write_bytes(b"x")
            os.listdir(directory)
            (directory / "mine").rename(directory / "mine2")
            (directory / "mine2").unlink()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for i in range(30):
            live.do(lambda i=i: remote.put(f"d/r{i}", b"r"))
            live.poll()
    finally:
        is_over.set()
        worker.join()
    live.settle()
    eventually(lambda: set(os.listdir(directory)) == {"a", "gone", *(f"r{i}" for i in range(30))})


def test_rm_r_of_files_that_were_never_read_downloads_nothing(live: Live, remote: ModelRemote) -> None:
    subprocess.run(["rm", "-r", live.path / "d"], check=True)
    live.settle()
    assert live.do(remote.tree) == {}
    assert live.do(lambda: remote.asked("download")) == []


def test_a_file_unlinked_while_open_before_it_was_read_is_still_read(live: Live, remote: ModelRemote) -> None:
    path = live.path / "d" / "gone"
    with path.open("rb", buffering=0) as reader:
        path.unlink()
        assert reader.read() == b"gone"
    live.settle()
    assert live.do(remote.tree) == {"d": None, "d/a": b"old"}


def test_perstack_is_shown_read_only(serving: Callable, transport: str, remote: ModelRemote) -> None:
    remote.put("perstack", None)
    remote.put("perstack/setting.json", b"{}")
    live = serving(transport, remote)
    path = live.path / "perstack" / "setting.json"
    assert path.read_bytes() == b"{}"
    assert path.stat().st_mode & 0o777 == 0o444
    for action in (lambda: path.write_bytes(b"x"), path.unlink, lambda: (path.parent / "new").write_bytes(b"x")):
        with pytest.raises(OSError, match=r".") as refused:
            action()
        assert refused.value.errno == errno.EACCES
