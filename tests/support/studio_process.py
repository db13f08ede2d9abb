"""``jobfs serve`` as a process of its own, which can be stopped, killed and started again on what it had stored."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

from commands import COMMAND, DEADLINE_S
from studio_client import BASE, StudioClient


class StudioProcess:
    """A server on a free port, the same one after each restart. A context manager; it runs no jobs.

    ``api_key`` and ``system_key`` are those that it told at its first start. What uses the network is to be called from
    the network that it was started in (``network_room``).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.api_key = self.system_key = ""

    @property
    def url(self) -> str:
        """Its address, without a final slash."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> StudioProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and return when it answers."""
        words = ["serve", "--data", str(self._folder), "--port", str(self.port), "--no-runner"]
        self._process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        url = self._process.stdout.readline().split()[1].decode()
        self.port = int(url.rpartition(":")[2])
        if not self.api_key:
            self.api_key, self.system_key = (self._process.stdout.readline().split()[-1].decode() for _ in range(2))

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End it with SIGKILL, and return when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE_S)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def create_job(self) -> str:
        """Make a job that waits for ever, and return its id."""
        with closing(self.client(None)) as client:
            body = {"expertKey": "@jobfs/word-count", "query": "Go"}
            answer = client.request("POST", f"{BASE}/expert_jobs/", json=body)
            return str(answer.json()["data"]["expertJob"]["id"])

    def client(self, job: str | None) -> StudioClient:
        """Return a client of a job's workspace; to be closed."""
        return StudioClient(self, job)

    def contents(self, job: str) -> dict[str, bytes | None]:
        """Return what a job's workspace holds: the bytes of files, None for directories."""
        with closing(self.client(job)) as client:
            return {item["path"]: _bytes_of(client, item) for item in _items(client)}


def _items(client: StudioClient) -> Iterator[dict[str, Any]]:
    skip, total = 0, 1
    while skip < total:
        answer = client.list(skip=skip).json()
        rows, total = answer["data"]["workspaceItems"], answer["meta"]["total"]
        yield from rows
        skip += len(rows)


def _bytes_of(client: StudioClient, item: dict[str, Any]) -> bytes | None:
    return None if item["type"] == "workspaceItemDirectory" else client.download(item["id"]).content
