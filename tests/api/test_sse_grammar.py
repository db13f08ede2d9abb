"""The grammar of server-sent events, however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfs.api.sse import Event, EventParser

STREAM = '\ufeff: hello\nevent: message\ndata: {"a":\ndata:  1}\nid: 7\nretry: 3\n\ndata\n\nevent: other\ndata: é\n\n'
EVENTS = [Event("message", '{"a":\n 1}'), Event("message", ""), Event("other", "é")]


def parse(chunks: list[bytes]) -> list[Event]:
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.mark.parametrize("ending", ["\n", "\r", "\r\n"])
def test_every_line_ending_gives_the_same_events(ending: str) -> None:
    assert parse([STREAM.replace("\n", ending).encode()]) == EVENTS


@given(st.sampled_from(["\n", "\r", "\r\n"]), st.lists(st.integers(0, 200), max_size=8))
def test_events_do_not_depend_on_where_the_bytes_are_cut(ending: str, cuts: list[int]) -> None:
    data = STREAM.replace("\n", ending).encode()
    places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    assert parse([data[a:b] for a, b in pairwise(places)]) == EVENTS


def test_one_byte_at_a_time_is_enough() -> None:
    data = STREAM.replace("\n", "\r\n").encode()
    assert parse([data[place : place + 1] for place in range(len(data))]) == EVENTS


def test_an_event_cut_off_by_the_end_is_dropped() -> None:
    assert parse([b"data: 1\n\ndata: 2\n"]) == [Event("message", "1")]


def test_an_absurdly_large_event_is_dropped_and_counted_and_the_next_one_read() -> None:
    parser = EventParser(most_characters=1000)
    assert parser.feed(b"data: ") == []
    for _ in range(50):
        assert parser.feed(b"x" * 100) == []
    assert parser.feed(b"\n\ndata: next\n\n") == [Event("message", "next")]
    assert parser.oversized == 1
