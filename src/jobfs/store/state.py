"""The durable state of one workspace: base and local trees in SQLite, mirrored in memory.

Every change is made inside ``with state.transaction():`` and is in SQLite before the block ends; when the block raises,
SQLite and memory are as before. A commit survives the death of the process at once; ``transaction(durable=True)`` also
survives a power cut (it waits for the disk).

There is no queue of operations: what has to be pushed is derived by comparing local with base, after a restart as well.
One process at a time: ``State.open`` takes a lock on the directory. All calls from the loop's thread; nothing awaits.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from jobfs.errors import StateCorrupt, StateError, StateFull
from jobfs.model import ROOT, BlobId, Content, Entry, ItemId, Kind, LocalNode, NodeId, Revision, Trouble
from jobfs.store.aftermath import BOOT, PowerCut, after_death, boot_id
from jobfs.store.blobs import Blobs, disk_errors
from jobfs.store.database import connect as connect_database
from jobfs.store.database import (
    database_errors,
    fold_log,
    is_io_error,
    lengthen_log,
    rewrite_log,
    state_error,
    sync_log,
)
from jobfs.store.history import Versions
from jobfs.store.lock import DirectoryLock, telling_where
from jobfs.store.reserve import RESERVE_BYTES, Reserve
from jobfs.store.rows import PUT_BASE, PUT_LOCAL, base_entry, base_row, local_node, local_row
from jobfs.store.schema import MIGRATIONS, SCHEMA, VERSION
from jobfs.store.soundness import broken_invariants
from jobfs.store.system import System
from jobfs.store.trees import LocalTree, SyncedView, Tree

LISTED = "listed"
"""The setting that is there once a workspace was listed, and its state is of something."""

_ID_BLOCK = 1000

_COUNT_SYNC = "INSERT INTO meta VALUES ('synced', '1') ON CONFLICT (key) DO UPDATE SET value = value + 1"
"""SQLite waits for the disk with a commit only where that changes a page."""

_log = logging.getLogger(__name__)

Connect: TypeAlias = Callable[[Path], sqlite3.Connection]
"""Opens a database, without transactions of its own, for calls from any thread: a seam, as ``system.System`` is."""


@dataclass(frozen=True, slots=True)
class Aside:
    """One replace under way: the hidden items that carry ``token`` in their names belong to it."""

    token: str
    node: NodeId
    path: str
    old: Revision | None


@dataclass(frozen=True, slots=True)
class Creation:
    """One create that was sent and whose answer we do not have.

    :param number: tells it from others, also at the same path.
    :param path: where it was sent to. :param parent: the directory of that, which may be elsewhere by now; None where
        an older version did not record it.
    :param content: size and hash of the file that was sent; None for a directory.
    """

    number: int
    path: str
    parent: NodeId | None
    node: NodeId
    content: Content | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server's final answer about a node."""

    trouble: Trouble
    detail: str


class StateTooNew(StateCorrupt):
    """A newer version of jobfs made this state: it is not damaged, and nothing here may touch it."""


class Transaction:
    """A block of changes: see ``State.transaction``. A class, since a generator takes thrice as long to enter and
    leave, and a new file that reaches the server is seven transactions.
    """

    __slots__ = ("_is_durable", "_state")

    def __init__(self, state: State, is_durable: bool) -> None:
        self._state = state
        self._is_durable = is_durable

    def __enter__(self) -> None:
        self._state.begin(durable=self._is_durable)

    def __exit__(self, kind: object, failure: BaseException | None, trace: object) -> None:
        self._state.end(failure, durable=self._is_durable)


