"""One server for each test module; each test gets a fresh job and the default switches and faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from studio_client import StudioClient

from jobfs.server.faults import Faults
from jobfs.server.running import RunningServer
from jobfs.server.switches import Switches


@pytest.fixture(scope="module")
def module_server() -> Iterator[RunningServer]:
    with RunningServer() as server:
        yield server


@pytest.fixture
def server(module_server: RunningServer) -> Iterator[RunningServer]:
    module_server.switches = Switches()
    module_server.faults = Faults()
    yield module_server
    module_server.switches = Switches()
    module_server.faults = Faults()
    _empty_application(module_server)


@pytest.fixture
def studio(server: RunningServer) -> Iterator[StudioClient]:
    """A client of a fresh job's workspace."""
    client = StudioClient(server, server.create_job())
    yield client
    client.close()


@pytest.fixture
def application(server: RunningServer) -> Iterator[StudioClient]:
    """A client of the application's workspace."""
    client = StudioClient(server, None)
    yield client
    client.close()


def _empty_application(server: RunningServer) -> None:
    def work() -> None:
        state = server.state
        space = state.jobs.application_space(state.first_application())
        with state.transaction():
            state.storage.run("DELETE FROM item WHERE space = ?", space)
            state.storage.run("DELETE FROM env")

    server.call(work)
