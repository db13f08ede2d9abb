"""What is on disk: durable after a kill, swept afterwards, one server a folder, no key and no surprise in it."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from studio_client import BASE, StudioClient, refusal

from jobfs.errors import SettingsError, StateCorrupt, StateLocked
from jobfs.server.content import ContentFolder
from jobfs.server.ids import is_well_formed, named_id, random_id, seeded_ids
from jobfs.server.keys import KeyKind, KeyRing
from jobfs.server.listening import listen
from jobfs.server.running import RunningServer
from jobfs.server.serve import run_server
from jobfs.server.state import ServerState
from jobfs.server.storage import IS_NAMED
from jobfs.server.times import iso

CHILD = """
import json, sys
from pathlib import Path
from jobfs.server.listening import listen
from jobfs.server.running import RunningServer
with RunningServer(Path(sys.argv[1])) as server:
    print(json.dumps([server.url, server.api_key, server.create_job()]), flush=True)
    sys.stdin.read()
"""


def child(folder: Path) -> tuple[subprocess.Popen[str], str, str, str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    url, key, job = json.loads(process.stdout.readline())
    return process, url, key, job


def stop(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.communicate(timeout=30)


def contents(folder: Path) -> list[Path]:
    return sorted(folder.glob("content/*/*"))


# ---------------------------------------------------------------------- killed


@pytest.mark.parametrize("rounds", [5])
def test_what_was_acknowledged_survives_a_kill_during_uploads(tmp_path: Path, rounds: int) -> None:
    key = ""
    acknowledged: dict[str, bytes] = {}
    jobs: list[str] = []
    for number in range(rounds):
        process, url, new_key, job = child(tmp_path)
        key = new_key or key
        jobs.append(job)
        headers = {"Authorization": f"Bearer {key}"}
        half_open = _half_upload(url, key, job)
        with httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
            items = f"{BASE}/expert_jobs/{job}/workspace_instance/items/"
            for count in range(20):
                content = os.urandom(1000 + count)
                fields = {"type": "workspaceItemFile", "path": f"f{count}", "permission": "readWrite"}
                answer = client.post(items, data=fields, files={"file": ("f", content)})
                if answer.status_code == 200:
                    acknowledged[f"{number}/f{count}"] = content
        assert len(contents(tmp_path)) > len(acknowledged)
        stop(process)
        half_open.close()
    with RunningServer(tmp_path) as server:
        found = {
            f"{number}/{path}": content
            for number, job in enumerate(jobs)
            for path, content in server.contents(job).items()
        }
        assert found == acknowledged
        assert len(contents(tmp_path)) == len(acknowledged)


def _half_upload(url: str, key: str, job: str) -> socket.socket:
    """Send the first half of an upload; returns when the server has begun to store it."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    parts = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in {"type": "workspaceItemFile", "path": "half", "permission": "readWrite"}.items()
    )
    start = f'{parts}--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + "x" * 100_000
    path = f"{BASE}/expert_jobs/{job}/workspace_instance/items/"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: 10000000\r\n"
    connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n{start}".encode())
    return connection


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        job = server.create_job()
        _half_upload(server.url, server.api_key, job).close()
        studio = StudioClient(server, job)
        # The connection's end reaches the server before a request on a later connection is answered.
        assert studio.paths() == []
        studio.close()
    assert contents(tmp_path) == []


