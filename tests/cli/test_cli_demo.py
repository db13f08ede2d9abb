"""``jobfs demo``, ``jobfs serve``, and how commands look in a pipe and on a terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import COMMAND, DEADLINE_S, as_process, in_process

from jobfs.fuse.mounting import mount_at
from jobfs.server.running import RunningServer


@pytest.fixture
def scratch(tmp_path: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo makes its temporary folder."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.txt").write_text("some words\n")
    return folder


def pids_in(folder: Path) -> list[int]:
    """Return the processes whose arguments name a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if str(folder).encode() in words and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def end_all_in(folder: Path) -> None:
    """End what a demo with ``--keep`` left, where its own words did not."""
    if mount_at(folder / "workspace") is not None:
        as_process("umount", "--force", folder / "workspace", JOBFS_STATE_DIR=str(folder / "state"))
    for pid in pids_in(folder):
        os.kill(pid, signal.SIGTERM)


@pytest.mark.mount
def test_the_demo_tells_the_whole_story_and_leaves_nothing(scratch: Path, files: Path) -> None:
    began = time.monotonic()
    outcome = as_process("demo", "--from", files)
    took = time.monotonic() - began
    text = outcome.ok()
    assert "| place | text | harbour (10), lighthouse (10), market (10) |" in text  # the report knows of the edit
    assert re.search(r"^\w{24} is mounted on .*/workspace \((kernel|fusepy)\)$", text, re.MULTILINE)
    assert " completed" in outcome.err
    assert (list(scratch.iterdir()), pids_in(scratch)) == ([], [])
    assert took < 30


@pytest.mark.mount
def test_ctrl_c_in_the_demo_cleans_up(scratch: Path, files: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "demo", "--from", str(files)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        while b"is mounted on" not in running.stdout.readline():
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=DEADLINE_S)
    assert (running.returncode, list(scratch.iterdir()), pids_in(scratch)) == (130, [], [])
    assert b"Traceback" not in err


@pytest.mark.mount
def test_keep_leaves_all_running_and_says_how_to_go_on_and_to_end_it(
    scratch: Path, files: Path, request: pytest.FixtureRequest
) -> None:
    text = as_process("demo", "--from", files, "--keep").ok()
    tips = [line.strip() for line in text.partition("Everything is left running")[2].splitlines()[1:]]
    (folder,) = scratch.glob("jobfs-demo-*")
    request.addfinalizer(lambda: end_all_in(folder))
    shell = f'jobfs() {{ "{sys.executable}" -P -m jobfs "$@"; }}\nset -e\n' + "\n".join(tips)
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder.exists(), mount_at(folder / "workspace")) == (False, None)


def test_a_demo_from_nowhere_is_refused(scratch: Path) -> None:
    assert (in_process("demo", "--from", scratch / "none").code, list(scratch.iterdir())) == (2, [])


# -- serve


@pytest.fixture
def serving(state_dir: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*COMMAND, "serve", "--data", str(tmp_path / "data"), "--port", "0", "--set", "find_mode=glob"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        yield running
        if running.poll() is None:
            running.kill()


def test_serve_prints_address_and_keys_serves_and_ends_with_ctrl_c(serving: subprocess.Popen[str]) -> None:
    assert serving.stdout is not None
    lines = [serving.stdout.readline().strip() for _ in range(4)]
    url, key = lines[0].split()[1], lines[1].split()[-1]
    listed = as_process("jobs", "list", JOBFS_URL=url, JOBFS_API_KEY=key)
    serving.send_signal(signal.SIGINT)
    _, err = serving.communicate(timeout=DEADLINE_S)
    assert (listed.code, serving.returncode, err) == (0, 0, "")


@pytest.mark.parametrize(
    "words", [("--set", "nonsense=1"), ("--fault", "nonsense"), ("--host", "192.0.2.1"), ("--port", "70000")]
)
def test_serve_refuses_what_it_cannot_do(state_dir: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert in_process("serve", "--data", tmp_path / "data", *words).code == 2


def test_serve_on_a_taken_port_is_refused(server: RunningServer, state_dir: Path, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    outcome = in_process("serve", "--data", tmp_path / "data", "--port", port)
    assert (outcome.code, outcome.err.splitlines()[-1]) == (2, "  next: choose another port")


def test_serve_without_its_libraries_says_how_to_install_them(state_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "fastapi.py").write_text("raise ImportError('not here', name='fastapi')\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    outcome = as_process("serve", "--data", tmp_path / "data", PYTHONPATH=path)
    assert (outcome.code, outcome.err) == (
        2,
        "jobfs: the server's libraries are not installed (fastapi)\n"
        "  next: install them: pip install 'jobfs[server]'\n",
    )


# -- pipe and terminal


def on_terminal(*words: str) -> str:
    """Run a command on a terminal and return what appears there."""
    import pty

    shown = bytearray()
    master, slave = pty.openpty()
    with subprocess.Popen([*COMMAND, *words], stdout=slave, stderr=slave, stdin=slave) as running:
        os.close(slave)
        while True:
            try:
                chunk = os.read(master, 4096)
            except OSError:  # Linux says so when the last writer is gone
                break
            if not chunk:
                break
            shown += chunk
    os.close(master)
    assert running.returncode == 0
    return shown.decode()


def test_a_table_is_headed_on_a_terminal_and_bare_in_a_pipe(studio: RunningServer, job: str) -> None:
    studio.put_item(job, "a.txt", b"1")
    assert "owner" in on_terminal("ls", "-l", job)
    assert "owner" not in as_process("ls", "-l", job).ok()


def test_progress_is_drawn_on_a_terminal_only(studio: RunningServer, job: str) -> None:
    studio.set_status(job, "completed")
    assert "\x1b[" in on_terminal("jobs", "wait", job)
    piped = as_process("jobs", "wait", job)
    assert "\x1b" not in piped.out + piped.err
