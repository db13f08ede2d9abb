"""Bar charts as small, self-contained SVG files that read well on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

WIDTH = 480
HEIGHT = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 34, 34
_INK = "#6b7280"
_BAR = "#4c78a8"
_MAX_LABEL = 14


def histogram(title: str, bins: Sequence[tuple[str, int]], *, ends: tuple[str, str] | None = None) -> str:
    """Return a chart of counts.

    :param bins: label and count of each bar, from left to right.
    :param ends: for bars that are ranges of one axis: what to write at its two ends in place of a label a bar. Bars of
        one axis touch each other, others stand apart.
    """
    highest = max((count for _, count in bins), default=0)
    slot = (WIDTH - _LEFT - _RIGHT) / max(1, len(bins))
    gap = 1.0 if ends else min(8.0, slot * 0.2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        f' role="img" font-family="system-ui, sans-serif" font-size="11" fill="{_INK}">',
        f"<title>{_text(title, 80)}</title>",
        f'<text x="{_LEFT}" y="18" font-size="13" font-weight="600">{_text(title, 60)}</text>',
    ]
    for index, (label, count) in enumerate(bins):
        parts.append(_bar(_LEFT + index * slot + gap / 2, slot - gap, count, highest, label))
    parts += _axis(highest)
    parts += _labels(bins, slot) if ends is None else _end_labels(*ends)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _bar(x: float, width: float, count: int, highest: int, label: str) -> str:
    room = HEIGHT - _TOP - _BOTTOM
    height = room * count / highest if highest else 0.0
    y = HEIGHT - _BOTTOM - height
    tip = f"<title>{_text(label, 80)}: {count}</title>"
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{_BAR}">{tip}</rect>'


def _axis(highest: int) -> list[str]:
    base = HEIGHT - _BOTTOM
    return [
        f'<line x1="{_LEFT}" y1="{base}" x2="{WIDTH - _RIGHT}" y2="{base}" stroke="{_INK}"/>',
        f'<text x="{_LEFT - 6}" y="{_TOP + 4}" text-anchor="end">{highest}</text>',
        f'<text x="{_LEFT - 6}" y="{base}" text-anchor="end">0</text>',
    ]


def _labels(bins: Sequence[tuple[str, int]], slot: float) -> list[str]:
    # About 6.5 units a letter at this size; a label that has no room is clipped, its full text is in the bar's title.
    letters = max(1, min(_MAX_LABEL, int(slot / 6.5)))
    return [
        f'<text x="{_LEFT + (index + 0.5) * slot:.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
        f"{_text(label, letters)}</text>"
        for index, (label, _) in enumerate(bins)
    ]


def _end_labels(low: str, high: str) -> list[str]:
    y = HEIGHT - _BOTTOM + 16
    return [
        f'<text x="{_LEFT}" y="{y}">{_text(low, 30)}</text>',
        f'<text x="{WIDTH - _RIGHT}" y="{y}" text-anchor="end">{_text(high, 30)}</text>',
    ]


def _text(text: str, limit: int) -> str:
    """Return a text fit for XML: one line, clipped, without characters that XML 1.0 does not allow."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return escape(line if len(line) <= limit else line[: limit - 1] + "…")
