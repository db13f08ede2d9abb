"""The table of versions: migration, labels, look-ups, and what is rolled back."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from jobfs.model import BlobId, Content, ItemId, NodeId, Permission, Revision
from jobfs.store.history import Reason, Version
from jobfs.store.schema import VERSION
from jobfs.store.state import Creation, State
from jobfs.store.stock import read_stock

OLD_TABLE = """
DROP TABLE history;
CREATE TABLE history (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL, blob INTEGER NOT NULL, size INTEGER NOT NULL, reason TEXT NOT NULL,
    at_ns INTEGER NOT NULL
);
DROP TABLE approval;
DROP TABLE creation;
CREATE TABLE creation (path TEXT PRIMARY KEY, node INTEGER NOT NULL, size INTEGER, sha256 TEXT) WITHOUT ROWID;
INSERT INTO creation VALUES ('made', 3, 4, 'ab'), ('made too', 70, NULL, NULL);
PRAGMA user_version = 2;
"""


def blob_of(state: State, data: bytes) -> BlobId:
    blob = state.blobs.allocate()
    with os.fdopen(state.blobs.open(blob, create=True), "wb") as file:
        file.write(data)
    return blob


def add(state: State, path: str, data: bytes = b"bytes", **more: object) -> Version:
    with state.transaction():
        blob = blob_of(state, data) if data else None
        return state.versions.add(
            Version(path, blob, Content(len(data)), Reason.REPLACED, 7, **more)  # type: ignore[arg-type]
        )


def test_a_state_of_the_version_before_keeps_what_it_had(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    blob = blob_of(state, b"lost")
    state.close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as database:
        database.executescript(f"{OLD_TABLE} INSERT INTO history VALUES (5, 'a', {blob}, 4, 'lost a conflict', 1);")
    stock = read_stock(tmp_path)
    assert ([(one.path, one.blob) for one in stock.history.values()], stock.journalled) == ([("a", blob)], {3, 70})
    state = State.open(tmp_path)
    try:
        [kept] = state.versions.all()
        assert kept == Version("a", blob, Content(4), "lost a conflict", 1, number=5)
        assert state.blobs.path(blob).read_bytes() == b"lost"
        assert add(state, "b").number == 6
        made = [
            Creation(1, "made", None, NodeId(3), Content(4, "ab")),
            Creation(2, "made too", None, NodeId(70), None),
        ]
        assert state.creations() == made
        assert state.check() == []
    finally:
        state.close()
    assert read_stock(tmp_path).history.keys() == {5, 6}
    with closing(sqlite3.connect(tmp_path / "state.db")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_a_state_that_remembers_creates_without_their_directory_is_opened(tmp_path: Path) -> None:
    State.open(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as database:
        database.executescript(
            """
            DROP TABLE creation;
            CREATE TABLE creation (
                number INTEGER PRIMARY KEY, path TEXT NOT NULL, node INTEGER NOT NULL, size INTEGER, sha256 TEXT
            );
            INSERT INTO creation VALUES (7, 'd/made', 3, 4, 'ab');
            PRAGMA user_version = 5;
            """
        )
    stock = read_stock(tmp_path)
    assert (stock.journalled, stock.unreadable) == ({3}, ())
    state = State.open(tmp_path)
    try:
        assert state.creations() == [Creation(7, "d/made", None, NodeId(3), Content(4, "ab"))]
        with state.transaction():
            state.put_creation(Creation(8, "d/more", NodeId(2), NodeId(4), None))
        assert len(state.creations()) == 2
    finally:
        state.close()
    assert read_stock(tmp_path).unreadable == ()


def test_everything_about_a_version_comes_back(tmp_path: Path) -> None:
    revision = Revision(ItemId("i"), "2026-01-01", 5, "k")
    state = State.open(tmp_path)
    version = Version(
        "d/ä\n", blob_of(state, b"bytes"), Content(5, "ab", revision), Reason.DELETED, 9, NodeId(4),
        Permission.READ_ONLY, 0o444, 3,
    )  # fmt: skip
    with state.transaction():
        added = state.versions.add(version)
    state.close()
    state = State.open(tmp_path)
    try:
        assert state.versions.all() == [added]
        assert state.versions.get(added.number) == added
        assert (added.number, state.versions.held_bytes) == (1, 4096)
    finally:
        state.close()


def test_a_label_is_never_given_twice(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    try:
        first = add(state, "a")
        with state.transaction():
            state.versions.drop(first)
        assert add(state, "a").number > first.number
    finally:
        state.close()


def test_versions_are_found_by_place_by_node_and_by_item(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    try:
        for path in ("d", "d/a", "d/b/c", "d0", "d.txt", "e"):
            add(state, path, node=NodeId(ord(path[-1])))
        assert [one.path for one in state.versions.below("d")] == ["d/a", "d/b/c"]
        assert len(state.versions.below("")) == 6
        assert [one.path for one in state.versions.at("d")] == ["d"]
        assert [one.path for one in state.versions.of_node(NodeId(ord("c")))] == ["d/b/c"]
        add(state, "d/a", b"new")
        newest = state.versions.newest_at("d/a")
        assert newest is not None
        assert newest.content.size == 3
    finally:
        state.close()


def test_what_is_rolled_back_was_never_owned(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    try:
        kept = add(state, "a")
        blob = blob_of(state, b"x")
        with pytest.raises(RuntimeError, match="on purpose"), state.transaction():
            state.versions.add(Version("b", blob, Content(1), Reason.DELETED, 1))
            state.versions.drop(kept)
            raise RuntimeError("on purpose")
        assert state.versions.all() == [kept]
        assert (state.versions.owns(blob), state.versions.owns(kept.blob)) == (False, True)
        assert state.versions.held_bytes == kept.cost
    finally:
        state.close()


def test_an_empty_version_needs_no_bytes_and_any_other_does(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    try:
        add(state, "a", b"")
        assert state.check() == []
        with state.transaction():
            state.versions.add(Version("b", None, Content(1), Reason.DELETED, 1))
        assert state.check() == ["I3: version 2 of 'b' has no bytes"]
    finally:
        state.close()
