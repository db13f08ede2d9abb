"""The calls on items: what is sent, and what is made of the answers."""

from __future__ import annotations

import email
import email.policy
from typing import Any

import httpx
import pytest

from jobfs import errors
from jobfs.api.studio import Studio
from jobfs.model import ItemId, Kind, Lifecycle, Permission

ITEMS = "/api/studio/v1/expert_jobs/j1/workspace_instance/items/"
RW = Permission.READ_WRITE


def row(path: str, id_: str = "f1", type_: str = "workspaceItemFile", **more: object) -> dict[str, object]:
    return {"type": type_, "id": id_, "path": path, "size": 3, "permission": "readWrite", **more}


def one(path: str, **more: Any) -> httpx.Response:
    return httpx.Response(200, json={"data": {"workspaceItem": row(path, **more)}})


def page(*rows: object, total: int | None = None) -> httpx.Response:
    body: dict[str, object] = {"data": {"workspaceItems": rows}}
    if total is not None:
        body["meta"] = {"total": total, "take": 100, "skip": 0}
    return httpx.Response(200, json=body)


def refused(reason: str, status: int = 400) -> httpx.Response:
    return httpx.Response(status, json={"code": status, "error": "x", "reason": reason})


def workspace(far):
    return Studio(far.transport()).workspace("j1")


def form(request: httpx.Request) -> list[tuple[str, str | None, str, bytes]]:
    """Return the parts of a multipart request as name, file name, type and bytes."""
    head = b"Content-Type: " + request.headers["content-type"].encode() + b"\r\n\r\n"
    message = email.message_from_bytes(head + request.content, policy=email.policy.HTTP)
    return [
        (
            part.get_param("name", header="content-disposition"),
            part.get_filename(),
            part.get_content_type(),
            part.get_payload(decode=True),
        )
        for part in message.iter_parts()
    ]


# ------------------------------------------------------------------------------------------------------------ lists


def test_a_page_always_names_take_and_skip(far, run) -> None:
    far.script = [page(row("a"), total=1)]
    got = run(workspace(far).list_page(skip=0, take=100))
    assert far.sent == [f"GET {ITEMS}?take=100&skip=0"]
    assert ([item.path for item in got.items], got.total, got.malformed) == (["a"], 1, 0)


def test_a_page_without_meta_has_no_total(far, run) -> None:
    far.script = [page(row("a"))]
    assert run(workspace(far).list_page(skip=0, take=100)).total is None


def test_bad_rows_are_counted_and_the_others_stay(far, run, expected_logs) -> None:
    expected_logs.expect("2 rows")
    far.script = [page(row("a"), {"nonsense": 1}, row("../up", "f2"), None, total=4)]
    got = run(workspace(far).list_page(skip=0, take=100))
    assert ([item.path for item in got.items], got.total, got.malformed) == (["a", "../up"], 4, 2)


def test_an_empty_list_is_confirmed_by_the_instance_until_something_was_in_it(far, run) -> None:
    instance = httpx.Response(200, json={"data": {"workspaceInstance": {"id": "w"}}})
    far.script = [page(total=0), instance, page(total=0), page(row("a"), total=1), page(total=0), refused("gone", 404)]

    async def main() -> None:
        files = workspace(far)
        for _ in range(3):
            await files.list_page(skip=0, take=100)
        with pytest.raises(errors.NotFound):
            await files.list_page(skip=0, take=100)

    run(main())
    assert [line.rsplit("/", 2)[1] for line in far.sent] == [
        *("items", "workspace_instance", "items"),
        *("items", "items", "workspace_instance"),
    ]


def test_all_pages_are_united_by_id(far, run) -> None:
    far.script = [
        page(*[row(f"p{n}", f"i{n}") for n in range(100)], total=150),
        page(*[row(f"p{n}", f"i{n}") for n in range(99, 149)], total=150),
    ]
    items = run(workspace(far).list_all())
    assert sorted(item.id for item in items) == sorted(f"i{n}" for n in range(149))
    assert far.sent[1] == f"GET {ITEMS}?take=100&skip=100"


def test_pages_without_a_total_end_where_nothing_new_comes(far, run) -> None:
    far.script = [page(row("a", "i1")), page(row("a", "i1"))]
    assert [item.id for item in run(workspace(far).list_all())] == ["i1"]


