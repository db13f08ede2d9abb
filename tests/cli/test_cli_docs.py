"""The manual and the page on problems: current, and every command line in them run."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from commands import DEADLINE_S, in_process

from jobfs.cli.app import compose
from jobfs.cli.manual import ENVIRONMENT, man_page, markdown_page
from jobfs.cli.parser import Command, commands, general_options
from jobfs.server.running import RunningServer

app = compose()

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PROBLEMS = (DOCS / "problems.md").read_text(encoding="utf-8")
CONFLICT = "notes (conflict from here 2026-01-02 030405).md"

ELSEWHERE = {"demo": "test_cli_demo.py", "serve": "test_cli_readme.py"}
"""Commands whose examples do not end by themselves, and the tests that run them."""


# -- current


def test_the_manual_is_what_the_commands_say_now() -> None:
    written = [(DOCS / name).read_text(encoding="utf-8") for name in ("jobfs.1", "commands.md")]
    assert written == [man_page(app), markdown_page(app)], "write it anew: scripts/manual"


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_man_shows_the_page_without_a_warning() -> None:
    words = ["man", "--warnings", "--local-file", str(DOCS / "jobfs.1")]
    environment = {**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S, env=environment, check=False)
    text = re.sub(".\b", "", done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert "jobfs mount abc123 ~/job && ls ~/job && jobfs umount ~/job" in text
    assert "--transport auto|kernel|fusepy" in text


def test_every_variable_that_the_program_reads_is_in_the_manual() -> None:
    read = set()
    for path in (ROOT / "src" / "jobfs").rglob("*.py"):
        if "server" not in path.parts:
            read |= set(re.findall(r'"((?:JOBFS|PERSTACK)_[A-Z_]+)"', path.read_text(encoding="utf-8")))
    assert read - {"JOBFS_FUSE_DEVICE"} <= set(ENVIRONMENT)


def test_the_page_answers_ten_problems() -> None:
    numbers = re.findall(r"^## (\d+)\. ", PROBLEMS, re.MULTILINE)
    assert numbers == [str(number) for number in range(1, 11)]


def test_every_command_and_option_on_the_page_is_there() -> None:
    known = {one.name for one in commands(app)}
    named = set(re.findall(r"`jobfs (service \w+|jobs \w+|\w+)", PROBLEMS))
    options = {name for one in commands(app) for option in one.options for name in option.names}
    assert (named - known, set(re.findall(r"`(--[a-z-]+)", PROBLEMS)) - options) == (set(), set())


# -- the picture


def test_the_recorded_session_is_that_of_its_script_and_needs_nothing_else() -> None:
    script = ast.parse((ROOT / "scripts" / "record-session").read_text(encoding="utf-8"))
    (session,) = [
        ast.literal_eval(node.value)
        for node in script.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SESSION"
    ]
    picture = ElementTree.parse(DOCS / "session.svg").getroot()
    rows = [(row.text or "").replace("\N{NO-BREAK SPACE}", " ") for row in picture.findall(".//{*}text")]
    typed = [re.sub(r"\bhttp:[^ ]+", "{url}", row[2:]) for row in rows if row.startswith("$ ")]
    assert typed == session, "record it anew: scripts/record-session"
    assert {one.tag.partition("}")[2] for one in picture.iter()} == {
        *("svg", "title", "rect", "g", "text", "set", "animateTransform")
    }


def test_the_recorded_session_shows_commands_and_options_that_are_there() -> None:
    text = "\n".join(one.text or "" for one in ElementTree.parse(DOCS / "session.svg").getroot().findall(".//{*}text"))
    text = text.replace("\N{NO-BREAK SPACE}", " ")
    named = set(re.findall(r"\bjobfs (jobs \w+|\w+)", text))
    options = {name for one in commands(app) for option in one.options for name in option.names}
    assert named <= {one.name for one in commands(app)}
    assert set(re.findall(r" (--[a-z-]+)", text)) <= options | {"--url"}


# -- run


def bash(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = f'jobfs() {{ "{sys.executable}" -P -m jobfs "$@"; }}\n'
    return subprocess.run(
        ["bash", "-c", f"set -eu -o pipefail\n{command}{script}"],
        cwd=folder,
        env={**os.environ, "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.mount
def test_the_answers_work_one_after_the_other(studio: RunningServer, job: str, tmp_path: Path) -> None:
    studio.put_item(job, "notes.md", b"of the server")
    studio.put_item(job, CONFLICT, b"mine")
    studio.set_status(job, "completed")
    blocks = re.findall(r"```sh\n(.*?)```", PROBLEMS, re.DOTALL)
    script = f'job={job}; mkdir work\njobfs mount "$job" work\n' + "".join(blocks)
    try:
        done = bash(script, tmp_path)
    finally:
        in_process("umount", "--force", tmp_path / "work")
    assert done.returncode == 0, done.stdout + done.stderr
    assert studio.contents(job) == {"notes.md": b"mine"}
    assert (tmp_path / "report.zip").exists()


@pytest.fixture
def home(studio: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody's home directory, who has logged in, with what the examples speak of."""
    home = tmp_path / "home"
    for name in ("job", "data", "notes", "outputs", ".local/share/bash-completion/completions"):
        (home / name).mkdir(parents=True)
    (home / "data" / "a.csv").write_text("a,b\n1,2\n")
    (home / "notes.md").write_text("notes")
    (home / "key.txt").write_text(studio.api_key)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    return home


