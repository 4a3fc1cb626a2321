"""The table of channels, one row each. Every other list of channels or their tables is derived from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ingestd.records import (
    BookSnapshot,
    Candle,
    FeedGap,
    Funding,
    Liquidation,
    MarketRecord,
    MarkPrice,
    OpenInterest,
    Record,
    Rejected,
    StreamId,
    Tick,
    Trade,
    own_fields,
)
from ingestd.records import Channel as Channel  # re-exported for config, which may not import records


class Days(NamedTuple):
    """Ages of a table's rows, in days."""

    chunk: int  # the time that one chunk spans
    compressed_after: int
    kept: int | None  # None: depends on the timeframe and has its own options


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """The properties of one channel.

    The Kafka topic is `{prefix}.market.{name}`, the message key `exchange:symbol`. `key` lists the columns of the
    table's unique key; on a duplicate the stored row stays, unless the channel `replaces` it.
    """

    name: Channel
    record: type[MarketRecord]
    table: str
    days: Days
    drop_rank: int  # a full journal drops the channel with the lowest rank first
    key: tuple[str, ...] = ()
    replaces: bool = False
    columns: tuple[str, ...] = ()  # of the table, if they differ from the record's fields
    seldom: tuple[str, ...] = ()  # the last columns, if most rows hold only defaults there
    markets: Literal["all", "contracts", "futures", "perpetuals"] = "all"  # the markets that have this channel
    is_polled: bool = False  # read over REST because there is no stream
    may_be_silent: bool = False  # for days, so silence does not mean that the connection is dead
    has_past: bool = True  # at least one exchange serves history
    redis_channel: str | None = None  # `{symbol}` and `{exchange}` are filled in from the record

    @property
    def event_type(self) -> str:
        """The type that a Kafka message names: the channel in the singular."""
        return self.name.upper().removesuffix("S")

    @property
    def table_columns(self) -> tuple[str, ...]:
        """The columns that ingestd writes."""
        return self.columns or ("time", "exchange", "symbol", *own_fields(self.record), "received_at")


_MARKED = ("kind", "in_candles", "contract_size", "contract_currency")

ROWS: tuple[ChannelRow, ...] = (
    ChannelRow(
        "ticks", Tick, "market_ticks", Days(1, 1, 30), drop_rank=2, has_past=False, redis_channel="market_data:{symbol}"
    ),
    ChannelRow(
        "trades",
        Trade,
        "trades",
        Days(1, 3, 365),
        drop_rank=8,
        key=("exchange", "symbol", "trade_id", "time"),
        columns=("time", "exchange", "symbol", "trade_id", "seq", "side", "price", "quantity", "received_at", *_MARKED),
        seldom=_MARKED,
        redis_channel="trades:{exchange}:{symbol}",
    ),
    ChannelRow(
        "order_book",
        BookSnapshot,
        "order_book",
        Days(1, 1, 30),
        drop_rank=1,
        columns=("time", "exchange", "symbol", *own_fields(BookSnapshot), "received_at", "bid_price", "ask_price"),
        has_past=False,
    ),
    ChannelRow(
        "open_interest",
        OpenInterest,
        "oi_snapshots",
        Days(7, 14, 120),
        drop_rank=4,
        key=("exchange", "symbol", "time"),
        markets="contracts",
        is_polled=True,
    ),
    ChannelRow(
        "funding",
        Funding,
        "funding",
        Days(30, 60, 365),
        drop_rank=5,
        key=("exchange", "symbol", "time"),
        markets="perpetuals",
        is_polled=True,
    ),
    ChannelRow(
        "candles",
        Candle,
        "ohlcv_data",
        Days(7, 7, None),
        drop_rank=6,
        key=("exchange", "symbol", "timeframe", "time"),
        replaces=True,
        columns=("time", "exchange", "symbol", *own_fields(Candle)),  # without received_at
        is_polled=True,
    ),
    ChannelRow(
        "liquidations",
        Liquidation,
        "liquidations",
        Days(1, 7, 365),
        drop_rank=7,
        key=("exchange", "symbol", "time", "side", "price", "quantity"),
        markets="futures",
        may_be_silent=True,
        has_past=False,
        redis_channel="liquidations:{exchange}:{symbol}",
    ),
    ChannelRow("mark_prices", MarkPrice, "mark_prices", Days(1, 1, 30), drop_rank=3, markets="futures", has_past=False),
)

ROW_OF: dict[str, ChannelRow] = {row.name: row for row in ROWS}
CHANNEL_OF: dict[type[MarketRecord], Channel] = {row.record: row.name for row in ROWS}
TABLE_OF: dict[type[MarketRecord], str] = {row.record: row.table for row in ROWS}
SERVED: tuple[Channel, ...] = tuple(row.name for row in ROWS if row.has_past)
NOT_SERVED: tuple[Channel, ...] = tuple(row.name for row in ROWS if not row.has_past)
"""The channels of which no exchange serves the past: what is missing there stays missing."""

_COUNTED_AS: dict[type, str] = {**CHANNEL_OF, FeedGap: "gaps", Rejected: "rejections"}


def channel_of(record: Record) -> str:
    """The channel under which a record is counted."""
    return _COUNTED_AS[type(record)]


def stream_of(record: MarketRecord) -> StreamId:
    """The stream that a record belongs to."""
    return record.exchange, _COUNTED_AS[type(record)], record.symbol


def count_channels(records: Sequence[Record]) -> dict[str, int]:
    """Count a batch's records by channel; gaps and rejections are counted separately."""
    return {_COUNTED_AS[kind]: count for kind, count in Counter(map(type, records)).items()}
