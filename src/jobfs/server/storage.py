"""The server's durable state: one SQLite database and one folder of contents.

Calls are plain and short, and all come from the event loop's thread. A change runs inside ``transaction()``; contents
that lost their last row are deleted after the commit. A killed process loses nothing that was acknowledged. The
database is locked for as long as it is open, so that two servers never share a data folder.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobfs.errors import StateCorrupt, StateLocked
from jobfs.server import schema
from jobfs.server.content import ContentFolder
from jobfs.server.ids import IdSource
from jobfs.server.items import ItemRecord, ItemStore, Order, View

_log = logging.getLogger("jobfs.server.storage")


_BY_PATH = "item INDEXED BY item_by_path"
"""Without the hint SQLite takes the index whose order fits, and reads a whole workspace to find one path."""


IS_NAMED = tuple(
    f"SELECT 1 FROM {table} WHERE key = ?1 AND key != '' LIMIT 1"  # noqa: S608
    for table in schema.KEY_OWNERS
)
"""Whether a row names a content. That a key is not empty has to be said: SQLite does not see that a value is none of
those which an index leaves out, and reads the whole table for each file that is deleted."""


class Storage:
    """An open data folder.

    :param folder: made where it does not exist.
    :raises StateLocked: another server has it open.
    :raises StateCorrupt: it is damaged, or a newer version made it.
    """

    def __init__(self, folder: Path, new_id: IdSource) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.contents = ContentFolder(folder / "content", new_id)
        self._dropped: set[str] = set()
        self._db = _open(folder / "server.sqlite3")
        self.items = SqliteItems(self._db, self._dropped)
        self._prepare()
        self._sweep()

    def close(self) -> None:
        """Close the database; nothing is lost if this is never called."""
        self._db.execute("UPDATE meta SET value = '1' WHERE name = 'is_clean'")
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of a change or nothing of it. Must not span an await: there is one connection for all requests."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite ends one by itself where the disk is full
                self._db.execute("ROLLBACK")
            self._dropped.clear()
            raise
        self._delete_dropped()

    def one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        """Return the first row of a query, or None."""
        row: sqlite3.Row | None = self._db.execute(sql, values).fetchone()
        return row

    def all(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Return all rows of a query."""
        return self._db.execute(sql, values).fetchall()

    def run(self, sql: str, *values: Any) -> int:
        """Change rows; returns how many."""
        return self._db.execute(sql, values).rowcount

    def insert(self, table: str, **values: Any) -> None:
        """Insert one row. Table and column names are the caller's own words, never a request's."""
        columns = ", ".join(values)
        marks = ", ".join("?" * len(values))
        self._db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(values.values()))  # noqa: S608

    def drop_content(self, key: str) -> None:
        """Delete a content after the commit, unless a row still names it then."""
        self._dropped.add(key)

    def _delete_dropped(self) -> None:
        while self._dropped:
            key = self._dropped.pop()
            if not self._is_named(key):
                self.contents.delete(key)

    def _is_named(self, key: str) -> bool:
        return any(self._db.execute(statement, (key,)).fetchone() for statement in IS_NAMED)

    def _prepare(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > schema.VERSION:
            raise StateCorrupt(
                f"the server's data folder has version {version}, this jobfs knows {schema.VERSION}",
                "use the newer jobfs, or another --data folder",
            )
        if version == 0:
            self._db.executescript(f"BEGIN; {schema.TABLES} PRAGMA user_version = {schema.VERSION}; COMMIT;")

    def _sweep(self) -> None:
        """Remove what a killed process left, then mark the folder as in use."""
        row = self.one("SELECT value FROM meta WHERE name = 'is_clean'")
        if row is None or row["value"] != "1":
            swept = self.contents.sweep(self._is_named)
            _log.info("the last server was killed: removed %d unfinished contents", swept)
        self._db.execute("UPDATE meta SET value = '0' WHERE name = 'is_clean'")


class SqliteItems(ItemStore):
    """The item table, as the rules use it.

    :param dropped: collects the keys of contents that may have lost their last row.
    """

    def __init__(self, db: sqlite3.Connection, dropped: set[str]) -> None:
        self._db = db
        self._dropped = dropped

    def get(self, item_id: str) -> ItemRecord | None:
        found = self._select("item WHERE id = ?", item_id)
        return found[0] if found else None

    def at(self, space: str, path: str) -> Sequence[ItemRecord]:
        return self._select(f"{_BY_PATH} WHERE space = ? AND path = ? ORDER BY created_ms, id", space, path)

    def below(self, space: str, path: str) -> Sequence[ItemRecord]:
        # "0" follows "/" in the binary order that the index has, so the range is exactly what starts with path + "/".
        source = f"{_BY_PATH} WHERE space = ? AND path > ? AND path < ? ORDER BY path, id"
        return self._select(source, space, path + "/", path + "0")

    def put(self, record: ItemRecord) -> None:
        old = self._db.execute("SELECT key FROM item WHERE id = ?", (record.id,)).fetchone()
        if old is not None and old[0] and old[0] != record.key:
            self._dropped.add(old[0])
        self._db.execute(
            "INSERT OR REPLACE INTO item VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id,
                record.space,
                record.is_directory,
                record.owner,
                record.permission,
                record.path,
                record.shown,
                record.created_ms,
                record.updated_ms,
                record.key,
                record.mime_type,
                record.size,
            ),
        )

    def carry(self, items: Iterable[ItemRecord]) -> None:
        # Not put: a row that is replaced is written into every index anew, which takes three times as long.
        moves = [(item.path, item.shown, item.id) for item in items]
        self._db.executemany("UPDATE item SET path = ?, shown = ? WHERE id = ?", moves)

    def remove(self, items: Iterable[ItemRecord]) -> None:
        for item in items:
            self._db.execute("DELETE FROM item WHERE id = ?", (item.id,))
            self._db.execute("DELETE FROM hidden WHERE item_id = ?", (item.id,))
            if item.key:
                self._dropped.add(item.key)

    def hide(self, instance: str, items: Iterable[ItemRecord]) -> None:
        self._db.executemany("INSERT OR IGNORE INTO hidden VALUES (?, ?)", [(instance, item.id) for item in items])

    def hidden_from(self, instance: str) -> Collection[str]:
        return {row[0] for row in self._db.execute("SELECT item_id FROM hidden WHERE space = ?", (instance,))}

    def page(self, view: View, *, order: Order, skip: int, take: int) -> Sequence[ItemRecord]:
        by = {"created": "created_ms, id", "shuffled": "id", "random": "random()"}[order]
        seen = "SELECT id, created_ms FROM item WHERE space = ?1"
        if view.instance is not None and self._has_any(view.application):
            # For the default order SQLite merges the two index ranges without sorting.
            seen = (
                f"SELECT * FROM ({seen} UNION ALL SELECT id, created_ms FROM item WHERE space = ?2"  # noqa: S608
                " AND NOT EXISTS (SELECT 1 FROM hidden WHERE hidden.space = ?1 AND item_id = item.id))"
            )
        # What is skipped is read from the index alone.
        page = f"SELECT id FROM ({seen} ORDER BY {by} LIMIT ?3 OFFSET ?4)"  # noqa: S608  (fixed words)
        source = f"item WHERE id IN ({page}) ORDER BY {by}"
        return self._select(source, view.own, view.application, take, min(skip, 2**62))

    def count(self, view: View) -> int:
        sql = (
            "SELECT (SELECT count(*) FROM item WHERE space = ?1)"
            " + (SELECT count(*) FROM item WHERE space = ?2 AND ?2 != ?1"
            " AND NOT EXISTS (SELECT 1 FROM hidden WHERE hidden.space = ?1 AND item_id = item.id))"
        )
        return int(self._db.execute(sql, (view.own, view.application)).fetchone()[0])

    def touch(self, space: str, at_ms: int) -> None:
        self._db.execute("UPDATE space SET updated_ms = max(updated_ms + 1, ?) WHERE id = ?", (at_ms, space))

    def _has_any(self, space: str) -> bool:
        return self._db.execute("SELECT 1 FROM item WHERE space = ? LIMIT 1", (space,)).fetchone() is not None

    def _select(self, source: str, *values: Any) -> list[ItemRecord]:
        return [_record(row) for row in self._db.execute(f"SELECT * FROM {source}", values)]  # noqa: S608


def _record(row: sqlite3.Row) -> ItemRecord:
    """Read a row. The columns stand in the order of the record's fields."""
    item_id, space, is_directory, *rest = row
    return ItemRecord(item_id, space, bool(is_directory), *rest)


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
    db.row_factory = sqlite3.Row
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # kill-safe at every moment; fsync only at WAL checkpoints
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute("BEGIN IMMEDIATE")
        db.execute("COMMIT")
    except sqlite3.OperationalError as error:
        db.close()
        if "locked" in str(error):
            raise StateLocked(
                f"another server has the data folder {path.parent} open", "stop it, or choose another --data folder"
            ) from error
        raise
    except sqlite3.DatabaseError as error:
        db.close()
        raise StateCorrupt(f"the server's database {path} is damaged: {error}", "move the data folder away") from error
    return db
