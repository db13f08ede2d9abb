"""The request budget of SEMANTICS.md, as exact counts in the embedded server's own log of requests.

What the feed asks by itself is kept out of the counts of what a program does (``STILL``), and has a test of its own:
the idle hour.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator
from math import ceil
from pathlib import Path

import pytest
from commands import in_process
from editors import DOCUMENT, EDITORS, edit
from engine_harness import Mounted, eventually, mounted, run
from real_programs import TRANSPORTS, SlowClock, served
from request_log import STILL, Files, RequestLog, logged_server, new_job, on_server, simulated
from virtual_loop import VirtualLoop, run_virtually

import jobfs
from jobfs.api.studio import Studio
from jobfs.api.transport import Transport
from jobfs.engine.feed import FeedTimes
from jobfs.engine.session import Options
from jobfs.engine.workspace import SystemClock
from jobfs.fuse.mounting import mount_at
from jobfs.model import Kind

SAVE = ["create", "update", "update", "delete"]
"""The new version beside the old one, the old one away, the new one in: visible. Then the old one goes."""


@pytest.fixture(scope="module")
def own_log() -> Iterator[RequestLog]:
    with logged_server() as log:
        yield log


@pytest.fixture
def log(own_log: RequestLog) -> RequestLog:
    """The log of a server that this module shares; a test's own job is watched, and nothing else."""
    own_log.watch("")
    return own_log


async def remove_tree(mount: Mounted, path: str, *, pause_s: float = 0.0) -> None:
    """Remove what ``rm -r`` removes, in its order."""
    for name in mount.names(path):
        below = f"{path}/{name}"
        if mount.vfs.attributes(mount.node(below)).kind is Kind.DIRECTORY:
            await remove_tree(mount, below, pause_s=pause_s)
        else:
            mount.vfs.unlink(*mount.place(below))
        if pause_s:
            await asyncio.sleep(pause_s)
    mount.vfs.rmdir(*mount.place(path))


def walk(mount: Mounted, path: str = "") -> list[str]:
    """Look at everything, as ``find -ls`` does; return the paths of the files."""
    files = []
    for name in mount.names(path):
        below = f"{path}/{name}" if path else name
        if mount.vfs.attributes(mount.node(below)).kind is Kind.DIRECTORY:
            files += walk(mount, below)
        else:
            files.append(below)
    return files


class LeapingClock(SystemClock):
    """The machine's clocks, the monotonic one ahead by so many seconds."""

    leap_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.leap_s


TREE: Files = {"a.txt": b"a", "d/b.txt": b"b", "d/deep/c.txt": b"c"}


# ------------------------------------------------------------------------------------------- looking and reading


async def first_mount(log: RequestLog, folder: Path, files: Files) -> list[str]:
    """Mount a job for the first time, without looking; return what was asked."""
    job = new_job(log, files)
    log.forget()
    async with Transport(log.server.url, log.server.api_key) as transport:
        remote = Studio(transport).workspace(job)
        async with mounted(folder, remote, options=Options(times=STILL)) as mount:  # type: ignore[arg-type]
            assert set(mount.names()) == set(files)
    return log.asked


@pytest.mark.parametrize("items", [1, 99, 100, 101, 1000])
def test_the_first_mount_is_one_look_at_the_job_and_one_request_a_page(
    log: RequestLog, tmp_path: Path, items: int
) -> None:
    asked = run(first_mount(log, tmp_path, {f"{number}": None for number in range(items)}))
    assert asked == ["status", *["list"] * max(1, ceil((items - 1) / 99))]
    assert len(asked) <= 2 + ceil((items - 1) / 99)


def test_the_ignore_rules_of_a_workspace_are_one_download_more_at_the_first_mount(
    log: RequestLog, tmp_path: Path
) -> None:
    assert run(first_mount(log, tmp_path, {".jobfsignore": b"# none\n"})) == ["status", "list", "download"]


