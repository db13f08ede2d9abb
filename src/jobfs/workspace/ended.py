"""What the state alone tells of a mount or synchronised folder that nobody serves just now: no server, and no key.

Loaded by quick commands: it loads no library, and of the engine only what reads the trees.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from jobfs.engine.backlog import differing
from jobfs.engine.hold import set_held
from jobfs.store.state import State
from jobfs.workspace.conflicts import conflict_copies
from jobfs.workspace.instance import Instance, read_instance, telling_whose


def conflicts_of(instance: Instance) -> list[dict[str, str]]:
    """Return the conflict copies of a mount or folder."""
    with opened(instance) as state:
        return conflict_copies(state, instance.directory)


def unsent_of(instance: Instance) -> int:
    """Return how many changes of a mount or folder are known to wait for the server, or to be held."""
    with opened(instance) as state:
        return count_unsent(state)


def note_unsent(instance: Instance, state: State) -> None:
    """Write down how many changes wait, for who looks at the record alone.

    That is read anew: it is of the process that had the state before this one, and may have ended since the caller
    looked.
    """
    replace(read_instance(instance.state) or instance, unsent=count_unsent(state)).write()


def hold(instance: Instance, *, is_on: bool) -> int:
    """Hold the changes of a mount or folder from now on, or let them go; return how many are known to wait. Durable."""
    with opened(instance) as state:
        with state.transaction(durable=True):
            set_held(state, is_held=is_on)
        return count_unsent(state)


def count_unsent(state: State) -> int:
    """Return how many changes in a state are known to wait for the server, or to be held."""
    return len(differing(state))


@contextmanager
def opened(instance: Instance) -> Iterator[State]:
    """Open the state of a mount or folder.

    :raises StateLocked: it is in use.
    """
    with telling_whose(instance.state):
        state = State.open(instance.state)
    try:
        yield state
    finally:
        state.close()


@contextmanager
def changing(instance: Instance) -> Iterator[State]:
    """Open it for what may send or make changes: afterwards the record says how many wait.

    :raises StateLocked: it is in use.
    """
    with opened(instance) as state:
        try:
            yield state
        finally:
            note_unsent(instance, state)
