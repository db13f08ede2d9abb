"""The database of the embedded server: its tables, each column explained, and their version.

Opened by ``storage`` alone. Times are milliseconds since 1970. Bytes are never here: a content is a file in the data
folder named by its key, complete before the row that names it is committed, and swept at the next start if the process
was killed between the two.
"""

from __future__ import annotations

VERSION = 1

TABLES = """
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL          -- 'is_clean': whether the last process closed the database
) WITHOUT ROWID;
INSERT INTO meta VALUES ('is_clean', '1');

CREATE TABLE organization (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE application (
    id              TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organization(id),
    name            TEXT NOT NULL,
    created_ms      INTEGER NOT NULL
) WITHOUT ROWID;

-- A space is where items live: one for each application (its workspace) and one for each job (its instance).
CREATE TABLE space (
    id             TEXT PRIMARY KEY,
    application_id TEXT NOT NULL REFERENCES application(id),
    job_id         TEXT UNIQUE,              -- NULL for the application's own space
    created_ms     INTEGER NOT NULL,
    updated_ms     INTEGER NOT NULL          -- changes with every item in it
) WITHOUT ROWID;
CREATE INDEX space_by_application ON space (application_id);

CREATE TABLE api_key (
    digest         TEXT PRIMARY KEY,         -- SHA-256 of the key; the key itself is stored nowhere
    kind           TEXT NOT NULL,            -- 'ordinary' or 'system'
    application_id TEXT REFERENCES application(id),  -- NULL for a system key, which serves all of them
    created_ms     INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE job (
    number         INTEGER PRIMARY KEY,      -- order of creation, also among jobs of one millisecond
    id             TEXT NOT NULL UNIQUE,
    application_id TEXT NOT NULL REFERENCES application(id),
    created_ms     INTEGER NOT NULL,
    updated_ms     INTEGER NOT NULL,
    status         TEXT NOT NULL,
    is_held        INTEGER NOT NULL,         -- never given to the runner
    expert_key     TEXT NOT NULL,            -- as asked for, with its version or tag
    query          TEXT,
    files          TEXT NOT NULL,            -- JSON list of names
    answers_tool   INTEGER,                  -- interactiveToolCallResult as last sent; NULL where never sent
    model          TEXT NOT NULL,
    temperature    REAL NOT NULL,
    max_steps      REAL NOT NULL,
    max_retries    REAL NOT NULL,
    current_step   REAL NOT NULL,
    total_steps    REAL NOT NULL,
    duration_ms    INTEGER NOT NULL,         -- of all finished stretches of processing
    started_ms     INTEGER,                  -- start of the present or last stretch
    first_ms       INTEGER,                  -- start of the first one
    finished_ms    INTEGER,                  -- NULL while the status is not final
    usage          TEXT NOT NULL             -- JSON object of token counts
);
CREATE INDEX job_by_application ON job (application_id, number);
CREATE INDEX job_by_status ON job (status);

CREATE TABLE item (
    id           TEXT PRIMARY KEY,
    space        TEXT NOT NULL REFERENCES space(id),
    is_directory INTEGER NOT NULL,
    owner        TEXT NOT NULL,              -- 'user' or 'expert'
    permission   TEXT NOT NULL,              -- 'readOnly' or 'readWrite'
    path         TEXT NOT NULL,              -- normal form: no slash at either end
    shown        TEXT NOT NULL,              -- as answers spell it
    created_ms   INTEGER NOT NULL,
    updated_ms   INTEGER NOT NULL,           -- strictly increases with each change of the item
    key          TEXT NOT NULL,              -- content file; '' for a directory
    mime_type    TEXT NOT NULL,
    size         INTEGER NOT NULL            -- bytes
) WITHOUT ROWID;
CREATE INDEX item_by_path ON item (space, path);
CREATE INDEX item_by_age ON item (space, created_ms, id);
CREATE INDEX item_by_key ON item (key) WHERE key != '';

-- Application items that one instance does not see (contract I-27, detach).
CREATE TABLE hidden (
    space   TEXT NOT NULL REFERENCES space(id),
    item_id TEXT NOT NULL,
    PRIMARY KEY (space, item_id)
) WITHOUT ROWID;

CREATE TABLE env (
    application_id TEXT NOT NULL REFERENCES application(id),
    name           TEXT NOT NULL,            -- unique across both kinds (contract V-4)
    is_secret      INTEGER NOT NULL,
    value          TEXT NOT NULL,
    created_ms     INTEGER NOT NULL,
    PRIMARY KEY (application_id, name)
) WITHOUT ROWID;

CREATE TABLE checkpoint (
    number     INTEGER PRIMARY KEY,          -- order of creation
    id         TEXT NOT NULL UNIQUE,
    job_id     TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    body       TEXT NOT NULL                 -- the answer as JSON
);
CREATE INDEX checkpoint_by_job ON checkpoint (job_id, number);

-- The files of a run as they were when its job ended (contract E-9).
CREATE TABLE artifact (
    job_id    TEXT NOT NULL,
    path      TEXT NOT NULL,
    role      TEXT NOT NULL,                 -- 'input' or 'output'
    key       TEXT NOT NULL,
    mime_type TEXT NOT NULL,
    size      INTEGER NOT NULL,
    PRIMARY KEY (job_id, path)
) WITHOUT ROWID;
CREATE INDEX artifact_by_key ON artifact (key);

CREATE TABLE pool_file (
    id             TEXT PRIMARY KEY,
    application_id TEXT NOT NULL REFERENCES application(id),
    filename       TEXT NOT NULL,
    content_type   TEXT,
    purpose        TEXT,                     -- NULL means durable, else the file expires
    size           INTEGER NOT NULL,
    key            TEXT NOT NULL,
    created_ms     INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX pool_file_by_key ON pool_file (key);

CREATE TABLE upload (
    id              TEXT PRIMARY KEY,
    application_id  TEXT NOT NULL REFERENCES application(id),
    file_id         TEXT NOT NULL,           -- of the file that it will become
    idempotency_key TEXT,
    filename        TEXT NOT NULL,
    content_type    TEXT NOT NULL,
    purpose         TEXT,
    size            INTEGER NOT NULL,        -- announced
    key             TEXT NOT NULL,           -- content that was put; '' until then
    is_complete     INTEGER NOT NULL,
    created_ms      INTEGER NOT NULL,
    UNIQUE (application_id, idempotency_key)
) WITHOUT ROWID;
CREATE INDEX upload_by_key ON upload (key) WHERE key != '';
"""

KEY_OWNERS = ("item", "artifact", "pool_file", "upload")
"""The tables whose rows keep a content file alive."""
