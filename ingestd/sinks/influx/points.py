"""Turns batches of the journal into points: which records are sent, and which point of two that are the same stays.

What other sources tell becomes points too (`flush_of`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias

import msgspec

from ingestd.channels import CHANNEL_OF, channel_of
from ingestd.journal.journal import Batch
from ingestd.records import Candle, MarketRecord, Record, Tick, Trade
from ingestd.sinks.influx import lines
from ingestd.sinks.influx.lines import Unwritable
from ingestd.sinks.influx.options import ALL_INTERVALS, InfluxConfig
from ingestd.venues.market_names import UNKNOWN_MARKET, Names

REASON_PREFIX = "influx_"
SAME_NANOSECOND = "same_nanosecond"
_SERIES_KEPT = 50_000
_MOST_DIGITS = 60

_Tags: TypeAlias = tuple[str, str, str | None]  # exchange, symbol, and a trade's side or a candle's interval
_Key: TypeAlias = tuple[str, int]  # series and time: what tells one point from another


@dataclass(frozen=True, slots=True)
class _Measurement:
    """How the records of one type become points."""

    name: str
    fields: Callable[[Any], str]
    time_ns: Callable[[Any], int]


_MEASUREMENTS: dict[type, _Measurement] = {
    Candle: _Measurement("candle", lines.candle_fields, lines.candle_ns),
    Trade: _Measurement("trade", lines.trade_fields, lines.trade_ns),
    Tick: _Measurement("tick", lines.tick_fields, lines.tick_ns),
}


class Told(msgspec.Struct, frozen=True):
    """What a point of no record says. `numbers` and `texts` are its fields; what is None is left out."""

    measurement: str
    tags: dict[str, str | None]
    numbers: dict[str, str | None]
    texts: dict[str, str | None]
    time_ns: int


class Point(NamedTuple):
    """One point, and what it was made of."""

    measurement: str
    series: str
    fields: str
    time_ns: int
    record: MarketRecord | Told

    @property
    def key(self) -> _Key:
        return self.series, self.time_ns

    @property
    def line(self) -> str:
        return f"{self.series} {self.fields} {self.time_ns}"


class Refusal(NamedTuple):
    """What is put aside: a short fixed reason, and a sentence."""

    record: MarketRecord | Told
    reason: str
    error: str

    @property
    def channel(self) -> str:
        """The record's channel, or the measurement of what is no record."""
        return self.record.measurement if isinstance(self.record, Told) else channel_of(self.record)


@dataclass(slots=True)
class Flush:
    """The points of some batches, by measurement in the order of the journal.

    `left_out` counts the records that this sink does not send, `duplicate` those whose point another record of the
    flush replaced or had already, each by channel.
    """

    points: dict[str, list[Point]]
    refusals: list[Refusal]
    left_out: Counter[str] = field(default_factory=Counter)
    duplicate: Counter[str] = field(default_factory=Counter)


