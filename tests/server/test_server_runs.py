"""Jobs read as Eigenpal runs, and the file pool: contract section 5.6."""

from __future__ import annotations

import io
import zipfile
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from studio_client import StudioClient

from jobfs.server.files import TEMPORARY_MS
from jobfs.server.forms import FilePart
from jobfs.server.refusals import Refused
from jobfs.server.running import RunningServer
from jobfs.server.state import ServerState
from jobfs.server.switches import Switches

RUN_FIELDS = {"id", "type", "finished", "sampleRank", "timing", "source", "trigger", "execution", "error"}


@pytest.fixture
def finished(studio: StudioClient) -> StudioClient:
    """A finished job with an input, outputs and a name that needs encoding."""
    studio.server.put_item(studio.job, "in.txt", b"input", mime_type="text/plain")
    studio.server.expert_writes(studio.job or "", "out/a b#?%.txt", b"odd")
    studio.server.expert_writes(studio.job or "", "out/report.md", b"report")
    studio.server.set_status(studio.job or "", "completed")
    return studio


def run_of(client: StudioClient, **query: str) -> dict[str, Any]:
    answer = client.request("GET", f"/api/v1/runs/{client.job}", params=query)
    assert answer.status_code == 200, answer.text
    run: dict[str, Any] = answer.json()
    return run


# ---------------------------------------------------------------------- runs


def test_a_finished_job_is_a_run_with_files(finished: StudioClient) -> None:
    run = run_of(finished)
    assert set(run) == RUN_FIELDS | {"output", "files"}
    assert (run["id"], run["type"], run["finished"], run["error"], run["output"]) == (
        finished.job,
        "agent",
        True,
        None,
        {},
    )
    assert set(run["timing"]) == {"createdAt", "startedAt", "completedAt", "durationMs", "cancelRequestedAt"}
    assert set(run["execution"]) == {"status", "schemaValid", "batchId", "retry", "review"}
    assert 0 <= run["sampleRank"] < 1
    assert run["files"] == [
        {"name": "in.txt", "role": "input", "path": "in.txt", "contentType": "text/plain", "size": 5},
        {
            "name": "a b#?%.txt",
            "role": "output",
            "path": "out/a b#?%.txt",
            "contentType": "application/octet-stream",
            "size": 3,
        },
        {
            "name": "report.md",
            "role": "output",
            "path": "out/report.md",
            "contentType": "application/octet-stream",
            "size": 6,
        },
    ]


@pytest.mark.parametrize(
    ("status", "run_status", "is_finished"),
    [
        ("queued", "pending", False),
        ("processing", "running", False),
        ("canceling", "running", False),
        ("requestInteractiveToolResult", "waiting", False),
        ("requestDelegateResult", "waiting", False),
        ("exceededMaxSteps", "waiting", False),
        ("completed", "completed", True),
        ("failed", "failed", True),
        ("canceled", "cancelled", True),
        ("expired", "failed", True),
    ],
)
def test_a_status_has_its_word_in_the_other_api(
    studio: StudioClient, status: str, run_status: str, is_finished: bool
) -> None:
    studio.server.set_status(studio.job or "", status)
    run = run_of(studio)
    assert (run["execution"]["status"], run["finished"]) == (run_status, is_finished)
    assert ("files" in run) is is_finished


