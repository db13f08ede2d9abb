"""Completion scripts, in the shells themselves where they are installed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
import typer
from awaiting import Requests
from commands import COMMAND, DEADLINE_S, in_process

from jobfs.cli.app import compose
from jobfs.cli.completing import ASK_S
from jobfs.cli.completion import Shell
from jobfs.cli.parser import Command, commands, general_options
from jobfs.server.running import RunningServer
from jobfs.workspace.states import key_of

app = compose()

TRY_BASH = """
source "$1"
compopt() { :; }
complete_for() {
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
    _jobfs
    echo "${COMPREPLY[@]}"
}
"""
_LAST = "''"
"""An empty last word: what is completed after a blank."""

PRESS_TAB = r"""
zmodload zsh/zpty
zpty inner zsh -f -i
zpty -w inner "PS1= fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -d $1/dump; bindkey '^I' complete-word"
zpty -w inner "show() { print -r -- \"<\$BUFFER>\"; BUFFER=; zle accept-line }; zle -N show; bindkey '^X' show"
zpty -w inner 'print READY-$((1 + 1))'
zpty -r -m inner told '*READY-2*'
for line in 'jobfs moun' 'jobfs --prof' 'jobfs jobs cont'; do
    zpty -w -n inner "$line"$'\t\x18'
    zpty -r -m inner told '*<jobfs*>*'
    print -r -- "<${${told##*<}%%>*}>"
done
zpty -d inner
"""

CASES = [
    ("jobfs mou", {"mount"}),
    ("jobfs jobs st", {"start"}),
    ("jobfs jobs ", {"list", "show", "start", "continue", "wait"}),
    ("jobfs service ", {"install", "remove", "status"}),
    ("jobfs mount --tr", {"--transport"}),
    ("jobfs mount --transport ", {"auto", "kernel", "fusepy"}),
    ("jobfs mount a b --conf", {"--conflict"}),
    ("jobfs completion z", {"zsh"}),
    ("jobfs --prof", {"--profile"}),
    ("jobfs jobs wait --pu", {"--pull"}),
]


def installed(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    return found


@pytest.fixture
def script(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "script"
    path.write_text(in_process("completion", request.param).ok())
    return path


@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash_completes(script: Path, tmp_path: Path) -> None:
    tries = "".join(f"complete_for {typed} {_LAST if typed.endswith(' ') else ''}\n" for typed, _ in CASES)
    words = [installed("bash"), "-c", TRY_BASH + tries, "try", str(script)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    found = [set(line.split()) - {"script"} for line in done.stdout.splitlines()]
    assert (done.stderr, found) == ("", [expected for _, expected in CASES])


@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash_completes_files_where_a_command_takes_them(script: Path, tmp_path: Path) -> None:
    (tmp_path / "my folder").mkdir()
    words = [installed("bash"), "-c", f"{TRY_BASH}complete_for jobfs umount my", "try", str(script)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.stdout == "my folder\n"


@pytest.mark.parametrize("script", ["fish"], indirect=True)
def test_fish_completes(script: Path, tmp_path: Path) -> None:
    tries = "".join(f"echo (complete -C '{typed}' | string replace -r '\\t.*' '')\n" for typed, _ in CASES)
    words = [installed("fish"), "--no-config", "-c", f"source {script}\n{tries}"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert [set(line.split()) for line in done.stdout.splitlines()] == [expected for _, expected in CASES]


@pytest.mark.parametrize("script", ["zsh"], indirect=True)
def test_zsh_completes_when_tab_is_pressed(script: Path, tmp_path: Path) -> None:
    script.rename(tmp_path / "_jobfs")
    told = subprocess.run(
        [installed("zsh"), "-f", "-c", PRESS_TAB, "zsh", tmp_path],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env={**os.environ, "TERM": "dumb"},
    )
    lines = told.stdout.splitlines()
    assert lines == ["<jobfs mount >", "<jobfs --profile >", "<jobfs jobs continue >"], told


@pytest.mark.parametrize("script", ["zsh"], indirect=True)
@pytest.mark.parametrize("prepared", ["autoload -Uz compinit; compinit -u -d $1/dump;", ""], ids=["compinit", "bare"])
def test_zsh_completes_after_the_script_was_read_by_source(script: Path, tmp_path: Path, prepared: str) -> None:
    """As other programs have it: 'source <(PROGRAM completion zsh)' in .zshrc."""
    script.rename(tmp_path / "script")
    press = re.sub(r"PS1= fpath.*?dump;", lambda _: f"PS1= ZDOTDIR=$1; {prepared} source $1/script;", PRESS_TAB)
    told = subprocess.run(
        [installed("zsh"), "-f", "-c", press, "zsh", tmp_path],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env={**os.environ, "TERM": "dumb", "HOME": str(tmp_path)},
    )
    assert told.stdout.splitlines() == ["<jobfs mount >", "<jobfs --profile >", "<jobfs jobs continue >"], told


@pytest.mark.parametrize("script", ["zsh"], indirect=True)
def test_zsh_reads_its_script(script: Path) -> None:
    done = subprocess.run([installed("zsh"), "-n", script], capture_output=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


# -- what is asked for


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A jobfs that shells find."""
    program = tmp_path / "bin" / "jobfs"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.fixture
