"""Server-sent events, the whole grammar (HTML, section 9.2.6): bytes in, events out, and the JSON in them."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from jobfs.api.answer import parse_json

MOST_EVENT_CHARACTERS = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Event:
    """A complete event.

    :param name: ``message`` where the server names none.
    :param data: the data lines, joined by line feeds.
    """

    name: str
    data: str


class EventParser:
    """Cuts a stream of bytes into events, however the bytes are cut.

    Lines end with CR LF, LF or CR. Comments, ``id`` and ``retry`` lines are understood and ignored, since nothing can
    be resumed (contract C-7). An event that the end of the stream cuts off is dropped, as the grammar says.
    """

    def __init__(self, most_characters: int = MOST_EVENT_CHARACTERS) -> None:
        self._most = most_characters
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._rest: list[str] = []
        self._was_return = False
        self._name = ""
        self._data: list[str] = []
        self._held = 0
        self.oversized = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """Take more bytes and return the events that they complete."""
        text = self._decoder.decode(chunk)
        self._held += len(text)
        if self._was_return and text:
            text = text.removeprefix("\n")
            self._was_return = False
        if text.endswith("\r"):
            self._was_return = True
        *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        events: list[Event] = []
        for line in lines:
            self._rest.append(line)
            whole, self._rest = "".join(self._rest), []
            event = self._line(whole)
            if event is not None:
                events.append(event)
        if rest:
            self._rest.append(rest)
        if self._held > self._most:
            # Nothing more is kept of an event that is too large to be one; what is left of its line is a comment.
            self._data = []
            self._rest = [":"]
        return events

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        return None

    def _dispatch(self) -> Event | None:
        data, name = self._data, self._name
        is_oversized = self._held > self._most
        self._data, self._name, self._held = [], "", 0
        self.oversized += is_oversized
        return Event(name or "message", "\n".join(data)) if data and not is_oversized else None


class Chunks(Protocol):
    """An open answer."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield its body as it arrives."""


class Messages:
    """The JSON values of the messages in a stream."""

    def __init__(self, stream: Chunks) -> None:
        self._stream = stream
        self._parser = EventParser()
        self._unread = 0

    @property
    def skipped(self) -> int:
        """Events that were no JSON, or too large to be a message."""
        return self._unread + self._parser.oversized

    async def __aiter__(self) -> AsyncIterator[object]:
        """Yield the values as they come.

        :raises Unreachable: where the connection broke.
        """
        async for chunk in self._stream.chunks():
            for event in self._parser.feed(chunk):
                if event.name != "message":
                    continue
                try:
                    value = parse_json(event.data.encode())
                except ValueError:
                    self._unread += 1
                    continue
                yield value
