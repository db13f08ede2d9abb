"""Requests that no careful client sends: each gets an answer of the contract, and none harms what comes after it."""

from __future__ import annotations

import email.utils
import json
import socket
import time
from typing import Any

import httpx
import pytest
from studio_client import BASE, StudioClient, refusal

from jobfs.server.faults import Fault, Faults
from jobfs.server.ids import is_well_formed
from jobfs.server.running import RunningServer
from jobfs.server.state import ServerState
from jobfs.server.switches import Switches

JOBS = f"{BASE}/expert_jobs/"
WORD_COUNT = "@jobfs/word-count"
USAGE = dict.fromkeys(("inputTokens", "outputTokens", "reasoningTokens", "totalTokens", "cachedInputTokens"), 1)


def checkpoint_text(arguments: str = "{}", *, tool: str = "exec", usage: str = "1", more: str = "{}") -> str:
    """Return the body of a checkpoint, with parts spelt as the test wants them."""
    body = {
        "checkpoint": {
            "status": "proceeding",
            "stepNumber": 1,
            "messages": [],
            "expert": {"key": WORD_COUNT, "name": WORD_COUNT, "version": "1.0.0"},
            "usage": USAGE,
            "MORE": 0,
        },
        "step": {
            "stepNumber": 1,
            "newMessages": [],
            "usage": USAGE | {"totalTokens": "USAGE"},
            "startedAt": 1700000000123,
            "toolCall": {"id": "1", "skillName": "files", "toolName": tool, "args": "ARGUMENTS"},
        },
    }
    text = json.dumps(body).replace('"ARGUMENTS"', arguments).replace('"USAGE"', usage)
    return text.replace('"MORE": 0', more.strip("{}") or '"MORE": 0')


def post_checkpoint(studio: StudioClient, text: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {studio.server.system_key}", "Content-Type": "application/json"}
    return studio.http.post(f"{JOBS}{studio.job}/checkpoints/", content=text, headers=headers)


def form_of_file(disposition: bytes, path: bytes, *, kind: bytes = b"") -> tuple[bytes, dict[str, str]]:
    """Return the body and headers of a form that creates a file, with the file part's own headers as given."""
    fields = {b"type": b"workspaceItemFile", b"path": path, b"permission": b"readWrite"}
    parts = [b'Content-Disposition: form-data; name="%s"\r\n\r\n%s' % field for field in fields.items()]
    parts.append(b"Content-Disposition: " + disposition + kind + b"\r\n\r\nDATA")
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=b"}


def raw_request(studio: StudioClient, line: str) -> httpx.Response:
    """Send a request whose target goes out exactly as it is spelt."""
    method, target = line.split(" ")
    return studio.http.request(method, studio.http.base_url.copy_with(raw_path=target.encode("ascii")))


# ---------------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    "arguments",
    [
        '{"x": 1e999}',
        '{"x": "\\ud800"}',
        '{"\\udfff": 1}',
        '{"x": ' + "[" * 300 + "]" * 300 + "}",
        '{"x": ' + "[" * 990 + "]" * 990 + "}",
    ],
    ids=["beyond-a-float", "lone-surrogate", "lone-surrogate-as-name", "deep", "deeper"],
)
def test_what_could_not_be_told_again_is_refused_and_spoils_no_list(studio: StudioClient, arguments: str) -> None:
    answer = post_checkpoint(studio, checkpoint_text(arguments))
    assert refusal(answer)[:2] == (422, "Validation Failed")
    page = studio.request("GET", f"{JOBS}{studio.job}/checkpoints/")
    assert (page.status_code, page.json()["meta"]["total"]) == (200, 0)


