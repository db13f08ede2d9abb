"""How contents come here: small ones in one request, large ones by ranges where the server honours them."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from downloads import MIB, Hold, blobs_in, content_of, digest, is_hydrated, large, opened
from engine_harness import DEADLINE_S, QUICK, Mounted, eventually, mounted, run
from hypothesis import given
from hypothesis import strategies as st
from model_remote import ModelRemote

from jobfs.api.studio import Studio
from jobfs.api.transport import Transport
from jobfs.engine.compose import mirror_session
from jobfs.engine.extents import Extents
from jobfs.engine.pieces import FRONT_BYTES, PIECE_BYTES
from jobfs.engine.session import Options
from jobfs.errors import ProtocolViolation, Unreachable
from jobfs.planner.ignore import Ignore
from jobfs.server.faults import Fault, Faults
from jobfs.server.running import RunningServer
from jobfs.server.switches import parse
from jobfs.store.state import State
from jobfs.vfs.operations import Vfs

# -- how many requests


def test_a_file_of_eight_mebibytes_is_one_plain_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote(honours_ranges=True)
        data = large(remote, 8 * MIB)
        async with mounted(tmp_path, remote) as mount:
            assert digest(await mount.read("big")) == digest(data)
            await eventually(lambda: is_hydrated(mount, "big"))
        assert remote.ranges == [(0, None)]
        assert len(remote.asked("get")) == 0

    run(scenario())


def test_a_large_file_comes_in_pieces_in_order_and_is_proven_once_where_nobody_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote(honours_ranges=True)
        data = large(remote, 5 * PIECE_BYTES + 17)
        async with mounted(tmp_path, remote) as mount:
            await mount.session.hydrator.fetch(mount.node("big"))
            assert remote.ranges == [(at * PIECE_BYTES, PIECE_BYTES) for at in range(5)] + [(5 * PIECE_BYTES, 17)]
            assert len(remote.asked("get")) == 1
            assert mount.session.state.local.get(mount.node("big")).content.sha256 == digest(data)
            assert digest(await mount.read("big")) == digest(data)
            assert mount.session.state.setting("range") == "honour"

    run(scenario())


def test_where_ranges_are_ignored_a_large_file_is_one_request_and_nothing_is_thrown_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        data = large(remote, 3 * PIECE_BYTES)
        async with mounted(tmp_path, remote) as mount:
            with opened(mount, "big") as handle:
                assert await mount.vfs.read(handle, 4096, 20 * MIB) == data[20 * MIB :][:4096]
            assert digest(await mount.read("big")) == digest(data)
            await eventually(lambda: is_hydrated(mount, "big"))
            assert mount.session.state.setting("range") == "ignore"
            assert mount.session.state.local.get(mount.node("big")).content.sha256 == digest(data)
        assert remote.ranges == [(0, PIECE_BYTES)]
        assert len(remote.asked("get")) == 0

    run(scenario())


def test_a_server_that_honours_ranges_no_more_is_believed_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        data = large(remote, 3 * PIECE_BYTES)
        sent = []

        async def count(offset: int) -> None:
            sent.append(offset)

        state = State.open(tmp_path)
        with state.transaction():
            state.remember("range", "honour")
        state.close()

        async with mounted(tmp_path, remote) as mount:
            remote.before_chunk = count
            assert digest(await mount.read("big")) == digest(data)
            await eventually(lambda: is_hydrated(mount, "big"))
            assert sent == list(range(0, len(data), remote.chunk_bytes))
            assert mount.session.state.setting("range") == "ignore"
            remote.put("other", data)
            await mount.pull()
            remote.ranges.clear()
            assert digest(await mount.read("other")) == digest(data)
            assert remote.ranges == [(0, PIECE_BYTES)]

    run(scenario())


# -- far ahead


def test_a_read_far_ahead_is_served_by_a_range_while_the_pieces_are_on_their_way(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote(honours_ranges=True)
        size = 6 * PIECE_BYTES
        data = large(remote, size)
        hold = Hold(MIB, 5 * PIECE_BYTES)
        remote.before_chunk = hold
        async with mounted(tmp_path, remote) as mount:
            with opened(mount, "big") as handle:
                assert await mount.vfs.read(handle, 4096, size - 4096) == data[-4096:]
                assert await mount.vfs.read(handle, 4096, size - 3 * MIB) == data[size - 3 * MIB :][:4096]
                assert await mount.vfs.read(handle, 4096, 0) == data[:4096]
                assert not is_hydrated(mount, "big")
                hold.let_go()
                assert digest(await mount.vfs.read(handle, size, 0)) == digest(data)
            await eventually(lambda: is_hydrated(mount, "big"))
            assert remote.ranges[4:6] == [(size - 4096, 4096), (size - 3 * MIB, 128 << 10)]

    run(scenario())


def test_reading_on_after_a_seek_asks_for_more_each_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote(honours_ranges=True)
        data = large(remote, 6 * PIECE_BYTES)
        hold = Hold(0, 5 * PIECE_BYTES)
        remote.before_chunk = hold
        start = 5 * PIECE_BYTES + MIB
        async with mounted(tmp_path, remote) as mount:
            with opened(mount, "big") as handle:
                for at in range(start, start + 2 * MIB, 64 << 10):
                    assert await mount.vfs.read(handle, 64 << 10, at) == data[at:][: 64 << 10]
            assert [length for _, length in remote.ranges[4:]] == [128 << 10, 256 << 10, 768 << 10, 2304 << 10]
            hold.let_go()
            assert digest(await mount.read("big")) == digest(data)

    run(scenario())


def test_a_reader_that_gives_up_takes_his_range_along_and_nobody_elses(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote(honours_ranges=True)
        data = large(remote, 6 * PIECE_BYTES)
        hold = Hold(0, 6 * PIECE_BYTES)
        remote.before_chunk = hold
        async with mounted(tmp_path, remote) as mount:
            with opened(mount, "big") as handle:
                first = asyncio.create_task(mount.vfs.read(handle, 4096, 5 * PIECE_BYTES))
                await eventually(lambda: hold.held == 5)
                second = asyncio.create_task(mount.vfs.read(handle, 4096, 5 * PIECE_BYTES))
                await asyncio.sleep(0)
                first.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await first
                await eventually(lambda: hold.held == 6)
                assert hold.given_up == 1
                hold.let_go()
                assert await second == data[5 * PIECE_BYTES :][:4096]
            await eventually(lambda: is_hydrated(mount, "big"))
            assert digest(await mount.read("big")) == digest(data)

    run(scenario())


def test_a_range_that_fails_leaves_its_reader_to_the_pieces(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote(honours_ranges=True)
        data = large(remote, 6 * PIECE_BYTES)
        far = 5 * PIECE_BYTES + 3 * MIB
        hold = Hold(0, 6 * PIECE_BYTES)

        async def fail_there(offset: int) -> None:
            if offset == far:
                remote.before_chunk = hold
                hold.let_go()
                raise Unreachable("the connection broke")
            await hold(offset)

        remote.before_chunk = fail_there
        async with mounted(tmp_path, remote) as mount:
            with opened(mount, "big") as handle:
                assert await mount.vfs.read(handle, 4096, far) == data[far:][:4096]
            assert digest(await mount.read("big")) == digest(data)

    run(scenario())


# -- what goes wrong


def test_a_piece_cut_short_is_gone_on_with_where_it_broke(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote(honours_ranges=True)
        data = large(remote, 3 * PIECE_BYTES)
        broken_at = PIECE_BYTES + 3 * MIB

        async def cut_once(offset: int) -> None:
            if offset == broken_at:
                remote.before_chunk = None
                raise Unreachable("the connection broke")

        remote.before_chunk = cut_once
        async with mounted(tmp_path, remote) as mount:
            assert digest(await mount.read("big")) == digest(data)
            await eventually(lambda: is_hydrated(mount, "big"))
        assert (broken_at, 2 * PIECE_BYTES - broken_at) in remote.ranges
        assert len([at for at, _ in remote.ranges if not 0 < at < FRONT_BYTES]) == 4

    run(scenario())


def test_a_download_that_breaks_for_good_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote(honours_ranges=True)
        data = large(remote, 3 * PIECE_BYTES)

        async def cut(offset: int) -> None:
            if offset >= PIECE_BYTES:
                raise Unreachable("the connection broke")

        remote.before_chunk = cut
        async with mounted(tmp_path, remote) as mount:
            with pytest.raises(Unreachable):
                await mount.read("big")
            assert blobs_in(tmp_path) == []
            remote.before_chunk = None
            assert digest(await mount.read("big")) == digest(data)

    run(scenario())


def test_a_stop_during_a_large_download_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote(honours_ranges=True)
        large(remote, 3 * PIECE_BYTES)
        hold = Hold(MIB, 3 * PIECE_BYTES)
        remote.before_chunk = hold
        async with mounted(tmp_path, remote) as mount:
            with opened(mount, "big") as handle:
                await mount.vfs.read(handle, 4096, 0)
                await eventually(lambda: hold.held == 3)
        assert hold.given_up == 3
        assert blobs_in(tmp_path) == []

    run(scenario())


def test_a_large_body_of_the_wrong_length_is_tried_twice_and_never_content(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote()
        data = large(remote, 2 * PIECE_BYTES)
        [item] = remote.items
        async with mounted(tmp_path, remote) as mount:
            for wrong in (data[:-1], data + b"X", data[:100], b""):
                remote.bytes[item] = wrong
                with pytest.raises(ProtocolViolation):
                    await mount.read("big")
                assert blobs_in(tmp_path) == []
            remote.bytes[item] = data
            assert digest(await mount.read("big")) == digest(data)

    run(scenario())


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_where_the_disk_takes_no_more_the_read_fails_and_nothing_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        remote = ModelRemote(honours_ranges=True)
        data = large(remote, 3 * PIECE_BYTES)
        async with mounted(tmp_path, remote) as mount:
            with files_end_at(2 * PIECE_BYTES), pytest.raises(OSError):
                await mount.read("big")
            assert blobs_in(tmp_path) == []
            assert digest(await mount.read("big")) == digest(data)

    run(scenario())


# -- the real server


@asynccontextmanager
async def live(directory: Path, server: RunningServer, data: bytes) -> AsyncIterator[Mounted]:
    """Open the workspace of a job that holds one file, ``big``."""
    job = server.create_job(hold=True, status="completed")
    server.put_item(job, "big", data)
    async with Transport(server.url, server.api_key) as transport:
        state = State.open(directory)
        remote = Studio(transport).workspace(job)
        session = mirror_session(state, remote, ignore=Ignore(), host="testhost", options=Options(times=QUICK))
        await session.start(wait_for_listing=True)
        await session.drain(DEADLINE_S)
        server.clear_requests()
        try:
            yield Mounted(Vfs(session, reports={}), session, remote)  # type: ignore[arg-type]
        finally:
            await session.stop()
            state.close()


def counted(server: RunningServer) -> tuple[int, int]:
    """Return how often content was asked for, and how often one item."""
    paths = [request.path for request in server.requests if "/items/" in request.path]
    downloads = [path for path in paths if path.endswith("/download")]
    return len(downloads), len([path for path in paths if path.rpartition("/items/")[2] and path not in downloads])


@pytest.mark.parametrize(("switch", "expected"), [("range=honour", (3, 1)), ("range=ignore", (1, 0))])
def test_a_large_file_of_a_real_server_comes_whole_in_as_many_requests_as_that_takes(
    tmp_path: Path, switch: str, expected: tuple[int, int]
) -> None:
    data = content_of(20 * MIB)

    async def scenario() -> None:
        with RunningServer(switches=parse([switch])) as server:
            async with live(tmp_path, server, data) as mount:
                await mount.session.hydrator.fetch(mount.node("big"))
                assert counted(server) == expected
                assert digest(await mount.read("big")) == digest(data)

    run(scenario())


def test_random_reads_of_a_real_server_give_the_right_bytes_and_the_file_is_hydrated_all_the_same(
    tmp_path: Path,
) -> None:
    data = content_of(40 * MIB)

    async def scenario() -> None:
        with RunningServer(switches=parse(["range=honour"])) as server:
            async with live(tmp_path, server, data) as mount:
                with opened(mount, "big") as handle:
                    for step in range(60):
                        at = step * 7_777_777 % (len(data) - 4096)
                        assert await mount.vfs.read(handle, 4096, at) == data[at : at + 4096]
                await eventually(lambda: is_hydrated(mount, "big"))
                assert digest(await mount.read("big")) == digest(data)

    run(scenario())


@pytest.mark.parametrize("kind", ["cut_body", "wrong_length"])
def test_a_broken_answer_of_a_real_server_is_repaired_where_nobody_was_given_its_bytes(
    tmp_path: Path, kind: str
) -> None:
    data = content_of(20 * MIB)

    async def scenario() -> None:
        with RunningServer(switches=parse(["range=honour"])) as server:
            async with live(tmp_path, server, data) as mount:
                server.faults = Faults((Fault(kind, count=1, path="/download"),))  # type: ignore[arg-type]
                await mount.session.hydrator.fetch(mount.node("big"))
                assert digest(await mount.read("big")) == digest(data)

    run(scenario())


def test_a_download_that_must_start_over_fails_its_reader(tmp_path: Path) -> None:
    data = content_of(20 * MIB)

    async def scenario() -> None:
        with RunningServer(switches=parse(["range=honour"])) as server:
            async with live(tmp_path, server, data) as mount:
                server.faults = Faults((Fault("wrong_length", count=1, path="/download"),))
                with opened(mount, "big") as handle:
                    assert await mount.vfs.read(handle, 4096, 0) == data[:4096]
                    with pytest.raises(ProtocolViolation):
                        await mount.vfs.read(handle, len(data), 0)
                assert digest(await mount.read("big")) == digest(data)

    run(scenario())


# -- stretches


stretches = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=12)


@given(stretches, st.integers(0, 40), st.integers(0, 40))
def test_extents_are_a_set_of_positions(added: list[tuple[int, int]], start: int, end: int) -> None:
    extents = Extents()
    positions: set[int] = set()
    for first, beyond in added:
        extents.add(first, beyond)
        positions |= set(range(first, beyond))
    assert {at for first, beyond in extents for at in range(first, beyond)} == positions
    assert all(one[1] < other[0] for one, other in zip(list(extents), list(extents)[1:], strict=False))
    assert extents.holds(start, end) == (set(range(start, end)) <= positions)
    assert {at for first, beyond in extents.gaps(start, end) for at in range(first, beyond)} == (
        set(range(start, end)) - positions
    )
    assert extents.end_of(start) == next(at for at in range(start, 99) if at not in positions)
    before = next(length for length in range(99) if start - 1 - length not in positions)
    assert extents.length_before(start) == (0 if start in positions else before)