def test_a_content_of_a_refused_request_is_not_kept(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        studio = StudioClient(server, server.create_job())
        assert refusal(studio.create_file("no/such/parent"))[0] == 400
        assert contents(tmp_path) == []
        studio.close()


def test_a_clean_end_is_not_swept_and_an_unclean_one_is(tmp_path: Path) -> None:
    orphan = tmp_path / "content" / "o" / "orphan"
    with RunningServer(tmp_path) as server:
        server.put_item(server.create_job(), "a", b"1")
        orphan.parent.mkdir(exist_ok=True)
        orphan.write_bytes(b"half")
    with RunningServer(tmp_path):
        assert orphan.exists()
    with sqlite3.connect(tmp_path / "server.sqlite3") as db:
        db.execute("UPDATE meta SET value = '0' WHERE name = 'is_clean'")
    db.close()
    with RunningServer(tmp_path):
        assert not orphan.exists()
        assert len(contents(tmp_path)) == 1


def test_items_that_share_a_content_keep_it_until_the_last_is_gone(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        job = server.create_job()
        studio = StudioClient(server, job)
        item = studio.put("a", b"1")
        server.set_status(job, "completed")
        assert studio.delete(item["id"]).status_code == 200
        assert len(contents(tmp_path)) == 1
        server.set_status(job, "queued")
        assert contents(tmp_path) == []
        studio.close()


# ---------------------------------------------------------------------- the folder


def test_two_servers_never_share_a_folder(tmp_path: Path) -> None:
    with RunningServer(tmp_path), pytest.raises(StateLocked, match="another server"), RunningServer(tmp_path):
        pass


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "server.sqlite3").write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(StateCorrupt, match="damaged"), RunningServer(tmp_path):
        pass


def test_a_folder_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with RunningServer(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "server.sqlite3") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StateCorrupt, match="version 99"), RunningServer(tmp_path):
        pass


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_only_the_owner_may_look_into_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with RunningServer(folder):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        key, job = server.api_key, server.create_job(status="completed")
        studio = StudioClient(server, job)
        item = studio.put("a", b"1")
        studio.request("POST", f"{BASE}/workspace/variables/", json={"name": "A", "value": "b"})
        studio.close()
    with RunningServer(tmp_path) as server:
        assert (server.api_key, server.system_key) == ("", "")
        server.api_key = key
        studio = StudioClient(server, job)
        assert studio.get(item["id"]).json()["data"]["workspaceItem"] == item
        workspace = studio.request("GET", f"{BASE}/workspace").json()["data"]["workspace"]
        assert workspace["envVariables"] == ["A"]
        studio.close()


# ---------------------------------------------------------------------- keys


def test_no_key_is_on_disk_or_in_a_log_and_no_value_in_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with RunningServer(tmp_path) as server:
        studio = StudioClient(server, server.create_job())
        studio.put("a")
        studio.request("POST", f"{BASE}/workspace/secrets/", json={"name": "TOKEN", "value": "very-secret-value"})
        studio.system("GET", f"{BASE}/expert_jobs/{studio.job}/workspace_instance_to_run/")
        studio.request("GET", f"{BASE}/expert_jobs/", headers={"Authorization": "Bearer wrong-key-of-a-user"})
        assert any(record.name == "jobfs.server.access" for record in caplog.records)
        studio.close()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for key in (server.api_key, server.system_key, "wrong-key-of-a-user"):
        assert key.encode() not in written
        assert key not in caplog.text
    assert "very-secret-value" not in caplog.text
    assert server.api_key.startswith("jobfs_k_")
    assert server.system_key.startswith("jobfs_s_")


def test_a_signed_link_is_not_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with RunningServer(tmp_path) as server:
        studio = StudioClient(server, None)
        assert studio.request("GET", "/storage/a-signed-token").status_code == 403
        studio.close()
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("jobfs.")]
    assert [line.rsplit(" ", 2)[0] for line in logged] == ["GET /storage/… 403"]


def test_a_lent_key_works_in_its_process_only(tmp_path: Path) -> None:
    state = ServerState(tmp_path)
    state.first_start()
    key = state.keys.lend(KeyKind.SYSTEM)
    caller = state.keys.caller(f"Bearer {key}")
    assert caller is not None
    assert caller.kind is KeyKind.SYSTEM
    assert KeyRing(state.storage, state.clock).caller(f"Bearer {key}") is None
    state.close()


# ---------------------------------------------------------------------- the process


def test_a_server_process_tells_its_keys_once_and_ends_at_a_signal(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from jobfs.server.serve import run_server;"
        "run_server(data_dir=Path(sys.argv[1]), port=0, runner=False)"
    )

    def serve() -> tuple[int, list[str]]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        url = first.split()[1]
        assert httpx.get(f"{url}{BASE}/expert_jobs/", trust_env=False).status_code == 401
        process.send_signal(signal.SIGTERM)
        lines = [first, *process.stdout.readlines()]
        assert process.communicate(timeout=30)[1] == ""
        return process.returncode, lines

    code_first, first = serve()
    code_second, second = serve()
    assert (code_first, code_second) == (0, 0)
    assert [line.split(":")[0] for line in first[1:3]] == ["API key", "system key"]
    assert len(second) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.test", "::"])