def folder(job: str, tmp_path: Path) -> Path:
    """A folder that was in step."""
    in_process("sync", job, tmp_path / "my folder", "--once").ok()
    return tmp_path / "my folder"


@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash_offers_jobs_and_folders(job: str, folder: Path, program: None, script: Path) -> None:
    tries = f"complete_for jobfs jobs show ''\ncomplete_for jobfs push {folder.parent}/my"
    words = [installed("bash"), "-c", TRY_BASH + tries, "try", str(script)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    jobs, folders = done.stdout.splitlines()
    assert (job in jobs.split(), str(folder) in folders, done.stderr) == (True, True, "")


@pytest.mark.parametrize("script", ["fish"], indirect=True)
def test_fish_offers_jobs_and_folders_and_says_what_they_are(
    job: str, folder: Path, program: None, script: Path
) -> None:
    tries = f"complete -C 'jobfs mount {job[:6]}'; complete -C 'jobfs push {folder.parent}/my'"
    words = [installed("fish"), "--no-config", "-c", f"source {script}; {tries}"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    offers = [line.split("\t") for line in done.stdout.splitlines()]
    assert [job, "queued Go"] in offers
    assert [str(folder), f"folder of {job}"] in offers


@pytest.mark.parametrize("script", ["zsh"], indirect=True)
def test_zsh_offers_jobs_and_folders(job: str, folder: Path, program: None, script: Path, tmp_path: Path) -> None:
    script.rename(tmp_path / "_jobfs")
    lines = f"for line in 'jobfs mount {job[:6]}' 'jobfs push {tmp_path}/my'; do"
    told = subprocess.run(
        [installed("zsh"), "-f", "-c", re.sub(r"for line in .*; do", lambda _: lines, PRESS_TAB), "zsh", tmp_path],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env={**os.environ, "TERM": "dumb"},
    )
    assert told.stdout.replace(" >", ">").splitlines() == [
        f"<jobfs mount {job}>",
        f"<jobfs push {tmp_path}/my\\ folder>",
    ], told


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["mount"], {"job"}),
        (["mount", "--transport", "kernel"], {"job"}),
        (["mount", "--transport"], set()),
        (["mount", "abc"], set()),
        (["ls"], {"job"}),
        (["rm", "abc:/a"], {"job"}),
        (["outputs"], {"job"}),
        (["umount"], {"folder"}),
        (["push"], {"job", "folder"}),
        (["forget"], {"job", "folder"}),
        (["service", "remove"], {"folder"}),
        (["jobs", "wait"], {"job"}),
        (["serve"], set()),
        (["--debug", "umount"], {"folder"}),
        (["nonsense"], set()),
        ([], set()),
    ],
    ids=lambda value: " ".join(sorted(value)),
)
def test_what_is_offered_is_what_may_come_there(job: str, folder: Path, words: list[str], offered: set[str]) -> None:
    told = {line.partition("\t")[0] for line in in_process("completing", *words).ok().splitlines()}
    assert told & {job, str(folder)} == {{"job": job, "folder": str(folder)}[one] for one in offered}


