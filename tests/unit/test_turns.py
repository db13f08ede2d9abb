"""For how long programs are served before the loop goes on."""

from __future__ import annotations

from jobfs.fuse.turns import LONG_S, PATIENCE_S, SHORT_S, Turns

REQUEST_S = 0.001


def served_s(turns: Turns, at_s: float, *, is_server_awaited: bool = False) -> float:
    """Return how long a turn lasts in which requests come without a pause."""
    turns.begin(at_s)
    now_s = at_s
    while not turns.is_over(now_s, is_server_awaited=is_server_awaited):
        now_s += REQUEST_S
    return now_s - at_s


def test_who_begins_to_ask_is_served_for_a_long_turn() -> None:
    assert LONG_S <= served_s(Turns(), 5.0) <= LONG_S + 2 * REQUEST_S


def test_while_somebody_waits_for_the_server_turns_are_short() -> None:
    assert SHORT_S <= served_s(Turns(), 5.0, is_server_awaited=True) <= SHORT_S + 2 * REQUEST_S


def test_who_does_not_stop_asking_gets_short_turns_after_a_second() -> None:
    turns, now_s = Turns(), 5.0
    lengths = []
    while now_s < 5.0 + 2 * PATIENCE_S:
        lengths.append(served_s(turns, now_s))
        now_s += lengths[-1] + 0.01  # what the loop does in between
    assert lengths[0] > LONG_S - REQUEST_S
    assert lengths[-1] < SHORT_S + 2 * REQUEST_S
    assert sum(length for length in lengths if length > LONG_S - REQUEST_S) < PATIENCE_S + LONG_S


def test_after_a_pause_turns_are_long_again() -> None:
    turns = Turns()
    for number in range(30):
        served_s(turns, 5.0 + number * 0.1)
    turns.begin(20.0)
    assert not turns.is_over(20.0, is_server_awaited=False)  # there was no other request: a pause
    assert served_s(turns, 20.1) > LONG_S - REQUEST_S
