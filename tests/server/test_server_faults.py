"""Faults strike what they are told to, as often as they are told, and leave everything else alone."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from studio_client import BASE, StudioClient, refusal

from jobfs.errors import SettingsError
from jobfs.server.faults import Fault, Faults, parse
from jobfs.server.front import RequestRecord


def ask_for(studio: StudioClient, kind: Any, **settings: Any) -> Faults:
    faults = Faults((Fault(kind, **settings),))
    studio.server.faults = faults
    return faults


# ---------------------------------------------------------------------- which requests


def test_words_become_faults() -> None:
    words = ["lose-response:p=0.5,count=2,spare=1,method=POST,path=/items/$", "latency:delay=0.25", "slow_body:rate=9"]
    assert parse(words, seed=7) == Faults(
        (
            Fault("lose_response", probability=0.5, count=2, spare=1, method="POST", path="/items/$"),
            Fault("latency", delay_s=0.25),
            Fault("slow_body", bytes_per_s=9),
        ),
        7,
    )


@pytest.mark.parametrize("word", ["explode", "latency:delay=long", "latency:when=now", "latency:path=(", "latency:p"])
def test_a_word_that_is_no_fault_is_refused(word: str) -> None:
    with pytest.raises(SettingsError):
        parse([word])


def test_the_same_seed_strikes_the_same_requests() -> None:
    def strikes(seed: int) -> list[bool]:
        faults = Faults((Fault("latency", probability=0.5),), seed)
        return [bool(faults.strike("GET", "/")) for _ in range(50)]

    assert strikes(1) == strikes(1)
    assert strikes(1) != strikes(2)
    assert 10 < sum(strikes(1)) < 40


def test_a_fault_strikes_only_what_matches_and_only_so_often() -> None:
    faults = Faults((Fault("latency", method="POST", path="/items", spare=1, count=2),))
    requests = [("GET", "/items"), ("POST", "/jobs"), *[("POST", "/items")] * 5]
    assert [bool(faults.strike(*request)) for request in requests] == [False] * 3 + [True] * 2 + [False] * 2
    assert faults.struck() == 2


# ---------------------------------------------------------------------- what happens


@pytest.mark.parametrize("kind", ["drop_before", "lose_response"])
def test_a_lost_connection_breaks_before_or_after_the_work(studio: StudioClient, kind: str) -> None:
    ask_for(studio, kind, method="POST", count=1)
    studio.server.clear_requests()
    with pytest.raises(httpx.TransportError):
        studio.create_file("a.txt")
    assert studio.paths() == (["a.txt"] if kind == "lose_response" else [])
    assert studio.server.requests[0] == RequestRecord("POST", f"{studio.items}/", 0)
    assert studio.create_file("b.txt").status_code == 200


@pytest.mark.parametrize(("kind", "is_done"), [("error_before", False), ("error_after", True)])
def test_an_error_comes_instead_of_the_work_or_after_it(studio: StudioClient, kind: str, is_done: bool) -> None:
    ask_for(studio, kind, status=500, count=1)
    answer = studio.create_file("a.txt")
    assert (answer.status_code, answer.json()["code"]) == (500, 500)
    assert studio.paths() == (["a.txt"] if is_done else [])


def test_a_proxy_answers_html(studio: StudioClient) -> None:
    ask_for(studio, "html_502", count=1)
    answer = studio.create_file("a.txt")
    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html")
    assert answer.text.startswith("<html>")
    assert studio.paths() == []


def test_latency_delays_a_request(studio: StudioClient) -> None:
    ask_for(studio, "latency", delay_s=0.2)
    started = time.monotonic()
    assert studio.list().status_code == 200
    assert time.monotonic() - started >= 0.2


def test_a_slow_body_arrives_whole(studio: StudioClient) -> None:
    item = studio.put("a", b"x" * 4096)
    ask_for(studio, "slow_body", bytes_per_s=20_000)
    started = time.monotonic()
    assert studio.download(item["id"]).content == b"x" * 4096
    assert time.monotonic() - started >= 0.2


def test_a_cut_body_has_the_length_of_the_whole(studio: StudioClient) -> None:
    item = studio.put("a", b"x" * 3_000_000)
    ask_for(studio, "cut_body", path="/download$", count=1)
    got = bytearray()
    with studio.http.stream("GET", f"{studio.items}/{item['id']}/download") as answer:
        assert answer.headers["content-length"] == "3000000"
        with pytest.raises(httpx.RemoteProtocolError):
            drain(answer, got)
    assert len(got) == 1_500_000
    assert len(studio.download(item["id"]).content) == 3_000_000


def drain(answer: httpx.Response, got: bytearray) -> None:
    for chunk in answer.iter_raw():
        got += chunk


@pytest.mark.parametrize("size", [1, 10, 2_500_000])
def test_a_wrong_length_is_one_byte_short(studio: StudioClient, size: int) -> None:
    item = studio.put("a", b"x" * size)
    ask_for(studio, "wrong_length", path="/download$")
    answer = studio.download(item["id"])
    assert (answer.headers["content-length"], len(answer.content)) == (str(size - 1), size - 1)


def test_missing_bytes_are_not_found_while_the_item_is_there(studio: StudioClient) -> None:
    item = studio.put("a")
    ask_for(studio, "missing_bytes", count=1)
    assert studio.paths() == ["a"]
    ask_for(studio, "missing_bytes", path="/download$", count=1)
    assert refusal(studio.download(item["id"])) == (404, "Not Found", "File not found")
    assert studio.download(item["id"]).content == b"x"


def test_a_mutation_between_pages_keeps_the_total_and_hides_a_row(studio: StudioClient) -> None:
    before = {studio.put(f"f{number}")["id"] for number in range(6)}
    ask_for(studio, "mutate_pages", count=1)
    pages = [studio.list(take=3, skip=skip).json() for skip in (0, 3)]
    assert [page["meta"]["total"] for page in pages] == [6, 6]
    seen = [item["id"] for page in pages for item in page["data"]["workspaceItems"]]
    assert len(before - set(seen)) == 1
    assert studio.paths() == [f"f{number}" for number in range(6)]
    renewed = studio.find("f0")
    assert renewed == ["f0"]
    item = studio.list().json()["data"]["workspaceItems"][-1]
    assert (item["path"], studio.download(item["id"]).content) == ("f0", b"x")


def test_stale_pages_are_as_they_were(studio: StudioClient) -> None:
    studio.put("a")
    ask_for(studio, "stale_pages", spare=1, count=2, path="/items/$", method="GET")
    assert studio.paths() == ["a"]
    studio.put("b")
    assert studio.paths() == ["a"]
    assert studio.paths() == ["a"]
    assert studio.paths() == ["a", "b"]
    studio.server.faults = Faults()
    assert studio.paths() == ["a", "b"]


def test_shuffled_pages_have_an_order_of_their_own(studio: StudioClient) -> None:
    items = [studio.put(f"f{number:02}")["id"] for number in range(30)]
    ask_for(studio, "shuffled_pages")
    orders = [[item["id"] for item in studio.list().json()["data"]["workspaceItems"]] for _ in range(2)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(items)


def test_every_request_is_recorded_with_its_status(studio: StudioClient) -> None:
    studio.server.clear_requests()
    studio.create_file("a%.txt")
    studio.request("GET", f"{BASE}/nothing?secret=1")
    assert studio.server.requests == [
        RequestRecord("POST", f"{studio.items}/", 200),
        RequestRecord("GET", f"{BASE}/nothing", 404),
    ]
