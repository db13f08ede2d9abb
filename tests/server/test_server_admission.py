"""Who gets in, and in which order a request is checked (contract T-4, T-6, V-3; sections 2 and 3)."""

from __future__ import annotations

import pytest
from studio_client import BASE, StudioClient, refusal

from jobfs.server.app import OPERATIONS
from jobfs.server.operations import Audience, Family, Operation
from jobfs.server.running import RunningServer

UNAUTHORIZED = {"code": 401, "error": "Unauthorized", "reason": "Failed to authenticate"}


def address(operation: Operation, *, value: str = "a" * 24) -> str:
    """Return a path of an operation with every parameter filled in."""
    parts = [value if part.startswith("{") else part for part in operation.path.split("/")]
    return "/".join(parts)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: f"{operation.method} {operation.path}")
def test_every_operation_refuses_a_missing_wrong_or_misplaced_key(studio: StudioClient, operation: Operation) -> None:
    wrong_kind = studio.server.api_key if operation.audience is Audience.SYSTEM else studio.server.system_key
    headers = [
        {},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": studio.server.api_key},
        {"Authorization": f"Basic {studio.server.api_key}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer ÿ".encode("latin-1")},
    ]
    if operation.audience is not Audience.RUNTIME:
        headers.append({"Authorization": f"Bearer {wrong_kind}"})
    studio.http.headers.pop("authorization")
    for header in headers:
        # The path and the body would be refused too: the key comes first.
        answer = studio.request(operation.method, address(operation, value="UPPER"), headers=header, content=b"{")
        assert answer.status_code == 401
        if operation.family is Family.PERSTACK:
            assert answer.json() == UNAUTHORIZED
        else:
            body = answer.json()
            assert set(body) == {"issues", "requestId"}
            assert body["requestId"] == answer.headers["x-request-id"]
            assert set(body["issues"][0]) == {"field", "message", "code", "severity"}


def test_the_scheme_may_be_spelt_in_any_case(studio: StudioClient) -> None:
    for scheme in ("bearer", "BEARER", "Bearer"):
        answer = studio.request(
            "GET", f"{BASE}/expert_jobs/", headers={"Authorization": f"{scheme} {studio.server.api_key}"}
        )
        assert answer.status_code == 200


def test_path_and_query_are_checked_before_the_job_is_looked_up(studio: StudioClient) -> None:
    unknown = "z" * 24
    base = f"{BASE}/expert_jobs"
    assert refusal(studio.request("GET", f"{base}/UPPER/workspace_instance/items/?take=1"))[0] == 422
    assert refusal(studio.request("GET", f"{base}/{unknown}/workspace_instance/items/?take=0"))[0] == 422
    assert refusal(studio.request("GET", f"{base}/{unknown}/workspace_instance/items/{'z' * 23}"))[0] == 422
    assert refusal(studio.request("GET", f"{base}/{unknown}/workspace_instance/items/find?path="))[0] == 422


@pytest.mark.parametrize("suffix", ["workspace_instance/items/", "workspace_instance/items/" + "y" * 24, "continue"])
def test_the_job_is_looked_up_before_the_body_is_read(studio: StudioClient, suffix: str) -> None:
    path = f"{BASE}/expert_jobs/{'z' * 24}/{suffix}"
    assert refusal(studio.request("POST", path, content=b"{"))[:2] == (404, "Not Found")


def test_the_body_is_checked_before_the_rules(studio: StudioClient) -> None:
    item = studio.put("a")
    assert refusal(studio.update(item["id"], path="..", permission="rwx"))[0] == 422
    assert refusal(studio.update(item["id"], path=".."))[0] == 400


@pytest.mark.parametrize("raw", ["%2F", "..%2F..", "a%00b", "%FF", "a" * 23, "a" * 25, "A" * 24, "é" * 24])
def test_a_malformed_id_is_422_wherever_it_stands(studio: StudioClient, raw: str) -> None:
    for path in (f"{BASE}/expert_jobs/{raw}", f"{studio.items}/{raw}", f"{studio.items}/{raw}/download"):
        assert refusal(studio.request("GET", path))[:2] == (422, "Validation Failed")


def test_an_unknown_path_is_401_without_a_key_and_404_with_one(studio: StudioClient) -> None:
    assert refusal(studio.request("GET", f"{BASE}/nothing"))[:2] == (404, "Not Found")
    assert studio.request("GET", "/v1/nothing").json()["issues"][0]["code"] == "not_found"
    assert studio.request("GET", "/elsewhere").status_code == 404
    studio.http.headers.pop("authorization")
    assert studio.request("GET", f"{BASE}/nothing").json() == UNAUTHORIZED