def test_paired_surrogates_are_a_character(studio: StudioClient) -> None:
    answer = post_checkpoint(studio, checkpoint_text('{"x": "\\ud83c\\udf89"}'))
    assert answer.json()["data"]["checkpoint"]["action"]["args"] == {"x": "🎉"}


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e16"])
def test_a_count_that_is_no_count_is_refused(studio: StudioClient, number: str) -> None:
    assert refusal(post_checkpoint(studio, checkpoint_text(usage=number)))[0] == 422
    assert refusal(post_checkpoint(studio, checkpoint_text(more=f'{{"contextWindow": {number}}}')))[0] == 422


def test_json_is_utf_8(studio: StudioClient) -> None:
    body = json.dumps({"type": "workspaceItemDirectory", "path": "d", "permission": "readWrite"})
    path, headers = f"{studio.items}/", {"Content-Type": "application/json"}
    assert studio.http.post(path, content=body.encode("utf-16"), headers=headers).status_code == 422
    assert studio.http.post(path, content=body.encode("utf-8-sig"), headers=headers).status_code == 200


# ---------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("writeTextFile", {"path": 5}),
        ("moveFile", {"source": "a", "destination": ["b"]}),
        ("getFileInfo", {"path": "a", "workspaceItem": 5}),
        ("readTextFile", {"path": "a", "size": True}),
    ],
)
def test_a_file_tool_with_odd_arguments_is_a_general_one(
    studio: StudioClient, tool: str, arguments: dict[str, Any]
) -> None:
    answer = post_checkpoint(studio, checkpoint_text(json.dumps(arguments), tool=tool))
    action = answer.json()["data"]["checkpoint"]["action"]
    assert (action["type"], action["toolName"], action["args"]) == ("generalTool", tool, arguments)


def test_messages_keep_unknown_fields_and_have_known_ones_of_their_type(studio: StudioClient) -> None:
    good = '{"messages": [{"id": "m", "type": "userMessage", "cache": true, "x": 1, "contents": [{"type": "t"}]}]}'
    told = post_checkpoint(studio, checkpoint_text(more=good)).json()["data"]["checkpoint"]
    assert told["messages"] == json.loads(good)["messages"]
    for bad in ('"id": 5', '"cache": "no"', '"contents": [{"type": "t", "id": 7}]'):
        message = '{"type": "userMessage", "contents": [], ' + bad + "}"
        assert post_checkpoint(studio, checkpoint_text(more=f'{{"messages": [{message}]}}')).status_code == 422


def test_the_checkpoint_that_delegated_has_an_id(studio: StudioClient) -> None:
    def post(delegating: str) -> int:
        told = {"expert": {"key": WORD_COUNT, "name": "n", "version": "1"}, "toolCallId": "1", "toolName": "t"}
        more = '{"delegatedBy": ' + json.dumps(told | {"checkpointId": delegating})[:-1] + "}" + "}"
        return post_checkpoint(studio, checkpoint_text().replace('"MORE": 0', more[1:-1])).status_code

    assert (post("z" * 24), post("short")) == (200, 422)


# ---------------------------------------------------------------------- paths


def test_an_escape_that_nobody_needs_changes_no_path(studio: StudioClient) -> None:
    studio.put("a.txt")
    spelt = studio.items.replace("expert_jobs", "expert%5Fjobs") + "/%66in%64"
    answer = raw_request(studio, f"GET {spelt}?path=%61.txt")
    assert (answer.status_code, len(answer.json()["data"]["workspaceItems"])) == (200, 1)
    assert raw_request(studio, f"GET {studio.items}%2Ffind?path=a").status_code == 404


# ---------------------------------------------------------------------- forms


@pytest.mark.parametrize("disposition", [b'form-data; name="file"', b'form-data; name="file"; filename=""'])
def test_the_file_part_needs_no_file_name(studio: StudioClient, disposition: bytes) -> None:
    body, headers = form_of_file(disposition, b"a.bin")
    answer = studio.http.post(f"{studio.items}/", content=body, headers=headers)
    item = answer.json()["data"]["workspaceItem"]
    assert (item["path"], item["mimeType"], item["size"]) == ("a.bin", "application/octet-stream", 4)
    assert studio.download(item["id"]).content == b"DATA"


