"""Signed, short-lived links to bytes, which need no key (contract E-3, E-20).

The secret lives as long as the process: a restart makes every link invalid, which a client answers by asking again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets

from jobfs.server.refusals import Refused
from jobfs.server.times import Clock

LIFETIME_MS = 15 * 60 * 1000
"""How long a link works."""


class Signer:
    """Signs and checks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._secret = secrets.token_bytes(32)

    def sign(self, purpose: str, *subject: str) -> str:
        """Return a token, safe in a URL, that stands for a purpose and its subject."""
        parts = [purpose, *subject, str(self._clock() + LIFETIME_MS)]
        text = base64.urlsafe_b64encode(json.dumps(parts).encode("utf-8")).decode("ascii")
        return f"{text}.{self._seal(text)}"

    def open(self, purpose: str, token: str) -> tuple[str, ...]:
        """Return the subject of a token; 403 where it is forged, over, or for another purpose."""
        text, _, seal = token.rpartition(".")
        if hmac.compare_digest(seal.encode("utf-8"), self._seal(text).encode("ascii")):
            found, *subject, expires = json.loads(base64.urlsafe_b64decode(text))
            if found == purpose and int(expires) > self._clock():
                return tuple(subject)
        raise Refused(403, "The link is not valid any more")

    def _seal(self, text: str) -> str:
        return hmac.new(self._secret, text.encode("utf-8"), hashlib.sha256).hexdigest()
