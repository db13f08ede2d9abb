"""Folder mode works on every system: nothing of it needs what only POSIX systems have."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jobfs

SOURCE = Path(jobfs.__file__).parent

MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "select", "syslog", "termios", "tty"}
CALLS = {
    "os": {
        *("chown", "copy_file_range", "fchmod", "fchown", "fdatasync", "fork", "forkpty", "fstatvfs", "getegid"),
        *("geteuid", "getgid", "getloadavg", "getpgid", "getuid", "getxattr", "killpg", "lchown", "listxattr", "lockf"),
        *("mkfifo", "mknod", "nice", "openpty", "pidfd_open", "posix_fadvise", "posix_fallocate", "pread", "preadv"),
        *("pwrite", "pwritev", "readv", "removexattr", "sendfile", "setpgid", "setsid", "setxattr", "statvfs", "sync"),
        *("uname", "wait", "writev"),
    },
    "signal": {"SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "pthread_sigmask", "sigwait"},
}

EXCEPTIONS = {
    "cli/background.py": "services of systemd and launchd",
    "cli/checks.py": "looks at FUSE and at the limits of this system, each where it is there",
    "cli/device.py": "looks for FUSE, after it has refused Windows",
    "cli/launch.py": "branches off where that is known to work, and launches an interpreter elsewhere",
    "engine/hydrator.py": "reads of programs in a mount",
    "server/command.py": "ends a command with its children where there are process groups",
    "server/runner.py": "ends what a killed server left, where there is /proc",
    "vfs/files.py": "behind FUSE alone",
    "vfs/operations.py": "behind FUSE alone",
}
"""Where something outside of ``fuse`` is used that not every system has, and what for: nothing that a folder needs."""


def findings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            yield node.module or ""
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in CALLS:
            yield from [f"{node.value.id}.{node.attr}"] * (node.attr in CALLS[node.value.id])


def test_outside_of_fuse_only_what_no_folder_needs_uses_what_not_every_system_has() -> None:
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        place = path.relative_to(SOURCE).as_posix()
        if not place.startswith("fuse/") and (uses := sorted(set(findings(path)))):
            found[place] = uses
    assert {place: uses for place, uses in found.items() if place not in EXCEPTIONS} == {}
    assert set(EXCEPTIONS) - set(found) == set()


POORER = f"""
import asyncio, os, pathlib, signal, sys, tempfile
import folder_harness
from jobfs.store import lock

for name, calls in {CALLS!r}.items():
    for call in calls:
        vars(sys.modules[name]).pop(call, None)
lock._lock = lambda descriptor: None  # msvcrt is what it takes there
for name in {MODULES!r}:
    sys.modules[name] = None

async def story(desk):
    desk.write("a/b", "1")
    desk.write("large", b"x" * 200_000)
    desk.model.put("c", b"2")
    desk.model.put("d", None)
    desk.model.put("d/e", b"3" * 200_000)
    print(*sorted(await desk.in_step()))
    desk.model.job_status = "processing"
    async with desk.watching():
        desk.write("a/b", "new", is_old=False)
        desk.model.put("c", b"new")
        await desk.agrees()
        (desk.root / "a").rename(desk.root / "z")
        desk.model.remove("c")
        await desk.agrees()
    print(*sorted(desk.tree()))

folder_harness.run(story(folder_harness.Desk(pathlib.Path(sys.argv[1]))))
"""


def test_a_folder_is_kept_in_step_on_a_system_that_lacks_all_of_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", POORER, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["a a/b c d d/e large", "d d/e large z z/b"]