@pytest.mark.parametrize("kind", [b"a/b\x00c", b"a/b\x7f", b""])
def test_a_type_that_no_header_can_carry_is_not_sent(studio: StudioClient, kind: bytes) -> None:
    studio.server.switches = Switches(download_type="item_mime")
    body, headers = form_of_file(b'form-data; name="file"; filename="f"', b"a.bin", kind=b"\r\nContent-Type: " + kind)
    item = studio.http.post(f"{studio.items}/", content=body, headers=headers).json()["data"]["workspaceItem"]
    answer = studio.download(item["id"])
    assert (answer.headers["content-type"], answer.content) == ("application/octet-stream", b"DATA")


def test_content_in_json_may_come_with_type_and_permission(studio: StudioClient) -> None:
    body = {"type": "workspaceItemFile", "path": "a.txt", "permission": "readOnly", "content": "aGk="}
    item = studio.http.post(f"{studio.items}/", json=body).json()["data"]["workspaceItem"]
    assert (item["type"], item["permission"], item["size"]) == ("workspaceItemFile", "readOnly", 2)
    directory = body | {"type": "workspaceItemDirectory", "path": "d"}
    assert studio.http.post(f"{studio.items}/", json=directory).json()["data"]["workspaceItem"]["type"] == (
        "workspaceItemDirectory"
    )
    assert studio.http.post(f"{studio.items}/", json=body | {"permission": "all", "path": "b"}).status_code == 422


def test_file_parts_of_a_start_obey_the_grammar_of_paths(studio: StudioClient) -> None:
    def start(name: str, field: str = "files") -> httpx.Response:
        return studio.form(JOBS, expertKey=WORD_COUNT, query="Go", **{field: (name, b"x", "text/plain")})

    assert start("a" * 1024).status_code == 200
    assert refusal(start("a" * 1025)) == (400, "Bad Request", "Invalid path")
    ignored = start("a.txt", field="unknown").json()["data"]["expertJob"]
    assert ignored["files"] == []
    assert studio.server.contents(ignored["id"]) == {}


# ---------------------------------------------------------------------- jobs


@pytest.mark.parametrize(
    ("key", "version"),
    [
        (f"{WORD_COUNT}@2.0.0-rc.1+b", "2.0.0-rc.1+b"),
        (f"{WORD_COUNT}@latest", "1.0.0"),
        (f"{WORD_COUNT}@01.2.3", "1.0.0"),
        (f"{WORD_COUNT}@1.2.3foo", "1.0.0"),
        (f"{WORD_COUNT}@1.0.0-{'a' * 250}", "1.0.0"),
    ],
)
def test_only_a_version_is_shown_as_one(studio: StudioClient, key: str, version: str) -> None:
    job = studio.form(JOBS, expertKey=key, query="Go").json()["data"]["expertJob"]
    assert (job["expertKey"], job["expert"]["version"]) == (key, version)
    assert job["expert"]["key"] == f"{WORD_COUNT}@{version}"


@pytest.mark.parametrize("response", ["", 5, None, "a" * 20481])
def test_a_response_that_does_not_count_is_not_looked_at(studio: StudioClient, response: Any) -> None:
    studio.server.set_status(studio.job or "", "completed")
    studio.server.switches = Switches(accept_response="off")
    answer = studio.http.post(f"{JOBS}{studio.job}/continue", json={"response": response})
    assert refusal(answer) == (400, "Bad Request", "Query or files are required")


def test_an_empty_response_is_no_query(studio: StudioClient) -> None:
    studio.server.set_status(studio.job or "", "completed")
    answer = studio.http.post(f"{JOBS}{studio.job}/continue", json={"response": ""})
    assert refusal(answer) == (400, "Bad Request", "Query or files are required")


