"""The server against requests made from its own OpenAPI page, fitting and not fitting, by Schemathesis.

Whatever is sent: no failure of the server, only answers that the page names, each refusal in its envelope and without
any change of state, no route without a key, and nothing on disk but the data folder.
"""

from __future__ import annotations

import gc
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from studio_client import BASE, StudioClient

from jobfs.server.running import RunningServer

EXAMPLES = int(os.environ.get("JOBFS_FUZZ", "3"))
"""Requests for each operation and each way to make them; more by scripts/fuzz."""

# The fuzzer's client drops connections half-way where a request is refused before it is read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)

UPLOAD_LIMIT = 64 * 1024
NOBODYS_ID = "zzzzzzzzzzzzzzzzzzzzzzzz"


class Room:
    """A server with something of every kind in it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.server = RunningServer(base / "data", upload_limit=UPLOAD_LIMIT)
        self.ids: dict[str, list[str]] = {}
        self.schema: Any = None
        self.session = requests.Session()
        self.session.trust_env = False

    def fill(self) -> None:
        """Make a job, items, a checkpoint, a variable and a file, and read the page."""
        client = StudioClient(self.server, None)
        self.schema = schemathesis.openapi.from_dict(client.http.get("/openapi.json").json())
        client.http.post(f"{BASE}/workspace/variables/", json={"name": "NAME", "value": "1"})
        client.http.post(f"{BASE}/workspace/secrets/", json={"name": "SECRET", "value": "1"})
        self.renew(client)
        client.close()

    def renew(self, application: StudioClient) -> None:
        """Make what requests may aim at anew, since they may delete it."""
        job = self.server.create_job(status="completed")
        client = application.of(job)
        items = [client.put("dir", None)["id"], client.put("dir/a.txt")["id"], client.put("b.txt", b"b")["id"]]
        client.close()
        pooled = application.http.post("/api/v1/files", files={"file": ("a.txt", b"a", "text/plain")}).json()["id"]
        self.ids = {
            "expertJobId": [job],
            "workspaceItemId": items,
            "envVariableName": ["NAME"],
            "envSecretName": ["SECRET"],
            "fileId": [pooled],
            "id": [job],
        }

    def state(self) -> str:
        """Return everything that the server keeps, as text that can be compared."""
        storage = self.server.state.storage
        names = sorted(file.name for file in (self.base / "data" / "content").rglob("*") if file.is_file())

        def rows() -> list[Any]:
            tables = [row["name"] for row in storage.all("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return [(table, [tuple(row) for row in storage.all(f"SELECT * FROM {table}")]) for table in sorted(tables)]

        return repr((names, self.server.call(rows)))


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    made = Room(tmp_path_factory.mktemp("fuzzed"))
    with made.server, made.session:
        made.fill()
        yield made
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of connections that the fuzzer's client dropped half-way
        gc.collect()


ENDLESS = "/checkpoints/stream"
DOCUMENTED = {
    "perstack": {400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 422: "Validation Failed"},
    "runs": {400, 401, 403, 404, 413},
}
patient = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize="JOBFS_FUZZ" not in os.environ,
    database=None,
)


def _operations(room: Room) -> list[Any]:
    found = [result.ok() for result in room.schema.get_all_operations()]
    assert len(found) > 40
    return [operation for operation in found if not operation.path.endswith(ENDLESS)]


def _label(case: Any) -> str:
    return f"{case.method} {case.path} {case.path_parameters} {case.query} {case.body!r:.500}"


def _aim(room: Room, case: Any, data: st.DataObject) -> None:
    """Have most requests mean something that is there: what is behind a 404 would otherwise never be reached."""
    for name in case.path_parameters or {}:
        if name in room.ids and data.draw(st.integers(0, 9)) < 9:
            case.path_parameters[name] = data.draw(st.sampled_from(room.ids[name]))


def _check_answer(case: Any, answer: Any, label: str) -> None:
    assert answer.status_code < 500, label
    assert str(answer.status_code) in case.operation.definition.raw["responses"], (label, answer.status_code)
    if answer.status_code < 400:
        return
    body = answer.json()
    if case.path.startswith(BASE):
        assert set(body) == {"code", "error", "reason"}, label
        assert (body["code"], body["error"]) == (answer.status_code, DOCUMENTED["perstack"][answer.status_code]), label
    else:
        assert body["issues"], label
        assert body["requestId"] == answer.headers["x-request-id"][0], label


def _sender(room: Room, operation: Any, mode: schemathesis.GenerationMode) -> Callable[[], None]:
    is_system = "system key" in operation.definition.raw.get("description", "")
    headers = {"Authorization": f"Bearer {room.server.system_key if is_system else room.server.api_key}"}

    @patient
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def send(case: Any, data: st.DataObject) -> None:
        _aim(room, case, data)
        before = room.state()
        answer = case.call(base_url=room.server.url, session=room.session, headers=headers, timeout=20)
        _check_answer(case, answer, _label(case))
        if answer.status_code >= 400:
            assert room.state() == before, _label(case)

    return send


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_whatever_is_sent_is_answered_as_the_page_says_and_a_refusal_changes_nothing(room: Room, mode: str) -> None:
    application = StudioClient(room.server, None)
    for operation in _operations(room):
        room.renew(application)
        try:
            _sender(room, operation, schemathesis.GenerationMode(mode))()
        except hypothesis.errors.Unsatisfiable:
            assert mode == "negative", operation.label  # what takes nothing can hardly be asked wrongly
    application.close()
    assert os.listdir(room.base) == ["data"]


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", "Basic Og==", "the other kind"])
def test_no_operation_answers_without_its_kind_of_key(room: Room, authorization: str | None) -> None:
    before = room.state()
    with httpx.Client(base_url=room.server.url, trust_env=False, timeout=20) as client:
        for result in room.schema.get_all_operations():
            operation = result.ok()
            is_system = "system key" in operation.definition.raw.get("description", "")
            headers = {} if authorization is None else {"Authorization": authorization}
            if authorization == "the other kind":
                headers = {"Authorization": f"Bearer {room.server.api_key if is_system else room.server.system_key}"}
            path = operation.path
            for name in re.findall(r"{([^}]*)}", path):
                path = path.replace(f"{{{name}}}", room.ids.get(name, [NOBODYS_ID])[0])
            answer = client.request(operation.method.upper(), path, headers=headers)
            assert answer.status_code == 401, (operation.label, answer.status_code)
    assert room.state() == before


TRAVERSALS = [
    *("../escaped", "dir/../../escaped", "..", "/../escaped", "dir/..", "a/./b", "a//b", "x\0y", "x\ny"),
    *("%2e%2e/escaped", "..\\escaped", "C:\\escaped", "/etc/escaped", "~/escaped", "dir/a.txt/below", "\ud800", "."),
]


@pytest.mark.parametrize("path", TRAVERSALS, ids=ascii)
def test_no_path_of_an_item_leads_out_of_the_data_folder(room: Room, path: str) -> None:
    client = StudioClient(room.server, room.server.create_job(status="completed"))
    kind = {"content-type": "application/json"}
    try:
        item = client.put("a.txt")["id"]
        sent = json.dumps({"type": "workspaceItemFile", "path": path, "permission": "readWrite", "content": "eA=="})
        created = client.http.post(f"{client.items}/", content=sent, headers=kind)
        moved = client.http.post(f"{client.items}/{item}", content=json.dumps({"path": path}), headers=kind)
        assert {created.status_code, moved.status_code} <= {200, 400, 422}
    finally:
        client.close()
    assert os.listdir(room.base) == ["data"]
    names = [file.name for file in (room.base / "data").rglob("*") if file.parent.name == "content"]
    assert [name for name in names if not re.fullmatch(r"[a-z0-9.]+", name)] == []


@pytest.mark.parametrize("target", ["item", "application item", "job", "pool"])
def test_what_is_above_the_upload_limit_is_refused_and_leaves_nothing(room: Room, target: str) -> None:
    client = StudioClient(room.server, room.ids["expertJobId"][0])
    large = b"x" * (UPLOAD_LIMIT + 1)
    before = room.state()
    try:
        if target == "item":
            answer = client.create_file("large.bin", large)
        elif target == "application item":
            answer = client.of(None).create_file("large.bin", large)
        elif target == "job":
            answer = client.form(f"{BASE}/expert_jobs/", expertKey="@x/y", query="q", files=("large.bin", large, "a/b"))
        else:
            answer = client.http.post("/api/v1/files", files={"file": ("large.bin", large, "a/b")})
    finally:
        client.close()
    assert answer.status_code == 413
    assert room.state() == before
