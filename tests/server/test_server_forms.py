"""Multipart forms as different clients write them: what the standards allow is read, what is ambiguous is refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from studio_client import BASE, StudioClient, refusal

FIELDS = {"type": "workspaceItemFile", "path": "a.bin", "permission": "readWrite"}
FILE = (b'form-data; name="file"; filename="x"', b"DATA")


def form_body(*parts: tuple[bytes, bytes], **fields: str) -> bytes:
    """Return a form of text fields and parts, each of those a disposition with its bytes."""
    texts = [(f'form-data; name="{name}"'.encode(), text.encode()) for name, text in fields.items()]
    each = (b"Content-Disposition: %s\r\n\r\n%s\r\n" % part for part in (*texts, *parts))
    return b"".join(b"--b\r\n" + part for part in each) + b"--b--\r\n"


def post(studio: StudioClient, path: str, body: bytes, *, pieces: int = 0) -> httpx.Response:
    """Post a form, in pieces of that many bytes where a number is given."""
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    content: Any = body if not pieces else (body[at : at + pieces] for at in range(0, len(body), pieces))
    return studio.http.post(path, content=content, headers=headers)


def listed(studio: StudioClient) -> list[str]:
    rows = studio.request("GET", f"{studio.items}/").json()["data"]["workspaceItems"]
    return [row["path"] for row in rows]


@pytest.mark.parametrize("pieces", [0, 1])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\r\n", b""),
        (b"A form.\r\n", b""),
        (b"--bb\r\n--c\r\n\r\n\r\n", b""),
        (b"", b"\r\n"),
        (b"", b"The end.\r\n--b"),
    ],
)
def test_what_stands_around_the_parts_of_a_form_is_skipped(
    studio: StudioClient, before: bytes, after: bytes, pieces: int
) -> None:
    body = before + form_body(FILE, **FIELDS) + after
    item = post(studio, f"{studio.items}/", body, pieces=pieces).json()["data"]["workspaceItem"]
    assert (item["path"], item["size"]) == ("a.bin", 4)
    assert studio.download(item["id"]).content == b"DATA"


@pytest.mark.parametrize("body", [b"", b"--c\r\n", b"x" * 100_000, b"x--b\r\n" + form_body(FILE, **FIELDS)[5:]])
def test_a_form_without_its_boundary_is_refused(studio: StudioClient, body: bytes) -> None:
    assert refusal(post(studio, f"{studio.items}/", body))[0] == 422
    assert listed(studio) == []


def test_a_file_name_that_is_not_utf8_keeps_nothing_out(studio: StudioClient) -> None:
    part = (b'form-data; name="file"; filename="\xe4.bin"', b"DATA")
    answer = post(studio, f"{studio.items}/", form_body(part, **FIELDS))
    assert answer.json()["data"]["workspaceItem"]["path"] == "a.bin"
    kept = post(studio, "/v1/files", form_body(part)).json()
    assert (kept["filename"], kept["size"]) == ("ä.bin", 4)


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        (b"form-data; name=\"files\"; filename*=UTF-8''%e2%82%ac%20rates.txt", "€ rates.txt"),
        (b"form-data; name=files; FileName*=utf-8'en'a.txt", "a.txt"),
        (b"form-data; filename*=iso-8859-1''%e4.txt; name=\"files\"", "ä.txt"),
        (b'form-data; name="files"; filename="plain.txt"; filename*=UTF-8\'\'star.txt', "plain.txt"),
    ],
)
def test_a_part_whose_name_comes_encoded_is_a_file_all_the_same(
    studio: StudioClient, disposition: bytes, name: str
) -> None:
    body = form_body((disposition, b"DATA"), expertKey="@jobfs/word-count")
    job = post(studio, f"{BASE}/expert_jobs/", body).json()["data"]["expertJob"]
    rows = studio.request("GET", f"{BASE}/expert_jobs/{job['id']}/workspace_instance/items/").json()["data"]
    assert (job["files"], [row["path"] for row in rows["workspaceItems"]]) == ([name], [name])


def test_an_encoded_name_inside_a_quoted_one_names_no_file(studio: StudioClient) -> None:
    part = (b"form-data; name=\"query; filename*=UTF-8''x\"", b"DATA")
    answer = post(studio, f"{BASE}/expert_jobs/", form_body(part, expertKey="@jobfs/word-count", query="q"))
    assert answer.json()["data"]["expertJob"]["files"] == []


def test_of_two_files_for_one_item_none_is_dropped_unsaid(studio: StudioClient) -> None:
    answer = post(studio, f"{studio.items}/", form_body(FILE, FILE, **FIELDS))
    assert refusal(answer)[0] == 422
    assert listed(studio) == []
    assert post(studio, "/v1/files", form_body(FILE, FILE)).status_code == 400
