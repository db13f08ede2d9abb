"""Programs that watch a mount hear of what happens remotely, and of that alone; and nothing comes of it but that."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inotify import Event, Mask, Watcher, watching
from model_remote import ModelRemote
from play_watchers import play
from talking_daemon import TalkingDaemon
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from jobfs.errors import MountPointBusy
from jobfs.fuse import mounting
from jobfs.fuse.options import MountOptions, Wake
from jobfs.fuse.waker import CHANGE, CREATE, MKDIR, RENAME, RMDIR, UNLINK

pytestmark = pytest.mark.mount

Live = Any  # see conftest
Eventually = Callable[[Callable[[], bool]], None]

DIRECTORY = Mask.ISDIR
STORED = {"d": None, "d/a": b"old", "d/b": b"old", "d/sub": None, "d/sub/x": b"old", "e": None}


@pytest.fixture
def remote() -> ModelRemote:
    made = ModelRemote()
    for path, content in STORED.items():
        made.put(path, content)
    return made


@pytest.fixture
def live(serving: Callable, remote: ModelRemote) -> Live:
    return serving("kernel", remote)


def move(live: Live, old: str, new: str) -> None:
    """Move an item on the server."""

    async def moved() -> None:
        item = live.remote.at(old)
        assert item is not None
        await live.remote.update(item.id, path=new)

    live.call(moved)


def remotely(live: Live, change: Callable[[], object]) -> None:
    """Let something happen on the server, and hear of it."""
    live.do(change)
    live.pull()


def wakers() -> list[int]:
    """Return the process numbers of the wakers of this process."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            command = Path(f"/proc/{child}/cmdline").read_bytes()
            found += [child] if b"waker.py" in command else []
    return found


def names_of(events: list[Event]) -> list[tuple[str, str]]:
    return [(str(event.what.name or event.what), event.path.name) for event in events]


# ---------------------------------------------------------------------------------------------- what watchers hear


def test_a_file_that_appears_is_created_and_closed_after_writing(live: Live) -> None:
    with watching(live.path / "d") as watcher:
        remotely(live, lambda: live.remote.put("d/new", b"here"))
        watcher.wait_for(Mask.CLOSE_WRITE, live.path / "d" / "new")
        assert names_of(watcher.seen) == [("CREATE", "new"), ("CLOSE_WRITE", "new")]


def test_a_directory_that_appears_is_created(live: Live) -> None:
    with watching(live.path) as watcher:
        remotely(live, lambda: (live.remote.put("made", None), live.remote.put("made/inside", b"x")))
        assert watcher.wait(lambda seen: len(seen) > 0) == [Event(Mask.CREATE | DIRECTORY, live.path / "made")]
        assert os.listdir(live.path / "made") == ["inside"]


def test_a_file_that_changes_is_modified_and_closed_after_writing(live: Live) -> None:
    with watching(live.path / "d") as watcher:
        remotely(live, lambda: live.remote.put("d/a", b"newer"))
        watcher.wait_for(Mask.CLOSE_WRITE, live.path / "d" / "a")
        assert names_of(watcher.seen) == [("MODIFY", "a"), ("CLOSE_WRITE", "a")]


def test_who_watches_the_file_itself_hears_that_another_one_has_its_name_and_can_watch_that(live: Live) -> None:
    path = live.path / "d" / "a"
    with watching(path) as watcher:
        for content in (b"newer", b"newest"):
            remotely(live, lambda content=content: live.remote.put("d/a", content))
            watcher.wait_for(Mask.IGNORED, path)
            assert [event.what for event in watcher.seen][:2] == [Mask.DELETE_SELF, Mask.IGNORED]
            assert path.read_bytes() == content
            watcher.seen.clear()
            watcher.watch(path)


def test_a_file_that_vanishes_is_deleted_for_who_watches_it_and_who_watches_its_directory(live: Live) -> None:
    path = live.path / "d" / "a"
    with watching(path) as of_file, watching(path.parent) as of_directory:
        remotely(live, lambda: live.remote.remove("d/a"))
        of_file.wait_for(Mask.DELETE_SELF, path)
        assert of_directory.wait(lambda seen: len(seen) > 0) == [Event(Mask.DELETE, path)]
        assert not path.exists()


