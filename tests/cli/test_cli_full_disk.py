"""Commands whose state lies on a disk without any room: what still works, and what those that need room say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import in_process
from small_disk import MountedDisk, can_mount, mounted_disk

from jobfs.errors import StateFull
from jobfs.server.running import RunningServer

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(not can_mount(), reason="no file system can be mounted here"),
]


@pytest.fixture
def disk(studio: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MountedDisk]:
    """A small disk with the state folder on it."""
    with mounted_disk(tmp_path / "disk") as real:
        monkeypatch.setenv("JOBFS_STATE_DIR", str(real.directory))
        yield real


def test_a_workspace_is_mounted_again_on_a_disk_without_any_room(
    studio: RunningServer, job: str, disk: MountedDisk, mount_point: Path
) -> None:
    studio.put_item(job, "here", os.urandom(200_000))
    studio.put_item(job, "there", b"never read before")
    in_process("mount", job, mount_point).ok()
    (mount_point / "here").read_bytes()
    in_process("umount", mount_point).ok()
    disk.fill(None)
    in_process("mount", job, mount_point).ok()
    assert (mount_point / "here").read_bytes() == studio.contents(job)["here"]
    assert (mount_point / "there").read_bytes() == b"never read before"
    in_process("status", mount_point).ok()
    in_process("umount", mount_point).ok()
    disk.fill(None)
    assert "sound" in in_process("fsck").ok()


def test_a_folder_is_kept_in_step_again_with_its_state_on_a_disk_without_any_room(
    studio: RunningServer, job: str, disk: MountedDisk, tmp_path: Path
) -> None:
    in_process("sync", job, tmp_path / "folder", "--once").ok()
    (tmp_path / "folder" / "new").write_bytes(b"from here")
    studio.put_item(job, "newer", b"from there")
    disk.fill(None)
    in_process("sync", job, tmp_path / "folder", "--once").ok()
    assert studio.contents(job) == {"new": b"from here", "newer": b"from there"}
    assert (tmp_path / "folder" / "newer").read_bytes() == b"from there"


def test_a_first_mount_says_on_which_disk_it_needs_room(
    studio: RunningServer, job: str, disk: MountedDisk, mount_point: Path
) -> None:
    disk.directory.mkdir()
    disk.fill(None)
    outcome = in_process("mount", job, mount_point)
    assert outcome.code == StateFull.exit_code
    assert str(disk.directory) in outcome.err
    assert "next: free" in outcome.err
    disk.free(None)
    in_process("mount", job, mount_point).ok()
