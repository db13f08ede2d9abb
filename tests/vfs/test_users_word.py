"""What the user says of deletions that the guard would stop: it counts once, and for as long as he waits."""

from __future__ import annotations

import asyncio
from pathlib import Path

from engine_harness import mounted, run
from model_remote import ModelRemote

from jobfs.engine.arrival import refresh


def _filled() -> ModelRemote:
    remote = ModelRemote()
    for number in range(50):
        remote.put(f"f{number:02d}", b"x")
    return remote


def _wipe(remote: ModelRemote) -> None:
    for number in range(40):
        remote.remove(f"f{number:02d}")


def test_a_word_is_not_taken_back_by_who_asks_at_the_same_time_without_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = _filled()
        async with mounted(tmp_path, remote) as mount:
            _wipe(remote)
            await asyncio.gather(refresh(mount.session, allow=None), refresh(mount.session))
            assert len(mount.names()) == 10

    run(scenario())


def test_a_word_ends_with_its_own_wait_whoever_else_still_waits(tmp_path: Path, expected_logs: object) -> None:
    async def scenario() -> None:
        remote = _filled()
        async with mounted(tmp_path, remote) as mount:
            await asyncio.gather(refresh(mount.session, allow=None), refresh(mount.session))
            _wipe(remote)
            await mount.pull()
            assert len(mount.names()) == 50

    expected_logs.expect("stopped: 40 of 50")  # type: ignore[attr-defined]
    run(scenario())