def test_looking_at_everything_and_reading_again_are_no_request(log: RequestLog, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with on_server(log, tmp_path, TREE) as mount:
            assert walk(mount) == ["a.txt", "d/b.txt", "d/deep/c.txt"]
            assert log.asked == []
            for path in walk(mount):
                await mount.read(path)
            log.forget()
            assert [await mount.read(path) for path in walk(mount)] == [b"a", b"b", b"c"]
        assert log.asked == []

    run(scenario())


def test_looking_after_more_than_10_s_asks_for_one_listing_and_waits_for_none(log: RequestLog, tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = LeapingClock()
        async with on_server(log, tmp_path, TREE, clock=clock) as mount:
            clock.leap_s = 11
            assert len(walk(mount)) == 3  # without an await: it could not wait if it wanted to
            await eventually(lambda: log.asked == ["status", "list"])
            await mount.settle()
            walk(mount)
            await mount.settle()
        assert log.asked == ["status", "list"]

    run(scenario())


def test_the_first_read_of_a_file_is_one_download_however_many_read_it(log: RequestLog, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with on_server(log, tmp_path, {"a": b"x" * 100_000}) as mount:
            reads = await asyncio.gather(*(mount.read("a") for _ in range(10)))
            assert {len(data) for data in reads} == {100_000}
        assert log.asked == ["download"]

    run(scenario())


def test_reading_a_directory_through_is_one_download_a_file(log: RequestLog, tmp_path: Path) -> None:
    async def scenario() -> None:
        files = {f"d/{number}": b"%d" % number for number in range(40)}
        async with on_server(log, tmp_path, files) as mount:
            for path, content in files.items():
                assert await mount.read(path) == content
        assert log.asked == ["download"] * 40

    run(scenario())


def test_a_file_whose_bytes_come_while_it_is_being_opened_is_one_download(log: RequestLog, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with on_server(log, tmp_path, {"a": b"a"}) as mount:
            handle = mount.vfs.open(mount.node("a"), os.O_RDONLY)
            assert mount.vfs.is_cold(handle)  # upon which a transport lets a task confirm the handle, soon
            await mount.read("a")
            await mount.vfs.confirm(handle)
            mount.vfs.release(handle)
        assert log.asked == ["download"]

    run(scenario())


# ------------------------------------------------------------------------------------------------------- writing


def test_a_new_file_is_one_request_and_a_new_directory_another(log: RequestLog, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with on_server(log, tmp_path, {}) as mount:
            await mount.write("a", b"new")
            await mount.settle()
            assert log.asked == ["create"]
            mount.vfs.make(*mount.place("d"), Kind.DIRECTORY, mode=0o755)
            await mount.write("d/b", b"new")
            await mount.settle()
        assert log.asked == ["create"] * 3
        assert log.seen[-1] == {"a": b"new", "d": None, "d/b": b"new"}

    run(scenario())


@pytest.mark.parametrize("was_read", [True, False])
def test_a_save_over_a_file_is_four_requests_of_which_the_third_makes_it_visible(
    log: RequestLog, tmp_path: Path, was_read: bool
) -> None:
    async def scenario() -> None:
        async with on_server(log, tmp_path, {"a": b"old"}) as mount:
            if was_read:
                await mount.read("a")
            log.forget()
            await mount.write("a", b"new")
            await mount.settle()
        assert log.asked == SAVE
        assert [contents.get("a") for contents in log.seen] == [b"old", None, b"new", b"new"]
        assert log.seen[-1] == {"a": b"new"}

    run(scenario())


def test_a_save_with_equal_bytes_is_no_request(log: RequestLog, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with on_server(log, tmp_path, {"a": b"same"}) as mount:
            await mount.read("a")
            log.forget()
            await mount.write("a", b"same")
            await mount.settle()
            await mount.write("a.tmp", b"same")
            await mount.rename("a.tmp", "a")
            await mount.settle()
        assert log.asked == []

    run(scenario())


def test_equal_bytes_over_a_file_that_was_never_read_are_an_ordinary_save(log: RequestLog, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with on_server(log, tmp_path, {"a": b"same"}) as mount:
            await mount.write("a", b"same")
            await mount.settle()
            assert log.asked == SAVE
            log.forget()
            await mount.write("a", b"same")  # by now the bytes are known here
            await mount.settle()
        assert log.asked == []

    run(scenario())


def test_what_is_deleted_within_the_quiet_time_is_no_request(log: RequestLog, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with on_server(log, tmp_path, {}) as mount:
            await mount.write("scratch", b"x")
            mount.vfs.unlink(*mount.place("scratch"))
            mount.vfs.make(*mount.place("d"), Kind.DIRECTORY, mode=0o755)
            await mount.write("d/scratch", b"x")
            await remove_tree(mount, "d")
            await mount.settle()
        assert log.asked == []

    run(scenario())


# ------------------------------------------------------------------------------------------ names and permissions


def test_a_rename_of_a_file_is_one_request(log: RequestLog, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with on_server(log, tmp_path, {"a": b"a", "d": None}) as mount:
            await mount.rename("a", "d/b")
            await mount.settle()
        assert log.asked == ["update"]
        assert log.seen[-1] == {"d": None, "d/b": b"a"}

    run(scenario())


def test_a_rename_of_a_directory_is_one_request_and_the_first_one_asks_whether_its_children_followed(
    log: RequestLog, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with on_server(log, tmp_path, {f"d/{number}": b"x" for number in range(50)}) as mount:
            await mount.rename("d", "e")
            await mount.settle()
            assert log.asked == ["update", "get"]
            log.forget()
            await mount.rename("e", "f")
            await mount.settle()
        assert log.asked == ["update"]
        assert log.seen[-1] == {"f": None} | {f"f/{number}": b"x" for number in range(50)}

    run(scenario())


def test_removing_a_tree_is_one_request(log: RequestLog, tmp_path: Path) -> None:
    async def scenario() -> None:
        files = {f"d/{number // 10}/{number}": b"x" for number in range(50)}
        async with on_server(log, tmp_path, files | {"kept": b"k"}) as mount:
            await remove_tree(mount, "d")
            await mount.settle()
        assert log.asked == ["delete"]
        assert log.seen[-1] == {"kept": b"k"}

    run(scenario())


def test_removing_a_tree_on_the_word_of_an_old_listing_takes_a_new_one_before(log: RequestLog, tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = LeapingClock()
        async with on_server(log, tmp_path, {f"d/{number}": b"x" for number in range(120)}, clock=clock) as mount:
            clock.leap_s = 11
            await remove_tree(mount, "d")
            await mount.settle()
        assert log.asked == ["status", "list", "list", "delete"]
        assert log.seen[-1] == {}

    run(scenario())


def test_removing_a_tree_is_one_request_however_long_it_takes(tmp_path: Path) -> None:
    async def scenario(loop: VirtualLoop) -> list[str]:
        async with simulated(loop, tmp_path, {f"d/{number}": b"x" for number in range(100)}) as (mount, sight):
            await remove_tree(mount, "d", pause_s=0.001)
            await mount.settle()
            return sight.asked

    assert run_virtually(1, scenario) == ["delete"]


def test_chmod_of_the_write_bit_is_one_request(log: RequestLog, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with on_server(log, tmp_path, {"a": b"a"}) as mount:
            mount.vfs.set_mode(mount.node("a"), 0o444)
            await mount.settle()
            mount.vfs.set_mode(mount.node("a"), 0o555)  # the execute bit and the times are kept here alone
            mount.vfs.set_times(mount.node("a"), mtime_ns=0)
            await mount.settle()
        assert log.asked == ["update"]

    run(scenario())


# ------------------------------------------------------------------------------------------------------- editors


@pytest.mark.parametrize("editor", EDITORS)
def test_an_editors_save_is_one_save_and_nothing_of_its_own_is_ever_on_the_server(
    log: RequestLog, tmp_path: Path, editor: str
) -> None:
    async def scenario() -> None:
        async with on_server(log, tmp_path, {DOCUMENT: b"old"}) as mount:
            assert await mount.read(DOCUMENT) == b"old"
            log.forget()
            await edit(mount, EDITORS[editor])
            await mount.settle()
        assert log.asked == SAVE
        assert log.ever == {"docs", DOCUMENT}
        assert [contents.get(DOCUMENT) for contents in log.seen] == [b"old", None, b"new", b"new"]
        assert log.seen[-1] == {"docs": None, DOCUMENT: b"new"}

    run(scenario())


@pytest.mark.parametrize("editor", EDITORS)
def test_an_editor_that_takes_10_ms_for_each_step_makes_one_save_too(tmp_path: Path, editor: str) -> None:
    async def scenario(loop: VirtualLoop) -> None:
        async with simulated(loop, tmp_path, {DOCUMENT: b"old"}) as (mount, sight):
            await mount.read(DOCUMENT)
            sight.asked.clear()
            await edit(mount, EDITORS[editor], pause_s=0.01)
            await mount.settle()
        assert sight.asked == SAVE
        assert sight.ever == {"docs", DOCUMENT}
        assert sight.server.tree() == {"docs": None, DOCUMENT: b"new"}

    run_virtually(1, scenario)


ANY_NAME = ["Word", "Excel", "a temporary file", "sed -i"]
"""What they save under first could be a user's own name: only the quiet time keeps it from the server."""


@pytest.mark.parametrize("editor", [name for name in EDITORS if name not in ANY_NAME])
def test_however_slow_an_editor_is_its_temporary_and_lock_files_are_never_on_the_server(
    tmp_path: Path, editor: str
) -> None:
    async def scenario(loop: VirtualLoop) -> None:
        async with simulated(loop, tmp_path, {DOCUMENT: b"old"}) as (mount, sight):
            await mount.read(DOCUMENT)
            await edit(mount, EDITORS[editor], pause_s=1.0)
            await mount.settle()
        assert sight.ever == {"docs", DOCUMENT}
        assert sight.server.tree() == {"docs": None, DOCUMENT: b"new"}

    run_virtually(1, scenario)


@pytest.mark.parametrize("editor", ["Word", "a temporary file", "sed -i"])
def test_a_new_file_whose_name_looks_passing_rests_for_half_a_second(tmp_path: Path, editor: str) -> None:
    async def scenario(loop: VirtualLoop) -> None:
        async with simulated(loop, tmp_path, {DOCUMENT: b"old"}) as (mount, sight):
            await mount.read(DOCUMENT)
            await edit(mount, EDITORS[editor], pause_s=0.4)
            await mount.settle()
        assert sight.ever == {"docs", DOCUMENT}
        assert sight.server.tree() == {"docs": None, DOCUMENT: b"new"}

    run_virtually(1, scenario)


NEW_DOCUMENT = ["VS Code", "gedit", "LibreOffice", "a temporary file"]


@pytest.mark.parametrize("editor", NEW_DOCUMENT)
def test_an_editors_first_save_of_a_new_file_is_one_request(log: RequestLog, tmp_path: Path, editor: str) -> None:
    async def scenario() -> None:
        async with on_server(log, tmp_path, {"docs": None}) as mount:
            await edit(mount, EDITORS[editor])
            await mount.settle()
        assert log.asked == ["create"]
        assert log.ever == {"docs", DOCUMENT}

    run(scenario())


# ----------------------------------------------------------------------------------------------- in simulated time


def test_an_idle_hour_on_an_ended_job_takes_at_most_20_listings(tmp_path: Path) -> None:
    async def scenario(loop: VirtualLoop) -> Counter[str]:
        files = {f"{number}": None for number in range(250)}
        async with simulated(loop, tmp_path, files, times=FeedTimes()) as (_, sight):
            await asyncio.sleep(3600)
            return Counter(sight.asked)

    asked = run_virtually(1, scenario)
    listings = asked["list 0"]
    assert 10 < listings <= 20  # the feed is alive, and sparing
    looks = asked.pop("status") - listings
    assert looks <= 3600 / FeedTimes().status_max_s
    assert asked == {"list 0": listings, "list 99": listings, "list 198": listings}


# --------------------------------------------------------------------------------------------------- real programs

REAL_TREE: Files = {f"src/{number // 5}/{number}.py": b"print(%d)\n" % number for number in range(20)}


@pytest.mark.mount
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_git_status_find_and_reading_again_are_no_request(log: RequestLog, tmp_path: Path, transport: str) -> None:
    async def scenario() -> None:
        async with (
            on_server(log, tmp_path / "state", REAL_TREE, clock=SlowClock()) as mount,
            served(mount, tmp_path, transport) as programs,
        ):
            await programs.git("init", "-q")
            await programs.git("add", ".")
            await programs.git("commit", "-q", "-m", "all")
            await mount.settle()
            assert set(log.asked) == {"download"}  # of how many: see the reads above
            log.forget()
            assert await programs.git("status", "--porcelain") == ""
            found = await programs.run("find", "src", "-type", "f", "-size", "+0")
            assert sorted(found.split()) == sorted(REAL_TREE)
            read = await programs.run("cat", *REAL_TREE)
            assert read.encode() == b"".join(content or b"" for content in REAL_TREE.values())
            await mount.settle()
        assert log.asked == []

    run(scenario())


@pytest.mark.mount
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_vim_saves_a_file_in_one_save_whatever_its_backupcopy(log: RequestLog, tmp_path: Path, transport: str) -> None:
    async def scenario() -> None:
        async with (
            on_server(log, tmp_path / "state", {"a.txt": b"old\n"}, clock=SlowClock()) as mount,
            served(mount, tmp_path, transport) as programs,
        ):
            assert await programs.run("cat", "a.txt") == "old\n"
            assert log.asked == ["download"]
            for backup_copy in ("no", "yes", "auto"):
                log.forget()
                await programs.vim("a.txt", backup_copy, backup_copy)
                await mount.settle()
                assert log.asked == SAVE, backup_copy
                assert log.ever == {"a.txt"}
                assert log.seen[-1] == {"a.txt": f"{backup_copy}\n".encode()}

    run(scenario())


@pytest.mark.mount
@pytest.mark.parametrize("items", [1, 2, 100, 250])
def test_the_command_that_mounts_asks_for_no_more_than_the_budget(
    log: RequestLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, items: int
) -> None:
    for name in ("CONFIG", "STATE"):
        monkeypatch.setenv(f"JOBFS_{name}_DIR", str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", str(Path(jobfs.__file__).parents[1]))  # the background process starts elsewhere
    monkeypatch.setenv("JOBFS_URL", log.server.url)
    monkeypatch.setenv("JOBFS_API_KEY", log.server.api_key)
    job = new_job(log, {f"{number}": None for number in range(items)})
    point = tmp_path / "mnt"
    point.mkdir()
    log.forget()
    began = time.monotonic()
    try:
        in_process("mount", job, point).ok()
        asked, took_s = log.asked, time.monotonic() - began
        in_process("umount", point).ok()
    finally:
        if mount_at(point) is not None:
            in_process("umount", "--force", point)
    first, others = asked[:2], asked[2:]
    assert others.count("status") <= took_s / FeedTimes().status_s  # of the feed, after its first pause
    assert sorted(first) == ["list", "status"]  # how many there are is asked beside the look
    assert [word for word in others if word != "status"] == ["list"] * ceil((items - 1) / 99)
