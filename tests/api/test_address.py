"""What an address may be, and where a redirect may lead."""

from __future__ import annotations

import pytest

from jobfs import errors
from jobfs.api.address import is_loopback, parse, parse_base, redirect_target, segment

TLS = "https://"
PLAIN = "http://"


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("https://api.example", "https://api.example"),
        ("https://api.example/", "https://api.example"),
        (f"{TLS}API.example:443/pre/fix/", "https://api.example/pre/fix"),
        ("http://127.0.0.1:8000/x", "http://127.0.0.1:8000/x"),
        ("http://localhost:1", "http://localhost:1"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://127.7.7.7", "http://127.7.7.7"),
    ],
)
def test_a_base_keeps_its_prefix_and_loses_one_final_slash(text: str, base: str) -> None:
    assert str(parse_base(text)) == base


@pytest.mark.parametrize(
    "text",
    [
        "",
        "api.example",
        "ftp://api.example",
        "http://api.example",
        f"{PLAIN}10.0.0.1",
        f"{TLS}user:secret@api.example",
        f"{TLS}api.example\\@evil.example",
        "https://api.example/?token=secret",
        "https://api.example/#x",
        f"{TLS}api.example:0",
        f"{TLS}api.example:99999",
        f"{TLS}api .example",
        f"{PLAIN}127.0.0.1.evil.example",
    ],
)
def test_an_unusable_base_is_a_settings_error_that_does_not_repeat_secrets(text: str) -> None:
    with pytest.raises(errors.SettingsError) as caught:
        parse_base(text)
    assert "secret" not in caught.value.cause + caught.value.remedy


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/b?x=1", "https://a.example/b?x=1"),
        ("c", "https://a.example/dir/c"),
        ("//b.example/x", "https://b.example/x"),
        ("https://b.example/x?sig=%2F#frag", "https://b.example/x?sig=%2F"),
        (f"{TLS}b.example/ä b", "https://b.example/%C3%A4%20b"),
        ("http://b.example/x", None),
        ("http://127.0.0.1/x", None),
        (f"{TLS}u:p@b.example/x", None),
        (f"{TLS}b.example\\@c.example/", None),
        ("file:///etc/passwd", None),
        (f"{TLS}[half", None),
        (f"{TLS}b.example:70000/", None),
        ("javascript:alert(1)", None),
    ],
)
def test_a_redirect_leads_only_to_readable_addresses_and_never_down_to_http(location: str, target: str | None) -> None:
    source = parse("https://a.example/dir/file")
    assert source is not None
    found = redirect_target(source, location)
    assert (None if found is None else str(found)) == target


def test_this_machine_may_redirect_to_itself_without_tls() -> None:
    source = parse("http://127.0.0.1:1/a")
    assert source is not None
    assert str(redirect_target(source, "http://127.0.0.1:2/b")) == "http://127.0.0.1:2/b"
    assert redirect_target(source, "http://b.example/") is None


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("LOCALHOST", True), ("[::1]", True), ("127.0.0.9", True), ("0.0.0.0", False), ("x", False)],
)
def test_loopback_hosts_are_known_by_name_and_number(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("identifier", ["", ".", "..", "\ud800"])
def test_an_identifier_that_would_change_the_path_is_refused_before_sending(identifier: str) -> None:
    with pytest.raises(errors.InvalidPath):
        segment(identifier)


def test_an_identifier_is_one_encoded_segment() -> None:
    assert segment("a/b?c#d%é") == "a%2Fb%3Fc%23d%25%C3%A9"
