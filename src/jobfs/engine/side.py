"""What a session needs of the side that the user sees: a mount (``mirror``), or a real folder (``folder.side``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from jobfs.engine.pusher import LocalBytes
from jobfs.model import NodeId
from jobfs.planner.plan import BaseChange, LocalChange


class LocalSide(LocalBytes, Protocol):
    """What a session needs of the side that the user sees: a mount's tree, or a real folder."""

    @property
    def is_instant(self) -> bool:
        """Whether ``apply`` suspends nowhere."""

    async def apply(self, changes: Iterable[LocalChange]) -> set[NodeId]:
        """Show what the planner wants shown; return the nodes to look at again."""

    async def prepare(self, nodes: Iterable[NodeId]) -> None:
        """Make hashes of changed files known before a plan, except of those that are open for writing."""

    async def settle_hash(self, node: NodeId) -> None:
        """Make the hash of a file's present bytes known, also while it is open for writing."""


class Recorder(Protocol):
    """Records the base half of a plan."""

    def apply_base(self, changes: Iterable[BaseChange]) -> None:
        """Record what needs no work."""
