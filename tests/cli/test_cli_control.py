"""The control socket and the record of a running mount."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobfs.cli.order import Order
from jobfs.errors import JobfsError, NotFound
from jobfs.store.lock import DirectoryLock
from jobfs.workspace.answering import MOST_SOCKET_PATH_BYTES, ControlServer, Send, remove_leftover
from jobfs.workspace.control import Address, NotAnswering, ask
from jobfs.workspace.instance import Instance, is_locked, read_instance
from jobfs.workspace.states import real_directory


async def _echo(request: Mapping[str, Any], send: Send) -> object:
    for at in range(int(request.get("steps", 0))):
        await send(at)
    return request.get("value")


async def _fail(request: Mapping[str, Any], send: Send) -> object:
    raise NotFound("gone", "look elsewhere")


@contextmanager
def serving(state: Path, *, has_unix: bool | None = None) -> Iterator[Address]:
    """Serve on a thread of its own."""
    ready: list[Address] = []
    is_ready, loops, ends = threading.Event(), [], []

    async def serve() -> None:
        server = ControlServer()
        ready.append(await server.listen(state, {"echo": _echo, "fail": _fail}, has_unix=has_unix))
        end = asyncio.Event()
        loops.append(asyncio.get_running_loop())
        ends.append(end)
        is_ready.set()
        await end.wait()
        await server.stop_listening()
        await server.hang_up()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="control-test")
    thread.start()
    assert is_ready.wait(10)
    try:
        yield ready[0]
    finally:
        loops[0].call_soon_threadsafe(ends[0].set)
        thread.join(10)


WAYS: dict[str, Callable[[Path], tuple[Path, bool]]] = {
    "unix": lambda folder: (folder, True),
    "unix with a long path": lambda folder: (folder / ("d" * MOST_SOCKET_PATH_BYTES), True),
    "tcp": lambda folder: (folder, False),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_request_is_answered_with_progress_and_result(tmp_path: Path, way: str) -> None:
    state, has_unix = WAYS[way](tmp_path)
    state.mkdir(exist_ok=True)
    seen: list[object] = []
    with serving(state, has_unix=has_unix) as address:
        assert ask(address, "echo", value={"a": 1}, steps=3, on_progress=seen.append) == {"a": 1}
        place = Path(address.path)
    assert seen == [0, 1, 2]
    assert not address.path or not place.exists()


def test_a_long_path_is_served_in_a_private_folder(tmp_path: Path) -> None:
    state = tmp_path / ("d" * MOST_SOCKET_PATH_BYTES)
    state.mkdir()
    with serving(state) as address:
        folder = Path(address.path).parent
        assert len(os.fsencode(address.path)) <= MOST_SOCKET_PATH_BYTES
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()


def test_the_private_folder_of_a_killed_process_is_removed_and_nothing_else(tmp_path: Path) -> None:
    state, private, foreign = tmp_path / "state", tmp_path / "private", tmp_path / "foreign"
    for folder in (state, private, foreign):
        folder.mkdir()
        (folder / "control").touch()
    (foreign / "more").touch()
    for folder in (state, private, foreign):
        remove_leftover(Address(path=str(folder / "control")), state)
    assert (private.exists(), (foreign / "more").exists(), (state / "control").exists()) == (False, True, True)


def test_a_failure_arrives_with_its_exit_code(tmp_path: Path) -> None:
    with serving(tmp_path) as address, pytest.raises(JobfsError) as failed:
        ask(address, "fail")
    assert (failed.value.cause, failed.value.remedy, failed.value.exit_code) == ("gone", "look elsewhere", 4)


def test_an_unknown_request_is_refused_and_the_next_one_served(tmp_path: Path) -> None:
    with serving(tmp_path) as address:
        with pytest.raises(JobfsError):
            ask(address, "nonsense")
        assert ask(address, "echo", value=1) == 1


def test_over_tcp_nobody_is_served_without_the_token(tmp_path: Path) -> None:
    with serving(tmp_path, has_unix=False) as address:
        with pytest.raises(JobfsError) as refused:
            ask(Address(port=address.port, token="guessed"), "echo", value=1)
        assert refused.value.cause == "the request has no valid token"
    assert address.token not in repr(address)


def test_nobody_listening_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotAnswering):
        ask(Address(path=str(tmp_path / "none")), "echo")


def instance(state: Path, address: Address | None = None) -> Instance:
    return Instance(state, "mount", "/somewhere", "http://127.0.0.1:1", "job1", "kernel", 42, 1.5, address)


def test_a_record_is_read_as_it_was_written_and_is_private(tmp_path: Path) -> None:
    written = instance(tmp_path, Address(port=5, token="t"))
    written.write()
    assert read_instance(tmp_path) == written
    assert stat.S_IMODE((tmp_path / "instance.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"address": null}', "\xff"])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "instance.json").write_text(text, encoding="latin-1")
    assert read_instance(tmp_path) is None


def test_whether_one_runs_is_told_by_the_lock_and_not_by_the_record(tmp_path: Path) -> None:
    record = instance(tmp_path, Address(path=str(tmp_path / "dead")))
    before = record.is_running()
    lock = DirectoryLock.take(tmp_path)
    while_locked = (record.is_running(), is_locked(tmp_path))
    lock.release()
    assert (before, while_locked, record.is_running()) == (False, (True, True), False)


def test_a_directory_is_spelt_alike_through_links(tmp_path: Path) -> None:
    (tmp_path / "real" / "m").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert real_directory(tmp_path / "link" / "m") == real_directory(tmp_path / "real" / "." / "m")


def test_an_order_travels_as_one_line_and_shows_no_key() -> None:
    order = Order(job="j", directory="/d", url="u", api_key="very-secret", ignore=("a", "b"), max_deletions=None)
    line = order.to_line()
    assert (Order.from_line(line), line.count(b"\n"), "very-secret" in repr(order)) == (order, 1, False)
    assert json.loads(line)["ignore"] == ["a", "b"]
