"""A server on a thread of its own: for tests of every part, and for the demo.

``RunningServer`` may be used from any thread; what it changes in the server, it changes on the server's loop.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from jobfs.errors import DeadlineExceeded
from jobfs.server.app import create_app, server_state
from jobfs.server.bodies import StartJob
from jobfs.server.experts import Experts
from jobfs.server.faults import Faults
from jobfs.server.front import RequestRecord
from jobfs.server.items import Access, ItemRecord, Owner
from jobfs.server.listening import listen, origin_of, serve_until
from jobfs.server.registry import ExpertLookup
from jobfs.server.routes_storage import create_storage_app
from jobfs.server.sandbox import Sandbox
from jobfs.server.serve import run_jobs
from jobfs.server.state import DEFAULT_UPLOAD_LIMIT, ServerState
from jobfs.server.switches import Switches

LOOPBACK = "127.0.0.1"

_DEADLINE_S = 30.0
"""For the thread to start, to stop, and to do a small piece of work."""

ResultT = TypeVar("ResultT")


class RunningServer:
    """A server on a free loopback port; a context manager.

    :param folder: data folder; a temporary one, removed at the end, where it is not given.
    :param experts: the experts that jobs may name; those of the data folder and the built-in ones by default.
    :param runner: whether queued jobs are run.
    :param prefix: path below which the API is served (contract T-2), such as ``/studio``.
    :param host: the address to listen on; :param port: 0 takes a free one.

    Attributes: ``url`` (without a final slash); ``api_key`` and ``system_key`` (empty where the folder was in use
    before); ``requests``, every request since ``clear_requests()``; ``switches`` and ``faults``, settable at any time.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        switches: Switches | None = None,
        faults: Faults | None = None,
        experts: ExpertLookup | None = None,
        runner: bool = False,
        upload_limit: int = DEFAULT_UPLOAD_LIMIT,
        prefix: str = "",
        host: str = LOOPBACK,
        port: int = 0,
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="jobfs-server-") if folder is None else None
        self.folder = Path(self._temporary.name) if self._temporary is not None else folder or Path()
        self._first_settings = (switches, faults)
        self._experts = experts
        self._has_runner = runner
        self._upload_limit = upload_limit
        self._prefix = prefix.rstrip("/")
        self._host = host
        self._port = port
        self._started: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event
        self._thread = threading.Thread(target=self._run, name="jobfs-server", daemon=True)
        self.requests: list[RequestRecord] = []
        self.url = ""
        self.api_key = ""
        self.system_key = ""
        self.state: ServerState

    # ------------------------------------------------------------------ life

    def start(self) -> RunningServer:
        """Start, and return when requests are answered."""
        self._thread.start()
        self._started.result(_DEADLINE_S)
        return self

    def stop(self) -> None:
        """End every request and close the data folder. May be called twice."""
        if self._thread.is_alive() and self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.ident is not None:
            self._thread.join(_DEADLINE_S)
            if self._thread.is_alive():
                raise DeadlineExceeded("the embedded server does not stop")
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> RunningServer:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # handed to the thread that waits for the start
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        folder_experts = Experts(self.folder)
        switches, faults = self._first_settings
        app = create_app(
            self.folder,
            switches=switches,
            faults=faults,
            experts=self._experts or folder_experts.lookup,
            upload_limit=self._upload_limit,
            on_request=self.requests.append,
        )
        self.state = server_state(app)
        try:
            self.api_key, self.system_key = self.state.first_start() or ("", "")
            async with run_jobs(app, folder_experts, self.folder) if self._has_runner else nullcontext():
                await self._listen(app)
        finally:
            self.state.close()

    async def _listen(self, app: FastAPI) -> None:
        with listen(self._host, self._port) as front, listen(self._host, 0) as back:
            self.url = origin_of(front) + self._prefix
            self.state.storage_origin = origin_of(back)
            outer = Starlette(routes=[Mount(self._prefix, app)]) if self._prefix else app
            self._started.set_result(None)
            pair = ((outer, front), (create_storage_app(self.state), back))
            await serve_until(self._stop, pair, grace_s=1, on_stop=self.state.news.close)

    # ------------------------------------------------------------------ settings and observations

    @property
    def switches(self) -> Switches:
        """The switches as they are now."""
        return self.state.switches

    @switches.setter
    def switches(self, switches: Switches) -> None:
        self.state.switches = switches

    @property
    def faults(self) -> Faults:
        """The faults as they are now."""
        return self.state.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.state.faults = faults

    def clear_requests(self) -> None:
        """Forget the requests seen so far."""
        self.requests.clear()

    def call(self, work: Callable[[], ResultT]) -> ResultT:
        """Run something on the server's loop, and return what it returns."""
        if self._loop is None:
            raise RuntimeError("the server has not started")
        done: Future[ResultT] = Future()

        def run() -> None:
            try:
                done.set_result(work())
            except BaseException as error:  # noqa: BLE001  (handed to the caller's thread)
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(_DEADLINE_S)

    # ------------------------------------------------------------------ arranging a test

    def create_job(
        self, *, expert_key: str = "@jobfs/word-count", query: str = "Go", hold: bool = True, status: str = "queued"
    ) -> str:
        """Make a job and return its id.

        :param hold: keep it from the runner.
        """

        def work() -> str:
            state = self.state
            body = StartJob(expertKey=expert_key, query=query)
            with state.transaction():
                job = state.jobs.create(state.first_application(), body, (), is_held=hold)
            if status == "queued":
                state.announce(job)
            else:
                state.set_status(job.id, status)
            return job.id

        return self.call(work)

    def set_status(self, job_id: str, status: str) -> None:
        """Change a job's status, as its runtime would."""
        self.call(lambda: self.state.set_status(job_id, status))

    def put_item(
        self,
        job_id: str | None,
        path: str,
        content: bytes | None = None,
        *,
        permission: Access = "readWrite",
        mime_type: str = "application/octet-stream",
    ) -> ItemRecord:
        """Put a file, or a directory where there is no content, as the user does; missing parents are made.

        :param job_id: None for the application's workspace.
        """
        return self._put(job_id, "user", path, content, permission=permission, mime_type=mime_type)

    def expert_writes(self, job_id: str, path: str, content: bytes | None = None) -> ItemRecord:
        """Write a file, or make a directory, as the expert does in its sandbox."""
        return self._put(job_id, "expert", path, content)

    def expert_deletes(self, job_id: str, path: str) -> None:
        """Delete the job's own item at a path, as the expert does in its sandbox."""

        def work() -> None:
            sandbox = self._sandbox(job_id, "expert")
            item = sandbox.at(path)
            if item is None or sandbox.is_shared(item):
                raise LookupError(f"the job has no item of its own at {path!r}")
            sandbox.delete(item)

        self.call(work)

    def contents(self, job_id: str | None) -> dict[str, bytes | None]:
        """Return everything that a workspace holds by path: bytes of files, None for directories."""
        return self.call(lambda: self._sandbox(job_id, "user").contents())

    def _put(
        self,
        job_id: str | None,
        owner: Owner,
        path: str,
        content: bytes | None,
        *,
        permission: Access = "readWrite",
        mime_type: str = "application/octet-stream",
    ) -> ItemRecord:
        def work() -> ItemRecord:
            sandbox = self._sandbox(job_id, owner)
            if content is None:
                return sandbox.put_directory(path, permission=permission)
            return sandbox.put_bytes(path, content, mime_type=mime_type, permission=permission)

        return self.call(work)

    def _sandbox(self, job_id: str | None, owner: Owner) -> Sandbox:
        return Sandbox(self.state, job_id, owner=owner)
