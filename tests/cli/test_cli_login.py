"""Logging in and out: where the key goes, what the profile says, and what limits it may set."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from commands import Outcome, as_process, in_process
from terminals import on_terminal

from jobfs.server.running import RunningServer
from jobfs.workspace.settings import Chosen, load

KEYRING = """
import json, os, pathlib
from keyring import errors
FILE = pathlib.Path(os.environ["FAKE_KEYRING"])
def _read():
    if not FILE.exists():
        raise errors.KeyringError("no keyring runs here")
    return json.loads(FILE.read_text())
def set_password(service, name, key):
    FILE.write_text(json.dumps({**_read(), f"{service} {name}": key}))
def get_password(service, name):
    return _read().get(f"{service} {name}")
def delete_password(service, name):
    held = _read()
    if held.pop(f"{service} {name}", None) is None:
        raise errors.KeyringError("not found")
    FILE.write_text(json.dumps(held))
"""


@pytest.fixture
def config(state_dir: Path, tmp_path: Path, server: RunningServer) -> Path:
    """The configuration folder of somebody who has never logged in."""
    return tmp_path / "config"


def log_in(server: RunningServer, *words: str, key: str | None = None) -> Outcome:
    typed = (server.api_key if key is None else key) + "\n"
    return in_process("login", "--no-keyring", "--url", server.url, *words, stdin=typed.encode())


def document(config: Path) -> dict[str, Any]:
    return tomllib.loads((config / "config.toml").read_text())


def test_the_first_login_makes_the_default_profile_and_a_private_key_file(config: Path, server: RunningServer) -> None:
    outcome = log_in(server)
    file = config / "keys" / "default.key"
    assert outcome.ok() == f"logged in to {server.url} as profile 'default'; the key is in {file}\n"
    assert document(config) == {
        "default": "default",
        "profiles": {"default": {"url": server.url, "api-key-file": "keys/default.key"}},
    }
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
    assert in_process("jobs", "list").code == 0


def test_a_further_profile_leaves_what_the_user_has_written(config: Path, server: RunningServer) -> None:
    config.mkdir()
    text = 'default = "mine"  # my words\n[profiles.mine]\nurl = "https://mine.example"\n'
    (config / "config.toml").write_text(text)
    log_in(server, "--profile", "work").ok()
    assert (config / "config.toml").read_text().startswith(text)
    assert document(config)["profiles"]["work"] == {"url": server.url, "api-key-file": "keys/work.key"}
    assert in_process("jobs", "list", "--profile", "work").code == 0


def test_a_second_login_changes_the_key_and_not_the_profile(config: Path, server: RunningServer) -> None:
    log_in(server, "--no-check", key="old-key").ok()
    before = (config / "config.toml").read_text()
    log_in(server).ok()
    assert ((config / "config.toml").read_text(), (config / "keys" / "default.key").read_text()) == (
        before,
        server.api_key + "\n",
    )


def test_a_wrong_key_is_told_and_not_kept(config: Path, server: RunningServer) -> None:
    outcome = log_in(server, key="wrong-key")
    assert (outcome.code, config.exists()) == (3, False)
    assert "wrong-key" not in outcome.out + outcome.err
    assert "nothing was kept; give the key of" in outcome.err


def test_a_profile_never_gets_the_key_of_another_server(config: Path, server: RunningServer) -> None:
    log_in(server).ok()
    outcome = in_process("login", "--url", "http://127.0.0.1:1", "--no-check", stdin=b"k\n")
    assert (outcome.code, f"profile 'default' is for {server.url}, not for http://127.0.0.1:1" in outcome.err) == (
        2,
        True,
    )


def test_a_final_slash_makes_no_other_server(config: Path, server: RunningServer) -> None:
    log_in(server).ok()
    assert in_process("jobs", "list", "--url", f"{server.url}/").code == 0


@pytest.mark.parametrize("typed", [b"", b"\n\n"])
def test_without_a_key_nothing_is_kept(config: Path, server: RunningServer, typed: bytes) -> None:
    outcome = in_process("login", "--url", server.url, stdin=typed)
    assert (outcome.code, "no key was given" in outcome.err, config.exists()) == (2, True, False)


@pytest.mark.parametrize("name", ["a b", '"', "../up", ""])
def test_a_profile_is_named_plainly(config: Path, server: RunningServer, name: str) -> None:
    outcome = log_in(server, "--profile", name)
    assert (outcome.code, list(config.glob("**/*"))) == ((2, []) if name else (0, list(config.glob("**/*"))))


def test_on_a_terminal_the_key_is_asked_for_and_not_shown(config: Path, server: RunningServer) -> None:
    words = ("login", "--no-keyring", "--url", server.url)
    code, shown = on_terminal(*words, until=f"for {server.url}: ", then=f"{server.api_key}\n".encode())
    assert (code, server.api_key in shown, "logged in to" in shown) == (0, False, True)


def test_logging_out_deletes_the_key_and_keeps_the_profile(config: Path, server: RunningServer) -> None:
    log_in(server).ok()
    assert in_process("logout").ok() == "logged out of profile 'default'\n"
    assert (list(config.glob("keys/*")), list(document(config)["profiles"])) == ([], ["default"])
    assert in_process("logout").ok() == "logged out of profile 'default'; its key was gone already\n"
    log_in(server).ok()
    assert in_process("jobs", "list").code == 0


def test_a_key_file_of_the_users_own_is_never_touched(config: Path, server: RunningServer) -> None:
    config.mkdir()
    (config / "my.key").write_text("mine\n")
    (config / "config.toml").write_text(f'default = "a"\n[profiles.a]\nurl = "{server.url}"\napi-key-file = "my.key"\n')
    codes = [in_process("logout").code, log_in(server).code]
    assert (codes, (config / "my.key").read_text()) == ([2, 2], "mine\n")


# -- the keyring of the system


@pytest.fixture
def keyring(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library ``keyring`` whose keyring is a file; where the file is missing, no keyring runs."""
    package = tmp_path / "lib" / "keyring"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(KEYRING)
    (package / "errors.py").write_text("class KeyringError(Exception):\n    pass\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "lib"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("FAKE_KEYRING", str(tmp_path / "ring"))
    return tmp_path / "ring"


def test_where_there_is_a_keyring_the_key_goes_there_and_into_no_file(
    keyring: Path, config: Path, server: RunningServer
) -> None:
    keyring.write_text("{}")
    words = ("login", "--url", server.url)
    as_process(*words, stdin=server.api_key.encode()).ok()
    assert document(config)["profiles"]["default"] == {"url": server.url, "keyring": True}
    assert [path for path in config.glob("**/*") if path.is_file() and server.api_key in path.read_text()] == []
    as_process("jobs", "list").ok()
    as_process("logout").ok()
    refused = as_process("jobs", "list")
    assert (keyring.read_text(), refused.code) == ("{}", 2)
    assert f"the keyring has no key for {server.url}" in refused.err


def test_where_no_keyring_runs_a_file_serves_and_that_is_told(
    keyring: Path, config: Path, server: RunningServer
) -> None:
    outcome = as_process("login", "--url", server.url, stdin=server.api_key.encode())
    assert (outcome.code, "no keyring runs here" in outcome.err) == (0, True)
    assert (config / "keys" / "default.key").exists()


def test_without_the_library_a_file_serves(config: Path, server: RunningServer) -> None:
    outcome = in_process("login", "--url", server.url, stdin=server.api_key.encode())
    assert (outcome.code, "pip install 'jobfs[keyring]'" in outcome.err) == (0, True)


# -- limits


LIMITED = """
default = "a"
[profiles.a]
url = "{url}"
limit-up = "2K"
limit-down = 4096
connections = 3
read-only = true
"""


def limited(config: Path, url: str) -> None:
    config.mkdir()
    (config / "config.toml").write_text(LIMITED.format(url=url))


def test_a_profile_says_how_much_of_the_line_may_be_used(config: Path) -> None:
    limited(config, "https://a.example")
    environment = {"JOBFS_CONFIG_DIR": str(config), "JOBFS_API_KEY": "k"}
    found = load(Chosen(), environment)
    assert (found.pacing.up, found.pacing.down, found.pacing.connections, found.is_read_only) == (2048, 4096, 3, True)


@pytest.mark.parametrize(
    "line", ["limit-up = 0", "limit-up = true", 'limit-up = "fast"', "connections = 0", 'read-only = "yes"']
)
def test_a_limit_that_is_none_is_refused(config: Path, line: str) -> None:
    config.mkdir()
    (config / "config.toml").write_text(f'default = "a"\n[profiles.a]\n{line}\n')
    outcome = in_process("jobs", "list")
    assert (outcome.code, "  next: " in outcome.err) == (2, True)


def test_a_read_only_profile_refuses_every_change(
    config: Path, server: RunningServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limited(config, server.url)
    monkeypatch.setenv("JOBFS_API_KEY", server.api_key)
    job = server.create_job()
    server.put_item(job, "a.txt", b"1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b.txt").write_text("2")
    changes = [("rm", f"{job}:/a.txt"), ("mkdir", f"{job}:/d"), ("push", job, str(tmp_path / "folder"))]
    changes += [("jobs", "start", "--expert", "@jobfs/word-count"), ("jobs", "continue", job, "--query", "more")]
    refused = [in_process(*words) for words in changes]
    assert [outcome.code for outcome in refused] == [1] * 5
    assert all("the profile is read-only" in outcome.err for outcome in refused)
    assert len(json.loads(in_process("jobs", "list", "--json").ok())) == 1
    in_process("sync", job, tmp_path / "folder", "--once").ok()
    assert server.contents(job) == {"a.txt": b"1"}
    assert (tmp_path / "folder" / "a.txt").read_bytes() == b"1"
