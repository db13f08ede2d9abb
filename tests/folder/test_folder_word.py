"""What the user allowed to be deleted in a folder, and cannot be: it makes nothing else look allowed, or few."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from folder_harness import Desk, eventually, run

from jobfs.engine.arrival import refresh
from jobfs.errors import GuardTripped
from jobfs.folder.disk import Disk


class Stubborn(Disk):
    """A disk on which nothing leaves the directory ``a`` until it is loosened."""

    is_loose = False

    def move(self, source: str, target: str, *, is_directory: bool) -> None:
        if source.startswith("a/") and not Stubborn.is_loose:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), source)
        super().move(source, target, is_directory=is_directory)


@pytest.mark.allow_log("stopped: ")
def test_a_wipe_after_one_that_was_allowed_and_could_not_be_made_stops(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        for number in range(100):
            desk.model.put(f"{'a' if number < 60 else 'b'}/{number:02d}", b"x")
        async with desk.watching(make_disk=Stubborn) as sync:
            guard = sync.session.guard
            await eventually(lambda: len(desk.tree()) == 102 and not sync.session.busy)
            desk.model.remove("a")
            with pytest.raises(GuardTripped):
                await refresh(sync.session)
            await refresh(sync.session, allow=None)
            assert (guard.side, len(desk.tree())) == (None, 102)
            desk.model.remove("b")
            with pytest.raises(GuardTripped):
                await refresh(sync.session)
            assert (guard.detail[:6], len(desk.tree())) == ("41 of ", 102)
            Stubborn.is_loose = True
            await refresh(sync.session, allow=None)
            await eventually(lambda: all(place.startswith("a") for place in desk.tree()))

    Stubborn.is_loose = False
    run(scenario())
