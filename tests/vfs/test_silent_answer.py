"""An answer that stops in the middle: the rest comes by another range, and a server that pauses is not pressed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from downloads import content_of, digest
from engine_harness import run
from model_remote import ModelDownload, ModelRemote

from jobfs.engine.landing import Landing
from jobfs.engine.pieces import PARALLEL, PIECE_BYTES, Pieces
from jobfs.model import ItemId

_SIZE = 2 * PARALLEL * PIECE_BYTES
_SILENCE_S = 0.1


async def brought(remote: ModelRemote, path: Path, *, silence_s: float = _SILENCE_S) -> bytes:
    """Bring the only file of a server whose ranges are known to be honoured or not."""

    async def check() -> None:
        await remote.get(item)

    (item,) = remote.items
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        landing = Landing(descriptor, _SIZE, lambda: None)
        await Pieces(
            remote,
            item,
            landing,
            [],
            check=check,
            is_honoured=remote.honours_ranges,
            on_learnt=lambda is_honoured: None,
            silence_s=silence_s,
        ).run()
        assert landing.shown.holds(0, _SIZE)
    finally:
        os.close(descriptor)
    return path.read_bytes()


class Stalling(ModelRemote):
    """A server over a line on which answers bring one chunk and stall there, as a test says.

    :param stall: awaited before the second chunk of each answer, with the answer's number.
    """

    def __init__(self, stall: Callable[[int], Awaitable[object]], *, honours_ranges: bool = True) -> None:
        super().__init__(honours_ranges=honours_ranges)
        self.chunk_bytes = 1 << 20
        self._stall = stall

    @asynccontextmanager
    async def download(
        self, item: ItemId, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[ModelDownload]:
        number = len(self.ranges)
        async with super().download(item, offset=offset, length=length) as download:
            is_second = True

            async def stall() -> None:
                nonlocal is_second
                if is_second:
                    is_second = False
                    await self._stall(number)

            download.behind_first = stall
            yield download


async def for_ever() -> None:
    await asyncio.Event().wait()


def test_answers_over_a_dead_line_are_gone_on_with_where_they_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        async def stall(number: int) -> None:
            if number < PARALLEL:
                await for_ever()

        remote, data = Stalling(stall), content_of(_SIZE)
        remote.put("big", data)
        assert digest(await brought(remote, tmp_path / "big")) == digest(data)
        chunk = remote.chunk_bytes
        resumed = [asked for asked in remote.ranges if asked[0] % PIECE_BYTES]
        assert sorted(resumed) == [(at * PIECE_BYTES + chunk, PIECE_BYTES - chunk) for at in range(PARALLEL)]
        assert len(remote.asked("get")) == 1, "several answers are joined only with a look that proves them"

    run(scenario())


def test_a_server_that_pauses_in_every_answer_is_asked_a_few_times_more_and_then_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async def stall(number: int) -> None:
            await asyncio.sleep(4 * _SILENCE_S)

        remote, data = Stalling(stall), content_of(_SIZE)
        remote.put("big", data)
        assert digest(await brought(remote, tmp_path / "big")) == digest(data)
        assert 2 * PARALLEL < len(remote.ranges) <= 2 * PARALLEL + 3 * PARALLEL

    run(scenario())


@pytest.mark.parametrize("honours_ranges", [True, False])
def test_what_pauses_for_less_or_cannot_be_gone_on_with_is_only_waited_for(
    tmp_path: Path, honours_ranges: bool
) -> None:
    async def scenario() -> None:
        async def stall(number: int) -> None:
            await asyncio.sleep(_SILENCE_S if honours_ranges else 3 * _SILENCE_S)

        remote, data = Stalling(stall, honours_ranges=honours_ranges), content_of(_SIZE)
        remote.put("big", data)
        silence_s = 30 * _SILENCE_S if honours_ranges else _SILENCE_S
        assert digest(await brought(remote, tmp_path / "big", silence_s=silence_s)) == digest(data)
        assert len(remote.ranges) == (2 * PARALLEL if honours_ranges else 1)

    run(scenario())
