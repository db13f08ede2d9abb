"""The Eigenpal file pool: reusable files, and the uploads that become one (contract E-19, E-20)."""

from __future__ import annotations

import sqlite3
from typing import Any

from jobfs.server.bodies import CreateUpload
from jobfs.server.content import ContentWriter
from jobfs.server.forms import FilePart
from jobfs.server.ids import IdSource
from jobfs.server.refusals import Refused
from jobfs.server.storage import Storage
from jobfs.server.times import Clock, iso

TEMPORARY_MS = 24 * 60 * 60 * 1000
"""How long a file with a purpose is kept (contract, section 1)."""

NO_FILE = "No such file"
NO_UPLOAD = "No such upload"


class FilePool:
    """The files of all applications. Changing calls run inside the caller's transaction."""

    def __init__(self, storage: Storage, *, clock: Clock, new_id: IdSource) -> None:
        self._storage = storage
        self._clock = clock
        self._new_id = new_id

    def get(self, application: str, file_id: str) -> sqlite3.Row:
        """Return a file; 404 where there is none, or its time is over."""
        row = self._storage.one("SELECT * FROM pool_file WHERE id = ? AND application_id = ?", file_id, application)
        if row is None or (row["purpose"] is not None and self._is_over(row)):
            raise Refused(404, NO_FILE)
        return row

    def create(self, application: str, part: FilePart, purpose: str | None) -> sqlite3.Row:
        """Keep an uploaded file."""
        self._sweep()
        file_id = self._new_id()
        self._insert(
            file_id,
            application_id=application,
            filename=part.filename,
            content_type=part.mime_type,
            purpose=purpose,
            size=part.content.size,
            key=part.content.key,
        )
        return self.get(application, file_id)

    def delete(self, application: str, file_id: str) -> None:
        """Remove a file; what a run has of it stays."""
        row = self.get(application, file_id)
        self._storage.run("DELETE FROM pool_file WHERE id = ?", file_id)
        self._storage.drop_content(row["key"])

    def open_upload(self, application: str, body: CreateUpload) -> sqlite3.Row:
        """Open an upload; the same idempotency key gives the same one again."""
        known = self._storage.one(
            "SELECT * FROM upload WHERE application_id = ? AND idempotency_key = ?",
            application,
            body.given("idempotencyKey"),
        )
        if known is not None:
            return known
        upload_id = self._new_id()
        self._storage.insert(
            "upload",
            id=upload_id,
            application_id=application,
            file_id=self._new_id(),
            idempotency_key=body.given("idempotencyKey"),
            filename=body.filename,
            content_type=body.contentType,
            purpose=body.given("purpose"),
            size=body.size,
            key="",
            is_complete=False,
            created_ms=self._clock(),
        )
        return self.upload(application, upload_id)

    def upload(self, application: str, upload_id: str) -> sqlite3.Row:
        """Return an upload; 404 where there is none."""
        row = self._storage.one("SELECT * FROM upload WHERE id = ? AND application_id = ?", upload_id, application)
        if row is None:
            raise Refused(404, NO_UPLOAD)
        return row

    def put(self, application: str, upload_id: str, content: ContentWriter) -> None:
        """Take the bytes of an upload; a repeated put replaces them."""
        row = self.upload(application, upload_id)
        if row["is_complete"]:
            raise Refused(400, "The upload is complete")
        if content.size != row["size"]:
            raise Refused(400, f"Expected {row['size']} bytes")
        if row["key"]:
            self._storage.drop_content(row["key"])
        self._storage.run("UPDATE upload SET key = ? WHERE id = ?", content.key, upload_id)

    def complete(self, application: str, upload_id: str) -> sqlite3.Row:
        """Turn an upload into a file; safe to repeat."""
        row = self.upload(application, upload_id)
        if row["is_complete"]:
            return self.get(application, row["file_id"])
        if not row["key"]:
            raise Refused(400, "Nothing was uploaded")
        names = ("application_id", "filename", "content_type", "purpose", "size", "key")
        self._insert(row["file_id"], **{name: row[name] for name in names})
        self._storage.run("UPDATE upload SET is_complete = 1, key = '' WHERE id = ?", upload_id)
        return self.get(application, row["file_id"])

    def abort(self, application: str, upload_id: str) -> None:
        """Give an upload up."""
        row = self.upload(application, upload_id)
        if row["key"]:
            self._storage.drop_content(row["key"])
        self._storage.run("DELETE FROM upload WHERE id = ?", upload_id)

    def _insert(self, file_id: str, **values: Any) -> None:
        self._storage.insert("pool_file", id=file_id, created_ms=self._clock(), **values)

    def _is_over(self, row: sqlite3.Row) -> bool:
        return bool(row["created_ms"] + TEMPORARY_MS <= self._clock())

    def _sweep(self) -> None:
        """Remove files and uploads whose time is over."""
        limit = self._clock() - TEMPORARY_MS
        for table, where in (("pool_file", "purpose IS NOT NULL AND"), ("upload", "")):
            for row in self._storage.all(f"SELECT key FROM {table} WHERE {where} created_ms <= ?", limit):  # noqa: S608
                if row["key"]:
                    self._storage.drop_content(row["key"])
            self._storage.run(f"DELETE FROM {table} WHERE {where} created_ms <= ?", limit)  # noqa: S608  (fixed words)


def file_json(row: sqlite3.Row) -> dict[str, Any]:
    """Return a file of the pool as answers show it."""
    return {
        "id": row["id"],
        "filename": row["filename"],
        "contentType": row["content_type"],
        "size": row["size"],
        "createdAt": iso(row["created_ms"]),
        "purpose": row["purpose"],
    }
