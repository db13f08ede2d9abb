"""What the transport does about every kind of answer and of silence, against a scripted far side."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl

import httpx
import pytest

from jobfs import errors
from jobfs.api.body import Json, Multipart
from jobfs.api.call import Call, Timeouts
from jobfs.api.keys import KeyKind
from jobfs.api.limiter import Limits
from jobfs.api.retry import Retries
from jobfs.api.transport import Transport

READ = Call(method="GET", path="/thing", subject="thing")
WRITE = Call(method="POST", path="/thing", subject="thing", body=Json({"a": 1}))
DELETE = Call(method="DELETE", path="/thing", subject="thing")


def ok(value: object = 0) -> httpx.Response:
    return httpx.Response(200, json=value)


def refusal(status: int, reason: object = "because", **headers: str) -> httpx.Response:
    body = {"code": status, "error": "Some Error", "reason": reason}
    return httpx.Response(status, json=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


def cut_body(data: bytes, announced: int) -> httpx.Response:
    return httpx.Response(200, headers={"content-length": str(announced)}, stream=httpx.ByteStream(data))


# ------------------------------------------------------------------------------------------------------- requests


def test_a_request_carries_the_key_the_prefix_and_nothing_needless(far, run) -> None:
    far.script = [ok({"x": 1})]
    call = Call(method="GET", path="/a%2Fb", subject="thing", query={"path": "ä b&c", "skip": "0"})
    assert run(far.transport().json(call)) == {"x": 1}
    [request] = far.requests
    assert request.url.raw_path == b"/pre/a%2Fb?path=%C3%A4%20b%26c&skip=0"
    assert dict(request.headers) == {
        "host": "127.0.0.1:9",
        "accept": "application/json",
        "accept-encoding": "gzip",
        "user-agent": "jobfs/0.1.0",
        "authorization": f"Bearer {far.key}",
    }


def test_a_body_goes_out_with_its_exact_length_and_type(far, run) -> None:
    far.script = [ok()]
    run(far.transport().json(WRITE))
    [request] = far.requests
    assert (request.headers["content-length"], request.headers["content-type"]) == ("7", "application/json")
    assert request.content == b'{"a":1}'


def test_the_system_key_is_sent_only_where_asked_for_and_never_replaced(far, run) -> None:
    far.script = [ok()]
    call = Call(method="GET", path="/x", subject="x", key=KeyKind.SYSTEM)
    run(far.transport().json(call))
    assert far.requests[0].headers["authorization"] == f"Bearer {far.system_key}"
    without = Transport("http://127.0.0.1:9", "k", http=httpx.MockTransport(far.answer))
    with pytest.raises(errors.SettingsError, match="system key"):
        run(without.json(call))
    assert len(far.requests) == 1


@pytest.mark.parametrize("key", ["", "  ", "two words", "line\nbreak", "naïve"])
def test_a_key_that_no_header_can_carry_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(errors.SettingsError) as caught:
        Transport("http://127.0.0.1:9", key)
    assert not key.strip() or key not in str(caught.value) + caught.value.remedy


def test_the_hook_hears_of_every_exchange_without_the_query(far, run) -> None:
    far.script = [refusal(503), httpx.ReadError("gone"), ok()]
    run(far.transport().json(Call(method="GET", path="/t/", subject="t", query={"secret": "q"})))
    assert far.hooked == [("GET", "/pre/t/", 503), ("GET", "/pre/t/", 0), ("GET", "/pre/t/", 200)]


def test_a_compressed_json_answer_is_read(far, run) -> None:
    body = gzip.compress(b'{"x": 2}')
    far.script = [httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(body))]
    assert run(far.transport().json(READ)) == {"x": 2}


# --------------------------------------------------------------------------------------------------------- classes


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (400, "Invalid path", errors.InvalidPath),
        (400, "the INVALID PATH was given", errors.InvalidPath),
        (400, "Directory not found", errors.ParentMissing),
        (400, "Path already exists", errors.PathExists),
        (409, "path already exists", errors.PathExists),
        (400, "Env name already exists in workspace", errors.Refused),
        (400, "Current status is unable to continue", errors.Refused),
        (400, "something new", errors.Refused),
        (401, "Failed to authenticate", errors.Unauthenticated),
        (403, "no scope", errors.Forbidden),
        (403, "Item is read-only", errors.Refused),
        (404, "Workspace item not found", errors.NotFound),
        (405, "", errors.Refused),
        (413, "", errors.TooLarge),
        (415, "", errors.Refused),
        (418, "", errors.Refused),
        (422, [{"loc": ["x"], "msg": "bad"}], errors.Refused),
        (422, {"deep": {"er": None}}, errors.Refused),
        (501, "", errors.ServerFailure),
        (507, "", errors.TooLarge),
    ],
)
def test_a_final_refusal_is_classified_by_status_then_by_reason_and_not_repeated(
    far, run, status: int, reason: object, kind: type[errors.ApiError]
) -> None:
    far.script = [refusal(status, reason)]
    with pytest.raises(errors.ApiError) as caught:
        run(far.transport().json(WRITE))
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert caught.value.cause.startswith("thing: ")
    assert json.loads(caught.value.body)["code"] == status
    assert far.time.slept == []


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(400, html="<html>Bad Gateway</html>"),
        httpx.Response(400),
        httpx.Response(400, content=b"\xff\xfe\x00"),
        httpx.Response(400, json=[1, 2]),
        httpx.Response(400, json={"reason": None}),
        httpx.Response(400, content=b"[" * 10_000),
    ],
)
def test_refusals_without_an_envelope_are_survived(far, run, response: httpx.Response) -> None:
    far.script = [response]
    with pytest.raises(errors.Refused) as caught:
        run(far.transport().json(WRITE))
    assert caught.value.status == 400


def test_a_reason_is_one_printable_line_of_bounded_length(far, run) -> None:
    far.script = [refusal(400, "\x1b[31mred\nand " + "long " * 400)]
    with pytest.raises(errors.Refused) as caught:
        run(far.transport().json(WRITE))
    assert caught.value.reason.startswith("[31mred and long")
    assert len(caught.value.reason) == 500
    assert caught.value.cause.isprintable()


def test_the_body_of_a_refusal_is_kept_up_to_64_kib(far, run) -> None:
    far.script = [httpx.Response(400, content=b"x" * 1_000_000)]
    with pytest.raises(errors.Refused) as caught:
        run(far.transport().json(WRITE))
    assert len(caught.value.body) == 65536


def test_the_first_issue_and_the_request_id_of_a_run_error_are_shown(far, run) -> None:
    body = {"issues": [{"field": "<root>", "message": "No such run", "code": "not_found"}], "requestId": "r-1"}
    far.script = [httpx.Response(404, json=body)]
    with pytest.raises(errors.NotFound, match=r"No such run \(request r-1\)"):
        run(far.transport().json(Call(method="GET", path="/runs/x", subject="run x", has_slash_twin=False)))


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (httpx.Response(200, html="<!doctype html><HTML>hello"), "HTML page"),
        (httpx.Response(200, content=b"plain"), "no JSON"),
        (httpx.Response(200), "empty body"),
    ],
)
def test_a_success_that_is_no_json_says_that_the_address_may_be_wrong(far, run, response, words: str) -> None:
    far.script = [response]
    with pytest.raises(errors.ProtocolViolation, match=words) as caught:
        run(far.transport().json(READ))
    assert "address may be wrong" in caught.value.cause


def test_an_answer_above_the_cap_of_its_call_is_not_swallowed_whole(far, run) -> None:
    async def endless():
        while True:
            yield b"[" * 65536

    far.script = [httpx.Response(200, content=endless())]
    with pytest.raises(errors.ProtocolViolation, match="more than 100000 bytes"):
        run(far.transport().json(Call(method="GET", path="/x", subject="x", most_bytes=100_000)))


@pytest.mark.parametrize(
    "response",
    [httpx.Response(200), httpx.Response(204), httpx.Response(202, json={"x": 1}), httpx.Response(200, html="<p>")],
)
def test_any_2xx_is_a_done_delete_whatever_its_body(far, run, response: httpx.Response) -> None:
    far.script = [response]
    run(far.transport().done(DELETE))
    assert len(far.requests) == 1


# --------------------------------------------------------------------------------------------------------- retries

TRANSIENT = [
    refusal(500),
    refusal(502),
    refusal(503),
    httpx.Response(504, html="<html>"),
    refusal(408),
    refusal(429),
    httpx.ConnectError("refused"),
    httpx.ConnectTimeout("slow"),
    httpx.ReadError("reset"),
    httpx.ReadTimeout("slow"),
    httpx.WriteError("reset"),
    httpx.RemoteProtocolError("gone"),
]


@pytest.mark.parametrize("trouble", TRANSIENT, ids=lambda trouble: getattr(trouble, "status_code", repr(trouble)))
def test_a_get_is_repeated_after_anything_that_may_pass(far, run, trouble) -> None:
    far.script = [trouble, ok(1)]
    assert run(far.transport().json(READ)) == 1
    assert far.time.slept == [0.2]


def test_waits_grow_and_end_with_the_tries(far, run) -> None:
    far.rule = lambda _: refusal(500)
    with pytest.raises(errors.ServerFailure):
        run(far.transport(retries=Retries(attempts=4)).json(READ))
    assert far.time.slept == [0.2, 0.4, 0.8]


def test_a_body_that_breaks_off_is_fetched_again_for_a_get(far, run) -> None:
    async def breaking():
        yield b'{"x":'
        raise httpx.ReadError("reset")

    far.script = [httpx.Response(200, content=breaking()), ok(3)]
    assert run(far.transport().json(READ)) == 3


@pytest.mark.parametrize("trouble", [httpx.ReadError("x"), httpx.ReadTimeout("x"), httpx.RemoteProtocolError("x")])
def test_a_write_of_unknown_outcome_is_never_repeated(far, run, trouble: Exception) -> None:
    far.script = [trouble]
    with pytest.raises(errors.OutcomeUnknown, match="broke after sending"):
        run(far.transport().json(WRITE))
    assert len(far.requests) == 1


def test_a_write_whose_answer_breaks_off_is_of_unknown_outcome(far, run) -> None:
    async def breaking():
        yield b"{"
        raise httpx.ReadError("reset")

    far.script = [httpx.Response(200, content=breaking())]
    with pytest.raises(errors.OutcomeUnknown):
        run(far.transport().json(WRITE))


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_write_that_the_server_failed_is_left_to_the_caller(far, run, status: int) -> None:
    far.script = [refusal(status)]
    with pytest.raises(errors.ServerFailure):
        run(far.transport().json(WRITE))
    assert len(far.requests) == 1


@pytest.mark.parametrize("trouble", [httpx.ConnectError("x"), httpx.ConnectTimeout("x"), httpx.PoolTimeout("x")])
def test_a_write_that_never_left_is_repeated_and_in_the_end_unreachable(far, run, trouble: Exception) -> None:
    far.script = [trouble, ok(1)]
    assert run(far.transport().json(WRITE)) == 1
    far.rule = lambda _: (_ for _ in ()).throw(trouble)
    with pytest.raises(errors.Unreachable) as caught:
        run(far.transport().json(WRITE))
    assert type(caught.value) is errors.Unreachable


@pytest.mark.parametrize("trouble", [refusal(429), refusal(429, Retry_After="3"), refusal(503, Retry_After="3")])
def test_a_write_that_was_refused_for_load_is_repeated_with_its_whole_body(far, run, trouble) -> None:
    far.script = [trouble, ok(1)]
    assert run(far.transport().json(WRITE)) == 1
    assert [request.content for request in far.requests] == [b'{"a":1}'] * 2


def test_a_form_is_read_again_from_the_disk_for_another_try(far, run, tmp_path) -> None:
    from jobfs.api.body import FilePart

    source = tmp_path / "f"
    source.write_bytes(b"0123456789" * 100_000)
    body = Multipart([("path", "f")], [FilePart("file", "f", source, "text/plain")])
    far.script = [refusal(429, Retry_After="0"), ok(1)]
    run(far.transport().json(Call(method="POST", path="/x", subject="x", body=body, is_transfer=True)))
    first, second = far.requests
    assert first.content == second.content
    assert int(second.headers["content-length"]) == len(second.content)


def test_a_delete_is_repeated_and_not_finding_it_then_is_success(far, run) -> None:
    far.script = [httpx.ReadError("reset"), refusal(404)]
    run(far.transport().done(DELETE))
    far.script = [refusal(500), refusal(404)]
    run(far.transport().done(DELETE))


@pytest.mark.parametrize("before", [[], [httpx.ConnectError("x")], [refusal(429)]])
def test_a_delete_that_finds_nothing_and_did_nothing_before_is_not_found(far, run, before: list[object]) -> None:
    far.script = [*before, refusal(404)]
    with pytest.raises(errors.NotFound):
        run(far.transport().done(DELETE))


def test_a_later_refusal_does_not_take_back_that_a_delete_may_have_been_done(far, run) -> None:
    far.script = [httpx.ReadError("reset"), *[httpx.ConnectError("refused")] * 4]
    with pytest.raises(errors.OutcomeUnknown):
        run(far.transport().done(DELETE))


def test_retry_after_is_obeyed_as_seconds_and_as_date(far, run) -> None:
    far.script = [refusal(429, Retry_After="7"), refusal(503, Retry_After="Sun, 15 Jun 2025 15:06:50 GMT"), ok(1)]
    assert run(far.transport(chance=lambda: 0.0).json(READ)) == 1
    assert far.time.slept == [7.0, 10.0]


def test_waits_that_the_server_asks_for_do_not_use_up_the_tries(far, run) -> None:
    far.script = [*[refusal(429, Retry_After="1")] * 20, ok(1)]
    assert run(far.transport(chance=lambda: 0.0).json(READ)) == 1


def test_a_wait_beyond_the_deadline_is_not_begun(far, run) -> None:
    far.script = [refusal(429, Retry_After="86400")]
    with pytest.raises(errors.RateLimited) as caught:
        run(far.transport().json(READ))
    assert far.time.slept == []
    assert caught.value.remedy == "try again in 86400 s"


def test_other_calls_wait_too_while_the_server_asks_for_it(far, run) -> None:
    async def main() -> None:
        transport = far.transport(chance=lambda: 0.0, timeouts=Timeouts(total_s=5.0))
        far.script = [refusal(429, Retry_After="30")]
        with pytest.raises(errors.RateLimited):
            await transport.json(READ)
        with pytest.raises(errors.RateLimited):
            await transport.json(READ)
        assert len(far.requests) == 1
        far.time.now += 26.0
        far.script = [ok(1)]
        assert await transport.json(READ) == 1
        assert far.time.slept == [4.0]

    run(main())


def test_silence_ends_with_the_deadline_and_tells_reads_from_writes(far, run) -> None:
    async def never(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    far.rule = never
    transport = far.transport(timeouts=Timeouts(total_s=0.05))
    with pytest.raises(errors.Unreachable) as read:
        run(transport.json(READ))
    with pytest.raises(errors.OutcomeUnknown):
        run(transport.json(WRITE))
    assert type(read.value) is errors.Unreachable


def test_waiting_for_a_place_ends_with_the_deadline_and_nothing_was_sent(far, run) -> None:
    async def main() -> None:
        transport = far.transport(limits=Limits(start=1, most=1), timeouts=Timeouts(total_s=0.1))
        await transport._limiter.acquire(is_transfer=False)
        with pytest.raises(errors.Unreachable) as caught:
            await transport.json(WRITE)
        assert type(caught.value) is errors.Unreachable
        assert far.requests == []

    run(main())


def test_every_wait_can_be_cancelled_and_gives_its_place_back(far, run) -> None:
    async def main() -> None:
        started = asyncio.Event()

        async def never(_: httpx.Request) -> httpx.Response:
            started.set()
            await asyncio.Event().wait()
            raise AssertionError

        transport = far.transport(limits=Limits(start=1, most=1))
        for call in (READ, WRITE, DELETE):
            far.script = [never]
            started.clear()
            task = asyncio.create_task(transport.json(call))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        far.script = [ok(5)]
        assert await transport.json(READ) == 5

    run(main())


def test_an_untrusted_certificate_is_final_and_named(far, run) -> None:
    def untrusted(_: httpx.Request) -> httpx.Response:
        try:
            raise ssl.SSLCertVerificationError("self-signed")
        except ssl.SSLError as cause:
            raise httpx.ConnectError("failed") from cause

    far.script = [untrusted]
    with pytest.raises(errors.Unreachable, match="certificate is not trusted"):
        run(far.transport().json(READ))


def test_load_lowers_concurrency_and_success_raises_it(far, run) -> None:
    async def main() -> None:
        transport = far.transport()
        assert transport.concurrency == 8
        far.script = [refusal(503), ok(), httpx.ReadTimeout("slow"), ok()]
        await transport.json(READ)
        assert transport.concurrency == 4
        await transport.json(READ)
        assert transport.concurrency == 2
        far.rule = lambda _: ok()
        for _ in range(600):
            await transport.json(READ)
        assert transport.concurrency == 32

    run(main())


def test_never_more_requests_at_once_than_the_limit(far, run) -> None:
    async def main() -> None:
        now = most = 0

        async def count(_: httpx.Request) -> httpx.Response:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1
            return ok()

        far.rule = count
        transport = far.transport(limits=Limits(start=3, most=4))
        await asyncio.gather(*[transport.json(READ) for _ in range(60)])
        assert (most, len(far.requests)) == (4, 60)

    run(main())


# ---------------------------------------------------------------------------------------------------- final slash


def test_a_bare_404_is_tried_once_in_the_other_spelling_and_what_worked_is_remembered(far, run) -> None:
    def without_slashes(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404, html="<html>") if request.url.path.endswith("/") else ok(1)

    async def main() -> None:
        far.rule = without_slashes
        transport = far.transport()
        listing = Call(method="GET", path="/items/", subject="items")
        create = Call(method="POST", path="/items/", subject="items", body=Json({}))
        for call in (listing, listing, create, READ):
            await transport.json(call)

    run(main())
    assert far.sent == ["GET /items/", "GET /items", "GET /items", "POST /items", "GET /thing"]


def test_a_404_that_the_api_wrote_is_believed_at_once(far, run) -> None:
    far.script = [refusal(404)]
    with pytest.raises(errors.NotFound):
        run(far.transport().json(Call(method="GET", path="/items/", subject="items")))
    assert far.sent == ["GET /items/"]


def test_a_404_in_both_spellings_is_not_found_and_nothing_is_remembered(far, run) -> None:
    async def main() -> None:
        transport = far.transport()
        far.rule = lambda _: httpx.Response(404)
        with pytest.raises(errors.NotFound):
            await transport.json(READ)
        far.rule = lambda _: ok(1)
        await transport.json(READ)

    run(main())
    assert far.sent == ["GET /thing", "GET /thing/", "GET /thing"]


def test_a_write_never_tries_the_other_spelling(far, run) -> None:
    far.script = [httpx.Response(404)]
    with pytest.raises(errors.NotFound):
        run(far.transport().json(Call(method="POST", path="/items/", subject="items", body=Json({}))))
    assert far.sent == ["POST /items/"]


# ----------------------------------------------------------------------------------------------------------- streams


def stream(far, run, call: Call = READ) -> bytes:
    async def main() -> bytes:
        async with far.transport().stream(call) as opened:
            return b"".join([chunk async for chunk in opened.chunks()])

    return run(main())


def test_a_stream_asks_for_the_bytes_as_they_are(far, run) -> None:
    far.script = [httpx.Response(200, content=b"bytes")]
    assert stream(far, run, Call(method="GET", path="/d", subject="d", is_transfer=True)) == b"bytes"
    assert far.requests[0].headers["accept-encoding"] == "identity"


def test_a_stream_is_opened_again_until_it_opens(far, run) -> None:
    far.script = [refusal(500), httpx.ConnectError("x"), httpx.Response(200, content=b"bytes")]
    assert stream(far, run) == b"bytes"


@pytest.mark.parametrize("announced", [4, 6])
def test_a_stream_of_another_length_than_announced_is_unreachable(far, run, announced: int) -> None:
    far.script = [cut_body(b"12345", announced)]
    with pytest.raises(errors.Unreachable, match="after 5 bytes"):
        stream(far, run)


def test_a_stream_that_breaks_is_unreachable_and_not_repeated(far, run) -> None:
    async def breaking():
        yield b"123"
        raise httpx.ReadError("reset")

    far.script = [httpx.Response(200, content=breaking())]
    with pytest.raises(errors.Unreachable, match="after 3 bytes"):
        stream(far, run)


def test_a_stream_that_is_encoded_against_our_wish_is_decoded(far, run) -> None:
    body = gzip.compress(b"plain bytes")
    headers = {"content-encoding": "gzip", "content-length": str(len(body))}
    far.script = [httpx.Response(200, headers=headers, stream=httpx.ByteStream(body))]
    assert stream(far, run) == b"plain bytes"


def test_an_abandoned_stream_gives_its_place_back(far, run) -> None:
    async def main() -> None:
        far.rule = lambda _: httpx.Response(200, content=b"x" * 100)
        transport = far.transport(limits=Limits(start=1, most=1))
        for _ in range(3):
            async with transport.stream(READ):
                pass
        with pytest.raises(KeyError):
            async with transport.stream(READ):
                raise KeyError
        far.rule = lambda _: ok(1)
        assert await transport.json(READ) == 1

    run(main())


def test_an_event_stream_takes_no_place_from_calls(far, run) -> None:
    async def main() -> None:
        transport = far.transport(limits=Limits(start=1, most=1))
        far.script = [httpx.Response(200, content=b": hi\n\n"), ok(1)]
        async with transport.stream(Call(method="GET", path="/s", subject="s", is_endless=True)):
            assert await transport.json(READ) == 1

    run(main())
