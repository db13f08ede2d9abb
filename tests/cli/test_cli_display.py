"""What is shown while a folder is synchronised: a line that moves on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import COMMAND, DEADLINE_S, as_process, without_size

from jobfs.cli.gauge import Gauge, Left, Reading
from jobfs.cli.pictures import print_table, progress_numbers
from jobfs.folder.report import SyncEvent, What
from jobfs.server.faults import Fault, Faults
from jobfs.server.running import RunningServer
from jobfs.workspace.meter import LARGE_BYTES, Meter

MIB = 1 << 20
STEERING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Desk:
    """A gauge whose clock and work the test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.left = Left()
        self.counts = 0
        self.count_cost_s = 0.0
        self.meter = Meter(moved=7 * MIB)  # what passed before does not count
        self.gauge = Gauge(self._count, self.meter, lambda: self.now_s)

    def _count(self) -> Left:
        self.counts += 1
        self.now_s += self.count_cost_s
        return self.left

    def done(self, *sizes: int, what: What = What.PUSHED) -> None:
        for size in sizes:
            self.gauge.note(SyncEvent(what, "a", size))

    def after(self, seconds: float) -> Reading:
        self.now_s += seconds
        return self.gauge.read()


@pytest.fixture
def desk() -> Desk:
    return Desk()


# -- the gauge


def test_nothing_is_known_before_there_is_work(desk: Desk) -> None:
    assert desk.after(1) == Reading(0, 0, 0, 0, rate=0.0, share=None, remaining_s=None)


def test_what_is_done_and_what_is_left_make_the_whole(desk: Desk) -> None:
    desk.left = Left(4, 4000)
    desk.after(0)
    desk.done(1000)
    desk.left = Left(3, 3000)
    reading = desk.after(2)
    assert (reading.files, reading.total_files, reading.size, reading.total_size) == (1, 4, 1000, 4000)
    assert (reading.rate, reading.share, reading.remaining_s) == (500.0, 0.25, 6.0)


def test_other_events_are_no_files(desk: Desk) -> None:
    desk.done(0, what=What.MADE_HERE)
    desk.done(0, what=What.CONFLICT)
    assert desk.after(1).files == 0


def test_a_large_file_counts_while_it_passes_and_once(desk: Desk) -> None:
    size = LARGE_BYTES + MIB
    desk.left = Left(1, size)
    desk.after(0)
    desk.meter.moved += MIB
    assert desk.after(1).size == MIB
    desk.meter.moved += LARGE_BYTES
    desk.left = Left()
    desk.done(size)
    assert (desk.after(1).size, desk.after(1).total_size) == (size, size)


def test_what_is_shown_never_goes_back_nor_beyond_the_whole(desk: Desk) -> None:
    desk.left = Left(1, 2 * MIB)
    desk.meter.moved += MIB
    assert desk.after(1).size == MIB
    desk.meter.moved -= MIB  # an upload starts over
    assert desk.after(1).size == MIB
    desk.meter.moved += 5 * MIB
    assert desk.after(1).size == 2 * MIB


def test_many_small_files_are_guessed_by_their_number(desk: Desk) -> None:
    desk.left = Left(101, 100 * MIB + 100)
    desk.after(0)
    desk.meter.moved += 100 * MIB
    desk.done(100 * MIB)
    desk.left = Left(100, 100)
    desk.after(1)
    desk.done(*[1] * 10)
    desk.left = Left(90, 90)
    remaining_s = desk.after(1).remaining_s
    assert remaining_s is not None
    assert 10 < remaining_s < 30


def test_the_rate_is_that_of_the_last_seconds(desk: Desk) -> None:
    desk.left = Left(1, 1000 * MIB)
    for _ in range(100):
        desk.meter.moved += MIB
        desk.after(1)
    for _ in range(11):
        reading = desk.after(1)
    assert (reading.rate, reading.remaining_s) == (0.0, None)


def test_counting_takes_a_fiftieth_of_the_time_at_most(desk: Desk) -> None:
    desk.count_cost_s = 0.1
    began_s = desk.now_s
    while desk.now_s < began_s + 51:
        desk.after(0.2)
    assert desk.counts <= 11


