"""A mount in a process of its own, for tests that kill it or run it as another user. Not a test itself.

    daemon.py STATE_FOLDER MOUNT_POINT [UID [TRANSPORT]]

It prints "ready" once the mount serves, and ends when the mount does. What it is told on its standard input happens:
"put PATH TEXT" on the server, "watch DIRECTORY" in a thread of its own, which prints each event. With a UID other than
its own, it gives up root's rights after its imports, so that the checkout need not be readable by that user.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from inotify import watching
from model_remote import ModelRemote

from jobfs.engine.compose import mirror_session
from jobfs.engine.session import Options, Session
from jobfs.fuse.fusepy import FusepyTransport
from jobfs.fuse.kernel import KernelTransport
from jobfs.fuse.options import MountOptions
from jobfs.planner.ignore import Ignore
from jobfs.store.state import State
from jobfs.vfs.operations import Vfs

TRANSPORTS = {"kernel": KernelTransport, "fusepy": FusepyTransport}


async def serve(folder: Path, point: Path, transport_name: str = "kernel") -> None:
    """Mount a small workspace and serve it to its end."""
    remote = ModelRemote()
    remote.put("hello", b"hello from the server")
    remote.put("silent", b"x" * 100_000)
    remote.put("perstack", None)
    state = State.open(folder)
    session = mirror_session(state, remote, ignore=Ignore(), host="testhost", options=Options())
    await session.start(wait_for_listing=True)
    transport = TRANSPORTS[transport_name]()
    await transport.mount(Vfs(session, reports={}), point, MountOptions("jobfs#daemon"))
    remote.chunk_bytes = 1 << 20
    hearing = asyncio.create_task(hear(session, remote, point))
    print("ready", flush=True)
    await transport.wait_unmounted()
    hearing.cancel()
    await session.stop()
    state.close()
    print("ended", flush=True)


async def hear(session: Session, remote: ModelRemote, point: Path) -> None:
    """Do what is said on the standard input, to its end."""
    said = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(said), sys.stdin)
    async for line in said:
        word, path, *rest = line.decode().split()
        if word == "put":
            remote.put(path, " ".join(rest).encode())
            await session.feed.poll()
        elif word == "watch":
            threading.Thread(target=watch, args=(point / path,), daemon=True).start()


def watch(path: Path) -> None:
    """Print what happens in a directory."""
    with watching(path) as watcher:
        print("watching", flush=True)
        while True:
            for event in watcher.read(3600):
                print(event.what.name, event.path.name, flush=True)


def become(uid: int) -> None:
    """Give up root's rights for good."""
    assert concurrent.futures.thread  # asyncio imports it only when it is needed: too late
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if not os.access(sys.executable, os.X_OK):
        sys.executable = "/usr/bin/python3"  # the interpreter of whoever tests may be his alone


if __name__ == "__main__":
    if len(sys.argv) > 3:
        become(int(sys.argv[3]))
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[4:]))