def test_a_directory_that_vanishes_with_what_is_in_it_is_deleted(live: Live) -> None:
    directory = live.path / "d" / "sub"
    with watching(directory) as inside, watching(directory.parent) as above:
        remotely(live, lambda: live.remote.remove("d/sub"))
        inside.wait_for(Mask.DELETE_SELF, directory)
        assert above.wait(lambda seen: len(seen) > 0) == [Event(Mask.DELETE | DIRECTORY, directory)]


@pytest.mark.parametrize(("old", "new", "kind"), [("d/a", "e/moved", Mask(0)), ("d/sub", "e/sub2", DIRECTORY)])
def test_a_move_is_one_event_in_two_halves(live: Live, old: str, new: str, kind: Mask) -> None:
    with watching(live.path / "d", live.path / "e") as watcher:
        move(live, old, new)
        live.pull()
        source, target = watcher.wait(lambda seen: len(seen) >= 2)
        assert source[:2] == (Mask.MOVED_FROM | kind, live.path / old)
        assert target == (Mask.MOVED_TO | kind, live.path / new, source.cookie)
        assert source.cookie


def test_a_directory_that_was_moved_is_still_watched_and_still_the_working_directory(
    live: Live, eventually: Eventually
) -> None:
    at = os.open(live.path / "d" / "sub", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with watching(live.path, live.path / "d" / "sub") as watcher:
            move(live, "d/sub", "sub2")
            live.pull()
            watcher.wait_for(Mask.MOVED_TO, live.path / "sub2")
            eventually(lambda: os.readlink(f"/proc/self/fd/{at}") == str(live.path / "sub2"))
            watcher.seen.clear()
            remotely(live, lambda: live.remote.put("sub2/x", b"newer"))
            watcher.wait_for(Mask.CLOSE_WRITE, live.path / "d" / "sub" / "x")
    finally:
        os.close(at)


def test_a_file_that_becomes_a_directory_is_deleted_and_created(live: Live) -> None:
    with watching(live.path / "d") as watcher:
        remotely(live, lambda: (live.remote.remove("d/a"), live.remote.put("d/a", None)))
        watcher.wait_for(Mask.CREATE, live.path / "d" / "a")
        assert watcher.seen == [
            Event(Mask.DELETE, live.path / "d" / "a"),
            Event(Mask.CREATE | DIRECTORY, live.path / "d" / "a"),
        ]


def test_what_a_watcher_finds_at_an_event_is_never_older_than_that(live: Live) -> None:
    with watching(live.path / "d") as watcher:
        for turn in range(12):
            path = live.path / "d" / f"n{turn % 3}"
            live.do(lambda path=path, turn=turn: live.remote.put(f"d/{path.name}", b"%d" % turn))
            live.poll()
            watcher.wait(lambda seen, path=path: any(event.path == path for event in seen))
            assert path.read_bytes() == b"%d" % turn
            watcher.wait_for(Mask.CLOSE_WRITE, path)
            watcher.seen.clear()


def test_many_changes_at_once_are_all_told(live: Live) -> None:
    names = {f"n{number}" for number in range(300)}
    with watching(live.path / "d") as watcher:
        for what, content in ((Mask.CREATE, b"1"), (Mask.MODIFY, b"22")):
            remotely(live, lambda content=content: [live.remote.put(f"d/{name}", content) for name in names])
            watcher.wait(lambda seen, what=what: names == {event.path.name for event in seen if event.what == what})


def test_watchdog_tells_creation_change_move_and_deletion(live: Live) -> None:
    heard: list[tuple[str, str, str]] = []
    came = threading.Condition()

    class Handler(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            with came:
                heard.append(
                    (event.event_type, *(Path(os.fsdecode(at)).name for at in (event.src_path, event.dest_path)))
                )
                came.notify()

    def hears(*wanted: str) -> None:
        with came:
            assert came.wait_for(lambda: wanted in heard, 10), heard

    observer = Observer()
    observer.schedule(Handler(), str(live.path), recursive=True)
    observer.start()
    try:
        remotely(live, lambda: live.remote.put("d/new", b"1"))
        hears("created", "new", "")
        remotely(live, lambda: live.remote.put("d/a", b"newer"))
        hears("modified", "a", "")
        move(live, "d/new", "e/moved")
        live.pull()
        hears("moved", "new", "moved")
        remotely(live, lambda: live.remote.remove("d/b"))
        hears("deleted", "b", "")
        remotely(live, lambda: live.remote.put("fresh", None))
        hears("created", "fresh", "")
    finally:
        observer.stop()
        observer.join()


# ---------------------------------------------------------------------------------------- and what does not happen


def test_waking_sends_nothing_and_changes_no_inode_no_time_and_no_bytes(live: Live) -> None:
    with watching(live.path / "d", live.path / "e") as watcher:
        remotely(live, lambda: (live.remote.put("d/a", b"newer"), live.remote.put("d/new", b"new")))
        found = {name: live.vfs.attributes(live.node(f"d/{name}")) for name in ("a", "b", "new")}
        watcher.wait_for(Mask.CLOSE_WRITE, live.path / "d" / "new")
        watcher.wait_for(Mask.CLOSE_WRITE, live.path / "d" / "a")
        for name, attributes in found.items():
            now = (live.path / "d" / name).stat()
            assert (now.st_ino, now.st_mtime_ns, now.st_size, now.st_mode & 0o777) == (
                *(attributes.inode, attributes.mtime_ns, attributes.size),
                attributes.mode,
            )
    live.settle()
    assert live.do(lambda: live.remote.asked("create_file", "create_directory", "update", "delete")) == []
    assert sorted(os.listdir(live.path / "d")) == ["a", "b", "new", "sub"]
    assert (live.path / "d" / "a").read_bytes() == b"newer"


def test_what_programs_do_themselves_is_told_once(live: Live) -> None:
    with watching(live.path / "d") as watcher:
        (live.path / "d" / "mine").write_bytes(b"mine")
        live.settle()
        live.pull()
        remotely(live, lambda: live.remote.put("d/last", b""))
        watcher.wait_for(Mask.CLOSE_WRITE, live.path / "d" / "last")
        mine = [event.what for event in watcher.seen if event.path.name == "mine"]
        assert mine == [Mask.CREATE, Mask.MODIFY, Mask.CLOSE_WRITE]


def test_nobody_is_started_where_nobody_watches(live: Live, eventually: Eventually) -> None:
    remotely(live, lambda: live.remote.put("d/new", b"here"))
    eventually(lambda: live.do(live.transport._connection.wakes.is_idle))
    assert wakers() == []


@pytest.mark.parametrize("options", [MountOptions("x", wake=Wake.OFF), MountOptions("x", read_only=True)])
def test_nobody_is_woken_where_that_is_not_wanted_or_not_possible(
    serving: Callable, remote: ModelRemote, eventually: Eventually, options: MountOptions
) -> None:
    live = serving("kernel", remote, mount_options=options)
    with watching(live.path / "d") as watcher:
        remotely(live, lambda: live.remote.put("d/new", b"here"))
        eventually((live.path / "d" / "new").exists)
        assert (wakers(), watcher.read()) == ([], [])


def test_who_cannot_be_seen_watching_is_woken_where_everybody_is(serving: Callable, remote: ModelRemote) -> None:
    live = serving("kernel", remote, mount_options=MountOptions("x", wake=Wake.ON))
    remotely(live, lambda: live.remote.put("d/new", b"here"))  # nobody has looked into d: the kernel knows none such
    assert wakers() == []
    with watching(live.path / "d") as watcher:
        remotely(live, lambda: live.remote.put("d/newer", b"here"))
        watcher.wait_for(Mask.CLOSE_WRITE, live.path / "d" / "newer")


# -------------------------------------------------------------------------------------------------- the waker itself


def woken(live: Live, watcher: Watcher) -> int:
    """Bring the waker about; return its process number."""
    remotely(live, lambda: live.remote.put("d/first", b"1"))
    watcher.wait_for(Mask.CLOSE_WRITE, live.path / "d" / "first")
    (waker,) = wakers()
    return waker


def test_whatever_the_waker_does_unasked_changes_nothing(live: Live) -> None:
    with watching(live.path / "d") as watcher:
        woken(live, watcher)
        messenger = live.transport._connection.wakes.messenger
        directory = ("d", live.node("d"))
        errands = [
            *((verb, [(*directory, "a")]) for verb in (UNLINK, CHANGE, CREATE)),
            *((verb, [(*directory, "sub")]) for verb in (RMDIR, MKDIR)),
            (CREATE, [(*directory, "more")]),
            (RENAME, [(*directory, "a"), (*directory, "b")]),
        ]
        told = live.call(lambda: messenger.ask(errands))
        refused = {errno.ECANCELED, errno.EEXIST, errno.ENOTEMPTY}
        assert [number for number in told if number not in refused] == []
    live.settle()
    assert live.do(live.remote.tree) == {**STORED, "d/first": b"1"}
    assert {path.name for path in (live.path / "d").iterdir()} == {"a", "b", "first", "sub"}


def test_when_the_waker_dies_that_is_all(live: Live, expected_logs: Any, eventually: Eventually) -> None:
    expected_logs.expect("no longer woken by remote changes: it")
    with watching(live.path / "d") as watcher:
        os.kill(woken(live, watcher), signal.SIGKILL)
        remotely(live, lambda: live.remote.put("d/a", b"newer"))
        eventually(lambda: (live.path / "d" / "a").read_bytes() == b"newer")
        eventually(lambda: not live.do(lambda: live.transport._connection.wakes.is_on))
        (live.path / "d" / "mine").write_bytes(b"mine")
        live.settle()
        assert live.do(live.remote.tree)["d/mine"] == b"mine"
        assert wakers() == []


def test_a_stopped_waker_holds_up_nobody(live: Live, eventually: Eventually) -> None:
    with watching(live.path / "d") as watcher:
        waker = woken(live, watcher)
        os.kill(waker, signal.SIGSTOP)
        for turn in range(3):
            remotely(live, lambda turn=turn: live.remote.put("d/a", b"%d" % turn))
            eventually(lambda turn=turn: (live.path / "d" / "a").read_bytes() == b"%d" % turn)
            (live.path / "d" / f"mine{turn}").write_bytes(b"mine")
        os.kill(waker, signal.SIGCONT)
        watcher.wait_for(Mask.MODIFY, live.path / "d" / "a")


def test_who_waits_to_write_to_a_file_that_is_then_deleted_elsewhere_keeps_nobody_out_of_its_directory(
    serving: Callable,
) -> None:
    remote = ModelRemote()
    remote.put("cold", b"x" * 300_000)
    live = serving("kernel", remote)
    live.do(remote.gate.clear)
    with watching(live.path) as watcher:
        writer = subprocess.Popen(["truncate", "-s", "5", live.path / "cold"], stderr=subprocess.DEVNULL)
        while not live.do(lambda: remote.asked("download")):
            os.sched_yield()
        remotely(live, lambda: remote.remove("cold"))
        watcher.wait_for(Mask.DELETE, live.path / "cold")
        (live.path / "mine").write_bytes(b"mine")
        assert os.listdir(live.path) == ["mine"]
        assert writer.poll() is None
    writer.kill()
    assert writer.wait(10) == -signal.SIGKILL


def test_a_mount_with_a_waker_is_unmounted_and_the_waker_gone(live: Live) -> None:
    with watching(live.path / "d") as watcher:
        waker = woken(live, watcher)
    mounting.detach(live.path)
    live.call(live.transport.wait_unmounted)
    assert not Path(f"/proc/{waker}").exists()


def test_a_mount_that_stays_because_it_is_in_use_goes_on_waking(live: Live) -> None:
    with watching(live.path / "d") as watcher, (live.path / "d" / "a").open("rb"):
        woken(live, watcher)
        with pytest.raises(MountPointBusy):
            live.call(live.transport.detach)
        remotely(live, lambda: live.remote.put("d/again", b"1"))
        watcher.wait_for(Mask.CLOSE_WRITE, live.path / "d" / "again")


def test_the_waker_dies_with_its_daemon(tmp_path: Path, eventually: Eventually) -> None:
    with TalkingDaemon(tmp_path) as mount:
        mount.tell("watch .")
        mount.hear("watching")
        mount.tell("put new here")
        mount.hear("CREATE new")
        mount.hear("CLOSE_WRITE new")
        (waker,) = mount.children()
        mount.kill()
        eventually(lambda: not Path(f"/proc/{waker}").exists())


@pytest.mark.allow_log("was changed by two others at once")  # the server's changes and the programs' meet there
def test_programs_that_work_on_the_names_that_are_woken_wait_for_nobody_and_see_the_truth(tmp_path: Path) -> None:
    played = play(tmp_path, changes=1200, seed=7)
    assert min(played.events[what] for what in (Mask.CREATE, Mask.MODIFY, Mask.DELETE, Mask.MOVED_TO)) > 0
