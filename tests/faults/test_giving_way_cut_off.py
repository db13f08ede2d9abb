"""kill -9 while copies give way on a full disk, and while a state is opened there: at every call for the disk."""

from __future__ import annotations

import errno
import os
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from engine_harness import Mounted, mounted, run
from model_remote import ModelRemote, refuse_changes
from power_cut import CachedDisk, told_wrong
from small_disk import can_mount, mounted_disk

from jobfs.model import ROOT
from jobfs.store.repair import decide
from jobfs.store.reserve import RESERVE_BYTES
from jobfs.store.state import State
from jobfs.store.stock import read_stock

pytestmark = pytest.mark.allow_log("the local store failed")

COPIES = 18
"""More than give way in one commit."""

MINE = {"dirty": b"not sent yet", "ignored.swp": b"only here", "open": b"open and dirty"}


def a_remote() -> ModelRemote:
    remote = ModelRemote()
    for number in range(COPIES):
        remote.put(f"clean-{number}", bytes([number]) * (5_000 + number))
    remote.before = refuse_changes
    return remote


async def prepared(mount: Mounted) -> None:
    """Have copies here that can give way, and files that cannot."""
    for number in range(COPIES):
        await mount.read(f"clean-{number}")
    for name, data in MINE.items():
        await mount.write(name, data)


class Seen:
    """The calls of which one after another was seen; of many alike a few are looked at."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def is_new(self, call: str) -> bool:
        """Note a call, and tell whether what is there before it is worth a look."""
        self.calls[call] += 1
        return call not in ("SELECT", "stat") and self.calls[call] in (1, 2, 3, COPIES)


def check(found: AbstractContextManager[State]) -> None:
    """Make sure that a session which begins on what was left misses nothing, and keeps room back again."""
    with found as state:
        assert (state.check(), told_wrong(state)) == ([], [])
        blobs = {node.name: node.blob for node in state.local.entries() if node.blob is not None}
        assert {name: state.blobs.path(blobs[name]).read_bytes() for name in MINE} == MINE
        assert len(list((state.directory / "blobs").glob("*/*"))) == len(blobs)
        assert (state.directory / "reserve").stat().st_size == RESERVE_BYTES
        stock = read_stock(state.directory)
        assert decide(stock, lambda name, is_taken, *, is_directory: name, now_ns=1).findings == []


@pytest.mark.parametrize(
    ("call", "ending"), [("pwrite", "death"), ("pwrite", "power cut"), ("COMMIT", "death")], ids=str
)
def test_copies_that_give_way_to_a_write_may_be_cut_off_at_every_call(tmp_path: Path, call: str, ending: str) -> None:
    async def scenario() -> None:
        disk, seen = CachedDisk(tmp_path), Seen()

        def cut(about_to: str) -> None:
            if seen.is_new(about_to):
                check(disk.after_death() if ending == "death" else disk.after_power_cut())

        async with mounted(tmp_path, a_remote(), disk=disk) as mount:
            await prepared(mount)
            with mount.session.state.transaction(durable=True):
                """What was closed before is not the subject here: it is on the disk."""
            disk.on_call = cut
            with disk.failing(call, number=errno.ENOSPC, times=1):
                _, handle = mount.vfs.create(ROOT, "new.swp", mode=0o644, flags=os.O_WRONLY)
                await mount.vfs.write(handle, b"x", 0)
            disk.on_call = lambda about_to: None
            mount.vfs.release(handle)
            here = {node.name for node in mount.session.state.local.entries() if node.blob is not None}
            assert here == {*MINE, "new.swp"}
            assert seen.calls["unlink"] >= COPIES
            assert {"ftruncate", "open", "COMMIT", "write"} <= seen.calls.keys()

    run(scenario())


@pytest.mark.skipif(not can_mount(), reason="no file system can be mounted here")
def test_an_opening_on_a_full_disk_may_be_cut_off_at_every_call(tmp_path: Path) -> None:
    async def closed(directory: Path) -> None:
        async with mounted(directory, a_remote()) as mount:
            await prepared(mount)

    with mounted_disk(tmp_path / "disk") as small:
        run(closed(small.directory))
        small.fill(None)
        disk, seen = CachedDisk(small.directory), Seen()

        def cut(about_to: str) -> None:
            if seen.is_new(about_to):
                check(disk.after_death())

        disk.on_call = cut
        state = State.open(small.directory, connect=disk.connect, system=disk)
        disk.on_call = lambda about_to: None
        state.close()
        assert {"ftruncate", "write", "INSERT"} <= seen.calls.keys()
