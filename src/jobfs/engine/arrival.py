"""Wait until what a listing has shown is shown here: for who asks for a listing because he wants to read now."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from jobfs.engine.session import Session
from jobfs.errors import GuardTripped
from jobfs.model import NodeId
from jobfs.planner.guards import Side

ARRIVAL_S = 30.0
"""So long at most; what is larger goes on arriving."""


async def refresh(session: Session, *, allow: int | None = 0) -> None:
    """Look at the server now, and return when what it has is shown here, as far as nothing is in its way.

    A file in a conflict, a change that is held, or one that is being sent is in the way only until it is planned; what
    waits for another listing is not waited for.

    :param allow: so many deletions here are meant, this once, those that the guard has stopped among them; None: any
        number. What a later listing shows is not, though this waits for long.
    :raises ApiError: the listing could not be had. :raises GuardTripped: more would be deleted here.
    """
    with session.guard.allowing(Side.LOCAL, allow) as given:
        await session.feed.refresh(is_urgent=True)
        given.is_about(_arriving(session).union(session.guard.stopped))
        if session.guard.side is Side.LOCAL:
            session.look_again(session.guard.stopped)
        await _arrived(session)
    if session.guard.side is Side.LOCAL:
        raise GuardTripped(
            session.guard.detail, "if that is meant: jobfs refresh --yes; until then the files stay here"
        )


async def _arrived(session: Session) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(ARRIVAL_S):
            arriving = _arriving(session)
            while arriving := {node for node in arriving if session.is_to_plan(node)}:
                await session.turned()
            await session.workspace.caught_up()


def _arriving(session: Session) -> set[NodeId]:
    """Return the nodes that the last listing showed otherwise than they were acknowledged."""
    base, there = session.state.base, session.trees.remote
    return {node for node in {*base, *there} if base.get(node) is not there.get(node)}