@pytest.mark.parametrize("total", [10**15, None])
def test_a_total_that_no_page_keeps_ends_where_nothing_new_comes(far, run, total: int | None) -> None:
    far.rule = lambda _: page(row("a", "i1"), row("b", "i2"), total=total)
    assert [item.id for item in run(workspace(far).list_all())] == ["i1", "i2"]
    assert len(far.sent) == 2


def test_a_list_that_never_ends_is_refused_in_words(far, run) -> None:
    far.rule = lambda _: page(*(row("a", f"i{len(far.sent)}-{n}") for n in range(100)), total=10**15)
    with pytest.raises(errors.ProtocolViolation, match="more than 1000 items"):
        run(workspace(far).list_all(1000))
    assert len(far.sent) <= 12


# ------------------------------------------------------------------------------------------------------------- find


def test_find_keeps_only_the_exact_path(far, run) -> None:
    far.script = [page(row("docs", "d"), row("/docs/", "e"), row("docs/a", "f"), row("Docs", "g"))]
    assert [item.id for item in run(workspace(far).find("docs"))] == ["d", "e"]
    assert far.sent == [f"GET {ITEMS}find?path=docs"]


@pytest.mark.parametrize("name", ["a*b", "a?b", "a[b", "a]b", "a{b", "a}b", "a\\b", "a%b", "a_b"])
def test_a_name_that_may_read_as_a_pattern_is_looked_up_in_the_list(far, run, name: str) -> None:
    far.script = [page(row(name, "x"), row("axb", "y"), total=2)]
    assert [item.id for item in run(workspace(far).find(name))] == ["x"]
    assert far.sent == [f"GET {ITEMS}?take=100&skip=0"]


def test_an_absurdly_long_answer_to_find_falls_back_to_the_list(far, run) -> None:
    far.script = [page(*[row("x" * 1000, f"i{n}") for n in range(6000)]), page(row("a", "i"), total=1)]
    assert [item.id for item in run(workspace(far).find("a"))] == ["i"]


# ----------------------------------------------------------------------------------------------------------- create


def test_a_directory_is_created_by_a_form_of_three_fields(far, run) -> None:
    far.script = [one("docs", type_="workspaceItemDirectory")]
    item = run(workspace(far).create_directory("docs", Permission.READ_ONLY))
    assert (item.kind, item.size) == (Kind.DIRECTORY, 0)
    assert far.sent == [f"POST {ITEMS}"]
    assert form(far.requests[0]) == [
        ("type", None, "text/plain", b"workspaceItemDirectory"),
        ("path", None, "text/plain", b"docs"),
        ("permission", None, "text/plain", b"readOnly"),
    ]


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_a_file_is_created_from_the_disk_with_its_type(far, run, tmp_path, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    source = tmp_path / "blob"
    source.write_bytes(data)
    far.script = [one("docs/a.csv")]
    run(workspace(far).create_file("docs/a.csv", RW, source, "text/csv"))
    request = far.requests[0]
    assert int(request.headers["content-length"]) == len(request.content)
    assert "transfer-encoding" not in request.headers
    assert form(request)[3] == ("file", "a.csv", "text/csv", data)


def test_names_with_quotes_and_beyond_ascii_survive_the_form(far, run, tmp_path) -> None:
    source = tmp_path / "blob"
    source.write_bytes(b"x")
    name = 'q"uote é 日本 \\ ;.txt'
    far.script = [one(name)]
    run(workspace(far).create_file(name, RW, source, ""))
    body = far.requests[0].content
    assert f'name="path"\r\n\r\n{name}\r\n'.encode() in body
    assert 'filename="q%22uote é 日本 \\ ;.txt"\r\nContent-Type: application/octet-stream\r\n'.encode() in body


def test_a_file_that_shrinks_while_it_is_sent_ends_the_request(far, run, tmp_path) -> None:
    source = tmp_path / "blob"
    source.write_bytes(b"x" * 3_000_000)

    class Shrinking(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            source.write_bytes(b"short")
            await request.aread()
            raise AssertionError("the body was complete")

    files = Studio(far.transport(http=Shrinking())).workspace("j1")
    with pytest.raises(errors.StateError, match="shorter"):
        run(files.create_file("blob", RW, source, ""))


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "a/../b", "a//b", "/a", "a/", "a/.", "a\x00b", "a\nb", "a\x7f", "\ud800", "x" * 1025, "😀" * 513],
)
def test_a_path_that_no_server_should_see_is_refused_before_sending(far, run, tmp_path, path: str) -> None:
    files = workspace(far)
    for call in (
        lambda: files.create_directory(path, RW),
        lambda: files.create_file(path, RW, tmp_path, ""),
        lambda: files.update(ItemId("x"), path=path),
        lambda: files.find(path),
    ):
        with pytest.raises(errors.InvalidPath) as caught:
            run(call())
        assert caught.value.status == 0
    assert far.requests == []


