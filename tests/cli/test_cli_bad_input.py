"""Whatever is wrong, one clear message, the documented code, no traceback, and nothing lost."""

from __future__ import annotations

import errno
import re
import socket
import subprocess
from pathlib import Path

import pytest
from commands import COMMAND, as_process, in_process

from jobfs import __version__, errors
from jobfs.cli.app import COMMANDS
from jobfs.cli.failures import ELSEWHERE, EXIT_CODES, of_local_file
from jobfs.server.faults import Fault, Faults
from jobfs.server.running import RunningServer

EVERY_KIND = [("ls", "JOB"), ("cat", "JOB:/a"), ("jobs", "show", "JOB"), ("jobs", "wait", "JOB"), ("rm", "JOB:/a")]


def is_clear(err: str) -> bool:
    lines = err.splitlines()
    return 1 <= len(lines) <= 3 and lines[0].startswith("jobfs: ") and "Traceback" not in err


def filled(words: tuple[str, ...], job: str) -> list[str]:
    return [word.replace("JOB", job) for word in words]


@pytest.mark.parametrize("words", EVERY_KIND)
def test_a_wrong_key(studio: RunningServer, job: str, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    monkeypatch.setenv("JOBFS_API_KEY", "jobfs_k_wrong")
    outcome = in_process(*filled(words, job))
    assert (outcome.code, is_clear(outcome.err), "jobfs_k_wrong" in outcome.err) == (3, True, False)


@pytest.mark.parametrize("words", EVERY_KIND)
def test_an_unknown_job(studio: RunningServer, words: tuple[str, ...]) -> None:
    outcome = in_process(*filled(words, "a" * 24))
    assert (outcome.code, is_clear(outcome.err)) == (4, True)


@pytest.mark.parametrize("words", [("ls", "report.md"), ("jobs", "show", "42")])
def test_what_is_no_id_of_a_job_points_at_the_list_of_jobs(studio: RunningServer, words: tuple[str, ...]) -> None:
    outcome = in_process(*words)
    assert (outcome.code, is_clear(outcome.err)) == (1, True)
    assert outcome.err.splitlines()[1] == "  next: check the id; see jobfs jobs list"


def test_an_unknown_expert(studio: RunningServer) -> None:
    outcome = in_process("jobs", "start", "--expert", "@nobody/nothing", "--query", "x")
    assert (outcome.code, is_clear(outcome.err), "next: check the expert's name" in outcome.err) == (4, True, True)


def test_a_directory_where_the_job_belongs(
    studio: RunningServer, job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path)
    outcome = in_process("mount", "work", job)
    assert (outcome.code, f"jobfs mount {job} work" in outcome.err) == (2, True)


@pytest.mark.parametrize("words", [EVERY_KIND[0]])
def test_a_dead_server(studio: RunningServer, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("JOBFS_URL", f"http://127.0.0.1:{port}")
    outcome = in_process(*filled(words, "a" * 24))
    assert (outcome.code, is_clear(outcome.err)) == (5, True)


def test_a_server_that_fails(studio: RunningServer, job: str) -> None:
    studio.faults = Faults((Fault("error_before", status=400),))
    try:
        outcome = in_process("ls", job)
    finally:
        studio.faults = Faults()
    assert (outcome.code, is_clear(outcome.err)) == (1, True)


@pytest.mark.parametrize("url", ["http://studio.example", "ftp://127.0.0.1", "nonsense", "http://127.0.0.1:1/?q"])
def test_an_address_that_cannot_be_used(studio: RunningServer, url: str) -> None:
    outcome = in_process("--url", url, "jobs", "list")
    assert (outcome.code, is_clear(outcome.err)) == (2, True)


def test_an_address_that_is_something_else(studio: RunningServer) -> None:
    outcome = in_process("--url", f"{studio.url}/docs", "jobs", "list")
    assert outcome.code in (4, 5)
    assert is_clear(outcome.err)


def test_no_key(studio: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBFS_API_KEY")
    outcome = in_process("jobs", "list")
    assert (outcome.code, outcome.err) == (
        2,
        "jobfs: there is no API key\n"
        "  next: log in once: jobfs login; or set JOBFS_API_KEY, "
        "or name a file that holds the key with --api-key-file\n",
    )


@pytest.mark.parametrize("words", [("nonsense",), ("ls",), ("ls", "a", "b"), ("ls", "--nonsense", "a"), ("jobs", "x")])
def test_a_command_line_that_is_not_understood(state_dir: Path, words: tuple[str, ...]) -> None:
    assert in_process(*words).code == 2


def test_a_traceback_comes_with_debug_only(studio: RunningServer) -> None:
    plain = in_process("ls", "a" * 24)
    debug = in_process("ls", "a" * 24, "--debug")
    assert ("Traceback" in plain.err, "Traceback" in debug.err) == (False, True)
    assert studio.api_key not in debug.err


@pytest.mark.parametrize(
    ("place", "code"), [("missing", 6), ("file", 6), ("full", 6)], ids=["missing", "a file", "not empty"]
)
@pytest.mark.mount
def test_a_mount_point_that_cannot_be_used(
    studio: RunningServer, job: str, tmp_path: Path, place: str, code: int
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("still here")
    outcome = as_process("mount", job, tmp_path / place)
    assert (outcome.code, is_clear(outcome.err)) == (code, True), outcome.err
    assert (tmp_path / "full" / "precious").read_text() == "still here"


@pytest.mark.parametrize("command", [("umount",), ("refresh",), ("push",), ("fsck",), ("conflicts",)])
def test_a_directory_where_nothing_is_mounted(state_dir: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    outcome = in_process(*command, tmp_path)
    assert (outcome.code, is_clear(outcome.err)) == (6, True)


def test_every_code_of_an_error_is_documented() -> None:
    codes = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.JobfsError)
    }
    assert codes - EXIT_CODES.keys() == set()


def test_the_help_shows_every_exit_code(state_dir: Path) -> None:
    text = " ".join(in_process("--help").ok().split())
    assert [code for code, meaning in EXIT_CODES.items() if f"{code} {meaning}" not in text] == []


def test_every_command_has_an_example_in_its_help(state_dir: Path) -> None:
    def commands(*group: str) -> list[tuple[str, ...]]:
        listing = in_process(*group, "--help").ok().partition("Commands:\n")[2]
        return [(*group, name) for name in re.findall(r"^  (\w+)  ", listing, re.MULTILINE)]

    every = [*commands(), *commands("jobs")]
    silent = [words for words in every if "Example: jobfs " not in in_process(*words, "--help").ok()]
    assert (len(every) > 20, silent) == (True, [])


def test_the_version(state_dir: Path) -> None:
    assert in_process("--version").ok() == f"jobfs {__version__}\n"


def test_a_full_disk(studio: RunningServer, job: str) -> None:
    studio.put_item(job, "large", b"x" * 300_000)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, "cat", f"{job}:/large"], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert (done.returncode, done.stderr.decode()) == (
        8,
        "jobfs: No space left on device\n  next: free some disk space and try again; nothing that was saved is lost\n",
    )


def test_a_full_disk_has_one_code_wherever_it_shows() -> None:
    told = of_local_file(OSError(errno.ENOSPC, "No space left on device", "notes.txt"))
    assert (told.exit_code, told.cause) == (errors.StateFull.exit_code, "notes.txt: No space left on device")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mount"], "jobfs: mount: missing argument 'JOB'\n  next: see jobfs mount --help\n"),
        (["nonsense"], "jobfs: no such command 'nonsense'\n  next: see jobfs --help\n"),
        (["jobs", "nonsense"], "jobfs: jobs: no such command 'nonsense'\n  next: see jobfs jobs --help\n"),
    ],
)
def test_arguments_that_make_no_sense_are_told_in_one_line_with_what_to_do_next(
    state_dir: Path, words: list[str], message: str
) -> None:
    outcome = in_process(*words)
    assert (outcome.code, outcome.out, outcome.err) == (2, "", message)


