"""The calls on jobs, checkpoints, and the application's workspace."""

from __future__ import annotations

import email
import email.policy
import json
from pathlib import Path

import httpx
import pytest

from jobfs import errors
from jobfs.api.keys import KeyKind
from jobfs.api.studio import JobSettings, Studio

JOBS = "/api/studio/v1/expert_jobs/"


def job(id_: str = "j1", status: str = "queued", **more: object) -> dict[str, object]:
    return {"type": "expertJob", "id": id_, "status": status, "expertKey": "@acme/a", **more}


def a_job(**more: object) -> httpx.Response:
    return httpx.Response(200, json={"data": {"expertJob": job(**more)}})


def jobs(*rows: object, total: int | None = None) -> httpx.Response:
    return httpx.Response(200, json={"data": {"expertJobs": rows}, "meta": {"total": total, "take": 100, "skip": 0}})


def fields(request: httpx.Request) -> list[tuple[str, str | None, bytes]]:
    head = b"Content-Type: " + request.headers["content-type"].encode() + b"\r\n\r\n"
    message = email.message_from_bytes(head + request.content, policy=email.policy.HTTP)
    return [
        (part.get_param("name", header="content-disposition"), part.get_filename(), part.get_payload(decode=True))
        for part in message.iter_parts()
    ]


def test_a_start_sends_everything_that_is_not_none(far, run, tmp_path: Path) -> None:
    source = tmp_path / "data.csv"
    source.write_bytes(b"a,b\n")
    far.script = [a_job(status="queued")]
    settings = JobSettings(temperature=0.0, max_steps=7, max_retries=0, model="any-model")
    started = run(Studio(far.transport()).start_job("@acme/a@1.0.0", "", ["notes.md", source], settings))
    assert (started.id, started.status) == ("j1", "queued")
    assert far.sent == [f"POST {JOBS}"]
    assert fields(far.requests[0]) == [
        ("expertKey", None, b"@acme/a@1.0.0"),
        ("query", None, b""),
        ("files", None, b"notes.md"),
        ("temperature", None, b"0"),
        ("maxSteps", None, b"7"),
        ("maxRetries", None, b"0"),
        ("model", None, b"any-model"),
        ("files", "data.csv", b"a,b\n"),
    ]


@pytest.mark.parametrize(("value", "text"), [(0.5, b"0.5"), (1.0, b"1"), (0.00001, b"0.00001"), (0, b"0")])
def test_numbers_are_plain_decimals(far, run, value: float, text: bytes) -> None:
    far.script = [a_job()]
    run(Studio(far.transport()).start_job("a", "q", settings=JobSettings(temperature=value)))
    assert fields(far.requests[0])[-1] == ("temperature", None, text)


@pytest.mark.parametrize(("flag", "text"), [(True, b"true"), (False, b"false")])
def test_a_continue_sends_false_as_well_as_true(far, run, flag: bool, text: bytes) -> None:
    far.script = [a_job()]
    run(Studio(far.transport()).continue_job("j1", "yes", interactive_tool_call_result=flag))
    assert far.sent == [f"POST {JOBS}j1/continue"]
    assert fields(far.requests[0]) == [("interactiveToolCallResult", None, text), ("query", None, b"yes")]


def test_a_job_without_query_and_files_is_refused_before_sending(far, run) -> None:
    studio = Studio(far.transport())
    for call in (lambda: studio.start_job("a"), lambda: studio.continue_job("j1", "")):
        with pytest.raises(errors.SettingsError):
            run(call())
    with pytest.raises(errors.SettingsError, match="20481"):
        run(studio.start_job("a", "q" * 20481))
    assert far.requests == []


def test_a_start_of_unknown_outcome_is_never_repeated(far, run) -> None:
    far.script = [httpx.ReadError("reset")]
    with pytest.raises(errors.OutcomeUnknown):
        run(Studio(far.transport()).start_job("a", "q"))
    assert len(far.requests) == 1


