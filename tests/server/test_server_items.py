"""Items over HTTP in the default profile: what the contract's section 5.2 says that our server does."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from studio_client import BASE, StudioClient, refusal

from jobfs.server.running import RunningServer

FILE_FIELDS = {
    "type",
    "id",
    "owner",
    "lifecycle",
    "permission",
    "path",
    "createdAt",
    "updatedAt",
    "key",
    "mimeType",
    "size",
}


# ---------------------------------------------------------------------- creating


def test_a_created_file_has_all_its_fields(studio: StudioClient) -> None:
    answer = studio.create_file("a.txt", b"hello")
    assert answer.headers["content-type"] == "application/json"
    item = answer.json()["data"]["workspaceItem"]
    assert set(item) == FILE_FIELDS
    constant = {name: item[name] for name in ("type", "owner", "lifecycle", "permission", "path", "mimeType", "size")}
    assert constant == {
        "type": "workspaceItemFile",
        "owner": "user",
        "lifecycle": "expertJob",
        "permission": "readWrite",
        "path": "a.txt",
        "mimeType": "text/x-test",
        "size": 5,
    }
    assert item["createdAt"] == item["updatedAt"]
    assert len(item["id"]) == 24


def test_a_created_directory_has_no_content_fields(studio: StudioClient) -> None:
    assert set(studio.put("d", None, permission="readOnly")) == FILE_FIELDS - {"key", "mimeType", "size"}


def test_a_directory_can_be_created_from_json_as_documented(studio: StudioClient) -> None:
    body = {"type": "workspaceItemDirectory", "path": "d", "permission": "readOnly"}
    item = studio.request("POST", f"{studio.items}/", json=body).json()["data"]["workspaceItem"]
    assert (item["type"], item["permission"]) == ("workspaceItemDirectory", "readOnly")


def test_a_file_can_be_created_from_base64_as_the_later_client_does(studio: StudioClient) -> None:
    body = {"path": "a.bin", "content": base64.b64encode(bytes(range(256))).decode()}
    item = studio.request("POST", studio.items, json=body).json()["data"]["workspaceItem"]
    assert (item["permission"], item["mimeType"], item["size"]) == ("readWrite", "application/octet-stream", 256)
    assert studio.download(item["id"]).content == bytes(range(256))


def test_an_empty_file_is_a_file(studio: StudioClient) -> None:
    item = studio.put("empty", b"")
    answer = studio.download(item["id"])
    assert (item["size"], answer.status_code, answer.content) == (0, 200, b"")
    assert answer.headers["content-length"] == "0"


def test_a_part_without_a_type_is_octets(studio: StudioClient) -> None:
    boundary = "b0"
    parts = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in {"type": "workspaceItemFile", "path": "x", "permission": "readWrite"}.items()
    )
    file = 'Content-Disposition: form-data; name="file"; filename="x"'
    body = f"{parts}--{boundary}\r\n{file}\r\n\r\nhi\r\n--{boundary}--\r\n"
    answer = studio.request(
        "POST", studio.items, content=body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"}
    )
    assert answer.json()["data"]["workspaceItem"]["mimeType"] == "application/octet-stream"


@pytest.mark.parametrize(
    "path",
    ["..", "a/../b", ".", "a/./b", "a//b", "//a", "/", "a\0b", "a\nb", "a\x7fb", "a\x85b", "a/"],
)
def test_a_path_outside_the_grammar_is_invalid(studio: StudioClient, path: str) -> None:
    studio.put("a", None)
    assert refusal(studio.create_file(path)) == (400, "Bad Request", "Invalid path")


@pytest.mark.parametrize("path", ["back\\slash", "ü", "u\u0308", "a b", "...", "*?[]{}", "%2F", "🎉" * 255, "x" * 1024])
def test_every_other_character_is_an_ordinary_one(studio: StudioClient, path: str) -> None:
    assert studio.put(path)["path"] == path
    assert studio.find(path) == [path]


def test_a_trailing_slash_is_stripped_from_a_directory_only(studio: StudioClient) -> None:
    assert studio.put("d/", None)["path"] == "d"
    assert refusal(studio.create_file("f/"))[2] == "Invalid path"


def test_names_are_byte_exact(studio: StudioClient) -> None:
    for path in ("a", "A", "\u00e9", "e\u0301"):
        studio.put(path)
    assert studio.paths() == sorted(["a", "A", "\u00e9", "e\u0301"])


@pytest.mark.parametrize("path", ["no/x", "file/x"])
def test_the_parent_has_to_be_a_directory(studio: StudioClient, path: str) -> None:
    studio.put("file")
    assert refusal(studio.create_file(path)) == (400, "Bad Request", "Directory not found")


def test_an_occupied_path_is_refused_and_nothing_is_lost(studio: StudioClient) -> None:
    item = studio.put("a.txt", b"first")
    assert refusal(studio.create_file("a.txt", b"second")) == (400, "Bad Request", "Path already exists")
    assert refusal(studio.create_directory("a.txt"))[2] == "Path already exists"
    assert studio.download(item["id"]).content == b"first"
    assert _content_files(studio.server) == _content_rows(studio.server)


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"type": "workspaceItemFile", "path": "a"}, "permission"),
        ({"type": "workspaceItemFile", "permission": "readWrite"}, "path"),
        ({"path": "a", "permission": "readWrite"}, "type"),
        ({"type": "workspaceItemFile", "path": "a", "permission": "readWrite"}, "file"),
        ({"type": "symlink", "path": "a", "permission": "readWrite"}, "type"),
        ({"type": "workspaceItemDirectory", "path": "a", "permission": "rwx"}, "permission"),
        ({"type": "workspaceItemDirectory", "path": "a" * 1025, "permission": "readOnly"}, "path"),
        ({"type": "workspaceItemDirectory", "path": "", "permission": "readOnly"}, "path"),
    ],
)
def test_a_form_that_does_not_fit_is_refused_with_the_field(
    studio: StudioClient, fields: dict[str, str], missing: str
) -> None:
    code, error, reason = refusal(studio.form(f"{studio.items}/", **fields))
    assert (code, error) == (422, "Validation Failed")
    assert [complaint["path"] for complaint in reason] == [missing]
    assert studio.paths() == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'"text"', "application/json"),
        (b'{"path": NaN}', "application/json"),
        (b'{"path": "\\ud800", "content": ""}', "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"type=workspaceItemDirectory", "application/x-www-form-urlencoded"),
        (b"anything", "text/plain"),
        (b"--b\r\n", "multipart/form-data"),
        (b"no boundary here", "multipart/form-data; boundary=b"),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b"),
        (b'--b\r\nContent-Disposition: form-data; name="path"\r\n\r\na', "multipart/form-data; boundary=b"),
        (
            b'--b\r\nContent-Disposition: form-data; name="path"\r\n\r\n\xff\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
        ),
        (b"", "application/json"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_and_changes_nothing(
    studio: StudioClient, body: bytes, kind: str
) -> None:
    answer = studio.request("POST", f"{studio.items}/", content=body, headers={"Content-Type": kind})
    assert refusal(answer)[:2] == (422, "Validation Failed")
    assert studio.paths() == []
    assert _content_files(studio.server) == _content_rows(studio.server)


# ---------------------------------------------------------------------- reading


def test_the_list_is_paged_and_says_how_many_there_are(studio: StudioClient) -> None:
    for number in range(5):
        studio.put(f"f{number}")
    page = studio.list(take=2, skip=3).json()
    assert page["meta"] == {"total": 5, "take": 2, "skip": 3}
    assert [item["path"] for item in page["data"]["workspaceItems"]] == ["f3", "f4"]
    assert studio.list().json()["meta"] == {"total": 5, "take": 100, "skip": 0}
    assert studio.list(skip=10**30).json()["data"]["workspaceItems"] == []


@pytest.mark.parametrize("query", ["take=0", "take=101", "take=x", "take=", "take=1.0", "take=-1", "skip=-1", "skip=٣"])
def test_a_page_out_of_range_is_refused(studio: StudioClient, query: str) -> None:
    assert refusal(studio.request("GET", f"{studio.items}/?{query}"))[:2] == (422, "Validation Failed")


def test_unknown_query_parameters_are_ignored(studio: StudioClient) -> None:
    studio.put("a")
    assert studio.list(path="zzz", other="1").json()["meta"]["total"] == 1


@pytest.mark.parametrize("query", ["", "?path=", "?other=1", "?path=%FF"])
def test_find_needs_a_path(studio: StudioClient, query: str) -> None:
    assert refusal(studio.request("GET", f"{studio.items}/find{query}"))[0] == 422


def test_find_is_exact_on_the_normal_form(studio: StudioClient) -> None:
    studio.put("d", None)
    studio.put("d/a.txt")
    assert studio.find("/d/") == ["d"]
    assert studio.find("d/a.txt/") == ["d/a.txt"]
    assert studio.find("d/a") == []


def test_a_download_has_the_exact_bytes_and_their_length(studio: StudioClient) -> None:
    content = bytes(range(256)) * 5000
    answer = studio.download(studio.put("a", content)["id"])
    assert answer.content == content
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["content-type"] == "text/plain"


def test_downloading_a_directory_is_not_found_in_an_instance_and_bad_in_the_application(
    studio: StudioClient, application: StudioClient
) -> None:
    own, shared = studio.put("own", None), application.put("shared", None)
    assert refusal(studio.download(own["id"])) == (404, "Not Found", "File not found")
    expected = (400, "Bad Request", "Can only download files, not directories")
    assert refusal(application.download(shared["id"])) == expected


def test_a_file_whose_bytes_are_missing_is_listed_and_cannot_be_downloaded(studio: StudioClient) -> None:
    item = studio.put("a")
    studio.server.state.storage.contents.path(item["key"]).unlink()
    assert studio.paths() == ["a"]
    assert refusal(studio.download(item["id"])) == (404, "Not Found", "File not found")
    assert studio.delete(item["id"]).status_code == 200


# ---------------------------------------------------------------------- changing


def test_an_update_needs_a_field(studio: StudioClient) -> None:
    item = studio.put("a")
    for body in ({}, {"unknown": 1}, {"content": "eA=="}):
        assert refusal(studio.update(item["id"], **body)) == (400, "Bad Request", "At least one field is required")


@pytest.mark.parametrize("field", ["path", "permission", "lifecycle"])
def test_null_is_no_value(studio: StudioClient, field: str) -> None:
    assert refusal(studio.update(studio.put("a")["id"], **{field: None}))[0] == 422


def test_an_update_to_the_present_values_changes_nothing(studio: StudioClient) -> None:
    item = studio.put("a")
    answer = studio.update(item["id"], path="a", permission="readWrite", lifecycle="expertJob")
    assert answer.json()["data"]["workspaceItem"] == item


def test_each_change_makes_an_item_newer(studio: StudioClient) -> None:
    item = studio.put("a")
    times = [item["updatedAt"]]
    for number in range(20):
        changed = studio.update(item["id"], path=f"a{number}").json()["data"]["workspaceItem"]
        times.append(changed["updatedAt"])
        assert (changed["id"], changed["createdAt"], changed["key"]) == (item["id"], item["createdAt"], item["key"])
    assert times == sorted(set(times))


def test_a_moved_directory_takes_everything_along(studio: StudioClient) -> None:
    directory = studio.put("d", None)
    for path, content in (("d/e", None), ("d/e/x", b"1"), ("d/y", b"2"), ("da", b"3"), ("d0", b"4")):
        studio.put(path, content)
    assert studio.update(directory["id"], path="m").status_code == 200
    assert studio.paths() == ["d0", "da", "m", "m/e", "m/e/x", "m/y"]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("d/e/f", "Invalid path"),
        ("d/d", "Invalid path"),
        ("taken", "Path already exists"),
        ("no/d", "Directory not found"),
        ("taken/d", "Directory not found"),
        ("../d", "Invalid path"),
    ],
)
def test_a_move_that_cannot_be_is_refused_and_changes_nothing(studio: StudioClient, target: str, reason: str) -> None:
    directory = studio.put("d", None)
    studio.put("d/e", None)
    studio.put("taken")
    before = studio.list().json()
    assert refusal(studio.update(directory["id"], path=target, permission="readOnly")) == (400, "Bad Request", reason)
    assert studio.list().json() == before


def test_a_move_that_would_make_a_path_too_long_changes_nothing(studio: StudioClient) -> None:
    directory = studio.put("d", None)
    studio.put("d/" + "x" * 1000)
    before = studio.list().json()
    assert refusal(studio.update(directory["id"], path="y" * 24))[2] == "Invalid path"
    assert studio.list().json() == before
    assert studio.update(directory["id"], path="y" * 23).status_code == 200


def test_permission_and_lifecycle_are_not_inherited(studio: StudioClient) -> None:
    directory = studio.put("d", None)
    inner = studio.put("d/x")
    studio.update(directory["id"], permission="readOnly", lifecycle="application")
    assert studio.get(inner["id"]).json()["data"]["workspaceItem"] == inner


def test_deleting_a_directory_removes_all_of_it_in_one_step(studio: StudioClient) -> None:
    directory = studio.put("d", None)
    inner = studio.put("d/x")
    studio.put("dx")
    answer = studio.delete(directory["id"])
    assert (answer.status_code, answer.json()) == (200, {})
    assert studio.paths() == ["dx"]
    for gone in (directory, inner):
        assert refusal(studio.delete(gone["id"])) == (404, "Not Found", "Workspace item not found")
        assert studio.get(gone["id"]).status_code == 404
    assert _content_files(studio.server) == _content_rows(studio.server)


# ---------------------------------------------------------------------- defaults of the application


def test_an_instance_shows_defaults_and_its_own_items(studio: StudioClient, application: StudioClient) -> None:
    shared = application.put("shared.txt", b"all")
    studio.put("own.txt", b"mine")
    assert studio.paths() == ["own.txt", "shared.txt"]
    assert application.paths() == ["shared.txt"]
    assert shared["lifecycle"] == "application"
    assert studio.get(shared["id"]).json()["data"]["workspaceItem"] == shared
    assert studio.download(shared["id"]).content == b"all"


def test_a_private_item_is_made_beside_a_default_and_uncovers_it_again(
    studio: StudioClient, application: StudioClient
) -> None:
    default = application.put("a.txt", b"default")
    private = studio.put("a.txt", b"private")
    assert studio.find("a.txt") == ["a.txt", "a.txt"]
    assert studio.list().json()["meta"]["total"] == 2
    studio.delete(private["id"])
    assert studio.find("a.txt") == ["a.txt"]
    assert studio.download(default["id"]).content == b"default"


def test_an_occupied_path_of_the_application_is_refused(application: StudioClient) -> None:
    application.put("a.txt")
    assert refusal(application.create_file("a.txt")) == (400, "Bad Request", "Path already exists")


def test_a_private_item_may_live_in_a_default_directory(studio: StudioClient, application: StudioClient) -> None:
    application.put("d", None)
    assert studio.put("d/own")["lifecycle"] == "expertJob"
    assert refusal(application.create_file("d/own/x"))[2] == "Directory not found"


def test_a_private_file_hides_a_default_directory_as_parent(studio: StudioClient, application: StudioClient) -> None:
    application.put("d", None)
    studio.put("d")
    assert refusal(studio.create_file("d/x"))[2] == "Directory not found"


def test_a_default_changed_through_one_job_changes_for_all(studio: StudioClient, application: StudioClient) -> None:
    directory = application.put("d", None)
    application.put("d/x")
    studio.put("d/own")
    other = studio.of(studio.server.create_job())
    studio.update(directory["id"], path="e")
    assert studio.paths() == ["e", "e/own", "e/x"]
    assert other.paths() == ["e", "e/x"]
    studio.delete(directory["id"])
    assert (studio.paths(), other.paths(), application.paths()) == ([], [], [])
    other.close()


def test_a_lifecycle_change_keeps_the_id_and_moves_the_item_to_the_other_level(
    studio: StudioClient, application: StudioClient
) -> None:
    item = studio.put("a.txt", b"1")
    shared = studio.update(item["id"], lifecycle="application").json()["data"]["workspaceItem"]
    assert (shared["id"], shared["lifecycle"]) == (item["id"], "application")
    assert application.paths() == ["a.txt"]
    private = studio.update(item["id"], lifecycle="expertJob").json()["data"]["workspaceItem"]
    assert (private["id"], private["lifecycle"]) == (item["id"], "expertJob")
    assert application.paths() == []


def test_a_lifecycle_change_respects_the_other_level(studio: StudioClient, application: StudioClient) -> None:
    default = application.put("a.txt")
    private = studio.put("a.txt")
    studio.put("d", None)
    inner = studio.put("d/x")
    assert refusal(studio.update(private["id"], lifecycle="application"))[2] == "Path already exists"
    assert refusal(studio.update(default["id"], lifecycle="expertJob"))[2] == "Path already exists"
    assert refusal(studio.update(inner["id"], lifecycle="application"))[2] == "Directory not found"
    assert application.update(default["id"], lifecycle="expertJob").status_code == 400


def test_other_jobs_items_are_not_found(studio: StudioClient, application: StudioClient) -> None:
    item = studio.put("a.txt")
    other = studio.of(studio.server.create_job())
    for client in (other, application):
        assert refusal(client.get(item["id"])) == (404, "Not Found", "Workspace item not found")
        assert client.delete(item["id"]).status_code == 404
        assert client.update(item["id"], path="b").status_code == 404
        assert client.download(item["id"]).status_code == 404
    other.close()


# ---------------------------------------------------------------------- workspace and instance


def test_the_instance_has_all_its_fields(studio: StudioClient) -> None:
    studio.put("a.txt")
    instance = studio.request("GET", f"{BASE}/expert_jobs/{studio.job}/workspace_instance/").json()
    shape = instance["data"]["workspaceInstance"]
    assert set(shape) == {
        "type",
        "id",
        "applicationId",
        "application",
        "expertJob",
        "createdAt",
        "updatedAt",
        "items",
        "countItems",
        "envVariables",
        "envSecrets",
    }
    assert shape["type"] == "workspaceInstance"
    assert shape["expertJob"]["id"] == studio.job
    assert (shape["countItems"], [item["path"] for item in shape["items"]]) == (1, ["a.txt"])
    assert "nameChangedAt" not in shape["application"]["organization"]


def test_the_instance_is_newer_after_each_change_of_its_items(studio: StudioClient) -> None:
    def updated() -> str:
        answer = studio.request("GET", f"{BASE}/expert_jobs/{studio.job}/workspace_instance").json()
        return str(answer["data"]["workspaceInstance"]["updatedAt"])

    times = [updated()]
    item = studio.put("a")
    times.append(updated())
    studio.update(item["id"], path="b")
    times.append(updated())
    studio.delete(item["id"])
    times.append(updated())
    assert times == sorted(set(times))


def test_the_application_workspace_has_all_its_fields(application: StudioClient) -> None:
    application.put("a")
    shape = application.request("GET", f"{BASE}/workspace").json()["data"]["workspace"]
    assert set(shape) == {
        "type",
        "id",
        "applicationId",
        "application",
        "createdAt",
        "updatedAt",
        "items",
        "countItems",
        "envVariables",
        "envSecrets",
        "countWorkspaceInstances",
    }
    assert (shape["type"], shape["countItems"]) == ("workspace", 1)


def test_another_application_is_unauthorized(application: StudioClient) -> None:
    assert application.list(applicationId="x" * 24).status_code == 401
    own = application.request("GET", f"{BASE}/workspace").json()["data"]["workspace"]["applicationId"]
    assert application.list(applicationId=own).status_code == 200


def test_what_the_expert_writes_belongs_to_the_expert(server: RunningServer, studio: StudioClient) -> None:
    item = studio.put("a.txt", b"user")
    server.expert_writes(studio.job or "", "out/report.md", b"expert")
    server.expert_writes(studio.job or "", "a.txt", b"rewritten")
    owners: dict[str, Any] = {row["path"]: row["owner"] for row in studio.list().json()["data"]["workspaceItems"]}
    assert owners == {"a.txt": "user", "out": "expert", "out/report.md": "expert"}
    rewritten = studio.get(item["id"]).json()["data"]["workspaceItem"]
    assert rewritten["updatedAt"] > item["updatedAt"]
    assert studio.download(item["id"]).content == b"rewritten"
    server.expert_deletes(studio.job or "", "out")
    assert studio.paths() == ["a.txt"]


def _content_files(server: RunningServer) -> set[str]:
    folder = server.folder / "content"
    return {path.name for path in folder.glob("*/*")}


def _content_rows(server: RunningServer) -> set[str]:
    rows = server.call(lambda: server.state.storage.all("SELECT key FROM item WHERE key != ''"))
    return {row["key"] for row in rows}
