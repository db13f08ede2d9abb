"""The same day's work through the vfs against the real server, for each value of each of its switches."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from engine_harness import DEADLINE_S, QUICK, Mounted, eventually, run

from jobfs.api.studio import Studio
from jobfs.api.transport import Transport
from jobfs.engine.compose import mirror_session
from jobfs.engine.session import Options
from jobfs.model import Kind
from jobfs.planner.ignore import Ignore
from jobfs.server.running import RunningServer
from jobfs.server.switches import Switches, choices, parse
from jobfs.store.state import State
from jobfs.vfs.operations import Vfs

SINGLE = [f"{name}={value}" for name, values in choices().items() for value in values]
PAIRS = [f"dir_move={move},list_order={order}" for move in ("cascade", "orphan") for order in ("created", "shuffled")]

FINAL = {
    "kept": None,
    "kept/expert.md": b"from the expert",
    "moved": None,
    "moved/inner": None,
    "moved/inner/x": b"x",
    "moved/y": b"y",
    "new.txt": b"new",
    "report with [brackets] 100%.txt": b"odd",
    "save.txt": b"saved twice",
    "swap": b"b",
}


async def a_days_work(mount: Mounted, server: RunningServer, job: str) -> None:
    await mount.write("new.txt", b"new")
    await mount.write("report with [brackets] 100%.txt", b"odd")
    await mount.write("save.txt", b"saved once")
    await mount.settle()
    await mount.write("save.txt.tmp", b"saved twice")
    await mount.rename("save.txt.tmp", "save.txt")
    mount.vfs.make(*mount.place("made"), Kind.DIRECTORY, mode=0o755)
    await mount.write("made/gone", b"gone")
    await mount.settle()
    await mount.rename("dir", "moved")
    await mount.rename("b", "swap")
    mount.vfs.set_mode(mount.node("new.txt"), 0o444)
    mount.vfs.unlink(*mount.place("made/gone"))
    mount.vfs.rmdir(*mount.place("made"))
    await mount.settle()
    mount.vfs.set_mode(mount.node("new.txt"), 0o644)
    await mount.settle()
    server.expert_writes(job, "kept/expert.md", b"from the expert")
    await mount.pull()
    assert await mount.read("kept/expert.md") == b"from the expert"
    assert await mount.read("save.txt") == b"saved twice"


async def play(tmp_path: Path, switches: Switches) -> dict[str, bytes | None]:
    with RunningServer(switches=switches) as server:
        job = server.create_job(expert_key="@jobfs/word-count", query="x", hold=True, status="completed")
        for path, content in (
            ("dir/inner/x", b"x"),
            ("dir/y", b"y"),
            ("swap", b"a"),
            ("b", b"b"),
            ("kept", None),
            ("save.txt", b"old"),
        ):
            server.put_item(job, path, content)
        async with Transport(server.url, server.api_key) as transport:
            remote = Studio(transport).workspace(job)
            state = State.open(tmp_path)
            options = Options(times=replace(QUICK, trusted_s=1.0))
            session = mirror_session(state, remote, ignore=Ignore(), host="testhost", options=options)
            await session.start(wait_for_listing=True)
            await session.drain(DEADLINE_S)
            mount = Mounted(Vfs(session, reports={}), session, remote)  # type: ignore[arg-type]
            await a_days_work(mount, server, job)
            await eventually(lambda: not [path for path in server.contents(job) if ".jobfs-" in path])
            shown = {path: path in FINAL for path in FINAL}
            assert {path: bool(mount.node(path)) for path in FINAL} == shown
            await session.stop()
            state.close()
        return server.contents(job)


@pytest.mark.parametrize("switch", [*SINGLE, *PAIRS])
@pytest.mark.slow
def test_a_days_work_ends_alike_whatever_the_server_answers(tmp_path: Path, switch: str) -> None:
    assert run(play(tmp_path, parse(switch.split(",")))) == FINAL


def test_a_days_work_ends_as_the_user_left_it(tmp_path: Path) -> None:
    assert run(play(tmp_path, Switches())) == FINAL
    assert os.listdir(tmp_path / "blobs")
