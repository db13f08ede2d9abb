"""Which stretches of a file are there: a set of byte positions, kept as disjoint stretches.

Pure values; the download of a content and its readers use it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Extents:
    """Disjoint stretches in order; stretches that touch are one. Each ends before its second number."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __iter__(self) -> zip[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def add(self, start: int, end: int) -> None:
        """Add the positions from ``start`` up to, and without, ``end``."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        beyond = bisect_right(self._starts, end)
        if first < beyond:
            start = min(start, self._starts[first])
            end = max(end, self._ends[beyond - 1])
        self._starts[first:beyond] = [start]
        self._ends[first:beyond] = [end]

    def holds(self, start: int, end: int) -> bool:
        """Tell whether every position of a stretch is there; an empty one always is."""
        return start >= end or self.end_of(start) >= end

    def end_of(self, at: int) -> int:
        """Return where the stretch that holds a position ends; the position itself where it is not there."""
        found = bisect_right(self._starts, at) - 1
        return max(at, self._ends[found]) if found >= 0 else at

    def length_before(self, at: int) -> int:
        """Return the length of the stretch that ends right before a position; 0 where there is none."""
        found = bisect_left(self._ends, at)
        return at - self._starts[found] if found < len(self._ends) and self._ends[found] == at else 0

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return what is missing between two positions, in order."""
        missing = []
        for found in range(bisect_right(self._ends, start), len(self._starts)):
            if self._starts[found] >= end:
                break
            if self._starts[found] > start:
                missing.append((start, self._starts[found]))
            start = self._ends[found]
        if start < end:
            missing.append((start, end))
        return missing
