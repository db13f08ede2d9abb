"""What carries requests over a real socket: framing, reuse, limits, TLS."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import httpx
import pytest

from jobfs.api import early
from jobfs.api.direct import SINCE, DirectTransport

DEADLINE_S = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
LIMITS = {"connect": DEADLINE_S, "read": DEADLINE_S, "write": DEADLINE_S}

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def no_tls() -> NoReturn:
    raise AssertionError("plain addresses need no certificates")


class Far:
    """A server that does what a test says over each connection."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.accepted = 0
        self.url = ""
        self.under_way: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if task := asyncio.current_task():
            self.under_way.add(task)
        try:
            await self._talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has ended it
        finally:
            writer.close()


@asynccontextmanager
async def talking(talk: Talk, context: ssl.SSLContext | None = None) -> AsyncIterator[Far]:
    far = Far(talk)
    server = await asyncio.start_server(far.serve, "127.0.0.1", 0, ssl=context)
    scheme = "http" if context is None else "https"
    far.url = f"{scheme}://localhost:{server.sockets[0].getsockname()[1]}/thing"
    async with asyncio.timeout(DEADLINE_S):
        async with server:
            yield far
        await asyncio.gather(*far.under_way)


@asynccontextmanager
async def carrying(context: Callable[[], ssl.SSLContext] = no_tls) -> AsyncIterator[DirectTransport]:
    carrier = DirectTransport(context)
    try:
        yield carrier
    finally:
        await carrier.aclose()


async def get(carrier: DirectTransport, url: str, **limits: float) -> httpx.Response:
    return await carrier.handle_async_request(httpx.Request("GET", url, extensions={"timeout": LIMITS | limits}))


async def whole(response: httpx.Response) -> bytes:
    try:
        return b"".join([piece async for piece in response.aiter_raw()])
    finally:
        await response.aclose()


