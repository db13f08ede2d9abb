"""Journals: where single commands remember the replaces that they have under way."""

from __future__ import annotations

from pathlib import Path

from jobfs.errors import StateLocked
from jobfs.store.state import State
from jobfs.workspace.states import key_of

_SLOTS = 64


def open_journal(root: Path, url: str, job: str) -> State:
    """Open a state that remembers replaces of single commands, so that a later one mends what a killed one left.

    Commands that run beside each other have a journal each.
    """
    for slot in range(_SLOTS):
        try:
            return State.open(root / "journals" / f"{key_of(url, job)}-{slot}")
        except StateLocked:
            continue
    raise StateLocked(f"{_SLOTS} commands are writing to this workspace already", "wait for one of them to end")
