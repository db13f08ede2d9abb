"""What one column of a table holds: its type, missing cells, range, different values, and the bars of its histogram."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum, unique

MISSING = frozenset({"", "-", "?", "na", "n/a", "nan", "null", "none", "nil"})
"""Cells that say "nothing here", without regard to case."""

MAX_DISTINCT = 10_000
"""Different values that are counted one by one; above it only their number's lower bound is known."""

MAX_BINS = 20
TOP_VALUES = 10

_INTEGER = re.compile(r"[+-]?\d{1,300}")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_BOOLEANS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}


@unique
class Type(Enum):
    """What all cells of a column have in common, from the narrowest."""

    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    TIME = "date and time"
    TEXT = "text"
    EMPTY = "empty"


def _integer(cell: str) -> float | None:
    return float(cell) if _INTEGER.fullmatch(cell) else None


def _number(cell: str) -> float | None:
    if not _NUMBER.fullmatch(cell):
        return None
    value = float(cell)
    return value if math.isfinite(value) else None


def _boolean(cell: str) -> float | None:
    return _BOOLEANS.get(cell.casefold())


def _date(cell: str) -> float | None:
    if not _DATE.fullmatch(cell):
        return None
    try:
        return float(date.fromisoformat(cell).toordinal())
    except ValueError:
        return None


def _time(cell: str) -> float | None:
    # A bare number is one of fromisoformat's dates, too; it never gets here as a date unless it has a dash.
    if "-" not in cell[1:]:
        return None
    try:
        moment = datetime.fromisoformat(cell)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


_PARSERS: dict[Type, Callable[[str], float | None]] = {
    Type.INTEGER: _integer,
    Type.NUMBER: _number,
    Type.BOOLEAN: _boolean,
    Type.DATE: _date,
    Type.TIME: _time,
}


@dataclass
class Range:
    """The smallest and the largest value under one reading of a column, as numbers and as they were written."""

    low: float = math.inf
    high: float = -math.inf
    low_text: str = ""
    high_text: str = ""
    total: float = 0.0

    def add(self, value: float, cell: str) -> None:
        """Take one more value."""
        if value < self.low:
            self.low, self.low_text = value, cell
        if value > self.high:
            self.high, self.high_text = value, cell
        self.total += value


class Column:
    """Takes the cells of one column, one after the other, in memory that does not grow with the table.

    :param has_decimal_comma: whether a comma in a number marks its decimals (and a point groups thousands), or the
        other way round.
    """

    def __init__(self, name: str, *, has_decimal_comma: bool = False) -> None:
        self.name = name
        self._has_decimal_comma = has_decimal_comma
        self.present = 0
        self.missing = 0
        self.values: Counter[str] = Counter()
        self.has_more_values = False
        self.bins: list[int] = []
        self._readings = {kind: Range() for kind in _PARSERS}
        self._lengths = Range()

    def add(self, cell: str) -> None:
        """Take one cell."""
        cell = cell.strip()
        if cell.casefold() in MISSING:
            self.missing += 1
            return
        self.present += 1
        if cell in self.values or len(self.values) < MAX_DISTINCT:
            self.values[cell] += 1
        else:
            self.has_more_values = True
        for kind in list(self._readings):
            value = self._parse(kind, cell)
            if value is None:
                del self._readings[kind]
            else:
                self._readings[kind].add(value, cell)
        self._lengths.add(float(len(cell)), str(len(cell)))

    def _parse(self, kind: Type, cell: str) -> float | None:
        if "," in cell:
            if self._has_decimal_comma and _DECIMAL_COMMA.fullmatch(cell):
                cell = cell.replace(".", "").replace(",", ".")
            elif not self._has_decimal_comma and _GROUPED.fullmatch(cell):
                cell = cell.replace(",", "")
        return _PARSERS[kind](cell)

    @property
    def type(self) -> Type:
        """The narrowest type that every present cell has."""
        if not self.present:
            return Type.EMPTY
        return next(iter(self._readings), Type.TEXT)

    @property
    def range(self) -> Range:
        """Smallest and largest value; for text the lengths in characters."""
        return self._readings.get(self.type, self._lengths)

    @property
    def mean(self) -> float | None:
        """The mean of a column of numbers."""
        return self.range.total / self.present if self.type in (Type.INTEGER, Type.NUMBER) else None

    @property
    def distinct(self) -> str:
        """How many different values there are, in words."""
        return f"more than {MAX_DISTINCT}" if self.has_more_values else str(len(self.values))

    @property
    def has_axis(self) -> bool:
        """Whether its histogram shows ranges of an axis, and not single values."""
        match self.type:
            case Type.INTEGER | Type.NUMBER | Type.DATE | Type.TIME:
                return self.has_more_values or len(self.values) > TOP_VALUES
            case Type.TEXT:
                return self._has_only_rare_values
            case _:
                return False

    @property
    def needs_second_look(self) -> bool:
        """Whether the bars can only be filled by reading the table again."""
        return self.has_axis and self.has_more_values

    @property
    def _has_only_rare_values(self) -> bool:
        """Whether no value stands out: then the lengths say more than the values."""
        return self.has_more_values or (len(self.values) > TOP_VALUES and max(self.values.values()) == 1)

    def fill(self, cell: str, times: int = 1) -> None:
        """Count a cell into the bar that it belongs to."""
        cell = cell.strip()
        if cell.casefold() in MISSING:
            return
        value = float(len(cell)) if self.type is Type.TEXT else self._parse(self.type, cell)
        if value is None:
            return
        if not self.bins:
            self.bins = [0] * min(MAX_BINS, max(5, math.isqrt(self.present)))
        span = self.range.high - self.range.low
        place = int((value - self.range.low) / span * len(self.bins)) if span and math.isfinite(span) else 0
        self.bins[min(place, len(self.bins) - 1)] += times

    def bars(self) -> list[tuple[str, int]]:
        """Return label and count of each bar of the histogram."""
        if not self.has_axis:
            return self._value_bars()
        if not self.needs_second_look:
            self.bins = []
            for cell, times in self.values.items():
                self.fill(cell, times)
        return [(f"part {index} of {len(self.bins)}", count) for index, count in enumerate(self.bins, 1)]

    def _value_bars(self) -> list[tuple[str, int]]:
        if self.type in (Type.TEXT, Type.BOOLEAN):
            return self.frequent(TOP_VALUES)
        return sorted(self.values.items(), key=lambda entry: (self._parse(self.type, entry[0]) or 0.0, entry[0]))

    def frequent(self, most: int) -> list[tuple[str, int]]:
        """Return the most frequent values with their counts, ties in the order of the values; none where not all
        values were counted.
        """
        if self.has_more_values:
            return []
        return sorted(self.values.items(), key=lambda entry: (-entry[1], entry[0]))[:most]
