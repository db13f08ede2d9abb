"""How a session of a mount begins: with one listing, shown as a whole; or with what is stored, once the key is good."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from model_remote import ModelRemote

from jobfs.cli.beginning import start_session
from jobfs.engine.compose import mirror_session
from jobfs.engine.listing import observe
from jobfs.engine.session import PART_NODES, Options
from jobfs.errors import Unauthenticated, Unreachable
from jobfs.planner.ignore import Ignore
from jobfs.store.state import State

FILES = 2 * PART_NODES + 1


class Notes:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def begun(tmp_path: Path) -> Callable[[ModelRemote, Notes], int]:
    """Give a function that begins a session on a state that stays, and returns how many nodes are shown then."""

    async def begin(remote: ModelRemote, notes: Notes) -> int:
        state = State.open(tmp_path / "state")
        session = mirror_session(state, remote, ignore=Ignore(), host="testhost", options=Options())
        observed = None if len(state.base) > 1 else asyncio.create_task(observe(remote, time.monotonic))
        try:
            await start_session(session, notes, asyncio.create_task(remote.status()), observed)
            return len(state.local) - 1
        finally:
            await session.stop()
            state.close()

    return lambda remote, notes: asyncio.run(begin(remote, notes))


def full() -> ModelRemote:
    remote = ModelRemote()
    remote.at = lambda path: None  # type: ignore[method-assign]  # each path is put once
    for number in range(FILES):
        remote.put(f"{number}", b"")
    return remote


def pages(remote: ModelRemote) -> int:
    return [call for call, _ in remote.calls].count("list_page")


def test_at_first_all_is_shown_at_once_after_one_listing(begun: Callable[[ModelRemote, Notes], int]) -> None:
    remote = full()
    assert begun(remote, Notes()) == FILES
    assert pages(remote) == 1 + -(-(FILES - 100) // 99)


def test_what_is_stored_is_shown_without_a_listing(begun: Callable[[ModelRemote, Notes], int]) -> None:
    remote, notes = full(), Notes()
    begun(remote, notes)
    remote.calls.clear()
    assert (begun(remote, notes), notes.lines) == (FILES, [])
    assert pages(remote) == 0


def failing(error: Exception) -> Callable[[str, str], None]:
    def fail(call: str, subject: str) -> None:
        raise error

    return fail


def test_what_is_stored_is_shown_while_the_server_is_away_and_not_with_a_wrong_key(
    begun: Callable[[ModelRemote, Notes], int],
) -> None:
    remote, notes = full(), Notes()
    begun(remote, notes)
    remote.before = failing(Unreachable("nobody answers"))
    assert begun(remote, notes) == FILES
    assert notes.lines == ["nobody answers; the files are shown as last seen, and changes are sent later"]
    remote.before = failing(Unauthenticated("a wrong key"))
    with pytest.raises(Unauthenticated):
        begun(remote, notes)
