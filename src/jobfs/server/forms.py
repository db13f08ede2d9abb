"""Reads request bodies: JSON in memory within a limit, multipart forms as a stream whose files go straight to disk.

A file of any size costs the memory of one network chunk. What was written is discarded unless a route keeps it, so that
a broken upload leaves nothing.
"""

from __future__ import annotations

import json
import math
import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from jobfs.server.content import ContentFolder, ContentWriter
from jobfs.server.refusals import Refused

MAX_JSON = 64 * 1024 * 1024
"""Largest JSON body in bytes; a file in base64 counts in full."""

MAX_FIELDS = 1024 * 1024
"""Bytes of all text fields of one form together."""

MAX_DEPTH = 100
"""Deepest nesting of a JSON body: far beyond any shape of the API, far within what SQLite and Python can take."""

_MAX_HEADERS = 16 * 1024
_MAX_PREAMBLE = 16 * 1024
_MOST_FIELDS = 1000

_ALWAYS_A_FILE = "file"
"""The field that is a file in every form of the API, so that its part needs no file name."""

_QUOTED = re.compile(rb'"(?:\\.|[^"\\])*"')
_ENCODED_NAME = re.compile(rb";\s*filename\*\s*=\s*[\w.+-]*'[\w-]*'([!-:<-~]*)", re.IGNORECASE)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(slots=True)
class FilePart:
    """A file of a form, already on disk."""

    name: str
    filename: str
    mime_type: str
    content: ContentWriter


