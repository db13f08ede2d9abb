"""Lists of artifacts that no honest server gives, seen from a mount and from a folder of a run.

What is honest in them is served, nothing is written anywhere else, and one bad row costs that row alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from engine_harness import mounted, run
from folder_harness import Desk
from hostile_studio import BASE, KEY, QUICK_RETRIES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobfs.api.runs import RunFiles, Runs
from jobfs.api.transport import Transport
from jobfs.folder.sync import Direction, SyncOptions

pytestmark = pytest.mark.allow_log("rows of the list cannot be read|of unknown size is left out|not in force")

EXAMPLES = int(os.environ.get("JOBFS_FUZZ", "15"))
patient = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize="JOBFS_FUZZ" not in os.environ,
    database=None,
)

RUN = "r1"
PATHS = [
    *(
        "..",
        "../up",
        "/",
        "//",
        "a//b",
        "a/../../up",
        "/etc/passwd",
        "./a",
        "x\0y",
        "x\ny",
        "\x1b[2J",
        "\ud800",
        "A",
        "a",
    ),
    *(
        "Café",
        "Cafe\u0301",
        "CON",
        "nul.txt",
        "a:b",
        "a\\b",
        ".jobfs/status.json",
        ".a.jobfs-12345678.new",
        "perstack/x",
    ),
    *("%2e%2e/up", "x" * 300, "x" * 100_000, "/".join("d" * 600), "good.txt/below", "-rf", "?a=b", "#x", "~"),
]
wrong = st.sampled_from([None, True, [], {}, "", "x", -1, 1.5, 2**63, 10**400, float("nan"), "\ud800", "x" * 5000])
rows = st.lists(
    st.fixed_dictionaries(
        {"path": st.sampled_from(PATHS) | wrong},
        optional={
            "size": st.sampled_from([0, 3, 4, None]) | wrong,
            "name": wrong,
            "role": wrong,
            "contentType": wrong,
            "stepName": wrong,
        },
    )
    | wrong,
    max_size=6,
)


@asynccontextmanager
async def _run_files(drawn: list[Any], **run_fields: Any) -> AsyncIterator[RunFiles]:
    """Give a finished run of one honest artifact, one honest one of unknown size, and these."""
    listed = [{"path": "good.txt", "size": 4}, {"path": "out/unknown.txt", "size": None}, *drawn]

    def answer(request: httpx.Request) -> httpx.Response:
        path = unquote(request.url.raw_path.decode().partition("?")[0])
        if path == f"/runs/{RUN}":
            value: object = {"id": RUN, "finished": True, **run_fields}
        elif path == f"/runs/{RUN}/artifacts":
            value = {"artifacts": listed}
        else:
            return httpx.Response(200, content=b"good")
        return httpx.Response(200, content=json.dumps(value).encode())

    async with Transport(BASE, KEY, retries=QUICK_RETRIES, http=httpx.MockTransport(answer)) as transport:
        yield RunFiles(Runs(transport), RUN)


@patient
@given(drawn=rows)
def test_a_mount_of_a_run_serves_what_is_honest_in_any_list(
    tmp_path_factory: pytest.TempPathFactory, drawn: Any
) -> None:
    async def main() -> None:
        base = tmp_path_factory.mktemp("runs")
        async with (
            _run_files(drawn) as remote,
            mounted(base / "state", remote, is_read_only=True) as mount,  # type: ignore[arg-type]
        ):
            assert await mount.read("out/unknown.txt") == b"good"
            # A path below it makes a directory of its name; the file then has its id in it.
            is_taken = any(isinstance(row, dict) and row.get("path") == "good.txt/below" for row in drawn)
            if not is_taken:
                assert await mount.read("good.txt") == b"good"
            assert [task for task in mount.session._loops if task.done()] == []
            assert mount.session.state.check() == []
            assert all(len(problem.path) + len(problem.detail) < 3000 for problem in mount.session.feed.problems)
        assert os.listdir(base) == ["state"]

    run(main())


@patient
@given(drawn=rows)
def test_a_folder_of_a_run_has_what_is_honest_in_any_list_and_nothing_beside_it(
    tmp_path_factory: pytest.TempPathFactory, drawn: Any
) -> None:
    async def main() -> None:
        base = tmp_path_factory.mktemp("runs")
        (base / "outside").write_text("untouched")
        async with _run_files(drawn) as remote:
            desk = Desk(base, remote)
            await desk.sync(SyncOptions(direction=Direction.PULL, host="testhost"))
        assert desk.tree()["out/unknown.txt"] == b"good"
        assert sorted(os.listdir(base)) == ["folder", "outside", "state"]
        assert (base / "outside").read_text() == "untouched"

    run(main())


@pytest.mark.parametrize(
    "field", ["timing", "execution", "files", "output", "source", "error", "input", "debug", "eval"]
)
def test_a_field_of_a_run_that_is_of_a_wrong_kind_costs_nothing(field: str) -> None:
    async def main() -> None:
        for value in (None, True, 5, 10**400, [], [None], {}, {"": []}, "x" * 10_000, {"completedAt": 7, "status": []}):
            async with _run_files([], **{field: value}) as remote:
                assert await remote.status() == "completed"
                page = await remote.list_page(skip=0)
                assert [(item.path, item.size) for item in page.items] == [("good.txt", 4), ("out/unknown.txt", 4)]

    run(main())


def test_an_artifact_whose_row_can_no_longer_be_read_is_not_taken_for_deleted(tmp_path: Path) -> None:
    async def main() -> None:
        gone = {"path": "later.txt", "size": 4}
        drawn: list[Any] = [gone]
        async with (
            _run_files(drawn) as first,
            _run_files([{**gone, "path": None}]) as second,
        ):
            desk = Desk(tmp_path, first)
            await desk.sync(SyncOptions(direction=Direction.PULL, host="testhost"))
            assert desk.tree()["later.txt"] == b"good"
            desk.remote = second
            await desk.sync(SyncOptions(direction=Direction.PULL, host="testhost"))
            assert desk.tree()["later.txt"] == b"good"

    run(main())