def filled(studio: RunningServer, *, is_to_run: bool) -> str:
    """Return a job that has stopped, whose workspace holds what the examples speak of.

    :param is_to_run: whether it must be one that can go on.
    """
    job = studio.create_job(hold=not is_to_run)
    if is_to_run:
        in_process("jobs", "wait", job).ok()
    else:
        studio.set_status(job, "completed")
    for path in ("reports/a.csv", "word-count.md", "old-reports/x", "draft.md", "inputs/data.csv", "notes.md"):
        studio.put_item(job, path, b"1")
    return job


WITH_FOLDER = {"umount", "refresh", "push", "logs", "conflicts", "resolve", "service remove", "hold", "diff", "revert"}
WITH_PAST = {"history", "restore", "undelete", "forget"}
EXAMPLES = [command for command in commands(app) if command.name not in ELSEWHERE]


@pytest.mark.mount
@pytest.mark.parametrize("command", EXAMPLES, ids=lambda command: command.name)
def test_the_example_of_each_command_works(
    command: Command, studio: RunningServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = filled(studio, is_to_run=command.name == "jobs continue")
    text = command.example.replace("run_abc123", job).replace("abc123", job)
    text = text.replace("https://studio.example", studio.url)
    if command.name == "resolve":
        studio.put_item(job, CONFLICT, b"mine")
    if command.name in WITH_FOLDER:
        in_process("sync", job, home / "job", "--background").ok()
    if command.name in WITH_PAST:
        _make_past(studio, job, home)
    if command.name.startswith("service"):
        _prepare_service(command, studio, job, home, monkeypatch)
    if command.name == "logout":
        in_process("login", "--no-keyring", "--profile", "work", stdin=studio.api_key.encode()).ok()
    try:
        code, told = _run(text, home)
    finally:
        in_process("umount", "--force", home / "job")
    assert code == 0, told


def _make_past(studio: RunningServer, job: str, home: Path) -> None:
    """Have a version of a file replaced, and a file deleted."""
    in_process("sync", job, home / "job", "--once").ok()
    in_process("put", home / "notes.md", f"{job}:/notes.md").ok()
    in_process("sync", job, home / "job", "--once").ok()
    studio.expert_deletes(job, "reports/a.csv")
    in_process("sync", job, home / "job", "--once").ok()


def _run(text: str, home: Path) -> tuple[int, str]:
    """Run a line: by a shell where it needs one, else in this process, which is quicker."""
    if re.search(r"[<>&|;]", text):
        done = bash(text, home)
        return done.returncode, done.stdout + done.stderr
    outcome = in_process(*(os.path.expanduser(word) for word in shlex.split(text)[1:]))
    return outcome.code, outcome.out + outcome.err


def _prepare_service(
    command: Command, studio: RunningServer, job: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "bin").mkdir()
    (home / "bin" / "systemctl").write_text("#!/bin/sh\necho active\n")
    (home / "bin" / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{home / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    in_process("login", "--no-keyring", stdin=studio.api_key.encode()).ok()
    if command.name == "service remove":
        in_process("service", "install", job, home / "job").ok()


def test_the_examples_that_do_not_end_are_run_elsewhere() -> None:
    assert ELSEWHERE.keys() < {one.name for one in commands(app)}
    assert [name for name in ELSEWHERE.values() if not (Path(__file__).parent / name).exists()] == []


def test_the_commands_and_options_that_other_tools_are_compared_with_exist() -> None:
    known = {command.name: {name for one in command.options for name in one.names} for command in commands(app)}
    everywhere = {name for one in general_options(app) for name in one.names}
    told = re.findall(r"`jobfs ([^`]+)`", (ROOT / "docs" / "coming-from.md").read_text())
    assert len(told) > 20
    for words in map(str.split, told):
        name = next((" ".join(words[:length]) for length in (2, 1) if " ".join(words[:length]) in known), "")
        assert name, words
        assert {word for word in words if word.startswith("--")} <= known[name] | everywhere, words


def test_the_help_says_of_each_command_the_whole_sentence() -> None:
    told = " ".join(in_process("--help").ok().split())
    first = {one.name: one.summary.split(". ")[0].removesuffix(".") for one in commands(app)}
    assert [name for name, sentence in first.items() if " " not in name and sentence not in told] == []
