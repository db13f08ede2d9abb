"""One machine of the simulation (``simulation``) with the workspace mounted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from simulated_machine import Machine, Scene, World
from simulated_server import SimulatedServer

from jobfs.engine.compose import mirror_session
from jobfs.engine.session import Options, Session
from jobfs.model import ROOT, Kind, NodeId
from jobfs.planner.ignore import Ignore
from jobfs.vfs.operations import Vfs


class Client(Machine):
    """A mount without FUSE: the session and the vfs."""

    vfs: Vfs

    def __init__(self, name: str, directory: Path, world: World, server: SimulatedServer, scene: Scene) -> None:
        super().__init__(name, directory, world, server, scene)
        self.in_place: Counter[NodeId] = Counter()

    async def start(self, *, is_first: bool) -> None:
        self.open_state()
        self.session = mirror_session(
            self.state,
            self.line,
            ignore=Ignore(),
            host=self.name,
            options=Options(max_deletions=None),
            clock=self.loop.clock,
            tokens=self.token,
        )
        self.trust_listings()
        await self.session.start(wait_for_listing=is_first)
        self.vfs = Vfs(self.session, reports={})
        self.is_up = True

    async def end(self, session: Session) -> None:
        await session.stop()

    async def stop(self) -> None:
        await self.session.stop()
        self.state.close()

    async def settle(self) -> None:
        await self.session.drain(60)
        await self.session.feed.refresh()
        await self.session.drain(60)

    # -- looking

    def node(self, path: str) -> NodeId:
        """Return the node at a path; raises OSError where there is none."""
        node = ROOT
        for name in path.split("/") if path else ():
            node = self.vfs.lookup(node, name).inode
        return node

    def place(self, path: str) -> tuple[NodeId, str]:
        """Return the directory and the name that a path stands for."""
        above, _, name = path.rpartition("/")
        return self.node(above), name

    def shown(self, path: str) -> bytes | None:
        """Return what a program finds at a path; None for a directory."""
        return self.content(self.node(path))

    def content(self, node: NodeId) -> bytes | None:
        """Return what a file is at this moment, wherever its bytes are; None for a directory."""
        record = self.vfs.namespace.record(node)
        if record.kind is Kind.DIRECTORY:
            return None
        if record.blob is not None:
            return self.state.blobs.path(record.blob).read_bytes()
        revision = record.content.revision if record.content is not None else None
        return b"" if revision is None else self.server.contents[revision.key]

    def tree(self) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}

        def walk(directory: NodeId, prefix: str) -> None:
            for name, node in list(self.vfs.names(directory)):
                found[prefix + name] = content = self.content(node)
                if content is None:
                    walk(node, f"{prefix}{name}/")

        walk(ROOT, "")
        return found