def test_a_list_is_narrowed_again_here(far, run) -> None:
    far.script = [jobs(job("j1"), job("j2", expertKey="@other/b"), total=2)]
    page = run(Studio(far.transport()).list_jobs(filter="ACME", sort="createdAt", order="desc", application_id="app"))
    assert ([row.id for row in page.rows], page.total) == (["j1"], 2)
    assert far.sent == [
        f"GET {JOBS}?take=100&skip=0&applicationId=app&filter=ACME&sort=createdAt&order=desc",
    ]


def test_every_job_comes_once_over_pages_that_move(far, run, expected_logs) -> None:
    expected_logs.expect("1 rows")
    far.script = [
        jobs(*[job(f"j{n}") for n in range(99)], {"id": 1}, total=102),
        jobs(job("j98"), job("j99"), total=102),
    ]

    async def main() -> list[str]:
        return [row.id async for row in Studio(far.transport()).iter_jobs()]

    assert run(main()) == [f"j{n}" for n in range(100)]
    assert "skip=100" in far.sent[1]


def test_a_status_update_uses_the_system_key(far, run) -> None:
    far.script = [a_job(status="processing")]
    assert run(Studio(far.transport()).update_status("j1", "processing")).status == "processing"
    assert far.sent == [f"POST {JOBS}j1"]
    assert far.requests[0].headers["authorization"] == f"Bearer {far.system_key}"
    assert far.requests[0].content == b'{"status":"processing"}'


def test_the_instance_to_run_hides_its_values(far, run, caplog) -> None:
    caplog.set_level("DEBUG")
    value = {"id": "w", "envVariables": {"A": "clear-variable"}, "envSecrets": {"B": "clear-secret"}}
    far.script = [httpx.Response(200, json={"data": {"workspaceInstanceToRun": value}})]
    to_run = run(Studio(far.transport()).workspace_instance_to_run("j1"))
    assert to_run.env_variables["A"].get_secret_value() == "clear-variable"
    assert "clear-" not in repr(to_run) + caplog.text
    assert far.sent == [f"GET {JOBS}j1/workspace_instance_to_run/"]


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, content=b'"clear-secret'),
        httpx.Response(200, json={"data": {"workspaceInstanceToRun": {"envSecrets": {"B": "clear-secret"}}}}),
        httpx.Response(400, json={"code": 400, "error": "x", "reason": "no", "echo": "clear-secret"}),
    ],
)
def test_no_failure_of_a_sensitive_call_keeps_its_body(far, run, response: httpx.Response) -> None:
    far.script = [response]
    with pytest.raises(errors.ApiError) as caught:
        run(Studio(far.transport()).workspace_instance_to_run("j1"))
    assert "clear" not in repr(caught.value) + caught.value.cause + caught.value.reason + repr(caught.value.body)
    assert caught.value.__cause__ is None


def test_checkpoints_are_ordered_by_step(far, run) -> None:
    rows = [{"id": f"c{n}", "status": "proceeding", "stepNumber": n} for n in (3, 1, 2)]
    far.script = [httpx.Response(200, json={"data": {"checkpoints": rows}, "meta": {"total": 3}})]
    page = run(Studio(far.transport()).list_checkpoints("j1"))
    assert [row.id for row in page.rows] == ["c1", "c2", "c3"]
    assert far.sent == [f"GET {JOBS}j1/checkpoints/?take=100&skip=0&sort=createdAt&order=asc"]


@pytest.mark.parametrize(("key", "used"), [(KeyKind.SYSTEM, "system_key"), (KeyKind.API, "key")])
def test_a_checkpoint_is_created_with_the_key_that_is_asked_for(far, run, key: KeyKind, used: str) -> None:
    body = {"data": {"checkpoint": {"id": "c", "status": "init", "stepNumber": 0, "action": {"type": "new", "x": 1}}}}
    far.script = [httpx.Response(200, json=body)]
    made = run(Studio(far.transport()).create_checkpoint("j1", {"status": "init"}, {"stepNumber": 0}, key=key))
    assert (made.id, made.action.type) == ("c", "new")
    assert far.requests[0].headers["authorization"] == f"Bearer {getattr(far, used)}"
    assert json.loads(far.requests[0].content) == {"checkpoint": {"status": "init"}, "step": {"stepNumber": 0}}


