"""When a stream is asked about, and what the venue's answer means. No loop, no clock."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.feeds.streams.silence import (
    ASK_AFTER_S,
    ASK_AGAIN_AT_MOST_S,
    REST_BEHIND_US,
    SETTLE_S,
    Expectation,
    verdict_on,
)
from ingestd.records import BookSnapshot, Tick, Trade
from ingestd.venues.trades import NewestAnswer

STALE_S = 8.0
AT = 1_700_000_000_000_000


def trade(trade_id: str = "1000", time: int = AT) -> Trade:
    return Trade("x", "BTC/USDT", time, time + 5_000, trade_id, 1, "buy", "1", "1")


def by_id(number: int, **changes: Any) -> NewestAnswer:
    return NewestAnswer(("last id", number), number=number, **changes)


def heard(every_s: float, times: int) -> tuple[Expectation, float]:
    """A stream that has spoken so often, and the time of the last look."""
    expected, now_s = Expectation(STALE_S, 0, 0.0), 0.0
    steps = max(1, round(every_s))
    per_step = max(1, round(1 / every_s))
    received = 0
    for _ in range(times):
        for step in range(steps):
            now_s += 1.0
            received += per_step if step == steps - 1 else 0
            expected.look(received, now_s)
    return expected, now_s


def due_after(expected: Expectation, now_s: float) -> float:
    """How long a silence it takes until it is asked about."""
    started_s = now_s
    while expected.look(expected.received, now_s) != "ask_venue":
        now_s += 1.0
    return now_s - started_s


@pytest.mark.parametrize(
    ("every_s", "after_s"), [(0.01, STALE_S), (1.0, STALE_S), (10.0, 40.0), (60.0, 240.0), (3600.0, ASK_AFTER_S)]
)
def test_a_stream_is_asked_about_after_four_of_its_usual_intervals(every_s: float, after_s: float) -> None:
    expected, now_s = heard(every_s, 30)
    assert due_after(expected, now_s) == pytest.approx(after_s, abs=1.5)


def test_a_quiet_one_is_asked_about_half_as_often_each_time() -> None:
    expected, now_s = heard(1.0, 30)
    waits = []
    for _ in range(12):
        wait_s = due_after(expected, now_s)
        waits.append(wait_s)
        now_s += wait_s
        expected.note_answer("proved", by_id(1), now_s)
    assert waits[:5] == [8, 16, 32, 64, 128]
    assert waits[-1] == ASK_AGAIN_AT_MOST_S


def test_what_is_newer_is_believed_only_if_it_does_not_come() -> None:
    expected, now_s = heard(1.0, 30)
    now_s += STALE_S
    expected.note_answer("newer", by_id(1001), now_s)
    assert expected.look(expected.received, now_s + SETTLE_S / 2) == "nothing"
    assert expected.look(expected.received + 1, now_s + SETTLE_S) == "nothing"
    assert expected.suspected_s is None

    expected.note_answer("newer", by_id(1002), now_s)
    assert expected.look(expected.received, now_s + SETTLE_S) == "dead"


def test_nobody_listened_and_so_nobody_is_silent() -> None:
    expected, now_s = heard(1.0, 30)
    assert expected.look(expected.received, now_s + 500) == "nothing"  # the process was stopped
    for second in range(501, 507):
        assert expected.look(expected.received, now_s + second) == "nothing"
    assert expected.look(expected.received, now_s + 507, excused=True) == "nothing"
    assert expected.look(expected.received, now_s + 508) == "nothing"
    assert expected.look(expected.received, now_s + 509) == "ask_venue"


def test_one_that_dies_again_and_again_is_asked_about_ever_later() -> None:
    expected, now_s = heard(1.0, 30)
    waits = []
    for _ in range(4):
        wait_s = due_after(expected, now_s)
        waits.append(wait_s)
        now_s += wait_s
        expected.note_answer("newer", by_id(1), now_s)
        assert expected.note_resubscription(now_s + SETTLE_S) == 1
        now_s += SETTLE_S + 1
        expected.look(expected.received + 1, now_s)
    assert waits == [8, 16, 32, 64]


def test_without_an_answer_only_a_silence_far_beyond_the_usual_counts() -> None:
    expected, now_s = heard(1.0, 30)
    assert not expected.judge_without_answer(now_s + 20, others_deliver=False)
    assert expected.judge_without_answer(now_s + 20, others_deliver=True)
    assert expected.judge_without_answer(now_s + 31, others_deliver=False)
    hardly_known, now_s = heard(1.0, 10)
    assert not hardly_known.judge_without_answer(now_s + 1000, others_deliver=True)


CASES = [
    # what the answer says, what the last record is, the verdict
    (by_id(1000), trade("1000"), "proved"),
    (by_id(1001), trade("1000"), "newer"),
    (by_id(999), trade("1000"), "unknown"),  # REST is behind
    (by_id(1001, is_certain=False), trade("1000"), "unknown"),
    (NewestAnswer(("trade", 1), trade_id="ab", time=AT), trade("ab"), "proved"),
    (NewestAnswer(("trade", 1), trade_id="ac", time=AT), trade("ab"), "unknown"),  # of the same millisecond
    (NewestAnswer(("trade", 1), trade_id="ac", time=AT + 1000), trade("ab"), "newer"),
    (NewestAnswer(("trade", 1), time=AT + 5000), trade("ab", AT + 5321), "proved"),  # the stream has exacter times
    (NewestAnswer(("trade", 1), time=AT), trade("ab", AT), "unknown"),  # in whole seconds: it may be another trade
    (NewestAnswer(("trade", 1), time=AT), trade("ab", AT + 321), "unknown"),
    (NewestAnswer(("trade", 1), time=AT + 1000), trade("ab"), "newer"),
    (NewestAnswer(("trade", 1), time=AT - 1000), trade("ab"), "unknown"),
    (NewestAnswer(("trade", 1), time=AT + REST_BEHIND_US + 1), None, "newer"),  # it should have delivered since AT
    (NewestAnswer(("trade", 1), time=AT - 3_600_000_000), None, "proved"),
    (NewestAnswer(("count", 5)), trade("ab"), "unknown"),
]


@pytest.mark.parametrize(("answer", "last", "verdict"), CASES)
def test_what_the_venue_says_of_a_trade_stream(answer: NewestAnswer, last: Trade | None, verdict: str) -> None:
    assert verdict_on(last, answer, Expectation(STALE_S, 0, 0.0), since=AT, is_open=False) == verdict


def test_a_count_proves_only_from_one_that_was_proved() -> None:
    expected = Expectation(STALE_S, 0, 0.0)
    five, six = NewestAnswer(("count", 5)), NewestAnswer(("count", 6))

    def verdict(answer: NewestAnswer, *, is_open: bool = False) -> str:
        return verdict_on(trade("ab"), answer, expected, since=AT, is_open=is_open)

    expected.remember(five)
    assert (verdict(five), verdict(six)) == ("same", "unknown")  # nobody says that nothing was missing at five
    expected.note_answer("proved", five, 1.0)
    assert (verdict(five), verdict(six)) == ("proved", "newer")
    assert (verdict(five, is_open=True), verdict(six, is_open=True)) == ("same", "newer")


def test_while_a_gap_is_open_only_a_change_is_news() -> None:
    expected = Expectation(STALE_S, 0, 0.0)
    last = trade("1000")
    assert verdict_on(last, by_id(1005), expected, since=AT, is_open=True) == "unknown"
    expected.remember(by_id(1005))
    assert verdict_on(last, by_id(1005), expected, since=AT, is_open=True) == "same"
    assert verdict_on(last, NewestAnswer(("trade", 7), number=1006), expected, since=AT, is_open=True) == "newer"


@pytest.mark.parametrize(
    ("best", "verdict"),
    [
        (("100", "101", "1", "2"), "proved"),
        (("100.0", "101.00", "1.0", "2"), "proved"),
        (("100", "101", "1", "3"), "unknown"),
        (("100", "101", None, None), "unknown"),
        (("100.1", "101", "1", "2"), "newer"),
        ((None, "101", "1", "2"), "proved"),
    ],
)
def test_what_the_venue_says_of_ticks_and_books(best: Any, verdict: str) -> None:
    tick = Tick("x", "BTC/USDT", AT, AT, "100", "1", "101", "2")
    book = BookSnapshot("x", "BTC/USDT", AT, AT, (("100", "1"),), (("101", "2"),), None, True)
    answer, expected = NewestAnswer(("best", best), best=best), Expectation(STALE_S, 0, 0.0)
    for last in (tick, book):
        assert verdict_on(last, answer, expected, since=AT, is_open=False) == verdict


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=120))
def test_a_stream_is_dead_only_if_the_venue_had_more_than_it_delivered(steps: list[tuple[int, bool, bool]]) -> None:
    """A market, a stream that is cut at times, a venue that is asked: each verdict is held against what happened."""
    expected, now_s = Expectation(STALE_S, 0, 0.0), 0.0
    traded = delivered = 0
    is_cut = False
    for trades, cuts, heals in steps:
        now_s += 4.0
        traded += trades
        is_cut = (is_cut or cuts) and not heals
        if not is_cut and trades:
            delivered = traded  # what came while it was cut is lost, and the next is delivered
        act = expected.look(delivered, now_s)
        if act == "ask_venue":
            verdict = verdict_on(trade(str(delivered)), by_id(traded), expected, since=AT, is_open=False)
            assert verdict == ("proved" if traded == delivered else "newer")
            expected.note_answer(verdict, by_id(traded), now_s)
            assert expected.due_s > now_s or verdict == "newer"
        elif act == "dead":
            assert traded > delivered
            expected.note_resubscription(now_s)
            assert expected.due_s > now_s
            is_cut = False
