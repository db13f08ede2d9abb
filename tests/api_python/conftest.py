"""A server of the module's own, and the settings of a script that uses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.asyn import get_loop

from jobfs.filesystem.jobs import JobFileSystem
from jobfs.server.running import RunningServer


@pytest.fixture(scope="session", autouse=True)
def _loop_of_fsspec() -> None:
    """Start the thread that fsspec keeps for the life of a process before anybody counts threads."""
    get_loop()


@pytest.fixture(scope="session", autouse=True)
def _known_to_fsspec() -> None:
    """Make ``jobfs://`` known also where the package is not installed but lies on the path."""
    fsspec.register_implementation("jobfs", JobFileSystem, clobber=True)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer(runner=True) as running:
        yield running


@pytest.fixture
def studio(server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunningServer:
    """The server, with its address and key in the environment."""
    monkeypatch.setenv("JOBFS_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("JOBFS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("JOBFS_URL", server.url)
    monkeypatch.setenv("JOBFS_API_KEY", server.api_key)
    return server


@pytest.fixture
def job(studio: RunningServer) -> str:
    """A job that waits, with an empty workspace."""
    return studio.create_job()


@pytest.fixture
def jobs_fs(studio: RunningServer) -> Iterator[JobFileSystem]:
    """The file system, of the test's own."""
    fs = JobFileSystem(skip_instance_cache=True)
    yield fs
    fs.close()
