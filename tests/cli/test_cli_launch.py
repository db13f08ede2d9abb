"""The process that a command launches for what serves in the background: what it has of the command, and what not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import DEADLINE_S, as_process

from jobfs.cli.wiping import wiped
from jobfs.server.running import RunningServer
from jobfs.workspace.instance import running_at

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is always a new interpreter")

KEY = "a-key-that-nobody-may-see"

BEGIN = """
import json, os, resource, sys, threading
if sys.argv[1] == "threads":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
elif sys.argv[1] == "limit":
    os.set_inheritable(os.dup2(0, 200), True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
from jobfs.cli.launch import begin

def told():
    with open("/proc/self/environ", "rb") as file:
        block = file.read().decode()
    return {
        "pid": os.getpid(),
        "session": os.getsid(0),
        "block": block,
        "variables": dict(os.environ),
        "path": sys.path,
        "open": [int(name) for name in os.listdir("/proc/self/fd") if os.path.lexists("/proc/self/fd/" + name)],
    }

process = begin()
if process is None:
    word = sys.stdin.readline().strip()
    print(json.dumps({**told(), "word": word}), flush=True)
    sys.stderr.write("a complaint")
    sys.exit(7)
with process.orders as orders:
    orders.write(b"word\\n")
theirs = process.answers.read().decode()
complaint = process.complaints.read().decode()
code = process.wait()
process.let_go()
kind = type(process).__name__
print(json.dumps({**told(), "kind": kind, "theirs": theirs, "complaint": complaint, "code": code}))
"""


def begun(tmp_path: Path, how: str = "", **environment: str) -> dict[str, Any]:
    """Return what a process tells that has begun another one, which is told a word and then tells of itself."""
    inherited = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        done = subprocess.run(
            [sys.executable, "-c", BEGIN, how],
            capture_output=True,
            text=True,
            env={**os.environ, "JOBFS_API_KEY_OF_MINE": "not a key", **environment},
            cwd=tmp_path,
            timeout=DEADLINE_S,
            check=True,
            close_fds=False,
        )
    finally:
        os.close(inherited)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_branch_takes_the_word_answers_complains_and_ends_with_its_code(tmp_path: Path) -> None:
    command = begun(tmp_path)
    branch = json.loads(command["theirs"])
    assert (command["kind"], command["complaint"], command["code"]) == ("Process", "a complaint", 7)
    assert branch["word"] == "word"
    assert branch["pid"] == branch["session"] != command["session"]


def test_a_branch_has_only_its_pipes_and_no_modules_of_the_current_directory(tmp_path: Path) -> None:
    command = begun(tmp_path)
    branch = json.loads(command["theirs"])
    assert (command["open"], branch["open"]) != ([0, 1, 2], [])
    assert branch["open"] == [0, 1, 2]
    assert (command["path"][0], branch["path"]) == ("", command["path"][1:])


def test_a_branch_has_no_descriptor_above_a_limit_that_came_later(tmp_path: Path) -> None:
    command = begun(tmp_path, "limit")
    assert (200 in command["open"], json.loads(command["theirs"])["open"]) == (True, [0, 1, 2])


def test_a_branch_has_no_key_where_others_could_read_it_and_the_command_keeps_it(tmp_path: Path) -> None:
    command = begun(tmp_path, JOBFS_API_KEY=KEY, PERSTACK_API_KEY=f"second-{KEY}", JOBFS_SYSTEM_KEY="")
    branch = json.loads(command["theirs"])
    assert KEY not in branch["block"] + command["block"] + json.dumps(branch["variables"])
    assert branch["variables"]["JOBFS_API_KEY_OF_MINE"] == command["variables"]["JOBFS_API_KEY_OF_MINE"] == "not a key"
    assert "JOBFS_API_KEY_OF_MINE=not a key" in branch["block"]
    assert command["variables"]["JOBFS_API_KEY"] == KEY


def test_where_there_are_threads_it_is_a_new_interpreter_that_waits_for_its_order(tmp_path: Path) -> None:
    command = begun(tmp_path, "threads", JOBFS_API_KEY=KEY)
    assert command["kind"] == "Spawned"
    assert "JSONDecodeError" in command["complaint"]  # a word is no order


def test_a_block_that_cannot_be_wiped_is_told(tmp_path: Path) -> None:
    assert not wiped(["JOBFS_API_KEY"], str(tmp_path))
    (tmp_path / "environ").write_bytes(b"A=1\0JOBFS_API_KEY=secret\0")
    assert wiped(["B"], str(tmp_path))
    assert not wiped(["JOBFS_API_KEY"], str(tmp_path))


def test_a_mount_that_a_command_has_begun_shows_no_key_in_its_environment(
    studio: RunningServer, job: str, mount_point: Path
) -> None:
    as_process("mount", job, mount_point, "--no-fallback", JOBFS_API_KEY=studio.api_key).ok()
    pid = running_at(mount_point).pid
    shown = [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    as_process("umount", mount_point).ok()
    assert [text for text in shown if studio.api_key.encode() in text] == []