def events(far, run, content: object) -> tuple[list[str], int]:
    far.script = [httpx.Response(200, content=content)]

    async def main() -> tuple[list[str], int]:
        async with Studio(far.transport()).stream_checkpoints("j1") as stream:
            ids = [checkpoint.id async for checkpoint in stream]
            return ids, stream.skipped

    return run(main())


GOOD = 'data: {"id": "%s", "status": "proceeding", "stepNumber": 1}\n\n'


def test_a_stream_gives_checkpoints_and_counts_what_is_none(far, run) -> None:
    text = (
        f": hi\n\n{GOOD % 'a'}event: message\n{GOOD % 'b'}event: ping\ndata: x\n\ndata: {{\n\ndata: []\n\n{GOOD % 'c'}"
    )
    assert events(far, run, text.encode()) == (["a", "b", "c"], 2)
    assert far.requests[0].headers["accept"] == "text/event-stream"
    assert far.sent == [f"GET {JOBS}j1/checkpoints/stream"]


def test_a_stream_that_breaks_is_unreachable(far, run) -> None:
    async def breaking():
        yield (GOOD % "a").encode()
        raise httpx.ReadError("reset")

    with pytest.raises(errors.Unreachable):
        events(far, run, breaking())


def workspace_answer() -> httpx.Response:
    return httpx.Response(200, json={"data": {"workspace": {"id": "w", "envVariables": ["A"], "envSecrets": None}}})


def test_variables_and_secrets_are_written_and_only_names_come_back(far, run) -> None:
    far.rule = lambda _: workspace_answer()
    application = Studio(far.transport()).application
    assert run(application.create_variable("A", "")).env_variables == ("A",)
    run(application.create_secret("B", "hush-hush"))
    run(application.update_variable("A", value="2"))
    run(application.update_variable("A", new_name="C"))
    run(application.delete_variable("C"))
    run(application.delete_secret("B"))
    run(application.get())
    prefix = "/api/studio/v1/workspace/"
    assert [(line, request.content) for line, request in zip(far.sent, far.requests, strict=True)] == [
        (f"POST {prefix}variables/", b'{"name":"A","value":""}'),
        (f"POST {prefix}secrets/", b'{"name":"B","value":"hush-hush"}'),
        (f"POST {prefix}variables/A", b'{"value":"2"}'),
        (f"POST {prefix}variables/A", b'{"name":"C"}'),
        (f"DELETE {prefix}variables/C", b""),
        (f"DELETE {prefix}secrets/B", b""),
        (f"GET {prefix}", b""),
    ]
    with pytest.raises(ValueError, match="needs a name or a value"):
        run(application.update_variable("A"))


@pytest.mark.parametrize("secret", ["hush-hush", 'with "quotes" and \\', "ümläut-秘密"])
@pytest.mark.parametrize("is_ascii", [True, False])
def test_a_refusal_that_echoes_a_secret_is_shown_without_it(far, run, secret: str, is_ascii: bool) -> None:
    body = {"code": 422, "error": "Validation Failed", "reason": f"value {secret} is too short"}
    far.script = [httpx.Response(422, content=json.dumps(body, ensure_ascii=is_ascii).encode())]
    with pytest.raises(errors.Refused) as caught:
        run(Studio(far.transport()).application.create_secret("B", secret))
    assert caught.value.reason == "value *** is too short"
    assert caught.value.body == b""


def test_the_application_has_items_of_its_own(far, run) -> None:
    row = {"type": "workspaceItemDirectory", "id": "d", "path": "docs"}
    far.script = [httpx.Response(200, json={"data": {"workspaceItems": [row]}, "meta": {"total": 1}})]
    page = run(Studio(far.transport()).application.items.list_page(skip=0))
    assert page.items[0].lifecycle.value == "application"
    assert far.sent == ["GET /api/studio/v1/workspace/items/?take=100&skip=0"]
