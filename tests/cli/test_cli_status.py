"""What ``jobfs status`` and ``.jobfs/`` tell, and what the desktop is told."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alarmed_faults import AlarmedFaults
from commands import COMMAND, DEADLINE_S, in_process
from terminals import on_terminal

from jobfs.cli.notify import Desktop, means
from jobfs.cli.overview import describe_status, human_time
from jobfs.cli.report import NEXT_STEPS
from jobfs.model import Trouble
from jobfs.server.faults import Fault, Faults
from jobfs.server.running import RunningServer

MIB = 1 << 20

QUIET: dict[str, Any] = {
    "kind": "mount",
    "directory": "/somewhere",
    "job": "job1",
    "transport": "kernel",
    "pid": 7,
    "started": 1000.0,
    "isRunning": True,
    "jobStatus": "processing",
    "lastListingSecondsAgo": 2.0,
    "items": 3,
    "cachedBytes": 2048,
    "historyBytes": 4096,
    "inFlight": [],
    "pending": 0,
    "pendingPaths": [],
    "problems": [],
    "conflicts": [],
    "offline": None,
    "state": "/state",
    "isFrozen": False,
    "guard": None,
    "requests": {"total": 9, "failed": 1, "GET": 9},
}


def lines(**values: Any) -> list[str]:
    return describe_status({**QUIET, **values}, now_s=1600.0)


# -- in words


def test_a_quiet_mount_takes_three_lines() -> None:
    assert lines() == [
        "job1  mounted on /somewhere  (kernel, process 7)",
        "  job processing; listed 2 s ago; up 10 min; 9 requests, 1 failed",
        "  3 items, 2.0 KiB of content here, 4.0 KiB of earlier versions",
    ]


def test_what_is_under_way_is_told_with_its_progress() -> None:
    flight = [
        {"path": "a.bin", "what": "Upload", "moved": MIB, "size": 4 * MIB},
        {"path": "b.bin", "what": "Download", "moved": MIB, "size": None},
        {"path": "c", "what": "DeleteRemote", "moved": None, "size": None},
    ]
    assert lines(inFlight=flight)[3:] == [
        "  sending a.bin: 1.0 MiB of 4.0 MiB, 25%",
        "  receiving b.bin: 1.0 MiB",
        "  deleting c",
    ]


def test_what_waits_is_told_with_its_age_and_what_is_wrong_with_the_next_step() -> None:
    told = lines(
        pending=1,
        pendingPaths=[{"path": "a.txt", "reason": "not sent yet", "secondsAgo": 300.0}],
        problems=[{"path": "b", "trouble": "refused", "detail": "too large", "next": "make it smaller"}],
        conflicts=[{"path": "copy", "original": "c", "next": "jobfs resolve copy"}],
        offline="no connection",
    )
    assert told[3:] == [
        "  1 change not yet sent:",
        "    a.txt: not sent yet (changed 5 min ago)",
        "  offline: no connection",
        "    next: nothing; it is tried again, ever more rarely, at least once a minute",
        "  1 problem:",
        "    b: too large",
        "      next: make it smaller",
        "  1 conflict, with copies:",
        "    copy",
        "      next: jobfs resolve copy",
    ]


def test_a_full_disk_is_told_as_that_with_where_it_is() -> None:
    told = lines(offline="no space left for the local store", isDiskFull=True, state="/s")
    assert told[-2:] == [
        "  the local disk is full: no space left for the local store",
        "    next: free some space where /s lies; what was closed is kept, and sent then",
    ]


def test_a_full_disk_of_a_folder_may_be_its_own_or_that_of_its_state() -> None:
    told = lines(offline="no space left in the folder", isDiskFull=True, state="/s", kind="folder")
    assert told[-1] == "    next: free some space where /somewhere and /s lie; it goes on by itself then"


def test_of_many_paths_ten_are_shown_and_the_rest_counted() -> None:
    pending = [{"path": f"{at}", "reason": "not sent yet", "secondsAgo": None} for at in range(12)]
    told = lines(pending=12, pendingPaths=pending)
    assert (len(told), told[-1]) == (15, "    and 2 more: 'jobfs status --json' has them")


def test_no_name_can_steer_the_terminal() -> None:
    pending = [{"path": "a\x1b[2J\nb", "reason": "not sent yet", "secondsAgo": None}]
    assert lines(pending=1, pendingPaths=pending)[-1] == "    a\\x1b[2J\\nb: not sent yet"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 d")]
)
def test_a_length_of_time_is_one_number_and_its_unit(seconds: float, text: str) -> None:
    assert human_time(seconds) == text


def test_every_trouble_has_a_next_step() -> None:
    assert set(NEXT_STEPS) == set(Trouble)


# -- of a real mount


@pytest.fixture
def faulty(studio: RunningServer, mount_point: Path) -> Iterator[RunningServer]:
    """The server; its faults end before what is mounted is taken away."""
    yield studio
    studio.faults = Faults()


def status_of(point: Path) -> dict[str, Any]:
    (found,) = json.loads(in_process("status", point, "--json").ok())
    assert isinstance(found, dict)
    return found


def flight(point: Path, path: str) -> dict[str, Any]:
    (found,) = [one for one in status_of(point)["inFlight"] if one["path"] == path]
    assert isinstance(found, dict)
    return found


@pytest.mark.mount
def test_uploads_and_waiting_changes_are_told_while_they_last(
    faulty: RunningServer, job: str, mount_point: Path
) -> None:
    in_process("mount", job, mount_point).ok()
    faulty.faults = faults = AlarmedFaults((Fault("latency", method="POST", path="/items", delay_s=2.0),))
    (mount_point / "large.bin").write_bytes(b"x" * 2 * MIB)
    assert faults.has_struck.wait(DEADLINE_S)
    sending = flight(mount_point, "large.bin")
    (waiting,) = status_of(mount_point)["pendingPaths"]
    assert (sending["what"], 2 * MIB <= sending["size"] < 2 * MIB + 2048) == ("Upload", True)
    assert 0 <= sending["moved"] <= sending["size"]
    assert (waiting["path"], 0 <= waiting["secondsAgo"] < DEADLINE_S) == ("large.bin", True)
    inside = json.loads((mount_point / ".jobfs" / "transfers.json").read_bytes())
    assert [one["path"] for one in inside] == ["large.bin"]


@pytest.mark.mount
def test_downloads_are_told_while_they_last(faulty: RunningServer, job: str, mount_point: Path) -> None:
    faulty.put_item(job, "large.bin", b"x" * 2 * MIB)
    in_process("mount", job, mount_point, "--prefetch", "none").ok()
    slow = Fault("slow_body", path="/download", bytes_per_s=MIB)
    faulty.faults = faults = AlarmedFaults((slow,))
    with subprocess.Popen(["cat", mount_point / "large.bin"], stdout=subprocess.DEVNULL) as reading:
        assert faults.has_struck.wait(DEADLINE_S)
        receiving = flight(mount_point, "large.bin")
        reading.wait(DEADLINE_S)
    assert (receiving["what"], receiving["size"]) == ("Download", 2 * MIB)
    assert 0 <= receiving["moved"] <= 2 * MIB
    assert status_of(mount_point)["inFlight"] == []


@pytest.mark.mount
def test_a_deletion_that_waits_is_told_with_its_age(faulty: RunningServer, job: str, mount_point: Path) -> None:
    faulty.put_item(job, "d/a.txt", b"1")
    in_process("mount", job, mount_point).ok()
    faulty.faults = faults = AlarmedFaults((Fault("drop_before", method="DELETE"),))
    (mount_point / "d" / "a.txt").unlink()
    assert faults.has_struck.wait(DEADLINE_S)
    (waiting,) = status_of(mount_point)["pendingPaths"]
    assert (waiting["path"], 0 <= waiting["secondsAgo"] < DEADLINE_S) == ("d/a.txt", True)


@pytest.mark.mount
def test_the_mount_itself_says_the_same_in_words(studio: RunningServer, job: str, mount_point: Path) -> None:
    studio.put_item(job, "a.txt", b"12345")
    in_process("mount", job, mount_point).ok()
    folder = mount_point / ".jobfs"
    assert sorted(os.listdir(folder)) == [
        "conflicts.json",
        "held.json",
        "pending.json",
        "problems.json",
        "status.json",
        "status.txt",
        "transfers.json",
    ]
    inside = (folder / "status.txt").read_text().splitlines()
    outside = in_process("status", mount_point).ok().splitlines()
    assert (inside[0], len(inside)) == (outside[0], len(outside))
    assert inside[0].startswith(f"{job}  mounted on {mount_point}  (kernel, process ")


def test_a_directory_that_was_never_ours_is_refused(studio: RunningServer, tmp_path: Path) -> None:
    outcome = in_process("status", tmp_path)
    assert (outcome.code, "never mounted or synchronised" in outcome.err) == (6, False)
    assert "is in no mount or synchronised folder of jobfs" in outcome.err


# -- again and again


def test_watching_for_programs_prints_a_line_for_each_change_until_it_is_ended(
    studio: RunningServer, job: str, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    watching = [*COMMAND, "status", "--watch", "--json"]
    with subprocess.Popen(watching, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watcher:
        assert watcher.stdout is not None
        first = json.loads(watcher.stdout.readline())
        in_process("sync", job, folder, "--background").ok()
        running = json.loads(watcher.stdout.readline())
        in_process("umount", folder).ok()
        ended = running
        while ended[0]["isRunning"]:
            ended = json.loads(watcher.stdout.readline())
        watcher.send_signal(signal.SIGINT)
        _, err = watcher.communicate(timeout=DEADLINE_S)
    assert (first, [one["job"] for one in running], [one["job"] for one in ended]) == ([], [job], [job])
    assert (watcher.returncode, err) == (0, b"")


def test_watching_on_a_terminal_shows_it_in_place_and_leaves_nothing(studio: RunningServer) -> None:
    code, shown = on_terminal("status", "--watch", until="nothing is mounted", then=b"\x03")
    assert (code, "nothing is mounted or synchronised" in shown) == (0, True)
    assert re.search(r"\x1b\[\?1049h.*\x1b\[\?1049l", shown, re.DOTALL)


# -- the desktop


def program(folder: Path, name: str, body: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("platform", "name", "variables", "is_told"),
    [
        ("linux", "notify-send", {"DISPLAY": ":0"}, True),
        ("linux", "notify-send", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("linux", "notify-send", {}, False),
        ("linux", "other", {"DISPLAY": ":0"}, False),
        ("linux", "notify-send", {"DISPLAY": ":0", "JOBFS_NOTIFICATIONS": "off"}, False),
        ("darwin", "osascript", {}, True),
        ("darwin", "osascript", {"JOBFS_NOTIFICATIONS": "off"}, False),
    ],
)
def test_only_a_desktop_is_told(
    tmp_path: Path, platform: str, name: str, variables: dict[str, str], is_told: bool
) -> None:
    path = program(tmp_path, name, "true")
    found = means({"PATH": str(tmp_path), **variables}, platform)
    assert [*found[:1]] == ([str(path)] if is_told else [])


def test_many_conflicts_at_once_are_one_notification(tmp_path: Path) -> None:
    fifo = tmp_path / "told"
    os.mkfifo(fifo)
    teller = program(tmp_path, "tell", f'printf "%s|" "$@" > "{fifo}"')

    async def tell() -> str:
        desktop = Desktop([str(teller), "--"])
        for name in ("a\x1b.txt", "b.txt", "c.txt"):
            desktop.conflict(name, "/somewhere")
        told = await asyncio.to_thread(fifo.read_text)
        await desktop.close()
        return told

    assert asyncio.run(tell()).split("|") == [
        "--",
        "jobfs: both sides changed a file",
        "a\\x1b.txt and 2 more in /somewhere: see 'jobfs conflicts'",
        "",
    ]


def test_a_desktop_that_does_not_answer_delays_nothing_and_is_left(tmp_path: Path) -> None:
    fifo = tmp_path / "began"
    os.mkfifo(fifo)
    teller = program(tmp_path, "tell", f'echo $$ > "{fifo}"; exec sleep 600')

    async def tell() -> int:
        desktop = Desktop([str(teller)])
        desktop.conflict("a.txt", "/somewhere")
        pid = int(await asyncio.to_thread(fifo.read_text))
        await desktop.close()
        return pid

    pid = asyncio.run(tell())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.mount
def test_a_conflict_in_a_mount_reaches_the_desktop(
    studio: RunningServer, job: str, mount_point: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin", "notify-send", f'printf "%s\\n" "$@" "${{JOBFS_API_KEY-none}}" > "{told}"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("DISPLAY", ":0")
    studio.put_item(job, "a.txt", b"common")
    in_process("mount", job, mount_point).ok()
    studio.expert_writes(job, "a.txt", b"of the expert")
    (mount_point / "a.txt").write_text("of the user")
    in_process("push", mount_point).ok()
    title, text, key = told.read_text().splitlines()[2:]
    assert (title, key) == ("jobfs: both sides changed a file", "none")
    assert re.match(rf"a \(conflict from .*\)\.txt in {mount_point}: see 'jobfs conflicts'", text)