def saying(*answers: bytes, then_stays: bool = True) -> Talk:
    """Answer request after request; then leave the connection open, or end it."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        if then_stays:
            await reader.readuntil(b"\r\n\r\n")

    return talk


# -- where an answer ends

WHOLE = {
    "length": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n2\r\nbc\r\n0\r\nTrailer: 1\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length:  3 \r\n\r\nabc",
}
CUT = {
    "nothing": b"",
    "head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabc",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
}
NO_HTTP = {
    "another protocol": b"220 mail.example ESMTP\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "unknown encoding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "upgrade": b"HTTP/1.1 101 Switching\r\nUpgrade: other\r\nConnection: upgrade\r\n\r\n",
    "length of words": b"HTTP/1.1 200 OK\r\nContent-Length: three\r\n\r\nabc",
}


@pytest.mark.parametrize("answer", WHOLE.values(), ids=WHOLE)
def test_an_answer_ends_where_its_framing_says_and_the_connection_serves_again(run, answer: bytes) -> None:
    async def main() -> None:
        async with talking(saying(answer, OK)) as far, carrying() as carrier:
            response = await get(carrier, far.url)
            assert (response.status_code, await whole(response)) == (200, b"abc")
            assert await whole(await get(carrier, far.url)) == b"OK"
            assert far.accepted == 1

    run(main())


def test_an_answer_without_framing_ends_with_the_connection(run) -> None:
    async def main() -> None:
        async with talking(saying(b"HTTP/1.1 200 OK\r\n\r\nabc", then_stays=False)) as far, carrying() as carrier:
            assert await whole(await get(carrier, far.url)) == b"abc"
            assert await whole(await get(carrier, far.url)) == b"abc"
            assert far.accepted == 2

    run(main())


@pytest.mark.parametrize("answer", CUT.values(), ids=CUT)
def test_an_answer_that_breaks_off_is_an_error_and_no_shorter_answer(run, answer: bytes) -> None:
    async def main() -> None:
        async with talking(saying(answer, then_stays=False)) as far, carrying() as carrier:
            with pytest.raises(httpx.RemoteProtocolError):
                await whole(await get(carrier, far.url))

    run(main())


@pytest.mark.parametrize("answer", NO_HTTP.values(), ids=NO_HTTP)
def test_what_could_be_read_in_two_ways_is_not_read(run, answer: bytes) -> None:
    async def main() -> None:
        async with talking(saying(answer)) as far, carrying() as carrier:
            with pytest.raises(httpx.RemoteProtocolError):
                await whole(await get(carrier, far.url))

    run(main())


@pytest.mark.parametrize("answer", WHOLE.values(), ids=WHOLE)
def test_an_answer_may_come_byte_by_byte(run, answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for byte in answer:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)  # the loop of both lets the other side read
        await reader.readuntil(b"\r\n\r\n")

    async def main() -> None:
        async with talking(talk) as far, carrying() as carrier:
            assert await whole(await get(carrier, far.url)) == b"abc"

    run(main())


# -- what is used again

NOT_AGAIN = {
    "more than was asked for": OK + OK,
    "words that are no HTTP": OK + b"and so on",
    "the server says so": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nOK",
    "an old server": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nOK",
}


@pytest.mark.parametrize("answer", NOT_AGAIN.values(), ids=NOT_AGAIN)
def test_a_doubtful_connection_is_not_used_again(run, answer: bytes) -> None:
    async def main() -> None:
        async with talking(saying(answer)) as far, carrying() as carrier:
            assert await whole(await get(carrier, far.url)) == b"OK"
            assert await whole(await get(carrier, far.url)) == b"OK"
            assert far.accepted == 2

    run(main())


def test_a_connection_that_the_server_has_ended_meanwhile_is_not_used_again(run) -> None:
    async def main() -> None:
        async with talking(saying(OK, then_stays=False)) as far, carrying() as carrier:
            for number in range(3):
                assert await whole(await get(carrier, far.url)) == b"OK"
                assert far.accepted == number + 1

    run(main())


def test_an_answer_tells_since_when_its_connection_has_stood(run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with talking(saying(OK, OK)) as far, carrying() as carrier, carrying() as other:
            began_s = loop.time()
            first = await get(carrier, far.url)
            await whole(first)
            made_s = loop.time()
            again, others = await get(carrier, far.url), await get(other, far.url)
            await asyncio.gather(whole(again), whole(others))
            assert began_s <= first.extensions[SINCE] == again.extensions[SINCE] <= made_s <= others.extensions[SINCE]

    run(main())


def test_an_answer_that_is_left_unread_costs_its_connection(run) -> None:
    async def main() -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"
        async with talking(saying(answer)) as far, carrying() as carrier:
            for number in range(2):
                response = await get(carrier, far.url)
                await response.aclose()
                assert (response.status_code, far.accepted) == (200, number + 1)

    run(main())


# -- what is bounded


@pytest.mark.parametrize(
    "endless",
    [
        b"X: y\r\n",
        b"z" * 64,
        b"\r\nContent-Length: 1\r\n\r\nHTTP/1.1 100 Continue",
    ],
    ids=["headers", "one header", "interim answers"],
)
def test_a_head_that_does_not_end_is_refused(run, endless: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 OK\r\nA: ")
        while True:
            writer.write(endless * 1000)
            await writer.drain()

    async def main() -> None:
        async with talking(talk) as far, carrying() as carrier:
            with pytest.raises(httpx.RemoteProtocolError):
                await get(carrier, far.url)

    run(main())


def test_trailers_that_do_not_end_are_refused(run) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        while True:
            writer.write(b"X: y\r\n" * 1000)
            await writer.drain()

    async def main() -> None:
        async with talking(talk) as far, carrying() as carrier:
            with pytest.raises(httpx.RemoteProtocolError):
                await whole(await get(carrier, far.url))

    run(main())


def test_a_body_that_nobody_reads_is_not_taken_from_the_server(run) -> None:
    stuck = asyncio.Event()
    size = 64 << 20

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size >> 20):
            writer.write(bytes(1 << 20))
            try:
                async with asyncio.timeout(0.3):
                    await writer.drain()
            except TimeoutError:
                stuck.set()
                await writer.drain()
        await reader.readuntil(b"\r\n\r\n")

    async def main() -> None:
        async with talking(talk) as far, carrying() as carrier:
            response = await get(carrier, far.url)
            await stuck.wait()
            assert len(await whole(response)) == size

    run(main())


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"], ids=["at all", "any more"])
def test_a_server_that_says_nothing_ends_the_wait(run, head: bytes) -> None:
    async def main() -> None:
        async with talking(saying(head)) as far, carrying() as carrier:
            with pytest.raises(httpx.ReadTimeout):
                await whole(await get(carrier, far.url, read=0.05))

    run(main())


def test_a_server_that_takes_nothing_ends_the_wait(run) -> None:
    async def main() -> None:
        is_over = asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await is_over.wait()

        async with talking(talk) as far, carrying() as carrier:
            with pytest.raises(httpx.WriteTimeout):
                await carrier.handle_async_request(upload(far.url, 64 << 20, write=0.1))
            is_over.set()

    run(main())


def upload(url: str, size: int, **limits: float) -> httpx.Request:
    async def content() -> AsyncIterator[bytes]:
        for _ in range(size >> 20):
            yield bytes(1 << 20)

    headers = {"Content-Length": str(size)}
    extensions = {"timeout": LIMITS | limits}
    return httpx.Request("POST", url, headers=headers, content=content(), extensions=extensions)


# -- what goes out


def test_a_large_body_arrives_whole(run) -> None:
    received = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"\r\nContent-Length: 8388608\r\n" in head
        received = len(await reader.readexactly(8 << 20))
        writer.write(OK)
        await reader.readuntil(b"\r\n\r\n")

    async def main() -> None:
        async with talking(talk) as far, carrying() as carrier:
            assert await whole(await carrier.handle_async_request(upload(far.url, 8 << 20))) == b"OK"
            assert received == 8 << 20

    run(main())


def test_what_the_server_said_before_it_ended_an_upload_is_heard(run) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno!")
        await writer.drain()
        writer.write_eof()
        while await reader.read(1 << 20):
            pass

    async def main() -> None:
        async with talking(talk) as far, carrying() as carrier:
            response = await carrier.handle_async_request(upload(far.url, 16 << 20))
            assert (response.status_code, await whole(response)) == (413, b"no!")

    run(main())


@pytest.mark.parametrize(
    "headers",
    [{"X": "a\r\nAuthorization: other"}, {"X\r\nY": "a"}, {"X": "a\0"}, {"X Y": "a"}, {"Transfer-Encoding": "chunked"}],
    ids=repr,
)
def test_a_header_that_would_mean_something_else_is_not_sent(run, headers: dict[str, str]) -> None:
    async def main() -> None:
        async with talking(saying(OK)) as far, carrying() as carrier:
            request = httpx.Request("GET", far.url, headers=headers, extensions={"timeout": LIMITS})
            with pytest.raises(httpx.LocalProtocolError):
                await carrier.handle_async_request(request)
            assert far.accepted == 0

    run(main())


def test_what_cannot_be_connected_was_not_sent(run) -> None:
    async def main() -> None:
        async with talking(saying(OK)) as far:
            url = far.url
        async with carrying() as carrier:
            for address in (url, "http://" + 64 * "a", "ftp://localhost/"):
                with pytest.raises((httpx.ConnectError, httpx.UnsupportedProtocol)):
                    await get(carrier, address)

    run(main())


# -- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, with its key, that nobody has signed."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    subprocess.run([openssl, *words.split(), *names], check=True, capture_output=True, timeout=60)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


def serving(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


def test_a_trusted_server_is_spoken_to_in_secret_over_one_connection(run, certificate: Path) -> None:
    def trusting() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=certificate.with_suffix(".crt"))

    async def main() -> None:
        async with talking(saying(OK, OK), serving(certificate)) as far, carrying(trusting) as carrier:
            for _ in range(2):
                assert await whole(await get(carrier, far.url)) == b"OK"
            assert far.accepted == 1
            with pytest.raises(httpx.ConnectError):
                await get(carrier, far.url.replace("localhost", "127.0.0.1"))  # a name that the certificate has not

    run(main())


def test_a_connection_that_was_begun_early_is_spoken_over_in_secret_as_well(run, certificate: Path) -> None:
    def trusting() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=certificate.with_suffix(".crt"))

    async def work() -> None:
        async with talking(saying(OK), serving(certificate)) as far, carrying(trusting) as carrier:
            early.expect([early.EarlyConnection("localhost", httpx.URL(far.url).port or 0)])
            assert await whole(await get(carrier, far.url)) == b"OK"
            assert far.accepted == 1
            await carrier.aclose()

    run(work())


def test_an_untrusted_server_gets_nothing(run, certificate: Path) -> None:
    heard = b""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard += await reader.read(1)

    async def main() -> None:
        async with talking(talk, serving(certificate)) as far, carrying(httpx.create_ssl_context) as carrier:
            with pytest.raises(httpx.ConnectError) as refused:
                await get(carrier, far.url)
            assert isinstance(refused.value.__cause__, ssl.SSLCertVerificationError)
        assert heard == b""

    run(main())
