"""Programs that cannot be installed here save in a mount call by call as the real ones do (``saving_program``)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
import saving_program
from engine_harness import run
from real_programs import TRANSPORTS, Desk, at_desk
from request_log import RequestLog
from saving_program import KEEPING_INODE, PATTERNS

pytestmark = pytest.mark.mount

SAVE = ["create", "update", "update", "delete"]
NAME = "docs/report.docx"


async def save_twice(desk: Desk, pattern: str) -> list[dict[str, object]]:
    """Have a program save twice, each time as one save at the server; return what it found."""
    stop = desk.stop()
    await desk.read(NAME)
    words = (sys.executable, saving_program.__file__, pattern, NAME, stop.words, stop.words)
    program = asyncio.create_task(desk.run(*words))
    for count in (1, 2):
        await stop.reached()
        await desk.settle()
        assert desk.asked == SAVE
        assert desk.log.ever == {"docs", NAME}
        assert desk.tree == {"docs": None, NAME: f"version {count} ".encode() * 1000}
        desk.log.forget()
        await stop.leave()
    found: list[dict[str, object]] = json.loads(await program)
    await desk.settle()
    assert desk.asked == []
    return found


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_save_is_one_save_and_the_program_finds_the_file_as_it_left_it(
    log: RequestLog, tmp_path: Path, pattern: str, transport: str
) -> None:
    async def scenario() -> None:
        async with at_desk(log, tmp_path, {NAME: b"first\n"}, transport) as desk:
            expected = {
                "was seen by watchers": True,
                "kept its inode": pattern in KEEPING_INODE,
                "kept its mode": True,
                "changed after the save": False,
                "events after the save": [],
            }
            assert await save_twice(desk, pattern) == [expected, expected]
            left = set(await asyncio.to_thread(os.listdir, desk.programs.point / "docs"))
            assert left == {"report.docx", *(["report.docx~"] if pattern == "gedit" else [])}

    run(scenario())
