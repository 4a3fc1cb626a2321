"""Which candles are closed, which are new or changed, and when to look next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ingestd.indicators.series import Candles, closed, fingerprints, first_changed, next_look, places_of

START = datetime(2026, 6, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def minutes(*numbers: int, close: float = 1.0) -> Candles:
    flat = [close] * len(numbers)
    return Candles([START + number * MINUTE for number in numbers], flat, flat, flat, flat, flat)


def closed_at(candles: Candles, **after: float) -> list[datetime]:
    return list(closed(candles, START + timedelta(**after), lambda start: start + MINUTE).times)


def test_a_candle_is_closed_when_its_time_is_over_and_a_later_one_is_stored() -> None:
    assert closed_at(minutes(0, 1, 2), minutes=2, seconds=1) == [START, START + MINUTE]
    assert closed_at(minutes(0, 1), minutes=2, seconds=1) == [START]


def test_without_a_later_one_it_is_closed_after_a_minute() -> None:
    assert closed_at(minutes(0, 1), minutes=2, seconds=59) == [START]
    assert closed_at(minutes(0, 1), minutes=3) == [START, START + MINUTE]
    assert closed_at(minutes(0), minutes=2) == [START]
    assert closed_at(minutes(), minutes=5) == []


def test_what_lies_in_the_future_is_not_closed() -> None:
    assert closed_at(minutes(0, 7, 8), minutes=5) == [START]


def test_the_first_new_or_changed_candle_is_found() -> None:
    known = fingerprints(minutes(0, 1, 2, 3), 4)
    assert first_changed(minutes(0, 1, 2, 3), known, 4) is None
    assert first_changed(minutes(0, 1, 2, 3, 4), known, 4) == 4
    assert first_changed(minutes(0, 1, 2, 3), {}, 3) == 1
    late = minutes(0, 1, 2, 3)
    changed = Candles(late.times, late.open, late.high, late.low, [1.0, 1.0, 1.5, 1.0], late.volume)
    assert first_changed(changed, known, 4) == 2
    assert first_changed(changed, known, 1) is None, "only the last ones are looked at"
    assert first_changed(minutes(0, 2, 3), fingerprints(minutes(0, 3), 2), 3) == 1, "a candle that was not there"


def test_values_are_told_where_their_window_is_known() -> None:
    candles = minutes(*range(10))
    assert places_of(candles, 2, 5, is_whole=False) == range(4, 10)
    assert places_of(candles, 7, 5, is_whole=False) == range(7, 10)
    assert places_of(candles, 2, 5, is_whole=True) == range(2, 10), "before them there are no candles"


def test_a_series_is_looked_at_a_few_times_after_each_candle() -> None:
    looks, now = [], START
    while now < START + timedelta(hours=1):
        now = next_look(now, START, START + timedelta(hours=1))
        looks.append((now - START).total_seconds())
    assert looks == [5, 20, 35, 65, 3605]
    assert next_look(START + timedelta(seconds=40), START, START + MINUTE) == START + timedelta(seconds=65)
