"""Nothing hangs, whatever the server does: mounts by the command line, with a server that no longer serves.

Each transport is mounted once, in a network of its own (``network_room``) on a server of its own, behind a relay that
can misbehave. Each way of failing then has a directory of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from awaiting import wait_for_end
from commands import Outcome, in_process
from failing_relay import FailingRelay, Manner
from network_room import NetworkRoom, can_be_made
from process_states import StateWatch, state_of
from studio_process import StudioProcess

from jobfs.fuse.mounting import detach, is_dead, mount_at

pytestmark = [pytest.mark.mount, pytest.mark.slow]

T = TypeVar("T")

PROGRAM = Path(__file__).parents[1] / "support" / "timed_operations.py"
COLD = b"from the server " * 10_000
TIMEOUT_S = 1
LONGEST_WAIT_S = 1 + 2 * TIMEOUT_S + 1
"""Opening waits for a second, the download's beginning is a sign of life; and a second for a busy machine."""
AT_ONCE_S = 1.0
LOOK_S = 0.1
MANNERS = {"dripping": Manner.DRIPPING, "resetting": Manner.RESETTING, "answering garbage": Manner.GARBAGE}
needs_room = pytest.mark.skipif(not can_be_made(), reason="only root can drop packets, in a network of his own")


class Rig:
    """A mount by one transport on a server that can be made to fail."""

    def __init__(self, transport: str, folder: Path, room: NetworkRoom | None) -> None:
        self.transport = transport
        self._room = room
        self.point = folder / "mnt"
        self.point.mkdir()
        self.server = StudioProcess(folder / "studio")
        self.relay: FailingRelay
        self.job = ""

    def inside(self, work: Callable[[], T]) -> T:
        """Do something in the rig's network."""
        return work() if self._room is None else self._room.call(work)

    def command(self, *words: object) -> Outcome:
        return self.inside(lambda: in_process(*words))

    def mount(self) -> None:
        words = ("--transport", self.transport, "--timeout", TIMEOUT_S, "--drain-timeout", 1, "--prefetch", "none")
        self.command("mount", self.job, self.point, *words).ok()

    def arrange(self, name: str) -> Path:
        """Make a directory for ``timed_operations``, and return it as the mount shows it."""
        with closing(self.server.client(self.job)) as client:

            def put() -> None:
                client.put(name, None)
                client.put(f"{name}/warm", b"warm")
                for number in range(1, 7):
                    client.put(f"{name}/cold-{number}", COLD)

            self.inside(put)
        self.command("refresh", self.point).ok()
        assert (self.point / name / "warm").read_bytes() == b"warm"
        return self.point / name

    @contextmanager
    def failing(self, how: str) -> Iterator[None]:
        """Have the server fail in some way while the context lasts."""
        if how == "blackholed":
            assert self._room is not None
            start, end = self._room.drop_packets, self._room.pass_packets
        elif how == "stopped":
            start, end = (lambda: self.server.signal(signal.SIGSTOP)), (lambda: self.server.signal(signal.SIGCONT))
        else:
            start, end = (lambda: self.relay.behave(MANNERS[how])), (lambda: self.relay.behave(Manner.WELL))
        start()
        try:
            yield
        finally:
            end()

    def contents(self, name: str) -> dict[str, bytes | None]:
        """Return what the server has in a directory."""
        found = self.inside(lambda: self.server.contents(self.job))
        return {path.removeprefix(f"{name}/"): data for path, data in found.items() if path.startswith(f"{name}/")}

    def pid(self) -> int:
        (told,) = json.loads(self.command("status", "--json").ok())
        return int(told["pid"])


@pytest.fixture(scope="module", params=["kernel", "fusepy"])
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("rig")
    with ExitStack() as stack:
        room = stack.enter_context(NetworkRoom() if can_be_made() else nullcontext())
        made = Rig(str(request.param), folder, room)
        made.inside(made.server.start)
        stack.callback(made.server.kill)
        made.relay = made.inside(lambda: FailingRelay(made.server.port).start())
        stack.callback(made.relay.stop)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("JOBFS_CONFIG_DIR", str(folder / "config"))
        patch.setenv("JOBFS_STATE_DIR", str(folder / "state"))
        patch.setenv("JOBFS_API_KEY", made.server.api_key)
        patch.setenv("JOBFS_URL", made.relay.url)
        made.job = made.inside(made.server.create_job)
        stack.callback(_take_away, made)
        made.mount()
        yield made


def _take_away(rig: Rig) -> None:
    rig.command("umount", "--force", rig.point)
    if mount_at(rig.point) is not None:
        detach(rig.point, lazy=True)


