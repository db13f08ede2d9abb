"""Put a workspace's engine together: the one place that knows which part needs which."""

from __future__ import annotations

from collections.abc import Callable

from jobfs.engine.hydrator import Hydrator
from jobfs.engine.mirror import Mirror
from jobfs.engine.remote import Remote
from jobfs.engine.session import Options, Session, random_token
from jobfs.engine.trees import Trees
from jobfs.engine.workspace import Clock, SystemClock, Workspace
from jobfs.planner.ignore import Ignore
from jobfs.store.state import State


def mirror_session(
    state: State,
    remote: Remote,
    *,
    ignore: Ignore,
    host: str,
    options: Options,
    is_read_only: bool = False,
    clock: Clock | None = None,
    tokens: Callable[[], str] = random_token,
) -> Session:
    """Return a session for a mount: the local tree is the truth. Not started; call from within the loop.

    :param host: this machine's name, for conflict copies.
    :param tokens: gives eight random letters for hidden names.
    :param is_read_only: refuse every change, also where the remote would take it.
    """
    read_only = is_read_only or remote.is_read_only
    workspace = Workspace(state, ignore, clock or SystemClock(), host=host, is_read_only=read_only)
    trees = Trees(state)
    hydrator = Hydrator(workspace, remote, deadline_s=options.read_deadline_s)
    mirror = Mirror(workspace, trees, hydrator)
    return Session(
        workspace,
        remote,
        trees,
        hydrator,
        side=mirror,
        recorder=mirror.applier,
        options=options,
        tokens=tokens,
    )