def test_the_bare_prefix_of_an_api_is_refused_as_its_other_paths_are(studio: StudioClient) -> None:
    assert refusal(studio.request("GET", BASE)) == (404, "Not Found", "Not Found")
    for prefix in ("/api/v1", "/v1"):
        assert studio.request("GET", prefix).json()["issues"][0]["code"] == "not_found"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/expert_jobs/", "GET, POST"),
        ("/expert_jobs", "GET, POST"),
        ("/expert_jobs/{job}/workspace_instance/items/find", "GET"),
        ("/expert_jobs/{job}/workspace_instance/items/" + "a" * 24, "DELETE, GET, POST"),
        ("/workspace/variables/NAME/", "DELETE, POST"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(studio: StudioClient, path: str, allowed: str) -> None:
    answer = studio.request("PATCH", BASE + path.format(job=studio.job))
    assert refusal(answer) == (405, "Method Not Allowed", "Method Not Allowed")
    assert answer.headers["allow"] == allowed


def test_a_static_word_is_no_id(studio: StudioClient) -> None:
    assert studio.request("POST", f"{studio.items}/find").status_code == 405
    assert studio.request("GET", "/api/v1/files/uploads").status_code == 405


def test_a_content_type_without_a_body_is_tolerated(studio: StudioClient) -> None:
    item = studio.put("a")
    header = {"Content-Type": "application/json"}
    assert studio.request("GET", f"{studio.items}/", headers=header).status_code == 200
    assert studio.request("DELETE", f"{studio.items}/{item['id']}", headers=header).status_code == 200


def test_every_documented_path_answers_with_and_without_its_final_slash(studio: StudioClient) -> None:
    studio.server.set_status(studio.job or "", "completed")
    for operation in OPERATIONS:
        if operation.method == "GET" and operation.family is Family.PERSTACK:
            path = address(operation, value=studio.job or "")
            client = studio.system if operation.audience is Audience.SYSTEM else studio.request
            one = client("GET", path.rstrip("/"))
            other = client("GET", path.rstrip("/") + "/")
            assert (one.status_code, one.content) == (other.status_code, other.content)


def test_one_application_never_sees_anothers_records(server: RunningServer, studio: StudioClient) -> None:
    item = studio.put("a.txt")
    stranger = server.call(lambda: server.state.create_application("other"))
    header = {"Authorization": f"Bearer {stranger}"}
    job = f"{BASE}/expert_jobs/{studio.job}"
    for path in (job, f"{job}/workspace_instance/", f"{studio.items}/", f"{studio.items}/{item['id']}/download"):
        assert studio.request("GET", path, headers=header).status_code == 404
    assert studio.request("GET", f"/v1/runs/{studio.job}", headers=header).status_code == 404
    assert studio.request("GET", f"{BASE}/expert_jobs/", headers=header).json()["meta"]["total"] == 0
    assert studio.request("GET", f"{BASE}/workspace/items/", headers=header).json()["meta"]["total"] == 0


def test_the_api_is_served_below_a_prefix() -> None:
    with RunningServer(prefix="/studio") as server:
        assert server.url.endswith("/studio")
        client = StudioClient(server, server.create_job())
        assert client.items.startswith(BASE)
        client.http.base_url = server.url
        item = client.put("a%2Fb.txt", b"1")
        assert client.download(item["id"]).content == b"1"
        assert client.request("GET", f"/v1/runs/{client.job}").status_code == 200
        assert client.request("GET", f"{BASE}/nothing").json()["code"] == 404
        client.close()


def test_the_openapi_page_describes_every_operation(studio: StudioClient) -> None:
    page = studio.request("GET", "/openapi.json").json()
    described = {(method.upper(), path) for path, methods in page["paths"].items() for method in methods}
    assert described == {(operation.method, operation.path.replace(":path", "")) for operation in OPERATIONS}
    for operation in OPERATIONS:
        entry = page["paths"][operation.path.replace(":path", "")][operation.method.lower()]
        assert ("requestBody" in entry) == (operation.body is not None or bool(operation.file_field))
        names = {part[1:-1].partition(":")[0] for part in operation.path.split("/") if part.startswith("{")}
        assert {one["name"] for one in entry["parameters"] if one["in"] == "path"} == names


def test_the_page_for_people_names_every_operation_and_needs_nothing_from_elsewhere(studio: StudioClient) -> None:
    page = studio.request("GET", "/docs").text
    for operation in OPERATIONS:
        assert f"<b>{operation.method}</b> <code>{operation.path.replace(':path', '')}</code>" in page
    assert "<script" not in page
    assert "://" not in page


def test_every_schema_reference_of_the_openapi_page_exists(studio: StudioClient) -> None:
    text = studio.request("GET", "/openapi.json").text
    page = studio.request("GET", "/openapi.json").json()
    references = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert references
    assert references <= set(page["components"]["schemas"])
