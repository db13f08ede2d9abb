"""Room that is kept back: for the end of a mount on a full disk, and whatever a crash left of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from small_disk import MIB, MountedDisk, can_mount, mounted_disk

from jobfs.store.database import log_pages
from jobfs.store.reserve import RESERVE_BYTES
from jobfs.store.state import State
from jobfs.workspace.control import Address
from jobfs.workspace.instance import MOUNT, Instance, read_instance


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[MountedDisk]:
    with mounted_disk(tmp_path / "disk") as real:
        yield real


def reserve_of(directory: Path) -> int:
    return (directory / "reserve").stat().st_size


@pytest.mark.skipif(not can_mount(), reason="no file system can be mounted here")
@pytest.mark.parametrize("has_reserve", [True, False])
def test_the_end_is_recorded_on_a_disk_without_any_room(disk: MountedDisk, has_reserve: bool) -> None:
    """So that nobody is told that its process died."""
    with closing(State.open(disk.directory)) as state:
        address = Address("/run/socket", token="secret")
        began = Instance(disk.directory, MOUNT, "/mnt", "http://127.0.0.1:1", "job", "kernel", 12345, 0.0, address)
        began.write()
        if not has_reserve:
            state.reserve.give_up()
        disk.fill(None)
        began.write_ended(unsent=3)
        found = read_instance(disk.directory)
        assert found is not None
        assert (found.unsent, found.pid, found.is_broken_off) == (3, 0, False)
        assert reserve_of(disk.directory) == (RESERVE_BYTES if has_reserve else 0)
        disk.free(None)


@pytest.mark.parametrize("left", [None, 0, 5000])
def test_a_reserve_that_a_crash_left_missing_or_short_is_made_whole_at_the_next_start(
    tmp_path: Path, left: int | None
) -> None:
    State.open(tmp_path).close()
    if left is None:
        (tmp_path / "reserve").unlink()
    else:
        os.truncate(tmp_path / "reserve", left)
    State.open(tmp_path).close()
    assert reserve_of(tmp_path) == RESERVE_BYTES


@pytest.mark.parametrize(("disk_bytes", "pages"), [(4 * MIB, 64), (64 * MIB, 1024), (1 << 40, 4000)])
def test_the_log_of_a_small_disk_stays_a_small_part_of_it(disk_bytes: int, pages: int) -> None:
    assert log_pages(disk_bytes) == pages