def test_sections_appear_when_they_are_asked_for(finished: StudioClient) -> None:
    run = run_of(finished, expand="input,usage,execution,debug")
    assert set(run) == RUN_FIELDS | {"output", "files", "input", "usage", "debug"}
    assert run["input"]["args"] == {"query": "Go"}
    assert run["usage"]["tokens"] == {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": None}
    assert run["execution"]["files"] == {"output": [{"name": "a b#?%.txt"}, {"name": "report.md"}]}
    answer = finished.request("GET", f"/v1/runs/{finished.job}?expand=input,nonsense")
    assert (answer.status_code, answer.json()["issues"][0]["field"]) == (400, "expand")


def test_an_unknown_run_is_not_found_whatever_its_id_looks_like(studio: StudioClient) -> None:
    for run in ("z" * 24, "UPPER", "%2F"):
        answer = studio.request("GET", f"/api/v1/runs/{run}")
        assert (answer.status_code, answer.json()["issues"][0]["code"]) == (404, "not_found")


def test_runs_are_listed_with_a_cursor(server: RunningServer, studio: StudioClient) -> None:
    ids = [server.create_job(status="completed") for _ in range(5)]
    seen: list[str] = []
    cursor = None
    while len(seen) < 5:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = studio.request("GET", "/v1/runs", params=query).json()
        seen += [run["id"] for run in page["runs"]]
        cursor = page["nextCursor"]
    assert seen[:5] == ids[::-1]
    assert set(page["runs"][0]) == RUN_FIELDS
    assert studio.request("GET", "/v1/runs?cursor=bad").status_code == 400
    assert studio.request("GET", f"/v1/runs?ids={ids[0]},{ids[1]}").json()["nextCursor"] is None
    wanted = ",".join(ids)
    first = studio.request("GET", f"/v1/runs?ids={wanted}&order=asc&limit=3").json()
    rest = studio.request("GET", f"/v1/runs?ids={wanted}&order=asc&cursor={first['nextCursor']}").json()
    assert [run["id"] for run in first["runs"] + rest["runs"]] == ids


def test_the_list_can_be_narrowed(server: RunningServer, studio: StudioClient) -> None:
    failed = server.create_job(status="failed")
    runs = studio.request("GET", "/v1/runs", params={"status": "failed,rejected", "ids": failed}).json()["runs"]
    assert [run["id"] for run in runs] == [failed]
    assert studio.request("GET", "/v1/runs?type=workflow").json()["runs"] == []
    assert studio.request("GET", "/v1/runs?sampleRate=0").json()["runs"] == []
    assert studio.request("GET", "/v1/runs?createdAfter=2999").json()["runs"] == []
    for query in ("source=@jobfs/nobody", "trigger=manual", "batchId=b", "exampleId=e", "hasReview=true"):
        assert studio.request("GET", f"/v1/runs?{query}").json()["runs"] == []
    known = "source=@jobfs/word-count&trigger=api&hasReview=false&batchId="
    runs = studio.request("GET", f"/v1/runs?{known}&ids={failed}").json()["runs"]
    assert [run["id"] for run in runs] == [failed]


def test_the_list_can_be_narrowed_by_time_in_any_zone(server: RunningServer, studio: StudioClient) -> None:
    job = server.create_job(status="completed")
    at = datetime.fromisoformat(studio.request("GET", f"/v1/runs/{job}").json()["timing"]["createdAt"])
    east = at.astimezone(timezone(timedelta(hours=9)))
    second = timedelta(seconds=1)

    def is_listed(**query: datetime | str) -> bool:
        texts = {name: value if isinstance(value, str) else value.isoformat() for name, value in query.items()}
        runs = studio.request("GET", "/v1/runs", params=texts | {"ids": job}).json()["runs"]
        return [run["id"] for run in runs] == [job]

    for name in ("createdAfter", "completedAfter", "from"):
        assert is_listed(**{name: east - second})
        assert not is_listed(**{name: east + 9 * second})
    for name in ("createdBefore", "completedBefore", "to"):
        assert is_listed(**{name: east + 9 * second})
        assert not is_listed(**{name: east - second})
    assert is_listed(**{"from": at, "to": at})
    assert not is_listed(createdAfter=at)
    assert is_listed(createdAfter=at.date().isoformat(), createdBefore=f"{at.year + 1}-12")


@pytest.mark.parametrize("at", ["yesterday", "2026-13-01", "2026-01-01T25:00", "99999", "0001-01-01T00:00+23:59"])
def test_a_time_that_is_none_is_400(studio: StudioClient, at: str) -> None:
    for name in ("createdAfter", "createdBefore", "completedAfter", "completedBefore", "from", "to"):
        answer = studio.request("GET", "/v1/runs", params={name: at})
        assert (answer.status_code, answer.json()["issues"][0]["field"]) == (400, name)


@pytest.mark.parametrize(
    "query", ["reviewVerdict=correct", "hasCorrections=true", "reviewNoteContains=x", "noReview=false"]
)
def test_runs_with_a_review_are_none(studio: StudioClient, query: str) -> None:
    assert studio.request("GET", f"/v1/runs?{query}").json()["runs"] == []


# ---------------------------------------------------------------------- artifacts


@pytest.mark.parametrize("prefix", ["/api/v1", "/v1"])
@pytest.mark.parametrize("spelling", ["out/a%20b%23%3F%25.txt", "out%2Fa%20b%23%3F%25.txt"])
def test_an_artifact_is_found_by_both_spellings_below_both_prefixes(
    finished: StudioClient, prefix: str, spelling: str
) -> None:
    answer = finished.request("GET", f"{prefix}/runs/{finished.job}/artifacts/{spelling}")
    assert (answer.status_code, answer.content) == (200, b"odd")


@pytest.mark.parametrize("path", ["out", "out/", "nothing", "..%2Fsecret", "out%2F..%2Fin.txt"])
def test_what_is_no_artifact_is_not_found(finished: StudioClient, path: str) -> None:
    answer = finished.request("GET", f"/v1/runs/{finished.job}/artifacts/{path}")
    assert (answer.status_code, answer.json()["issues"][0]["message"]) == (404, "No such artifact")


def test_artifacts_grow_while_the_run_goes_on_and_are_frozen_at_its_end(studio: StudioClient) -> None:
    job = studio.job or ""

    def artifacts() -> dict[str, bytes]:
        listed = studio.request("GET", f"/v1/runs/{job}/artifacts").json()["artifacts"]
        return {one["path"]: studio.request("GET", f"/v1/runs/{job}/artifacts/{one['path']}").content for one in listed}

    studio.server.set_status(job, "processing")
    studio.server.expert_writes(job, "a", b"1")
    assert artifacts() == {"a": b"1"}
    studio.server.expert_writes(job, "b", b"2")
    studio.server.set_status(job, "completed")
    studio.server.expert_writes(job, "a", b"changed")
    studio.server.expert_deletes(job, "b")
    assert artifacts() == {"a": b"1", "b": b"2"}
    studio.server.set_status(job, "queued")
    assert artifacts() == {"a": b"changed"}


def test_the_archive_holds_the_outputs(finished: StudioClient) -> None:
    path = f"/v1/runs/{finished.job}/artifacts"
    answer = finished.request("GET", path, params={"zip": "1"})
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "out/a b#?%.txt": b"odd",
            "out/report.md": b"report",
        }
    review = finished.request("GET", path, params={"zip": "1", "bundle": "review", "files": "out/report.md"})
    with zipfile.ZipFile(io.BytesIO(review.content)) as archive:
        assert archive.namelist() == ["output/", "expected/", "output/out/report.md"]
    assert finished.request("GET", path, params={"zip": "yes"}).status_code == 400