def test_the_server_is_asked_once_a_minute_and_no_failure_is_told(
    studio: RunningServer, job: str, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(requests)
    for _ in range(3):
        assert job in in_process("completing", "mount").ok()
    assert len(requests) == before + 1
    monkeypatch.setenv("JOBFS_API_KEY", "psk_wrong")
    failed = in_process("completing", "mount")
    monkeypatch.delenv("JOBFS_API_KEY")
    without = in_process("completing", "mount")
    assert [(one.code, one.out, one.err) for one in (failed, without)] == [(0, "", "")] * 2


def test_a_server_that_does_not_answer_is_not_waited_for(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("JOBFS_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began_s = time.monotonic()
        assert in_process("completing", "mount").ok() == ""
        assert time.monotonic() - began_s < 2 * ASK_S


def test_an_id_that_a_shell_would_run_is_not_offered(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBFS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("JOBFS_API_KEY", "k")
    listed = state_dir / "completions" / f"jobs-{key_of('http://127.0.0.1:9', 'k')}.json"
    listed.parent.mkdir(parents=True)
    listed.write_text(json.dumps([("$(reboot)", "x"), ("a b", "x"), ("plain-1", "x\x1b[2J")]))
    assert in_process("completing", "mount").ok() == "plain-1\tx\\x1b[2J\n"


# -- the commands as values


@pytest.mark.parametrize("command", list(commands(app)), ids=lambda command: command.name)
def test_every_command_is_known_as_its_help_shows_it(command: Command) -> None:
    name, options = command.name, command.options
    text = in_process(*name.split(), "--help").ok()
    told = {word for line in text.split("\nOptions:")[1].splitlines() for word in option_words(line)}
    assert {one for option in options for one in option.names} | {"-h", "--help"} == told
    assert f"Example: {command.example}"[:40] in " ".join(text.split())


def option_words(line: str) -> list[str]:
    """Return the names at the beginning of a line of help on an option."""
    head = re.match(r"  (-[^ ,/]+(?:(?:, | / |/)-[^ ,/]+)*)", line)
    return re.split(r", | / |/", head[1]) if head else []


def test_the_general_options_are_those_of_the_help() -> None:
    text = in_process("--help").ok()
    told = {word for line in text.split("\nOptions:")[1].splitlines() for word in option_words(line)}
    assert {name for one in general_options(app) for name in one.names} | {"-h", "--help"} == told


def test_every_command_and_option_says_what_it_is_for() -> None:
    silent = [one.name for one in commands(app) if not one.summary or not one.example.startswith("jobfs ")]
    unhelpful = [
        f"{one.name} {parameter.names[0]}"
        for one in commands(app)
        for parameter in (*one.options, *one.arguments)
        if not parameter.help
    ]
    assert (silent, unhelpful) == ([], [])


@pytest.mark.parametrize("shell", Shell)
def test_a_script_names_every_command_and_option(shell: Shell) -> None:
    text = in_process("completion", shell).ok()
    names = {name.lstrip("-") for one in commands(app) for option in one.options for name in option.names}
    assert [name for name in sorted(names | {one.name.split()[-1] for one in commands(app)}) if name not in text] == []


def test_an_app_of_no_commands_has_none() -> None:
    assert (list(commands(typer.Typer())), general_options(typer.Typer())) == ([], ())