def operate(place: Path) -> tuple[dict[str, Any], float]:
    """Run ``timed_operations``; return its times, and how long it was in state D at the longest."""
    program = subprocess.Popen([sys.executable, PROGRAM, place], stdout=subprocess.PIPE)
    with program, StateWatch(program.pid) as watch:
        told, _ = program.communicate(timeout=60)
    return json.loads(told), watch.longest_s


def waiting(*words: object) -> subprocess.Popen[bytes]:
    """Start a program and return when it waits."""
    program = subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process = Path(f"/proc/{program.pid}")
    until = time.monotonic() + 10
    while (process / "comm").read_text().strip() != words[0] or state_of(process) not in ("S", "D"):
        assert time.monotonic() < until
        os.sched_yield()
    return program


def appending(path: Path) -> subprocess.Popen[bytes]:
    """Start a program that appends to a file, and return when it waits."""
    return waiting("dd", "if=/proc/version", f"of={path}", "oflag=append", "conv=notrunc", "status=none")


WAYS = [pytest.param("blackholed", marks=needs_room), "stopped", *MANNERS]


@pytest.mark.parametrize("how", WAYS)
def test_every_operation_returns_whatever_the_server_does_and_nothing_is_lost(rig: Rig, how: str) -> None:
    place = rig.arrange(how)
    with rig.failing(how):
        times, longest_sleep_s = operate(place)
        failed = {name: error for name, (_, error) in times.items() if error}
        assert set(failed) <= {"read cold", "append cold", "cut cold"}, times
        assert set(failed.values()) <= {"ETIMEDOUT", "EIO"}, times
        looks = ("stat", "ls", "df", "absent")
        slow = {name: took for name, (took, _) in times.items() if name.split()[0] in looks and took > LOOK_S}
        assert slow == {}
        assert [name for name, (took, _) in times.items() if took > LONGEST_WAIT_S] == [], times
        assert longest_sleep_s < TIMEOUT_S / 2
    rig.command("push", rig.point).ok()
    assert rig.contents(how) == {
        **dict.fromkeys(("new", "warm"), b"saved"),
        **dict.fromkeys(("cold-1", "cold-6", "made/renamed"), COLD),
        "made": None,
        "cold-2": COLD if failed.get("append cold") else COLD + b" and more",
        "cold-3": COLD if failed.get("cut cold") else COLD[:10],
    }
    assert [entry.name for entry in os.scandir(place) if "conflict" in entry.name] == []


@pytest.mark.parametrize("how", WAYS[:3])
def test_ctrl_c_ends_a_program_that_waits_for_the_server_at_once(rig: Rig, how: str) -> None:
    place = rig.arrange(f"interrupted, {how}")
    with rig.failing(how), waiting("cat", place / "cold-1") as cat:
        began = time.monotonic()
        cat.send_signal(signal.SIGINT)
        assert cat.wait(10) == -signal.SIGINT
        assert time.monotonic() - began < AT_ONCE_S
    assert (place / "cold-1").read_bytes() == COLD


def test_a_mount_in_use_is_taken_away_by_force_with_the_server_stopped(rig: Rig) -> None:
    place = rig.arrange("forced")
    with rig.failing("stopped"):
        descriptor = os.open(place / "new", os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"unfinished")
        with waiting("cat", place / "cold-1") as cat:
            began = time.monotonic()
            assert rig.command("umount", rig.point).code == 6
            assert rig.command("umount", "--force", rig.point).code == 11
            assert cat.wait(10) == 1
            assert time.monotonic() - began < 10
        with pytest.raises(OSError, match="not connected"):
            os.close(descriptor)
        assert mount_at(rig.point) is None
    rig.mount()
    rig.command("push", rig.point).ok()
    assert rig.contents("forced")["new"] == b"unfinished"


@pytest.mark.parametrize("rig", ["kernel"], indirect=True)
def test_programs_that_wait_for_one_file_all_wait_in_a_sleep_that_signals_end(rig: Rig) -> None:
    place = rig.arrange("together")
    with rig.failing("stopped"), ExitStack() as stack:
        programs = [stack.enter_context(waiting("cat", place / "cold-1")) for _ in range(3)]
        watches = [stack.enter_context(StateWatch(program.pid)) for program in programs]
        assert [program.wait(10) for program in programs] == [1, 1, 1]
    assert max(watch.longest_s for watch in watches) < TIMEOUT_S / 2