def test_zip_limit_decides_how_large_an_archive_may_be(finished: StudioClient) -> None:
    path = f"/v1/runs/{finished.job}/artifacts?zip=1"
    finished.server.switches = Switches(zip_limit=8)
    answer = finished.request("GET", path)
    assert (answer.status_code, answer.json()["issues"][0]["code"]) == (413, "artifacts_zip_too_large")
    finished.server.switches = Switches(zip_limit=9)
    assert finished.request("GET", path).status_code == 200


def test_a_signed_link_opens_the_archive_without_a_key(finished: StudioClient) -> None:
    state = finished.server.state
    token = state.signer.sign("zip", state.first_application(), finished.job or "")

    def status(path: str, **query: str) -> int:
        return finished.request("GET", path, params=query, headers={"Authorization": ""}).status_code

    path = f"/v1/runs/{finished.job}/artifacts"
    assert status(path, zip="1", token=token) == 200
    assert status(path, zip="1", token=token + "0") == 401
    assert status(path, token=token) == 401  # the list is not the archive
    assert status(f"/v1/runs/{finished.server.create_job()}/artifacts", zip="1", token=token) == 401
    assert status(f"/v1/runs/{finished.job}", token=token) == 401


@pytest.mark.parametrize(("value", "size", "kind"), [("known", 5, "text/plain"), ("null", None, None)])
def test_artifact_size_decides_whether_size_and_type_are_told(
    finished: StudioClient, value: Any, size: int | None, kind: str | None
) -> None:
    finished.server.switches = Switches(artifact_size=value)
    listed = finished.request("GET", f"/v1/runs/{finished.job}/artifacts").json()["artifacts"]
    assert listed == run_of(finished)["files"]
    assert (listed[0]["size"], listed[0]["contentType"]) == (size, kind)


