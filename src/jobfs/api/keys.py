"""API keys that cannot be printed by accident."""

from __future__ import annotations

import json
from enum import Enum, unique

from jobfs import errors


@unique
class KeyKind(Enum):
    """Which key a call is made with (contract V-3). One kind never stands in for the other."""

    API = "API key"
    SYSTEM = "system key"
    NONE = "no key"


class Keys:
    """The keys of one server. Neither ``repr`` nor an exception nor a log line shows them.

    :raises SettingsError: for a key that no header can carry. It is checked here, because the HTTP stack would quote
        it in its own message.
    """

    __slots__ = ("_values",)

    def __init__(self, api_key: str, system_key: str | None = None) -> None:
        self._values = {KeyKind.API: _checked(api_key, KeyKind.API)}
        if system_key is not None:
            self._values[KeyKind.SYSTEM] = _checked(system_key, KeyKind.SYSTEM)

    def authorization(self, kind: KeyKind) -> str:
        """Return the value of the Authorization header.

        :raises SettingsError: where no key of that kind is set.
        """
        value = self._values.get(kind)
        if value is None:
            raise errors.SettingsError(
                f"this call needs a {kind.value}, and none is set", "set it, or use a server's own tools for this call"
            )
        return f"Bearer {value}"

    def redact(self, body: bytes, secret: str = "") -> bytes:
        """Return the bytes with every key, and one more secret, replaced by stars.

        A server may echo a request in its answer, as it is or within JSON text.
        """
        for value in (*self._values.values(), secret):
            in_json = {json.dumps(value, ensure_ascii=is_ascii)[1:-1] for is_ascii in (True, False)}
            for form in (value.encode(), *map(str.encode, in_json)):
                body = body.replace(form, b"***") if form else body
        return body

    def __repr__(self) -> str:
        return f"Keys({', '.join(kind.name for kind in self._values)})"


def _checked(value: str, kind: KeyKind) -> str:
    value = value.strip()
    if not value:
        raise errors.SettingsError(f"the {kind.value} is empty", "set JOBFS_API_KEY or name a file with --api-key-file")
    if not all("!" <= character <= "~" for character in value):
        raise errors.SettingsError(
            f"the {kind.value} holds blanks or characters that no key has", "copy it again, one key on one line"
        )
    return value
