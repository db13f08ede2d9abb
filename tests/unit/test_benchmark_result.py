"""The benchmark's last result as the README shows it, and how a result becomes a table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "benchmarks"))

import report  # noqa: E402  (the path is set above)
from figures import FIGURES, Part  # noqa: E402

STORED = json.loads((ROOT / report.RESULT).read_text(encoding="utf-8"))


def taking(**seconds: float) -> report.Result:
    """Return a result in which one thing was measured near, by place."""
    names = {"plain": report.PLAIN, "native": report.NATIVE}
    times = {"find": {names[name]: [took] for name, took in seconds.items()}}
    return report.result({Part.NEAR: times, Part.FAR: {}}, round_trip_s=0.02, load=0.0)


def test_the_readme_shows_the_stored_result() -> None:
    assert report.section(STORED) in (ROOT / report.README).read_text(encoding="utf-8")


def test_the_chart_is_that_of_the_stored_result() -> None:
    assert (ROOT / report.CHART).read_text(encoding="utf-8") == report.chart(STORED)


@pytest.mark.parametrize("part", Part)
def test_every_figure_was_measured_for_the_native_transport(part: Part) -> None:
    missing = [figure.key for figure in FIGURES[part] if report.median(STORED, part, figure.key, report.NATIVE) is None]
    assert missing == []


def test_near_a_target_is_met_by_the_ratio_to_the_plain_disk() -> None:
    assert report.keeps_targets(taking(plain=0.010, native=0.013))
    assert not report.keeps_targets(taking(plain=0.010, native=0.014))


def test_without_the_plain_disk_a_target_near_is_neither_met_nor_missed() -> None:
    found = taking(native=0.014)
    assert report.keeps_targets(found)
    assert report.markdown(found).splitlines()[2] == "| find, 10,000 files, warm | 14 ms | 1.3× not compared |"


def test_a_table_says_how_the_server_answered_otherwise_than_by_itself() -> None:
    times = {Part.NEAR: {}, Part.FAR: {"whole": {report.NATIVE: [1.0]}}}
    found = report.result(times, round_trip_s=0.02, load=0.0, switches=["range=honour"])
    assert report.markdown(found).splitlines()[0] == (
        "| Server with range=honour behind a link with a round trip of 20 ms | jobfs (kernel) | target |"
    )


def test_a_table_has_a_column_for_each_place_that_was_measured() -> None:
    assert report.markdown(taking(plain=0.010, native=0.013)).splitlines() == [
        "| Server on the same machine; in brackets times the plain disk | plain disk | jobfs (kernel) | target |",
        "| :-- | --: | --: | --: |",
        "| find, 10,000 files, warm | 10 ms | 13 ms (1.3×) | 1.3× kept |",
    ]