@dataclass(slots=True)
class Form:
    """A body, whichever way it was encoded.

    :param fields: text fields of a form (a list where a name was repeated), or the members of a JSON object.
    :param files: file parts in the order in which they came.
    :param is_json: it was a JSON object.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    files: list[FilePart] = field(default_factory=list)
    is_json: bool = False

    def add(self, name: str, text: str) -> None:
        """Add a text field; one that is repeated becomes a list."""
        known = self.fields.get(name)
        if known is None:
            self.fields[name] = text
        elif isinstance(known, list):
            known.append(text)
        else:
            self.fields[name] = [known, text]

    def file(self, name: str) -> FilePart | None:
        """Return the file part of a name; 422 if there are several, since all but one would be lost unsaid."""
        parts = [part for part in self.files if part.name == name]
        if len(parts) > 1:
            raise Refused(422, [{"path": name, "message": "more than one file"}])
        return parts[0] if parts else None


class BodyReader:
    """Reads one request's body; a context manager that discards what no route has kept.

    :param upload_limit: bytes of the largest file.
    """

    def __init__(self, request: Request, contents: ContentFolder, upload_limit: int) -> None:
        self._request = request
        self._contents = contents
        self._upload_limit = upload_limit
        self._stack = ExitStack()

    def __enter__(self) -> BodyReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def writer(self) -> ContentWriter:
        """Open a content that is discarded with the body unless it is kept."""
        return self._stack.enter_context(self._contents.writer())

    async def form_or_json(self) -> Form:
        """Read a body of any encoding: real clients send forms and JSON, and what has no files may be URL-encoded."""
        kind, options = parse_options_header(self._request.headers.get("content-type"))
        if kind == b"multipart/form-data":
            return await self._multipart(options.get(b"boundary", b""))
        if kind == b"application/x-www-form-urlencoded":
            return await self._urlencoded()
        return Form(await self.json_object(), is_json=True)

    async def multipart(self) -> Form:
        """Read a body that has to be a form."""
        kind, options = parse_options_header(self._request.headers.get("content-type"))
        if kind != b"multipart/form-data":
            raise Refused(422, "Expected a body of type multipart/form-data")
        return await self._multipart(options.get(b"boundary", b""))

    async def json_object(self) -> dict[str, Any]:
        """Read a JSON object; an empty body is an empty object, whatever type it claims (contract T-5)."""
        body = bytearray()
        async for chunk in self._request.stream():
            body += chunk
            if len(body) > MAX_JSON:
                raise Refused(413, f"A JSON body may have {MAX_JSON} bytes")
        if not body:
            return {}
        kind = parse_options_header(self._request.headers.get("content-type"))[0]
        if kind and kind != b"application/json" and not kind.endswith(b"+json"):
            raise Refused(422, f"Unsupported content type {kind.decode('latin-1')}")
        value = _parse_json(bytes(body))
        if not isinstance(value, dict):
            raise Refused(422, "Expected a JSON object")
        return value

    async def raw(self) -> ContentWriter:
        """Read a body that is a file and nothing else."""
        writer = self.writer()
        async for chunk in self._request.stream():
            self.write(writer, chunk)
        return writer

    async def _multipart(self, boundary: bytes) -> Form:
        if not boundary:
            raise Refused(422, "A multipart body needs a boundary")
        sink, preamble = _FormSink(self), _Preamble(boundary)
        try:
            parser = MultipartParser(boundary, sink.callbacks())  # type: ignore[arg-type]  # plain dict of callables
            async for chunk in self._request.stream():
                if rest := preamble.skip(chunk):
                    parser.write(rest)
            parser.finalize()
        except FormParserError:
            raise Refused(422, "The multipart body is malformed") from None
        if not sink.is_complete:
            raise Refused(422, "The multipart body ends too early")
        return sink.form

    async def _urlencoded(self) -> Form:
        body = bytearray()
        async for chunk in self._request.stream():
            body += chunk
            if len(body) > MAX_FIELDS:
                raise Refused(413, f"The fields of a form may have {MAX_FIELDS} bytes")
        form = Form()
        try:
            pairs = parse_qsl(
                _decode(bytes(body)), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS
            )
        except UnicodeDecodeError:
            raise Refused(422, "A field of the form is not UTF-8") from None
        except ValueError:
            raise Refused(422, "The form has too many fields") from None
        for name, value in pairs:
            form.add(name, value)
        return form

    def write(self, writer: ContentWriter, chunk: bytes | memoryview) -> None:
        """Append to a content of this body; 413 beyond the upload limit."""
        if writer.size + len(chunk) > self._upload_limit:
            raise Refused(413, f"A file may have {self._upload_limit} bytes")
        writer.write(chunk)


class _Preamble:
    """Skips what stands before the first boundary of a form (RFC 2046, 5.1.1), which the parser takes for damage."""

    def __init__(self, boundary: bytes) -> None:
        # A longer boundary may begin as this one does, so what follows counts.
        self._first = re.compile(rb"\r\n--" + re.escape(boundary) + rb"(?=\r\n|--|[ \t])")
        self._overlap = len(boundary) + 6
        # The beginning of a body is the beginning of a line.
        self._held = b"\r\n"
        self._skipped = 0
        self._is_over = False

    def skip(self, chunk: bytes) -> bytes:
        """Return what of a chunk belongs to the form; 422 if the form does not begin soon."""
        if self._is_over:
            return chunk
        held = self._held + chunk
        found = self._first.search(held)
        self._skipped += found.start() if found else len(chunk)
        if self._skipped > _MAX_PREAMBLE:
            raise Refused(422, "The multipart body is malformed")
        if found is None:
            self._held = held[-self._overlap :]
            return b""
        self._is_over, self._held = True, b""
        return held[found.start() + 2 :]


class _FormSink:
    """Takes what the parser finds: text fields into memory, files onto disk."""

    def __init__(self, reader: BodyReader) -> None:
        self.form = Form()
        self.is_complete = False
        self._reader = reader
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._text = bytearray()
        self._text_total = 0
        self._header_total = 0
        self._name = ""
        self._file: FilePart | None = None

    def callbacks(self) -> dict[str, Any]:
        """Return the parser's hooks."""
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._on_header_name,
            "on_header_value": self._on_header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        self._headers = {}
        self._text = bytearray()
        self._header_total = 0
        self._file = None

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_value += data[start:end]

    def _count_header(self, size: int) -> None:
        self._header_total += size
        if self._header_total > _MAX_HEADERS:
            raise Refused(422, "The headers of a part are too long")

    def _header_end(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _headers_end(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        _, options = parse_options_header(disposition)
        if b"name" not in options:
            raise Refused(422, "A part of the form has no name")
        self._name = _decode(options[b"name"])
        filename = _file_name(options.get(b"filename"), disposition)
        if filename is not None or self._name == _ALWAYS_A_FILE:
            mime_type = self._headers.get(b"content-type", b"application/octet-stream").decode("latin-1")[:256]
            self._file = FilePart(self._name, filename or "", mime_type, self._reader.writer())

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._reader.write(self._file.content, memoryview(data)[start:end])
            return
        self._text_total += end - start
        if self._text_total > MAX_FIELDS:
            raise Refused(413, f"The fields of a form may have {MAX_FIELDS} bytes")
        self._text += data[start:end]

    def _part_end(self) -> None:
        if self._file is not None:
            self.form.files.append(self._file)
            return
        self.form.add(self._name, _decode(bytes(self._text)))

    def _end(self) -> None:
        self.is_complete = True


def _file_name(plain: bytes | None, disposition: bytes) -> str | None:
    """Return the file name of a part, or None for a text field.

    ``filename*`` is not for forms (RFC 7578, 4.2), but a part that has nothing else is a file all the same: as a text
    its bytes would be lost. Where neither is UTF-8, it is the Latin-1 of old clients, which has a character for each
    byte: no name keeps a file out.
    """
    if plain is None:
        found = _ENCODED_NAME.search(_QUOTED.sub(b'""', disposition))
        if found is None:
            return None
        plain = unquote_to_bytes(found[1])
    try:
        return plain.decode("utf-8")
    except UnicodeDecodeError:
        return plain.decode("latin-1")


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(422, "A field of the form is not UTF-8") from None


def _parse_json(body: bytes) -> Any:
    """Parse a JSON text, and refuse what could be parsed but never be told again: in an answer, or to SQLite."""
    try:
        text = body.decode("utf-8-sig")
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise Refused(422, "The body is not JSON") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise Refused(422, f"The body is nested deeper than {MAX_DEPTH}")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is beyond what a number can be")
    return number


def _is_deeper(value: Any, depth: int) -> bool:
    """Tell whether a value is nested deeper than that; goes level by level, so that no depth is too much for it."""
    level = [value]
    for _ in range(depth + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)
