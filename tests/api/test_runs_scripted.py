"""Runs, artifacts and the file pool, against a scripted far side."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from jobfs import errors
from jobfs.api.address import base_of_runs
from jobfs.api.runs import RunFiles, Runs
from jobfs.model import Item, ItemId, Kind, Lifecycle, Permission

BASE = "https://studio.example/api/v1"


def runs_of(far) -> Runs:
    return Runs(far.transport(BASE))


def a_run(**more: object) -> httpx.Response:
    return httpx.Response(200, json={"id": "r1", "finished": True, **more})


def artifacts(*rows: object) -> httpx.Response:
    return httpx.Response(200, json={"artifacts": rows})


def not_found() -> httpx.Response:
    return httpx.Response(404, json={"issues": [{"message": "no"}], "requestId": "q"})


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://studio.example", "https://studio.example/api/v1"),
        ("https://api.example/", "https://api.example/v1"),
        ("https://api.example/v1/", "https://api.example/v1"),
        ("http://127.0.0.1:80/custom", "http://127.0.0.1/custom"),
    ],
)
def test_a_bare_host_gets_its_usual_prefix(url: str, base: str) -> None:
    assert base_of_runs(url) == base


def test_a_run_is_asked_for_with_the_sections_that_are_wanted(far, run) -> None:
    far.script = [a_run(execution={"status": "rejected"}, timing=None, usage=None, error=None), a_run()]
    got = run(runs_of(far).get_run("r1", expand=["input", "usage"]))
    assert (got.finished, got.status, got.timing.completed_at, got.error) == (True, "rejected", "", "")
    run(runs_of(far).get_run("r/1"))
    assert far.sent == ["GET /api/v1/runs/r1?expand=input%2Cusage", "GET /api/v1/runs/r%2F1"]


def test_runs_come_once_each_until_there_is_no_cursor(far, run) -> None:
    def page(ids: list[str], cursor: object) -> httpx.Response:
        return httpx.Response(200, json={"runs": [{"id": id_, "finished": True} for id_ in ids], "nextCursor": cursor})

    far.script = [page(["a", "b"], "c1"), page([], "c2"), page(["b", "c"], None)]

    async def main() -> list[str]:
        return [found.id async for found in runs_of(far).iter_runs(filters={"status": "completed", "offset": "7"})]

    assert run(main()) == ["a", "b", "c"]
    assert far.sent == [
        "GET /api/v1/runs?status=completed",
        "GET /api/v1/runs?status=completed&cursor=c1",
        "GET /api/v1/runs?status=completed&cursor=c2",
    ]


def test_a_cursor_that_goes_round_ends_the_listing(far, run) -> None:
    far.rule = lambda _: httpx.Response(200, json={"runs": [], "nextCursor": "same"})

    async def main() -> list[str]:
        return [found.id async for found in runs_of(far).iter_runs()]

    assert run(main()) == []
    assert len(far.requests) == 2


def test_a_marketing_page_reads_as_a_wrong_address(far, run) -> None:
    far.script = [httpx.Response(200, html="<!doctype html><html>"), httpx.Response(307, headers={"location": "/en/"})]
    for _ in range(2):
        with pytest.raises(errors.ProtocolViolation) as caught:
            run(runs_of(far).get_run("r1"))
        assert "address" in caught.value.cause + caught.value.remedy


# -------------------------------------------------------------------------------------------------------- artifacts


def fetch(far, run, runs: Runs, path: str) -> bytes:
    async def main() -> bytes:
        async with runs.download_artifact("r1", path) as download:
            return b"".join([chunk async for chunk in download.chunks()])

    return run(main())


def test_an_artifact_is_asked_for_with_literal_slashes_and_everything_else_encoded(far, run) -> None:
    far.script = [httpx.Response(200, content=b"x")]
    fetch(far, run, runs_of(far), "out put/ä?#%&+.txt")
    assert far.sent == ["GET /api/v1/runs/r1/artifacts/out%20put/%C3%A4%3F%23%25%26%2B.txt"]


def test_where_literal_slashes_are_not_found_encoded_ones_are_tried_and_remembered(far, run) -> None:
    runs = runs_of(far)
    far.script = [not_found(), httpx.Response(200, content=b"x"), httpx.Response(200, content=b"y")]
    assert fetch(far, run, runs, "a/b") == b"x"
    assert fetch(far, run, runs, "c/d") == b"y"
    assert [line.rsplit("/artifacts/", 1)[1] for line in far.sent] == ["a/b", "a%2Fb", "c%2Fd"]


def test_an_artifact_found_in_no_spelling_changes_nothing(far, run) -> None:
    runs = runs_of(far)
    far.script = [not_found(), not_found(), httpx.Response(200, content=b"y"), not_found()]
    with pytest.raises(errors.NotFound):
        fetch(far, run, runs, "a/b")
    assert fetch(far, run, runs, "c/d") == b"y"
    with pytest.raises(errors.NotFound):
        fetch(far, run, runs, "single")
    assert [line.rsplit("/artifacts/", 1)[1] for line in far.sent] == ["a/b", "a%2Fb", "c/d", "single"]


@pytest.mark.parametrize("path", ["", "..", "a/../b", "a//b", "./a", "a/"])
def test_a_path_that_an_http_stack_would_collapse_is_refused_before_sending(far, run, path: str) -> None:
    with pytest.raises(errors.InvalidPath):
        fetch(far, run, runs_of(far), path)
    assert far.requests == []


def test_a_redirect_to_storage_is_followed_without_the_key(far, run) -> None:
    far.script = [
        httpx.Response(302, headers={"location": "https://storage.example/x?sig=1"}),
        httpx.Response(200, content=b"x"),
    ]
    assert fetch(far, run, runs_of(far), "a") == b"x"
    assert ["authorization" in request.headers for request in far.requests] == [True, False]


# -------------------------------------------------------------------------------------------------------- run files


def test_artifacts_become_read_only_files_and_hostile_paths_stay_as_they_are(far, run, expected_logs) -> None:
    expected_logs.expect("2 rows")
    rows = [
        {"path": "out/a.txt", "name": "a.txt", "role": "output", "size": 3, "contentType": "text/plain"},
        {"path": "/../evil", "name": "evil", "role": "new-role", "size": 0, "contentType": None},
        {"path": None},
        {"path": "\ud800", "size": 1},
        {"path": "out/a.txt", "name": "again", "size": 9},
    ]
    body = json.dumps({"artifacts": rows}).encode()
    far.script = [a_run(timing={"completedAt": "2025-01-01T00:00:00Z"}), httpx.Response(200, content=body)]
    page = run(RunFiles(runs_of(far), "r1").list_page(skip=0, take=100))
    assert (len(page.items), page.malformed, page.total) == (2, 2, 4)
    assert page.items[0] == Item(
        id=ItemId("out/a.txt"),
        kind=Kind.FILE,
        path="out/a.txt",
        raw_path="out/a.txt",
        permission=Permission.READ_ONLY,
        lifecycle=Lifecycle.EXPERT_JOB,
        owner="expert",
        created_at="",
        updated_at="2025-01-01T00:00:00Z",
        size=3,
        mime_type="text/plain",
    )
    assert (page.items[1].raw_path, page.items[1].path) == ("/../evil", "../evil")


@pytest.mark.parametrize("trouble", [not_found(), httpx.Response(200, html="<html>")])
def test_the_files_of_the_run_stand_in_for_a_missing_list(far, run, trouble: httpx.Response) -> None:
    far.script = [a_run(files=[{"path": "a", "size": 1}]), trouble]
    assert [item.path for item in run(RunFiles(runs_of(far), "r1").list_page(skip=0)).items] == ["a"]


def test_an_unknown_size_is_learnt_by_reading_to_the_end_and_only_once(far, run) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith("/artifacts"):
            return artifacts({"path": "a", "size": None}, {"path": "b"}, {"path": "c", "size": 7})
        return httpx.Response(200, content=b"x" * 1000) if "/artifacts/" in path else a_run()

    async def main() -> list[list[int]]:
        far.rule = answer
        files = RunFiles(runs_of(far), "r1")
        return [[item.size for item in (await files.list_page(skip=0)).items] for _ in range(2)]

    assert run(main()) == [[1000, 1000, 7]] * 2
    assert sum("/artifacts/" in line for line in far.sent) == 2


def test_a_size_that_cannot_be_learnt_fails_the_listing_with_its_own_error(far, run) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/artifacts"):
            return artifacts({"path": "a"}, {"path": "b"})
        return httpx.Response(403) if "/artifacts/" in request.url.path else a_run()

    far.rule = answer
    with pytest.raises(errors.Unauthenticated):
        run(RunFiles(runs_of(far), "r1").list_page(skip=0))


def test_an_artifact_that_no_request_can_name_costs_itself_alone_where_its_size_is_unknown(
    far, run, expected_logs
) -> None:
    expected_logs.expect("an artifact of unknown size is left out")

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/artifacts"):
            return artifacts({"path": "../evil"}, {"path": "/"}, {"path": "good"})
        return httpx.Response(200, content=b"x" * 10) if "/artifacts/" in request.url.path else a_run()

    far.rule = answer
    page = run(RunFiles(runs_of(far), "r1").list_page(skip=0))
    assert [(item.path, item.size) for item in page.items] == [("good", 10)]
    assert (page.malformed, page.total) == (2, 3)


def test_later_pages_go_on_in_the_first_ones_answer(far, run) -> None:
    far.script = [a_run(), artifacts(*[{"path": f"f{n}", "size": 1} for n in range(5)])]

    async def main() -> list[str]:
        files = RunFiles(runs_of(far), "r1")
        return [item.path for skip in (0, 2, 4) for item in (await files.list_page(skip=skip, take=2)).items]

    assert run(main()) == ["f0", "f1", "f2", "f3", "f4"]


@pytest.mark.parametrize(("finished", "status"), [(True, "completed"), (False, "processing")])
def test_finished_alone_decides_the_status(far, run, finished: bool, status: str) -> None:
    far.script = [httpx.Response(200, json={"id": "r1", "finished": finished, "execution": {"status": "failed"}})]
    assert run(RunFiles(runs_of(far), "r1").status()) == status


def test_nothing_can_be_written_into_a_run(far, run, tmp_path: Path) -> None:
    files = RunFiles(runs_of(far), "r1")
    assert files.is_read_only
    for call in (
        files.create_directory("d", Permission.READ_WRITE),
        files.create_file("f", Permission.READ_WRITE, tmp_path, ""),
        files.update(ItemId("a"), path="b"),
        files.delete(ItemId("a")),
    ):
        with pytest.raises(errors.Refused):
            run(call)
    assert far.requests == []


def test_an_artifact_that_is_not_listed_is_not_found(far, run) -> None:
    far.script = [a_run(), artifacts({"path": "a", "size": 1}), a_run(), artifacts({"path": "a", "size": 1})]
    files = RunFiles(runs_of(far), "r1")
    assert run(files.get(ItemId("a"))).size == 1
    with pytest.raises(errors.NotFound):
        run(files.get(ItemId("b")))


# ------------------------------------------------------------------------------------------------------------- pool


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "data.csv"
    path.write_bytes(b"a,b\n1,2\n")
    return path


def stored() -> httpx.Response:
    return httpx.Response(201, json={"id": "f1", "filename": "data.csv", "size": 8})


@pytest.mark.parametrize("url", ["/v1/files", "/api/v1/files", "https://studio.example/api/v1/files"])
def test_a_form_upload_goes_below_our_own_base_however_it_is_spelt(far, run, source: Path, url: str) -> None:
    far.script = [httpx.Response(200, json={"transport": "multipart", "url": url, "maxFileSizeBytes": 100}), stored()]
    file = run(runs_of(far).files.upload(source, content_type="text/csv", purpose="run-input", idempotency_key="k"))
    assert file.id == "f1"
    assert far.sent == ["POST /api/v1/files/uploads", "POST /api/v1/files"]
    assert json.loads(far.requests[0].content) == {
        "filename": "data.csv",
        "contentType": "text/csv",
        "size": 8,
        "purpose": "run-input",
        "idempotencyKey": "k",
    }
    assert b'name="purpose"\r\n\r\nrun-input' in far.requests[1].content
    assert b"a,b\n1,2\n" in far.requests[1].content


@pytest.mark.parametrize("url", ["https://evil.example/v1/files", "http" + "://studio.example/v1/files", "ftp:x"])
def test_a_form_upload_is_never_sent_with_the_key_to_another_place(far, run, source: Path, url: str) -> None:
    far.script = [httpx.Response(200, json={"transport": "multipart", "url": url})]
    with pytest.raises(errors.ProtocolViolation):
        run(runs_of(far).files.upload(source))
    assert len(far.requests) == 1


def signed(**more: object) -> httpx.Response:
    order = {
        "transport": "presigned-put",
        "uploadId": "u1",
        "fileId": "f1",
        "url": "https://storage.example/put?sig=s",
        "headers": {"Content-Type": "text/csv", "x-amz-acl": "private", "Authorization": "no", "Host": "no"},
        "expiresAt": "2030-01-01T00:00:00Z",
        "maxFileSizeBytes": 100,
    }
    return httpx.Response(200, json={**order, **more})


def test_a_signed_upload_goes_to_storage_without_the_key_and_is_completed(far, run, source: Path) -> None:
    far.script = [signed(), httpx.Response(200), httpx.Response(503), stored()]
    assert run(runs_of(far).files.upload(source, content_type="text/csv")).id == "f1"
    assert [f"{request.method} {request.url}" for request in far.requests] == [
        f"POST {BASE}/files/uploads",
        "PUT https://storage.example/put?sig=s",
        f"POST {BASE}/files/uploads/u1/complete",
        f"POST {BASE}/files/uploads/u1/complete",
    ]
    put = far.requests[1]
    assert "authorization" not in put.headers
    assert (put.headers["host"], put.headers["x-amz-acl"], put.content) == ("storage.example", "private", b"a,b\n1,2\n")
    assert (put.headers.get_list("content-type"), put.headers["content-length"]) == (["text/csv"], "8")


def test_a_signed_upload_that_the_storage_refuses_is_aborted(far, run, source: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(403) if request.method == "PUT" else httpx.Response(200, json={"aborted": True})

    far.script = [signed()]
    far.rule = answer
    with pytest.raises(errors.ServerFailure):
        run(runs_of(far).files.upload(source))
    assert far.sent[-1] == "DELETE /api/v1/files/uploads/u1"


def test_an_upload_whose_completion_is_unclear_is_not_aborted(far, run, source: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("complete"):
            raise httpx.ReadError("reset")
        return httpx.Response(200)

    far.script = [signed()]
    far.rule = answer
    with pytest.raises(errors.OutcomeUnknown):
        run(runs_of(far).files.upload(source))
    assert not any(line.startswith("DELETE") for line in far.sent)


@pytest.mark.parametrize("url", ["http" + "://storage.example/put", "nonsense", "https:" + "//u:p@storage.example/put"])
def test_a_signed_upload_to_an_unsafe_address_is_refused(far, run, source: Path, url: str) -> None:
    far.script = [signed(url=url), httpx.Response(200, json={"aborted": True})]
    with pytest.raises(errors.ProtocolViolation) as caught:
        run(runs_of(far).files.upload(source))
    assert "storage.example" not in str(caught.value)


def test_a_file_above_the_servers_limit_is_not_sent(far, run, source: Path) -> None:
    far.script = [signed(maxFileSizeBytes=7)]
    with pytest.raises(errors.TooLarge, match="8 bytes, and the server takes 7"):
        run(runs_of(far).files.upload(source))
    assert len(far.requests) == 1


def test_an_unknown_way_of_upload_is_a_protocol_violation(far, run, source: Path) -> None:
    far.script = [httpx.Response(200, json={"transport": "pigeon", "url": "/x"})]
    with pytest.raises(errors.ProtocolViolation, match="pigeon"):
        run(runs_of(far).files.upload(source))


@pytest.mark.parametrize("answer", [httpx.Response(200, json={"deleted": True}), httpx.Response(204)])
def test_a_pool_file_is_read_fetched_and_deleted(far, run, answer: httpx.Response) -> None:
    async def main() -> bytes:
        pool = runs_of(far).files
        assert (await pool.get("f1")).size == 8
        await pool.delete("f1")
        async with pool.download("f1") as download:
            return b"".join([chunk async for chunk in download.chunks()])

    far.script = [stored(), answer, httpx.Response(200, content=b"x")]
    assert run(main()) == b"x"
    assert far.sent == ["GET /api/v1/files/f1", "DELETE /api/v1/files/f1", "GET /api/v1/files/f1/content"]
