"""How long is waited for a server, where nobody says otherwise and where others wait for who waits.

Apart from what waits, so that a help can show it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

DEFAULT_DEADLINE_S = 30.0
"""How long a read waits for bytes that make no progress at all."""

LOCKED_DEADLINE_S = 4.0
"""The same for who waits with a lock of the kernel in his hands: whoever else wants that one sleeps uninterruptibly."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one waits for bytes.

    :param deadline_s: so long without any sign of life.
    :param is_locked: tells whether others have to wait for this wait by now: then only ``LOCKED_DEADLINE_S``, and
        nothing but bytes is a sign of life.
    :param is_optional: whether nobody minds if it fails. It then ends so soon for others even while bytes come.
    """

    deadline_s: float
    is_locked: Callable[[], bool]
    is_optional: bool = False

    @property
    def look_s(self) -> float:
        """How often a wait is looked at for the sake of others."""
        return min(LOCKED_DEADLINE_S, self.deadline_s)
