"""Versions of a file that tell of themselves, and a program that reads one again and again and sees if it is whole.

    reading_loop.py FILE READS VERSIONS

Reads at least so often, and until it has met more versions than that. Prints a JSON object: how many versions were seen
and how often the file was replaced between open and read (ESTALE), with the first read that was no whole version. Every
seventh time it reads in small pieces.
"""

from __future__ import annotations

import errno
import itertools
import json
import sys
from pathlib import Path

PIECE = 1000


def version(number: int) -> bytes:
    """Return a version of some length between one and six pages, of which no part is as in another version."""
    line = b"%08d\n" % number
    return b"%08d\n" % (length := 500 + number * 617 % 2200) + line * (length - 1)


def is_whole(data: bytes) -> bool:
    """Tell whether these are all bytes of one version, and no others."""
    return data == version(int(data[9:17] or b"0")) if data[9:17].isdigit() else False


def read(path: Path, turn: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        if turn % 7 == 0:
            return b"".join(iter(lambda: file.read(PIECE), b""))
        return file.readall()


def main() -> None:
    path, turns, versions = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    seen: set[bytes] = set()
    stale, torn = 0, ""
    for turn in itertools.count():
        if turn >= turns and len(seen) + stale > versions:
            break
        try:
            data = read(path, turn)
        except OSError as error:
            if error.errno != errno.ESTALE:  # opened, and replaced before its first byte came: nobody has it now
                raise
            stale += 1
            continue
        if data not in seen:
            if not is_whole(data):
                torn = f"turn {turn}: {len(data)} bytes, {data[:40]!r} to {data[-40:]!r}"
                break
            seen.add(data)
    print(json.dumps({"versions": len(seen), "stale": stale, "torn": torn}))


if __name__ == "__main__":
    main()