@pytest.mark.parametrize("how", WAYS[:3])
def test_programs_that_want_to_write_to_one_unread_file_wait_in_a_sleep_that_signals_end(rig: Rig, how: str) -> None:
    place = rig.arrange(f"written together, {how}")
    with rig.failing(how), ExitStack() as stack:
        programs = [stack.enter_context(appending(place / "cold-1")) for _ in range(3)]
        watches = [stack.enter_context(StateWatch(program.pid)) for program in programs]
        assert [program.wait(10) for program in programs] == [1, 1, 1]
    assert max(watch.longest_s for watch in watches) < TIMEOUT_S / 2
    assert (place / "cold-1").read_bytes() == COLD


def test_however_many_programs_wait_for_the_server_the_others_are_answered_at_once(rig: Rig) -> None:
    place = rig.arrange("crowded")
    with rig.failing("stopped"), ExitStack() as stack:
        crowd = [stack.enter_context(waiting("cat", place / f"cold-{1 + number % 6}")) for number in range(24)]
        began = time.monotonic()
        assert len(os.listdir(place)) == 7
        assert (place / "warm").read_bytes() == b"warm"
        took_s = time.monotonic() - began
        assert all(program.poll() is None for program in crowd)
        assert took_s < AT_ONCE_S


def test_moving_an_unread_file_to_where_names_are_local_keeps_nobody_from_its_directory(rig: Rig) -> None:
    place = rig.arrange("moved")
    (place / ".git").mkdir()
    with rig.failing("stopped"), waiting("mv", place / "cold-1", place / ".git") as mover:
        deadline = time.monotonic() + LONGEST_WAIT_S
        while mover.poll() is None:
            began = time.monotonic()
            assert "cold-2" in os.listdir(place)
            assert time.monotonic() - began < AT_ONCE_S + 0.5
            assert time.monotonic() < deadline
        assert mover.returncode == 1
    assert (place / "cold-1").read_bytes() == COLD
    subprocess.run(["mv", place / "cold-1", place / ".git"], check=True)
    assert (place / ".git" / "cold-1").read_bytes() == COLD


def test_umount_ends_while_the_server_is_stopped_and_the_next_mount_sends_what_was_left(rig: Rig) -> None:
    place = rig.arrange("unmounted")
    with rig.failing("stopped"):
        (place / "new").write_bytes(b"saved")
        began = time.monotonic()
        ended = rig.command("umount", rig.point)
        assert (ended.code, mount_at(rig.point)) == (11, None)
        assert "\n  unmounted/new: " in ended.err
        rig.mount()
        assert time.monotonic() - began < 15
        assert (place / "new").read_bytes() == b"saved"
    rig.command("push", rig.point).ok()
    assert rig.contents("unmounted")["new"] == b"saved"


@pytest.mark.parametrize("rig", ["kernel"], indirect=True)
def test_a_daemon_that_does_not_answer_is_ended_by_force_only(rig: Rig) -> None:
    place = rig.arrange("silenced")
    (place / "new").write_bytes(b"closed")
    pid = rig.pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        refused = rig.command("umount", rig.point)
        assert (refused.code, mount_at(rig.point) is not None) == (10, True)
        assert f"process {pid} does not answer" in refused.err
        rig.command("umount", "--force", rig.point).ok()
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert mount_at(rig.point) is None
    rig.mount()
    rig.command("push", rig.point).ok()
    assert rig.contents("silenced")["new"] == b"closed"


def test_a_killed_daemon_leaves_no_program_waiting_and_an_error_until_it_is_mounted_again(rig: Rig) -> None:
    place = rig.arrange("killed")
    (place / "new").write_bytes(b"closed")
    pid = rig.pid()
    with (
        rig.failing("stopped"),
        subprocess.Popen([sys.executable, PROGRAM, place], stdout=subprocess.PIPE) as program,
        waiting("cat", place / "cold-6") as cat,
    ):
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        told, _ = program.communicate(timeout=30)
        assert cat.wait(10) == 1
        wait_for_end(pid)
        assert time.monotonic() - began < 10
        times = json.loads(told)
        assert times["read cold"][1] in ("ENOTCONN", "ECONNABORTED"), times
    for action in ((place / "cold-6").read_bytes, (rig.point / "made").mkdir, lambda: os.statvfs(rig.point)):
        with pytest.raises(OSError, match="not connected"):
            action()
    assert is_dead(rig.point)
    rig.mount()
    assert (place / "new").read_bytes() in (b"closed", b"saved")
    assert (place / "cold-6").read_bytes() == COLD
    rig.command("push", rig.point).ok()
    assert rig.contents("killed")["new"] == (place / "new").read_bytes()