@pytest.mark.parametrize("path", ["x" * 1024, "😀" * 512, "a b", ".hidden", "...", "a\\b", "perstack/x"])
def test_a_path_within_the_limits_is_sent_as_it_is(far, run, path: str) -> None:
    far.script = [one(path)]
    run(workspace(far).create_directory(path, RW))
    assert form(far.requests[0])[1][3] == path.encode()


# ---------------------------------------------------------------------------------------------------- leading slash


def sent_path(request: httpx.Request) -> str:
    return form(request)[1][3].decode()


def test_paths_go_out_without_a_leading_slash_until_the_list_shows_one(far, run) -> None:
    async def main() -> None:
        files = workspace(far)
        far.script = [one("a"), page(row("/a"), row("/b", "f2")), one("/c"), page(row("/a"), row("b", "f2")), one("d")]
        await files.create_directory("a", RW)
        await files.list_page(skip=0, take=100)
        await files.create_directory("c", RW)
        await files.list_page(skip=0, take=100)
        await files.create_directory("d", RW)

    run(main())
    assert [sent_path(request) for request in far.requests if request.method == "POST"] == ["a", "/c", "d"]


def test_an_invalid_path_is_tried_once_in_the_other_form_and_what_worked_is_kept(far, run) -> None:
    async def main() -> None:
        files = workspace(far)
        far.script = [refused("Invalid path"), one("/a"), one("/b"), one("/c")]
        await files.create_directory("a", RW)
        await files.create_directory("b", RW)
        await files.update(ItemId("f1"), path="c")

    run(main())
    assert [sent_path(request) for request in far.requests[:3]] == ["a", "/a", "/b"]
    assert far.requests[3].content == b'{"path":"/c"}'


def test_a_path_invalid_in_both_forms_is_reported_as_first_refused(far, run) -> None:
    far.script = [refused("Invalid path"), refused("Invalid path: slash")]
    with pytest.raises(errors.InvalidPath) as caught:
        run(workspace(far).create_directory("a", RW))
    assert caught.value.reason == "Invalid path"


# ----------------------------------------------------------------------------------------- update, delete, get, answer


def test_an_update_sends_only_what_is_given(far, run) -> None:
    far.script = [one("a"), one("a")]
    files = workspace(far)
    run(files.update(ItemId("f1"), permission=Permission.READ_ONLY))
    run(files.update(ItemId("f1"), path="b/c", lifecycle=Lifecycle.APPLICATION))
    assert [request.content for request in far.requests] == [
        b'{"permission":"readOnly"}',
        b'{"lifecycle":"application","path":"b/c"}',
    ]
    with pytest.raises(ValueError, match="at least one"):
        run(files.update(ItemId("f1")))


def test_ids_are_encoded_and_dots_never_sent(far, run) -> None:
    far.script = [one("a")]
    files = workspace(far)
    run(files.get(ItemId("a/b?c")))
    assert far.sent == [f"GET {ITEMS}a%2Fb%3Fc"]
    with pytest.raises(errors.InvalidPath):
        run(files.delete(ItemId("..")))
    assert len(far.requests) == 1


def test_a_delete_ignores_its_body(far, run) -> None:
    far.script = [httpx.Response(200, content=b"<not json>")]
    run(workspace(far).delete(ItemId("f1")))
    assert far.sent == [f"DELETE {ITEMS}f1"]


def test_an_item_in_the_later_dialect_is_read(far, run) -> None:
    far.script = [httpx.Response(200, json={"data": {"item": {"type": "file", "id": "i", "path": "/a", "size": 1}}})]
    assert run(workspace(far).get(ItemId("i"))).path == "a"