@pytest.mark.parametrize(
    ("reading", "text"),
    [
        (Reading(3, 1000, 0, 5 * MIB, 0.0, 0.1, None), "    3/1,000 files       0 B/5.0 MiB       0 B/s"),
        (Reading(3, 3, 2048, 4096, 1024.0, 0.5, 62.4), "3/3 files   2.0 KiB/4.0 KiB   1.0 KiB/s  1:02 left"),
        (Reading(0, 1, 0, 1, 0.0, 0.0, 7265.0), "0/1 files       0 B/1 B       0 B/s  2:01:05 left"),
    ],
)
def test_the_numbers_are_short_and_stay_in_their_columns(reading: Reading, text: str) -> None:
    assert progress_numbers(reading) == text


# -- the terminal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    return path


@pytest.fixture
def slowed(studio: RunningServer) -> Iterator[RunningServer]:
    """A server that answers uploads after a third of a second."""
    studio.faults = Faults((Fault("latency", method="POST", path="/items", delay_s=0.3),))
    yield studio
    studio.faults = Faults()


def on_terminal(*words: object, columns: int = 100) -> tuple[int, str, float]:
    """Run a command whose stderr is a terminal; return its code, what came there, and how long it took."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    began = time.monotonic()
    with subprocess.Popen(
        [*COMMAND, *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        stdin=theirs,
        env={**without_size(os.environ), "TERM": "xterm"},
    ) as running:
        os.close(theirs)
        shown = b""
        while piece := _read(ours):
            shown += piece
        code = running.wait(DEADLINE_S)
    os.close(ours)
    return code, shown.decode(), time.monotonic() - began


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # Linux says so that nobody has the other end open any more
        return b""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_a_terminal_shows_one_line_that_moves_five_times_a_second_at_most(
    slowed: RunningServer, job: str, folder: Path
) -> None:
    for at in range(60):
        (folder / f"{at}.txt").write_text("12345")
    code, raw, took_s = on_terminal("push", job, folder)
    shown = STEERING.sub("", raw)
    drawn = re.findall(r"(\d+)/60 files", shown)
    assert (code, "pushed: " in shown, shown.splitlines()[-1].startswith("60 files, 300 B in ")) == (0, False, True)
    assert 2 <= len(drawn) <= took_s * 5 + 1
    assert [int(number) for number in drawn] == sorted(int(number) for number in drawn)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_a_narrow_terminal_is_never_written_beyond_its_edge(slowed: RunningServer, job: str, folder: Path) -> None:
    (folder / "a.txt").write_text("12345")
    _, raw, _ = on_terminal("push", job, folder, columns=40)
    rows = re.split(r"[\r\n]+", STEERING.sub("", raw))
    assert [row for row in rows if len(row) > 40] == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_the_cursor_is_never_hidden_which_a_signal_would_leave_so(
    slowed: RunningServer, job: str, folder: Path
) -> None:
    (folder / "a.txt").write_text("12345")
    _, raw, _ = on_terminal("push", job, folder)
    assert ("\x1b[" in raw, "\x1b[?25l" in raw) == (True, False)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
@pytest.mark.parametrize("command", ["put", "get"])
def test_a_file_that_takes_long_shows_how_far_it_is(
    studio: RunningServer, job: str, tmp_path: Path, command: str
) -> None:
    size = MIB
    (tmp_path / "a.bin").write_bytes(bytes(size))
    studio.put_item(job, "b.bin", bytes(size))
    if command == "put":
        words: list[object] = ["put", "--limit-up", "500K", tmp_path / "a.bin", f"{job}:/"]
    else:
        words = ["get", "--limit-down", "500K", f"{job}:/b.bin", tmp_path / "c.bin"]
    code, raw, _ = on_terminal(*words)
    verb, name = {"put": ("sending", "a.bin"), "get": ("receiving", "b.bin")}[command]
    moved = rf"{verb} 0/1 files ([\d.]+ \w+)/1.0 MiB [\d.]+ \w+/s[^\r\n]*  {name}"
    seen = re.findall(moved, STEERING.sub("", raw))
    assert (code, bool(set(seen) - {"0 B"})) == (0, True), raw


def test_elsewhere_there_is_one_plain_line_for_each_file(slowed: RunningServer, job: str, folder: Path) -> None:
    for at in range(3):
        (folder / f"{at}.txt").write_text("12345")
    done = subprocess.run(
        [*COMMAND, "push", job, str(folder)], capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )
    assert sorted(done.stderr.splitlines()) == [f"pushed: {at}.txt  5 B" for at in range(3)]
    assert done.stdout == "3 pushed (15 B sent)\n"


@pytest.mark.parametrize("command", ["push", "pull"])
def test_large_contents_are_counted_while_they_pass(studio: RunningServer, job: str, command: str) -> None:
    """One meter, both ways: what has passed in the end is the file, and a form around it."""
    import asyncio

    from jobfs.cli.remote import open_remote
    from jobfs.model import Permission
    from jobfs.workspace.settings import Settings

    async def transfer() -> tuple[list[int], int]:
        meter, seen = Meter(), []
        async with open_remote(Settings(studio.url, studio.api_key), job, meter=meter) as remote:
            item = await remote.create_file("a.bin", Permission.READ_WRITE, source, "application/octet-stream")
            if command == "push":
                return [], meter.moved
            meter.moved = 0
            async with remote.download(item.id) as download:
                async for _ in download.chunks():
                    seen.append(meter.moved)
            return seen, meter.moved

    source = studio.folder / f"{command}.bin"
    source.write_bytes(b"x" * 3 * MIB)
    seen, moved = asyncio.run(transfer())
    source.unlink()
    assert seen == sorted(seen)
    assert 3 * MIB <= moved < 3 * MIB + 2048


# -- tables


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
@pytest.mark.parametrize("columns", [30, 40, 80, 200])
def test_ids_and_names_are_whole_however_narrow_the_terminal_is(studio: RunningServer, job: str, columns: int) -> None:
    from terminals import on_terminal as shown_on

    name = "a name of some length, as reports have it.txt"
    studio.put_item(job, f"d/{name}", b"x")
    for words, wanted in (
        (["jobs", "list"], [job, "queued", "@jobfs/word-count"]),
        (["runs", "list"], [job, "pending"]),
        (["ls", "-l", f"{job}:/d"], [name, "user"]),
    ):
        code, told = shown_on(*words, columns=columns)
        plain = STEERING.sub("", told).replace("\r", "")
        assert (code, "…" in plain) == (0, False)
        assert [one for one in wanted if one not in plain and columns >= 40] == [], plain
        assert wanted[0] in plain


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_times_stand_on_one_line_at_eighty_columns(studio: RunningServer) -> None:
    from terminals import on_terminal as shown_on

    query = "Count the words of everything that is there"
    as_process("jobs", "start", "--expert", "@jobfs/word-count", "--query", query).ok()
    plain = STEERING.sub("", shown_on("jobs", "list", columns=80)[1])
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", plain), plain
    assert query in plain


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
@pytest.mark.parametrize("words", [("du",), ("jobs", "list")])
def test_with_no_color_a_terminal_gets_neither_colours_nor_bold(
    studio: RunningServer, job: str, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    from terminals import on_terminal as shown_on

    studio.put_item(job, "a.txt", b"x")
    line = [*words, *([job] if words == ("du",) else [])]
    assert "\x1b[1m" in shown_on(*line, columns=200)[1]
    monkeypatch.setenv("NO_COLOR", "1")
    code, told = shown_on(*line, columns=200)
    assert (code, re.findall(r"\x1b\[[0-9;]*m", told)) == (0, [])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_what_is_told_above_a_moving_line_is_not_broken(studio: RunningServer, tmp_path: Path) -> None:
    """The terminal folds a long line by itself; a path or command that is broken by us cannot be copied."""
    from terminals import on_terminal as shown_on

    script = "from jobfs.cli.terminal import progress\nwith progress('x') as it: it.step('word ' * 30 + 'end')"
    code, told = shown_on("-c", script, columns=40, command=[sys.executable])
    assert (code, "word " * 30 + "end" in STEERING.sub("", told)) == (0, True), told


def test_at_no_width_is_a_name_cut_or_a_size_or_time_folded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, when = "beside (conflict from here 2026-11-22 234114).txt", "2026-11-22 23:41:14"
    for columns in range(20, 121):
        monkeypatch.setenv("COLUMNS", str(columns))
        print_table(("size", "updated", "name"), [("30.0 MiB", when, name), ("1 B", when, "a")], whole=("name",))
        told = capsys.readouterr().out
        assert name in told, (columns, told)
        assert columns < 32 or (told.count("30.0 MiB"), told.count(when)) == (1, 2), (columns, told)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_what_a_process_in_the_background_says_is_not_broken_either(
    studio: RunningServer, job: str, folder: Path
) -> None:
    from terminals import on_terminal as shown_on

    try:
        code, told = shown_on("sync", job, folder, "--background", "--hold", columns=60)
        assert (code, f"'jobfs hold {folder} --off' ends it" in STEERING.sub("", told)) == (0, True), told
    finally:
        as_process("umount", folder).ok()
