"""The SQLite of the machines of the simulation (``simulation``): quick, and begun from one image of an empty store.

Nothing here tells whether a power cut spares what SQLite has written: tests with real processes and real disks do. A
machine that dies leaves what was committed, so no journal is needed on the disk, nor the locks for a second process.
"""

from __future__ import annotations

import sqlite3
import tempfile
from functools import cache
from pathlib import Path

from jobfs.store.state import State


def connect(path: Path) -> sqlite3.Connection:
    """Open a machine's database; satisfies ``store.state.Connect``."""
    if not path.exists():
        path.write_bytes(_empty_store())
    return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("PRAGMA journal_mode = MEMORY")
    database.execute("PRAGMA synchronous = OFF")
    return database


@cache
def _empty_store() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        State.open(Path(directory), connect=_connect).close()
        return (Path(directory) / "state.db").read_bytes()
