"""Services of systemd and launchd, and lines of /etc/fstab."""

from __future__ import annotations

import json
import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import DEADLINE_S, in_process

from jobfs.cli.background import set_up
from jobfs.cli.fstab import NotUnderstood, read
from jobfs.cli.units import Launchd, Systemd, Task, name_of, task_of
from jobfs.errors import JobfsError
from jobfs.fuse.mounting import mount_at
from jobfs.server.running import RunningServer

AWKWARD = 'a b "c" $HOME %h \\ é'

# -- the texts


def task(directory: str = "/srv/job") -> Task:
    return task_of("abc123", directory, is_sync=False, profile="work", options=["--read-only"])


def test_a_unit_mounts_in_the_foreground_and_begins_again_where_that_may_help(tmp_path: Path) -> None:
    lines = Systemd(tmp_path).text(task(), ["/usr/bin/jobfs"]).splitlines()
    words = "mount --foreground --profile work --drain-timeout 30 --read-only -- abc123 /srv/job"
    assert f"ExecStart=/usr/bin/jobfs {words}" in lines
    assert {"Restart=on-failure", "RestartPreventExitStatus=2 3 4 9", "KillMode=mixed"} <= set(lines)


def test_a_folder_is_watched_instead(tmp_path: Path) -> None:
    found = task_of("abc123", "/f", is_sync=True, profile=None, options=[])
    assert found.words == ("sync", "--watch", "--drain-timeout", "30", "--", "abc123", "/f")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit_whatever_the_directory_is_called(tmp_path: Path) -> None:
    manager = Systemd(tmp_path)
    found = task(f"/srv/{AWKWARD}")
    path = tmp_path / f"{found.name}.service"
    path.write_text(manager.text(found, [sys.executable, "-P", "-m", "jobfs"]))
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", path], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert [line for line in done.stderr.splitlines() if found.name in line] == []


def test_launchd_gets_the_same_command(tmp_path: Path) -> None:
    manager = Launchd(tmp_path, 501)
    found = task(f"/srv/{AWKWARD}")
    values = plistlib.loads(manager.text(found, ["/usr/bin/jobfs"]).encode())
    assert values["ProgramArguments"] == ["/usr/bin/jobfs", *found.words]
    assert (values["RunAtLoad"], values["KeepAlive"]) == (True, {"SuccessfulExit": False})
    assert manager.start(found.name) == [
        ["launchctl", "bootstrap", "gui/501", str(tmp_path / "Library" / "LaunchAgents" / f"{found.name}.plist")]
    ]


@pytest.mark.parametrize("directory", ["/a/job", "/a/b/job", "/", f"/{AWKWARD}"])
def test_each_directory_has_a_plain_name_of_its_own(directory: str) -> None:
    others = {name_of(one) for one in ("/a/job", "/a/b/job", "/", f"/{AWKWARD}") if one != directory}
    assert (name_of(directory) in others, name_of(directory).replace("-", "").isalnum()) == (False, True)


# -- the command


@pytest.fixture
def manager(studio: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl that writes down how it was called; somebody has logged in."""
    calls = tmp_path / "calls"
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> "{calls}"\n[ "$2" != is-active ] || echo active\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    in_process("login", "--no-keyring", stdin=studio.api_key.encode()).ok()
    return calls


def units(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "xdg" / "systemd" / "user").glob("*"))


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is of Linux")
def test_a_service_is_written_shown_started_listed_and_removed(
    manager: Path, job: str, tmp_path: Path, studio: RunningServer
) -> None:
    point = tmp_path / "my job"
    told = in_process("service", "install", job, point, "--", "--read-only").ok()
    (unit,) = units(tmp_path)
    written = unit.read_text()
    assert [line.strip() for line in told.splitlines()[1:-1]] == written.splitlines()
    assert (point.is_dir(), "--read-only" in written, studio.api_key in written) == (True, True, False)
    told = manager.read_text().splitlines()
    assert told == ["--user is-system-running", "--user daemon-reload", f"--user enable --now {unit.name}"]
    (listed,) = json.loads(in_process("service", "status", "--json").ok())
    assert listed == {"name": unit.stem, "file": str(unit), "state": "active"}
    assert in_process("service", "remove", point).ok() == f"deleted {unit}\n"
    assert (units(tmp_path), in_process("service", "status").ok()) == ([], "there is no service of jobfs\n")
    assert manager.read_text().splitlines()[-2:] == [f"--user disable --now {unit.name}", "--user daemon-reload"]


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is of Linux")
def test_a_trial_writes_and_runs_nothing(manager: Path, job: str, tmp_path: Path) -> None:
    outcome = in_process("service", "install", job, tmp_path / "m", "--dry-run")
    assert ("ExecStart=" in outcome.ok(), "would run systemctl --user enable --now" in outcome.err) == (True, True)
    assert (units(tmp_path), (tmp_path / "m").exists(), manager.exists()) == ([], False, False)


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is of Linux")
def test_a_service_that_would_find_no_key_is_refused(studio: RunningServer, job: str, tmp_path: Path) -> None:
    outcome = in_process("service", "install", job, tmp_path / "m", "--dry-run")
    assert (outcome.code, "the service would have no key: there is no API key" in outcome.err) == (2, True)
    assert "log in first: jobfs login" in outcome.err


OFFLINE = """#!/bin/sh
echo "$@" >> "{calls}"
case $2 in
    is-system-running) echo offline; exit 1 ;;
    enable|disable) [ $# = 3 ] || { echo "Failed to connect to bus" >&2; exit 1; } ;;
    *) echo "Failed to connect to bus" >&2; exit 1 ;;
