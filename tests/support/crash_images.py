"""What a crash would leave of a state: copies of its directory, taken at each statement, commit and removal.

A process that is killed leaves exactly this: the files as they are, and of the database what is committed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from kept_versions import kept_bytes

from jobfs.store.state import State


class PhotographedState(State):
    """A state that tells of each moment at which a crash would leave something else.

    ``camera`` is called then: it may copy the directory, and change nothing.
    """

    camera: Callable[[], None] = staticmethod(lambda: None)

    def _execute(self, statement: str, values: tuple[object, ...]):  # type: ignore[no-untyped-def]
        self.camera()
        cursor = super()._execute(statement, values)
        self.camera()
        return cursor

    def after_commit(self, action: Callable[[], object]) -> None:
        def photographed() -> None:
            self.camera()
            action()
            self.camera()

        super().after_commit(photographed)


class Album:
    """The images of one story, each with what must be found in it.

    :param promised: bytes that no crash may take from now on; the story adds to it.
    """

    def __init__(self, state: Path, folder: Path) -> None:
        self._state = state
        self._folder = folder
        self.promised: set[bytes] = set()
        self._last: list[tuple[str, int, int, int]] = []
        self.images: list[tuple[Path, frozenset[bytes]]] = []

    def take(self) -> None:
        """Take an image, unless it would be as the last one is."""
        files = [path for path in sorted(self._state.rglob("*")) if path.is_file() and path.name != "state.db-shm"]
        look = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns, stat.st_ino) for path in files]
        if look == self._last and self.images[-1][1] == self.promised:
            return
        self._last = look
        image = self._folder / str(len(self.images))
        shutil.copytree(self._state, image, ignore=shutil.ignore_patterns("state.db-shm"))
        self.images.append((image, frozenset(self.promised)))

    def look(self) -> None:
        """Open each image as the next session does; its rows must fit, and what was promised be there."""
        for image, promised in self.images:
            state = State.open(image)
            try:
                assert state.check() == [], image.name
                assert promised <= held(state), (image.name, promised - held(state))
                named = list((image / "blobs").glob("*/*"))
                assert len(named) == len(state.named_blobs()), image.name
            finally:
                state.close()
            shutil.rmtree(image)


def held(state: State) -> set[bytes]:
    """Return the bytes of every file and version that a state holds."""
    here = [node.blob for node in state.local.entries() if node.blob is not None]
    return {state.blobs.path(blob).read_bytes() for blob in here} | set(kept_bytes(state))
