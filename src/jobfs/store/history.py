"""The table of versions that the workspace no longer shows: who they were, and where their bytes are.

A part of the state (``state.State.versions``): changes are made inside its transactions. What becomes a version, and
for how long it stays, is decided by others (``engine.history``, ``planner.retention``).

**Invariant: the blob of a version is the history's alone.** Nobody changes it or removes it; who wants its bytes copies
them. A program that still has the file open may read it, and takes a copy before it writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from jobfs.model import BlobId, Content, ItemId, NodeId, Permission, Revision
from jobfs.store.rows import fits

NOBODY = NodeId(0)
"""Where the node of a version is not known."""

BLOCK_BYTES = 4096
"""What the smallest version costs: a block of the disk and its row. It bounds the number of versions, too."""

_COLUMNS = (
    "path, blob, size, reason, at_ns, node, permission, mode, mtime_ns, sha256, rev_item, rev_updated_at, "
    "rev_size, rev_key"
)
_SELECT = f"SELECT id, {_COLUMNS} FROM history"  # noqa: S608 - names of the schema
_INSERT_AS = f"INSERT INTO history (id, {_COLUMNS}) VALUES ({'?, ' * 14}?)"  # noqa: S608 - names of the schema
_INSERT = f"INSERT INTO history ({_COLUMNS}) VALUES ({'?, ' * 13}?)"  # noqa: S608 - names of the schema


_PERMISSIONS = frozenset(permission.value for permission in Permission)


class Reason(StrEnum):
    """Why a version is no longer shown."""

    REPLACED = "replaced"
    DELETED = "deleted"
    REPLACED_THERE = "replaced on the server"
    DELETED_THERE = "deleted on the server"
    REVERTED = "reverted"
    LOST = "lost a conflict"
    FOUND = "found by fsck"


SOLE_REASONS = frozenset({Reason.LOST, Reason.FOUND})
"""Of versions whose bytes are nowhere else, unless somebody put them there."""

DELETIONS = frozenset({Reason.DELETED, Reason.DELETED_THERE})


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a file that is no longer shown.

    :param path: where the file was, from the root, without a leading slash.
    :param blob: its bytes; None: there are none, the file was empty.
    :param content: with the revision, where the server has acknowledged these bytes.
    :param reason: a ``Reason``, or what a damaged state says instead.
    :param at_ns: when it was replaced or deleted, nanoseconds since the epoch.
    :param node: the file's node then.
    :param mtime_ns: when its bytes were last changed.
    :param number: its label, which is never used twice; 0 until it is added.
    """

    path: str
    blob: BlobId | None
    content: Content
    reason: str
    at_ns: int
    node: NodeId = NOBODY
    permission: Permission = Permission.READ_WRITE
    mode: int = 0o644
    mtime_ns: int = 0
    number: int = 0

    @property
    def cost(self) -> int:
        """The room that it takes, in bytes."""
        return cost_of(self.content.size)

    @property
    def is_sole(self) -> bool:
        """Whether its bytes may exist nowhere else."""
        return self.reason in SOLE_REASONS


