"""Jobs, checkpoints and environment over HTTP: contract sections 5.3 to 5.5."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from studio_client import BASE, StudioClient, refusal

from jobfs.server.bodies import StartJob
from jobfs.server.running import RunningServer
from jobfs.server.state import ServerState

JOBS = f"{BASE}/expert_jobs/"
WORD_COUNT = "@jobfs/word-count"
USAGE = dict.fromkeys(("inputTokens", "outputTokens", "reasoningTokens", "totalTokens", "cachedInputTokens"), 2)
JOB_FIELDS = {
    "type",
    "id",
    "organizationId",
    "createdAt",
    "updatedAt",
    "status",
    "runtimeVersion",
    "expertKey",
    "files",
    "expert",
    "model",
    "temperature",
    "maxSteps",
    "maxRetries",
    "currentStep",
    "totalSteps",
    "totalDuration",
    "usage",
    "applicationId",
}
STATUSES = [
    "queued",
    "processing",
    "completed",
    "requestInteractiveToolResult",
    "requestDelegateResult",
    "exceededMaxSteps",
    "failed",
    "canceling",
    "canceled",
    "expired",
]


def start(studio: StudioClient, **fields: Any) -> dict[str, Any]:
    answer = studio.form(JOBS, **{"expertKey": WORD_COUNT, "query": "Go", **fields})
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()["data"]["expertJob"]
    return job


def show(studio: StudioClient) -> dict[str, Any]:
    job: dict[str, Any] = studio.request("GET", f"{JOBS}{studio.job}").json()["data"]["expertJob"]
    return job


# ---------------------------------------------------------------------- starting


def test_a_started_job_is_queued_and_has_all_its_fields(studio: StudioClient) -> None:
    job = start(
        studio, expertKey="@jobfs/word-count@1.2.0", temperature="0", maxSteps="7", maxRetries="0", model="mine"
    )
    assert set(job) == JOB_FIELDS | {"query"}
    told = (
        "status",
        "expertKey",
        "query",
        "temperature",
        "maxSteps",
        "maxRetries",
        "model",
        "currentStep",
        "totalSteps",
    )
    assert {name: job[name] for name in told} == {
        "status": "queued",
        "expertKey": "@jobfs/word-count@1.2.0",
        "query": "Go",
        "temperature": 0,
        "maxSteps": 7,
        "maxRetries": 0,
        "model": "mine",
        "currentStep": 0,
        "totalSteps": 0,
    }
    assert (job["expert"]["type"], job["expert"]["version"], job["expert"]["status"]) == (
        "registryExpert",
        "1.2.0",
        "available",
    )
    assert studio.request("GET", JOBS + job["id"]).json()["data"]["expertJob"] == job
    assert studio.request("GET", f"{JOBS}{job['id']}/workspace_instance/").status_code == 200


def test_a_job_can_be_started_from_json_with_numbers_or_text(studio: StudioClient) -> None:
    body = {
        "expertKey": WORD_COUNT,
        "files": "one.txt",
        "temperature": 0.5,
        "maxSteps": "3",
        "workspaceInstanceId": "x",
    }
    job = studio.request("POST", JOBS, json=body).json()["data"]["expertJob"]
    assert (job["temperature"], job["maxSteps"], job["files"]) == (0.5, 3, ["one.txt"])
    assert "query" not in job


def test_files_are_names_as_text_and_content_as_parts(studio: StudioClient) -> None:
    parts = [
        ("expertKey", (None, WORD_COUNT)),
        ("files", (None, "named.txt")),
        ("files", ("dir/sent.txt", b"content", "text/plain")),
        ("files", (None, "also.txt")),
    ]
    job = studio.http.post(JOBS, files=parts).json()["data"]["expertJob"]
    assert job["files"] == ["named.txt", "also.txt", "sent.txt"]
    assert studio.server.contents(job["id"]) == {"sent.txt": b"content"}


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        ({"query": "q"}, 422, "expertKey"),
        ({"expertKey": "UPPER", "query": "q"}, 422, "expertKey"),
        ({"expertKey": "a@1.2.3.4 ", "query": "q"}, 422, "expertKey"),
        ({"expertKey": WORD_COUNT, "query": ""}, 422, "query"),
        ({"expertKey": WORD_COUNT, "query": "q", "temperature": "1.1"}, 422, "temperature"),
        ({"expertKey": WORD_COUNT, "query": "q", "temperature": "nan"}, 422, "temperature"),
        ({"expertKey": WORD_COUNT, "query": "q", "temperature": "1e0"}, 422, "temperature"),
        ({"expertKey": WORD_COUNT, "query": "q", "maxSteps": "0"}, 422, "maxSteps"),
        ({"expertKey": WORD_COUNT, "query": "q", "maxSteps": "9" * 400}, 422, "maxSteps"),
        ({"expertKey": WORD_COUNT, "query": "q", "maxRetries": "-1"}, 422, "maxRetries"),
        ({"expertKey": WORD_COUNT, "query": "x" * 20481}, 422, "query"),
        ({"expertKey": "@jobfs/nobody", "query": "q"}, 404, "Expert not found"),
        ({"expertKey": "@jobfs/nobody"}, 404, "Expert not found"),
        ({"expertKey": WORD_COUNT}, 400, "Query or files are required"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(
    studio: StudioClient, fields: dict[str, str], status: int, reason: str
) -> None:
    before = studio.request("GET", JOBS).json()["meta"]["total"]
    code, _, said = refusal(studio.form(JOBS, **fields))
    assert code == status
    assert (said if status != 422 else said[0]["path"]) == reason
    assert studio.request("GET", JOBS).json()["meta"]["total"] == before


def test_jobs_are_listed_by_age_the_newest_first(studio: StudioClient) -> None:
    ids = [start(studio)["id"] for _ in range(3)]
    listed = studio.request("GET", JOBS, params={"take": 3}).json()
    assert [job["id"] for job in listed["data"]["expertJobs"]] == ids[::-1]
    assert listed["meta"]["take"] == 3
    oldest = studio.request("GET", JOBS, params={"order": "asc", "take": 100}).json()["data"]["expertJobs"]
    assert [job["id"] for job in oldest][-3:] == ids
    studio.server.set_status(ids[0], "processing")
    newest = studio.request("GET", JOBS, params={"sort": "updatedAt", "take": 1}).json()["data"]["expertJobs"]
    assert newest[0]["id"] == ids[0]


def test_the_filter_is_a_prefix_of_the_key_in_any_case(studio: StudioClient) -> None:
    csv = start(studio, expertKey="@jobfs/csv-profile")["id"]
    found = studio.request("GET", JOBS, params={"filter": "@JOBFS/CSV"}).json()
    assert [job["id"] for job in found["data"]["expertJobs"]] == [csv]
    assert found["meta"]["total"] == 1
    assert studio.request("GET", JOBS, params={"filter": "csv"}).json()["meta"]["total"] == 0


@pytest.mark.parametrize("query", ["sort=status", "order=up", "filter=", "filter=" + "x" * 257, "applicationId=short"])
def test_a_list_query_that_does_not_fit_is_refused(studio: StudioClient, query: str) -> None:
    assert refusal(studio.request("GET", f"{JOBS}?{query}"))[0] == 422


def test_another_application_is_unauthorized(studio: StudioClient) -> None:
    assert refusal(studio.request("GET", JOBS, params={"applicationId": "z" * 24}))[0] == 401
    assert studio.request("GET", JOBS, params={"applicationId": show(studio)["applicationId"]}).status_code == 200


# ---------------------------------------------------------------------- statuses


@pytest.mark.parametrize("status", STATUSES)
def test_the_runtime_may_set_every_status(studio: StudioClient, status: str) -> None:
    answer = studio.system("POST", f"{JOBS}{studio.job}", json={"status": status})
    assert answer.json()["data"]["expertJob"]["status"] == status
    assert show(studio)["status"] == status


@pytest.mark.parametrize("body", [{}, {"status": "sleeping"}, {"status": None}])
def test_an_unknown_status_is_refused(studio: StudioClient, body: dict[str, Any]) -> None:
    assert refusal(studio.system("POST", f"{JOBS}{studio.job}", json=body))[0] == 422


def test_only_processing_counts_as_duration(tmp_path: Path) -> None:
    now = [1_700_000_000_000]
    state = ServerState(tmp_path, clock=lambda: now[0])
    state.first_start()
    with state.transaction():
        job = state.jobs.create(state.first_application(), StartJob(expertKey="a", query="q"), ())
    for status, wait_ms in (("processing", 40), ("exceededMaxSteps", 1000), ("queued", 9), ("processing", 2)):
        state.set_status(job.id, status)
        now[0] += wait_ms
    assert state.set_status(job.id, "completed").duration_ms == 42
    state.close()


# ---------------------------------------------------------------------- continuing


@pytest.mark.parametrize("status", STATUSES)
def test_only_three_statuses_can_be_continued(studio: StudioClient, status: str) -> None:
    studio.server.set_status(studio.job or "", status)
    path = f"{JOBS}{studio.job}/continue"
    answer = studio.form(path, query="more", maxSteps="9")
    if status in ("exceededMaxSteps", "completed"):
        job = answer.json()["data"]["expertJob"]
        assert (job["status"], job["query"], job["maxSteps"]) == ("queued", "more", 9)
        return
    assert refusal(answer) == (400, "Bad Request", "Current status is unable to continue")
    flagged = studio.form(path, query="more", interactiveToolCallResult="true")
    if status == "requestInteractiveToolResult":
        assert flagged.json()["data"]["expertJob"]["interactiveToolCallResult"] is True
        assert show(studio)["status"] == "queued"
    else:
        assert refusal(flagged)[2] == "Current status is unable to continue"
        assert show(studio)["status"] == status


def test_a_continuation_needs_a_query_or_files(studio: StudioClient) -> None:
    studio.server.set_status(studio.job or "", "completed")
    path = f"{JOBS}{studio.job}/continue"
    for answer in (studio.request("POST", path, json={}), studio.request("POST", path)):
        assert refusal(answer) == (400, "Bad Request", "Query or files are required")
    answer = studio.http.post(path, files=[("files", ("in.txt", b"data", "text/plain"))])
    assert answer.json()["data"]["expertJob"]["files"] == ["in.txt"]
    assert studio.server.contents(studio.job) == {"in.txt": b"data"}


def test_false_is_a_value(studio: StudioClient) -> None:
    studio.server.set_status(studio.job or "", "completed")
    job = studio.form(f"{JOBS}{studio.job}/continue", query="q", interactiveToolCallResult="false", temperature="0")
    assert job.json()["data"]["expertJob"]["interactiveToolCallResult"] is False


# ---------------------------------------------------------------------- checkpoints


def checkpoint(number: int = 1, *, status: str = "proceeding", **step: Any) -> dict[str, Any]:
    expert = {"key": WORD_COUNT, "name": WORD_COUNT, "version": "1.0.0"}
    return {
        "checkpoint": {
            "id": "theirs",
            "runId": "run-1",
            "status": status,
            "stepNumber": number,
            "messages": [{"type": "userMessage", "contents": [{"type": "textPart", "text": "hi"}], "extra": 1}],
            "expert": expert,
            "usage": USAGE,
        },
        "step": {"stepNumber": number, "newMessages": [], "usage": USAGE, "startedAt": 1700000000123, **step},
    }


def record(studio: StudioClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = studio.system("POST", f"{JOBS}{studio.job}/checkpoints/", json=body)
    assert answer.status_code == 200, answer.text
    shape: dict[str, Any] = answer.json()["data"]["checkpoint"]
    return shape


def tool(name: str, **arguments: str) -> dict[str, Any]:
    return {"id": "1", "skillName": "files", "toolName": name, "args": arguments}


def test_a_checkpoint_has_all_its_fields_and_counts_as_a_step(studio: StudioClient) -> None:
    shape = record(studio, checkpoint(finishedAt=1700000001123))
    assert set(shape) == {
        "type",
        "id",
        "action",
        "runId",
        "expertJobId",
        "stepNumber",
        "status",
        "expert",
        "messages",
        "newMessages",
        "usage",
        "contextWindow",
        "contextWindowUsage",
        "startedAt",
        "finishedAt",
    }
    assert (shape["type"], shape["runId"], shape["expertJobId"]) == ("checkpoint", "run-1", studio.job)
    assert (shape["startedAt"], shape["finishedAt"]) == ("2023-11-14T22:13:20.123Z", "2023-11-14T22:13:21.123Z")
    assert shape["messages"][0]["extra"] == 1
    assert shape["expert"]["type"] == "expertDigest"
    record(studio, checkpoint(2))
    job = show(studio)
    assert (job["currentStep"], job["totalSteps"], job["usage"]["totalTokens"]) == (2, 2, 4)
    one = studio.request("GET", f"{JOBS}{studio.job}/checkpoints/{shape['id']}")
    assert one.json() == {"data": {"checkpoint": shape}}


@pytest.mark.parametrize(
    ("call", "status", "action"),
    [
        (tool("writeTextFile", path="a", text="x"), "proceeding", {"type": "writeTextFile", "path": "a", "text": "x"}),
        (tool("moveFile", source="a", destination="b"), "proceeding",
         {"type": "moveFile", "source": "a", "destination": "b"}),
        (tool("exec", command="ls"), "proceeding",
         {"type": "generalTool", "skillName": "files", "toolName": "exec", "args": {"command": "ls"}, "result": []}),
        (None, "completed", {"type": "attemptCompletion"}),
        (None, "stoppedByError", {"type": "error"}),
        (None, "proceeding", {"type": "think"}),
    ],
)  # fmt: skip
def test_the_action_says_what_the_step_did(
    studio: StudioClient, call: dict[str, Any] | None, status: str, action: dict[str, Any]
) -> None:
    step = {"toolCall": call} if call else {}
    assert record(studio, checkpoint(status=status, **step))["action"] == action


def test_a_checkpoint_of_an_unknown_expert_or_without_its_parts_is_refused(studio: StudioClient) -> None:
    path = f"{JOBS}{studio.job}/checkpoints/"
    body = checkpoint()
    body["checkpoint"]["expert"]["key"] = "@jobfs/nobody"
    assert refusal(studio.system("POST", path, json=body)) == (400, "Bad Request", "Expert not found")
    assert refusal(studio.system("POST", path, json={}))[0] == 422
    assert studio.request("GET", path).json()["meta"]["total"] == 0


def test_checkpoints_are_paged_by_ten(studio: StudioClient) -> None:
    ids = [record(studio, checkpoint(number))["id"] for number in range(12)]
    path = f"{JOBS}{studio.job}/checkpoints"
    page = studio.request("GET", path).json()
    assert page["meta"] == {"total": 12, "take": 10, "skip": 0}
    assert [one["id"] for one in page["data"]["checkpoints"]] == ids[:10]
    rest = studio.request("GET", path, params={"order": "desc", "take": 3, "skip": 1}).json()
    assert [one["id"] for one in rest["data"]["checkpoints"]] == ids[10:7:-1]
    assert studio.request("GET", path, params={"filter": "CSV"}).json()["meta"]["total"] == 0
    assert refusal(studio.request("GET", f"{path}/{'c' * 24}")) == (404, "Not Found", "Checkpoint not found")


def test_a_stream_sends_what_is_there_then_what_comes_and_ends_with_the_job(studio: StudioClient) -> None:
    studio.server.set_status(studio.job or "", "processing")
    first = record(studio, checkpoint(1))
    seen: list[str] = []
    has_first, has_second = threading.Event(), threading.Event()

    def read() -> None:
        headers = {"Authorization": f"Bearer {studio.server.api_key}"}
        url = f"{studio.server.url}{JOBS}{studio.job}/checkpoints/stream"
        with httpx.Client(trust_env=False) as client, client.stream("GET", url, headers=headers, timeout=20) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    seen.append(line)
                    (has_second if len(seen) > 1 else has_first).set()

    reader = threading.Thread(target=read)
    reader.start()
    assert has_first.wait(20)
    assert first["id"] in seen[0]
    second = record(studio, checkpoint(2))
    assert has_second.wait(20)
    assert second["id"] in seen[1]
    studio.server.set_status(studio.job or "", "completed")
    reader.join(20)
    assert not reader.is_alive()
    assert len(seen) == 2


def test_an_open_stream_does_not_keep_the_server_from_stopping() -> None:
    with RunningServer() as server:
        studio = StudioClient(server, server.create_job(status="processing"))
        record(studio, checkpoint())
        url = f"{JOBS}{studio.job}/checkpoints/stream"
        with studio.http.stream("GET", url) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "event: message"
            stopper = threading.Thread(target=server.stop)
            stopper.start()
            assert [line for line in lines if line.startswith("event")] == []
            stopper.join(20)
            assert not stopper.is_alive()
        studio.close()


# ---------------------------------------------------------------------- environment


def test_values_go_in_and_only_the_runtime_gets_them_out(studio: StudioClient, application: StudioClient) -> None:
    made = application.request("POST", f"{BASE}/workspace/variables/", json={"name": "PLACE", "value": "here"})
    assert set(made.json()["data"]) == {"workspace"}
    application.request("POST", f"{BASE}/workspace/secrets/", json={"name": "TOKEN", "value": "s3cret"})
    instance = studio.request("GET", f"{JOBS}{studio.job}/workspace_instance/").json()["data"]["workspaceInstance"]
    assert (instance["envVariables"], instance["envSecrets"]) == (["PLACE"], ["TOKEN"])
    answer = studio.system("GET", f"{JOBS}{studio.job}/workspace_instance_to_run/")
    told = answer.json()["data"]["workspaceInstanceToRun"]
    assert (told["type"], told["envVariables"], told["envSecrets"]) == (
        "workspaceInstanceToRun",
        {"PLACE": "here"},
        {"TOKEN": "s3cret"},
    )
    assert answer.headers["cache-control"] == "no-store"


def test_a_name_is_taken_across_both_kinds(application: StudioClient) -> None:
    for kind, other in (("variables", "secrets"), ("secrets", "variables")):
        body = {"name": f"IN-{kind}", "value": ""}
        assert application.request("POST", f"{BASE}/workspace/{kind}", json=body).status_code == 200
        for again in (kind, other):
            answer = application.request("POST", f"{BASE}/workspace/{again}", json=body)
            assert refusal(answer) == (400, "Bad Request", "Env name already exists in workspace")


def test_a_variable_is_changed_renamed_and_deleted(studio: StudioClient, application: StudioClient) -> None:
    base = f"{BASE}/workspace/variables/"
    for name in ("A", "B"):
        application.request("POST", base, json={"name": name, "value": "1"})
    assert application.request("POST", f"{base}A", json={"value": "2"}).status_code == 200
    assert application.request("POST", f"{base}A", json={"name": "A", "value": "3"}).status_code == 200
    assert refusal(application.request("POST", f"{base}A", json={"name": "B"}))[0] == 400
    renamed = application.request("POST", f"{base}A", json={"name": "C"}).json()["data"]["workspace"]
    assert renamed["envVariables"] == ["B", "C"]
    told = studio.system("GET", f"{JOBS}{studio.job}/workspace_instance_to_run/").json()
    assert told["data"]["workspaceInstanceToRun"]["envVariables"] == {"B": "1", "C": "3"}
    assert application.request("DELETE", f"{base}C").json()["data"]["workspace"]["envVariables"] == ["B"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "variables/NONE", {"value": "1"}, 404),
        ("POST", "variables/NONE", {}, 404),
        ("POST", "variables/HERE", {}, 422),
        ("POST", "variables/HERE", {"name": "no good"}, 422),
        ("POST", "variables/_x", {"value": "1"}, 422),
        ("POST", "variables/", {"name": "-x", "value": ""}, 422),
        ("POST", "variables/", {"name": "x" * 257, "value": ""}, 422),
        ("POST", "variables/", {"name": "X"}, 422),
        ("POST", "secrets/", {"name": "X", "value": None}, 422),
        ("DELETE", "variables/NONE", None, 404),
        ("DELETE", "secrets/HERE", None, 404),
    ],
)
def test_an_environment_request_that_does_not_fit_is_refused(
    application: StudioClient, method: str, path: str, body: dict[str, Any] | None, status: int
) -> None:
    application.request("POST", f"{BASE}/workspace/variables/", json={"name": "HERE", "value": "1"})
    assert refusal(application.request(method, f"{BASE}/workspace/{path}", json=body))[0] == status
