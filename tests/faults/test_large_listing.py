"""A large listing is taken in while programs work on: nobody waits for it, and nothing of theirs is judged by it."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest
from story_harness import Open, TimedRemote, ending, play

from jobfs.engine import feed
from jobfs.engine.heap import MANY, growing
from jobfs.model import Kind


def test_what_a_program_does_while_a_listing_is_identified_is_not_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "PART_ROWS", 1)
    runs: list[int] = []
    real = feed.identify

    async def story(open_: Open) -> None:
        remote = TimedRemote()
        remote.put("a", b"old")
        remote.put("d", None)
        async with open_(remote) as mount:

            def and_meanwhile(*args: Any, **options: Any) -> Any:
                """Identify; and what programs do before anybody has the result of that."""
                found = real(*args, **options)
                runs.append(len(runs))
                if len(runs) == 1:
                    mount.vfs.make(*mount.place("d/e"), Kind.DIRECTORY, mode=0o755)
                return found

            monkeypatch.setattr(feed, "identify", and_meanwhile)
            remote.put("b", b"new")
            await mount.pull()
            assert len(runs) == 2
            assert await ending(mount) == {"a": b"old", "b": b"new", "d": None, "d/e": None}

    play(tmp_path, story)


def test_the_collector_rests_while_many_objects_are_made_and_runs_again_then() -> None:
    with growing(MANY):
        assert not gc.isenabled()
        with growing(MANY):
            pass
        assert not gc.isenabled()
        with growing(MANY - 1):
            assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(asyncio.CancelledError), growing(MANY):
        raise asyncio.CancelledError
    assert gc.isenabled()


def test_the_collector_is_left_alone_for_few_objects_and_where_somebody_stopped_it() -> None:
    with growing(MANY - 1):
        assert gc.isenabled()
    gc.disable()
    try:
        with growing(MANY):
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
