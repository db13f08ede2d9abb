"""What a command loads: its own part of jobfs, and no library that it does not need."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from awaiting import wait_for_end
from commands import DEADLINE_S, as_process

import jobfs.cli
from jobfs.cli.app import COMMANDS, compose, needed
from jobfs.cli.launch import ahead, launch, take, will_order
from jobfs.cli.parser import commands
from jobfs.cli.process import Process
from jobfs.server.running import RunningServer
from jobfs.workspace.instance import running_at

PICTURES = {"rich", "pygments"}
OTHER_WAYS = {"httpcore", "anyio", "h11", "mfusepy", "fsspec", "fastapi", "starlette", "uvicorn"}
"""Proxies, the portable transport, the other faces of jobfs."""
SERVER = {"httpx", "pydantic", "pathspec", "sqlite3", "watchdog"}


RUN_AND_TELL = """
import atexit, os, runpy, sys

def tell():
    print(MARK, *(name for name, module in sys.modules.items() if module), file=sys.stderr, flush=True)

def leave(code, _exit=os._exit):
    tell()
    _exit(code)

atexit.register(tell)
os._exit = leave  # which forgets what was registered
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
MARK = "what is loaded:"


def loaded(*words: object) -> set[str]:
    """Return the names of all modules that an interpreter has loaded when it ends.

    :param words: a module, and its arguments. Its standard input is empty.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN_AND_TELL.replace("MARK", repr(MARK)), *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    return set(done.stderr.rpartition(MARK)[2].split())


def libraries(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def of_cli(modules: set[str]) -> set[str]:
    return {name.removeprefix("jobfs.cli.") for name in modules if name.startswith("jobfs.cli.")}


def test_the_version_needs_no_command_and_no_library() -> None:
    modules = loaded("jobfs", "--version")
    assert "typer" in modules
    assert of_cli(modules) & set(COMMANDS.values()) == set()
    assert libraries(modules) & (SERVER | PICTURES | OTHER_WAYS | {"asyncio"}) == set()


@pytest.mark.parametrize("words", [["status"], ["--debug", "jobs", "--help"], ["mount", "--help"]], ids=" ".join)
def test_a_command_loads_no_other_one(words: list[str], state_dir: Path) -> None:
    modules = loaded("jobfs", *words)
    assert of_cli(modules) & set(COMMANDS.values()) == {*words} & set(COMMANDS)
    assert libraries(modules) & (PICTURES | OTHER_WAYS) == set()


def test_synchronising_without_a_terminal_loads_neither_pictures_nor_other_ways(
    studio: RunningServer, job: str, state_dir: Path, tmp_path: Path
) -> None:
    modules = loaded("jobfs", "sync", job, tmp_path / "folder", "--once")
    assert modules >= SERVER
    assert libraries(modules) & (PICTURES | OTHER_WAYS) == set()


def test_the_command_that_mounts_leaves_the_work_to_the_process_in_the_background() -> None:
    assert libraries(loaded("jobfs.cli.mount")) & (SERVER - {"sqlite3"} | PICTURES | OTHER_WAYS) == set()


@pytest.mark.parametrize("command", ["status", "umount"])
def test_a_command_that_asks_a_mount_loads_nothing_that_asks_a_server(command: str) -> None:
    assert libraries(loaded(f"jobfs.cli.{command}")) & (SERVER | PICTURES | OTHER_WAYS | {"asyncio"}) == set()


@pytest.mark.parametrize("command", ["ls", "cat", "tree", "find", "get"])
def test_a_command_that_reads_items_loads_neither_the_shapes_of_jobs_nor_the_store(command: str) -> None:
    assert libraries(loaded(f"jobfs.cli.{command}")) & (SERVER - {"httpx"} | PICTURES | OTHER_WAYS) == set()


def test_the_process_in_the_background_reads_no_command_line_and_for_a_mount_watches_no_folder() -> None:
    modules = loaded("jobfs.cli.daemon")  # its input ends, and so does it
    assert libraries(modules) & SERVER == {"httpx"}  # asked with first; the rest is loaded beside that
    assert libraries(modules) & (PICTURES | OTHER_WAYS | {"typer"}) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="mounts")
def test_a_plain_mount_loads_neither_parser_nor_loop_nor_store(
    studio: RunningServer, job: str, mount_point: Path
) -> None:
    modules = loaded("jobfs", "mount", job, mount_point, "--no-fallback")
    assert running_at(mount_point).job == job
    assert libraries(modules) & {"typer", "asyncio", "sqlite3", "httpx", "pydantic", "pathspec", "ssl"} == set()


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has mapped is told by /proc")
def test_a_process_that_serves_a_mount_has_not_loaded_the_shapes_of_jobs_and_runs(
    studio: RunningServer, job: str, mount_point: Path
) -> None:
    as_process("mount", "--no-fallback", job, mount_point).ok()
    mapped = Path(f"/proc/{running_at(mount_point).pid}/maps").read_text()
    as_process("umount", mount_point).ok()
    assert [name for name in ("_asyncio", "pydantic_core") if name in mapped] == ["_asyncio"]


# -- the table of commands

HIDDEN = {"manual", "completing"}
"""For those who build jobfs, and for the scripts of shells."""


def modules_that_register() -> Iterator[str]:
    for path in Path(jobfs.cli.__file__).parent.glob("*.py"):
        if "\ndef register(" in path.read_text(encoding="utf-8"):
            yield path.stem


def test_every_module_with_a_command_is_in_the_table() -> None:
    assert set(modules_that_register()) == set(COMMANDS.values())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_the_same_alone_and_among_all(name: str) -> None:
    def named(app: object) -> list[object]:
        return [one for one in commands(app) if one.name.split()[0] == name]  # type: ignore[arg-type]

    assert named(compose([name])) == named(compose())
    assert (named(compose()) == []) is (name in HIDDEN)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["mount", "a", "b"], ["mount"]),
        (["--profile", "mount", "ls"], ["ls"]),
        (["--version", "mount"], []),
        (["completion", "bash"], list(COMMANDS)),
        (["manual", "man"], list(COMMANDS)),
        (["--help"], list(COMMANDS)),
        (["mout"], list(COMMANDS)),
        ([], list(COMMANDS)),
    ],
    ids=lambda value: " ".join(value[:2]),
)
def test_what_is_composed_is_the_command_that_is_named_or_all(words: list[str], expected: list[str]) -> None:
    assert list(needed(words)) == expected


# -- the process that is launched ahead


@pytest.mark.parametrize(
    ("words", "is_launched"),
    [
        (["mount", "a", "b"], True),
        (["--profile", "x", "mount", "a", "b"], True),
        (["mount", "a", "b", "--foreground"], False),
        (["mount", "--help"], False),
        (["sync", "a", "b", "--background"], True),
        (["sync", "a", "b"], False),
        (["ls", "mount:/"], False),
    ],
    ids=str,
)
def test_words_that_will_lead_to_an_order_are_recognised(words: list[str], is_launched: bool) -> None:
    assert will_order(words) is is_launched


def ended(process: Process) -> tuple[bytes, bytes, int]:
    """Return what a process says that gets no order, and the code with which it ends."""
    process.orders.close()
    said = process.answers.read(), process.complaints.read(), process.wait()
    process.let_go()
    return said


def test_the_process_that_is_ahead_is_taken_once() -> None:
    first = launch()
    with ahead(first):
        processes = [take(), take()]
    assert processes[0] is first
    assert processes[0].pid != processes[1].pid
    assert [ended(process) for process in processes] == [(b"", b"", 0)] * 2


def test_the_process_that_is_ahead_ends_where_nobody_takes_it() -> None:
    process = launch()
    with ahead(process):
        pass
    wait_for_end(process.pid)
    assert os.waitpid(process.pid, 0) == (process.pid, 0)


def test_a_process_without_an_order_ends_by_itself() -> None:
    assert ended(launch()) == (b"", b"", 0)


STOP_AT_IMPORT = """
import sys
from jobfs.__main__ import main

class Stop:
    def find_spec(self, name, *more):
        if name == sys.argv[-1]:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Stop())
sys.argv = ["jobfs", "status", sys.argv[-1]]
main()
"""


@pytest.mark.parametrize("module", ["typer", "jobfs.cli.app", "jobfs.cli.status"])
def test_ctrl_c_while_the_modules_are_loaded_is_no_traceback(state_dir: Path, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", STOP_AT_IMPORT, module],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "jobfs: stopped\n")
