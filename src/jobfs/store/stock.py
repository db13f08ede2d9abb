"""What a state holds, row by row: read without trusting any of it, and written after a repair.

For ``jobfs fsck`` alone, which holds the lock on the directory meanwhile. What the rows are to become is decided in
``repair``; nothing here judges.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobfs.errors import StateCorrupt
from jobfs.model import BlobId, Content, Entry, LocalNode, NodeId, Trouble
from jobfs.store.blobs import Blobs
from jobfs.store.database import database_errors
from jobfs.store.history import Version, is_version_row, version_of
from jobfs.store.rows import (
    PUT_BASE,
    PUT_LOCAL,
    base_entry,
    base_row,
    fits,
    is_base_row,
    is_local_row,
    local_node,
    local_row,
)
from jobfs.store.state import check_version
from jobfs.store.trees import Tree

_FIRST_WITH_CREATIONS = 2
_FIRST_WITH_VERSIONS = 3
_FIRST_WITH_APPROVALS = 4
_FIRST_WITH_NUMBERED_CREATIONS = 5
_FIRST_WITH_PLACED_CREATIONS = 6
_TROUBLES = frozenset(trouble.value for trouble in Trouble)
_Row = tuple[Any, ...]

_KEYS = {
    "local": ("id",),
    "base": ("id",),
    "link": ("parent", "name"),
    "aside": ("token",),
    "creation": ("number",),
    "refusal": ("node",),
    "approval": ("node",),
    "history": ("id",),
}


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that cannot be taken for what its table holds.

    :param key: the table's primary key, column by column.
    :param node: the node that it is about, where that can be told.
    """

    table: str
    key: Mapping[str, object]
    node: NodeId | None = None


@dataclass(frozen=True, slots=True)
class Stock:
    """What a state holds, row by row, with nothing taken for granted.

    :param history: by row number. :param blobs: the lengths in bytes of the blob files that are there.
    :param next_node: 0 where it is missing, less where it is no number.
    :param journalled: node numbers in the other tables.
    """

    local: Mapping[NodeId, LocalNode]
    base: Mapping[NodeId, Entry]
    links: Mapping[tuple[NodeId, str], NodeId]
    history: Mapping[int, Version]
    blobs: Mapping[BlobId, int]
    next_node: int
    journalled: frozenset[NodeId] = frozenset()
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def is_folder(self) -> bool:
        """Whether this is the record of a real folder: inodes, and no bytes of its own."""
        nodes = self.local.values()
        return any(node.inode for node in nodes) and all(node.blob is None for node in nodes)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    :param what: with the invariant of ``schema`` that it breaks. :param remedy: what is, or would be, done about it.
    """

    what: str
    remedy: str


@dataclass(slots=True)
class Repair:
    """What the rows are to become. None stands for a row that goes.

    :param history: new blobs by row number. :param kept: rows to add to the history.
    :param copies: blob files to be made, each a copy of another, before the rows are written.
    :param next_node: None: as it is.
    """

    findings: list[Finding] = field(default_factory=list)
    local: dict[NodeId, LocalNode | None] = field(default_factory=dict)
    base: dict[NodeId, Entry | None] = field(default_factory=dict)
    links: set[tuple[NodeId, str]] = field(default_factory=set)
    history: dict[int, BlobId | None] = field(default_factory=dict)
    kept: list[Version] = field(default_factory=list)
    copies: dict[BlobId, BlobId] = field(default_factory=dict)
    next_node: int | None = None
    unreadable: tuple[Unreadable, ...] = ()


def read_stock(directory: Path) -> Stock:
    """Read a state, and change nothing.

    :raises StateTooNew: a newer version of jobfs made it. :raises StateCorrupt: the database itself is damaged.
    """
    path = directory / "state.db"
    with (
        database_errors(directory),
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database,
    ):
        database.text_factory = _text
        if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return Stock({}, {}, {}, {}, {}, 0)
        version = database.execute("PRAGMA user_version").fetchone()[0]
        check_version(version, directory)
        if database.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise StateCorrupt(f"the state in {directory} is damaged", "run 'jobfs fsck' on it")
        return _Reading(database, version).stock(dict(_blobs(directory)))


def _text(raw: bytes) -> str | bytes:
    """Return a text, or the raw bytes of what is none: its row is then one that cannot be read."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _blobs(directory: Path) -> Iterator[tuple[BlobId, int]]:
    """Yield the blob files that are in their places, with their lengths in bytes."""
    blobs = Blobs(directory / "blobs")
    for file in (directory / "blobs").glob("*/*"):
        if file.name.isdecimal() and file == blobs.path(blob := BlobId(int(file.name))) and file.is_file():
            yield blob, file.stat().st_size


