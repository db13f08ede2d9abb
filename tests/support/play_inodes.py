"""Create and delete files in a mount, again and again, and see whether its process grows.

Run by ``scripts/soak-inodes``. Each file has an inode number of its own; names come again after a while, since what is
known of a name is remembered, up to a limit. Of ten cycles, seven are files, one a directory, one a save that replaces,
and one a file that is deleted while it is open.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from commands import in_process
from studio_process import StudioProcess

from jobfs.fuse.mounting import detach, mount_at

PARTS = 10
NAMES = 500
ALLOWED_BYTES = 4 << 20
"""Connections of a burst, dictionaries that double, the allocator's arenas."""
LEAK_BYTES = 8
"""A cycle: even a number that stays in a set each time would take more than three times this."""


def measure(base: Path, cycles: int, transport: str) -> Iterator[int]:
    """Do cycles in ``PARTS`` parts; yield the memory of the mount's process in bytes, before them and after each."""
    point = base / "mnt"
    point.mkdir()
    with ExitStack() as stack:
        server = stack.enter_context(StudioProcess(base / "studio"))
        settings = {
            "JOBFS_CONFIG_DIR": str(base / "config"),
            "JOBFS_STATE_DIR": str(base / "state"),
            "JOBFS_URL": server.url,
            "JOBFS_API_KEY": server.api_key,
        }
        stack.enter_context(patch.dict(os.environ, settings))
        in_process("mount", server.create_job(), point, "--transport", transport).ok()
        stack.callback(_take_away, point)
        (told,) = json.loads(in_process("status", "--json").ok())
        yield memory_of(told["pid"])
        for _ in range(PARTS):
            for number in range(cycles // PARTS):
                cycle(point / str(number % NAMES), number % 10)
            in_process("push", point).ok()
            yield memory_of(told["pid"])


def cycle(path: Path, turn: int) -> None:
    """Make something and delete it again."""
    if turn == 7:
        path.mkdir()
        path.rmdir()
        return
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"content")
    if turn == 8:
        path.unlink()
    os.close(descriptor)
    if turn == 9:
        other = path.with_name(f"{path.name}-before")
        other.touch()
        path.replace(other)
        path = other
    if turn != 8:
        path.unlink()


def memory_of(pid: int) -> int:
    """Return the anonymous memory of a process in bytes."""
    found = re.search(r"^RssAnon:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


def _take_away(point: Path) -> None:
    in_process("umount", "--force", point)
    if mount_at(point) is not None:
        detach(point, lazy=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak-inodes", description=__doc__)
    parser.add_argument("--cycles", type=int, default=1_000_000)
    parser.add_argument("--transport", default="kernel", choices=("kernel", "fusepy"))
    options = parser.parse_args()
    began_s = time.monotonic()
    sizes: list[int] = []
    with tempfile.TemporaryDirectory(prefix="jobfs-inodes-") as base:
        for size in measure(Path(base), options.cycles, options.transport):
            sizes.append(size)
            print(f"{time.monotonic() - began_s:6.0f} s  {size / (1 << 20):6.1f} MiB", flush=True)
    grown = sizes[-1] - sizes[1]
    print(f"{options.cycles} cycles; {grown / (1 << 20):.1f} MiB more at the end than after the first tenth")
    return 1 if grown > ALLOWED_BYTES + options.cycles * LEAK_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