class Versions:
    """The versions of one state.

    :param read: returns rows. :param execute: changes the database in the transaction under way.
    :param undo: takes what is to be done in memory where that transaction is rolled back.
    """

    def __init__(
        self,
        read: Callable[[str, tuple[object, ...]], list[tuple[Any, ...]]],
        execute: Callable[[str, tuple[object, ...]], sqlite3.Cursor],
        undo: Callable[[Callable[[], object]], None],
    ) -> None:
        self._read = read
        self._execute = execute
        self._undo = undo
        self._owned: set[BlobId] = set()
        self.held_bytes = 0
        """The room that all of them take."""

    def load(self) -> None:
        """Find out what is there."""
        for blob, size in self._read("SELECT blob, size FROM history", ()):
            self._count(blob, cost_of(size), 1)

    def owns(self, blob: BlobId | None) -> bool:
        """Tell whether a blob is that of a version: nobody else may change or remove it."""
        return blob in self._owned

    # -- looking

    def all(self) -> list[Version]:
        """Return every version, the oldest first."""
        return self._rows("ORDER BY id")

    def get(self, number: int) -> Version | None:
        """Return the version of that label, or None."""
        return next(iter(self._rows("WHERE id = ?", number)), None)

    def at(self, path: str) -> list[Version]:
        """Return the versions of what was at a path, the oldest first."""
        return self._rows("WHERE path = ? ORDER BY id", path)

    def newest_at(self, path: str) -> Version | None:
        """Return the version that was the last one at a path, or None."""
        return next(iter(self._rows("WHERE path = ? ORDER BY id DESC LIMIT 1", path)), None)

    def below(self, directory: str) -> list[Version]:
        """Return the versions of what was in a directory or below it, the oldest first; "" is the root."""
        if not directory:
            return self.all()
        after = chr(ord("/") + 1)
        return self._rows("WHERE path >= ? AND path < ? ORDER BY id", f"{directory}/", f"{directory}{after}")

    def of_node(self, node: NodeId) -> list[Version]:
        """Return the versions of a node, wherever it was, the oldest first."""
        return self._rows("WHERE node = ? ORDER BY id", node)

    def of_item(self, item: ItemId) -> list[Version]:
        """Return the versions that an item of the server stood for, the oldest first."""
        return self._rows("WHERE rev_item = ? ORDER BY id", item)

    def of_blob(self, blob: BlobId) -> list[Version]:
        """Return the version that has a blob, if any."""
        return self._rows("WHERE blob = ?", blob)

    def _rows(self, rest: str, *values: object) -> list[Version]:
        return list(map(version_of, self._read(f"{_SELECT} {rest}", values)))

    # -- changing

    def add(self, version: Version) -> Version:
        """Add a version, whose blob is the history's from now on; return it with its label."""
        cursor = self._execute(_INSERT, history_row(version))
        added = replace(version, number=cursor.lastrowid or 0)
        self._count(added.blob, added.cost, 1)
        self._undo(lambda: self._count(added.blob, added.cost, -1))
        return added

    def drop(self, version: Version) -> None:
        """Forget a version. Its blob stays until the caller removes it."""
        self._execute("DELETE FROM history WHERE id = ?", (version.number,))
        self._count(version.blob, version.cost, -1)
        self._undo(lambda: self._count(version.blob, version.cost, 1))

    def correct(self, version: Version, content: Content | None) -> None:
        """Say of a version what its bytes are, which no server has acknowledged; None: forget it, they are gone."""
        self.drop(version)
        if content is not None:
            corrected = replace(version, content=content)
            self._execute(_INSERT_AS, (version.number, *history_row(corrected)))
            self._count(corrected.blob, corrected.cost, 1)
            self._undo(lambda: self._count(corrected.blob, corrected.cost, -1))

    def _count(self, blob: BlobId | None, cost: int, sign: int) -> None:
        self.held_bytes += sign * cost
        if blob is not None:
            (self._owned.add if sign > 0 else self._owned.discard)(blob)


def cost_of(size: int) -> int:
    """Return the room that so many bytes take."""
    return max(1, -(-size // BLOCK_BYTES)) * BLOCK_BYTES


def history_row(version: Version) -> tuple[object, ...]:
    """Return a version as a row of ``history``, without its number."""
    content = version.content
    revision = content.revision
    return (
        version.path,
        version.blob,
        content.size,
        str(version.reason),
        version.at_ns,
        version.node,
        version.permission.value,
        version.mode,
        version.mtime_ns,
        content.sha256,
        *((revision.item, revision.updated_at, revision.size, revision.key) if revision else (None, None, None, None)),
    )


def is_version_row(row: tuple[object, ...]) -> bool:
    """Tell whether a row of ``history`` can be taken for a version."""
    if not fits(row, "isIisiisiiSSSIS"):
        return False
    item, *revision = row[-4:]
    return row[7] in _PERMISSIONS and (item is None or None not in revision)


def version_of(row: tuple[object, ...]) -> Version:
    """Return a row of ``history`` as a version."""
    number, path, blob, size, reason, at_ns, node, permission, mode, mtime_ns, sha256, *rest = row
    item, updated_at, rev_size, key = rest
    revision = Revision(item, updated_at, rev_size, key) if item is not None else None  # type: ignore[arg-type]
    return Version(
        path,  # type: ignore[arg-type]
        blob,  # type: ignore[arg-type]
        Content(size, sha256, revision),  # type: ignore[arg-type]
        reason,  # type: ignore[arg-type]
        at_ns,  # type: ignore[arg-type]
        node,  # type: ignore[arg-type]
        Permission(permission),
        mode,  # type: ignore[arg-type]
        mtime_ns,  # type: ignore[arg-type]
        number,  # type: ignore[arg-type]
    )