@pytest.mark.parametrize("value", ["off", "same_origin", "cross_origin"])
def test_artifact_redirect_decides_where_the_bytes_are(finished: StudioClient, value: Any) -> None:
    finished.server.switches = Switches(artifact_redirect=value)
    answer = finished.request("GET", f"/v1/runs/{finished.job}/artifacts/in.txt")
    if value == "off":
        assert (answer.status_code, answer.content) == (200, b"input")
        return
    assert (answer.status_code, answer.content) == (302, b"")
    target = httpx.URL(finished.server.url).join(answer.headers["location"])
    assert (f"{target.scheme}://{target.netloc.decode()}" == finished.server.url) is (value == "same_origin")
    assert httpx.get(target, trust_env=False).content == b"input"


def test_the_second_origin_refuses_a_key_and_remembers_it(finished: StudioClient) -> None:
    finished.server.switches = Switches(artifact_redirect="cross_origin")
    link = finished.request("GET", f"/v1/runs/{finished.job}/artifacts/in.txt").headers["location"]
    assert finished.server.state.storage_saw_key is False
    answer = httpx.get(link, headers={"Authorization": "Bearer x"}, trust_env=False)
    assert answer.status_code == 400
    assert finished.server.state.storage_saw_key is True
    finished.server.state.storage_saw_key = False
    assert httpx.get(link[:-1] + "~", trust_env=False).status_code == 403
    origin = urlsplit(link)
    assert httpx.get(f"{origin.scheme}://{origin.netloc}/v1/runs", trust_env=False).status_code == 404


# ---------------------------------------------------------------------- files


def test_a_file_is_uploaded_read_and_deleted(studio: StudioClient) -> None:
    answer = studio.form("/api/v1/files", file=("a.txt", b"hello", "text/plain"))
    file = answer.json()
    assert set(file) == {"id", "filename", "contentType", "size", "createdAt", "purpose"}
    assert (file["filename"], file["contentType"], file["size"], file["purpose"]) == ("a.txt", "text/plain", 5, None)
    assert studio.request("GET", f"/v1/files/{file['id']}").json() == file
    content = studio.request("GET", f"/v1/files/{file['id']}/content")
    assert (content.content, content.headers["content-type"]) == (b"hello", "text/plain")
    assert studio.request("DELETE", f"/v1/files/{file['id']}").json() == {"deleted": True}
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        assert studio.request(method, f"/v1/files/{file['id']}{path}").status_code == 404


