"""What consecutive trade ids say."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.gaps.trade_ids import IdReport, IdSeries, are_consecutive
from ingestd.records import Trade


def trade(number: int, at: int, trade_id: str | None = None) -> Trade:
    return Trade("x", "A/B", at, at, str(number) if trade_id is None else trade_id, number, "buy", "1", "1")


def reports(frames: Sequence[Sequence[int]], *, asked: Sequence[int] = ()) -> list[IdReport]:
    """Frames at 1000, 2000, …; those at the indices `asked` ended a gap."""
    series = IdSeries()
    found: list[IdReport | None] = []
    for index, frame in enumerate(frames):
        found += [series.take(trade(number, 1000 * (index + 1))) for number in frame]
        if index in asked:
            series.ask()
    return [report for report in [*found, series.settle()] if report is not None]


def test_a_hole_between_two_frames() -> None:
    (report,) = reports([[1, 2], [3], [7], [8]])
    assert (report.complete_until, report.received_at, report.missing, report.count) == (2000, 3000, ((4, 6),), 3)


def test_a_hole_inside_a_frame() -> None:
    (report,) = reports([[1], [2, 5, 6]])
    assert (report.complete_until, report.received_at, report.missing) == (1000, 2000, ((3, 4),))


def test_a_snapshot_is_newest_first_and_is_no_hole() -> None:
    assert reports([[105, 104, 103], [106], [110, 109, 108, 107, 106]]) == []


def test_a_snapshot_that_does_not_reach_back_far_enough() -> None:
    (report,) = reports([[100], [110, 109, 108], [111]])
    assert report.missing == ((101, 107),)


def test_trades_sent_again_say_nothing() -> None:
    assert reports([[5], [6], [4, 5], [2], [7]]) == []


def test_a_series_begins_anywhere() -> None:
    assert reports([[900], [901]]) == []


def test_ids_that_are_no_numbers_say_nothing() -> None:
    series = IdSeries()
    assert series.take(trade(5, 1000)) is None
    assert series.take(trade(999_999, 2000, "s-0a")) is None
    assert series.settle() is None


def test_asked_it_says_that_nothing_is_missing() -> None:
    (report,) = reports([[1], [2], [3]], asked=[1])
    assert (report.received_at, report.missing, report.text()) == (2000, (), "by their ids no trade is missing")


def test_asked_of_its_first_frame_it_knows_nothing() -> None:
    assert reports([[1], [2]], asked=[0]) == []


def test_many_holes_in_one_frame_are_bounded_and_none_is_forgotten() -> None:
    (report,) = reports([[0], list(range(2, 2002, 2))])
    assert len(report.missing) <= 100
    assert (report.missing[0][0], report.missing[-1][1]) == (1, 1999)
    assert (report.count, report.belief) == (1000, "refuted")


def beliefs(numbers: Sequence[int]) -> list[str]:
    """What is thought of the series at each hole; a frame each."""
    return [report.belief for report in reports([[number] for number in numbers])]


def test_a_series_that_never_was_consecutive_is_doubted_at_once_and_refuted_soon() -> None:
    found = beliefs(range(0, 300, 3))
    assert found[:39] == ["doubted"] * 39
    assert found[39] == "refuted"


@pytest.mark.parametrize("before", [2, 10, 49, 1000])
def test_a_series_that_was_consecutive_is_refuted_as_well(before: int) -> None:
    found = beliefs([*range(before), *range(before + 5, before + 300, 3)])
    assert found[:2] == ["believed"] * 2
    assert found.index("refuted") <= 40


@pytest.mark.parametrize("every", [2, 3, 10, 100])
def test_holes_in_some_of_the_steps_do_not_refute_it(every: int) -> None:
    steps = [1, *((2 if step % every == 0 else 1) for step in range(1, 2000))]
    assert set(beliefs([sum(steps[: place + 1]) for place in range(len(steps))])) == {"believed"}


def test_one_frame_with_holes_in_some_of_its_steps_does_not_refute_it() -> None:
    (report,) = reports([[0, 1], [number for number in range(2, 3000) if number % 20]])
    assert (report.belief, report.count) == ("believed", 149)


@given(st.lists(st.sets(st.integers(1, 60), max_size=12), max_size=8), st.randoms(use_true_random=False))
def test_what_is_reported_is_what_no_frame_brought_in_time(drawn: list[set[int]], random: object) -> None:
    """Against a set: a number is missing when it lies below the highest so far and was not there by the frame's end."""
    frames = [sorted(frame, key=lambda _: random.random()) for frame in drawn if frame]  # type: ignore[attr-defined]
    expected: list[set[int]] = []
    highest = 0
    for index, frame in enumerate(frames):
        top = max(highest, *frame)
        first = highest + 1 if index else frame[0] + 1  # the first trade of all begins the series
        if missing := set(range(first, top + 1)) - set(frame):
            expected.append(missing)
        highest = top
    found = [
        {number for first, last in report.missing for number in range(first, last + 1)} for report in reports(frames)
    ]
    assert found == expected


@pytest.mark.parametrize(
    ("exchange", "symbol", "options", "expected"),
    [
        ("binance", "BTC/USDT", {}, True),
        ("binance", "BTC/USDT:USDT", {}, False),
        ("binanceusdm", "BTC/USDT:USDT", {"watchTradesForSymbols": {"name": "trade"}}, False),
        ("binanceusdm", "BTC/USDT:USDT", {"watchTradesForSymbols": {"name": "aggTrade"}}, True),
        ("coinbaseexchange", "BTC/USD", {}, True),
        ("kraken", "BTC/USD", {}, True),
        ("krakenfutures", "BTC/USD:BTC", {}, False),
        ("okx", "BTC/USDT", {}, False),
        ("bybit", "BTC/USDT", {}, False),
        ("bitstamp", "BTC/USD", {}, False),
    ],
)
def test_where_ids_have_no_holes(exchange: str, symbol: str, options: dict[str, object], expected: bool) -> None:
    assert are_consecutive(exchange, symbol, options) is expected


def ascending(first: int) -> list[int]:
    return list(range(first, first + 6))


@given(
    st.lists(st.lists(st.integers(1, 25), max_size=6) | st.builds(ascending, st.integers(1, 25)), max_size=10),
    st.lists(st.integers(0, 500_000), min_size=60, max_size=60),
    st.sets(st.integers(0, 9)),
)
def test_the_short_way_for_the_usual_case_reports_the_same(
    frames: list[list[int]], lags: list[int], asked: set[int]
) -> None:
    """A feed that asks `follows` first, against one that only ever takes."""
    short, plain = IdSeries(), IdSeries()
    found: list[IdReport | None] = []
    expected: list[IdReport | None] = []
    lag = iter(lags)
    for index, frame in enumerate(frames):
        at = 1_000_000 * (index + 1)
        for number in frame:
            next_trade = Trade("x", "A/B", at - next(lag), at, str(number), number, "buy", "1", "1")
            expected.append(plain.take(next_trade))
            found.append(None if short.follows(next_trade) else short.take(next_trade))
        if index in asked:
            plain.ask()
            short.ask()
    expected.append(plain.settle())
    found.append(short.settle())
    assert found == expected
