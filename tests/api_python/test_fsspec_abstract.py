"""fsspec's own tests of what every file system must do, on ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.tests import abstract

from jobfs.filesystem.jobs import JobFileSystem
from jobfs.server.running import RunningServer


@pytest.fixture(scope="module")
def shared_fs(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobFileSystem]:
    state = str(tmp_path_factory.mktemp("state"))
    fs = JobFileSystem(url=server.url, api_key=server.api_key, state=state, skip_instance_cache=True)
    yield fs
    fs.close()


@pytest.fixture(scope="module")
def shared_job(server: RunningServer) -> str:
    return server.create_job()


class JobFixtures(abstract.AbstractFixtures):
    """How fsspec's tests get at a workspace."""

    @pytest.fixture
    def fs(self, shared_fs: JobFileSystem) -> JobFileSystem:
        return shared_fs

    @pytest.fixture
    def fs_path(self, shared_job: str) -> str:
        return shared_job

    @pytest.fixture
    def local_fs(self) -> LocalFileSystem:
        return LocalFileSystem(auto_mkdir=True)


class TestCopy(JobFixtures, abstract.AbstractCopyTests):
    pass


class TestGet(JobFixtures, abstract.AbstractGetTests):
    pass


class TestPut(JobFixtures, abstract.AbstractPutTests):
    pass


class TestPipe(JobFixtures, abstract.AbstractPipeTests):
    pass


class TestOpen(JobFixtures, abstract.AbstractOpenTests):
    pass
