"""The watch over all tests is itself tested: a small suite under the same conftest.py must fail where it should."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SUITE = """
import contextlib
import logging
import socket
import threading

import pytest

log = logging.getLogger("jobfs.somewhere")


def test_quiet():
    log.info("fine")


def test_logs_an_unexpected_warning():
    log.warning("the moon is blue")


def test_logs_an_expected_warning(expected_logs):
    expected_logs.expect("moon is (blue|green)")
    log.warning("the moon is blue")


def test_waits_for_a_warning_in_vain(expected_logs):
    expected_logs.expect("moon")


@pytest.mark.allow_log("WARNING jobfs.somewhere: the moon")
def test_logs_an_allowed_warning():
    log.warning("the moon is blue")


def test_connects_outside_and_swallows_the_refusal():
    with socket.socket() as client, contextlib.suppress(OSError):
        client.connect(("192.0.2.1", 9))


def test_resolves_an_outside_name():
    with contextlib.suppress(OSError):
        socket.getaddrinfo("api.example.com", 443)


def test_connects_to_loopback():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


def test_has_no_settings_of_the_user(monkeypatch):
    import os
    assert "JOBFS_API_KEY" not in os.environ


@pytest.mark.mount
def test_mounts():
    pass


def test_leaves_a_thread_behind():
    threading.Thread(target=threading.Event().wait, args=(30,), daemon=True, name="straggler").start()
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("suite")
    conftest = (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
    # The shorter deadline hastens the verdict on the straggler; the other device stands for a machine without FUSE.
    shortened = conftest.replace("THREAD_DEADLINE_S = 5.0", "THREAD_DEADLINE_S = 0.1")
    (folder / "conftest.py").write_text(shortened.replace('"/dev/fuse"', '"/dev/no-such-fuse"'), encoding="utf-8")
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "test_suite.py").write_text(SUITE, encoding="utf-8")
    environment = os.environ | {"JOBFS_REQUIRE_FUSE": "1", "JOBFS_API_KEY": "the user's own"}
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", str(folder / "test_suite.py")]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False).stdout


def outcomes(report: str, word: str) -> set[str]:
    return set(re.findall(rf"^{word} \S+::test_(\w+)", report, re.MULTILINE))


def test_what_should_fail_fails_and_nothing_else(report: str) -> None:
    failed = {
        "logs_an_unexpected_warning",
        "waits_for_a_warning_in_vain",
        "connects_outside_and_swallows_the_refusal",
        "resolves_an_outside_name",
        "mounts",
        "leaves_a_thread_behind",
    }
    assert outcomes(report, "FAILED") | outcomes(report, "ERROR") == failed


@pytest.mark.parametrize(
    "message",
    [
        "logged: WARNING jobfs.somewhere: the moon is blue",
        "never logged: moon",
        "socket.connect ('192.0.2.1', 9)",
        "socket.getaddrinfo api.example.com",
        "mounts must be tested here, but there is no /dev/fuse",
        "straggler",
    ],
)
def test_a_failure_says_what_was_wrong(report: str, message: str) -> None:
    assert message in report
