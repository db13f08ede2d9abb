"""Find out what a synchronisation would do, and do none of it.

What a trial observes is remembered like any scan; what it decides is not. Nothing is asked of the server but to look.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from jobfs.engine.feed import Feed, FeedTimes
from jobfs.engine.guard import Guard
from jobfs.engine.remote import Remote
from jobfs.engine.rules import Rules
from jobfs.engine.trees import Trees
from jobfs.errors import JobfsError
from jobfs.folder.report import Summary, steps_of
from jobfs.folder.side import FolderSide
from jobfs.model import FrozenTree, Item, ItemId, NodeId
from jobfs.planner.plan import ConflictPolicy
from jobfs.planner.reconcile import reconcile


class Bystander:
    """Hears what a listing says and does nothing about it. Satisfies ``feed.Watcher``."""

    busy: Collection[NodeId] = frozenset()

    def look_again(self, nodes: Iterable[NodeId]) -> None:
        """Plan nothing."""

    def remote_changed(self, nodes: Collection[NodeId]) -> None:
        """Plan nothing."""

    def listed(self) -> None:
        """Nobody waits for a listing."""

    def went_offline(self, error: JobfsError) -> None:
        """A trial does not try again: the error is raised where the listing was asked for."""

    async def listing_seen(self, items: Sequence[Item], epoch: int) -> Collection[ItemId]:
        """Leave unanswered creates as they are."""
        return ()

    def hidden_seen(self, items: Sequence[Item], epoch: int) -> None:
        """Leave interrupted replaces as they are."""


async def try_out(
    side: FolderSide,
    trees: Trees,
    rules: Rules,
    remote: Remote,
    *,
    policy: ConflictPolicy,
    max_deletions: int | None,
    pushes: bool,
    pulls: bool,
) -> Summary:
    """Return what would be done for a folder that was just scanned, as far as one plan tells.

    :raises ApiError: the listing could not be had.
    """
    feed = Feed(remote, trees, rules, Bystander(), FeedTimes())
    await feed.poll()
    state, workspace = trees.state, rules.workspace
    nodes = {*state.base, *state.synced, *trees.remote}
    restored = side.restored(nodes)
    base = FrozenTree(entry for entry in state.base.entries() if entry.id not in restored)
    plan = reconcile(
        base, state.synced, trees.remote, nodes, policy=policy, stamp=workspace.conflict_stamp(), opaque=feed.opaque
    )
    verdict = Guard(state, trees, judges_pushes=True).judge(plan, max_deletions)
    return Summary(
        conflicts=plan.conflicts,
        problems=(*side.problems(), *feed.problems, *plan.problems),
        steps=steps_of(plan, state.synced, trees.remote, pushes=pushes, pulls=pulls),
        guard=verdict.detail,
    )
