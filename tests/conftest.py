"""What holds for every test: no unexpected warning, no network but loopback, nothing left behind, no silent skip.

- A warning or error logged by ``jobfs`` or ``asyncio`` fails the test during which it was logged, unless the test takes
  the fixture ``expected_logs`` and names it, or carries ``@pytest.mark.allow_log("regular expression")``.
- A connection to anything but loopback fails the test, also where the code under test swallows the refusal.
- Threads and mounts that a test module leaves behind fail it.
- No test sees or changes the settings, keys and state of the person who runs it.
- A test marked ``mount`` is skipped where FUSE cannot be used, and fails there if ``JOBFS_REQUIRE_FUSE`` is set, as
  scripts/test does on every machine that has ``/dev/fuse``.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import ipaddress
import logging
import os
import re
import shutil
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

WATCHED_LOGGERS = ("jobfs", "asyncio")
THREAD_DEADLINE_S = 5.0

# The same examples each time, however long one takes on a busy machine; what looks for others has a script.
settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    # Ignored in what a shell starts in the background, and in all that this starts in turn; tests send it to both.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "allow_log(pattern): a warning or error that matches is no failure")


# ------------------------------------------------------------------------------------------------- unexpected logs


class ExpectedLogs(logging.Handler):
    """Collects what is logged at WARNING and above, and knows what was announced."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []
        self._expected: list[re.Pattern[str]] = []
        self._allowed: list[re.Pattern[str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def expect(self, pattern: str) -> None:
        """Announce a warning that this test must bring about at least once."""
        self._expected.append(re.compile(pattern))

    def allow(self, pattern: str) -> None:
        """Announce a warning that may or may not come."""
        self._allowed.append(re.compile(pattern))

    def complaints(self) -> list[str]:
        """Return what was logged unannounced and what was announced but never logged."""
        lines = [f"{record.levelname} {record.name}: {record.getMessage()}" for record in self.records]
        patterns = [*self._expected, *self._allowed]
        unexpected = [f"logged: {line}" for line in lines if not any(pattern.search(line) for pattern in patterns)]
        missing = [
            f"never logged: {pattern.pattern}"
            for pattern in self._expected
            if not any(pattern.search(line) for line in lines)
        ]
        return unexpected + missing


@pytest.fixture(autouse=True)
def expected_logs(request: pytest.FixtureRequest) -> Iterator[ExpectedLogs]:
    """Fail the test for each warning or error that it did not announce here or by the mark ``allow_log``."""
    handler = ExpectedLogs()
    for mark in request.node.iter_markers("allow_log"):
        handler.allow(mark.args[0])
    for name in WATCHED_LOGGERS:
        logging.getLogger(name).addHandler(handler)
    try:
        yield handler
    finally:
        for name in WATCHED_LOGGERS:
            logging.getLogger(name).removeHandler(handler)
    complaints = handler.complaints()
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)


# ---------------------------------------------------------------------------------------------------- network guard

_outside_connections: list[str] = []


def _is_loopback(host: object) -> bool:
    if host is None or host in ("", b"", "localhost", b"localhost"):
        return True
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    try:
        return ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _guard_network(event: str, args: tuple[object, ...]) -> None:
    """Refuse what would leave this machine; a hook of the interpreter, since it sees every library."""
    if event in ("socket.connect", "socket.sendto"):
        address = args[1]
        outside = isinstance(address, tuple) and not _is_loopback(address[0])
    elif event == "socket.getaddrinfo":
        address = args[0]
        outside = not _is_loopback(address)
    else:
        return
    if outside:
        _outside_connections.append(f"{event} {address}")
        raise PermissionError(f"tests may only speak to loopback, not {address}")


sys.addaudithook(_guard_network)


@pytest.fixture(autouse=True)
def _only_loopback() -> Iterator[None]:
    _outside_connections.clear()
    yield
    assert _outside_connections == []


# ------------------------------------------------------------------------------------------------ nobody's settings

PERSONAL_VARIABLES = ("JOBFS_URL", "JOBFS_API_KEY", "JOBFS_PROFILE", "PERSTACK_API_KEY")


@pytest.fixture(scope="session", autouse=True)
def _nobodys_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in PERSONAL_VARIABLES:
            patch.delenv(name, raising=False)
        for name in ("CONFIG", "DATA", "STATE", "CACHE"):
            patch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
        yield


# ---------------------------------------------------------------------------------------------------- left behind


def _mounts_below(folder: Path) -> list[str]:
    mountinfo = Path("/proc/self/mountinfo")
    if not mountinfo.exists():
        return []
    points = [line.split()[4] for line in mountinfo.read_text(encoding="utf-8").splitlines()]
    return [point for point in points if Path(point).is_relative_to(folder)]


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail a module whose threads or mounts outlive its own fixtures."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + THREAD_DEADLINE_S
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert [thread.name for thread in left if thread.is_alive()] == []
    assert _mounts_below(tmp_path_factory.getbasetemp()) == []


# ------------------------------------------------------------------------------------------------------------- FUSE


def _fuse_trouble() -> str:
    """Say why no mount can be made here; empty where one can."""
    device = Path("/dev/fuse")
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISCHR(device.stat().st_mode):
            return "/dev/fuse is no device"
        if ctypes.util.find_library("fuse3") is None and ctypes.util.find_library("fuse") is None:
            return "libfuse is not installed"
        if os.geteuid() != 0 and shutil.which("fusermount3") is None:
            return "fusermount3 is not installed"
        return ""
    return "there is no /dev/fuse"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("mount") is None:
        return
    trouble = _fuse_trouble()
    if trouble and os.environ.get("JOBFS_REQUIRE_FUSE"):
        pytest.fail(f"mounts must be tested here, but {trouble}", pytrace=False)
    if trouble:
        pytest.skip(trouble)
