"""Programs that watch files, as people run them, in a mount: they tell of what happens on the server."""

from __future__ import annotations

import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_mount import Live, served
from model_remote import ModelRemote
from real_programs import need, need_module

pytestmark = pytest.mark.mount

LATEST_S = 30.0

PARCEL = """
const [root, directory] = process.argv.slice(1);
require(root + '/@parcel/watcher').subscribe(directory, (error, events) => {
  for (const { type, path } of events) console.log(type, path.slice(directory.length + 1));
}, { backend: 'inotify' }).then(() => console.log('ready'));
setInterval(() => {}, 1000);
"""
"""The library with which VS Code watches folders."""

CHOKIDAR = """
const [root, directory] = process.argv.slice(1);
import(root + '/chokidar/index.js').then(({ default: chokidar }) => {
  chokidar.watch(directory, { ignoreInitial: true })
    .on('all', (type, path) => console.log(type, path.slice(directory.length + 1)))
    .on('ready', () => console.log('ready'));
});
"""
"""The library with which development servers watch sources."""


class Program:
    """A program that runs until it is told not to, and what it says."""

    def __init__(self, *words: str | Path) -> None:
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())

    def says(self, *wanted: str) -> None:
        """Return once it has said all of this, in whatever order, among other things."""
        left = list(wanted)
        said = []
        while left:
            try:
                said.append(self._lines.get(timeout=LATEST_S))
            except queue.Empty:
                pytest.fail(f"not said: {left}, but {said}")
            left = [line for line in left if line != said[-1]]

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def begin(*words: str | Path) -> Program:
        started.append(Program(*words))
        return started[-1]

    yield begin
    for program in started:
        program.end()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    remote = ModelRemote()
    remote.put("src", None)
    remote.put("src/app.js", b"old\n")
    remote.put("src/gone.js", b"gone")
    remote.put("lib", None)
    with served("kernel", tmp_path, remote) as mount:
        yield mount


def happen(live: Live) -> Iterator[str]:
    """Let five things happen on the server, and see that the mount makes no other; after each yield its name."""
    for name, change in (
        ("created", lambda: live.remote.put("src/new.js", b"new")),
        ("changed", lambda: live.remote.put("src/app.js", b"newer\n")),
        ("deleted", lambda: live.remote.remove("src/gone.js")),
        ("made", lambda: live.remote.put("src/inner", None)),
    ):
        live.do(change)
        live.pull()
        yield name

    async def move() -> None:
        item = live.remote.at("src/new.js")
        assert item is not None
        await live.remote.update(item.id, path="lib/moved.js")

    live.call(move)
    live.pull()
    yield "moved"
    live.settle()
    asked = live.do(lambda: live.remote.asked("create_file", "create_directory", "update", "delete"))
    assert [call for call, _ in asked] == ["update"]  # the move


def hears(live: Live, program: Program, expected: dict[str, tuple[str, ...]]) -> None:
    for name in happen(live):
        program.says(*expected[name])


def test_inotifywait(live: Live, start: Callable[..., Program]) -> None:
    need("inotifywait")
    program = start("inotifywait", "-m", "-r", "--format", "%e %f", live.path)
    program.says("Watches established.")
    expected = {
        "created": ("CREATE new.js", "CLOSE_WRITE,CLOSE new.js"),
        "changed": ("MODIFY app.js", "CLOSE_WRITE,CLOSE app.js"),
        "deleted": ("DELETE gone.js",),
        "made": ("CREATE,ISDIR inner",),
        "moved": ("MOVED_FROM new.js", "MOVED_TO moved.js"),
    }
    hears(live, program, expected)


def test_tail_follows_a_name(live: Live, start: Callable[..., Program]) -> None:
    need("tail")
    program = start("tail", "-s", "0.2", "-n", "+1", "-F", live.path / "src" / "app.js")
    program.says("old")
    for name in happen(live):
        if name == "changed":
            program.says("newer")


def test_the_watcher_of_vs_code(live: Live, start: Callable[..., Program]) -> None:
    modules = need_module("@parcel/watcher")
    program = start("node", "-e", PARCEL, modules, live.path)
    program.says("ready")
    expected = {
        "created": ("create src/new.js",),
        "changed": ("update src/app.js",),
        "deleted": ("delete src/gone.js",),
        "made": ("create src/inner",),
        "moved": ("delete src/new.js", "create lib/moved.js"),
    }
    hears(live, program, expected)


def test_the_watcher_of_development_servers(live: Live, start: Callable[..., Program]) -> None:
    modules = need_module("chokidar")
    program = start("node", "-e", CHOKIDAR, modules, live.path)
    program.says("ready")
    expected = {
        "created": ("add src/new.js",),
        "changed": ("change src/app.js",),
        "deleted": ("unlink src/gone.js",),
        "made": ("addDir src/inner",),
        "moved": ("unlink src/new.js", "add lib/moved.js"),
    }
    hears(live, program, expected)
