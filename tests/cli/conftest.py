"""A server of the module's own, and the settings of somebody who uses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from awaiting import Requests
from commands import mountable

from jobfs.server.running import RunningServer


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    running = RunningServer(runner=True)
    running.requests = Requests()
    with running:
        yield running


@pytest.fixture
def requests(server: RunningServer) -> Requests:
    """What the server is asked, and a way to wait for it."""
    assert isinstance(server.requests, Requests)
    return server.requests


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder and a configuration folder of the test's own."""
    monkeypatch.setenv("JOBFS_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("JOBFS_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def studio(server: RunningServer, state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> RunningServer:
    """The server, with its address and key in the environment."""
    monkeypatch.setenv("JOBFS_URL", server.url)
    monkeypatch.setenv("JOBFS_API_KEY", server.api_key)
    return server


@pytest.fixture
def job(studio: RunningServer) -> str:
    """A job that waits, with an empty workspace."""
    return studio.create_job()


@pytest.fixture
def mount_point(tmp_path: Path) -> Iterator[Path]:
    """A directory to mount on; whatever is mounted there at the end is taken away."""
    yield from mountable(tmp_path / "mounted")
