"""Ids of the server's records: 24 characters, the first a letter (contract T-14)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from random import Random

IdSource = Callable[[], str]
"""Gives a new id at each call. A parameter of everything that makes records, so that a simulation can replay."""

_LETTERS = b"abcdefghijklmnopqrstuvwxyz"
_FIRST = bytes(_LETTERS[byte % 26] for byte in range(256))
_REST = bytes((_LETTERS + b"0123456789")[byte % 36] for byte in range(256))

_WELL_FORMED = re.compile(r"[a-z0-9]{24}")


def random_id() -> str:
    """Return a new id from the system's randomness."""
    return _spell(secrets.token_bytes(24))


def seeded_ids(random: Random) -> IdSource:
    """Return a source whose ids follow from the state of a generator."""
    return lambda: _spell(random.randbytes(24))


def named_id(name: str) -> str:
    """Return the id that always stands for a name: for things that have no row, such as an expert."""
    return _spell(Random(name).randbytes(24))  # noqa: S311  (a label, not a secret)


def is_well_formed(text: str) -> bool:
    """Tell whether a text could be an id; anything else is refused with 422 before it is looked up."""
    return _WELL_FORMED.fullmatch(text) is not None


def _spell(raw: bytes) -> str:
    return (raw[:1].translate(_FIRST) + raw[1:].translate(_REST)).decode("ascii")
