"""What a server can do on the wire itself: bombs, wrong lengths, endless answers, broken framing. The client says what
is wrong in one line, in bounded time and memory.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hostile_studio import JOB, KEY, QUICK_RETRIES

from jobfs.api.call import Timeouts
from jobfs.api.studio import Studio
from jobfs.api.transport import Transport
from jobfs.api.workspace import Workspace
from jobfs.errors import JobfsError
from jobfs.model import ItemId

Script = Callable[[asyncio.StreamWriter], Awaitable[None]]
QUICK = Timeouts(connect_s=2.0, idle_s=2.0, total_s=8.0)
MIB = 1 << 20
EMPTY_LIST = b'{"data":{"workspaceItems":[]},"meta":{"total":0}}'


def whole(body: bytes, *headers: str, status: str = "200 OK") -> Script:
    """Return a script that answers with these bytes, as the headers say."""

    async def send(writer: asyncio.StreamWriter) -> None:
        head = "".join(f"{header}\r\n" for header in headers)
        writer.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + body)
        await writer.drain()

    return send


def endless(piece: bytes, *headers: str, status: str = "200 OK") -> Script:
    """Return a script that goes on for as long as anybody listens."""

    async def send(writer: asyncio.StreamWriter) -> None:
        await whole(b"", *headers, status=status)(writer)
        while True:
            writer.write(piece)
            await writer.drain()

    return send


@asynccontextmanager
async def speaking(script: Script) -> AsyncIterator[Workspace]:
    """Give a client of a server that answers every request by the script, and then closes."""

    speeches: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        speeches.add(asyncio.current_task())
        try:
            while await reader.readline() not in (b"\r\n", b""):
                pass
            await script(writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with Transport(f"http://127.0.0.1:{port}", KEY, timeouts=QUICK, retries=QUICK_RETRIES) as transport:
            yield Studio(transport).workspace(JOB)
    finally:
        server.close()
        await asyncio.gather(*filter(None, speeches))  # nobody listens any more, which ends them


def ask(script: Script, what: Callable[[Workspace], Awaitable[object]]) -> str:
    """Return what the client says about an answer; it has to be an error."""

    async def main() -> str:
        async with asyncio.timeout(20), speaking(script) as workspace:
            with pytest.raises(JobfsError) as failed:
                await what(workspace)
            return str(failed.value)

    return asyncio.run(main())


async def lists(workspace: Workspace) -> object:
    return await workspace.list_page(skip=0)


async def downloads(workspace: Workspace) -> object:
    received = 0
    async with workspace.download(ItemId("x")) as download:
        async for chunk in download.chunks():
            received += len(chunk)
            if received > 200 * MIB:
                raise AssertionError("the download has no end")
    return received


def squeezed(size: int) -> bytes:
    """Return a gzip stream of so many blanks."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(b" " * MIB) for _ in range(size // MIB)), packer.flush()])


