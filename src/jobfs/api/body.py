"""Bodies of requests: JSON, and multipart forms whose files are read from disk while they are sent.

A body knows its exact length before the first byte goes out and can be read again from the start, so that a request
which the server refused without looking can be repeated. Memory is bounded by one chunk, whatever the size.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jobfs import errors

CHUNK_BYTES = 128 * 1024
"""With what the system keeps unsent (``sockets``), less than the slowest line takes within the limit on silence: a MiB
would take it longer than that, and a connection that moves would be given up."""

_INLINE_BYTES = 256 * 1024
"""Bodies up to this size go out in one write: a small create then is one segment behind its headers."""


class Body(Protocol):
    """What a request carries."""

    @property
    def content_type(self) -> str:
        """Value of the Content-Type header."""

    @property
    def length(self) -> int:
        """Exact number of bytes."""

    def whole(self) -> bytes | None:
        """Return all bytes where they are few, else None: then read ``chunks``."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes from the start, anew at every call."""


class Json:
    """A JSON document."""

    content_type = "application/json"

    def __init__(self, value: object) -> None:
        self._data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    @property
    def length(self) -> int:
        """Exact number of bytes."""
        return len(self._data)

    def whole(self) -> bytes:
        """Return all bytes."""
        return self._data

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes."""
        yield self._data


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file in a form.

    :param field: name of the form field.
    :param filename: shown to the server; its last path component should say enough.
    :param source: where the bytes are: a path, or the bytes themselves.
    :param mime_type: Content-Type of the part; kept by the server (contract I-45).
    """

    field: str
    filename: str
    source: Path | bytes
    mime_type: str


class Raw:
    """The bytes of a file as they are, for an upload to storage."""

    def __init__(self, source: Path, content_type: str) -> None:
        self.content_type = content_type
        self._source = source
        self.length = source.stat().st_size

    def whole(self) -> None:
        """Return None: always streamed."""
        return

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes."""
        for chunk in _read(self._source, self.length):
            yield chunk


class Multipart:
    """A form (RFC 7578): text fields, repeated ones included, then files.

    :param fields: name and value pairs in order.
    :param files: the file parts; their lengths are taken now, and exactly these many bytes are sent.
    :raises OSError: where a source is not there.
    """

    def __init__(self, fields: Sequence[tuple[str, str]], files: Sequence[FilePart] = ()) -> None:
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._parts: list[tuple[bytes, Path | bytes, int]] = []
        for name, value in fields:
            data = value.encode()
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n'
            self._parts.append((head.encode(), data, len(data)))
        for file in files:
            names = f'name="{_quoted(file.field)}"; filename="{_quoted(file.filename)}"'
            type_line = f"Content-Type: {_one_line(file.mime_type)}\r\n" if file.mime_type else ""
            head = f"--{boundary}\r\nContent-Disposition: form-data; {names}\r\n{type_line}\r\n"
            length = file.source.stat().st_size if isinstance(file.source, Path) else len(file.source)
            self._parts.append((head.encode(), file.source, length))
        self._tail = f"--{boundary}--\r\n".encode()
        self.length = sum(len(head) + length + 2 for head, _, length in self._parts) + len(self._tail)

    @property
    def is_small(self) -> bool:
        """Whether it goes out at once."""
        return self.length <= _INLINE_BYTES

    def whole(self) -> bytes | None:
        """Return all bytes of a small form, else None."""
        return b"".join(self._render()) if self.is_small else None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes."""
        for chunk in self._render():
            yield chunk

    def _render(self) -> Iterator[bytes]:
        for head, source, length in self._parts:
            yield head
            if isinstance(source, bytes):
                yield source
            else:
                yield from _read(source, length)
            yield b"\r\n"
        yield self._tail


def _quoted(value: str) -> str:
    """Escape a parameter as browsers do (HTML, multipart/form-data encoding)."""
    return value.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _one_line(value: str) -> str:
    return value.replace("\r", "").replace("\n", "")


def _read(source: Path, length: int) -> Iterator[bytes]:
    """Yield exactly ``length`` bytes: a file that grows is cut there, one that shrinks ends the request."""
    with source.open("rb") as file:
        left = length
        while left:
            chunk = file.read(min(CHUNK_BYTES, left))
            if not chunk:
                raise errors.StateError(
                    f"{source.name} became shorter while it was being sent", "it is sent again once it stops changing"
                )
            left -= len(chunk)
            yield chunk
