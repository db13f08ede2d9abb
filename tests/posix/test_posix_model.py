"""The mount is a plain directory, except for what SEMANTICS.md says (``posix_model``).

``scripts/posix`` tries others each time, and many more of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from posix_model import Ground, LocalOnlyModel, PosixModel
from posix_synced import SyncedModel

pytestmark = pytest.mark.mount

EXAMPLES = int(os.environ.get("JOBFS_POSIX_EXAMPLES", "0"))
"""So many, found by chance; without it the same few each time."""


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    with Ground(tmp_path, "kernel") as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("model", [SyncedModel, LocalOnlyModel])
def test_a_mount_and_a_plain_directory_come_to_the_same(ground: Ground, model: type[PosixModel]) -> None:
    run_state_machine_as_test(
        lambda: model(ground),
        settings=settings(
            max_examples=EXAMPLES or 150,
            stateful_step_count=40,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            print_blob=bool(EXAMPLES),
            suppress_health_check=list(HealthCheck),
        ),
    )
