"""Names on a server that no file here can have, and twins, as a user meets them: in a mount or a folder, and in
``jobfs status``.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from commands import in_process, mountable
from hostile_studio import JOB, KEY, HostileStudio

NFC, NFD = "Caf\u00e9.txt", "Cafe\u0301.txt"
TWINS = ["Readme.txt", "README.txt", NFC, NFD, "CON", "nul.txt", "a:b", "back\\slash", "trailing. ", "-rf"]
"""What one file system takes for one, or does not take at all; this one has room for each."""

LEFT = ".report.txt.jobfs-abcdefgh.old"
"""What a client of long ago has left in the middle of a save."""

BAD = {
    "line\nfeed": "line%0Afeed",
    "zero\0byte": "zero%00byte",
    "esc\x1b[2J": "esc%1B[2J",
    "../up": "%2E%2E/up",
    "dir/./dot": "dir/%2E/dot",
    "dir//empty": "dir/%/empty",
}
"""What no file can be called, and what it is shown as."""


@contextmanager
def listening(studio: HostileStudio) -> Iterator[str]:
    """Let a studio answer on a socket of its own; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            answer = studio.answer(httpx.Request(self.command, f"http://127.0.0.1{self.path}", content=body))
            self.send_response(answer.status_code)
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="hostile studio")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    studio = HostileStudio()
    for path in (*TWINS, *BAD):
        studio.add(path, path.encode())
    studio.add(LEFT, b"half saved", updatedAt="2020-01-01T00:00:00.000Z")
    studio.add(".jobfs", b"mine")
    studio.add("twice", b"one")
    studio.add("twice", b"two")
    studio.add("odd", b"odd", type="workspaceItemSocket")
    with listening(studio) as url:
        monkeypatch.setenv("JOBFS_CONFIG_DIR", str(tmp_path / "config"))
        monkeypatch.setenv("JOBFS_STATE_DIR", str(tmp_path / "state"))
        monkeypatch.setenv("JOBFS_URL", url)
        monkeypatch.setenv("JOBFS_API_KEY", KEY)
        yield from mountable(tmp_path / "place")


@pytest.mark.parametrize("how", [pytest.param("mount", marks=pytest.mark.mount), "sync"])
def test_each_name_that_cannot_be_had_is_a_line_in_jobfs_status(place: Path, how: str) -> None:
    in_process(how, JOB, place, *(["--background"] if how == "sync" else [])).ok()
    try:
        in_process("refresh", place).ok()
        text = in_process("status", place).ok()
        (status,) = json.loads(in_process("status", place, "--json").ok())
        assert all(line.isprintable() and len(line) < 500 for line in text.splitlines())
        told = {problem["path"]: problem for problem in status["problems"]}
        assert {path for path in told if "%" in path} == {
            *("line%0Afeed", "zero%00byte", "esc%1B[2J", "%2E%2E", "dir/%2E", "dir/%", "%2Ejobfs")
        }
        assert {"twice", "odd", LEFT} <= set(told)
        assert "jobfs mv" in told[LEFT]["next"]
        assert LEFT not in os.listdir(place)
        assert in_process("cat", f"{JOB}:/{LEFT}").ok() == "half saved"
        assert all(problem["next"] for problem in told.values())
        for path in TWINS:
            assert (place / path).read_bytes() == path.encode()
        for path, shown in BAD.items():
            assert (place / shown).read_bytes() == path.encode()
        assert "odd" not in os.listdir(place)
    finally:
        in_process("umount", place).ok()
