"""Where a redirect may lead, and what goes along."""

from __future__ import annotations

import httpx
import pytest

from jobfs import errors
from jobfs.api.body import Json
from jobfs.api.call import Call, Redirects

BASE = "https://a.example/pre"
READ = Call(
    method="GET",
    path="/bytes",
    subject="artifact",
    headers={"Range": "bytes=0-1", "X-Custom": "mine", "Cookie": "c=1"},
    is_transfer=True,
)


def to(location: str, status: int = 302) -> httpx.Response:
    return httpx.Response(status, headers={"location": location})


def fetch(far, run, call: Call = READ, base: str = BASE) -> bytes:
    async def main() -> bytes:
        async with far.transport(base).stream(call) as opened:
            return b"".join([chunk async for chunk in opened.chunks()])

    return run(main())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_get_follows_within_its_origin_and_keeps_its_headers(far, run, status: int) -> None:
    far.script = [to("/elsewhere?x=1", status), httpx.Response(200, content=b"ok")]
    assert fetch(far, run) == b"ok"
    second = far.requests[1]
    assert str(second.url) == "https://a.example/elsewhere?x=1"
    assert second.headers["authorization"] == f"Bearer {far.key}"
    assert second.headers["x-custom"] == "mine"


@pytest.mark.parametrize("target", ["https://b.example/x?sig=s", "https://a.example:8443/x", "//b.example/x"])
def test_another_origin_gets_neither_key_nor_cookie_nor_custom_headers(far, run, target: str) -> None:
    far.script = [to(target), httpx.Response(200, content=b"ok")]
    assert fetch(far, run) == b"ok"
    assert sorted(far.requests[1].headers) == ["accept", "accept-encoding", "host", "range", "user-agent"]
    assert far.hooked[1] == ("GET", "(another origin)", 200)


def test_the_key_does_not_come_back_when_a_redirect_returns(far, run) -> None:
    far.script = [to("https://b.example/x"), to("https://a.example/y"), httpx.Response(200, content=b"ok")]
    assert fetch(far, run) == b"ok"
    assert "authorization" not in far.requests[2].headers


@pytest.mark.parametrize(
    "target",
    ["http" + "://a.example/x", "http" + "://127.0.0.1/x", "ftp://a.example/x", "https://a.example" + "\\@evil.test/"],
)
def test_a_redirect_to_where_others_could_read_is_reported(far, run, target: str) -> None:
    far.script = [to(target)]
    with pytest.raises(errors.ProtocolViolation) as caught:
        fetch(far, run)
    assert target not in str(caught.value)
    assert len(far.requests) == 1


def test_five_redirects_are_followed_and_a_sixth_is_not(far, run) -> None:
    far.script = [*[to("/again")] * 5, httpx.Response(200, content=b"ok")]
    assert fetch(far, run) == b"ok"
    far.rule = lambda _: to("/again")
    far.requests.clear()
    with pytest.raises(errors.ProtocolViolation):
        fetch(far, run)
    assert len(far.requests) == 6


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_write_is_never_redirected_into_something_else(far, run, status: int) -> None:
    far.script = [to("/elsewhere", status)]
    with pytest.raises(errors.ProtocolViolation):
        run(far.transport(BASE).json(Call(method="POST", path="/x", subject="x", body=Json({}))))
    assert len(far.requests) == 1


def test_a_write_follows_307_and_308_on_its_own_origin_with_its_body(far, run) -> None:
    far.script = [to("/x/", 308), httpx.Response(200, json=1)]
    assert run(far.transport(BASE).json(Call(method="POST", path="/x", subject="x", body=Json({"a": 1})))) == 1
    assert [(request.method, request.content) for request in far.requests] == [("POST", b'{"a":1}')] * 2


def test_a_write_does_not_follow_to_another_origin(far, run) -> None:
    far.script = [to("https://b.example/x", 307)]
    with pytest.raises(errors.ProtocolViolation):
        run(far.transport(BASE).json(Call(method="POST", path="/x", subject="x", body=Json({}))))


def test_a_call_that_must_not_be_redirected_reports_it_as_a_wrong_address(far, run) -> None:
    far.script = [to("https://a.example/login")]
    call = Call(method="GET", path="/runs/x", subject="run x", redirects=Redirects.REPORT)
    with pytest.raises(errors.ProtocolViolation) as caught:
        run(far.transport(BASE).json(call))
    assert "server address" in caught.value.remedy


def test_a_signed_link_that_has_expired_is_asked_for_anew(far, run) -> None:
    far.script = [
        to("https://b.example/x?sig=old"),
        httpx.Response(403, content=b"<Error>Request has expired</Error>"),
        to("https://b.example/x?sig=new"),
        httpx.Response(200, content=b"ok"),
    ]
    assert fetch(far, run) == b"ok"


def test_a_refusal_by_the_storage_does_not_read_as_a_wrong_key(far, run) -> None:
    far.rule = lambda request: (
        to("https://b.example/x?sig=1") if "a.example" in str(request.url) else (httpx.Response(403))
    )
    with pytest.raises(errors.ServerFailure) as caught:
        fetch(far, run)
    assert "sig" not in str(caught.value)


def test_a_redirect_without_a_location_is_reported(far, run) -> None:
    far.script = [httpx.Response(302)]
    with pytest.raises(errors.ProtocolViolation):
        fetch(far, run)
