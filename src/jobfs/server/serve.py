"""The server as a process of its own: what ``jobfs serve`` runs."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from starlette.types import ASGIApp

from jobfs.errors import SettingsError
from jobfs.server.app import create_app, server_state
from jobfs.server.experts import Experts
from jobfs.server.faults import Faults
from jobfs.server.internal_api import AsgiInternalApi
from jobfs.server.keys import KeyKind
from jobfs.server.listening import listen, origin_of, serve_until
from jobfs.server.routes_storage import create_storage_app
from jobfs.server.runner import Runner
from jobfs.server.state import DEFAULT_UPLOAD_LIMIT, ServerState
from jobfs.server.switches import Switches

RUNS = "runs"
"""Where in the data folder the runner works."""

GRACE_S = 5
"""Seconds that requests under way get at shutdown."""


@dataclass(frozen=True, slots=True)
class Started:
    """What the user is told when the server answers.

    :param api_key: in clear, at the first start of a data folder only; it is stored nowhere.
    :param system_key: the same for the internal endpoints.
    """

    url: str
    folder: Path
    api_key: str | None = field(repr=False)
    system_key: str | None = field(repr=False)


def run_server(
    *,
    data_dir: Path,
    host: str = "127.0.0.1",
    port: int = 8787,
    allow_remote: bool = False,
    switches: Switches | None = None,
    faults: Faults | None = None,
    runner: bool = True,
    log_level: str = "warning",
    upload_limit: int = DEFAULT_UPLOAD_LIMIT,
    on_started: Callable[[Started], None] | None = None,
) -> None:
    """Serve a data folder until SIGINT or SIGTERM; blocks. Requests under way are answered and running jobs canceled.

    :param allow_remote: needed for a host other than loopback: keys then travel without encryption.
    :param runner: whether queued jobs are run.
    :param log_level: of the log on stderr; ``info`` shows every request, never with a key or a value.
    :param on_started: told when requests are answered; by default it is printed on stdout.
    :raises SettingsError: the address is not allowed or not free, or ``experts.toml`` cannot be understood.
    :raises StateError: the data folder cannot be used.
    """
    if not allow_remote:
        _require_loopback(host)
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    # It warns of every malformed form, which is the client's mistake and told to him.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    # experts.toml is looked for before anything is served, so that a mistake in it is seen at once.
    data_dir.mkdir(parents=True, exist_ok=True)
    experts = Experts(data_dir)
    app = create_app(data_dir, switches=switches, faults=faults, experts=experts.lookup, upload_limit=upload_limit)
    state = server_state(app)
    try:
        with listen(host, port) as front, listen(host, 0) as back:
            state.storage_origin = origin_of(back)
            started = Started(origin_of(front), data_dir, *(state.first_start() or (None, None)))
            jobs = run_jobs(app, experts, data_dir) if runner else nullcontext()
            pair = ((app, front), (create_storage_app(state), back))
            asyncio.run(_serve(state, pair, jobs, partial(on_started or _print, started)))
    finally:
        state.close()


async def _serve(
    state: ServerState,
    applications: Sequence[tuple[ASGIApp, socket.socket]],
    jobs: AbstractAsyncContextManager[None],
    on_ready: Callable[[], None],
) -> None:
    with _stopped_by_signals() as stop:
        async with jobs:
            on_ready()
            await serve_until(stop, applications, grace_s=GRACE_S, on_stop=state.news.close)


@asynccontextmanager
async def run_jobs(app: FastAPI, experts: Experts, data_dir: Path) -> AsyncIterator[None]:
    """Run queued jobs for as long as the context lasts; at its end, running ones are canceled."""
    state = server_state(app)
    api = AsgiInternalApi(app, state.keys.lend(KeyKind.SYSTEM))
    runner = Runner(state, api, experts.get, data_dir / RUNS)
    await runner.start()
    try:
        yield
    finally:
        await runner.stop()


@contextmanager
def _stopped_by_signals() -> Iterator[asyncio.Event]:
    """Give an event that SIGINT or SIGTERM sets, on the running loop. The streams of checkpoints end with it."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set)) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _require_loopback(host: str) -> None:
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise SettingsError(
            f"{host} is not a loopback address, and the server speaks plain HTTP",
            "leave --host away, or give --allow-remote on a network that you trust",
        )


def _print(started: Started) -> None:
    lines = [f"serving {started.url} from {started.folder}"]
    if started.api_key is not None:
        lines += [
            f"API key:    {started.api_key}",
            f"system key: {started.system_key}",
            "Keep them: they are shown this once and stored nowhere.",
        ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
