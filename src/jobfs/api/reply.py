"""One HTTP/1.1 answer as it is parsed, by llhttp: its head, what has come of its body, and where it ends.

Not for answers to HEAD, which no call uses: their bodies end before they begin.
"""

from __future__ import annotations

from collections import deque

import httptools
import httpx

MOST_HEAD_BYTES = 100 * 1024
"""What a head, or anything else that is no part of a body, may take at a time."""


class Reply:
    """One answer as it is parsed: what httptools calls, and what has come and is not yet read."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: deque[bytes] = deque()
        self.unread = 0
        """Bytes in ``pieces``."""
        self.is_head_read = False
        self.is_complete = False
        self.is_last = False
        """Whether the connection must not be used again."""
        self._is_refused = False
        """Whether its end is told in a way that is not known."""
        self._parser = httptools.HttpResponseParser(self)
        self._unheeded = 0
        """Bytes since the last that brought something: of the head, of what trails, or around chunks."""

    def feed(self, data: memoryview) -> None:
        """Take what has arrived.

        :raises httpx.RemoteProtocolError: it is not HTTP, or too much of it.
        """
        was_complete = self.is_complete
        if was_complete:
            self.is_last = True  # nobody asked for more
            return
        self._unheeded += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.is_complete:
                raise httpx.RemoteProtocolError("the server does not answer in HTTP") from error
            self.is_last = True
        if self._unheeded > MOST_HEAD_BYTES and not self.is_complete:
            raise httpx.RemoteProtocolError("the head of the answer is too long")
        if self._is_refused:
            raise httpx.RemoteProtocolError("the answer is in a transfer encoding that nobody asked for")

    def end(self) -> bool:
        """Note the end of the connection; return whether that is where the answer ends."""
        if self.is_head_read and not self._values(b"content-length") and not self._values(b"transfer-encoding"):
            self.is_complete = self.is_last = True
        return self.is_complete

    def _values(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.headers if known.lower() == name]

    # -- called by the parser

    def on_message_begin(self) -> None:
        """Note another message behind the one that was asked for."""
        self.is_last |= self.is_complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what trails the body is not one."""
        if not self.is_head_read:
            self.headers.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """Note the end of a head; an interim one (1xx) is none."""
        if self.is_complete:
            return
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self.headers.clear()
        elif any(value.lower() != b"chunked" for value in self._values(b"transfer-encoding")):
            self._is_refused = True
        else:
            self.is_head_read = True
            self._unheeded = 0

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        if not self.is_complete:
            self.pieces.append(body)
            self.unread += len(body)
            self._unheeded = 0

    def on_message_complete(self) -> None:
        """Note the end of the answer."""
        if self.is_head_read and not self.is_complete:
            self.is_complete = True
            self.is_last |= not self._parser.should_keep_alive()
