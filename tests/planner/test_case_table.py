"""The case table: a tiny world, the plan for it, and what there is when it has converged.

The words are those of small_world. A case is a block of lines in case_table.txt: its name, the three trees, the plan
indented, and the outcome after a number of rounds; ``here`` and ``there`` where a problem keeps the sides apart. ``(C``
stands for the conflict mark.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from .small_world import World, describe, world


@dataclass(frozen=True)
class Row:
    name: str
    trees: dict[str, str]
    plan: list[str]
    outcome: list[str]

    def world(self) -> World:
        return world(self.trees["base"], self.trees["local"], self.trees["remote"])


def read_rows() -> list[Row]:
    text = Path(__file__).with_name("case_table.txt").read_text(encoding="utf-8")
    rows = []
    for block in text.strip().split("\n\n"):
        name, *lines = block.splitlines()
        trees = {word: rest for word, _, rest in (line.partition(" ") for line in lines[:3])}
        plan = [line.strip() for line in lines[3:] if line.startswith("  ")]
        outcome = [line for line in lines[3:] if not line.startswith("  ")]
        rows.append(Row(name.removeprefix("# "), trees, plan, outcome))
    return rows


ROWS = read_rows()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_plan_is(row: Row) -> None:
    made = row.world()
    assert describe(made, made.plan()) == row.plan


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_outcome_is(row: Row) -> None:
    made = row.world()
    assert made.outcome(made.converge()) == row.outcome


def test_the_table_is_long_enough_and_names_each_case_once() -> None:
    names = [row.name for row in ROWS]
    assert len(names) >= 80
    assert len(set(names)) == len(names)
