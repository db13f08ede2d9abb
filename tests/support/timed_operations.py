"""What programs do with files of a mount, each operation timed. A program of its own, since it might hang.

    timed_operations.py DIRECTORY

The directory holds ``warm``, which is here, and ``cold-1`` to ``cold-5``, which only the server has. Prints a JSON
object: operation to seconds and errno name (empty where it succeeded). What asks for names or attributes alone is done
five times, and the median counts: a machine that is busy for a moment is no hang.
"""

from __future__ import annotations

import errno
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

Times = dict[str, tuple[float, str]]


def timed(action: Callable[[], object]) -> tuple[float, str]:
    began = time.monotonic()
    try:
        action()
    except OSError as error:
        return time.monotonic() - began, errno.errorcode.get(error.errno or 0, "?")
    return time.monotonic() - began, ""


def usually(action: Callable[[], object]) -> tuple[float, str]:
    tries = [timed(action) for _ in range(5)]
    return statistics.median(took for took, _ in tries), max(name for _, name in tries)


def looks(place: Path) -> dict[str, Callable[[], object]]:
    return {
        "stat": lambda: (place / "cold-1").stat(),
        "ls": lambda: [entry.stat() for entry in os.scandir(place)],
        "df": lambda: os.statvfs(place),
        "absent": lambda: (place / "absent").exists(),
    }


def waits(place: Path) -> dict[str, Callable[[], object]]:
    return {
        "read cold": lambda: (place / "cold-1").read_bytes(),
        "append cold": lambda: append(place / "cold-2"),
        "cut cold": lambda: os.truncate(place / "cold-3", 10),
    }


def changes(place: Path) -> dict[str, Callable[[], object]]:
    return {
        "read warm": lambda: (place / "warm").read_bytes(),
        "write new": lambda: save(place / "new"),
        "write warm": lambda: save(place / "warm"),
        "chmod": lambda: (place / "new").chmod(0o755),
        "mkdir": lambda: (place / "made").mkdir(),
        "rename": lambda: (place / "cold-4").rename(place / "made" / "renamed"),
        "unlink": lambda: (place / "cold-5").unlink(),
    }


def append(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        file.write(b" and more")


def save(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(b"saved")
        os.fsync(file.fileno())


def main() -> None:
    place = Path(sys.argv[1])
    times = {name: usually(action) for name, action in looks(place).items()}
    with ThreadPoolExecutor() as programs:
        waiting = {name: programs.submit(timed, action) for name, action in waits(place).items()}
        times |= {name: timed(action) for name, action in changes(place).items()}
        times |= {f"{name} meanwhile": usually(action) for name, action in looks(place).items()}
        times |= {name: done.result() for name, done in waiting.items()}
    print(json.dumps(times))


if __name__ == "__main__":
    main()
