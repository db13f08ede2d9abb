"""Pages of items spelt in every wrong way: what the client reads of them is what a second, declared reading of the
same bytes says (``item_shapes``), row by row, and a page that is none is an error in words.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from hostile_studio import BASE, JOB, KEY, QUICK_RETRIES, file_row
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from item_shapes import Told, read_page

from jobfs.api.studio import Studio, Workspace
from jobfs.api.transport import Transport
from jobfs.errors import ProtocolViolation

pytestmark = pytest.mark.allow_log("rows of the list cannot be read")

EXAMPLES = int(os.environ.get("JOBFS_FUZZ", "60"))
patient = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="JOBFS_FUZZ" not in os.environ,
    database=None,
)

# What stands for a value in the bytes themselves, for much of what goes wrong has no other spelling.
TOKENS = [
    *("null", "true", "false", "[]", "{}", '""', "[1]", '{"size":1}', '["a"]', '{"":""}', "[" * 50 + "]" * 50),
    *("0", "-0", "1", "-1", "1.0", "1.5", "1e2", "1e-2", "-1e2", "1e400", "-1e400", "NaN", "Infinity", "-Infinity"),
    *(
        "9223372036854775807",
        "9223372036854775808",
        "9223372036854775807.0",
        "1e18",
        "1e19",
        "9" * 5000,
        "-" + "9" * 60,
    ),
    *('"3"', '"0"', '"007"', '"9223372036854775807"', '"9223372036854775808"', '"-1"', '"many"', '"1e2"', '"٣"'),
    *('"\\ud800"', '"a\\udfffb"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\u001b[2J"', '"\\ufeff"', '"."', '".."', '"/"'),
    *('"workspaceItemFile"', '"file"', '"directory"', '"workspaceItemDirectory"', '"File"', '"symlink"'),
    *('"readOnly"', '"readWrite"', '"READONLY"', '"application"', '"expertJob"', '"x"', '"' + "x" * 3000 + '"'),
]
FIELDS = ["type", "id", "path", "size", "permission", "lifecycle", "owner", "createdAt", "updatedAt", "key", "mimeType"]
HONEST = {name: json.dumps(value) for name, value in file_row("i" * 24, "a.txt", 3).items()}

tokens = st.sampled_from(TOKENS) | st.text(max_size=8).map(json.dumps)
pairs = st.tuples(st.sampled_from([*FIELDS, "created_at", "Size", "invented"]), tokens)


def _spelt(pairs_: list[tuple[str, str]]) -> str:
    """Return an object of these fields, the same ones twice where they are there twice."""
    return "{" + ",".join(f"{json.dumps(name)}:{token}" for name, token in pairs_) + "}"


@st.composite
def _rows(draw: st.DrawFn) -> str:
    left_out = draw(st.sets(st.sampled_from(FIELDS), max_size=2))
    fields = [(name, token) for name, token in HONEST.items() if name not in left_out]
    return _spelt([*fields, *draw(st.lists(pairs, max_size=3))])


lists = st.lists(_rows() | st.sampled_from(TOKENS), max_size=5).map(lambda rows: f"[{','.join(rows)}]")
pages = st.builds(
    lambda name, rows, total, more: f'{{"data":{{"{name}":{rows}}},"meta":{{"total":{total}}}{more}}}',
    st.sampled_from(["workspaceItems", "items"]),
    lists | tokens,
    tokens,
    st.sampled_from(["", ',"meta":7', ',"meta":[]', ',"data":null', ',"data":[[]]', ',"data":{"items":[]}']),
)
encoded = st.builds(
    lambda text, how: text.encode(*how),
    pages,
    st.sampled_from([("utf-8",), ("utf-8-sig",), ("utf-16",), ("utf-32-le",), ("latin-1", "replace")]),
)
cut = st.builds(lambda text, place: text.encode()[: -1 - place], pages, st.integers(0, 60))
bodies = pages.map(str.encode) | encoded | cut


def _asked(body: bytes, status: int = 200) -> tuple[Transport, Workspace]:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, stream=httpx.ByteStream(body))

    transport = Transport(BASE, KEY, retries=QUICK_RETRIES, http=httpx.MockTransport(answer))
    return transport, Studio(transport).workspace(JOB)


def _check_words(error: ProtocolViolation) -> None:
    assert str(error).isprintable()
    assert 0 < len(str(error)) < 500


def _read(body: bytes) -> Told | None:
    """Return what the client reads in a page; None where it says that this is none."""

    async def main() -> Told | None:
        transport, workspace = _asked(body)
        # An empty page has another question asked; what matters here is the page itself.
        workspace._is_known_empty = True
        async with transport:
            try:
                page = await workspace.list_page(skip=0)
            except ProtocolViolation as error:
                _check_words(error)
                return None
        rows: list[tuple[object, ...]] = [
            (
                item.id,
                item.kind,
                item.raw_path,
                item.permission,
                item.lifecycle,
                item.owner,
                item.created_at,
                item.updated_at,
                item.size,
                item.key,
                item.mime_type,
            )
            for item in page.items
        ]
        return Told(rows, page.total, page.malformed)

    return asyncio.run(main())


def _page(row: str) -> bytes:
    return f'{{"data":{{"workspaceItems":[{row}]}},"meta":{{"total":1}}}}'.encode()


@patient
@given(body=bodies)
def test_a_page_is_read_as_its_shape_says_whatever_is_in_it(body: bytes) -> None:
    assert _read(body) == read_page(body)


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_is_missing_or_of_any_wrong_kind_means_what_its_shape_says(field: str) -> None:
    without = [(name, token) for name, token in HONEST.items() if name != field]
    rows = [_spelt(without), *(_spelt([*without, (field, token)]) for token in TOKENS)]
    body = _page(",".join(rows))
    found, expected = _read(body), read_page(body)
    assert found is not None
    assert found == expected
    assert 0 < len(found.items) <= len(rows) == len(found.items) + found.malformed


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: ascii(token[:30]))
def test_what_stands_in_place_of_a_list_or_a_total_is_never_a_list_or_a_total(token: str) -> None:
    for body in (
        f'{{"data":{{"workspaceItems":{token}}},"meta":{{"total":1}}}}',
        f'{{"data":{token}}}',
        token,
        f'{{"data":{{"workspaceItems":[]}},"meta":{token}}}',
        f'{{"data":{{"workspaceItems":[]}},"meta":{{"total":{token}}}}}',
    ):
        assert _read(body.encode()) == read_page(body.encode()), body[:200]


def test_of_a_field_that_is_there_twice_the_last_one_counts() -> None:
    found = _read(_page(_spelt([*HONEST.items(), ("size", "7"), ("path", '"b.txt"')])))
    assert found is not None
    assert [(row[2], row[8]) for row in found.items] == [("b.txt", 7)]


@pytest.mark.parametrize("depth", [1, 100, 100_000])
@pytest.mark.parametrize("brackets", ["[]", '{"a":|}'])
def test_depth_costs_the_row_or_the_page_and_never_the_client(depth: int, brackets: str) -> None:
    opening, _, closing = brackets.partition("|") if "|" in brackets else ("[", "", "]")
    body = _page(f"{opening * depth}1{closing * depth}," + _spelt(list(HONEST.items())))
    found = _read(body)
    assert found is None if depth == 100_000 else found is not None and (len(found.items), found.malformed) == (1, 1)


def test_a_page_that_breaks_off_anywhere_is_none() -> None:
    body = _page(_spelt(list(HONEST.items())))
    for place in range(0, len(body), 7):
        assert _read(body[:place]) is None


# --------------------------------------------------------------------------------------- the status and the stream


@patient
@given(status=tokens, shape=st.sampled_from(['{"data":{"expertJob":%s}}', '{"data":%s}', "%s", '{"expertJob":%s}']))
@example(status='"processing"', shape='{"data":{"expertJob":%s}}')
def test_a_status_is_a_text_that_is_not_empty_or_an_error_in_words(status: str, shape: str) -> None:
    body = (shape % f'{{"id":"{JOB}","status":{status}}}').encode()
    expected = json.loads(body, parse_int=float)
    for name in ("data", "expertJob", "status"):
        expected = expected.get(name) if isinstance(expected, Mapping) else None

    async def main() -> str | None:
        transport, workspace = _asked(body)
        async with transport:
            try:
                return await workspace.status()
            except ProtocolViolation as error:
                _check_words(error)
                return None

    found = asyncio.run(main())
    if isinstance(expected, str) and expected and expected.isprintable():
        assert found == expected
    else:
        assert found is None or found == expected


EVENT = '{{"id":{id},"status":"processing","stepNumber":{step}}}'
lines = st.one_of(
    st.sampled_from(
        [
            "",
            ":",
            ": ping",
            "data",
            "data:",
            "data: {",
            "event: message",
            "event: other",
            "event",
            "id: \0",
            "retry: -1",
        ]
    ),
    tokens.map(lambda token: f"data: {token}"),
    st.builds(lambda id_, step: f"data: {EVENT.format(id=id_, step=step)}\n", tokens, st.sampled_from(["1", "null"])),
    st.text(max_size=12),
)


@patient
@given(
    drawn=st.lists(lines, max_size=12),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    noise=st.binary(max_size=6),
    known=st.integers(0, 3),
)
def test_whatever_a_stream_says_an_honest_checkpoint_in_it_is_heard(
    drawn: list[str], ending: str, noise: bytes, known: int
) -> None:
    honest = [f"data: {EVENT.format(id=json.dumps(f'honest{number}'), step=1)}" for number in range(known)]
    before = [line for one in drawn for line in one.split("\n")]
    text = ending.join(["", *before, "", "", *(part for line in honest for part in (line, "", ""))])
    body = noise.replace(b"\r", b"") + text.encode(errors="surrogatepass")

    async def main() -> list[Any]:
        transport, workspace = _asked(body)
        async with transport, asyncio.timeout(10):
            return [hint async for hint in workspace.hints()]

    heard = [hint if isinstance(hint, str) else hint.id for hint in asyncio.run(main())]
    assert [id_ for id_ in heard if id_.startswith("honest")] == [f"honest{number}" for number in range(known)]
    assert all(isinstance(id_, str) for id_ in heard)
    assert len(set(heard)) == len(heard)


@pytest.mark.parametrize("status", [204, 301, 401, 404, 500, 503])
def test_a_stream_that_is_refused_ends_and_is_no_failure(status: int) -> None:
    async def main() -> list[Any]:
        transport, workspace = _asked(b"data: {}\n\n" if status == 204 else b"", status)
        async with transport, asyncio.timeout(10):
            return [hint async for hint in workspace.hints()]

    assert asyncio.run(main()) == []
