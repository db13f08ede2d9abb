"""Each switch and each of its values has the effect that the contract gives it (section 8)."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from studio_client import BASE, StudioClient, refusal

from jobfs.errors import SettingsError
from jobfs.server.running import RunningServer
from jobfs.server.switches import RateLimit, Switches, choices, parse


def turn(server: RunningServer, **values: Any) -> None:
    server.switches = Switches(**values)


# ---------------------------------------------------------------------- reading them


def test_the_first_value_of_each_switch_is_its_default() -> None:
    for name, values in choices().items():
        if values:
            assert getattr(Switches(), name) == values[0]


def test_words_become_switches() -> None:
    assert parse(["dir_move=orphan", "zip-limit=12", "rate_limit=3:date"]) == Switches(
        dir_move="orphan", zip_limit=12, rate_limit="3:date"
    )


@pytest.mark.parametrize(
    ("word", "cause"),
    [
        ("colour=red", "no such switch: 'colour=red'"),
        ("dir_move", "no such switch: 'dir_move'"),
        ("dir_move=fly", "switch dir_move does not take 'fly'"),
        ("zip_limit=-1", "switch zip_limit does not take '-1'"),
        ("rate_limit=0", "switch rate_limit does not take '0'"),
        ("rate_limit=5:moon", "switch rate_limit does not take '5:moon'"),
    ],
)
def test_a_word_that_is_no_switch_is_refused_with_what_would_do(word: str, cause: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse([word])
    assert caught.value.cause == cause
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "limit"),
    [("off", None), ("5", RateLimit(5)), ("5:seconds", RateLimit(5)), ("5:date", RateLimit(5, "date"))],
)
def test_a_rate_limit_is_read(text: str, limit: RateLimit | None) -> None:
    assert RateLimit.parse(text) == limit


# ---------------------------------------------------------------------- transport


@pytest.mark.parametrize(("mode", "status"), [("both", 200), ("docs_only", 404), ("redirect_308", 308)])
def test_slash_mode_decides_about_the_other_spelling(studio: StudioClient, mode: str, status: int) -> None:
    turn(studio.server, slash_mode=mode)
    documented = studio.request("GET", f"{studio.items}/?take=1")
    other = studio.request("GET", f"{studio.items}?take=1")
    single = studio.request("GET", f"{BASE}/expert_jobs/{studio.job}/")
    assert (documented.status_code, other.status_code, single.status_code) == (200, status, status)
    if mode == "docs_only":
        assert other.json() == {"detail": "Not Found"}
    if mode == "redirect_308":
        assert other.headers["location"] == f"{studio.items}/?take=1"
        assert single.headers["location"] == f"{BASE}/expert_jobs/{studio.job}"


@pytest.mark.parametrize(
    ("dialect", "keys"), [("v1", {"workspaceItem"}), ("later", {"item"}), ("both", {"workspaceItem", "item"})]
)
def test_dialect_decides_the_envelope_of_an_item(studio: StudioClient, dialect: str, keys: set[str]) -> None:
    turn(studio.server, dialect=dialect)
    data = studio.create_file("a.txt", b"abc").json()["data"]
    assert set(data) == keys
    if "item" in keys:
        assert (data["item"]["type"], data["item"]["path"], data["item"]["size"]) == ("file", "a.txt", 3)
    row = studio.list().json()["data"]["workspaceItems"][0]
    assert row["type"] == ("file" if dialect == "later" else "workspaceItemFile")


@pytest.mark.parametrize(("dialect", "has_variable"), [("v1", False), ("later", True), ("both", True)])
def test_dialect_decides_whether_a_variable_comes_back(
    application: StudioClient, dialect: str, has_variable: bool
) -> None:
    turn(application.server, dialect=dialect)
    data = application.request("POST", f"{BASE}/workspace/variables/", json={"name": "A", "value": "b"}).json()["data"]
    assert data["workspace"]["envVariables"] == ["A"]
    assert data.get("variable") == ({"name": "A", "value": "b"} if has_variable else None)


@pytest.mark.parametrize("style", ["seconds", "date"])
def test_rate_limit_refuses_and_says_when_to_come_back(studio: StudioClient, style: str) -> None:
    turn(studio.server, rate_limit=f"2:{style}")
    answers = [studio.get("a" * 24) for _ in range(6)]
    limited = [answer for answer in answers if answer.status_code == 429]
    assert answers[0].status_code == 404
    assert limited
    assert refusal(limited[0])[1] == "Too Many Requests"
    wait = limited[0].headers["retry-after"]
    assert re.fullmatch(r"1" if style == "seconds" else r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", wait)


# ---------------------------------------------------------------------- items


@pytest.mark.parametrize("policy", ["error", "replace", "duplicate"])
def test_create_existing_decides_about_an_occupied_path(studio: StudioClient, policy: str) -> None:
    first = studio.put("a.txt", b"old")
    turn(studio.server, create_existing=policy)
    answer = studio.create_file("a.txt", b"newer")
    if policy == "error":
        assert refusal(answer) == (400, "Bad Request", "Path already exists")
        assert studio.download(first["id"]).content == b"old"
        return
    second = answer.json()["data"]["workspaceItem"]
    assert (second["id"] == first["id"]) == (policy == "replace")
    assert studio.download(second["id"]).content == b"newer"
    assert studio.paths() == (["a.txt"] if policy == "replace" else ["a.txt", "a.txt"])


def test_a_replaced_item_keeps_its_age_and_is_newer(studio: StudioClient) -> None:
    first = studio.put("a.txt", b"old")
    turn(studio.server, create_existing="replace")
    second = studio.put("a.txt", b"newer")
    assert second["createdAt"] == first["createdAt"]
    assert second["updatedAt"] > first["updatedAt"]
    assert second["key"] != first["key"]
    assert second["size"] == 5


@pytest.mark.parametrize("policy", ["replace", "duplicate"])
def test_a_file_never_replaces_a_directory(studio: StudioClient, policy: str) -> None:
    studio.put("d", None)
    turn(studio.server, create_existing=policy)
    answer = studio.create_file("d")
    expected = 400 if policy == "replace" else 200
    assert answer.status_code == expected


@pytest.mark.parametrize(("mode", "paths"), [("cascade", ["e", "e/f", "e/f/x"]), ("orphan", ["d/f", "d/f/x", "e"])])
def test_dir_move_decides_whether_children_follow(studio: StudioClient, mode: str, paths: list[str]) -> None:
    directory = studio.put("d", None)
    studio.put("d/f", None)
    studio.put("d/f/x")
    turn(studio.server, dir_move=mode)
    assert studio.update(directory["id"], path="e").json()["data"]["workspaceItem"]["path"] == "e"
    assert studio.paths() == paths


@pytest.mark.parametrize(
    ("mode", "asked", "found"),
    [
        ("exact", "d/a.txt", ["d/a.txt"]),
        ("exact", "/d/a.txt", ["d/a.txt"]),
        ("exact", "d/*", []),
        ("prefix", "d/a", ["d/a.txt", "d/ab"]),
        ("glob", "d/*.txt", ["d/a.txt"]),
        ("glob", "*a*", ["d/a.txt", "d/ab"]),
    ],
)
def test_find_mode_decides_what_matches(studio: StudioClient, mode: str, asked: str, found: list[str]) -> None:
    studio.put("d", None)
    studio.put("d/a.txt")
    studio.put("d/ab")
    turn(studio.server, find_mode=mode)
    assert sorted(studio.find(asked)) == found


@pytest.mark.parametrize(
    ("body", "status", "content"), [("json", 200, b"{}"), ("empty", 200, b""), ("no_content", 204, b"")]
)
def test_delete_body_decides_what_a_deletion_answers(
    studio: StudioClient, body: str, status: int, content: bytes
) -> None:
    item = studio.put("a.txt")
    turn(studio.server, delete_body=body)
    answer = studio.delete(item["id"])
    assert (answer.status_code, answer.content) == (status, content)
    assert studio.paths() == []


@pytest.mark.parametrize(("mode", "path"), [("strip", "a.txt"), ("keep", "/a.txt"), ("reject", None)])
def test_leading_slash_decides_how_a_path_is_kept(studio: StudioClient, mode: str, path: str | None) -> None:
    turn(studio.server, leading_slash=mode)
    answer = studio.create_file("/a.txt")
    if path is None:
        assert refusal(answer) == (400, "Bad Request", "Invalid path")
        return
    assert answer.json()["data"]["workspaceItem"]["path"] == path
    assert studio.find("a.txt") == [path]
    assert refusal(studio.create_file("a.txt"))[2] == "Path already exists"


def test_a_kept_leading_slash_stays_through_a_move_of_the_directory(studio: StudioClient) -> None:
    turn(studio.server, leading_slash="keep")
    directory = studio.put("/d", None)
    studio.put("/d/x")
    studio.update(directory["id"], path="/e")
    assert studio.paths() == ["/e", "/e/x"]


@pytest.mark.parametrize("mode", ["off", "on"])
def test_content_update_decides_whether_content_can_be_sent_alone(studio: StudioClient, mode: str) -> None:
    item = studio.put("a.txt", b"old")
    turn(studio.server, content_update=mode)
    answer = studio.update(item["id"], content=base64.b64encode(b"newest").decode())
    if mode == "off":
        assert refusal(answer) == (400, "Bad Request", "At least one field is required")
        assert studio.download(item["id"]).content == b"old"
    else:
        changed = answer.json()["data"]["workspaceItem"]
        assert (changed["id"], changed["size"]) == (item["id"], 6)
        assert changed["key"] != item["key"]
        assert studio.download(item["id"]).content == b"newest"


def test_content_update_takes_other_fields_along_or_nothing(studio: StudioClient) -> None:
    item = studio.put("a.txt", b"old")
    turn(studio.server, content_update="on")
    content = base64.b64encode(b"new").decode()
    assert studio.update(item["id"], content=content, path="..").status_code == 400
    assert studio.download(item["id"]).content == b"old"
    assert studio.update(item["id"], content=content, path="b.txt").json()["data"]["workspaceItem"]["path"] == "b.txt"
    assert studio.download(item["id"]).content == b"new"
    assert refusal(studio.update(item["id"], content="not base64!"))[0] == 422


@pytest.mark.parametrize("mode", ["shared", "detach"])
def test_shared_change_decides_whom_a_change_of_a_default_hits(
    studio: StudioClient, application: StudioClient, mode: str
) -> None:
    application.put("d", None)
    default = application.put("d/x", b"default")
    other = studio.of(studio.server.create_job())
    turn(studio.server, shared_change=mode)
    moved = studio.update(default["id"], path="d/y").json()["data"]["workspaceItem"]
    assert studio.paths() == ["d", "d/y"]
    if mode == "shared":
        assert (moved["id"], moved["lifecycle"]) == (default["id"], "application")
        assert other.paths() == ["d", "d/y"]
    else:
        assert moved["lifecycle"] == "expertJob"
        assert moved["id"] != default["id"]
        assert other.paths() == ["d", "d/x"]
        assert studio.download(moved["id"]).content == b"default"
        assert studio.get(default["id"]).status_code == 404
    other.close()


def test_detach_takes_a_whole_directory_along(studio: StudioClient, application: StudioClient) -> None:
    directory = application.put("d", None)
    application.put("d/x", b"default")
    turn(studio.server, shared_change="detach")
    studio.put("d/own", b"mine")
    studio.update(directory["id"], path="e")
    assert studio.paths() == ["e", "e/own", "e/x"]
    assert application.paths() == ["d", "d/x"]
    assert studio.delete(studio.list().json()["data"]["workspaceItems"][0]["id"]).status_code == 200


def test_detach_deletes_for_one_job_only(studio: StudioClient, application: StudioClient) -> None:
    directory = application.put("d", None)
    application.put("d/x")
    turn(studio.server, shared_change="detach")
    assert studio.delete(directory["id"]).status_code == 200
    assert studio.paths() == []
    assert application.paths() == ["d", "d/x"]


def test_detach_shadows_a_default_whose_permission_changed(studio: StudioClient, application: StudioClient) -> None:
    default = application.put("x", b"1")
    turn(studio.server, shared_change="detach")
    copy = studio.update(default["id"], permission="readOnly").json()["data"]["workspaceItem"]
    assert (copy["permission"], copy["lifecycle"]) == ("readOnly", "expertJob")
    assert application.get(default["id"]).json()["data"]["workspaceItem"]["permission"] == "readWrite"
    assert studio.find("x") == ["x", "x"]
    studio.delete(copy["id"])
    assert studio.find("x") == ["x"]


@pytest.mark.parametrize(("mode", "status"), [("advisory", 200), ("enforced", 403)])
def test_readonly_decides_whether_a_read_only_item_can_move(studio: StudioClient, mode: str, status: int) -> None:
    item = studio.put("a.txt", permission="readOnly")
    turn(studio.server, readonly=mode, content_update="on")
    answer = studio.update(item["id"], path="b.txt")
    assert answer.status_code == status
    if mode == "enforced":
        assert refusal(answer) == (403, "Forbidden", "Workspace item is read-only")
        assert studio.update(item["id"], content="eA==").status_code == 403
        assert studio.update(item["id"], permission="readWrite").status_code == 200
        assert studio.update(item["id"], path="b.txt").status_code == 200


@pytest.mark.parametrize("path", ["perstack", "perstack/x", "/perstack"])
@pytest.mark.parametrize(("mode", "status"), [("off", 200), ("on", 400)])
def test_reserve_runtime_dir_bars_users_from_it(studio: StudioClient, path: str, mode: str, status: int) -> None:
    studio.server.expert_writes(studio.job or "", "perstack/own", b"1")
    item = studio.put("a.txt")
    turn(studio.server, reserve_runtime_dir=mode, create_existing="duplicate")
    assert studio.create_directory(path).status_code == status
    assert studio.update(item["id"], path="perstack/moved").status_code == status
    studio.server.expert_writes(studio.job or "", "perstack/more", b"2")


# ---------------------------------------------------------------------- listing


def test_list_order_created_is_by_age_and_id(studio: StudioClient) -> None:
    items = [studio.put(f"f{number}") for number in range(8)]
    listed = studio.list().json()["data"]["workspaceItems"]
    assert [item["id"] for item in listed] == [
        item["id"] for item in sorted(items, key=lambda item: (item["createdAt"], item["id"]))
    ]


def test_list_order_shuffled_is_stable_and_not_by_age(studio: StudioClient) -> None:
    items = [studio.put(f"f{number:02}")["id"] for number in range(20)]
    turn(studio.server, list_order="shuffled")
    pages = [
        item["id"]
        for skip in range(0, 20, 5)
        for item in studio.list(take=5, skip=skip).json()["data"]["workspaceItems"]
    ]
    assert sorted(pages) == sorted(items)
    assert pages != items
    assert pages == [item["id"] for item in studio.list().json()["data"]["workspaceItems"]]


@pytest.mark.parametrize("mode", ["tick", "coarse", "frozen"])
def test_updated_at_decides_whether_a_change_shows(studio: StudioClient, mode: str) -> None:
    item = studio.put("a.txt")
    turn(studio.server, updated_at=mode)
    changed = studio.update(item["id"], permission="readOnly").json()["data"]["workspaceItem"]
    match mode:
        case "tick":
            assert changed["updatedAt"] > item["updatedAt"]
        case "coarse":
            assert changed["updatedAt"].endswith(".000Z")
            assert changed["updatedAt"] >= changed["createdAt"]
        case "frozen":
            assert changed["updatedAt"] == item["createdAt"]


@pytest.mark.parametrize(("value", "count"), [("100", 100), ("0", 0), ("all", 103)])
def test_embedded_items_decides_how_many_items_an_instance_holds(studio: StudioClient, value: str, count: int) -> None:
    for number in range(103):
        studio.server.put_item(studio.job, f"f{number}", b"")
    turn(studio.server, embedded_items=value)
    instance = studio.request("GET", f"{BASE}/expert_jobs/{studio.job}/workspace_instance/").json()
    assert len(instance["data"]["workspaceInstance"]["items"]) == count
    assert instance["data"]["workspaceInstance"]["countItems"] == 103
    to_run = studio.system("GET", f"{BASE}/expert_jobs/{studio.job}/workspace_instance_to_run/").json()
    assert len(to_run["data"]["workspaceInstanceToRun"]["items"]) == 103


@pytest.mark.parametrize("mode", ["404", "empty"])
def test_unknown_job_list_decides_how_an_unknown_job_looks(studio: StudioClient, mode: str) -> None:
    turn(studio.server, unknown_job_list=mode)
    nobody = studio.of("z" * 24)
    answers = [nobody.list(), nobody.request("GET", f"{nobody.items}/find?path=a")]
    if mode == "404":
        assert [refusal(answer) for answer in answers] == [(404, "Not Found", "Expert job not found")] * 2
    else:
        assert answers[0].json() == {"data": {"workspaceItems": []}, "meta": {"total": 0, "take": 100, "skip": 0}}
        assert answers[1].json() == {"data": {"workspaceItems": []}}
    assert nobody.create_file("a").status_code == 404
    nobody.close()


# ---------------------------------------------------------------------- downloads


@pytest.mark.parametrize(
    ("value", "content_type"),
    [("text_plain", "text/plain"), ("item_mime", "text/x-test"), ("octet_stream", "application/octet-stream")],
)
def test_download_type_decides_the_header_and_never_the_bytes(
    studio: StudioClient, value: str, content_type: str
) -> None:
    every_byte = bytes(range(256))
    item = studio.put("a.bin", every_byte)
    turn(studio.server, download_type=value)
    answer = studio.download(item["id"])
    assert (answer.headers["content-type"], answer.content) == (content_type, every_byte)


@pytest.mark.parametrize(("value", "length"), [("off", "5"), ("on", None)])
def test_chunked_decides_whether_a_length_is_sent(studio: StudioClient, value: str, length: str | None) -> None:
    item = studio.put("a.txt", b"12345")
    turn(studio.server, chunked=value)
    answer = studio.download(item["id"])
    assert (answer.headers.get("content-length"), answer.content) == (length, b"12345")
    assert answer.headers.get("transfer-encoding") == (None if length else "chunked")


@pytest.mark.parametrize(
    ("wanted", "status", "content", "content_range"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        ("bytes=4-2", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
    ],
)
def test_range_honoured_answers_the_part(
    studio: StudioClient, wanted: str, status: int, content: bytes, content_range: str | None
) -> None:
    item = studio.put("a.txt", b"0123456789")
    turn(studio.server, range="honour")
    answer = studio.download(item["id"], Range=wanted)
    assert (answer.status_code, answer.content) == (status, content)
    assert answer.headers.get("content-range") == content_range


def test_range_ignored_answers_the_whole(studio: StudioClient) -> None:
    item = studio.put("a.txt", b"0123456789")
    answer = studio.download(item["id"], Range="bytes=2-4")
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    assert "accept-ranges" not in answer.headers


def test_etag_on_names_the_bytes_and_knows_them_again(studio: StudioClient) -> None:
    item = studio.put("a.txt", b"0123456789")
    assert "etag" not in studio.download(item["id"]).headers
    turn(studio.server, etag="on", range="honour")
    tag = studio.download(item["id"]).headers["etag"]
    assert studio.download(item["id"], **{"If-None-Match": tag}).status_code == 304
    assert studio.download(item["id"], **{"If-None-Match": '"other"'}).status_code == 200
    assert studio.download(item["id"], **{"Range": "bytes=0-1", "If-Range": tag}).content == b"01"
    assert studio.download(item["id"], **{"Range": "bytes=0-1", "If-Range": '"other"'}).content == b"0123456789"


# ---------------------------------------------------------------------- jobs


@pytest.mark.parametrize(("value", "status"), [("off", 200), ("on", 422)])
def test_model_check_decides_about_a_model_that_is_not_on_the_list(
    studio: StudioClient, value: str, status: int
) -> None:
    turn(studio.server, model_check=value)
    start = {"expertKey": "@jobfs/word-count", "query": "q"}
    assert studio.request("POST", f"{BASE}/expert_jobs/", json=start | {"model": "mine"}).status_code == status
    assert studio.request("POST", f"{BASE}/expert_jobs/", json=start | {"model": "gpt-5"}).status_code == 200


@pytest.mark.parametrize("value", ["on", "off"])
def test_accept_response_decides_whether_the_later_clients_word_counts(studio: StudioClient, value: str) -> None:
    studio.server.set_status(studio.job or "", "requestInteractiveToolResult")
    turn(studio.server, accept_response=value)
    answer = studio.request("POST", f"{BASE}/expert_jobs/{studio.job}/continue", json={"response": "yes"})
    if value == "off":
        assert refusal(answer) == (400, "Bad Request", "Query or files are required")
    else:
        job = answer.json()["data"]["expertJob"]
        assert (job["query"], job["interactiveToolCallResult"], job["status"]) == ("yes", True, "queued")


@pytest.mark.parametrize("value", ["off", "on"])
def test_resume_from_decides_whether_the_operation_exists(studio: StudioClient, value: str) -> None:
    studio.server.set_status(studio.job or "", "completed")
    turn(studio.server, resume_from=value)
    path = f"{BASE}/expert_jobs/{studio.job}/resume_from"
    unknown = studio.form(path, checkpointId="c" * 24, query="go")
    assert refusal(unknown)[0] == 404
    assert refusal(unknown)[2] == ("Checkpoint not found" if value == "on" else "Not Found")
    if value == "on":
        checkpoint = _record_checkpoint(studio)
        answer = studio.form(path, checkpointId=checkpoint, query="go")
        assert answer.json()["data"]["expertJob"]["status"] == "queued"


@pytest.mark.parametrize(("value", "taken"), [("off", True), ("on", False)])
def test_hold_queued_keeps_jobs_from_the_runner(server: RunningServer, value: str, taken: bool) -> None:
    turn(server, hold_queued=value)
    heard: list[str] = []
    server.call(lambda: server.state.news.on_job_queued(heard.append))
    job = server.create_job(hold=False)
    assert (job in heard) is taken
    assert (job in server.call(server.state.queued_jobs)) is taken
    server.set_status(job, "canceled")


def test_a_job_that_is_held_by_itself_is_never_given_to_the_runner(server: RunningServer) -> None:
    job = server.create_job(hold=True)
    assert job not in server.call(server.state.queued_jobs)


@pytest.mark.parametrize(("value", "statuses"), [("system", (200, 401)), ("ordinary", (200, 200))])
def test_checkpoint_key_decides_who_may_record(studio: StudioClient, value: str, statuses: tuple[int, int]) -> None:
    turn(studio.server, checkpoint_key=value)
    path = f"{BASE}/expert_jobs/{studio.job}/checkpoints/"
    body = checkpoint_body()
    got = (
        studio.system("POST", path, json=body).status_code,
        studio.request("POST", path, json=body).status_code,
    )
    assert got == statuses


@pytest.mark.parametrize("value", ["lf", "crlf", "multiline", "cut"])
def test_sse_decides_how_events_are_framed(studio: StudioClient, value: str) -> None:
    _record_checkpoint(studio)
    studio.server.set_status(studio.job or "", "completed")
    turn(studio.server, sse=value)
    answer = studio.request("GET", f"{BASE}/expert_jobs/{studio.job}/checkpoints/stream")
    assert answer.headers["content-type"].startswith("text/event-stream")
    text = answer.text
    if value == "cut":
        assert text.startswith("event: message\ndata: {")
        assert not text.endswith("\n\n")
        return
    end = "\r\n" if value == "crlf" else "\n"
    assert text.endswith(end + end)
    lines = text.split(end)
    assert lines[0] == "event: message"
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert (len(data) > 1) is (value == "multiline")
    assert json.loads("\n".join(data))["type"] == "checkpoint"


def checkpoint_body(**step: Any) -> dict[str, Any]:
    usage = dict.fromkeys(("inputTokens", "outputTokens", "reasoningTokens", "totalTokens", "cachedInputTokens"), 1)
    expert = {"key": "@jobfs/word-count", "name": "@jobfs/word-count", "version": "1.0.0"}
    return {
        "checkpoint": {"status": "proceeding", "stepNumber": 1, "messages": [], "expert": expert, "usage": usage},
        "step": {"stepNumber": 1, "newMessages": [], "usage": usage, "startedAt": 1700000000123, **step},
    }


def _record_checkpoint(studio: StudioClient) -> str:
    answer = studio.system("POST", f"{BASE}/expert_jobs/{studio.job}/checkpoints/", json=checkpoint_body())
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"]["checkpoint"]["id"])
