"""Run the command line: in this process, which is quick, and as a process of its own, which is what a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from jobfs.cli.app import compose, needed
from jobfs.cli.words import hoisted
from jobfs.fuse.mounting import detach, mount_at

DEADLINE_S = 60
COMMAND = [sys.executable, "-P", "-m", "jobfs"]


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str
    raw: bytes

    def ok(self) -> str:
        """Return what was printed by a command that must succeed."""
        assert self.code == 0, self.err
        return self.out


def in_process(*words: object, stdin: bytes | None = None) -> Outcome:
    """Run a command in this process."""
    line = hoisted([str(word) for word in words])
    result = CliRunner().invoke(compose(needed(line)), line, input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr, result.stdout_bytes)


def as_process(*words: object, stdin: bytes | None = None, **environment: str) -> Outcome:
    """Run a command as a process."""
    done = subprocess.run(
        [*COMMAND, *map(str, words)],
        input=stdin,
        capture_output=True,
        timeout=DEADLINE_S,
        env={**os.environ, **environment},
        check=False,
    )
    return Outcome(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(), done.stdout)


def without_size(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the size that it says of another terminal, which programs would believe first."""
    return {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}


def mountable(path: Path) -> Iterator[Path]:
    """Make a directory to mount on, and yield it; whatever is mounted there afterwards is taken away."""
    path.mkdir()
    yield path
    if mount_at(path) is not None:
        in_process("umount", "--force", path)
    if mount_at(path) is not None:
        detach(path, lazy=True)
