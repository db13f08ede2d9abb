"""A state made by hand, broken by hand and repaired: what the tests of the repair start from."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from jobfs.model import ROOT, BlobId, Content, Entry, ItemId, Kind, LocalNode, NodeId, Revision
from jobfs.store.history import Reason, Version
from jobfs.store.repair import decide
from jobfs.store.state import State
from jobfs.store.stock import Repair, read_stock, write_repair

NOW_NS = 5


class Workshop:
    """A state that is broken by hand: numbers by path, and what has to survive."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.numbers: dict[str, NodeId] = {"": ROOT}
        self.blobs: dict[str, BlobId] = {}
        self._state = State.open(directory)

    # -- a sound state

    def directory_at(self, path: str, *, on_server: bool = True) -> None:
        node = self._node(path, Kind.DIRECTORY)
        with self._state.transaction():
            self._state.put_local(node)
            if on_server:
                self._state.put_base(self._entry(node, None))

    def file(self, path: str, here: bytes | None, there: bytes | None) -> None:
        """Make a file: its bytes here (None: not hydrated), and those of the version that the server has."""
        revision = None if there is None else Revision(ItemId(f"item-{path}"), "2026-01-01", len(there), f"k-{path}")
        known = None if there is None else Content(len(there), None, revision)
        content = known if known is not None and here in (None, there) else Content(len(here or b""))
        node = replace(self._node(path, Kind.FILE), content=content)
        if here is not None:
            node = replace(node, blob=self._blob(path, here))
        with self._state.transaction():
            self._state.put_local(node)
            if known is not None:
                self._state.put_base(self._entry(node, known))

    def local_only(self, path: str, data: bytes) -> None:
        node = replace(self._node(path, Kind.FILE), content=Content(len(data)), is_local_only=True)
        with self._state.transaction():
            self._state.put_local(replace(node, blob=self._blob(path, data)))

    def lost_version(self, path: str, data: bytes) -> None:
        with self._state.transaction():
            self._state.versions.add(Version(path, self._blob(path, data), Content(len(data)), Reason.LOST, 1))

    def _node(self, path: str, kind: Kind) -> LocalNode:
        above, _, name = path.rpartition("/")
        self.numbers[path] = self._state.allocate()
        return LocalNode(self.numbers[path], self.numbers[above], name, kind, mtime_ns=1, ctime_ns=1)

    def _entry(self, node: LocalNode, content: Content | None) -> Entry:
        item = content.revision.item if content is not None and content.revision is not None else ItemId(f"d{node.id}")
        return Entry(node.id, node.parent, node.name, node.kind, content=content, item=item)

    def _blob(self, path: str, data: bytes) -> BlobId:
        blob = self.blobs[path] = self._state.blobs.allocate()
        with os.fdopen(self._state.blobs.open(blob, create=True), "wb") as file:
            file.write(data)
        return blob

    def journal(self, change: Callable[[State], None]) -> None:
        with self._state.transaction():
            change(self._state)

    # -- damage and its repair

    def close(self) -> None:
        self._state.close()

    def sql(self, statement: str, *values: object) -> None:
        """Break something; ``{path}`` stands for the number of the node at a path."""
        for path, number in self.numbers.items():
            statement = statement.replace(f"{{{path}}}", str(number))
        with closing(sqlite3.connect(self.directory / "state.db", isolation_level=None)) as database:
            database.execute(statement, values)

    def blob_path(self, path: str) -> Path:
        blob = self.blobs[path]
        return self.directory / "blobs" / f"{blob % 256:02x}" / str(blob)

    def repair(self) -> Repair:
        repair = decide(read_stock(self.directory), free_name, now_ns=NOW_NS)
        write_repair(self.directory, repair)
        return repair


def free_name(name: str, is_taken: Callable[[str], bool], *, is_directory: bool) -> str:
    return next(free for count in range(2, 99) if not is_taken(free := f"{name} ({count})"))