esac
"""
"""A systemctl where no systemd of the user runs: it can link units, and nothing else."""


@pytest.fixture
def offline(manager: Path) -> Path:
    (manager.parent / "bin" / "systemctl").write_text(OFFLINE.replace("{calls}", str(manager)))
    return manager


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is of Linux")
def test_without_a_session_a_service_is_enabled_for_the_next_login_and_can_be_removed(
    offline: Path, tmp_path: Path
) -> None:
    systemd = Systemd(tmp_path / "xdg", booted=tmp_path)
    with pytest.raises(JobfsError, match="written and enabled, but not started") as failure:
        set_up(systemd, task(str(tmp_path / "job")))
    assert ("when you log in" in failure.value.remedy, failure.value.exit_code) == (True, 1)
    (unit,) = units(tmp_path)
    assert offline.read_text().splitlines()[1:] == [f"--user enable {unit.name}"]
    assert in_process("service", "remove", tmp_path / "job").ok() == f"deleted {unit}\n"
    assert (units(tmp_path), offline.read_text().splitlines()[-1]) == ([], f"--user disable {unit.name}")


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is of Linux")
def test_where_no_service_would_ever_start_nothing_is_written(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(JobfsError, match="not started by systemd"):
        set_up(Systemd(tmp_path / "xdg", booted=tmp_path / "nothing"), task(str(tmp_path / "job")))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(JobfsError, match="there is no systemctl here"):
        set_up(Systemd(tmp_path / "xdg", booted=tmp_path), task(str(tmp_path / "job")))
    assert (units(tmp_path), (tmp_path / "job").exists()) == ([], False)


def test_removing_a_service_that_is_not_there_is_refused(state_dir: Path, tmp_path: Path) -> None:
    assert in_process("service", "remove", tmp_path).code == 2


# -- /etc/fstab


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("jobfs#abc /m", ["mount", "--", "abc", "/m"]),
        ("abc /m -o rw,_netdev,noauto,x-systemd.automount", ["mount", "--", "abc", "/m"]),
        ("abc /m -o ro,allow_other", ["mount", "--read-only", "--allow-other", "--", "abc", "/m"]),
        ("-n -v abc /m -t jobfs -o profile=work", ["mount", "--profile", "work", "--", "abc", "/m"]),
        ("abc /m -o cache_size=1G,no_fallback", ["mount", "--cache-size", "1G", "--no-fallback", "--", "abc", "/m"]),
        ("-r abc /m", ["mount", "--read-only", "--", "abc", "/m"]),
    ],
)
def test_a_line_of_fstab_becomes_a_command(arguments: str, words: list[str]) -> None:
    assert read(arguments.split()).words == words


def test_a_line_may_name_the_folders_of_another_user() -> None:
    wish = read(["abc", "/m", "-o", "config=/etc/jobfs,state=/var/lib/jobfs"])
    assert wish.environment == {"JOBFS_CONFIG_DIR": "/etc/jobfs", "JOBFS_STATE_DIR": "/var/lib/jobfs"}


@pytest.mark.parametrize(
    "arguments",
    ["abc", "abc /m /n", "abc /m -o", "abc /m -o nonsense", "abc /m -o profile", "abc /m -o ro=1", "a b --x"],
)
def test_what_is_not_understood_is_refused(arguments: str) -> None:
    with pytest.raises(NotUnderstood):
        read(arguments.split())


def helper(*words: object) -> subprocess.CompletedProcess[str]:
    """Call the helper as mount(8) does."""
    call = "from jobfs.cli.fstab import main; main()"
    return subprocess.run(
        [sys.executable, "-P", "-c", call, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@pytest.mark.mount
def test_the_helper_of_mount_mounts(studio: RunningServer, job: str, mount_point: Path) -> None:
    studio.put_item(job, "a.txt", b"1")
    only_checked = helper(f"jobfs#{job}", mount_point, "-f")
    before = mount_at(mount_point)
    done = helper(f"jobfs#{job}", mount_point, "-o", "ro,no_fallback,_netdev")
    assert (only_checked.returncode, before, done.returncode, done.stderr) == (0, None, 0, "")
    found = mount_at(mount_point)
    assert (mount_point / "a.txt").read_bytes() == b"1"
    assert found is not None
    assert found.source == f"jobfs#{job}"  # what mount -a compares with the line


def test_the_helper_ends_with_the_codes_of_mount(studio: RunningServer, job: str, tmp_path: Path) -> None:
    wrong = helper(job, tmp_path, "-o", "nonsense")
    failed = helper("z" * 24, tmp_path / "none", "-o", "no_fallback")
    assert (wrong.returncode, failed.returncode) == (1, 32)
    assert "the option nonsense is not understood" in wrong.stderr
