"""What a page of the API does not describe, sent all the same: bodies without end or beyond reason, names that lead
elsewhere, requests that can be read in two ways. Each is refused, changes nothing, and costs the next request nothing.
"""

from __future__ import annotations

import json
import os
import resource
import socket
from collections.abc import Iterator

import pytest
from studio_client import BASE, StudioClient

from jobfs.server.forms import MAX_JSON
from jobfs.server.running import RunningServer

UPLOAD_LIMIT = 64 * 1024
KIND = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("hostile") / "data", upload_limit=UPLOAD_LIMIT) as server:
        yield server


@pytest.fixture
def studio(room: RunningServer) -> Iterator[StudioClient]:
    client = StudioClient(room, room.create_job(status="completed"))
    try:
        yield client
        assert client.put("after.txt")["path"] == "after.txt"
        assert client.paths() == ["after.txt"]
    finally:
        client.close()


def _speak(server: RunningServer, request: bytes, pieces: Iterator[bytes] | None = None) -> bytes:
    """Send bytes as they are, and return what comes until the server has said all."""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=10) as connection:
        try:
            connection.sendall(request)
            for piece in pieces or ():
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has heard enough; what it said is still there
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionError:
            pass
    return received


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def _request(studio: StudioClient, *headers: str, method: str = "POST", path: str = "") -> bytes:
    lines = [
        f"{method} {path or studio.items + '/'} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {studio.server.api_key}",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b", "text/plain", ""])
def test_a_body_far_above_the_limit_is_refused_in_bounded_memory(studio: StudioClient, kind: str) -> None:
    def endless() -> Iterator[bytes]:
        start = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' if "form" in kind else b'{"a":"'
        )
        yield b"%x\r\n%b\r\n" % (len(start), start)
        for _ in range(3 * MAX_JSON // 2 // 65536):
            yield b"10000\r\n" + b"x" * 65536 + b"\r\n"

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = _speak(studio.server, _request(studio, f"Content-Type: {kind}", "Transfer-Encoding: chunked"), endless())
    assert _status(answer) in (0, 400, 413, 422)
    most = 32 * 1024 * 1024 if "form" in kind else 5 * MAX_JSON // 4
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < most


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: -1"],
        ["Content-Length: 99999999999999999999999"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Content-Length: 2", f"X: {'y' * 1_000_000}"],
        ["Content-Length: 2", *(f"X-{number}: y" for number in range(50_000))],
        ["Content-Length: 2", "Content-Type: multipart/form-data"],
        ["Content-Length: 2", "Content-Type: multipart/form-data; boundary=" + "b" * 100_000],
        ["Content-Length: 2", "Content-Encoding: gzip", "Content-Type: application/json"],
        ["Content-Length: 2", "Content-Type: application/json; charset=utf-7"],
    ],
    ids=lambda headers: headers[-1][:40],
)
def test_a_request_that_can_be_read_in_two_ways_or_in_none_is_refused(studio: StudioClient, headers: list[str]) -> None:
    answer = _speak(studio.server, _request(studio, *headers), iter([b"{}"]))
    assert _status(answer) in (0, 400, 401, 408, 411, 413, 415, 422, 431, 501), answer[:200]


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"path":' + b"9" * 100_000 + b"}",
        b'{"path":1e999999999}',
        b'{"path":"' + b"x" * 60_000 + b'"}',
        b'{"type":"workspaceItemFile","path":"a","permission":"readWrite","content":"'
        + b"A" * 4 * UPLOAD_LIMIT
        + b'"}',
        b'{"type":"workspaceItemFile","path":"a","permission":"readWrite","content":"not base64"}',
        b'{"type":"workspaceItemFile","path":"a","path":"../b","permission":"readWrite","content":"eA=="}',
        b"\xff\xfe{\x00}\x00",
        b"null",
        b"NaN",
    ],
    ids=lambda body: ascii(body[:24]) + str(len(body)),
)
def test_json_beyond_reason_is_refused(studio: StudioClient, body: bytes) -> None:
    answer = studio.http.post(f"{studio.items}/", content=body, headers=KIND)
    assert answer.status_code in (400, 413, 422)
    assert set(answer.json()) == {"code", "error", "reason"}
    assert len(answer.content) < 5000


ELSEWHERE = [
    "..",
    "%2e%2e",
    "..%2f..%2fstate.sqlite",
    "%2fetc%2fpasswd",
    "a%00b",
    "%5c..%5c",
    "x" * 5000,
    "%ff",
    "%ud800",
]


@pytest.mark.parametrize("name", ELSEWHERE, ids=lambda name: name[:24])
def test_no_identifier_leads_anywhere(room: RunningServer, studio: StudioClient, name: str) -> None:
    for method, path in [
        ("GET", f"{studio.items}/{name}"),
        ("GET", f"{studio.items}/{name}/download"),
        ("DELETE", f"{studio.items}/{name}"),
        ("GET", f"{BASE}/expert_jobs/{name}/workspace_instance/items/"),
        ("GET", f"/api/v1/runs/{studio.job}/artifacts/{name}"),
        ("GET", f"/api/v1/runs/{name}"),
        ("GET", f"/api/v1/files/{name}/content"),
        ("DELETE", f"/api/v1/files/{name}"),
        ("DELETE", f"{BASE}/workspace/variables/{name}"),
    ]:
        answer = _speak(room, _request(studio, "Connection: close", method=method, path=path))
        assert _status(answer) in (400, 404, 405, 414, 422), (method, path[:80], answer[:200])
    assert os.listdir(room.folder.parent) == [room.folder.name]


@pytest.mark.parametrize("name", ["../escaped", "/etc/escaped", "..\\escaped", "a\x01b", "." * 300, "x" * 5000, ".."])
def test_no_file_name_of_a_form_leads_anywhere(room: RunningServer, studio: StudioClient, name: str) -> None:
    files = {"file": (name, b"x", "text/plain")}
    answers = [
        studio.http.post("/api/v1/files", files=files),
        studio.http.post(
            f"{BASE}/expert_jobs/",
            data={"expertKey": "@jobfs/word-count", "query": "q"},
            files={"files": (name, b"x", "a/b")},
        ),
    ]
    assert {answer.status_code for answer in answers} <= {200, 201, 400, 413, 422}
    assert [found for found in _names(room) if "escaped" in found] == []


def _names(room: RunningServer) -> list[str]:
    return [name for _, folders, files in os.walk(room.folder.parent) for name in (*folders, *files)]


def test_many_fields_and_parts_are_bounded(studio: StudioClient) -> None:
    parts = b"".join(b'--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nx\r\n' % n for n in range(20_000))
    answer = studio.http.post(
        f"{studio.items}/", content=parts + b"--b--\r\n", headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert answer.status_code in (400, 413, 422)
    assert len(json.dumps(answer.json())) < 5000
