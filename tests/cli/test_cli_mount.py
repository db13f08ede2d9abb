"""Mounts from the command line, by real processes: ready when the command returns, drained when it ends."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alarmed_faults import AlarmedFaults
from awaiting import Requests, wait_for_end
from commands import COMMAND, DEADLINE_S, in_process, mountable
from live_mount import look_until

from jobfs.fuse.mounting import mount_at
from jobfs.server.faults import Fault, Faults
from jobfs.server.running import RunningServer
from jobfs.store.lock import DirectoryLock
from jobfs.workspace.states import mount_state

pytestmark = pytest.mark.mount


@pytest.fixture
def point(tmp_path: Path) -> Iterator[Path]:
    """A mount point; whatever is mounted on it at the end is taken away."""
    yield from mountable(tmp_path / "m")


@pytest.fixture
def other_point(tmp_path: Path) -> Iterator[Path]:
    yield from mountable(tmp_path / "other")


def status_of(point: Path) -> dict[str, Any]:
    told: list[dict[str, Any]] = json.loads(in_process("status", "--json").ok())
    (found,) = [one for one in told if one["directory"] == str(point)]
    return found


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)


# -- the ordinary day


def test_it_is_ready_when_the_command_returns(studio: RunningServer, job: str, point: Path) -> None:
    studio.put_item(job, "dir/a.txt", b"hello")
    outcome = in_process("mount", job, point)
    assert outcome.ok() == f"{job} is mounted on {point} (kernel)\n"
    assert (point / "dir" / "a.txt").read_bytes() == b"hello"
    assert in_process("umount", point).ok() == f"{job} is no longer mounted on {point}\n"
    assert (list(point.iterdir()), mount_at(point)) == ([], None)


def test_umount_returns_when_everything_is_on_the_server_and_the_process_has_let_go(
    studio: RunningServer, job: str, point: Path
) -> None:
    in_process("mount", job, point).ok()
    for at in range(20):
        (point / f"{at}.txt").write_text(str(at))
    in_process("umount", point).ok()
    assert studio.contents(job) == {f"{at}.txt": str(at).encode() for at in range(20)}
    in_process("mount", job, point).ok()  # at once: neither the state nor the directory is held any more
    assert (point / "7.txt").read_text() == "7"


def test_the_portable_transport_serves_as_well(studio: RunningServer, job: str, point: Path) -> None:
    assert in_process("mount", job, point, "--transport", "fusepy").ok() == f"{job} is mounted on {point} (fusepy)\n"
    (point / "a.txt").write_text("written")
    in_process("umount", point).ok()
    assert studio.contents(job) == {"a.txt": b"written"}


def test_several_mounts_at_once(studio: RunningServer, point: Path, other_point: Path) -> None:
    jobs = [studio.create_job(), studio.create_job()]
    for job, place in zip(jobs, (point, other_point), strict=True):
        in_process("mount", job, place).ok()
        (place / "who").write_text(job)
    told = json.loads(in_process("status", "--json").ok())
    assert {(one["job"], one["directory"], one["isRunning"]) for one in told} == {
        (jobs[0], str(point), True),
        (jobs[1], str(other_point), True),
    }
    for place in (point, other_point):
        in_process("umount", place).ok()
    assert [studio.contents(job) for job in jobs] == [{"who": job.encode()} for job in jobs]


def test_status_tells_how_it_goes_and_afterwards_that_it_has_ended(
    studio: RunningServer, job: str, point: Path
) -> None:
    studio.put_item(job, "a.txt", b"12345")
    in_process("mount", job, point).ok()
    (point / "a.txt").read_bytes()
    told = status_of(point)
    assert {
        name: told[name] for name in ("kind", "job", "url", "transport", "jobStatus", "items", "files", "isRunning")
    } == {
        "kind": "mount",
        "job": job,
        "url": studio.url,
        "transport": "kernel",
        "jobStatus": "queued",
        "items": 1,
        "files": 1,
        "isRunning": True,
    }
    assert (told["cachedBytes"], told["pending"], told["problems"], told["conflicts"]) == (5, 0, [], [])
    assert f"{job}  mounted on {point}" in in_process("status").ok()
    inside = json.loads((point / ".jobfs" / "status.json").read_bytes())
    assert (inside["job"], inside["items"]) == (job, 1)
    in_process("umount", point).ok()
    assert in_process("status").ok() == f"{job}  ended; was mounted on {point}\n"


def test_refresh_shows_at_once_what_the_expert_wrote(studio: RunningServer, job: str, point: Path) -> None:
    studio.set_status(job, "completed")
    in_process("mount", job, point).ok()
    studio.expert_writes(job, "report.md", b"done")
    assert in_process("refresh", point).ok() == "1 item; the job is completed\n"
    assert (point / "report.md").read_bytes() == b"done"


def test_a_read_only_mount_refuses_changes(studio: RunningServer, job: str, point: Path) -> None:
    studio.put_item(job, "a.txt", b"1")
    in_process("mount", job, point, "--read-only").ok()
    with pytest.raises(OSError, match="Read-only file system"):
        (point / "b.txt").touch()


def test_a_run_is_mounted_read_only(studio: RunningServer, job: str, point: Path) -> None:
    studio.put_item(job, "out/a.txt", b"result")
    studio.set_status(job, "completed")
    in_process("mount", f"run:{job}", point).ok()
    assert (point / "out" / "a.txt").read_bytes() == b"result"
    with pytest.raises(OSError, match="Read-only file system"):
        (point / "b.txt").touch()


def test_ignored_names_stay_here(studio: RunningServer, job: str, point: Path) -> None:
    in_process("mount", job, point, "--ignore", "*.tmp").ok()
    (point / "a.tmp").write_text("here")
    (point / "a.txt").write_text("there")
    in_process("umount", point).ok()
    assert studio.contents(job) == {"a.txt": b"there"}


def test_conflict_copies_are_listed_while_it_runs_and_afterwards(studio: RunningServer, job: str, point: Path) -> None:
    copy = "a (conflict from here 2026-01-02 030405).txt"
    studio.put_item(job, copy, b"1")
    in_process("mount", job, point).ok()
    running = json.loads(in_process("conflicts", point, "--json").ok())
    in_process("umount", point).ok()
    step = f"jobfs resolve '{point}/{copy}' --keep local|remote|both"
    assert running == [{"directory": str(point), "job": job, "path": copy, "original": "a.txt", "next": step}]
    assert json.loads(in_process("conflicts", "--json").ok()) == running


def test_a_mount_shows_what_a_job_made_when_the_wait_for_the_job_returns(studio: RunningServer, point: Path) -> None:
    job = studio.create_job(hold=False)
    assert in_process("jobs", "wait", job).code == 0
    in_process("mount", job, point).ok()
    (point / "words.txt").write_text("one two three")
    in_process("push", point).ok()
    in_process("jobs", "continue", job, "--query", "Again", "--wait").ok()
    assert b"words.txt" in (point / "word-count.md").read_bytes()


def test_a_mount_shows_by_itself_what_a_job_writes_within_three_seconds(
    studio: RunningServer, requests: Requests, job: str, point: Path
) -> None:
    def is_shown() -> bool:
        in_process("push", point).ok()  # returns when the mount has dealt with what it was answered
        return (point / "report.md").exists()

    studio.set_status(job, "processing")
    in_process("mount", job, point).ok()
    studio.expert_writes(job, "report.md", b"written")
    written = time.monotonic()
    requests.wait_until(is_shown)
    assert time.monotonic() - written < 3.0
    assert (point / "report.md").read_bytes() == b"written"


# -- how it ends


def foreground(*words: object) -> subprocess.Popen[bytes]:
    running = subprocess.Popen(
        [*COMMAND, "mount", *map(str, words), "--foreground"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert running.stdout is not None
    assert b"is mounted on" in running.stdout.readline()
    return running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_drains_and_unmounts(studio: RunningServer, job: str, point: Path, number: signal.Signals) -> None:
    with foreground(job, point) as running:
        (point / "a.txt").write_text("last words")
        running.send_signal(number)
        _, err = running.communicate(timeout=DEADLINE_S)
    assert (running.returncode, mount_at(point), studio.contents(job)) == (0, None, {"a.txt": b"last words"})
    assert b"Traceback" not in err


def test_a_signal_to_the_background_process_drains_as_well(studio: RunningServer, job: str, point: Path) -> None:
    in_process("mount", job, point).ok()
    pid = status_of(point)["pid"]
    (point / "a.txt").write_text("last words")
    os.kill(pid, signal.SIGTERM)
    wait_for_end(pid)
    assert (mount_at(point), studio.contents(job)) == (None, {"a.txt": b"last words"})


def blocked_writes() -> Faults:
    return Faults((Fault("drop_before", method="POST", path="/items"),))


def test_a_second_ctrl_c_stops_at_once_names_what_is_left_and_keeps_it(
    studio: RunningServer, job: str, point: Path
) -> None:
    with foreground(job, point) as running:
        studio.faults = blocked_writes()
        try:
            (point / "a.txt").write_text("kept")
            running.send_signal(signal.SIGINT)
            assert running.stderr is not None
            assert any(b"sending 1 change" in line for line in running.stderr)
            running.send_signal(signal.SIGINT)
            _, err = running.communicate(timeout=DEADLINE_S)
        finally:
            studio.faults = Faults()
    assert (running.returncode, mount_at(point)) == (11, None)
    assert b"\n  a.txt: " in err
    assert in_process("push").ok() == "everything is sent\n"
    assert studio.contents(job) == {"a.txt": b"kept"}


def test_ctrl_c_while_umount_waits_says_that_the_sending_goes_on(studio: RunningServer, job: str, point: Path) -> None:
    in_process("mount", job, point).ok()
    pid = status_of(point)["pid"]
    studio.faults = blocked_writes()
    try:
        (point / "a.txt").write_text("on its way")
        with subprocess.Popen([*COMMAND, "umount", str(point)], stderr=subprocess.PIPE) as waiting:
            look_until(lambda: mount_at(point) is None)
            waiting.send_signal(signal.SIGINT)
            _, err = waiting.communicate(timeout=DEADLINE_S)
    finally:
        studio.faults = Faults()
    assert (waiting.returncode, b"it goes on sending" in err) == (130, True)
    wait_for_end(pid)
    assert studio.contents(job) == {"a.txt": b"on its way"}


def test_what_cannot_be_sent_in_time_is_named_kept_and_sent_by_the_next_mount(
    studio: RunningServer, job: str, point: Path
) -> None:
    in_process("mount", job, point, "--drain-timeout", "0.3").ok()
    studio.faults = blocked_writes()
    try:
        (point / "a.txt").write_text("kept")
        outcome = in_process("umount", point)
    finally:
        studio.faults = Faults()
    assert (outcome.code, "\n  a.txt: " in outcome.err) == (11, True)
    in_process("mount", job, point).ok()
    assert (point / "a.txt").read_text() == "kept"
    in_process("umount", point).ok()
    assert studio.contents(job) == {"a.txt": b"kept"}


def test_an_unmount_from_outside_drains(studio: RunningServer, job: str, point: Path) -> None:
    in_process("mount", job, point).ok()
    pid = status_of(point)["pid"]
    (point / "a.txt").write_text("last words")
    subprocess.run(["umount", point], check=True)
    wait_for_end(pid)
    assert studio.contents(job) == {"a.txt": b"last words"}


def test_umount_of_a_mount_in_use_is_refused_unless_forced(studio: RunningServer, job: str, point: Path) -> None:
    in_process("mount", job, point).ok()
    descriptor = os.open(point / "open.txt", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"unfinished")
    refused = in_process("umount", point)
    still = mount_at(point) is not None
    forced = in_process("umount", "--force", point)
    with pytest.raises(OSError, match="not connected"):  # what the program gets that still had it open
        os.close(descriptor)
    assert (refused.code, still, forced.code, mount_at(point)) == (6, True, 0, None)
    assert "programs still use" in refused.err
    assert studio.contents(job) == {"open.txt": b"unfinished"}


def test_a_killed_process_loses_nothing_that_was_closed(studio: RunningServer, job: str, point: Path) -> None:
    in_process("mount", job, point).ok()
    studio.faults = blocked_writes()
    try:
        (point / "a.txt").write_text("closed")
        kill(status_of(point)["pid"])
        assert status_of(point)["isRunning"] is False
    finally:
        studio.faults = Faults()
    assert in_process("umount", point).ok() == f"{point} is unmounted\n"
    assert in_process("push").ok() == "everything is sent\n"
    assert studio.contents(job) == {"a.txt": b"closed"}


def test_a_dead_mount_is_replaced_by_a_new_one(studio: RunningServer, job: str, point: Path) -> None:
    in_process("mount", job, point).ok()
    kill(status_of(point)["pid"])
    assert status_of(point)["isRunning"] is False
    in_process("mount", job, point).ok()
    assert list(point.iterdir()) == []


# -- what may be wrong


def test_the_same_job_cannot_be_mounted_twice_nor_one_place_be_used_twice(
    studio: RunningServer, job: str, point: Path, other_point: Path
) -> None:
    in_process("mount", job, point).ok()
    same_job = in_process("mount", job, other_point)
    same_place = in_process("mount", studio.create_job(), point)
    assert (same_job.code, same_place.code) == (6, 6)
    assert f"is already mounted on {point} by process {status_of(point)['pid']}\n" in same_job.err
    assert f"next: end that first: jobfs umount {point}\n" in same_job.err
    assert "already mounted on" in same_place.err
    assert (point / ".jobfs").is_dir()


def test_a_first_mount_looks_at_the_job_and_how_much_there_is_and_then_lists_once(
    studio: RunningServer, state_dir: Path, point: Path, requests: Requests
) -> None:
    job = studio.create_job(status="completed")
    for number in range(120):
        studio.put_item(job, f"{number}.txt", b"")
    before = len(requests)
    in_process("mount", job, point).ok()
    asked = [record.path.rpartition(f"/{job}")[2].strip("/") for record in requests[before:]]
    items = "workspace_instance/items"
    assert sorted(asked[:2]) == ["", items]
    assert asked[2:4] == [items] * 2
    assert asked.count(items) == 3
    assert len(list(point.glob("*.txt"))) == 120


def test_nothing_is_asked_while_another_process_has_the_state(
    studio: RunningServer, job: str, state_dir: Path, point: Path, requests: Requests
) -> None:
    directory = mount_state(state_dir, studio.url, job)
    directory.mkdir(parents=True)
    lock = DirectoryLock.take(directory)
    before = len(requests)
    assert in_process("mount", job, point).code == 6
    assert requests[before:] == []
    lock.release()
    in_process("mount", job, point).ok()


def test_a_wrong_key_or_job_mounts_nothing(
    studio: RunningServer, job: str, point: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = in_process("mount", "a" * 24, point)
    monkeypatch.setenv("JOBFS_API_KEY", "jobfs_k_wrong")
    wrong = in_process("mount", job, point)
    assert (unknown.code, wrong.code, mount_at(point)) == (4, 3, None)


def test_a_wrong_key_is_noticed_also_where_the_tree_is_known(
    studio: RunningServer, job: str, point: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_process("mount", job, point).ok()
    in_process("umount", point).ok()
    monkeypatch.setenv("JOBFS_API_KEY", "jobfs_k_wrong")
    assert (in_process("mount", job, point).code, mount_at(point)) == (3, None)


def test_without_the_server_a_known_workspace_is_shown_and_takes_changes(
    server: RunningServer, state_dir: Path, point: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "server"
    with RunningServer(folder) as first:
        port = int(first.url.rpartition(":")[2])
        monkeypatch.setenv("JOBFS_URL", first.url)
        monkeypatch.setenv("JOBFS_API_KEY", first.api_key)
        job = first.create_job()
        first.put_item(job, "a.txt", b"known")
        in_process("mount", job, point).ok()
        assert (point / "a.txt").read_bytes() == b"known"
        in_process("umount", point).ok()
    offline = in_process("mount", job, point, "--drain-timeout", "0.2")
    assert (offline.code, "changes are sent later" in offline.err) == (0, True)
    assert (point / "a.txt").read_bytes() == b"known"
    (point / "b.txt").write_text("written offline")
    assert in_process("umount", point).code == 11
    with RunningServer(folder, port=port) as second:
        assert in_process("push").ok() == "everything is sent\n"
        assert second.contents(job) == {"a.txt": b"known", "b.txt": b"written offline"}


def test_a_damaged_state_is_told_and_set_aside_with_its_unsent_files(
    studio: RunningServer, job: str, point: Path, state_dir: Path
) -> None:
    in_process("mount", job, point, "--drain-timeout", "0.2").ok()
    studio.faults = blocked_writes()
    try:
        (point / "dir").mkdir()
        (point / "dir" / "precious.txt").write_text("unsent")
        in_process("umount", point)
    finally:
        studio.faults = Faults()
    (database,) = (state_dir / "workspaces").glob("*/state.db")
    damage(database)
    mounted = in_process("mount", job, point)
    assert (mounted.code, "jobfs fsck" in mounted.err, mount_at(point)) == (7, True, None)
    assert in_process("fsck").code == 7
    (report,) = json.loads(in_process("fsck", "--repair", "--json").ok())
    (saved,) = report["saved"]
    assert (report["verdict"], Path(saved).read_text()) == ("set aside", "unsent")
    assert saved.endswith("unsent/dir/precious.txt")
    in_process("mount", job, point).ok()


def damage(database: Path) -> None:
    """Overwrite the first page of one table; the other tables can still be read."""
    connection = sqlite3.connect(database)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'base'").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


def test_a_sound_state_is_told_to_be_sound(studio: RunningServer, job: str, point: Path) -> None:
    in_process("mount", job, point).ok()
    assert in_process("fsck").ok() == f"{job} at {point}: in use\n"
    in_process("umount", point).ok()
    assert in_process("fsck").ok() == f"{job} at {point}: sound\n"


def test_the_key_is_in_no_argument_environment_log_or_state_file(
    studio: RunningServer, job: str, point: Path, state_dir: Path
) -> None:
    studio.put_item(job, "a.txt", b"1")
    outcome = in_process("mount", job, point)
    (point / "b.txt").write_text("2")
    pid = status_of(point)["pid"]
    process = [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    status = in_process("status", "--json").ok()
    ended = in_process("umount", point)
    files = [path.read_bytes() for path in state_dir.rglob("*") if path.is_file()]
    said = (outcome.out + outcome.err + ended.out + ended.err + status).encode()
    assert len(files) > 3
    assert [text for text in (*process, *files, said) if studio.api_key.encode() in text] == []


def test_a_start_that_is_interrupted_leaves_nothing(studio: RunningServer, job: str, point: Path) -> None:
    studio.faults = alarmed = AlarmedFaults((Fault("latency", path="/items", delay_s=60),))
    try:
        with subprocess.Popen(
            [*COMMAND, "mount", job, str(point)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as starting:
            assert alarmed.has_struck.wait(DEADLINE_S)
            starting.send_signal(signal.SIGINT)
            _, err = starting.communicate(timeout=DEADLINE_S)
    finally:
        studio.faults = Faults()
    assert (starting.returncode, mount_at(point)) == (130, None)
    assert b"Traceback" not in err
    in_process("mount", job, point).ok()
