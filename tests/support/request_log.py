"""What the embedded server was asked, request by request, and what a workspace held when each answer went out.

The server's own list of requests (``RunningServer.requests``) names them; this log takes its place, so nothing that
reaches the server can be missing in it. It reads the workspace on the server's loop before each answer leaves: whatever
was there between two requests was seen.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from engine_harness import Mounted, mounted
from simulated_server import Line, SimulatedServer, Weather
from virtual_loop import VirtualLoop

from jobfs.api.studio import Studio
from jobfs.api.transport import Transport
from jobfs.engine.feed import FeedTimes
from jobfs.engine.session import Options
from jobfs.engine.workspace import Clock
from jobfs.server.front import RequestRecord
from jobfs.server.running import RunningServer
from jobfs.server.sandbox import Sandbox
from jobfs.server.switches import Switches

Files = Mapping[str, bytes | None]

STILL = FeedTimes(status_s=3600, status_max_s=3600, ended_s=3600, ended_max_s=3600)
"""A feed that asks for nothing by itself: what is counted is what a program does."""

_ITEMS = r"/api/studio/v1/expert_jobs/[a-z0-9]{24}/workspace_instance/items/"
_WORDS = {
    "status": ("GET", r"/api/studio/v1/expert_jobs/[a-z0-9]{24}/?"),
    "list": ("GET", _ITEMS),
    "find": ("GET", f"{_ITEMS}find/?"),
    "get": ("GET", f"{_ITEMS}[a-z0-9]{{24}}/?"),
    "download": ("GET", f"{_ITEMS}[a-z0-9]{{24}}/download/?"),
    "create": ("POST", _ITEMS),
    "update": ("POST", f"{_ITEMS}[a-z0-9]{{24}}/?"),
    "delete": ("DELETE", f"{_ITEMS}[a-z0-9]{{24}}/?"),
}


class RequestLog(list[RequestRecord]):
    """The requests of a server, with a look at one workspace at each.

    Attributes: ``seen``, what the watched workspace held when each answer went out; ``job``, whose workspace that is.
    """

    def __init__(self, server: RunningServer) -> None:
        super().__init__()
        self.server = server
        self.seen: list[Files] = []
        self.job = ""

    def append(self, record: RequestRecord) -> None:
        """Take in a request; called on the server's loop, after what was asked for is done."""
        super().append(record)
        if self.job:
            self.seen.append(Sandbox(self.server.state, self.job, owner="user").contents())

    def watch(self, job: str) -> None:
        """Look at this job's workspace from now on, and forget what was asked before."""
        self.job = job
        self.forget()

    def forget(self) -> None:
        """Forget every request so far."""
        self.clear()
        self.seen.clear()

    @property
    def now(self) -> Files:
        """What the watched workspace holds now."""
        return self.server.call(lambda: Sandbox(self.server.state, self.job, owner="user").contents())

    @property
    def asked(self) -> list[str]:
        """The requests as words, in order; one that was refused shows its status."""
        return [word if record.status == 200 else f"{word} {record.status}" for word, record in self._named()]

    @property
    def ever(self) -> set[str]:
        """Every path that was on the server after any request, those under hidden names of ours left out."""
        return {path for contents in self.seen for path in contents if ".jobfs-" not in path}

    def _named(self) -> Iterator[tuple[str, RequestRecord]]:
        for record in self:
            named = [
                word
                for word, (method, path) in _WORDS.items()
                if record.method == method and re.fullmatch(path, record.path)
            ]
            yield (named[0] if named else f"{record.method} {record.path}"), record


@contextmanager
def logged_server() -> Iterator[RequestLog]:
    """Run a server of one's own and give its log."""
    server = RunningServer()
    server.requests = log = RequestLog(server)
    with server:
        yield log


def new_job(log: RequestLog, files: Files) -> str:
    """Make a job that has ended, with these files; None stands for a directory."""
    job = log.server.create_job(status="completed")
    for path, content in files.items():
        log.server.put_item(job, path, content)
    return job


@asynccontextmanager
async def on_server(
    log: RequestLog, folder: Path, files: Files, *, clock: Clock | None = None
) -> AsyncIterator[Mounted]:
    """Mount a job that has ended. The log begins after the mount, and sees the workspace at each request."""
    job = new_job(log, files)
    async with Transport(log.server.url, log.server.api_key) as transport:
        remote = Studio(transport).workspace(job)
        async with mounted(folder, remote, options=Options(times=STILL), clock=clock) as mount:  # type: ignore[arg-type]
            log.watch(job)
            yield mount


# ----------------------------------------------------------------------------------------------- in simulated time


class Sight:
    """The requests to a simulated server as the log's words, pages of a listing with the row that they begin at.

    Attributes: ``ever``, every path that was there before or after any of them, as in ``RequestLog``.
    """

    def __init__(self, server: SimulatedServer) -> None:
        self.server = server
        self.asked: list[str] = []
        self.ever: set[str] = set()

    def note(self, line: str) -> None:
        """Take a line of the trace."""
        _, direction, word, subject = [*line.split(" ", 3), ""][:4]
        if direction == ">":
            self.asked.append({"list": f"list {subject}", "mkdir": "create"}.get(word, word))
        self.ever |= {path for path in self.server.tree() if ".jobfs-" not in path}


@asynccontextmanager
async def simulated(
    loop: VirtualLoop, folder: Path, files: Files, *, times: FeedTimes = STILL
) -> AsyncIterator[tuple[Mounted, Sight]]:
    """Mount a job that has ended, in simulated time; the sight begins after the mount."""
    server = SimulatedServer(loop, Switches())
    for path, content in files.items():
        server.put(path, content)
    sight = Sight(server)
    line = Line("c", loop, server, Weather(delay_s=0.02), sight.note)
    async with mounted(folder, line, options=Options(times=times), clock=loop.clock) as mount:  # type: ignore[arg-type]
        sight.asked.clear()
        yield mount, sight
