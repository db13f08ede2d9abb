"""A process that edits a workspace through the vfs and may kill itself at a chosen point: see tests/faults.

usage: edit_child.py STATE_DIR URL JOB KILL_AT   (0: never; the key comes from JOBFS_API_KEY)

Points are counted at the begin and end of each transaction and at the begin and end of each request. What a program
would consider acknowledged is printed, a line a path, after its close.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine_harness import QUICK, Mounted

from jobfs.api.studio import Studio
from jobfs.api.transport import Transport
from jobfs.engine.compose import mirror_session
from jobfs.engine.session import Options
from jobfs.model import Kind
from jobfs.planner.ignore import Ignore
from jobfs.store.state import State
from jobfs.vfs.operations import Vfs


class Points:
    """Counts points and dies at the chosen one."""

    def __init__(self, kill_at: int) -> None:
        self._left = kill_at

    def pass_one(self) -> None:
        self._left -= 1
        if self._left == 0:
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)


class DyingState(State):
    """A state whose transactions are points."""

    points: Points

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        if self._depth:
            with super().transaction(durable=durable):
                yield
            return
        self.points.pass_one()
        with super().transaction(durable=durable):
            yield
        self.points.pass_one()


class DyingRemote:
    """A remote whose requests are points, before they are sent and after they were answered."""

    def __init__(self, workspace: object, points: Points) -> None:
        self._workspace = workspace
        self._points = points

    def __getattr__(self, name: str) -> object:
        found = getattr(self._workspace, name)
        if name in ("is_read_only", "download", "hints"):
            return found

        async def call(*arguments: object, **options: object) -> object:
            self._points.pass_one()
            answer = await found(*arguments, **options)
            self._points.pass_one()
            return answer

        return call


def acknowledged(path: str) -> None:
    print(path, flush=True)


async def edit(mount: Mounted) -> None:
    """Do what a user does: save over a file, save by rename, make a tree, rename, delete."""
    await mount.write("seed.txt", b"edited seed")
    acknowledged("seed.txt")
    await mount.write("new.txt", b"new file")
    acknowledged("new.txt")
    mount.vfs.make(*mount.place("made"), Kind.DIRECTORY, mode=0o755)
    await mount.write("made/inside.txt", b"inside")
    acknowledged("made/inside.txt")
    await mount.session.drain(10)
    await mount.write(".atomic.tmp1", b"atomic")
    await mount.rename(".atomic.tmp1", "atomic.txt")
    acknowledged("atomic.txt")
    await mount.rename("dir", "renamed")
    mount.vfs.unlink(*mount.place("doomed.txt"))
    await mount.session.drain(10)


async def main(directory: Path, url: str, job: str, kill_at: int) -> None:
    points = Points(kill_at)
    DyingState.points = points
    state = DyingState.open(directory)
    async with Transport(url, os.environ["JOBFS_API_KEY"]) as transport:
        remote = DyingRemote(Studio(transport).workspace(job), points)
        session = mirror_session(
            state,
            remote,  # type: ignore[arg-type]
            ignore=Ignore(),
            host="child",
            options=Options(times=QUICK),
        )
        await session.start(wait_for_listing=True)
        await session.drain(10)
        mount = Mounted(Vfs(session, reports={}), session, remote)  # type: ignore[arg-type]
        if kill_at != -1:
            await edit(mount)
        left = await session.drain(10)
        await session.feed.poll()
        left += await session.drain(10)
        await session.feed.poll()
        await session.drain(10)
        wrong = state.check()
        await session.stop()
    state.close()
    print("left", left, "wrong", wrong, flush=True)
    sys.exit(1 if left or wrong else 0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
