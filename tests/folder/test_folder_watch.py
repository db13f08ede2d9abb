"""Watching: what happens on either side is on the other soon, with the system's real events, and without them."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from folder_harness import QUICK, Desk, eventually, run
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, EventEmitter

from jobfs.errors import FolderError
from jobfs.folder.coalesce import EVERYWHERE
from jobfs.folder.disk import Disk, Listed
from jobfs.folder.report import What
from jobfs.folder.sync import FolderSync, SyncOptions
from jobfs.model import Trouble

WATCH = SyncOptions(watch=True, host="testhost", times=QUICK)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_what_is_done_here_is_on_the_server_at_once(desk: Desk) -> None:
    async def story() -> None:
        async with desk.watching():
            desk.write("new.txt", "new", is_old=False)
            await desk.agrees()
            desk.write("new.txt", "changed", is_old=False)
            desk.write("dir/sub/deep.txt", "deep", is_old=False)
            await desk.agrees()
            (desk.root / "dir").rename(desk.root / "renamed")
            await desk.agrees()
            shutil.rmtree(desk.root / "renamed")
            await desk.agrees()
            assert desk.tree() == {"new.txt": b"changed"}

    run(story())


def test_a_directory_renamed_while_watching_is_one_request(desk: Desk) -> None:
    for number in range(5):
        desk.write(f"old/{number}", f"{number}")

    async def story() -> None:
        async with desk.watching() as sync:
            await desk.agrees()
            await eventually(lambda: sync.session.unsynced() == [])
            desk.model.calls.clear()
            (desk.root / "old").rename(desk.root / "new")
            await desk.agrees()
        names = [name for name, _ in desk.model.asked("create_file", "create_directory", "delete", "update")]
        assert names == ["update"]

    run(story())


def test_what_is_done_on_the_server_appears_here_and_its_echo_costs_nothing(desk: Desk) -> None:
    desk.write("mine", "m")

    async def story() -> None:
        async with desk.watching() as sync:
            await desk.agrees()
            desk.model.put("theirs", b"t")
            desk.model.put("mine", b"changed there")
            sync.session.feed.request()
            await desk.agrees()
            desk.model.calls.clear()
            # A change of ours after it proves that the events of what was pulled have been heard and dropped.
            desk.write("last", "l", is_old=False)
            await desk.agrees()
            assert [name for name, _ in desk.model.asked()] == ["create_file"]

    run(story())


def test_an_edit_made_while_the_remote_version_is_downloaded_is_kept(desk: Desk) -> None:
    desk.write("a", "base")

    async def story() -> None:
        async with desk.watching() as sync:
            await desk.agrees()
            desk.model.gate.clear()
            desk.model.put("a", b"from the server")
            sync.session.feed.request()
            await eventually(lambda: bool(desk.model.asked("download")))
            desk.write("a", "edited meanwhile", is_old=False)
            desk.model.gate.set()
            await eventually(lambda: desk.tree() == desk.model.tree() and len(desk.tree()) == 2)
        assert sorted(filter(None, desk.tree().values())) == [b"edited meanwhile", b"from the server"]
        assert desk.tree()["a"] == b"from the server"

    run(story())


def test_a_file_made_where_a_download_is_to_go_is_kept(desk: Desk) -> None:
    async def story() -> None:
        async with desk.watching() as sync:
            desk.model.gate.clear()
            desk.model.put("a", b"from the server")
            sync.session.feed.request()
            await eventually(lambda: bool(desk.model.asked("download")))
            desk.write("a", "made meanwhile", is_old=False)
            desk.model.gate.set()
            await eventually(lambda: desk.tree() == desk.model.tree() and len(desk.tree()) == 2)
        assert sorted(filter(None, desk.tree().values())) == [b"from the server", b"made meanwhile"]

    run(story())


def test_a_directory_renamed_while_something_is_downloaded_into_it_loses_nothing(desk: Desk) -> None:
    desk.write("dir/mine", "m")

    async def story() -> None:
        async with desk.watching() as sync:
            await desk.agrees()
            desk.model.gate.clear()
            desk.model.put("dir/theirs", b"t")
            sync.session.feed.request()
            await eventually(lambda: bool(desk.model.asked("download")))
            (desk.root / "dir").rename(desk.root / "moved")
            await eventually(lambda: desk.model.at("moved/mine") is not None)
            desk.model.gate.set()
            await desk.agrees()
        assert desk.tree() == {"moved": None, "moved/mine": b"m", "moved/theirs": b"t"}

    run(story())


def test_a_burst_of_changes_ends_with_both_sides_equal(desk: Desk) -> None:
    async def story() -> None:
        async with desk.watching():
            for number in range(300):
                desk.write(f"d{number % 7}/f{number}", f"{number}", is_old=False)
                if number % 50 == 0:
                    await asyncio.sleep(0)
            await eventually(lambda: desk.tree() == desk.model.tree() and len(desk.tree()) == 307)
            for number in range(0, 300, 2):
                (desk.root / f"d{number % 7}/f{number}").unlink()
            await desk.agrees()

    run(story())


def test_a_file_under_constant_writing_is_pushed_when_it_comes_to_rest(desk: Desk) -> None:
    async def story() -> None:
        async with desk.watching():
            with (desk.root / "log").open("ab", buffering=0) as file:
                for _ in range(20):
                    file.write(b"line\n")
                    await asyncio.sleep(0.01)
            await desk.agrees()
        assert desk.model.tree() == {"log": b"line\n" * 20}
        assert len(desk.model.asked("create_file")) <= 2

    run(story())


def test_stopping_pushes_the_last_change(desk: Desk) -> None:
    async def story() -> None:
        async with desk.watching():
            await desk.agrees()
            desk.write("last", "l")
        assert desk.model.tree() == {"last": b"l"}

    run(story())


def test_cancelling_pushes_the_last_change_too(desk: Desk) -> None:
    async def story() -> None:
        with desk.opened() as state:
            task = asyncio.create_task(FolderSync(state, desk.remote, desk.root, options=WATCH).run())
            await eventually(lambda: state.setting("listed") is not None)
            desk.write("last", "l")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert desk.model.tree() == {"last": b"l"}

    run(story())


def test_a_change_of_the_ignore_rules_is_followed_at_once(desk: Desk) -> None:
    desk.write("a.log", "log")
    desk.write(".jobfsignore", "*.log\n")

    async def story() -> None:
        async with desk.watching():
            await eventually(lambda: desk.model.at(".jobfsignore") is not None)
            assert desk.model.at("a.log") is None
            desk.write(".jobfsignore", "*.bak\n", is_old=False)
            await desk.agrees()
            assert desk.model.at("a.log") is not None

    run(story())


def test_an_unmounted_folder_ends_the_watching_with_an_error_and_deletes_nothing(desk: Desk) -> None:
    desk.write("a", "a")
    away = desk.root.with_name("away")

    async def story() -> None:
        with desk.opened() as state:
            sync = FolderSync(state, desk.remote, desk.root, options=WATCH)
            task = asyncio.create_task(sync.run())
            await eventually(lambda: desk.model.at("a") is not None)
            desk.root.rename(away)
            desk.root.mkdir()
            sync.side.want(EVERYWHERE)
            with pytest.raises(FolderError, match="is not the folder"):
                await task
        assert desk.model.tree() == {"a": b"a"}

    run(story())


# -- where the system tells nothing


class FullObserver(BaseObserver):
    """An observer of a system whose limit of watched directories is reached."""

    def __init__(self) -> None:
        super().__init__(EventEmitter)

    def schedule(self, *args: object, **settings: object) -> None:  # type: ignore[override]
        raise OSError(errno.ENOSPC, "inotify watch limit reached")


class CrampedObserver(Observer):  # type: ignore[misc,valid-type]
    """An observer that got its watches and would get no other one, which it tells nobody."""

    def schedule(self, handler: object, path: object, **settings: object) -> object:
        if self.is_alive():
            raise OSError(errno.ENOSPC, "inotify watch limit reached")
        return super().schedule(handler, path, **settings)


class DeafObserver(BaseObserver):
    """An observer whose thread ends by itself at once."""

    def __init__(self) -> None:
        super().__init__(EventEmitter)

    def run(self) -> None:
        """Hear nothing."""


@pytest.mark.parametrize(
    ("observer", "setting"),
    [
        (FullObserver, "fs.inotify.max_user_watches"),
        (CrampedObserver, "fs.inotify.max_user_watches"),
        (DeafObserver, "has ended by itself"),
    ],
)
def test_without_events_the_folder_is_polled_and_the_user_is_told_why(
    desk: Desk, observer: type[BaseObserver], setting: str
) -> None:
    async def story() -> None:
        async with desk.watching(replace(WATCH, poll_s=0.1), make_observer=observer):
            await eventually(lambda: any(event.what is What.POLLING for event in desk.events))
            desk.write("a", "a", is_old=False)
            await desk.agrees()
            (desk.root / "a").unlink()
            desk.write("b", "b", is_old=False)
            await desk.agrees()
        assert [setting in event.detail for event in desk.events if event.what is What.POLLING] == [True]

    run(story())


def test_a_warning_of_the_observer_has_everything_looked_at(desk: Desk) -> None:
    class Silent(BaseObserver):
        """Says nothing of what happens, and once that it lost something."""

        def __init__(self) -> None:
            super().__init__(EventEmitter)

    async def story() -> None:
        async with desk.watching(make_observer=Silent):
            await desk.agrees()
            desk.write("a", "a")
            logging.getLogger("watchdog.observers").warning("events were lost")
            await desk.agrees()
        assert desk.model.tree() == {"a": b"a"}

    run(story())


def test_a_directory_that_the_observer_finds_twice_neither_ends_it_nor_is_told(tmp_path: Path) -> None:
    """A directory in one that was made just now: which way it is found first is a matter of microseconds."""
    program = (
        "import sys, jobfs.folder.watch\n"
        "from watchdog.observers.inotify_c import InotifyFD\n"
        "watched, place = InotifyFD(), sys.argv[1].encode()\n"
        "for _ in range(2): watched.add_callback(place, 2, print, 7)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, tmp_path], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_link_that_appears_is_a_problem_and_goes_with_it(desk: Desk) -> None:
    async def story() -> None:
        async with desk.watching() as sync:
            (desk.root / "link").symlink_to("nowhere")
            await eventually(lambda: [p.trouble for p in sync.summary().problems] == [Trouble.UNSUPPORTED_KIND])
            os.unlink(desk.root / "link")
            await eventually(lambda: sync.summary().problems == ())

    run(story())


class Paused(Disk):
    """A disk whose walk, once it has listed everything, lets something happen before it hands over what it found."""

    after_walk: Callable[[], None] | None = None

    def walk(self, top: str, is_ignored: Callable[[str, bool], bool]) -> Iterator[Listed]:
        found = list(super().walk(top, is_ignored))
        act, Paused.after_walk = Paused.after_walk, None
        if act is not None:
            act()
        return iter(found)


def test_what_happens_during_a_scan_is_found_by_the_next_one(desk: Desk) -> None:
    """Whatever the scan has listed already is outdated then, and the events are all that tells of it."""
    desk.write("changed", "old")
    desk.write("removed", "old")
    desk.write("moved/file", "old")

    def act() -> None:
        desk.write("changed", "new", is_old=False)
        desk.write("dir/made", "new", is_old=False)
        (desk.root / "removed").unlink()
        (desk.root / "moved").rename(desk.root / "elsewhere")

    async def story() -> None:
        async with desk.watching(make_disk=Paused) as sync:
            await desk.agrees()
            Paused.after_walk = act
            sync.side.want(EVERYWHERE)
            await eventually(lambda: Paused.after_walk is None)
            await desk.agrees()
            assert set(desk.model.tree()) == {"changed", "dir", "dir/made", "elsewhere", "elsewhere/file"}
            assert desk.model.tree()["changed"] == b"new"

    run(story())
