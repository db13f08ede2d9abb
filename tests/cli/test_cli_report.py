"""The archive for whoever looks for a fault: everything that helps, nothing that is secret."""

from __future__ import annotations

import json
import stat
import zipfile
from pathlib import Path

import pytest
from commands import in_process

from jobfs.cli.bundle import Cleaner
from jobfs.server.running import RunningServer

CONTENT = "the-content-of-a-file"
OTHER_KEY = "key-of-another-profile"
SCHEME = "://"
"""Apart from what follows: an address with a password in it is otherwise read as one with a foreign host."""


def entries(archive: Path) -> dict[str, str]:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name).decode() for name in opened.namelist()}


@pytest.fixture
def archive(studio: RunningServer, job: str, state_dir: Path, tmp_path: Path) -> dict[str, str]:
    """The report of somebody who keeps a folder in step, and whose log has seen what no log should."""
    folder, config = tmp_path / "folder", tmp_path / "config"
    folder.mkdir()
    (folder / "notes.txt").write_text(CONTENT)
    (config / "keys").mkdir(parents=True)
    (config / "keys" / "other.key").write_text(OTHER_KEY + "\n")
    (config / "config.toml").write_text(f'[profiles.other]\nurl = "https{SCHEME}user:secret-pass@other.example"\n')
    in_process("sync", job, folder, "--background").ok()
    try:
        (log,) = state_dir.glob("workspaces/*/log.txt")
        with log.open("a") as file:
            file.write(f"leaked {studio.api_key} and {OTHER_KEY}, Authorization: Bearer abcdefghijkl\n")
            file.write("https://storage.example/a?X-Signature=signed-away ok\n")
        outcome = in_process("report", tmp_path / "report.zip")
    finally:
        in_process("umount", folder).ok()
    assert outcome.ok() == f"{tmp_path / 'report.zip'} is written\n"
    assert stat.S_IMODE((tmp_path / "report.zip").stat().st_mode) == 0o600
    return entries(tmp_path / "report.zip")


def test_it_holds_checks_settings_states_and_logs(archive: dict[str, str], job: str) -> None:
    assert sorted(archive) == [
        "checks.json",
        "config.toml",
        "crash.txt",
        "environment.json",
        "workspace-1/log.txt",
        "workspace-1/state.json",
        "workspace-1/status.json",
    ]
    status, state = (json.loads(archive[f"workspace-1/{name}.json"]) for name in ("status", "state"))
    assert (status["job"], status["isRunning"], state["local"], state["base"]) == (job, True, 1, 1)
    assert {"server", "key", "FUSE"} <= {one["what"] for one in json.loads(archive["checks.json"])}


def test_it_holds_no_contents_and_no_secrets(archive: dict[str, str], studio: RunningServer) -> None:
    secrets = (CONTENT, studio.api_key, OTHER_KEY, "secret-pass", "abcdefghijkl", "signed-away")
    assert [secret for secret in secrets for text in archive.values() if secret in text] == []
    assert "leaked *** and ***" in archive["workspace-1/log.txt"]


def test_an_archive_that_is_there_is_not_written_over(state_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.zip"
    path.write_text("mine")
    outcome = in_process("report", "--offline", path)
    assert (outcome.code, path.read_text()) == (1, "mine")


def test_it_can_be_written_without_key_and_server(state_dir: Path, tmp_path: Path) -> None:
    in_process("report", "--offline", tmp_path / "report.zip").ok()
    assert sorted(entries(tmp_path / "report.zip")) == ["checks.json", "environment.json"]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a known-one b", "a *** b"),
        ('{"token": "abc"}', '{"token": ***}'),
        ("api-key = 'xyz'", "api-key = ***"),
        ("jobfs_k_0123456789abcdef", "***"),
        ("Bearer 0123456789", "Bearer ***"),
        (f"http{SCHEME}a:b@host/path", f"http{SCHEME}***@host/path"),
        ("https://host.example/path?sig=1&b=2 rest", "https://host.example/path?*** rest"),
        ("plain words, and a key figure", "plain words, and a key figure"),
    ],
)
def test_secrets_are_cut_out_by_value_and_by_form(text: str, cleaned: str) -> None:
    assert Cleaner(frozenset({"known-one"}))(text) == cleaned


def test_a_short_value_is_no_secret_worth_cutting() -> None:
    assert Cleaner(frozenset({"a"}))("banana") == "banana"