# ---------------------------------------------------------------------- the other API


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nope", 404), ("PUT", "/v1/files", 405), ("GET", "/v1/runs/nope", 404), ("GET", "/storage/x", 403)],
)
def test_every_refusal_names_the_request_in_header_and_body(
    studio: StudioClient, method: str, path: str, status: int
) -> None:
    answer = studio.request(method, path)
    assert (answer.status_code, answer.headers["x-request-id"]) == (status, answer.json()["requestId"])
    assert is_well_formed(answer.json()["requestId"])


@pytest.mark.parametrize("kind", ["error_before", "error_after"])
def test_a_fault_answers_in_the_envelope_of_its_api(studio: StudioClient, kind: Any) -> None:
    studio.server.faults = Faults((Fault(kind, status=503),))
    answer = studio.request("GET", "/v1/runs")
    assert (answer.status_code, answer.headers["x-request-id"]) == (503, answer.json()["requestId"])
    assert answer.json()["issues"][0]["severity"] == "error"


@pytest.mark.parametrize("kind", ["text/plain\r\nX: y", "日本"])
def test_an_upload_has_a_type_that_a_header_can_carry(studio: StudioClient, kind: str) -> None:
    body = {"filename": "f", "contentType": kind, "size": 1}
    answer = studio.http.post("/v1/files/uploads", json=body)
    assert (answer.status_code, answer.json()["issues"][0]["field"]) == (400, "contentType")


def test_a_size_may_be_spelt_with_a_fraction_of_nothing(studio: StudioClient) -> None:
    def post(size: str) -> int:
        body = f'{{"filename": "f", "contentType": "a/b", "size": {size}}}'
        headers = {"Content-Type": "application/json"}
        return studio.http.post("/v1/files/uploads", content=body, headers=headers).status_code

    assert [post(size) for size in ("5", "5.0", "5.5", "true", '"5"', "-1")] == [200, 200, 400, 400, 400, 400]


def test_an_empty_filter_of_runs_filters_nothing(studio: StudioClient) -> None:
    names = ("type", "status", "ids", "source", "trigger", "createdAfter", "completedBefore", "batchId", "cursor")
    answer = studio.request("GET", "/v1/runs", params=dict.fromkeys(names, ""))
    assert studio.job in [run["id"] for run in answer.json()["runs"]]


@pytest.mark.parametrize("rate", ["nan", "inf", "1_0", "", "x"])
def test_a_sample_rate_is_a_number(studio: StudioClient, rate: str) -> None:
    assert studio.request("GET", "/v1/runs", params={"sampleRate": rate}).status_code == 400


# ---------------------------------------------------------------------- downloads


@pytest.mark.parametrize(
    ("wanted", "status", "content"),
    [
        ("bytes=2-" + "9" * 5000, 206, b"23456789"),
        ("bytes=-" + "9" * 5000, 206, b"0123456789"),
        ("bytes=" + "9" * 5000 + "-", 416, b""),
    ],
)
def test_a_range_of_any_length_is_understood(studio: StudioClient, wanted: str, status: int, content: bytes) -> None:
    studio.server.switches = Switches(range="honour")
    item = studio.put("a.txt", b"0123456789")
    answer = studio.download(item["id"], Range=wanted)
    assert (answer.status_code, answer.content) == (status, content)


def test_a_tag_is_known_again_in_every_spelling_of_the_condition(studio: StudioClient) -> None:
    studio.server.switches = Switches(etag="on")
    item = studio.put("a.txt", b"0123456789")
    tag = studio.download(item["id"]).headers["etag"]
    for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        assert studio.download(item["id"], **{"If-None-Match": condition}).status_code == 304
    assert studio.download(item["id"], **{"If-None-Match": '"other", W/"more"'}).status_code == 200


# ---------------------------------------------------------------------- a server that fails


def break_storage(state: ServerState) -> None:
    state.storage.run("ALTER TABLE env RENAME TO env_away")


def mend_storage(state: ServerState) -> None:
    state.storage.run("ALTER TABLE env_away RENAME TO env")


