"""Real mounts for the tests of this folder (``live_mount``), by each transport in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from live_mount import TRANSPORTS, Live, look_until, served


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., Live]]:
    """Give a function that mounts a workspace by a named transport; see ``served``."""
    with ExitStack() as stack:
        yield lambda transport, remote=None, **given: stack.enter_context(served(transport, tmp_path, remote, **given))


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Give ``look_until``."""
    return look_until


@pytest.fixture(params=list(TRANSPORTS))
def transport(request: pytest.FixtureRequest) -> str:
    """Each transport in turn."""
    return str(request.param)


@pytest.fixture
def torn_by_libfuse(request: pytest.FixtureRequest, transport: str) -> None:
    """Expect a test to fail through libfuse, which gives all versions of a path one inode and one page cache."""
    if transport == "fusepy":
        request.applymarker(pytest.mark.xfail(strict=True, reason="libfuse knows paths, not inodes"))


@pytest.fixture
def live(serving: Callable[..., Live], transport: str) -> Live:
    """An empty workspace, mounted by each transport in turn."""
    return serving(transport)


@pytest.fixture
def mnt(live: Live) -> Path:
    """The mount point of ``live``."""
    return live.path
