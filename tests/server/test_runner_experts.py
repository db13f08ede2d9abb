"""Experts as ``experts.toml`` tells them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from jobfs.errors import SettingsError
from jobfs.server.experts import DEFAULT_MAX_FILES, DEFAULT_TIMEOUT_S, Expert, Experts, parse
from jobfs.server.registry import ExpertInfo


def write(folder: Path, text: str) -> None:
    path = folder / "experts.toml"
    path.write_text(text, encoding="utf-8")
    # Two writes within one tick of the file system's clock would look alike; a new time makes the second one seen.
    tick = path.stat().st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(tick, tick))


def test_without_a_file_the_built_in_experts_are_there() -> None:
    experts = Experts(Path("/nowhere/at/all"))
    assert experts.names() == ["@jobfs/csv-profile", "@jobfs/word-count"]


def test_a_file_adds_experts_with_all_their_settings(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        [experts."@acme/full"]
        command = ["run", "{query}", "{files}"]
        description = "Does it."
        timeout_s = 2.5
        max_files = 7
        environment = { MODE = "fast" }
        [experts.short]
        command = "echo 'two words'"
        """,
    )
    experts = Experts(tmp_path)
    assert experts.names() == ["@acme/full", "@jobfs/csv-profile", "@jobfs/word-count", "short"]
    assert experts.get("@acme/full") == Expert(
        "@acme/full", ("run", "{query}", "{files}"), "Does it.", 2.5, 7, {"MODE": "fast"}
    )
    assert experts.get("short") == Expert(
        "short", ("echo", "two words"), "Runs echo.", DEFAULT_TIMEOUT_S, DEFAULT_MAX_FILES
    )
    assert experts.lookup("@acme/full") == ExpertInfo("@acme/full", "Does it.", "Does it.")


def test_an_unknown_expert_is_none(tmp_path: Path) -> None:
    experts = Experts(tmp_path)
    assert (experts.get("@acme/x"), experts.lookup("@acme/x")) == (None, None)


def test_an_own_expert_takes_the_place_of_a_built_in_one(tmp_path: Path) -> None:
    write(tmp_path, '[experts."@jobfs/word-count"]\ncommand = "wc"')
    expert = Experts(tmp_path).get("@jobfs/word-count")
    assert expert is not None
    assert expert.command == ("wc",)


def test_a_changed_file_is_read_again_and_a_removed_one_forgotten(tmp_path: Path) -> None:
    experts = Experts(tmp_path)
    write(tmp_path, '[experts.one]\ncommand = "a"')
    assert "one" in experts.names()
    (tmp_path / "experts.toml").unlink()
    assert "one" not in experts.names()


def test_a_running_server_keeps_what_it_knew_when_the_file_breaks(tmp_path: Path, expected_logs: Any) -> None:
    expected_logs.expect("experts.toml cannot be read.*going on with the experts known before")
    write(tmp_path, '[experts.one]\ncommand = "a"')
    experts = Experts(tmp_path)
    (tmp_path / "experts.toml").write_text("[experts.one", encoding="utf-8")
    assert experts.get("one") == Expert("one", ("a",), "Runs a.")


def test_a_broken_file_stops_a_server_at_its_start(tmp_path: Path) -> None:
    write(tmp_path, "[experts.one")
    with pytest.raises(SettingsError, match="cannot be read"):
        Experts(tmp_path)


@pytest.mark.parametrize(
    ("document", "cause"),
    [
        ({"@me/slow": {"command": "a"}}, "no such setting: @me/slow"),
        ({"experts": []}, "experts must be tables"),
        ({"experts": {"x": 1}}, "experts must be tables"),
        ({"experts": {"Big": {"command": "a"}}}, "no expert name"),
        ({"experts": {"x": {}}}, "command must be"),
        ({"experts": {"x": {"command": []}}}, "command must be"),
        ({"experts": {"x": {"command": ["a", 1]}}}, "command must be"),
        ({"experts": {"x": {"command": "a 'b"}}}, "command must be"),
        ({"experts": {"x": {"command": "a", "timeout": 3}}}, "no such setting: timeout"),
        ({"experts": {"x": {"command": "a", "timeout_s": 0}}}, "timeout_s must be"),
        ({"experts": {"x": {"command": "a", "timeout_s": True}}}, "timeout_s must be"),
        ({"experts": {"x": {"command": "a", "max_files": "many"}}}, "max_files must be"),
        ({"experts": {"x": {"command": "a", "environment": {"A": 1}}}}, "environment must be"),
    ],
)
def test_a_wrong_setting_is_named(document: dict[str, Any], cause: str) -> None:
    with pytest.raises(SettingsError, match=cause):
        parse(document)


def test_query_and_files_take_the_place_of_their_marks_as_whole_arguments() -> None:
    expert = Expert("x", ("run", "{query}", "--in={query}", "{files}"), "")
    assert expert.arguments("a b; c", ("1 2", "3")) == ["run", "a b; c", "--in={query}", "1 2", "3"]


def test_the_built_in_experts_run_with_this_very_python() -> None:
    expert = Experts(Path("/nowhere/at/all")).get("@jobfs/word-count")
    assert expert is not None
    assert expert.command == (sys.executable, "-P", "-m", "jobfs.server.builtin.word_count")