ONCE = squeezed(256 * MIB)
TWICE = gzip.compress(ONCE)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (ONCE, "gzip"),
        (TWICE, "gzip, gzip"),
        (TWICE, "gzip\r\nContent-Encoding: gzip"),
        (ONCE, "br"),
        (b"no gzip", "gzip"),
    ],
    ids=["a quarter of a gibibyte", "twice", "twice in two headers", "an encoding nobody knows", "broken"],
)
@pytest.mark.parametrize("what", [lists, downloads])
def test_a_bomb_is_refused_in_bounded_memory(
    body: bytes, encoding: str, what: Callable[..., Awaitable[object]]
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    script = whole(body, f"Content-Encoding: {encoding}", f"Content-Length: {len(body)}")
    if what is downloads and body is ONCE and encoding == "gzip":
        return  # decoded as it is read, and ended by whoever knows the size that was listed
    assert ask(script, what).isprintable()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


@pytest.mark.parametrize(
    "script",
    [
        whole(EMPTY_LIST, "Content-Length: 10000"),
        whole(EMPTY_LIST, "Content-Length: 10"),
        whole(EMPTY_LIST, "Content-Length: -1"),
        whole(EMPTY_LIST, "Content-Length: 99999999999999999999999"),
        whole(EMPTY_LIST, "Content-Length: 10", "Content-Length: 20"),
        whole(b"zz\r\n" + EMPTY_LIST, "Transfer-Encoding: chunked"),
        whole(b"ffffffffffffffff\r\n" + EMPTY_LIST, "Transfer-Encoding: chunked"),
        whole(b"31\r\n" + EMPTY_LIST, "Transfer-Encoding: chunked"),
        whole(b"", status="200 \x1b[2J"),
        whole(b"", status="999999 what"),
        whole(b"", "Location: http://127.0.0.1:1/\x00", status="302 Found"),
        endless(b"x: " + b"y" * 1000 + b"\r\n"),
        endless(b" " * 65536, "Content-Type: application/json"),
        endless(b"<p>" * 10_000, status="500 Oops"),
        endless(b'{"reason":"', "Content-Type: application/json", status="404 Not Found"),
        whole(b"", "Content-Length: 0", status="204 No Content"),
        whole(b"\xff\xfe" * 100, "Content-Length: 200"),
    ],
    ids=[
        *("too long a length", "too short a length", "a negative length", "an absurd length", "two lengths"),
        *("no chunk", "an absurd chunk", "a cut chunk", "a terminal's language", "no status", "a broken redirect"),
        *("endless headers", "an endless list", "an endless failure", "an endless refusal", "nothing", "no text"),
    ],
)
def test_a_broken_answer_is_an_error_of_one_line_in_bounded_time_and_memory(script: Script) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = ask(script, lists)
    assert said.isprintable()
    assert 0 < len(said) < 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


def test_a_download_of_another_length_than_announced_is_an_error() -> None:
    for script in (whole(b"x" * 10, "Content-Length: 20"), whole(b"5\r\nxx", "Transfer-Encoding: chunked")):
        assert ask(script, downloads).isprintable()


def test_a_stream_of_checkpoints_without_end_takes_bounded_memory() -> None:
    events = b"".join(
        b"data: "
        + json.dumps({"id": f"{number}" + "x" * 10_000, "status": "processing", "stepNumber": 1}).encode()
        + b"\n\n"
        for number in range(100)
    )
    seen = 0

    async def main() -> None:
        nonlocal seen
        counter = 0

        async def send(writer: asyncio.StreamWriter) -> None:
            nonlocal counter
            await whole(b"", "Content-Type: text/event-stream")(writer)
            for _ in range(150):
                counter += 1
                writer.write(events.replace(b'"id": "', f'"id": "{counter}-'.encode()))
                await writer.drain()

        async with asyncio.timeout(30), speaking(send) as workspace:
            async for _ in workspace.hints():
                seen += 1
            assert len(workspace._seen) <= 10_000

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    asyncio.run(main())
    assert seen == 15_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


# ------------------------------------------------------------------------------------------- what comes with an answer

LENGTH = f"Content-Length: {len(EMPTY_LIST)}"


@pytest.mark.parametrize(
    "script",
    [
        whole(EMPTY_LIST, LENGTH, *(f"X-{number}: {'y' * 20}" for number in range(500))),
        whole(EMPTY_LIST, LENGTH, f"X-Large: {'y' * 30_000}"),
        whole(EMPTY_LIST, LENGTH, "Set-Cookie: a=\x80", "X-Odd: \xff\xfe"),
        whole(
            b"%x;name=value;%b\r\n%b\r\n0\r\n\r\n" % (len(EMPTY_LIST), b"x" * 5000, EMPTY_LIST),
            "Transfer-Encoding: chunked",
        ),
        whole(
            b"%x\r\n%b\r\n0\r\nTrailer: 1\r\nLocation: x\r\n\r\n" % (len(EMPTY_LIST), EMPTY_LIST),
            "Transfer-Encoding: chunked",
        ),
        whole(EMPTY_LIST, LENGTH, "Location: http://127.0.0.1:1/"),
        whole(EMPTY_LIST, LENGTH, "Content-Encoding: identity", "Content-Type: text/html"),
        whole(gzip.compress(EMPTY_LIST), "Content-Encoding: GZip"),
        whole(EMPTY_LIST, LENGTH, "Retry-After: 99999999"),
        whole(b"\xef\xbb\xbf" + EMPTY_LIST),
    ],
    ids=[
        *("many headers", "a large header", "odd bytes", "chunk extensions", "trailers", "a location"),
        *("a wrong type", "compressed", "a pause", "a byte order mark"),
    ],
)
def test_what_an_honest_answer_may_carry_besides_does_not_matter(script: Script) -> None:
    async def main() -> int:
        async with asyncio.timeout(20), speaking(script) as workspace:
            workspace._is_known_empty = True
            return len((await workspace.list_page(skip=0)).items)

    assert asyncio.run(main()) == 0


@pytest.mark.parametrize(
    "script",
    [
        whole(EMPTY_LIST, LENGTH, f"X: {'y' * 10_000_000}"),
        whole(EMPTY_LIST, LENGTH, *(f"X-{number}: y" for number in range(100_000))),
        whole(EMPTY_LIST, LENGTH, LENGTH.replace(str(len(EMPTY_LIST)), str(len(EMPTY_LIST) + 1))),
        whole(EMPTY_LIST, LENGTH, "Transfer-Encoding: chunked"),
        whole(EMPTY_LIST, "Transfer-Encoding: gzip, chunked"),
        whole(EMPTY_LIST, f"Content-Length: +{len(EMPTY_LIST)}"),
        whole(EMPTY_LIST, f"Content-Length: 0x{len(EMPTY_LIST):x}"),
        endless(b"HTTP/1.1 100 Continue\r\n\r\n", status="100 Continue"),
        endless(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", status="102 Processing"),
        whole(b"", "Upgrade: h2c", "Connection: upgrade", status="101 Switching Protocols"),
        whole(EMPTY_LIST, LENGTH, status="204 No Content"),
        whole(EMPTY_LIST, LENGTH, status="304 Not Modified"),
        whole(EMPTY_LIST[:-1], status="205 Reset Content"),
        endless(b"1;" + b"x" * 65536, "Transfer-Encoding: chunked"),
        whole(EMPTY_LIST, LENGTH, "X\0: y"),
        whole(EMPTY_LIST, LENGTH, " folded: y"),
    ],
    ids=[
        *(
            "a huge header",
            "headers without number",
            "two lengths",
            "length and chunks",
            "a squeezed line",
            "a signed length",
        ),
        *("a length in hexadecimal", "endless interim answers", "interim answers and no other", "an upgrade"),
        *(
            "no content, with some",
            "not modified",
            "a reset, cut off",
            "an endless chunk extension",
            "a zero byte",
            "a folded line",
        ),
    ],
)
def test_what_no_honest_answer_carries_is_an_error_of_one_line(script: Script) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = ask(script, lists)
    assert said.isprintable()
    assert 0 < len(said) < 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