class _Reading:
    """One reading of a database."""

    def __init__(self, database: sqlite3.Connection, version: int) -> None:
        self._database = database
        self._version = version
        self._unreadable: list[Unreadable] = []

    def stock(self, blobs: Mapping[BlobId, int]) -> Stock:
        """Return the stock."""
        nothing: Tree[Entry] = Tree()
        local = [local_node(row, nothing) for row in self._rows("local", is_local_row)]
        base = [base_entry(row) for row in self._rows("base", is_base_row)]
        links = {(NodeId(parent), name): NodeId(node) for parent, name, node in self._rows("link", _fits("isi"))}
        journalled = {row[1] for row in self._rows("aside", _fits("sisSSIS"))}
        if self._version >= _FIRST_WITH_CREATIONS:
            columns = self._columns_of_creations()
            journalled.update(row[columns.index("i", 1)] for row in self._rows("creation", _fits(columns)))
        journalled.update(row[0] for row in self._rows("refusal", _is_refusal))
        if self._version >= _FIRST_WITH_APPROVALS:
            journalled.update(row[0] for row in self._rows("approval", _fits("i")))
        history = {version.number: version for version in self._versions()}
        return Stock(
            {node.id: node for node in local},
            {entry.id: entry for entry in base},
            links,
            history,
            blobs,
            self._next_node(),
            frozenset(map(NodeId, journalled)),
            tuple(self._unreadable),
        )

    def _rows(self, table: str, is_row: Callable[[_Row], bool]) -> Iterator[_Row]:
        """Yield the rows of a table that can be read, and note the others."""
        for row in self._database.execute(f"SELECT * FROM {table}"):  # noqa: S608 - a name from the schema
            if is_row(row):
                yield row
            else:
                is_about_node = table in ("local", "base", "refusal")
                key = dict(zip(self._key(table), row, strict=False))
                self._unreadable.append(Unreadable(table, key, NodeId(row[0]) if is_about_node else None))

    def _columns_of_creations(self) -> str:
        if self._version >= _FIRST_WITH_PLACED_CREATIONS:
            return "isIiIS"
        return "isiIS" if self._are_creations_numbered else "siIS"

    @property
    def _are_creations_numbered(self) -> bool:
        return self._version >= _FIRST_WITH_NUMBERED_CREATIONS

    def _key(self, table: str) -> tuple[str, ...]:
        return ("path",) if table == "creation" and not self._are_creations_numbered else _KEYS[table]

    def _versions(self) -> Iterator[Version]:
        if self._version >= _FIRST_WITH_VERSIONS:
            yield from map(version_of, self._rows("history", is_version_row))
            return
        for number, path, blob, size, reason, at_ns in self._rows("history", _fits("isiisi")):
            yield Version(path, BlobId(blob), Content(size), reason, at_ns, number=number)

    def _next_node(self) -> int:
        row = self._database.execute("SELECT value FROM meta WHERE key = 'next_node'").fetchone()
        if row is None:
            return 0
        return int(row[0]) if isinstance(row[0], str) and row[0].isdecimal() else -1


def _fits(columns: str) -> Callable[[_Row], bool]:
    return lambda row: fits(row, columns)


def _is_refusal(row: _Row) -> bool:
    return fits(row, "iss") and row[1] in _TROUBLES


def write_repair(directory: Path, repair: Repair) -> None:
    """Make the rows of a state what they are to be: all of them, or, where it fails, none. Durable when it returns.

    :raises StateFull: the disk is full.
    """
    present, is_written = dict(_blobs(directory)), False
    try:
        _make_copies(Blobs(directory / "blobs"), repair.copies)
        with (
            database_errors(directory),
            closing(sqlite3.connect(directory / "state.db", isolation_level=None)) as database,
        ):
            database.execute("PRAGMA synchronous = FULL")
            database.execute("BEGIN IMMEDIATE")  # what is not committed when the connection is closed is rolled back
            _write(database, repair)
            is_written = True
            database.execute("COMMIT")
    except BaseException:
        if not is_written:  # a commit that failed may be there all the same; what no row names goes at the next start
            for blob, _ in list(_blobs(directory)):
                if blob not in present:
                    Blobs(directory / "blobs").discard(blob)
        raise


def _make_copies(blobs: Blobs, copies: Mapping[BlobId, BlobId]) -> None:
    """Make the copies that the rows will name; the disk has them when this returns."""
    for copy, source in copies.items():
        made, target = blobs.path(blobs.copy(source)), blobs.path(copy)
        target.parent.mkdir(exist_ok=True, mode=0o700)
        made.rename(target)
        for path in (target, target.parent):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _write(database: sqlite3.Connection, repair: Repair) -> None:
    for unreadable in repair.unreadable:
        _delete(database, unreadable.table, unreadable.key)
    for node, record in repair.local.items():
        if record is None:
            _delete(database, "local", {"id": node})
        else:
            database.execute(PUT_LOCAL, local_row(record))
    for node, entry in repair.base.items():
        if entry is None:
            _delete(database, "base", {"id": node})
        else:
            database.execute(PUT_BASE, base_row(entry))
    for parent, name in repair.links:
        _delete(database, "link", {"parent": parent, "name": name})
    for number, blob in repair.history.items():
        if blob is None:
            _delete(database, "history", {"id": number})
        else:
            database.execute("UPDATE history SET blob = ? WHERE id = ?", (blob, number))
    for kept in repair.kept:
        row = (kept.path, kept.blob, kept.content.size, str(kept.reason), kept.at_ns)  # columns of every schema
        database.execute("INSERT INTO history (path, blob, size, reason, at_ns) VALUES (?, ?, ?, ?, ?)", row)
    database.execute(
        "DELETE FROM refusal WHERE node NOT IN (SELECT id FROM local) AND node NOT IN (SELECT id FROM base)"
    )
    if repair.next_node is not None:
        database.execute("INSERT OR REPLACE INTO meta VALUES ('next_node', ?)", (str(repair.next_node),))


def _delete(database: sqlite3.Connection, table: str, key: Mapping[str, object]) -> None:
    same = " AND ".join(
        # As raw bytes where it is no number: the key of a row that cannot be read may be of any type.
        f"{column} IS ?" if isinstance(value, int) else f"CAST({column} AS BLOB) IS CAST(? AS BLOB)"
        for column, value in key.items()
    )
    database.execute(f"DELETE FROM {table} WHERE {same}", tuple(key.values()))  # noqa: S608 - names from the schema
