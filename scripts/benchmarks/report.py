"""The result of a benchmark as JSON, as the README's table and as its chart."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from figures import FIGURES, Figure, Part

RESULT = Path("docs") / "benchmark.json"
CHART = Path("docs") / "benchmark.svg"
README = Path("README.md")
BEGIN, END = "<!-- benchmark: written by scripts/bench --write -->", "<!-- end of the benchmark -->"

PLAIN, NATIVE = "plain disk", "jobfs (kernel)"
_ORDER = (PLAIN, NATIVE, "jobfs (fusepy)", "rclone")

Result = dict[str, Any]


def result(
    times: Mapping[Part, Mapping[str, Mapping[str, Sequence[float]]]],
    *,
    round_trip_s: float,
    load: float,
    switches: Sequence[str] = (),
) -> Result:
    """Return what was measured as plain data: medians, and with them the least and the greatest.

    :param switches: what the embedded server answered otherwise than by itself.
    :param load: how many processes the machine had to run before the benchmark began; much above 0 spoils it.
    """
    return {
        "machine": machine(),
        "load": round(load, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "round_trip_s": round_trip_s,
        "switches": list(switches),
        **{
            part.value: {
                key: {
                    name: {
                        "median": round(statistics.median(took), 5),
                        "least": round(min(took), 5),
                        "greatest": round(max(took), 5),
                        "count": len(took),
                    }
                    for name, took in by_place.items()
                }
                for key, by_place in figures.items()
            }
            for part, figures in times.items()
        },
    }


def machine() -> str:
    """Describe this machine in a line."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    release = ".".join(platform.release().split(".")[:2])
    python = ".".join(platform.python_version_tuple()[:2])
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, Linux {release}, Python {python}"


def median(found: Result, part: Part, key: str, place: str) -> float | None:
    """Return a median, or None where it was not measured."""
    measured = found[part.value].get(key, {}).get(place)
    return None if measured is None else float(measured["median"])


def ratio(found: Result, key: str, place: str) -> float | None:
    """Return how many times the plain disk's time something took near."""
    own, plain = median(found, Part.NEAR, key, place), median(found, Part.NEAR, key, PLAIN)
    return None if own is None or not plain else own / plain


def is_kept(found: Result, part: Part, figure: Figure) -> bool | None:
    """Tell whether a target was met; None where there is none, or nothing was measured."""
    own = median(found, part, figure.key, NATIVE) if part is Part.FAR else ratio(found, figure.key, NATIVE)
    return None if own is None or figure.target is None else own <= figure.target


def keeps_targets(found: Result) -> bool:
    """Tell whether every target that was measured was met."""
    return all(is_kept(found, part, figure) is not False for part, figures in FIGURES.items() for figure in figures)


# -- the table


def markdown(found: Result) -> str:
    """Return the tables as Markdown."""
    lines = []
    for part, head in (
        (Part.NEAR, "Server on the same machine; in brackets times the plain disk"),
        (Part.FAR, f"{_server(found)} behind a link with a round trip of {found['round_trip_s'] * 1000:.0f} ms"),
    ):
        shown = [name for name in _ORDER if any(name in by_place for by_place in found[part.value].values())]
        if not shown:
            continue
        lines += [f"| {head} | {' | '.join(shown)} | target |", "| :-- |" + " --: |" * (len(shown) + 1)]
        lines += [_row(found, part, figure, shown) for figure in FIGURES[part] if figure.key in found[part.value]]
        lines.append("")
    return "\n".join(lines)


def _server(found: Result) -> str:
    switches = found.get("switches", [])
    return f"Server with {', '.join(switches)}" if switches else "Server"


def _row(found: Result, part: Part, figure: Figure, shown: Sequence[str]) -> str:
    cells = [_cell(found, part, figure, name) for name in shown]
    return f"| {figure.title} | {' | '.join(cells)} | {_target(found, part, figure)} |"