def test_a_file_with_a_purpose_is_gone_after_a_day(tmp_path: Any) -> None:
    now = [1_700_000_000_000]
    state = ServerState(tmp_path, clock=lambda: now[0])
    state.first_start()

    def upload(purpose: str | None) -> Any:
        with state.storage.contents.writer() as writer:
            writer.write(b"1")
            part = FilePart("file", "a", "text/plain", writer)
            with state.transaction():
                row = state.pool.create(state.first_application(), part, purpose)
            writer.keep()
        return row

    temporary, durable = upload("run-input"), upload(None)
    now[0] += TEMPORARY_MS
    assert state.pool.get(state.first_application(), durable["id"])["key"] == durable["key"]
    with pytest.raises(Refused):
        state.pool.get(state.first_application(), temporary["id"])
    upload(None)
    assert not state.storage.contents.path(temporary["key"]).exists()
    state.close()


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"purpose": "run-input"}, "file"), ({"file": ("a", b"", "text/plain"), "purpose": "fun"}, "purpose")],
)
def test_an_upload_that_does_not_fit_is_refused(studio: StudioClient, fields: dict[str, Any], field: str) -> None:
    answer = studio.form("/v1/files", **fields)
    assert (answer.status_code, answer.json()["issues"][0]["field"]) == (400, field)


@pytest.mark.parametrize("prefix", ["/api/v1", "/v1"])
def test_a_negotiation_points_to_the_form_by_default(studio: StudioClient, prefix: str) -> None:
    body = {"filename": "a", "contentType": "text/plain", "size": 1}
    told = studio.request("POST", f"{prefix}/files/uploads", json=body).json()
    assert set(told) == {"transport", "url", "maxFileSizeBytes"}
    assert (told["transport"], told["url"]) == ("multipart", f"{prefix}/files")


def test_a_presigned_upload_becomes_a_file(studio: StudioClient) -> None:
    studio.server.switches = Switches(upload_transport="presigned")
    body = {"filename": "a", "contentType": "text/x-a", "size": 3, "idempotencyKey": "once", "purpose": "run-input"}
    told = studio.request("POST", "/v1/files/uploads", json=body).json()
    assert set(told) == {"transport", "uploadId", "fileId", "url", "headers", "expiresAt", "maxFileSizeBytes"}
    again = studio.request("POST", "/v1/files/uploads", json=body).json()
    assert (again["uploadId"], again["fileId"]) == (told["uploadId"], told["fileId"])
    complete = f"/v1/files/uploads/{told['uploadId']}/complete"
    assert studio.request("POST", complete).json()["issues"][0]["message"] == "Nothing was uploaded"
    assert httpx.put(told["url"], content=b"toolong", headers=told["headers"], trust_env=False).status_code == 400
    assert httpx.put(told["url"], content=b"abc", headers=told["headers"], trust_env=False).status_code == 200
    file = studio.request("POST", complete).json()
    assert (file["id"], file["size"], file["contentType"]) == (told["fileId"], 3, "text/x-a")
    assert studio.request("POST", complete).json() == file
    assert studio.request("GET", f"/v1/files/{file['id']}/content").content == b"abc"


def test_an_upload_can_be_given_up(studio: StudioClient) -> None:
    studio.server.switches = Switches(upload_transport="presigned")
    body = {"filename": "a", "contentType": "", "size": 1}
    told = studio.request("POST", "/v1/files/uploads", json=body).json()
    httpx.put(told["url"], content=b"1", trust_env=False)
    path = f"/v1/files/uploads/{told['uploadId']}"
    assert studio.request("DELETE", path).json() == {"aborted": True}
    assert studio.request("DELETE", path).status_code == 404
    assert studio.request("POST", f"{path}/complete").status_code == 404
    assert httpx.put(told["url"], content=b"1", trust_env=False).status_code == 404


def test_a_file_above_the_limit_is_too_large() -> None:
    with RunningServer(upload_limit=10) as server:
        studio = StudioClient(server, server.create_job())
        assert studio.create_file("a", b"x" * 10).status_code == 200
        assert studio.create_file("b", b"x" * 11).json()["code"] == 413
        assert studio.form("/v1/files", file=("a", b"x" * 11, "text/plain")).status_code == 413
        body = {"filename": "a", "contentType": "", "size": 11}
        assert studio.request("POST", "/v1/files/uploads", json=body).status_code == 413
        assert studio.paths() == ["a"]
        assert len(list((server.folder / "content").glob("*/*"))) == 1
        studio.close()
