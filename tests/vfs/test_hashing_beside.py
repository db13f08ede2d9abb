"""Hundreds of new files are hashed before they are sent: others are let in between them."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

from engine_harness import mounted, run
from model_remote import ModelRemote

from jobfs.engine.mirror import Mirror
from jobfs.engine.session import Options
from jobfs.engine.workspace import SystemClock

LOOK_S = 0.004


class PassingClock(SystemClock):
    """A clock on which time passes with every look."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def monotonic_s(self) -> float:
        self._now_s += LOOK_S
        return self._now_s


def test_programs_are_let_in_while_many_new_files_are_hashed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with mounted(tmp_path, ModelRemote(), options=Options(pushes=False), clock=PassingClock()) as mount:
            for number in range(60):
                await mount.write(f"{number}", b"new")
            nodes = [mount.node(f"{number}") for number in range(60)]
            local = mount.session.state.local
            unhashed: list[int] = []

            async def program() -> None:
                while True:
                    records = [local.get(node) for node in nodes]
                    unhashed.append(sum(not (one and one.content and one.content.sha256) for one in records))
                    await asyncio.sleep(0)

            asking = asyncio.create_task(program())
            await Mirror(mount.session.workspace, mount.session.trees, mount.session.hydrator).prepare(nodes)
            asking.cancel()
            steps = [before - after for before, after in pairwise(unhashed)]
            assert sum(steps) > 50
            assert max(steps) <= 4

    run(scenario())