def test_only_loopback_is_served_unless_told_otherwise(tmp_path: Path, host: str) -> None:
    with pytest.raises(SettingsError, match="not a loopback address"):
        run_server(data_dir=tmp_path / "data", host=host)
    assert not (tmp_path / "data").exists()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1, port {port}"):
            run_server(data_dir=tmp_path, port=port, runner=False)
    with RunningServer(tmp_path) as server:
        assert server.api_key  # the start that failed has not used up the first one


# ---------------------------------------------------------------------- ids, times, contents


def test_ids_are_24_characters_and_begin_with_a_letter() -> None:
    ids = {random_id() for _ in range(2000)}
    assert len(ids) == 2000
    assert all(is_well_formed(one) and one[0].isalpha() for one in ids)
    one, other = seeded_ids(Random(1)), seeded_ids(Random(1))
    assert [one() for _ in range(5)] == [other() for _ in range(5)]
    assert named_id("a") == named_id("a") != named_id("b")
    assert not any(
        is_well_formed(text) for text in ("", "a" * 23, "a" * 25, "A" * 24, "a" * 23 + "\n", "a" * 24 + "\n")
    )


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [(0, "1970-01-01T00:00:00.000Z"), (1700000000007, "2023-11-14T22:13:20.007Z"), (999, "1970-01-01T00:00:00.999Z")],
)
def test_times_have_milliseconds_and_z(at_ms: int, text: str) -> None:
    assert iso(at_ms) == text


def test_a_content_that_is_not_kept_is_gone(tmp_path: Path) -> None:
    folder = ContentFolder(tmp_path, random_id)
    with folder.writer() as kept:
        kept.write(b"one")
        kept.write(memoryview(b"two"))
        kept.keep()
    with folder.writer() as dropped:
        dropped.write(b"x")
    assert folder.path(kept.key).read_bytes() == b"onetwo"
    assert kept.size == 6
    assert not folder.path(dropped.key).exists()
    assert folder.sweep(lambda key: False) == 1
    assert not folder.path(kept.key).exists()


@pytest.mark.parametrize("statement", IS_NAMED)
def test_whether_a_content_is_still_named_is_looked_up_and_not_searched_for(tmp_path: Path, statement: str) -> None:
    with RunningServer(tmp_path) as server:
        steps = server.call(lambda: server.state.storage.all(f"EXPLAIN QUERY PLAN {statement}", "key"))
    assert [" USING COVERING INDEX " in step["detail"] for step in steps] == [True]


@pytest.mark.slow
def test_a_large_upload_and_download_take_constant_memory(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("reads the peak memory of the child from /proc")
    process, url, key, job = child(tmp_path)
    size = 512 * 1024 * 1024
    items = f"{BASE}/expert_jobs/{job}/workspace_instance/items/"
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=60) as client:
        fields = {"type": "workspaceItemFile", "path": "warm", "permission": "readWrite"}
        assert client.post(items, data=fields, files={"file": ("f", b"x" * 4_000_000)}).status_code == 200
        before = _peak_kib(process.pid)
        item = _upload(client, items, size)
        with client.stream("GET", f"{items}{item['id']}/download") as answer:
            received = sum(len(chunk) for chunk in answer.iter_raw())
    grown = _peak_kib(process.pid) - before
    stop(process, signal.SIGTERM)
    assert (item["size"], received) == (size, size)
    assert grown < 32 * 1024


def _upload(client: httpx.Client, items: str, size: int) -> dict[str, Any]:
    fields = {"type": "workspaceItemFile", "path": "large", "permission": "readWrite"}
    parts = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    )
    start = f'{parts}--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'.encode()
    end = b"\r\n--b--\r\n"
    block = b"\r\n--" * (256 * 1024)  # what a boundary looks like at first

    def body() -> Any:
        yield start
        for _ in range(size // len(block)):
            yield block
        yield end

    headers = {
        "Content-Type": "multipart/form-data; boundary=b",
        "Content-Length": str(len(start) + size + len(end)),
    }
    answer = client.post(items, content=body(), headers=headers)
    assert answer.status_code == 200, answer.text
    item: dict[str, Any] = answer.json()["data"]["workspaceItem"]
    return item


def _peak_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise AssertionError("no VmHWM")


def test_answers_are_not_held_back_for_an_acknowledgement() -> None:
    with listen("127.0.0.1", 0) as listener:
        # asyncio sets TCP_NODELAY on the connections of such a listener only.
        assert listener.proto == socket.IPPROTO_TCP
