"""The text of points: a reader of line protocol that is not ours reads back what went in."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.records import Candle, Tick, Trade
from ingestd.sinks.influx import lines
from ingestd.sinks.influx.lines import Unwritable
from tests.support.line_protocol import read_line
from tests.support.records import NOW_US, candles, tick, ticks, trade, trades

# As validation lets them through; with many of the characters that have a meaning in a line.
names = st.text(
    st.sampled_from(",= \"\\aé/:-#'") | st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12
)
decimals = st.from_regex(r"-?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE][+-]?[0-9]{1,2})?", fullmatch=True)


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**6


class TestSeries:
    @given(exchange=names, symbol=names, side=st.none() | st.sampled_from(["buy", "sell"]))
    def test_is_read_as_it_was_meant(self, exchange: str, symbol: str, side: str | None) -> None:
        tags = {"symbol": symbol, "exchange": exchange, "side": side}
        try:
            series = lines.series("trade", tags)
        except Unwritable:
            assert exchange.endswith("\\") or symbol.endswith("\\")
            return
        read = read_line(f"{series} price=1 0")
        assert (read.measurement, read.tags) == ("trade", {k: v for k, v in tags.items() if v is not None})
        assert list(read.tags) == sorted(read.tags)

    @pytest.mark.parametrize("value", ["", "a\nb", "a\tb", "a\x00", "half\ud800", "ends with a \\"])
    def test_of_what_no_server_can_read_is_refused(self, value: str) -> None:
        with pytest.raises(Unwritable) as caught:
            lines.series("trade", {"symbol": value})
        assert caught.value.reason == "text"


class TestFields:
    @given(digits=decimals)
    def test_numbers_are_the_same_text(self, digits: str) -> None:
        assert lines.number(digits) == digits

    @pytest.mark.parametrize(
        "digits", ["", "NaN", "inf", "1 2", "1,a=2", "0x1", "1e", "--1", ".", "١", "1\n", "1_0", "1i"]
    )
    def test_what_is_no_number_is_refused(self, digits: str) -> None:
        with pytest.raises(Unwritable) as caught:
            lines.number(digits)
        assert caught.value.reason == "number"

    @given(given=trades(), trade_id=names, in_candles=st.booleans())
    def test_of_a_trade(self, given: Trade, trade_id: str, in_candles: bool) -> None:
        made = msgspec.structs.replace(given, trade_id=trade_id, in_candles=in_candles)
        read = read_line(f"trade {lines.trade_fields(made)} {lines.trade_ns(made)}")
        expected = {"price": Decimal(made.price), "quantity": Decimal(made.quantity), "trade_id": trade_id}
        marks = {"kind": made.kind, "in_candles": in_candles}
        assert read.fields == expected | {name: mark for name, mark in marks.items() if mark is not None}

    @given(given=ticks())
    def test_of_a_tick(self, given: Tick) -> None:
        read = read_line(f"tick {lines.tick_fields(given)} 0")
        sides = {name: getattr(given, name) for name in ("bid_price", "bid_volume", "ask_price", "ask_volume")}
        assert read.fields == {name: Decimal(text) for name, text in sides.items() if text is not None}

    def test_of_a_tick_without_any_is_refused(self) -> None:
        with pytest.raises(Unwritable):
            lines.tick_fields(tick(bid_price=None, bid_volume=None, ask_price=None, ask_volume=None))

    @given(candle=candles())
    def test_of_a_candle_are_those_of_the_document(self, candle: Candle) -> None:
        read = read_line(f"candle {lines.candle_fields(candle)} {lines.candle_ns(candle)}")
        assert read.fields == {
            name: Decimal(getattr(candle, name)) for name in ("open", "high", "low", "close", "volume")
        }
        assert read.time_ns == (candle.time + 60 * 10**6) * 1000


class TestTimes:
    @pytest.mark.parametrize(
        ("timeframe", "opens", "ends"),
        [
            ("1s", "2026-09-21T15:33:20", "2026-09-21T15:33:21"),
            ("1m", "2026-12-31T23:59:00", "2027-01-01T00:00:00"),
            ("15m", "2026-09-21T15:30:00", "2026-09-21T15:45:00"),
            ("4h", "2026-09-21T20:00:00", "2026-09-22T00:00:00"),
            ("1d", "2028-02-28T00:00:00", "2028-02-29T00:00:00"),
            ("1w", "2026-09-21T00:00:00", "2026-09-28T00:00:00"),
            ("1M", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
            ("1M", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
            ("3M", "2026-10-01T00:00:00", "2027-01-01T00:00:00"),
            ("1y", "2026-01-01T00:00:00", "2027-01-01T00:00:00"),
        ],
    )
    def test_a_candle_has_the_time_of_its_end(self, timeframe: str, opens: str, ends: str) -> None:
        assert lines.end_us(us(opens), timeframe) == us(ends)

    @pytest.mark.parametrize("timeframe", ["", "m", "0m", "1", "1 m", "-1m", "1.5m", "1q", "12345m", "1m\n"])
    def test_what_is_no_timeframe_is_refused(self, timeframe: str) -> None:
        with pytest.raises(Unwritable) as caught:
            lines.end_us(NOW_US, timeframe)
        assert caught.value.reason == "timeframe"

    @pytest.mark.parametrize(("opens", "timeframe"), [("2026-01-31T00:00:00", "1M"), ("2026-01-01T00:00:00", "9999y")])
    def test_a_candle_that_ends_never_is_refused(self, opens: str, timeframe: str) -> None:
        with pytest.raises(Unwritable) as caught:
            lines.end_us(us(opens), timeframe)
        assert caught.value.reason == "time"

    @given(first=st.integers(0, 2**62), count=st.integers(2, 1000))
    def test_a_thousand_consecutive_trades_of_one_microsecond_stay_apart(self, first: int, count: int) -> None:
        times = {lines.trade_ns(trade(time=NOW_US, seq=first + number)) for number in range(count)}
        assert len(times) == count
        assert {time // 1000 for time in times} == {NOW_US}

    def test_the_last_time_of_64_bits_is_not_passed(self) -> None:
        last_us = (2**63 - 2) // 1000
        assert lines.trade_ns(trade(time=last_us, seq=806)) == 2**63 - 2
        for late in (trade(time=last_us, seq=807), trade(time=253_402_300_799_000_000)):
            with pytest.raises(Unwritable) as caught:
                lines.trade_ns(late)
            assert caught.value.reason == "time"

    def test_a_tick_has_the_nanoseconds_of_its_arrival(self) -> None:
        assert lines.tick_ns(tick(time=NOW_US, received_at=NOW_US + 5_123)) == NOW_US * 1000 + 123
