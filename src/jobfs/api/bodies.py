"""The bodies of requests and answers, in the forms in which httpx takes and gives them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx

from jobfs.api.body import Body

_ENCODINGS = ("gzip", "deflate")


def _encoding(response: httpx.Response) -> str:
    return str(response.headers.get("content-encoding", "")).strip().lower().removeprefix("identity")


def is_encoded(response: httpx.Response) -> bool:
    """Tell whether a body is in any encoding."""
    return bool(_encoding(response))


def is_readable(response: httpx.Response) -> bool:
    """Tell whether a body is in no encoding or in one that may be asked for.

    One at most: of a body that is compressed twice a single packet can become gigabytes.
    """
    return _encoding(response) in ("", *_ENCODINGS)


def pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """Return the decoded body; where there is nothing to decode without httpx's own chunking, which costs a third of
    the speed.
    """
    if is_encoded(response):
        return response.aiter_bytes()
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("the HTTP transport gave a body that cannot be awaited")
    return aiter(response.stream)


async def read_body(response: httpx.Response, most: int, on_piece: Callable[[], None]) -> bytes:
    """Return the decoded body, or a little more than ``most`` bytes of a longer one.

    :param on_piece: called whenever some of it has come.
    """
    parts: list[bytes] = []
    received = 0
    async for piece in pieces(response):
        on_piece()
        parts.append(piece)
        received += len(piece)
        if received > most:
            break
    return b"".join(parts)


class _Chunks(httpx.AsyncByteStream):
    """A body that is read while it is sent."""

    def __init__(self, body: Body, on_sent: Callable[[], None]) -> None:
        self._body = body
        self._on_sent = on_sent

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._body.chunks():
            yield chunk
        self._on_sent()


def content(body: Body | None, on_sent: Callable[[], None]) -> httpx.AsyncByteStream | httpx.SyncByteStream:
    """Return a body in the form in which httpx sends it as it is.

    :param on_sent: called when the last of it has been handed over.

    Left to find out what it is, how long, and what headers that asks for, httpx takes a third of a small request.
    """
    if body is None:
        return httpx.ByteStream(b"")
    whole = body.whole()
    if whole is None:
        return _Chunks(body, on_sent)
    on_sent()
    return httpx.ByteStream(whole)
