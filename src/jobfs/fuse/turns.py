"""How long programs are served before the loop goes on with anything else. Pure, with time as a parameter.

One thread serves programs and speaks to the server. What it does for the server while a program asks one thing after
another makes that program wait, and ends no sooner. So a program that begins to ask is served for long turns; one that
does not stop asking gets shorter ones after a second, or a save beside it would take for ever to reach the server; and
while somebody waits for the server's answer they are short from the beginning.
"""

from __future__ import annotations

LONG_S = 0.1
"""With 20 ms the uploads of an untar of 1,000 files take a third of its time."""

SHORT_S = 0.02
"""With 5 ms a program that asks without a pause loses a third of its time to uploads, which then go hardly faster."""

PATIENCE_S = 1.0
"""So long without a pause turns are long."""

PAUSE_MS = 1
"""A program that asks nothing for so long has paused; a long turn waits for its next request until then. Where there is
more to do than there are cores, it is rarely back within the 0.1 ms of looking, and would wait for a round of uploads
each time: an untar then took twice as long, and all of it reached the server no sooner."""


class Turns:
    """The turns of one connection: ``begin`` one, and ask after each request whether it ``is_over``."""

    __slots__ = ("_began_s", "_busy_since_s", "_was_cut", "is_short")

    def __init__(self) -> None:
        self._began_s = 0.0
        self._busy_since_s = 0.0
        self._was_cut = False
        self.is_short = False

    def begin(self, now_s: float) -> None:
        """Note that a program asks: for the first time after a pause, or still."""
        self._began_s = now_s
        if not self._was_cut:
            self._busy_since_s = now_s
        self._was_cut = False

    def is_over(self, now_s: float, *, is_server_awaited: bool) -> bool:
        """Tell whether the loop's other work is due."""
        self.is_short = is_server_awaited or now_s - self._busy_since_s > PATIENCE_S
        self._was_cut = now_s - self._began_s > (SHORT_S if self.is_short else LONG_S)
        return self._was_cut
