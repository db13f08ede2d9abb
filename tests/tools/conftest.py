"""A server that all tests of this folder share, each with a job of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from request_log import RequestLog, logged_server


@pytest.fixture(scope="session")
def own_log() -> Iterator[RequestLog]:
    with logged_server() as log:
        yield log


@pytest.fixture
def log(own_log: RequestLog) -> RequestLog:
    """The log of the server; a test's own job is watched, and nothing else."""
    own_log.watch("")
    return own_log
