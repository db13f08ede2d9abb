"""Every call of the client against answers that fit no contract: a value of its kind, or an error that can be read."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hostile_studio import BASE, KEY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobfs import errors
from jobfs.api.runs import RunFiles, Runs
from jobfs.api.studio import Studio
from jobfs.api.transport import Transport
from jobfs.model import ItemId, Permission

pytestmark = pytest.mark.allow_log("rows of the list cannot be read")

JOB = "jobjobjobjobjobjobjobjob"
EXAMPLES = int(os.environ.get("JOBFS_FUZZ", "25"))
"""Lies told to each call; more by scripts/fuzz."""

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**53, 2**63, -(2**63) - 1, 10**400, -0.0, 1e308])
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(max_size=20)
    | st.sampled_from(
        ["", "\0", "\x1b[2J", "\ud800", "..", "/", "a/../..", "x" * 5000, "expertJob", "workspaceItemFile"]
    )
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    [
        "type",
        "id",
        "path",
        "owner",
        "lifecycle",
        "permission",
        "createdAt",
        "updatedAt",
        "key",
        "mimeType",
        "size",
        "status",
        "stepNumber",
        "action",
        "files",
        "finished",
        "timing",
        "execution",
        "envVariables",
        "envSecrets",
        "items",
        "url",
        "transport",
        "uploadId",
    ]
)
things = st.dictionaries(fields, values, max_size=8)
ITEM = {
    "type": "workspaceItemFile",
    "id": "i" * 24,
    "path": "a.txt",
    "permission": "readWrite",
    "size": 3,
    "updatedAt": "",
    "key": "k",
}
nearly = st.dictionaries(st.sampled_from(sorted(ITEM)), values, max_size=3).map(lambda change: {**ITEM, **change})
names = st.sampled_from(
    [
        "workspaceItem",
        "item",
        "workspaceItems",
        "items",
        "expertJob",
        "expertJobs",
        "workspaceInstance",
        "checkpoint",
        "checkpoints",
        "workspace",
        "workspaceInstanceToRun",
    ]
)
one = things | nearly | values
inner = st.dictionaries(names, one | st.lists(one, max_size=4), max_size=4)
answers = (
    values
    | st.fixed_dictionaries(
        {"data": inner | values},
        optional={
            "meta": values | st.fixed_dictionaries({"total": scalars}),
            "code": scalars,
            "reason": values,
            "error": values,
        },
    )
    | st.fixed_dictionaries(
        {},
        optional={
            "artifacts": st.lists(one, max_size=4) | values,
            "runs": st.lists(one, max_size=4) | values,
            "issues": values | st.lists(one, max_size=2),
            "requestId": values,
            "nextCursor": values,
            "id": scalars,
            "finished": scalars,
            "files": values,
            "execution": values,
            "timing": values,
        },
    )
)


def _deep(levels: int, opening: str, closing: str) -> bytes:
    return b'{"data":{"workspaceItems":' + opening.encode() * levels + closing.encode() * levels + b"}}"


bodies = (
    answers.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=200)
    | st.sampled_from(
        [
            b"",
            b"<html>",
            b"[" * 100_000,
            _deep(900, "[", "]"),
            _deep(500, '{"reason":', "}").replace(b":}", b":1}"),
            b'{"reason":' * 900 + b"1" + b"}" * 900,
            b"\xef\xbb\xbf{}",
            b"\xff" * 100,
            b'{"data":' + b"9" * 5000 + b"}",
        ]
    )
)
statuses = st.sampled_from(
    [
        200,
        200,
        200,
        200,
        200,
        200,
        201,
        204,
        206,
        299,
        300,
        302,
        304,
        307,
        400,
        401,
        403,
        404,
        405,
        409,
        413,
        416,
        418,
        422,
        429,
        500,
        502,
        503,
        507,
        599,
        600,
        999,
    ]
)
headers = st.dictionaries(
    st.sampled_from(
        [
            "location",
            "retry-after",
            "content-range",
            "content-type",
            "content-encoding",
            "x-request-id",
            "content-length",
            "etag",
        ]
    ),
    st.sampled_from(
        [
            "",
            "0",
            "-1",
            "1e9",
            "9" * 400,
            "identity",
            "x",
            "bytes 0-1/2",
            "bytes 9-3/2",
            "http://",
            "http:" + "//[",
            "//",
            "http://127.0.0.1:9/x",
            "https://elsewhere.example/x",
            "file:///etc/passwd",
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "Thu, 99 Jan 99999 00:00:00 GMT",
            "\x7f",
        ]
    ),
    max_size=3,
)


async def _all(rows: AsyncIterator[Any]) -> list[Any]:
    return [row async for row in rows]


async def _bytes(opened: Any) -> int:
    received = 0
    async with opened as download:
        async for chunk in download.chunks():
            received += len(chunk)
    return received


CALLS: dict[str, Callable[[Transport, Path], Awaitable[Any]]] = {
    "list": lambda t, _: Studio(t).workspace(JOB).list_page(skip=0),
    "list all": lambda t, _: Studio(t).workspace(JOB).list_all(),
    "find": lambda t, _: Studio(t).items(JOB).find("a.txt"),
    "get": lambda t, _: Studio(t).items(JOB).get(ItemId("x")),
    "make directory": lambda t, _: Studio(t).items(JOB).create_directory("a", Permission.READ_WRITE),
    "make file": lambda t, source: Studio(t).items(JOB).create_file("a.txt", Permission.READ_WRITE, source, ""),
    "move": lambda t, _: Studio(t).items(JOB).update(ItemId("x"), path="b"),
    "chmod": lambda t, _: Studio(t).items(JOB).update(ItemId("x"), permission=Permission.READ_ONLY),
    "delete": lambda t, _: Studio(t).items(JOB).delete(ItemId("x")),
    "download": lambda t, _: _bytes(Studio(t).items(JOB).download(ItemId("x"))),
    "download a part": lambda t, _: _bytes(Studio(t).items(JOB).download(ItemId("x"), offset=1, length=3)),
    "job": lambda t, _: Studio(t).get_job(JOB),
    "jobs": lambda t, _: _all(Studio(t).iter_jobs(filter="x")),
    "start": lambda t, _: Studio(t).start_job("x", "y"),
    "instance": lambda t, _: Studio(t).instance(JOB),
    "to run": lambda t, _: Studio(t).workspace_instance_to_run(JOB),
    "checkpoints": lambda t, _: Studio(t).list_checkpoints(JOB),
    "hints": lambda t, _: _all(Studio(t).workspace(JOB).hints()),
    "application": lambda t, _: Studio(t).application.get(),
    "run": lambda t, _: Runs(t).get_run("r"),
    "runs": lambda t, _: _all(Runs(t).iter_runs()),
    "artifacts": lambda t, _: Runs(t).list_artifacts("r"),
    "artifact": lambda t, _: _bytes(Runs(t).download_artifact("r", "a/b")),
    "run files": lambda t, _: RunFiles(Runs(t), "r").list_page(skip=0),
    "upload": lambda t, source: Runs(t).files.upload(source),
}


async def _ask(call: str, answer: Callable[[httpx.Request], httpx.Response], source: Path) -> Any:
    asked = 0

    def bounded(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        assert asked <= 500, "the same question without end"
        return answer(request)

    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        await asyncio.sleep(0)

    async with (
        asyncio.timeout(20),
        Transport(BASE, KEY, KEY, http=httpx.MockTransport(bounded), clock=lambda: now, sleep=sleep) as transport,
    ):
        return await CALLS[call](transport, source)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "a.txt"
    path.write_bytes(b"abc")
    return path


@pytest.mark.parametrize("call", CALLS)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="JOBFS_FUZZ" not in os.environ,
    database=None,
)
@given(status=statuses, body=bodies, headers=headers)
def test_any_answer_is_read_or_refused_in_words(
    call: str, source: Path, status: int, body: bytes, headers: dict[str, str]
) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, stream=httpx.ByteStream(body), headers=headers)

    try:
        asyncio.run(_ask(call, answer, source))
    except errors.JobfsError as error:
        text = str(error)
        assert text.isprintable()
        assert 0 < len(text) < 2000


def test_a_server_that_always_asks_for_no_time_at_all_is_asked_a_few_times_only(source: Path) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        return httpx.Response(503, headers={"retry-after": "0"})

    with pytest.raises(errors.ServerFailure):
        asyncio.run(_ask("get", answer, source))
    assert 1 < len(asked) < 60


def test_a_redirect_without_end_is_reported_however_its_body_is_encoded(source: Path) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"location": "", "content-encoding": "gzip"}, stream=httpx.ByteStream(b"x"))

    with pytest.raises(errors.JobfsError):
        asyncio.run(_ask("get", answer, source))
