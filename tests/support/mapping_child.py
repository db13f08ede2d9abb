"""A program that maps files for somebody who may not: ``MappingChild`` starts it and speaks to it.

A page fault holds a lock on its process's memory until the mount answers, so nobody may map files of a mount that
his own process serves.
"""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from typing import Any


class MappingChild:
    """Another process with shared mappings of files, each under a number."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def open(self, number: int, path: str) -> None:
        """Map a whole file, for reading and writing.

        :raises OSError: it cannot be opened, or is empty (EINVAL).
        """
        self._ask("open", number, path)

    def write(self, number: int, offset: int, data: bytes) -> bool:
        """Write into a mapping and msync it; False where the file has become too short for that."""
        return bool(self._ask("write", number, offset, data.hex()))

    def read(self, number: int, offset: int, size: int) -> bytes | None:
        """Read from a mapping; None where the file has become too short for that."""
        found = self._ask("read", number, offset, size)
        return None if found is None else bytes.fromhex(found)

    def close(self, number: int) -> None:
        """Give a mapping up."""
        self._ask("close", number)

    def end(self) -> None:
        """End the process, and with it every mapping."""
        if self._process.stdin is not None and self._process.stdout is not None:
            self._process.stdin.close()
            self._process.wait(60)
            self._process.stdout.close()

    def _ask(self, *words: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        failed, result = json.loads(self._process.stdout.readline())
        if failed:
            raise OSError(failed, os.strerror(failed))
        return result


class _Mappings:
    """The mappings of the child."""

    def __init__(self) -> None:
        self._mapped: dict[int, tuple[int, mmap.mmap]] = {}

    def serve(self, words: list[Any]) -> object:
        verb, number, *rest = words
        if verb == "open":
            return self._open(number, rest[0])
        descriptor, mapping = self._mapped[number]
        if verb == "close":
            del self._mapped[number]
            mapping.close()
            os.close(descriptor)
            return None
        offset = rest[0]
        end = offset + (len(rest[1]) // 2 if verb == "write" else rest[1])
        if end > min(len(mapping), os.fstat(descriptor).st_size):
            return None  # beyond the end of the file there is only a signal
        if verb == "read":
            return mapping[offset:end].hex()
        mapping[offset:end] = bytes.fromhex(rest[1])
        mapping.flush()
        return True

    def _open(self, number: int, path: str) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        try:
            if os.fstat(descriptor).st_size == 0:
                raise OSError(22, "nothing to map")
            self._mapped[number] = descriptor, mmap.mmap(descriptor, 0)
        except BaseException:
            os.close(descriptor)
            raise


def _main() -> None:
    mappings = _Mappings()
    for line in sys.stdin:
        try:
            answer: tuple[int, object] = 0, mappings.serve(json.loads(line))
        except OSError as error:
            answer = error.errno or 5, None
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _main()