def _cell(found: Result, part: Part, figure: Figure, place: str) -> str:
    own = median(found, part, figure.key, place)
    if own is None or (part is Part.NEAR and place == PLAIN and figure.key.endswith("-there")):
        return ""
    text = amount(own, figure.unit)
    times = ratio(found, figure.key, place) if part is Part.NEAR and not figure.key.endswith("-there") else None
    return text if times is None or place == PLAIN else f"{text} ({times:.2g}×)"


def _target(found: Result, part: Part, figure: Figure) -> str:
    if figure.target is None:
        return ""
    limit = f"{figure.target:.2g}×" if part is Part.NEAR else amount(figure.target, figure.unit)
    told = {True: "kept", False: "missed", None: "not compared"}[is_kept(found, part, figure)]
    return f"{limit} {told}"


def amount(value: float, unit: str) -> str:
    """Return a number with its unit, to three digits."""
    if unit != "s":
        return f"{value:.0f} {unit}"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


# -- the chart

_BAR, _GAP, _LEFT, _WIDTH = 12, 10, 330, 900
_COLOURS = {PLAIN: "#9aa0a6", NATIVE: "#1a73e8", "jobfs (fusepy)": "#8ab4f8", "rclone": "#f29900"}


def chart(found: Result) -> str:
    """Return a bar chart of the far part as SVG: each workload's bars relative to its slowest."""
    rows = [figure for figure in FIGURES[Part.FAR] if figure.unit == "s" and figure.key in found[Part.FAR.value]]
    names = [name for name in _ORDER if any(name in found[Part.FAR.value][figure.key] for figure in rows)]
    height = 40 + len(rows) * (_BAR * len(names) + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        *_legend(names),
    ]
    at = 36
    for figure in rows:
        parts += _bars(found, figure, names, at)
        at += _BAR * len(names) + _GAP
    return "\n".join([*parts, "</svg>", ""])


def _legend(names: Sequence[str]) -> list[str]:
    return [
        f'<rect x="{_LEFT + 140 * number}" y="10" width="12" height="12" fill="{_COLOURS[name]}"/>'
        f'<text x="{_LEFT + 18 + 140 * number}" y="21">{name}</text>'
        for number, name in enumerate(names)
    ]


def _bars(found: Result, figure: Figure, names: Sequence[str], at: int) -> list[str]:
    values = {name: median(found, Part.FAR, figure.key, name) for name in names}
    longest = max(value for value in values.values() if value is not None)
    middle = at + _BAR * len(names) / 2 + 4
    parts = [f'<text x="{_LEFT - 8}" y="{middle:.0f}" text-anchor="end">{figure.title}</text>']
    for number, name in enumerate(names):
        value = values[name]
        if value is None:
            continue
        width = max(1.0, (_WIDTH - _LEFT - 70) * value / longest)
        top = at + number * _BAR
        parts.append(f'<rect x="{_LEFT}" y="{top}" width="{width:.1f}" height="{_BAR - 2}" fill="{_COLOURS[name]}"/>')
        parts.append(f'<text x="{_LEFT + width + 4:.1f}" y="{top + 9}" font-size="10">{amount(value, "s")}</text>')
    return parts


# -- into the checkout


def section(found: Result) -> str:
    """Return the README's section between its markers."""
    return (
        f"{BEGIN}\n\nMeasured by `scripts/bench` on {found['date']}: {found['machine']}, with a load of {found['load']}"
        " beforehand (0 is an idle machine). Medians.\n\n"
        f"{markdown(found)}\n![The second table as a chart]({CHART.as_posix()})\n\n{END}"
    )


def write(root: Path, found: Result) -> None:
    """Write the result, the chart and the README's section."""
    (root / RESULT).parent.mkdir(exist_ok=True)
    (root / RESULT).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (root / CHART).write_text(chart(found), encoding="utf-8")
    text = (root / README).read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{README} has lost the markers of the benchmark's section")
    (root / README).write_text(before + section(found) + after, encoding="utf-8")
