"""How a session begins: what is held stays held, and the first listing or the stored tree is there."""

from __future__ import annotations

import asyncio

from jobfs.cli.order import Order
from jobfs.cli.parties import Notes
from jobfs.engine.hold import is_held, set_held
from jobfs.engine.listing import Observation
from jobfs.engine.session import Session
from jobfs.errors import NotFound, ServerFailure, Unreachable
from jobfs.store.state import LISTED, State

_ASK_S = 3.0
"""How long a later mount, which has a tree to show already, waits to hear whether key and job are still good."""


def hold_first(order: Order, state: State, front: Notes) -> None:
    """Hold a workspace before its session begins, where that is wanted; say so where it is held."""
    if order.is_held and not is_held(state):
        with state.transaction(durable=True):
            set_held(state, is_held=True)
    if is_held(state):
        front.note(f"changes are held: 'jobfs push' sends them, 'jobfs hold {order.directory} --off' ends it")


async def start_session(
    session: Session, front: Notes, status: asyncio.Task[str], observed: asyncio.Task[Observation] | None = None
) -> None:
    """Start a session. The first time it waits for the listing; later the stored tree answers at once.

    :param status: asks for the job's status, by which key and job are judged where a tree is stored.
    :param observed: the first listing, where it was begun since the state was locked.
    :raises Unauthenticated: the key is wrong, also where a tree is stored. :raises ApiError: the first listing failed.
    """
    is_first = session.state.setting(LISTED) is None
    if not is_first:
        await _judge(status, front)
    await session.start(wait_for_listing=is_first, observed=observed)
    if is_first:
        await session.looked()  # whoever mounts is shown all of it, or nothing yet
        with session.state.transaction():
            session.state.remember(LISTED, "1")


async def _judge(status: asyncio.Task[str], front: Notes) -> None:
    """Find out early whether the key is good; a server that does not answer is no reason not to show what is known."""
    await asyncio.wait({status}, timeout=_ASK_S)
    if not status.done():
        front.note("the server does not answer yet; the files are shown as last seen, and changes are sent later")
        return
    try:
        status.result()
    except NotFound as error:
        front.note(f"{error.cause}; the files are shown as they were last seen here")
    except (Unreachable, ServerFailure) as error:
        front.note(f"{error.cause}; the files are shown as last seen, and changes are sent later")
