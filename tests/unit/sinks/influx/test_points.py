"""Which records become points, and which of two with the same series and time stays."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.channels import CHANNEL_OF, channel_of
from ingestd.errors import MarketUnknown
from ingestd.records import Candle, Record
from ingestd.sinks.influx.options import InfluxConfig
from ingestd.sinks.influx.points import Flush, Preparer, Told, flush_of
from ingestd.status import MarketInfo
from ingestd.venues.market_names import KnownMarkets, Names
from tests.support.influx_doubles import batch_of
from tests.support.line_protocol import ReadPoint, read_line
from tests.support.records import NOW_US, book, candles, market_records, tick, trade


def preparer(names: Names | None = None, **options: object) -> Preparer:
    return Preparer(InfluxConfig.model_validate(options), Names("dash") if names is None else names)


def prepared(records: list[Record], **options: object) -> Flush:
    return preparer(None, **options).prepare([batch_of(records)])


def points(flush: Flush) -> list[ReadPoint]:
    return [read_line(point.line) for points in flush.points.values() for point in points]


def candle(timeframe: str = "1m", close: str = "3", minute: int = 0) -> Candle:
    opens_us = NOW_US - NOW_US % (60 * 10**6) + minute * 60 * 10**6
    return Candle("binance", "BTC/USDT", opens_us, NOW_US, timeframe, "1", "4", "0.5", close, "7")


def test_only_candles_of_the_chosen_interval_are_sent_by_default() -> None:
    flush = prepared([candle(), candle("1h"), trade(1), tick(1), book(1)])
    (point,) = points(flush)
    assert point.measurement == "candle"
    assert point.tags == {"exchange": "binance", "symbol": "BTC-USDT"}
    assert flush.left_out == {"candles": 1, "trades": 1, "ticks": 1, "order_book": 1}


def test_intervals_with_a_tag_never_replace_each_other() -> None:
    """1m and 5m can end at the same time."""
    flush = prepared([candle("1m", minute=4), candle("5m")], candle_interval="all")
    one, five = points(flush)
    assert one.time_ns == five.time_ns
    assert [point.tags["interval"] for point in (one, five)] == ["1m", "5m"]


def test_the_last_of_a_candle_s_updates_stays() -> None:
    flush = prepared([candle(close="3"), candle(close="3.5"), candle(close="4", minute=1)])
    assert [str(point.fields["close"]) for point in points(flush)] == ["3.5", "4"]
    assert flush.duplicate == {"candles": 1}


def test_two_trades_of_one_microsecond_stay_two() -> None:
    flush = prepared([trade(number, time=NOW_US) for number in (1, 2, 3)], trades=True)
    assert [point.fields["trade_id"] for point in points(flush)] == ["1", "2", "3"]
    assert [point.time_ns for point in points(flush)] == sorted({point.time_ns for point in points(flush)})


def test_a_trade_that_comes_twice_is_one() -> None:
    made = preparer(trades=True)
    first = made.prepare([batch_of([trade(1), trade(2), trade(1)])])
    assert len(points(first)) == 2
    assert first.duplicate == {"trades": 1}
    made.remember(first)
    again = made.prepare([batch_of([trade(2), trade(3)])])
    assert [point.fields["trade_id"] for point in points(again)] == ["3"]
    assert again.duplicate == {"trades": 1}


@pytest.mark.parametrize("later", [False, True])
def test_a_trade_never_replaces_another(later: bool) -> None:
    """Nanoseconds tell a thousand trades of one microsecond apart. Of more, those that would hide others are named."""
    made = preparer(trades=True)
    one, other = trade(1, time=NOW_US), trade(1001, time=NOW_US)
    flush = made.prepare([batch_of([one] if later else [one, other])])
    if later:
        made.remember(flush)
        flush = made.prepare([batch_of([other])])
    (refusal,) = flush.refusals
    assert (refusal.record, refusal.reason) == (other, "influx_same_nanosecond")
    assert "the trade 1," in refusal.error


def test_the_sides_of_one_microsecond_are_two_series() -> None:
    flush = prepared([trade(1, time=NOW_US), trade(1001, time=NOW_US, side="sell")], trades=True)
    assert {point.tags["side"] for point in points(flush)} == {"buy", "sell"}


def test_ticks_of_one_instant_replace_each_other_whole() -> None:
    """A server would keep the fields of the first that the second has not: a tick that never was."""
    both: list[Record] = [tick(1), tick(1, bid_price=None, bid_volume=None)]
    (point,) = points(prepared(both, ticks=True))
    assert point.fields.keys() == {"ask_price", "ask_volume"}


def test_a_record_that_no_line_can_hold_is_put_aside() -> None:
    late = trade(1, time=253_402_300_799_000_000)
    flush = prepared([late, trade(2)], trades=True)
    assert [(refusal.record, refusal.reason) for refusal in flush.refusals] == [(late, "influx_time")]
    assert len(points(flush)) == 1


def test_symbols_have_the_style_of_the_section() -> None:
    known = KnownMarkets()
    known.learn("binance", "BTC/USDT", "XBTUSDT")
    for style, name in (("unified", "BTC/USDT"), ("compact", "BTCUSDT"), ("dash", "BTC-USDT"), ("venue", "XBTUSDT")):
        made = preparer(Names(style, known))  # type: ignore[arg-type] # the four styles
        assert [point.tags["symbol"] for point in points(made.prepare([batch_of([candle()])]))] == [name]


def test_a_market_without_a_name_is_put_aside_once_its_list_is_there() -> None:
    waiting = preparer(Names("venue", KnownMarkets(awaited={"binance"})), trades=True)
    with pytest.raises(MarketUnknown):
        waiting.prepare([batch_of([trade(1)])])
    other = MarketInfo("binance", "ETH/USDT", "ETHUSDT", "ETH", "USDT", "spot", True)
    known = KnownMarkets(lambda: [other], awaited={"binance"})
    flush = preparer(Names("venue", known), trades=True).prepare([batch_of([trade(1)])])
    assert [refusal.reason for refusal in flush.refusals] == ["influx_unknown_market"]


@given(records=st.lists(market_records(), max_size=60), options=st.fixed_dictionaries({
    "trades": st.booleans(), "ticks": st.booleans(), "candle_interval": st.sampled_from(["1m", "1h", "all"]),
}))  # fmt: skip
def test_every_record_is_accounted_for(records: list[Record], options: dict[str, object]) -> None:
    flush = prepared(records, **options)
    counted: Counter[str] = Counter(CHANNEL_OF[type(point.record)] for some in flush.points.values() for point in some)  # type: ignore[index] # of records alone
    counted += flush.left_out + flush.duplicate
    counted += Counter(refusal.channel for refusal in flush.refusals)
    assert counted == Counter(map(channel_of, records))
    keys = [(point.measurement, *sorted(point.tags.items()), point.time_ns) for point in points(flush)]
    assert len(keys) == len(set(keys))


@given(updates=st.lists(candles(), max_size=40), cut=st.integers(0, 40))
def test_candles_sent_again_after_a_crash_end_as_they_were(updates: list[Candle], cut: int) -> None:
    """A server that keeps the last of each point, told some of them twice, in portions that differ."""
    made = preparer()
    server: dict[tuple[str, int], str] = {}
    for portion in (updates[:cut], updates[cut // 2 :], updates):
        for point in made.prepare([batch_of(list(portion))]).points.get("candle", []):
            server[point.series, point.time_ns] = point.fields
    last = {candle.time: candle for candle in updates}
    assert len(server) == len(last)
    for (series, time_ns), fields in server.items():
        read = read_line(f"{series} {fields} {time_ns}")
        assert read.fields["volume"] == read_line(f"x v={last[time_ns // 1000 - 60 * 10**6].volume} 0").fields["v"]


def told(time_ns: int = 7, symbol: str | None = "BTC-USD", **numbers: str | None) -> Told:
    return Told(
        "metric", {"symbol": symbol, "side": None}, {"value": "1", **numbers}, {"note": None, "id": "a"}, time_ns
    )


def test_what_is_told_of_no_record_is_a_point_without_what_it_lacks() -> None:
    (point,) = points(flush_of([told(fee=None, pnl="-0.10")]))
    assert (point.measurement, point.tags, point.time_ns) == ("metric", {"symbol": "BTC-USD"}, 7)
    assert point.fields == {"value": Decimal(1), "pnl": Decimal("-0.10"), "id": "a"}


def test_of_two_tellings_of_one_point_the_last_stays() -> None:
    (point,) = points(flush_of([told(value="1"), told(value="2")]))
    assert point.fields["value"] == 2
    assert len(points(flush_of([told(1), told(2), told(2, symbol="ETH-USD"), told(2, symbol=None)]))) == 4


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (told(symbol=""), "influx_text"),
        (told(symbol="a\nb"), "influx_text"),
        (told(value="NaN"), "influx_number"),
        (told(value="9" * 59 + "a" * 9), "influx_number"),
        (told(2**63), "influx_time"),
    ],
)
def test_what_no_line_can_hold_is_put_aside_alone(wrong: Told, reason: str) -> None:
    flush = flush_of([told(1), wrong, told(3)])
    assert [(refusal.record, refusal.reason, refusal.channel) for refusal in flush.refusals] == [
        (wrong, reason, "metric")
    ]
    assert [point.time_ns for point in points(flush)] == [1, 3]


@given(number=st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**90), max_value=10**90))
def test_a_number_of_many_digits_stays_the_same_float(number: Decimal) -> None:
    """As a database writes it: without an exponent."""
    (point,) = points(flush_of([told(value=format(number, "f"))]))
    found = point.fields["value"]
    assert isinstance(found, Decimal)
    assert float(found) == float(number)
