"""What of a plan is not done now although it was derived: what could destroy something unseen, or is known to fail.

Pure. No request of the API is conditional, so a deletion is only as good as what is known of what it deletes.
"""

from __future__ import annotations

from collections.abc import Collection

from jobfs.engine.trees import Trees
from jobfs.model import Kind, NodeId
from jobfs.planner.plan import DeleteRemote, Displace, Forget, Plan, Stage


def is_listing_needed(plan: Plan, trees: Trees, *, is_fresh: bool) -> bool:
    """Tell whether a plan deletes on the server, or forgets, on the word of a listing that is too old for that.

    A directory goes with everything in it (contract I-23): whatever appeared there since the last listing would be
    destroyed unseen. So a directory waits for a listing that began after we last did something to it, and anything for
    one that began after it was found to be otherwise: an earlier one could not tell what is there. What was made in a
    directory that a listing lacks is in another one of its name: forgotten before it is listed there, it came back.

    :param is_fresh: whether the last listing is young enough for anything else.
    """
    doomed = [node for stage in plan.to_remote for one in stage if isinstance(one, DeleteRemote) for node in one.nodes]
    if any(isinstance(one, Forget) and trees.is_unplaced(one.node) for one in plan.to_base):
        return True
    return bool(doomed) and (not is_fresh or any(map(trees.is_unlisted, doomed)))


def spare_displaced(stages: tuple[Stage, ...], trees: Trees) -> tuple[Stage, ...]:
    """Leave out deletions of directories that these stages move aside.

    What somebody put into one until then is in no listing. Under its hidden name nobody finds it, so the next listing
    tells.
    """
    moved = {change.node for stage in stages for change in stage if isinstance(change, Displace)}
    moved = {node for node in moved if (entry := trees.remote.get(node)) and entry.kind is Kind.DIRECTORY}
    if not moved:
        return stages
    return tuple(
        tuple(one for one in stage if not (isinstance(one, DeleteRemote) and moved.intersection(one.nodes)))
        for stage in stages
    )


def up_to_refused(
    stages: tuple[Stage, ...], refused: Collection[NodeId]
) -> tuple[tuple[Stage, ...], dict[NodeId, NodeId]]:
    """Leave out changes of nodes that the server refused before, and the stages that come after one of them.

    Return with the rest the nodes of those stages, each with the refused one that it waits for.
    """
    for at, stage in enumerate(stages):
        blockers = [change.node for change in stage if change.node in refused]
        if blockers:
            waiting = {change.node: blockers[0] for later in stages[at + 1 :] for change in later}
            return (*stages[:at], tuple(change for change in stage if change.node not in refused)), waiting
    return stages, {}
