"""Wake-ups without a kernel: of a connection whose mount is a plain directory, nobody is ever sent on an errand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from engine_harness import mounted, run
from model_remote import ModelRemote

from jobfs.fuse.connection import Connection
from jobfs.fuse.options import MountOptions, Wake
from jobfs.fuse.wakes import Wakes
from jobfs.model import ROOT, Kind, NodeId
from jobfs.vfs.operations import NameChange


def with_wakes(folder: Path, wake: Wake, story: Callable[[Wakes, Any], Awaitable[None]]) -> None:
    """Tell a story of a connection that takes a plain directory, with one file, for its mount."""
    place = folder / "plain"
    place.mkdir()
    (place / "a").write_bytes(b"real")

    async def scenario() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            remote = ModelRemote()
            remote.put("a", b"old")
            async with mounted(folder / "state", remote) as mount:
                connection = Connection(theirs.detach(), mount.vfs, MountOptions("jobfs#test", wake=wake))
                connection.start()
                connection.wakes.begin(place, place.stat().st_dev)
                await story(connection.wakes, mount)
                await connection.close()

    run(scenario())
    assert {path.name: path.read_bytes() for path in place.iterdir()} == {"a": b"real"}


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0)


def test_in_what_is_not_the_mount_nothing_is_done(tmp_path: Path, expected_logs: Any) -> None:
    expected_logs.expect("no longer woken by remote changes: the mount cannot be looked at: ESTALE")

    async def story(wakes: Wakes, mount: Any) -> None:
        mount.session.remote.put("a", b"newer")
        await mount.pull()
        await until(lambda: not wakes.is_on)
        assert not wakes.messenger.is_there

    with_wakes(tmp_path, Wake.ON, story)


@pytest.mark.parametrize("wake", [Wake.AUTO, Wake.OFF])
def test_of_too_many_changes_at_once_the_rest_is_not_remembered(
    tmp_path: Path, wake: Wake, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "jobfs.fuse.wakes")

    async def story(wakes: Wakes, mount: Any) -> None:
        for number in range(16_384 + 5):
            wakes.note(NameChange(ROOT, f"n{number}", None, NodeId(1000 + number), Kind.FILE))
        await until(wakes.is_idle)
        assert (wakes.messenger.is_there, wakes.is_on) == (False, wake is Wake.AUTO)

    with_wakes(tmp_path, wake, story)
    told = [record.getMessage() for record in caplog.records if "too many" in record.getMessage()]
    some = ["5 remote changes at once were too many: watching programs are not told of them"]
    assert told == (some if wake is Wake.AUTO else [])


def test_what_waits_for_its_event_is_told_to_the_kernel_for_no_time(tmp_path: Path) -> None:
    async def story(wakes: Wakes, mount: Any) -> None:
        requests = wakes._requests
        wakes.note(NameChange(ROOT, "a", None, mount.node("a"), Kind.FILE))
        assert (requests.passing, requests.unsettled) == ({mount.node("a")}, {ROOT})
        await until(wakes.is_idle)
        assert (requests.passing, requests.unsettled) == (set(), set())

    with_wakes(tmp_path, Wake.AUTO, story)
