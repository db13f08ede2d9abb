"""kill -9 at each request and each transaction: the next session finishes what was acknowledged, and leaves no
litter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobfs.server.running import RunningServer

CHILD = Path(__file__).parent.parent / "support" / "edit_child.py"
FINAL = {
    "atomic.txt": b"atomic",
    "made": None,
    "made/inside.txt": b"inside",
    "new.txt": b"new file",
    "renamed": None,
    "renamed/x": b"x",
    "seed.txt": b"edited seed",
}


def start_child(server: RunningServer, state: Path, job: str, kill_at: int) -> subprocess.CompletedProcess[str]:
    paths = [str(CHILD.parent), str(CHILD.parent.parent.parent / "src")]
    environment = os.environ | {"JOBFS_API_KEY": server.api_key, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [sys.executable, str(CHILD), str(state), server.url, job, str(kill_at)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def prepared_job(server: RunningServer) -> str:
    job = server.create_job(expert_key="@jobfs/word-count", query="x", hold=True, status="completed")
    server.put_item(job, "seed.txt", b"seed")
    server.put_item(job, "doomed.txt", b"doomed")
    server.put_item(job, "dir", None)
    server.put_item(job, "dir/x", b"x")
    return job


STEP = int(os.environ.get("JOBFS_KILL_STEP", "9"))
"""Every so-manyth point in the suite; scripts/crash-test sets 1."""


@pytest.mark.slow
def test_whatever_was_closed_survives_kill_9_at_every_point(tmp_path: Path) -> None:
    with RunningServer() as server:
        for kill_at in range(1, 1000, STEP):
            job = prepared_job(server)
            state = tmp_path / str(kill_at)
            first = start_child(server, state, job, kill_at)
            if first.returncode == 0:
                break
            assert first.returncode == -signal.SIGKILL, first.stdout + first.stderr
            second = start_child(server, state, job, -1)
            assert second.returncode == 0, f"point {kill_at}: {second.stdout}{second.stderr}"
            contents = server.contents(job)
            for path in first.stdout.split():
                assert contents.get(path) == FINAL[path], f"point {kill_at}: {path} in {contents}"
            assert [path for path in contents if ".jobfs-" in path] == [], f"point {kill_at}"
            assert [path for path in contents if "conflict" in path] == [], f"point {kill_at}"
        assert server.contents(job) == FINAL
        assert kill_at > 30
