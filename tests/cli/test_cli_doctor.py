"""What ``jobfs doctor`` finds, of machines good and bad, and of every kind of server."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from commands import in_process

from jobfs.api.transport import Transport
from jobfs.cli.abilities import apply, recall, remember
from jobfs.cli.checks import (
    Finding,
    Verdict,
    check_allow_other,
    check_device,
    check_folder,
    check_helper,
    check_inotify,
    check_kernel,
    check_library,
    machine_findings,
)
from jobfs.cli.probes import probing
from jobfs.cli.reach import check_clock
from jobfs.server.running import RunningServer
from jobfs.server.switches import Switches
from jobfs.store.state import State


def verdict(finding: Finding) -> tuple[Verdict, bool]:
    """Return how it is, and whether it is said what to do."""
    return finding.verdict, bool(finding.remedy)


BAD = (Verdict.FAILED, True)
GOOD = (Verdict.OK, False)

# -- this machine


def test_a_device_is_looked_at_as_the_mount_will(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = [check_device(tmp_path / "none"), check_device(tmp_path / "file"), check_device(Path("/dev/null"))]
    assert [verdict(one) for one in found] == [BAD, BAD, GOOD]


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("6.1.0-18-amd64", GOOD),
        ("5.4.0", GOOD),
        ("5.3.18", (Verdict.WARNING, True)),
        ("4.19.0", (Verdict.WARNING, True)),
        ("strange", (Verdict.NOTE, True)),
    ],
)
def test_an_old_kernel_is_sent_to_the_portable_transport(release: str, expected: tuple[Verdict, bool]) -> None:
    assert verdict(check_kernel(release)) == expected


def test_the_helper_is_needed_by_ordinary_users_and_must_run_as_root(tmp_path: Path) -> None:
    path = tmp_path / "fusermount3"
    path.touch(mode=0o755)
    plain = verdict(check_helper(str(path), is_root=False))
    path.chmod(0o4755)
    assert (plain, verdict(check_helper(str(path), is_root=False))) == (BAD, GOOD)
    assert verdict(check_helper(None, is_root=False)) == BAD
    assert verdict(check_helper(None, is_root=True)) == (Verdict.NOTE, True)


def test_a_library_is_needed_only_where_there_is_no_native_transport() -> None:
    found = [check_library(lambda name: None, is_linux=is_linux) for is_linux in (True, False)]
    assert [verdict(one) for one in found] == [(Verdict.NOTE, True), BAD]
    assert verdict(check_library({"fuse": "libfuse.2"}.get, is_linux=False)) == GOOD


def test_other_users_are_let_in_where_the_machine_allows_it(tmp_path: Path) -> None:
    path = tmp_path / "fuse.conf"
    path.write_text("# user_allow_other\n")
    refused = verdict(check_allow_other(path, is_root=False))
    path.write_text("mount_max = 9\nuser_allow_other\n")
    assert (refused, verdict(check_allow_other(path, is_root=False))) == ((Verdict.NOTE, True), GOOD)


def test_few_watches_are_a_warning_with_the_command_that_gives_more(tmp_path: Path) -> None:
    (tmp_path / "max_user_watches").write_text("8192\n")
    (tmp_path / "max_user_instances").write_text("128\n")
    watches, instances = check_inotify(tmp_path)
    assert (watches.verdict, "sysctl fs.inotify.max_user_watches=524288" in watches.remedy) == (Verdict.WARNING, True)
    assert verdict(instances) == GOOD


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert verdict(check_folder("state folder", tmp_path / "file" / "a" / "b")) == BAD


def test_a_folder_that_others_can_write_is_a_warning_and_a_missing_one_is_none(tmp_path: Path) -> None:
    open_one = tmp_path / "open"
    open_one.mkdir()
    open_one.chmod(0o777)
    found = [check_folder("x", path) for path in (open_one, tmp_path / "a" / "b")]
    assert [verdict(one) for one in found] == [(Verdict.WARNING, True), GOOD]


def test_looking_at_the_machine_changes_nothing(state_dir: Path, tmp_path: Path) -> None:
    found = list(machine_findings())
    assert (len(found) > 5, list(tmp_path.iterdir())) == (True, [])
    assert [one for one in found if one.verdict in (Verdict.WARNING, Verdict.FAILED) and not one.remedy] == []


# -- the server


@pytest.mark.parametrize(
    ("apart_s", "expected"),
    [(0, Verdict.OK), (59, Verdict.OK), (-50, Verdict.OK), (3600, Verdict.WARNING), (-3600, Verdict.WARNING)],
)
def test_a_clock_that_is_a_minute_wrong_is_a_warning(apart_s: float, expected: Verdict) -> None:
    found = check_clock(formatdate(1_000_000, usegmt=True), 1_000_000 + apart_s)
    assert found.verdict is expected


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_a_server_without_a_clock_is_no_fault(date: str) -> None:
    assert check_clock(date, 0.0).verdict is Verdict.NOTE


def report(*words: str) -> dict[str, dict[str, str]]:
    outcome = in_process("doctor", "--json", *words)
    found: list[dict[str, str]] = json.loads(outcome.out)
    return {one["what"]: one for one in found}


def test_a_good_server_is_told_with_its_time(studio: RunningServer) -> None:
    found = report()
    assert {what: found[what]["verdict"] for what in ("server", "key", "clock", "abilities")} == {
        "server": "ok",
        "key": "ok",
        "clock": "ok",
        "abilities": "note",
    }
    assert f"{studio.url} answers in " in found["server"]["detail"]


def test_a_wrong_key_is_told_from_a_dead_server(studio: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBFS_API_KEY", "wrong")
    wrong = report()
    monkeypatch.setenv("JOBFS_URL", "http://127.0.0.1:1")
    dead = report()
    assert (wrong["server"]["verdict"], wrong["key"]["verdict"], bool(wrong["key"]["remedy"])) == ("ok", "failed", True)
    assert (dead["server"]["verdict"], "key" in dead) == ("failed", False)


def test_a_system_key_in_place_of_the_api_key_is_told(studio: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBFS_API_KEY", studio.system_key)
    assert report()["key"]["verdict"] == "failed"


def test_without_a_key_the_rest_is_checked_all_the_same(state_dir: Path) -> None:
    outcome = in_process("doctor")
    assert (outcome.code, "\nfailed   key: there is no API key\n" in outcome.out) == (1, True)
    assert "           next: log in once: jobfs login" in outcome.out


def test_offline_nobody_is_asked(studio: RunningServer) -> None:
    studio.clear_requests()
    assert "server" not in report("--offline")
    assert studio.requests == []


# -- probes

DOCUMENTED = {
    "create_existing": "error",
    "dir_move": "cascade",
    "bytes": "exact",
    "find_mode": "exact",
    "leading_slash": "strip",
    "range": "ignore",
    "delete_body": "json",
    "content_update": "off",
    "readonly": "advisory",
    "unknown_job_list": "404",
}

OTHERS: list[dict[str, Any]] = [
    {"create_existing": "duplicate"},
    {"create_existing": "replace"},
    {"dir_move": "orphan"},
    {"find_mode": "prefix"},
    {"find_mode": "glob"},
    {"leading_slash": "keep"},
    {"leading_slash": "reject"},
    {"range": "honour"},
    {"delete_body": "empty"},
    {"delete_body": "no_content"},
    {"content_update": "on"},
    {"readonly": "enforced"},
    {"unknown_job_list": "empty"},
]


def probed(server: RunningServer, job: str) -> dict[str, str]:
    async def ask() -> dict[str, str]:
        async with Transport(server.url, server.api_key) as transport, probing(transport, job) as probe:
            return {name: await answer() for name, answer in probe.probes().items()}

    return asyncio.run(ask())


@pytest.mark.parametrize("switches", [{}, *OTHERS], ids=str)
def test_every_ability_of_a_server_is_found_out_and_nothing_is_left_there(
    studio: RunningServer, job: str, switches: dict[str, Any]
) -> None:
    studio.put_item(job, "mine.txt", b"1")
    before = studio.switches
    studio.switches = replace(Switches(), **switches)
    try:
        assert probed(studio, job) == {**DOCUMENTED, **switches}
        assert studio.contents(job) == {"mine.txt": b"1"}
    finally:
        studio.switches = before


def test_what_was_probed_is_remembered_and_told_and_a_workspace_takes_it_over(
    studio: RunningServer, job: str, state_dir: Path, tmp_path: Path
) -> None:
    found = report("--probe", job)
    assert {name: found[f"probe {name}"]["detail"] for name in DOCUMENTED} == DOCUMENTED
    assert recall(state_dir, studio.url) == DOCUMENTED
    assert "dir_move=cascade" in report()["abilities"]["detail"]
    in_process("sync", job, tmp_path / "folder", "--background").ok()
    in_process("umount", tmp_path / "folder").ok()
    (database,) = state_dir.glob("workspaces/*/state.db")
    with sqlite3.connect(database) as connection:
        rows = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('dir_move', 'range')"))
    connection.close()
    assert rows == {"dir_move": "cascade", "range": "ignore"}


def test_what_a_workspace_has_learnt_itself_is_kept(tmp_path: Path) -> None:
    remember(tmp_path, "http://a.example", {"dir_move": "cascade", "range": "honour", "bytes": "exact"})
    state = State.open(tmp_path / "state")
    with state.transaction():
        state.remember("range", "ignore")
    apply(state, tmp_path, "http://a.example")
    found = {name: state.setting(name) for name in ("dir_move", "range", "bytes")}
    state.close()
    assert found == {"dir_move": "cascade", "range": "ignore", "bytes": None}


@pytest.mark.parametrize("text", ["", "[]", '{"settings": 3}', "\x00"])
def test_what_was_remembered_and_cannot_be_read_is_as_if_nobody_had_probed(tmp_path: Path, text: str) -> None:
    path = remember(tmp_path, "http://a.example", {"range": "honour"})
    path.write_text(text)
    assert recall(tmp_path, "http://a.example") == {}


def test_probing_a_job_that_is_not_there_is_a_failed_check(studio: RunningServer) -> None:
    outcome = in_process("doctor", "--probe", "z" * 24)
    assert (outcome.code, "failed   job: job zzzzzzzzzzzzzzzzzzzzzzzz: not found on the server" in outcome.out) == (
        1,
        True,
    )
