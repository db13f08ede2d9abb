"""The README's own commands, run as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import COMMAND, in_process

from jobfs.cli.failures import EXIT_CODES
from jobfs.server.running import RunningServer

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
STEPS = [block for block in SHELL if "$job" in block]


def test_the_first_block_is_the_two_commands_and_both_are_there() -> None:
    words = [line.split()[0] for line in SHELL[0].splitlines()]
    assert words == ["scripts/demo", "scripts/test"]
    assert [os.access(ROOT / word, os.X_OK) for word in words] == [True, True]


def test_the_table_of_exit_codes_is_the_one_of_the_program() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", README, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES


def test_every_command_that_the_readme_names_is_there(state_dir: Path) -> None:
    named = set(re.findall(r"\bjobfs (jobs \w+|\w+)", " ".join(re.findall(r"`([^`]+)`", README, re.DOTALL))))
    commands = {name for name in named if not name.startswith("shows")}
    missing = [name for name in sorted(commands) if in_process(*name.split(), "--help").code != 0]
    assert (len(commands) > 15, missing) == (True, [])


def test_every_option_that_the_readme_names_is_there(state_dir: Path) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) - {"--keep", "--from"}
    helps = "".join(
        in_process(*words, "--help").ok()
        for words in (
            (),
            ("mount",),
            ("sync",),
            ("serve",),
            ("fsck",),
            ("find",),
            ("ls",),
            ("jobs", "start"),
            ("jobs", "wait"),
            ("service", "install"),
            ("status",),
            ("restore",),
            ("diff",),
            ("hold",),
        )
    )
    helps += in_process("jobs", "continue", "--help").ok()
    assert [option for option in sorted(named) if option not in helps] == []


@pytest.mark.mount
def test_the_steps_of_the_readme_succeed_one_after_the_other(server: RunningServer, tmp_path: Path) -> None:
    """Somebody new, without settings: the block on logging in, then every block that speaks of a job."""
    (tmp_path / "README.md").write_text(README)
    (login,) = [block for block in SHELL if block.startswith("jobfs login")]
    login = login.replace("https://studio.example", server.url)
    command = f'jobfs() {{ "{sys.executable}" -P -m jobfs "$@"; }}\n'
    end = "trap 'jobfs umount work 2>&1 || true' EXIT\n"
    script = "set -eu\n" + command + login + end + "".join(STEPS)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), **own_folders(tmp_path)},
        input=f"{server.api_key}\n",
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = set(re.findall(r"^(\w{24}) is mounted on", done.stdout, re.MULTILINE))
    held = server.contents(job)
    assert b"everyday" in (held["README.md"] or b"")
    assert b"README.md" in (held["word-count.md"] or b"")


def own_folders(folder: Path) -> dict[str, str]:
    names = ("CONFIG", "STATE")
    return {f"JOBFS_{name}_DIR": str(folder / name.lower()) for name in names} | {
        "XDG_CONFIG_HOME": str(folder / "xdg"),
    }


def test_every_block_of_the_readme_is_run_by_a_test() -> None:
    elsewhere = ("scripts/demo ", "pip install .", "jobfs login ", "jobfs serve ")
    left = [block for block in SHELL if block not in STEPS and not block.startswith(elsewhere)]
    assert left == []


def test_the_server_of_the_readme_serves_and_shows_its_keys(state_dir: Path, tmp_path: Path) -> None:
    (block,) = [block for block in SHELL if block.startswith("jobfs serve ")]
    words = shlex.split(block.replace("8787", "0"))[1:]
    with subprocess.Popen([*COMMAND, *words], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        told = [next(serving.stdout).split()[0] for _ in range(3)]
        serving.terminate()
        serving.wait(60)
    assert (told[0], (tmp_path / "studio").is_dir()) == ("serving", True)