class State:
    """The trees, settings and journals of one workspace. Made by ``State.open``."""

    def __init__(self, directory: Path, database: sqlite3.Connection, lock: DirectoryLock, system: System) -> None:
        self.directory = directory
        with disk_errors():
            self.blobs = Blobs(directory / "blobs", system)
        self.reserve = Reserve(directory, system)
        self.local = LocalTree()
        self.base: Tree[Entry] = Tree()
        self.synced = SyncedView(self.local)
        self.links: dict[NodeId, dict[str, NodeId]] = {}
        self.other_names: dict[NodeId, set[tuple[NodeId, str]]] = {}
        self._database = database
        self._lock = lock
        self._undo: list[Callable[[], object]] = []
        self._after: list[Callable[[], object]] = []
        self._shown: set[NodeId] = set()
        self._depth = 0
        self._is_ahead = True
        self.versions = Versions(self._read, self._execute, self._undo.append)
        self._next_node = 2
        self._reserved = 0

    @classmethod
    def open(
        cls,
        directory: Path,
        lock: DirectoryLock | None = None,
        *,
        connect: Connect = connect_database,
        system: System = os,
        boot: str | None = None,
    ) -> State:
        """Open or create the state in a directory and load it.

        :param lock: of the directory, where the caller has taken it; from now on it is the state's.
        :param connect: opens the database.
        :param system: what is asked of the operating system for blobs.
        :param boot: names this run of the machine; as the system tells where it is None. In another one than before,
            the bytes that were written last are looked at.
        :raises StateLocked: another process has it open.
        :raises StateCorrupt: it is no jobfs state, damaged, or of a newer version.
        :raises StateFull: the disk is full, and even the room of the reserve is not enough. Nothing has changed then.
        """
        with telling_where(directory):
            with disk_errors():
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = lock or DirectoryLock.take(directory)
            try:
                try:
                    return cls._load_from(directory, lock, connect, system, boot=boot)
                except StateFull:  # the index of SQLite's log alone takes 32 KiB
                    with Reserve(directory, system).lent():
                        return cls._load_from(directory, lock, connect, system, boot=boot)
            except BaseException:
                lock.release()
                raise

    @classmethod
    def _load_from(
        cls, directory: Path, lock: DirectoryLock, connect: Connect, system: System, *, boot: str | None
    ) -> State:
        with database_errors(directory):
            database = connect(directory / "state.db")
        try:
            state = cls(directory, database, lock, system)
            with database_errors(directory):
                state._prepare()
                state._load(boot_id() if boot is None else boot)
            state._keep_room()
        except BaseException:
            database.close()
            raise
        return state

    def close(self) -> None:
        """Close the database and give up the lock. Nothing is lost: every transaction is already there."""
        self.hand_over().release()

    def hand_over(self) -> DirectoryLock:
        """Close the database and return the lock, which is the caller's now."""
        with contextlib.suppress(StateError), self.transaction():  # times of directories are no loss on a bad disk
            for shown in [self.local.get(node) for node in self._shown]:
                if shown is not None:
                    self.put_local(shown)
        with contextlib.suppress(StateError):  # what could not be removed is at the next start
            if self.blobs.has_waiting or self.blobs.is_in_doubt:
                self.finish_removals()
        with contextlib.suppress(sqlite3.Error):
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._database.close()
        self.reserve.take()  # of what the log has left
        return self._lock

    def _keep_room(self) -> None:
        """Keep room back; where there is hardly any besides, have the log so long that the next changes need none."""
        if self.reserve.take() and self.blobs.free_bytes() >= RESERVE_BYTES:
            return
        try:
            with self.reserve.lent(), database_errors(self.directory):
                lengthen_log(self._database, self.directory / "state.db", RESERVE_BYTES // 2)
                self.fold_log(self.blobs.free_bytes())
        except StateError as error:
            _log.warning("on a disk this full no change may find room: %s", error)

    # -- transactions

    def transaction(self, *, durable: bool = False) -> Transaction:
        """Group changes for the length of a block. Nested blocks join the outermost.

        :param durable: wait until the disk has it.
        """
        return Transaction(self, durable)

    def begin(self, *, durable: bool) -> None:
        """Enter a block of ``transaction``."""
        self._depth += 1
        if self._depth > 1:
            return
        try:
            with database_errors(self.directory):
                if durable:
                    self._resolve_doubt()
                    self._database.execute("PRAGMA synchronous = FULL")
                self._database.execute("BEGIN IMMEDIATE")
        except BaseException:
            self._depth = 0
            raise

    def end(self, failure: BaseException | None, *, durable: bool) -> None:
        """Leave a block of ``transaction``: with the outermost one commit, or with a failure undo."""
        if self._depth > 1:
            self._depth -= 1
            return
        try:
            if failure is None:
                self._commit(durable=durable)
            else:
                self._roll_back()
        except sqlite3.DatabaseError as error:
            raise state_error(error, self.directory) from error
        finally:
            if durable:
                self._database.execute("PRAGMA synchronous = NORMAL")
            self._depth = 0
            self._undo.clear()
            after, self._after = self._after, []
        if isinstance(failure, sqlite3.DatabaseError):
            raise state_error(failure, self.directory) from failure
        for action in after:
            action()
        if not self._is_ahead:
            self.blobs.finish_removals()

    def _commit(self, *, durable: bool) -> None:
        self._is_ahead = True
        try:
            if durable:
                self._database.execute(_COUNT_SYNC)
            self._database.execute("COMMIT")
        except BaseException as error:
            self.blobs.is_in_doubt |= is_io_error(error)
            self._roll_back()
            raise
        if durable:
            self._is_ahead = self.blobs.is_in_doubt = False

    def _resolve_doubt(self) -> None:
        """Have the next wait for the disk wait for all, also for what was not written by the last one, which failed."""
        if self.blobs.is_in_doubt:
            with disk_errors():
                rewrite_log(self.blobs.system, self.directory / "state.db")

    def finish_removals(self) -> int:
        """Wait until the disk has all that was committed, and let the files of removed blobs go; return their bytes.

        :raises StateError: the disk fails, or has no room; they wait on.
        """
        freed = self.blobs.waiting_bytes()
        with self.transaction(durable=True):
            """Nothing has to change: every commit before this one is on the disk with it."""
        return freed

    def sync_log(self) -> None:
        """Have the disk take most of what a durable commit would wait for. In any thread.

        :raises StateError: the disk fails.
        """
        try:
            with disk_errors():
                sync_log(self.blobs.system, self.directory / "state.db")
        except BaseException:
            self.blobs.is_in_doubt = True
            raise

    def after_commit(self, action: Callable[[], object]) -> None:
        """Run something once the transaction under way is in the store, such as removing a blob; never if it fails."""
        self._after.append(action)

    def _roll_back(self) -> None:
        for undo in reversed(self._undo):
            undo()
        self._after.clear()
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def _execute(self, statement: str, values: tuple[object, ...]) -> sqlite3.Cursor:
        if not self._depth:
            raise AssertionError("a change outside of a transaction")
        return self._database.execute(statement, values)

    def _read(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.DatabaseError as error:
            if self._depth:
                raise  # SQLite may have undone the transaction, so that nobody must go on in it: ``end`` says why
            raise state_error(error, self.directory) from error

    def fold_log(self, room_bytes: int) -> bool:
        """Let the next commits need no room, where that takes no more of it than this; see ``database.fold_log``."""
        with database_errors(self.directory):
            return fold_log(self._database, self.directory / "state.db", room_bytes)

    # -- numbers

    def allocate(self) -> NodeId:
        """Return a node number that was never used in this store (invariant I4)."""
        return NodeId(self.allocate_many(1).start)

    def allocate_many(self, count: int) -> range:
        """Return so many node numbers that were never used in this store."""
        numbers = range(self._next_node, self._next_node + count)
        if numbers.stop > self._reserved:
            self._reserve(numbers.stop + _ID_BLOCK)
        self._next_node = numbers.stop
        return numbers

    def _reserve(self, end: int) -> None:
        """Promise, in the transaction under way if there is one, that every number in use is below ``end``."""
        before = self._reserved
        with database_errors(self.directory):
            self._database.execute(
                "INSERT INTO meta VALUES ('next_node', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (str(end),),
            )
        self._reserved = end
        if self._depth:
            self._undo.append(lambda: setattr(self, "_reserved", before))  # the promise is rolled back as well

    # -- the local tree

    def put_local(self, node: LocalNode) -> None:
        """Set a node of the local tree."""
        self._execute(PUT_LOCAL, local_row(node))
        if node.id in self._shown:
            self._shown.discard(node.id)
            self._undo.append(lambda: self._shown.add(node.id))  # its times are still only here
        before = self.local.put(node)
        self._undo.append(lambda: self.local.put(before) if before is not None else self.local.drop(node.id))

    def drop_local(self, node: NodeId) -> None:
        """Remove a node from the local tree. Its blob stays until the caller removes it."""
        self._execute("DELETE FROM local WHERE id = ?", (node,))
        before = self.local.drop(node)
        if before is not None:
            self._undo.append(lambda: self.local.put(before))
        if node in self._shown:
            self._shown.discard(node)
            self._undo.append(lambda: self._shown.add(node))

    def show_local(self, node: LocalNode) -> None:
        """Set a node in memory only, until ``put_local`` or ``close`` saves it: a directory's times, and the size and
        times of a file that is being written. After a crash the latter are read from the blob instead (see
        ``_load``).
        """
        self.local.put(node)
        self._shown.add(node.id)

    def add_link(self, parent: NodeId, name: str, node: NodeId) -> None:
        """Give a local-only file a further name."""
        self._execute("INSERT INTO link VALUES (?, ?, ?)", (parent, name, node))
        self._link(parent, name, node)
        self._undo.append(lambda: self._unlink(parent, name, node))

    def drop_link(self, parent: NodeId, name: str, node: NodeId) -> None:
        """Take a further name away."""
        self._execute("DELETE FROM link WHERE parent = ? AND name = ?", (parent, name))
        self._unlink(parent, name, node)
        self._undo.append(lambda: self._link(parent, name, node))

    def _link(self, parent: NodeId, name: str, node: NodeId) -> None:
        self.links.setdefault(parent, {})[name] = node
        self.other_names.setdefault(node, set()).add((parent, name))

    def _unlink(self, parent: NodeId, name: str, node: NodeId) -> None:
        del self.links[parent][name]
        if not self.links[parent]:
            del self.links[parent]
        self.other_names[node].discard((parent, name))
        if not self.other_names[node]:
            del self.other_names[node]

    # -- the base tree

    def put_base(self, entry: Entry) -> None:
        """Set a node of the base tree: the server has acknowledged this."""
        self._execute(PUT_BASE, base_row(entry))
        before = self.base.put(entry)
        self._undo.append(lambda: self.base.put(before) if before is not None else self.base.drop(entry.id))

    def drop_base(self, node: NodeId) -> None:
        """Remove a node from the base tree: the server no longer has it."""
        self._execute("DELETE FROM base WHERE id = ?", (node,))
        before = self.base.drop(node)
        if before is not None:
            self._undo.append(lambda: self.base.put(before))

    # -- journals and settings

    def put_aside(self, aside: Aside) -> None:
        """Remember a replace before its first hidden item is made."""
        old = aside.old
        row = (old.item, old.updated_at, old.size, old.key) if old else (None, None, None, None)
        self._execute(
            "INSERT OR REPLACE INTO aside VALUES (?, ?, ?, ?, ?, ?, ?)", (aside.token, aside.node, aside.path, *row)
        )

    def drop_aside(self, token: str) -> None:
        """Forget a replace that is finished or undone."""
        self._execute("DELETE FROM aside WHERE token = ?", (token,))

    def asides(self) -> list[Aside]:
        """Return the replaces that were under way, oldest first."""
        rows = self._read("SELECT * FROM aside")
        return [
            Aside(token, NodeId(node), path, Revision(ItemId(item), at, size, key) if item is not None else None)
            for token, node, path, item, at, size, key in rows
        ]

    def put_creation(self, creation: Creation) -> None:
        """Remember a create before it is sent."""
        content = creation.content
        row = (content.size, content.sha256) if content is not None else (None, None)
        place = (creation.number, creation.path, creation.parent, creation.node)
        self._execute("INSERT OR REPLACE INTO creation VALUES (?, ?, ?, ?, ?, ?)", (*place, *row))

    def drop_creation(self, number: int) -> None:
        """Forget a create: what became of it is known."""
        self._execute("DELETE FROM creation WHERE number = ?", (number,))

    def creations(self) -> list[Creation]:
        """Return the creates of which no answer is known, oldest first."""
        return [
            Creation(number, path, parent, NodeId(node), Content(size, sha256) if size is not None else None)
            for number, path, parent, node, size, sha256 in self._read("SELECT * FROM creation ORDER BY number")
        ]

    def put_refusal(self, node: NodeId, refusal: Refusal) -> None:
        """Mark a node with the server's final answer."""
        self._execute("INSERT OR REPLACE INTO refusal VALUES (?, ?, ?)", (node, refusal.trouble.value, refusal.detail))

    def drop_refusal(self, node: NodeId) -> None:
        """Take the mark away: the node changed."""
        self._execute("DELETE FROM refusal WHERE node = ?", (node,))

    def refusals(self) -> dict[NodeId, Refusal]:
        """Return the marks by node."""
        rows = self._read("SELECT node, trouble, detail FROM refusal")
        return {NodeId(node): Refusal(Trouble(trouble), detail) for node, trouble, detail in rows}

    def put_approval(self, node: NodeId) -> None:
        """Remember that a held node may go to the server."""
        self._execute("INSERT OR IGNORE INTO approval VALUES (?)", (node,))

    def drop_approval(self, node: NodeId) -> None:
        """Forget that a held node may go to the server."""
        self._execute("DELETE FROM approval WHERE node = ?", (node,))

    def approvals(self) -> set[NodeId]:
        """Return the held nodes that may go to the server."""
        return {NodeId(node) for (node,) in self._read("SELECT node FROM approval")}

    def setting(self, key: str) -> str | None:
        """Return a remembered setting, or None."""
        rows = self._read("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def remember(self, key: str, value: str) -> None:
        """Set a setting."""
        self._execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
        )

    # -- opening

    def _prepare(self) -> None:
        tables = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        if not tables:
            self._database.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        else:
            check_version(version, self.directory)
        for step in range(version or VERSION, VERSION):
            self._database.executescript(f"BEGIN; {MIGRATIONS[step]} PRAGMA user_version = {step + 1}; COMMIT;")

    def _load(self, boot: str) -> None:
        if self._database.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise StateCorrupt(f"the state in {self.directory} is damaged", "run 'jobfs fsck' on it")
        self.base.put(Entry(ROOT, ROOT, "", Kind.DIRECTORY))
        made_ns = self.directory.stat().st_ctime_ns
        try:
            self._load_rows(made_ns)
        except (AssertionError, TypeError, ValueError) as error:  # two nodes at one place; values that mean nothing
            raise StateCorrupt(
                f"the rows of the state in {self.directory} do not fit together: {error}", "run 'jobfs fsck' on it"
            ) from error
        self._make_true(boot)
        self.blobs.sweep(self.named_blobs())

    def _load_rows(self, made_ns: int) -> None:
        self.local.put(LocalNode(ROOT, ROOT, "", Kind.DIRECTORY, mode=0o755, mtime_ns=made_ns, ctime_ns=made_ns))
        for row in self._database.execute("SELECT * FROM base"):
            self.base.put(base_entry(row))
        for row in self._database.execute("SELECT * FROM local"):
            self.local.put(local_node(row, self.base))
        for parent, name, node in self._database.execute("SELECT parent, name, node FROM link"):
            self._link(NodeId(parent), name, NodeId(node))
        self.versions.load()
        stored = int(self.setting("next_node") or 2)
        self._next_node = self._reserved = max(stored, *self.base, *self.local) if stored < 2 else stored

    def _make_true(self, boot: str) -> None:
        """Say of the bytes what is so after the last end, which this process or the machine may have come to."""
        held = [node for node in self.local.entries() if node.blob is not None]
        if not boot or self.setting(BOOT) != boot:
            self._recover(held, boot)
            return
        for node in held:
            try:
                now = after_death(node, self.blobs)
            except FileNotFoundError:
                raise StateCorrupt(
                    f"the local bytes of {node.name!r} are missing from {self.directory}", "run 'jobfs fsck' on it"
                ) from None
            if now is not node:
                self.local.put(now)

    def _recover(self, held: Collection[LocalNode], boot: str) -> None:
        cut = PowerCut(self.blobs, self.base, held, self.versions.all(), now_ns=time.time_ns())
        nodes, versions = list(cut.nodes()), list(cut.versions())
        with self.transaction(durable=bool(nodes or versions)):  # blobs that nobody names any more go after this
            for node in nodes:
                self.put_local(node)
            for version, found in versions:
                self.versions.correct(version, found)
            if boot:
                self.remember(BOOT, boot)

    def named_blobs(self) -> set[BlobId]:
        """Return every blob that a row names."""
        named = {node.blob for node in self.local.entries() if node.blob is not None}
        named.update(version.blob for version in self.versions.all() if version.blob is not None)
        return named

    def check(self) -> list[str]:
        """Verify the invariants of ``schema``; return what is wrong, one line each. Blocks; for fsck and tests."""
        return broken_invariants(self, self._next_node)


def check_version(version: int, directory: Path) -> None:
    """Make sure that a database is a state that this version of jobfs can read.

    :raises StateTooNew: a newer version made it. :raises StateCorrupt: it is no state of jobfs.
    """
    if version > VERSION:
        raise StateTooNew(
            f"the state in {directory} was made by a newer version of jobfs", "use that version, or another folder"
        )
    if version < 1:
        raise StateCorrupt(f"{directory} holds a database that is no jobfs state", "name another folder")
