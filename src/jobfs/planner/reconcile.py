"""The planner: from three trees to a plan (design section 4).

Pure: no clock, no I/O, no randomness; the same input gives the same plan, in the same order. What the plan's parts mean
and how they are executed is said in ``plan``. The engine calls this, for mounts and synced folders alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from jobfs.model import NodeId, Problem, TreeView
from jobfs.planner.merge import Merge
from jobfs.planner.naming import ConflictStamp
from jobfs.planner.plan import ConflictPolicy, Plan
from jobfs.planner.pull import base_changes, local_changes
from jobfs.planner.push import remote_changes
from jobfs.planner.scope import Rebound, find_rebinds, unsettled


def reconcile(
    base: TreeView,
    local: TreeView,
    remote: TreeView,
    touched: Iterable[NodeId],
    *,
    policy: ConflictPolicy = ConflictPolicy.KEEP_BOTH,
    stamp: ConflictStamp,
    opaque: Collection[NodeId] = (),
) -> Plan:
    """Plan what makes the two sides alike.

    :param base: what the server last acknowledged.
    :param local: what the user sees, without local-only nodes. File contents carry their digest; one without it counts
        as changed unless its revision is that of base.
    :param remote: the newest listing (``identity.identify``).
    :param touched: at least every node that changed in any tree since it was last planned, and the last plan's
        ``waiting`` and ``fetch``. The cost follows their number, not the size of the trees.
    :param policy: whose content keeps the name when both sides changed it.
    :param stamp: what a conflict name made now says.
    :param opaque: directories that hold items which no tree shows; they are never deleted as a whole.
    """
    nodes = unsettled(base, local, remote, touched)
    if not nodes:
        return Plan()
    rebinds = find_rebinds(base, local, remote, nodes)
    if rebinds:
        base, remote = Rebound(base, rebinds), Rebound(remote, rebinds)
        nodes.difference_update(rebind.old for rebind in rebinds)
    merge = Merge(base, local, remote, policy=policy, stamp=stamp, opaque=opaque)
    merge.run(sorted(nodes))
    cases = sorted(merge.cases.values(), key=merge.places.key)
    stages, waiting_there = remote_changes(merge, cases, stamp)
    changes, waiting_here = local_changes(merge, cases, stamp)
    waiting = waiting_here | waiting_there
    return Plan(
        to_base=(*rebinds, *base_changes(cases)),
        to_local=tuple(changes),
        to_remote=tuple(stages),
        fetch=tuple(case.node for case in cases if case.node in merge.fetch),
        waiting=tuple(case.node for case in cases if case.node in waiting),
        conflicts=tuple(conflict for conflict in merge.conflicts if conflict.node not in waiting_here),
        problems=tuple(
            Problem(case.node, merge.places.path(case), trouble, detail) for case, trouble, detail in merge.refusals
        ),
    )
