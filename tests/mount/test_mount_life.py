"""Mounting and unmounting: as root and as another user, from inside and outside, after a crash, over a busy place."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from talking_daemon import TalkingDaemon

import jobfs
from jobfs.errors import MountPointBusy
from jobfs.fuse import mounting
from jobfs.fuse.options import MountOptions

pytestmark = pytest.mark.mount

Live = Any  # see conftest

DAEMON = Path(__file__).parent / "daemon.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(jobfs.__file__).parents[1])}
NOBODY = 65534


@pytest.fixture
def point(tmp_path: Path) -> Iterator[Path]:
    """A mount point that is free again afterwards."""
    place = tmp_path / "mnt"
    place.mkdir()
    yield place
    while mounting.mount_at(place) is not None:
        mounting.detach(place, lazy=True)


@pytest.fixture
def daemon(tmp_path: Path, point: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a mount in a process of its own, and return when it serves."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, state: Path | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, DAEMON, state or tmp_path / "state", point, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def test_the_mount_table_shows_name_and_type(live: Live) -> None:
    mounted = mounting.mount_at(live.path)
    assert mounted is not None
    assert (mounted.source, mounted.file_system) == ("jobfs#test", "fuse.jobfs")


def test_an_unmount_from_outside_ends_the_transport(live: Live) -> None:
    (live.path / "a").write_bytes(b"x")
    subprocess.run(["umount", live.path], check=True)
    live.call(live.transport.wait_unmounted)
    assert mounting.mount_at(live.path) is None


def test_fusermount_ends_the_transport(live: Live) -> None:
    subprocess.run(["fusermount3", "-u", live.path], check=True)
    live.call(live.transport.wait_unmounted)
    assert mounting.mount_at(live.path) is None


def test_a_busy_mount_is_kept_when_asked_politely_and_taken_away_otherwise(serving: Callable) -> None:
    live = serving("kernel")
    (live.path / "a").write_bytes(b"x")
    with (live.path / "a").open("rb", buffering=0) as reader:
        with pytest.raises(MountPointBusy):
            live.call(lambda: live.transport.unmount(lazy=False))
        assert reader.read() == b"x"
        live.call(live.transport.unmount)
        assert mounting.mount_at(live.path) is None
        with pytest.raises(OSError, match=r".") as failure:
            os.fstat(reader.fileno())
        assert failure.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)


def test_open_files_are_saved_when_the_mount_is_taken_away(serving: Callable) -> None:
    live = serving("kernel")
    descriptor = os.open(live.path / "a", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"written, not closed")
    live.call(live.transport.unmount)
    with pytest.raises(OSError, match=r"."):
        os.close(descriptor)
    assert live.do(lambda: len(live.vfs.table.handles)) == 0
    live.settle()
    assert live.do(live.remote.tree) == {"a": b"written, not closed"}


def test_a_read_only_mount_is_erofs_for_every_change(serving: Callable, transport: str) -> None:
    live = serving(transport, mount_options=MountOptions("jobfs#test", read_only=True))
    with pytest.raises(OSError, match=r".") as failure:
        (live.path / "a").write_bytes(b"x")
    assert failure.value.errno == errno.EROFS


def test_a_name_with_commas_spaces_and_backslashes_stays_one_name(serving: Callable) -> None:
    name = "jobfs#a,b c\\d"
    live = serving("kernel", mount_options=MountOptions(name))
    mounted = mounting.mount_at(live.path)
    assert mounted is not None
    assert mounted.source == name


def test_a_killed_daemon_leaves_an_error_and_no_empty_folder_and_is_recovered_by_the_next_mount(
    daemon: Callable[..., subprocess.Popen[bytes]], point: Path
) -> None:
    first = daemon()
    assert (point / "hello").read_bytes() == b"hello from the server"
    (point / "mine").write_bytes(b"closed before the crash")
    os.stat(point)  # the kernel goes on giving these attributes after the daemon's death
    first.kill()
    first.wait(10)
    for action in (lambda: os.listdir(point), lambda: (point / "hello").read_bytes(), lambda: os.statvfs(point)):
        with pytest.raises(OSError, match=r".") as failure:
            action()
        assert failure.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    assert mounting.is_dead(point)
    daemon()
    assert (point / "mine").read_bytes() == b"closed before the crash"


def test_what_the_kernel_knows_of_a_mount_whose_daemon_died_is_all_or_an_error(
    daemon: Callable[..., subprocess.Popen[bytes]], point: Path
) -> None:
    process = daemon()
    (point / "d").mkdir()
    (point / "d" / "file").write_bytes(b"bytes")
    known = {path: sorted(os.listdir(path)) for path in (point, point / "d") for _ in range(3)}
    process.kill()
    process.wait(10)
    for path, names in known.items():
        with suppress(OSError):
            assert sorted(os.listdir(path)) == names
    with pytest.raises(OSError, match="not connected"):
        (point / "d" / "file").read_bytes()
    with pytest.raises(OSError, match="not connected"):
        (point / "d" / "new").mkdir()


def test_a_daemon_killed_during_a_read_leaves_no_program_waiting(
    daemon: Callable[..., subprocess.Popen[bytes]], point: Path
) -> None:
    process = daemon()
    process.send_signal(signal.SIGSTOP)
    reader = subprocess.Popen(["cat", point / "silent"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    process.kill()
    assert reader.wait(10) == 1
    assert reader.stderr is not None
    reader.stderr.close()


@pytest.fixture
def open_device() -> Iterator[None]:
    """Give ``/dev/fuse`` the mode that distributions give it, where this machine has a stricter one."""
    mode = stat.S_IMODE(mounting.DEVICE.stat().st_mode)
    if mode != 0o666:
        mounting.DEVICE.chmod(0o666)
    yield
    if mode != 0o666:
        mounting.DEVICE.chmod(mode)


@pytest.fixture
def others_place() -> Iterator[Path]:
    """A folder of the user nobody, in a place that he can reach, with a mount point in it."""
    place = Path(tempfile.mkdtemp(prefix="jobfs-nobody-", dir="/tmp"))
    (place / "mnt").mkdir()
    for directory in (place, place / "mnt"):
        os.chown(directory, NOBODY, NOBODY)
    yield place
    if mounting.mount_at(place / "mnt") is not None:
        mounting.detach(place / "mnt", lazy=True)
    shutil.rmtree(place)


def as_nobody(*command: str | Path) -> bytes:
    return subprocess.check_output(command, user=NOBODY, group=NOBODY, extra_groups=[])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user; as that one, all other tests ran")
@pytest.mark.usefixtures("open_device")
def test_an_ordinary_user_mounts_and_unmounts_through_fusermount(transport: str, others_place: Path) -> None:
    point = others_place / "mnt"
    command = [sys.executable, DAEMON, others_place / "state", point, str(NOBODY), transport]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        mounted = mounting.mount_at(point)
        assert mounted is not None
        assert (mounted.source, mounted.file_system) == ("jobfs#daemon", "fuse.jobfs")
        assert as_nobody("cat", point / "hello") == b"hello from the server"
        as_nobody("cp", point / "hello", point / "copy")
        assert as_nobody("stat", "-c", "%u %g %s", point / "copy") == b"65534 65534 21\n"
        with pytest.raises(PermissionError):
            os.listdir(point)  # not even root may look into another user's mount
        as_nobody("fusermount3", "-u", point)
        assert process.stdout.readline() == b"ended\n"
        assert process.wait(10) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user; as that one, all other tests ran")
@pytest.mark.usefixtures("open_device")
def test_an_ordinary_user_is_woken_in_a_mount_of_his_own(others_place: Path) -> None:
    with TalkingDaemon(others_place, user=NOBODY) as mount:
        mount.tell("watch .")
        mount.hear("watching")
        mount.tell("put new here")
        mount.hear("CREATE new")
        mount.hear("CLOSE_WRITE new")
        mount.tell("watch perstack")
        mount.hear("watching")
        mount.tell("put perstack/setting here")
        mount.hear("MODIFY setting")  # he may not create anything there, so that cannot be told as a creation


def refused(point: Path) -> MountPointBusy:
    with pytest.raises(MountPointBusy) as refusal:
        asyncio.run(asyncio.to_thread(mounting.make_room, point))
    return refusal.value


def test_places_that_cannot_be_mounted_on_are_named_with_the_next_step(point: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (point / "inside").write_bytes(b"")
    assert refused(tmp_path / "absent").cause == f"there is no directory {tmp_path / 'absent'}"
    assert refused(tmp_path / "file").cause == f"{tmp_path / 'file'} is not a directory"
    assert refused(point).cause == f"{point} is not empty"
    assert refused(Path("/proc")).cause.startswith("/proc is where ")
    assert "umount" not in refused(Path("/proc")).remedy


def test_a_second_mount_at_the_same_place_is_refused_and_the_first_goes_on(serving: Callable) -> None:
    live = serving("kernel")
    assert refused(live.path).cause == f"jobfs#test is already mounted on {live.path}"
    (live.path / "a").write_bytes(b"x")


def test_a_place_is_spelt_as_the_mount_table_does(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert mounting.real_place(tmp_path / "link" / "mnt") == tmp_path / "real" / "mnt"
