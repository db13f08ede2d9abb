"""Random work on both sides: afterwards they are equal and at rest, and nothing that was written last is lost."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from pathlib import Path

from folder_harness import Desk, run
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = ("a", "b", "c")


class Worker:
    """Does random things on both sides of a desk, each content unlike any other."""

    def __init__(self, desk: Desk, seed: int) -> None:
        self._desk = desk
        self._chance = random.Random(seed)
        self._count = 0

    def _fresh(self) -> bytes:
        self._count += 1
        return f"{self._count}".encode().ljust(self._chance.choice((3, 3, 8)), b".")

    def _place(self) -> str:
        return "/".join(self._chance.choice(NAMES) for _ in range(self._chance.choice((1, 1, 2, 2, 3))))

    def here(self) -> None:
        """Do one thing in the folder."""
        path, other = self._desk.root / self._place(), self._desk.root / self._place()
        match self._chance.choice(("write", "write", "write", "delete", "move", "touch")):
            case "write" if not path.is_dir() and all(not above.is_file() for above in path.parents):
                self._desk.write(path.relative_to(self._desk.root).as_posix(), self._fresh())
            case "delete" if path.is_dir():
                shutil.rmtree(path)
            case "delete" if path.is_file():
                path.unlink()
            case "move" if path.exists() and not other.exists() and other.parent.is_dir() and path not in other.parents:
                path.rename(other)
            case "touch" if path.is_file():
                os.utime(path)
            case _:
                pass

    def there(self) -> None:
        """Do one thing on the server."""
        model = self._desk.model
        place, other = self._place(), self._place()
        item, parent = model.at(place), model.at(other.rpartition("/")[0])
        above = model.at(place.rpartition("/")[0])
        has_place = "/" not in place or (above is not None and model.bytes.get(above.id) is None)
        has_target = model.at(other) is None and not other.startswith(place + "/")
        has_target = has_target and ("/" not in other or (parent is not None and model.bytes.get(parent.id) is None))
        match self._chance.choice(("put", "put", "put", "mkdir", "remove", "move")):
            case "put" if has_place and (item is None or item.id in model.bytes):
                model.put(place, self._fresh())
            case "mkdir" if has_place and item is None:
                model.put(place, None)
            case "remove" if item is not None:
                model.remove(place)
            case "move" if item is not None and has_target:
                asyncio.run(model.update(item.id, path=other))
            case _:
                pass


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 32), steps=st.lists(st.lists(st.booleans(), max_size=8), max_size=4))
def test_both_sides_are_equal_after_any_work(seed: int, steps: list[list[bool]]) -> None:
    base = Path(tempfile.mkdtemp(prefix="folder-"))
    try:
        desk = Desk(base)
        worker = Worker(desk, seed)
        for number in range(4):
            desk.write(f"keep{number}", f"keep{number}")  # so that no deletion empties everything
        for step in steps:
            for is_here in step:
                (worker.here if is_here else worker.there)()
            run(desk.in_step())
    finally:
        shutil.rmtree(base)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 32), steps=st.lists(st.booleans(), max_size=16))
def test_what_only_one_side_did_is_on_both_sides_afterwards(seed: int, steps: list[bool]) -> None:
    base = Path(tempfile.mkdtemp(prefix="folder-"))
    try:
        desk = Desk(base)
        worker = Worker(desk, seed)
        for number in range(4):
            desk.write(f"keep{number}", f"keep{number}")
        run(desk.in_step())
        for is_here in (True, False):
            for step in steps:
                if step is is_here:
                    (worker.here if is_here else worker.there)()
            wanted = desk.tree() if is_here else desk.model.tree()
            assert run(desk.in_step()) == wanted
    finally:
        shutil.rmtree(base)