def test_a_failure_is_logged_and_keeps_the_connection(
    server: RunningServer, application: StudioClient, expected_logs: Any
) -> None:
    expected_logs.expect("GET /api/studio/v1/workspace/ failed")
    server.call(lambda: break_storage(server.state))
    try:
        for _ in range(3):  # on one connection, which a broken answer would have closed
            answer = application.request("GET", f"{BASE}/workspace/")
            assert refusal(answer) == (500, "Internal Server Error", "The server failed; its log says why")
    finally:
        server.call(lambda: mend_storage(server.state))
    assert [record.exc_info is not None for record in expected_logs.records] == [True] * 3
    assert application.request("GET", f"{BASE}/workspace/").status_code == 200


def test_a_full_disk_is_507_and_nothing_acknowledged_is_lost(
    server: RunningServer, studio: StudioClient, expected_logs: Any
) -> None:
    expected_logs.expect("The server's disk is full")
    limit = "PRAGMA max_page_count = "
    made = [studio.put("before.txt")["path"]]
    server.call(lambda: server.state.storage.run(limit + "1"))  # which SQLite takes as: not one page more
    try:
        for number in range(1000):
            answer = studio.create_file("a" * 1000 + str(number))
            if answer.status_code != 200:
                break
            made.append(answer.json()["data"]["workspaceItem"]["path"])
        assert refusal(answer) == (507, "Insufficient Storage", "The server's disk is full")
    finally:
        server.call(lambda: server.state.storage.run(limit + str(2**30)))
    made.append(studio.put("after.txt")["path"])
    assert studio.paths() == sorted(made)


def test_a_form_without_files_may_be_url_encoded(studio: StudioClient) -> None:
    made = studio.http.post(
        f"{studio.items}/", data={"type": "workspaceItemDirectory", "path": "süß", "permission": "readOnly"}
    )
    assert (made.status_code, studio.paths()) == (200, ["süß"])
    started = studio.http.post(
        f"{BASE}/expert_jobs/", data={"expertKey": "@jobfs/word-count", "query": "a&b", "files": ["x", "y"]}
    )
    assert started.status_code == 200
    job = started.json()["data"]["expertJob"]
    assert (job["query"], job["files"]) == ("a&b", ["x", "y"])


@pytest.mark.parametrize(
    ("body", "status"), [(b"path=%ff", 422), (b"&".join([b"a=1"] * 1001), 422), (b"a=" + b"x" * (1 << 20), 413)]
)
def test_a_url_encoded_form_that_cannot_be_read_is_refused(studio: StudioClient, body: bytes, status: int) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert studio.http.post(f"{studio.items}/", content=body, headers=kind).status_code == status
    assert studio.paths() == []


def test_every_answer_says_when_it_was_given(studio: StudioClient) -> None:
    for answer in (httpx.get(f"{studio.server.url}{JOBS}"), httpx.get(f"{studio.server.url}/nowhere")):
        given = email.utils.parsedate_to_datetime(answer.headers["date"])
        assert abs(time.time() - given.timestamp()) < 60


# ---------------------------------------------------------------------- clients that leave


@pytest.mark.parametrize("received", [0, 100])
def test_a_client_that_leaves_in_the_middle_of_a_download_ends_it(
    studio: StudioClient, caplog: pytest.LogCaptureFixture, received: int
) -> None:
    item = studio.server.put_item(studio.job, "big", bytes(40 << 20))
    host, port = studio.server.url.removeprefix("http://").split(":")
    for _ in range(3):
        with socket.create_connection((host, int(port))) as client:
            client.sendall(
                f"GET {studio.items}/{item.id}/download HTTP/1.1\r\nhost: {host}\r\n"
                f"authorization: Bearer {studio.server.api_key}\r\n\r\n".encode()
            )
            client.recv(received)
    assert studio.http.get(f"{studio.items}/{item.id}").status_code == 200  # answered after what was left
    assert [record.getMessage() for record in caplog.records] == []
