"""API keys of two kinds (contract T-4, V-3): made once, shown once, stored as hashes only.

A key carries 256 random bits, so a plain SHA-256 cannot be reversed by guessing; comparison takes the same time
wherever two digests differ.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from enum import Enum, unique

from jobfs.server.storage import Storage
from jobfs.server.times import Clock


@unique
class KeyKind(Enum):
    """What a key opens."""

    ORDINARY = "ordinary"
    SYSTEM = "system"


_PREFIX = {KeyKind.ORDINARY: "jobfs_k_", KeyKind.SYSTEM: "jobfs_s_"}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request.

    :param application: whose records an ordinary key sees; None for a system key, which sees all.
    :param digest: of the key, to count requests by.
    """

    kind: KeyKind
    application: str | None
    digest: str = field(repr=False)


class KeyRing:
    """The keys of one server, held in memory as digests."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._callers = [
            Caller(KeyKind(row["kind"]), row["application_id"], row["digest"])
            for row in storage.all("SELECT * FROM api_key ORDER BY created_ms, digest")
        ]

    def create(self, kind: KeyKind, application: str | None = None) -> str:
        """Make a key and return it in clear, for the only time. Runs inside the caller's transaction."""
        key = _PREFIX[kind] + secrets.token_urlsafe(32)
        caller = Caller(kind, application, _digest(key))
        self._storage.insert(
            "api_key", digest=caller.digest, kind=kind.value, application_id=application, created_ms=self._clock()
        )
        self._callers.append(caller)
        return key

    def lend(self, kind: KeyKind, application: str | None = None) -> str:
        """Make a key for this process alone, stored nowhere, and return it in clear."""
        key = _PREFIX[kind] + secrets.token_urlsafe(32)
        self._callers.append(Caller(kind, application, _digest(key)))
        return key

    def caller(self, authorization: str | None) -> Caller | None:
        """Return who an ``Authorization`` header stands for, or None. The scheme's case does not matter."""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        digest = _digest(key.strip())
        found = None
        for caller in self._callers:  # all of them, so that the time does not tell which one matched
            if hmac.compare_digest(caller.digest, digest):
                found = caller
        return found


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
