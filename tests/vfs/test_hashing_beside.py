"""Hundreds of saved files are hashed before they are planned, and others are let in between; new ones need no hash."""

from __future__ import annotations

import asyncio
import hashlib
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


def test_programs_are_let_in_while_many_saved_files_are_hashed(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        for number in range(60):
            remote.put(f"{number}", b"old")
        async with mounted(tmp_path, remote, options=Options(pushes=False), clock=PassingClock()) as mount:
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


def test_a_new_file_is_hashed_when_it_is_sent_and_one_whose_place_was_known_before_that(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        remote.put("known", b"old")
        async with mounted(tmp_path, remote, options=Options(pushes=False)) as mount:
            mount.vfs.unlink(*mount.place("known"))
            for name in ("known", "new"):
                await mount.write(name, b"written")
            nodes = [mount.node(name) for name in ("known", "new")]
            side = mount.session.side
            await side.prepare(nodes)
            local = mount.session.state.local
            contents = [record.content for node in nodes if (record := local.get(node)) is not None]
            assert [content is not None and content.sha256 is not None for content in contents] == [True, False]
            async with side.snapshot(nodes[1]) as snapshot:
                assert snapshot.source == b"written"
                assert snapshot.content.sha256 == hashlib.sha256(b"written").hexdigest()

    run(scenario())
