"""The SQLite schema of a workspace's state, in one place, with its migrations.

Invariants, which ``soundness`` verifies and ``repair`` brings back:

- I1 every node's parent is in the same tree and is a directory, none is below itself; the root is node 1 and its own
  parent.
- I2 no two nodes of a tree share a place (parent, name); extra names (table ``link``) share none with them either, and
  are those of a file that is there.
- I3 a blob is named by at most one node or history row, and is there; that of a clean file is as long as its revision;
  a dirty file without a blob is empty, or real (``inode``); a version in the history without a blob is empty.
- I4 no node number is ever used twice: ``meta.next_node`` is above every number in use.
- I5 a base record of an item names the item, a file's always does; two records never name the same one.
"""

from __future__ import annotations

_HISTORY = """
CREATE TABLE history (           -- versions that are no longer shown: replaced, deleted or conflicting ones
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- also the label that users type
    path TEXT NOT NULL,          -- where the file was, from the root
    blob INTEGER,                -- its bytes; NULL where it was empty
    size INTEGER NOT NULL,
    reason TEXT NOT NULL,        -- history.Reason
    at_ns INTEGER NOT NULL,      -- when it was replaced or deleted
    node INTEGER NOT NULL DEFAULT 0, -- 0 where nobody knows
    permission TEXT NOT NULL DEFAULT 'readWrite',
    mode INTEGER NOT NULL DEFAULT 420,
    mtime_ns INTEGER NOT NULL DEFAULT 0,
    sha256 TEXT,
    rev_item TEXT,               -- the revision that held these bytes; NULL where the server never had them
    rev_updated_at TEXT,
    rev_size INTEGER,
    rev_key TEXT
);
CREATE INDEX history_path ON history (path);
CREATE INDEX history_node ON history (node);
CREATE INDEX history_item ON history (rev_item);
"""

_CREATION = """
CREATE TABLE creation (          -- creates that were sent and not answered yet (contract, protocol U)
    number INTEGER PRIMARY KEY,  -- several may be under way, or unanswered, at one path
    path TEXT NOT NULL,          -- the real path
    parent INTEGER,              -- the node of its directory; NULL where version 5 has left it
    node INTEGER NOT NULL,
    size INTEGER,                -- of the file's bytes; NULL for a directory
    sha256 TEXT
);
"""

VERSION = 6
"""Raised with every change of the schema; ``MIGRATIONS[n]`` leads from n to n + 1."""

SCHEMA = f"""
CREATE TABLE meta (              -- settings and counters of this store
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE local (             -- what the user sees
    id INTEGER PRIMARY KEY,      -- node number, also the inode number
    parent INTEGER NOT NULL,
    name TEXT NOT NULL,          -- undecodable bytes as surrogate escapes
    kind TEXT NOT NULL,          -- model.Kind
    permission TEXT NOT NULL,    -- model.Permission
    mode INTEGER NOT NULL,       -- permission bits
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    size INTEGER,                -- bytes; NULL unless a file; of a dirty file the blob's own size decides
    sha256 TEXT,                 -- where the bytes were seen since their last change
    rev_item TEXT,               -- the revision that holds these bytes; NULL while dirty
    rev_updated_at TEXT,
    rev_size INTEGER,
    rev_key TEXT,
    blob INTEGER,                -- local bytes (blobs/), NULL where there are none
    target TEXT NOT NULL,        -- of a symlink
    local_only INTEGER NOT NULL, -- matched by the ignore rules
    inode INTEGER NOT NULL       -- folder mode: the real inode when last scanned
);

CREATE TABLE link (              -- further names of a local-only file (hard links)
    parent INTEGER NOT NULL,
    name TEXT NOT NULL,
    node INTEGER NOT NULL,
    PRIMARY KEY (parent, name)
) WITHOUT ROWID;

CREATE TABLE base (              -- what the server last acknowledged
    id INTEGER PRIMARY KEY,
    parent INTEGER NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    permission TEXT NOT NULL,
    item TEXT,                   -- NULL for an implicit directory
    shared INTEGER NOT NULL,     -- lifecycle application
    size INTEGER,                -- NULL unless a file
    sha256 TEXT,
    updated_at TEXT,
    key TEXT
);

CREATE TABLE aside (             -- hidden items of replaces under way (contract, protocol R)
    token TEXT PRIMARY KEY,      -- the eight letters in their names
    node INTEGER NOT NULL,
    path TEXT NOT NULL,          -- the real path that is being replaced
    old_item TEXT,               -- the item that base names, moved to the .old name
    old_updated_at TEXT,
    old_size INTEGER,
    old_key TEXT
) WITHOUT ROWID;

{_CREATION}
CREATE TABLE refusal (           -- final answers of the server about a node, until the node changes
    node INTEGER PRIMARY KEY,
    trouble TEXT NOT NULL,       -- model.Trouble
    detail TEXT NOT NULL
);

CREATE TABLE approval (          -- nodes of a held workspace that may go to the server as they are
    node INTEGER PRIMARY KEY
);

{_HISTORY}"""

MIGRATIONS: dict[int, str] = {
    1: """
CREATE TABLE creation (
    path TEXT PRIMARY KEY,
    node INTEGER NOT NULL,
    size INTEGER,
    sha256 TEXT
) WITHOUT ROWID;
""",
    2: f"""
ALTER TABLE history RENAME TO history_2;
{_HISTORY}
INSERT INTO history (id, path, blob, size, reason, at_ns) SELECT id, path, blob, size, reason, at_ns FROM history_2;
DROP TABLE history_2;
""",  # noqa: S608 - made of the text above
    3: """
CREATE TABLE approval (
    node INTEGER PRIMARY KEY
);
""",
    4: f"""
ALTER TABLE creation RENAME TO creation_4;
{_CREATION}
INSERT INTO creation (path, node, size, sha256) SELECT path, node, size, sha256 FROM creation_4;
DROP TABLE creation_4;
""",  # noqa: S608 - made of the text above
    5: f"""
ALTER TABLE creation RENAME TO creation_5;
{_CREATION}
INSERT INTO creation (number, path, node, size, sha256) SELECT number, path, node, size, sha256 FROM creation_5;
DROP TABLE creation_5;
""",  # noqa: S608 - made of the text above
}