@pytest.mark.parametrize("words", [[], ["jobs"], ["service"]])
def test_without_a_command_the_help_is_shown(state_dir: Path, words: list[str]) -> None:
    outcome = in_process(*words)
    assert (outcome.code, "Commands:" in outcome.out + outcome.err) == (2, True)


@pytest.mark.parametrize("word", ELSEWHERE)
def test_a_word_of_other_programs_is_answered_with_ours(word: str) -> None:
    refused = in_process(word, "a", "b")
    assert (refused.code, refused.err) == (2, f"jobfs: no such command '{word}'\n  next: {ELSEWHERE[word]}\n")
    assert set(re.findall(r"jobfs ([a-z]+)", ELSEWHERE[word])) <= set(COMMANDS)
    assert word not in COMMANDS


def test_a_server_that_is_not_there_is_told_in_words(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("JOBFS_URL", f"http://{where}")
        monkeypatch.setenv("JOBFS_API_KEY", "jobfs_k_any")
        told = as_process("jobs", "list")
    assert (told.code, told.err.splitlines()[0]) == (5, f"jobfs: no connection to {where} (connection refused)")


@pytest.mark.parametrize("command", ["sync", "pull"])
def test_a_folder_that_is_a_file_is_no_directory(studio: RunningServer, job: str, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        told = in_process(command, job, path, *(["--once"] if command == "sync" else []))
        assert (told.code, told.err) == (
            6,
            f"jobfs: {path} is no directory, or lies in none\n  next: name a directory\n",
        )
    assert (tmp_path / "file").read_bytes() == b"precious"


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_path_that_the_machine_refuses_has_a_next_step(number: int) -> None:
    assert of_local_file(OSError(number, "no", "notes.txt")).remedy


def test_a_place_of_ours_that_cannot_be_made_is_named_with_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("JOBFS_STATE_DIR", "JOBFS_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable / "jobfs"))
        for refused in (tmp_path / variable, tmp_path / variable / "jobfs" / "inner"):
            told = of_local_file(PermissionError(errno.EACCES, "Permission denied", str(refused)))
            assert told.remedy == f"make {tmp_path / variable / 'jobfs'} and own it, or name another place: " + (
                f"{variable}=/another/place"
            )
    elsewhere = of_local_file(PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "notes.txt")))
    assert "/another/place" not in elsewhere.remedy
