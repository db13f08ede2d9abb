"""Refusals: the server's answers that are not what was asked for.

``Refused`` is raised by the rules and by the HTTP layer alike and never leaves the server: it becomes one error
envelope. The reasons are the documented ones wherever a document names one; their wording is what clients search for.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

INVALID_PATH = "Invalid path"
DIRECTORY_NOT_FOUND = "Directory not found"
PATH_EXISTS = "Path already exists"
NO_FIELD = "At least one field is required"
READ_ONLY = "Workspace item is read-only"
NEEDS_JOB = "An item becomes private only through a job's workspace instance"
NOT_A_FILE = "Can only download files, not directories"
JOB_NOT_FOUND = "Expert job not found"
INSTANCE_NOT_FOUND = "Workspace instance not found"
ITEM_NOT_FOUND = "Workspace item not found"
FILE_NOT_FOUND = "File not found"
EXPERT_NOT_FOUND = "Expert not found"
CHECKPOINT_NOT_FOUND = "Checkpoint not found"
NO_QUERY = "Query or files are required"
CANNOT_CONTINUE = "Current status is unable to continue"
ENV_EXISTS = "Env name already exists in workspace"
ENV_NOT_FOUND = "Env name not found in workspace"
FAILED_TO_AUTHENTICATE = "Failed to authenticate"


class Refused(Exception):
    """A request that is refused.

    :param status: HTTP status.
    :param reason: text, or for 422 any JSON value.
    :param code: the machine-readable code of an Eigenpal issue; by the status where it is not given.
    :param headers: that the answer carries besides.
    """

    def __init__(self, status: int, reason: Any, *, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.code = code or _CODES.get(status, "error")
        self.headers = dict(headers or {})


def failure(error: Exception) -> Refused | None:
    """Return the refusal of a request that the machine cannot serve just now; None where the error is a bug."""
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if is_full or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return Refused(507, "The server's disk is full")
    return None


_CODES = {400: "invalid_value", 401: "unauthorized", 403: "forbidden", 404: "not_found", 413: "too_large"}


def error_name(status: int) -> str:
    """Return the fixed text of the envelope's ``error`` (contract, section 3)."""
    return "Validation Failed" if status == HTTPStatus.UNPROCESSABLE_ENTITY else HTTPStatus(status).phrase