class Preparer:
    """Makes flushes. It remembers the trades of each series' newest microsecond, of which more may come."""

    def __init__(self, config: InfluxConfig, names: Names) -> None:
        self._interval = config.candle_interval
        self._names = names
        self._sent = {Candle} | ({Trade} if config.trades else set()) | ({Tick} if config.ticks else set())
        self._series: dict[tuple[type, _Tags], str] = {}
        self._newest: dict[str, tuple[int, dict[int, str]]] = {}  # by series: microsecond, trade id by nanosecond

    def prepare(self, batches: Sequence[Batch]) -> Flush:
        """The flush of these batches. Raises MarketUnknown while a feed is still to bring its list of markets."""
        found: dict[_Key, Point] = {}
        flush = Flush({}, [])
        for batch in batches:
            for record in batch.records:
                if not self._is_sent(record):
                    flush.left_out[channel_of(record)] += 1
                    continue
                assert isinstance(record, (Candle, Trade, Tick))
                try:
                    point = self._point(record)
                except Unwritable as error:
                    flush.refusals.append(Refusal(record, REASON_PREFIX + error.reason, str(error)))
                else:
                    self._add(point, found, flush)
        for point in found.values():
            flush.points.setdefault(point.measurement, []).append(point)
        return flush

    def remember(self, flush: Flush) -> None:
        """Remember the trades of a flush that is stored."""
        for point in flush.points.get("trade", ()):
            assert isinstance(point.record, Trade)
            if len(self._newest) >= _SERIES_KEPT and point.series not in self._newest:
                self._newest.clear()
            at, ids = self._newest.get(point.series, (-1, {}))
            if point.record.time > at:
                ids = {}
                self._newest[point.series] = point.record.time, ids
            if point.record.time >= at:
                ids[point.time_ns] = point.record.trade_id

    def _is_sent(self, record: Record) -> bool:
        if type(record) is Candle:
            return self._interval in (ALL_INTERVALS, record.timeframe)
        return type(record) in self._sent

    def _add(self, point: Point, found: dict[_Key, Point], flush: Flush) -> None:
        record = point.record
        before = found.get(point.key)
        if isinstance(record, Trade):
            known = before.record.trade_id if before and isinstance(before.record, Trade) else self._known(point)
            if known is None:
                found[point.key] = point
            elif known == record.trade_id:
                flush.duplicate["trades"] += 1
            else:
                error = f"it would replace the trade {known}, which has the same time to the nanosecond"
                flush.refusals.append(Refusal(record, REASON_PREFIX + SAME_NANOSECOND, error))
            return
        if before is not None:
            assert not isinstance(record, Told), "journals hold records"
            flush.duplicate[CHANNEL_OF[type(record)]] += 1
        found[point.key] = point

    def _known(self, point: Point) -> str | None:
        """The id of the trade that has been sent with this series and time, as far as it is remembered."""
        at, ids = self._newest.get(point.series, (-1, {}))
        assert isinstance(point.record, Trade)
        return ids.get(point.time_ns) if at == point.record.time else None

    def _point(self, record: Candle | Trade | Tick) -> Point:
        measurement = _MEASUREMENTS[type(record)]
        tags = record.exchange, record.symbol, self._third_tag(record)
        series = self._series.get((type(record), tags))
        if series is None:
            series = self._new_series(measurement.name, record, tags[2])
            if len(self._series) >= _SERIES_KEPT:
                self._series.clear()
            self._series[type(record), tags] = series
        return Point(measurement.name, series, measurement.fields(record), measurement.time_ns(record), record)

    def _third_tag(self, record: Candle | Trade | Tick) -> str | None:
        if isinstance(record, Trade):
            return record.side
        return record.timeframe if isinstance(record, Candle) and self._interval == ALL_INTERVALS else None

    def _new_series(self, measurement: str, record: Candle | Trade | Tick, third: str | None) -> str:
        tags = {"exchange": record.exchange, "symbol": sent_symbol(self._names, record.exchange, record.symbol)}
        return lines.series(measurement, {**tags, "side" if isinstance(record, Trade) else "interval": third})


def sent_symbol(names: Names, exchange: str, symbol: str) -> str:
    """The market's name in the section's style. Raises Unwritable if it has none, MarketUnknown while a feed is still
    to bring its list of markets."""
    if not names.has(exchange, symbol):
        raise Unwritable(UNKNOWN_MARKET, f"no name of {symbol} is known in the style {names.style}")
    return names.name(exchange, symbol)


def flush_of(told: Iterable[Told]) -> Flush:
    """The points that say this. Of two with the same series and time the last stays."""
    flush = Flush({}, [])
    found: dict[_Key, Point] = {}
    for each in told:
        try:
            point = _told_point(each)
        except Unwritable as error:
            flush.refusals.append(Refusal(each, REASON_PREFIX + error.reason, str(error)))
        else:
            found[point.key] = point
    for point in found.values():
        flush.points.setdefault(point.measurement, []).append(point)
    return flush


def _told_point(told: Told) -> Point:
    numbers = [f"{name}={lines.number(_short(digits))}" for name, digits in told.numbers.items() if digits is not None]
    texts = [f"{name}={lines.text(text)}" for name, text in told.texts.items() if text is not None]
    series = lines.series(told.measurement, told.tags)
    return Point(told.measurement, series, ",".join([*numbers, *texts]), lines.in_range(told.time_ns), told)


def _short(digits: str) -> str:
    """The number with no more digits than a line may have; far more than the server's floats keep."""
    try:
        return digits if len(digits) <= _MOST_DIGITS else f"{Decimal(digits):.40e}"
    except ArithmeticError as error:
        raise Unwritable("number", f"not a number: {digits[:40]!r}") from error
