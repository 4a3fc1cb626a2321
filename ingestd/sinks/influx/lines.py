"""Line protocol: the text of one point. Pure.

    trade,exchange=binance,side=buy,symbol=BTC-USDT price=64000.10,quantity=0.001,trade_id="17" 1790000000000000017

The series is what stands before the first blank: a measurement and its tags. A point is told by its series and its
time; a second one replaces the fields of the first. Numbers are the exchange's own digits; the server makes floats of
them. See https://docs.influxdata.com/influxdb/v1/write_protocols/line_protocol_reference/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from ingestd.clock import from_datetime, to_datetime
from ingestd.records import Candle, Tick, Trade

# Nanoseconds in 64 bits, the years 1677 to 2262; InfluxDB reserves the outermost values.
_OLDEST_NS, _NEWEST_NS = -(2**63) + 2, 2**63 - 2

_NUMBER = r"-?+(?:[0-9]{1,60}+(?:\.[0-9]{0,60}+)?+|\.[0-9]{1,60}+)(?:[eE][+-]?+[0-9]{1,2}+)?+"
_number = re.compile(_NUMBER).fullmatch
_ESCAPED = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ "})
_ESCAPED_IN_QUOTES = str.maketrans({'"': '\\"', "\\": "\\\\"})
_timeframe = re.compile(r"([1-9][0-9]{0,3})([smhdwMy])").fullmatch
_UNIT_US = {"s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "d": 86_400 * 10**6, "w": 7 * 86_400 * 10**6}


class Unwritable(ValueError):
    """A record that no line can hold. `reason` is a short fixed text."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def series(measurement: str, tags: Mapping[str, str | None]) -> str:
    """A measurement with its tags, in the order of their names, which costs the server least. Tags that are None are
    left out. Raises Unwritable."""
    given = sorted((name, value) for name, value in tags.items() if value is not None)
    return ",".join([measurement, *[f"{name}={_tag(value)}" for name, value in given]])


def _tag(value: str) -> str:
    """A tag's value. No server can read an empty one, one with a control character, or one that ends with a backslash,
    which would escape what follows it."""
    if not value or not value.isprintable() or value.endswith("\\"):
        raise Unwritable("text", f"no tag can have the value {value!r}")
    return value.translate(_ESCAPED)


def text(value: str) -> str:
    """A field's text, in quotes. Raises Unwritable."""
    if not value.isprintable():
        raise Unwritable("text", f"no field can have the value {value!r}")
    return f'"{value.translate(_ESCAPED_IN_QUOTES)}"'


def is_number(text: str) -> bool:
    """Whether the text is a decimal number that a field can have."""
    return _number(text) is not None


def number(digits: str) -> str:
    """A field's number: the same text. Raises Unwritable unless it is a decimal number."""
    if not is_number(digits):
        raise Unwritable("number", f"not a number: {digits[:40]!r}")
    return digits


def candle_fields(candle: Candle) -> str:
    """The fields of a `candle`."""
    return (
        f"open={number(candle.open)},high={number(candle.high)},low={number(candle.low)},close={number(candle.close)}"
        f",volume={number(candle.volume)}"
    )


def trade_fields(trade: Trade) -> str:
    """The fields of a `trade`. `kind` and `unit` are there only where they say something. `in_candles` always is: where
    a boolean cannot be null, as in QuestDB, its absence would mean false."""
    fields = f"price={number(trade.price)},quantity={number(trade.quantity)},trade_id={text(trade.trade_id)}"
    fields += ",in_candles=true" if trade.in_candles else ",in_candles=false"
    if trade.kind is not None:
        fields += f",kind={text(trade.kind)}"
    return fields if trade.unit is None else f"{fields},unit={text(trade.unit)}"


def tick_fields(tick: Tick) -> str:
    """The fields of a `tick`; an empty side of the book has none. Raises Unwritable if there is neither side."""
    sides = (
        ("bid_price", tick.bid_price), ("bid_volume", tick.bid_volume),
        ("ask_price", tick.ask_price), ("ask_volume", tick.ask_volume),
    )  # fmt: skip
    fields = ",".join([f"{name}={number(digits)}" for name, digits in sides if digits is not None])
    if not fields:
        raise Unwritable("number", "a tick without any number")
    return fields


def candle_ns(candle: Candle) -> int:
    """A candle's time: the end of its interval. Raises Unwritable if the timeframe is none."""
    return in_range(end_us(candle.time, candle.timeframe) * 1000)


def trade_ns(trade: Trade) -> int:
    """A trade's time. Exchanges give microseconds at most; the nanoseconds come from `seq`, so that trades of one
    microsecond stay apart and in order. The same trade has the same time whenever it is sent."""
    return in_range(trade.time * 1000 + trade.seq % 1000)


def tick_ns(tick: Tick) -> int:
    """A tick's time. The nanoseconds come from the microsecond of its arrival, as ticks have no number."""
    return in_range(tick.time * 1000 + tick.received_at % 1000)


def end_us(opens_us: int, timeframe: str) -> int:
    """When a candle that opens then ends, in microseconds since the epoch. Months and years are those of the calendar.
    Raises Unwritable."""
    match = _timeframe(timeframe)
    if match is None:
        raise Unwritable("timeframe", f"not a timeframe: {timeframe!r}")
    count, unit = int(match[1]), match[2]
    if unit in _UNIT_US:
        return opens_us + count * _UNIT_US[unit]
    try:
        return from_datetime(_months_later(to_datetime(opens_us), count * (12 if unit == "y" else 1)))
    except (ValueError, OverflowError) as error:
        raise Unwritable("time", f"the candle of {timeframe} ends at no time: {error}") from error


def _months_later(opens: datetime, months: int) -> datetime:
    years, month = divmod(opens.month - 1 + months, 12)
    return opens.replace(year=opens.year + years, month=month + 1)


def in_range(time_ns: int) -> int:
    """The time, in nanoseconds since the epoch. Raises Unwritable if no server can hold it."""
    if not _OLDEST_NS <= time_ns <= _NEWEST_NS:
        raise Unwritable("time", "the time is outside the years 1677 to 2262")
    return time_ns
