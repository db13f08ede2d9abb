"""The server's end of a benchmark: a process that does what it is told, one order a line of JSON on standard input.

    far.py FOLDER [ADDRESS [SWITCH=VALUE ...]]

It says first where the server listens and with which key. It also runs what other programs need at this end.
"""

from __future__ import annotations

import json
import queue
import random
import sys
import time
from pathlib import Path

from jobfs.server.front import RequestRecord
from jobfs.server.running import LOOPBACK, RunningServer
from jobfs.server.sandbox import Sandbox
from jobfs.server.switches import parse

_UPLOAD_LIMIT = 1 << 30
_HIDDEN = "%.jobfs-%"


class Arrivals(list[RequestRecord]):
    """Tells of each answered request; keeps none."""

    def __init__(self) -> None:
        super().__init__()
        self._changes: queue.SimpleQueue[None] = queue.SimpleQueue()

    def append(self, record: RequestRecord) -> None:
        if record.method != "GET":
            self._changes.put(None)

    def wait(self, until_s: float) -> None:
        """Return after a change, once for all that there were, or at a time."""
        try:
            self._changes.get(timeout=max(0.0, until_s - time.monotonic()))
            while True:
                self._changes.get_nowait()
        except queue.Empty:
            return


class Orders:
    """What may be asked for: one method an order."""

    def __init__(self, server: RunningServer, arrivals: Arrivals) -> None:
        self._server = server
        self._arrivals = arrivals

    def job(self) -> str:
        """Make a job that has ended and return its id."""
        return self._server.create_job(status="completed")

    def fill(self, job: str, folder: str, files: int, size: int, a_directory: int) -> None:
        """Put files of random bytes, so many in each directory."""

        def work() -> None:
            sandbox = Sandbox(self._server.state, job, owner="user")
            dice = random.Random(files)
            for number in range(files):
                path = f"{folder}/d{number // a_directory:03}/file{number}.txt"
                sandbox.put_bytes(path, dice.randbytes(size))

        self._server.call(work)

    def put(self, job: str, path: str, size: int) -> None:
        """Put one file of random bytes."""
        content = b"".join(random.randbytes(1 << 20) for _ in range(size >> 20)) + random.randbytes(size & 0xFFFFF)
        self._server.put_item(job, path, content)

    def download_path(self, job: str, path: str) -> str:
        """Return where a file is downloaded from."""

        def item() -> str:
            records = Sandbox(self._server.state, job, owner="user").items()
            return next(record.id for record in records if record.path == path)

        return f"/api/studio/v1/expert_jobs/{job}/workspace_instance/items/{self._server.call(item)}/download"

    def when_holds(self, job: str, path: str, files: int, size: int, deadline_s: float) -> float | None:
        """Wait until a tree holds so many files with so many bytes in all, or a path that file; return when.

        The moment is told by the clock that all processes share; None where the deadline comes first.
        """
        until_s = time.monotonic() + deadline_s
        while self._server.call(lambda: self._holds(job, path)) != (files, size):
            self._arrivals.wait(until_s)
            if time.monotonic() > until_s:
                return None
        return time.monotonic()

    def _holds(self, job: str, path: str) -> tuple[int, int]:
        state = self._server.state
        row = state.storage.one(
            "SELECT count(*), coalesce(sum(size), 0) FROM item WHERE space = ? AND NOT is_directory"
            " AND (path = ? OR (path >= ? AND path < ?)) AND path NOT LIKE ?",
            *(state.jobs.view(state.jobs.get(None, job)).own, path, f"{path}/", f"{path}0", _HIDDEN),
        )
        return (row[0], row[1]) if row is not None else (0, 0)


def main() -> int:
    folder, *address_and_words = sys.argv[1:]
    address, *words = address_and_words or [LOOPBACK]
    server = RunningServer(Path(folder), host=address, switches=parse(words), upload_limit=_UPLOAD_LIMIT)
    server.requests = arrivals = Arrivals()
    with server:
        orders = Orders(server, arrivals)
        tell({"url": server.url, "key": server.api_key})
        for line in sys.stdin:
            order = json.loads(line)
            tell(getattr(orders, order.pop("do"))(**order))
    return 0


def tell(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