@pytest.mark.parametrize("body", [{}, {"data": {}}, {"data": {"workspaceItem": {"id": "x"}}}, [], {"data": []}])
def test_an_answer_without_a_usable_item_is_a_protocol_violation(far, run, body: object) -> None:
    far.script = [httpx.Response(200, json=body)]
    with pytest.raises(errors.ProtocolViolation):
        run(workspace(far).get(ItemId("i")))


# --------------------------------------------------------------------------------------------------------- download


def fetch(far, run, **wish: int) -> tuple[int, int | None, bytes]:
    async def main() -> tuple[int, int | None, bytes]:
        async with workspace(far).download(ItemId("f1"), **wish) as download:
            return download.offset, download.length, b"".join([chunk async for chunk in download.chunks()])

    return run(main())


def ranged(data: bytes, first: int, total: str = "10", status: int = 206) -> httpx.Response:
    span = f"bytes {first}-{first + len(data) - 1}/{total}"
    return httpx.Response(status, headers={"content-range": span}, content=data)


def test_a_whole_download_asks_for_no_range(far, run) -> None:
    far.script = [httpx.Response(200, content=b"0123456789")]
    assert fetch(far, run) == (0, 10, b"0123456789")
    assert far.sent == [f"GET {ITEMS}f1/download"]
    assert "range" not in far.requests[0].headers


@pytest.mark.parametrize(("word", "offers"), [("bytes", True), (" Bytes ", True), ("none", False), (None, False)])
def test_whether_ranges_are_honoured_is_told_by_answers_to_others(far, run, word: str | None, offers: bool) -> None:
    far.script = [httpx.Response(200, content=b"0123456789", headers={"accept-ranges": word} if word else {})]

    async def offered() -> bool:
        async with workspace(far).download(ItemId("f1")) as download:
            return download.offers_ranges

    assert run(offered()) is offers


@pytest.mark.parametrize("total", ["10", "*"])
def test_an_honoured_range_starts_where_it_was_asked_to(far, run, total: str) -> None:
    far.script = [ranged(b"345", 3, total)]
    assert fetch(far, run, offset=3, length=3) == (3, 3, b"345")
    assert far.requests[0].headers["range"] == "bytes=3-5"


def test_a_range_to_the_end_is_open(far, run) -> None:
    far.script = [ranged(b"789", 7)]
    assert fetch(far, run, offset=7) == (7, 3, b"789")
    assert far.requests[0].headers["range"] == "bytes=7-"


def test_an_ignored_range_gives_the_whole_from_the_start(far, run) -> None:
    far.script = [httpx.Response(200, content=b"0123456789")]
    assert fetch(far, run, offset=3, length=3) == (0, 10, b"0123456789")


@pytest.mark.parametrize(
    "wrong",
    [
        httpx.Response(416),
        httpx.Response(206, content=b"345"),
        ranged(b"45", 4),
        ranged(b"456", 4),
        ranged(b"34567", 3),
        httpx.Response(206, headers={"content-range": "bytes 3-x/10"}, content=b"345"),
        httpx.Response(206, headers={"content-range": "bytes 5-3/10"}, content=b"345"),
    ],
)
def test_a_range_that_cannot_be_trusted_is_replaced_by_the_whole(far, run, wrong: httpx.Response) -> None:
    far.script = [wrong, httpx.Response(200, content=b"0123456789")]
    assert fetch(far, run, offset=3, length=3) == (0, 10, b"0123456789")
    assert "range" not in far.requests[1].headers


def test_what_the_reader_raises_passes_through_and_is_no_second_download(far, run) -> None:
    async def main() -> None:
        far.script = [ranged(b"345", 3)]
        with pytest.raises(errors.Refused):
            async with workspace(far).download(ItemId("f1"), offset=3):
                raise errors.Refused("by the reader", status=416)

    run(main())
    assert len(far.requests) == 1


@pytest.mark.parametrize("status", [400, 404])
def test_a_download_that_is_refused_never_gives_bytes(far, run, status: int) -> None:
    far.script = [refused("Can only download files, not directories", status)]
    with pytest.raises((errors.Refused, errors.NotFound)):
        fetch(far, run)
