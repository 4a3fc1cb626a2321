"""The channels: one row for each. Everything that lists channels or their tables reads it here.

To add one: its record and its name in `records.py`, a row here, a migration for its table, and the exchanges that
deliver it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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
)
from ingestd.records import Channel as Channel  # for config, which may import no record

_MARKED = ("kind", "in_candles", "contract_size", "contract_currency")


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """What is particular to a channel.

    Its Kafka topic is `{prefix}.market.{name}`, and its key `exchange:symbol`. `key`: what makes two rows of the table
    the same; the stored one stays, unless the channel `replaces` it.
    """

    name: Channel
    record: type[MarketRecord]
    table: str
    event_type: str  # in the Kafka message
    drop_rank: int  # what a full journal gives up first has the lowest
    chunk_days: int
    compress_after_days: int
    retention_days: int | None  # None: it depends on the timeframe, and has options of its own
    key: tuple[str, ...] = ()
    replaces: bool = False
    columns: tuple[str, ...] = ()  # of the table, where they are not the fields of the record
    seldom: tuple[str, ...] = ()  # the last columns, if most rows have their defaults in all of them
    markets: Literal["all", "contracts", "futures", "perpetuals"] = "all"  # that have it
    is_polled: bool = False  # over REST, where there is no stream
    may_be_silent: bool = False  # for days: its silence says nothing of its connection
    has_past: bool = True  # some exchange serves what is past
    redis_channel: str | None = None  # `{symbol}` and `{exchange}` stand for the record's

    @property
    def table_columns(self) -> tuple[str, ...]:
        """The columns that are written."""
        own = self.record.__struct_fields__[4:]
        return self.columns or ("time", "exchange", "symbol", *own, "received_at")


ROWS: tuple[ChannelRow, ...] = (
    ChannelRow(
        "ticks",
        Tick,
        table="market_ticks",
        event_type="TICK",
        drop_rank=2,
        chunk_days=1,
        compress_after_days=1,
        retention_days=30,
        has_past=False,
        redis_channel="market_data:{symbol}",
    ),
    ChannelRow(
        "trades",
        Trade,
        table="trades",
        event_type="TRADE",
        drop_rank=8,
        chunk_days=1,
        compress_after_days=3,
        retention_days=365,
        key=("exchange", "symbol", "trade_id", "time"),
        columns=(
            *("time", "exchange", "symbol", "trade_id", "seq", "side", "price", "quantity", "received_at"),
            *_MARKED,
        ),
        seldom=_MARKED,
        redis_channel="trades:{exchange}:{symbol}",
    ),
    ChannelRow(
        "order_book",
        BookSnapshot,
        table="order_book",
        event_type="ORDER_BOOK",
        drop_rank=1,
        chunk_days=1,
        compress_after_days=1,
        retention_days=30,
        has_past=False,
    ),
    ChannelRow(
        "open_interest",
        OpenInterest,
        table="oi_snapshots",
        event_type="OPEN_INTEREST",
        drop_rank=4,
        chunk_days=7,
        compress_after_days=14,
        retention_days=120,
        key=("exchange", "symbol", "time"),
        markets="contracts",
        is_polled=True,
    ),
    ChannelRow(
        "funding",
        Funding,
        table="funding",
        event_type="FUNDING",
        drop_rank=5,
        chunk_days=30,
        compress_after_days=60,
        retention_days=365,
        key=("exchange", "symbol", "time"),
        markets="perpetuals",
        is_polled=True,
    ),
    ChannelRow(
        "candles",
        Candle,
        table="ohlcv_data",
        event_type="CANDLE",
        drop_rank=6,
        chunk_days=7,
        compress_after_days=7,
        retention_days=None,
        key=("exchange", "symbol", "timeframe", "time"),
        replaces=True,
        columns=("time", "exchange", "symbol", *Candle.__struct_fields__[4:]),  # not when it was received
        is_polled=True,
    ),
    ChannelRow(
        "liquidations",
        Liquidation,
        table="liquidations",
        event_type="LIQUIDATION",
        drop_rank=7,
        chunk_days=1,
        compress_after_days=7,
        retention_days=365,
        key=("exchange", "symbol", "time", "side", "price", "quantity"),
        markets="futures",
        may_be_silent=True,
        has_past=False,
        redis_channel="liquidations:{exchange}:{symbol}",
    ),
    ChannelRow(
        "mark_prices",
        MarkPrice,
        table="mark_prices",
        event_type="MARK_PRICE",
        drop_rank=3,
        chunk_days=1,
        compress_after_days=1,
        retention_days=30,
        markets="futures",
        has_past=False,
    ),
)

ROW_OF: dict[str, ChannelRow] = {row.name: row for row in ROWS}
CHANNEL_OF: dict[type[MarketRecord], Channel] = {row.record: row.name for row in ROWS}
TABLE_OF: dict[type[MarketRecord], str] = {row.record: row.table for row in ROWS}
NOT_SERVED: tuple[Channel, ...] = tuple(row.name for row in ROWS if not row.has_past)
"""The channels of which no exchange serves the past: what is missing there stays missing."""

_COUNTED_AS: dict[type, str] = {**CHANNEL_OF, FeedGap: "gaps", Rejected: "rejections"}


def channel_of(record: Record) -> str:
    """The channel a record is counted under."""
    return _COUNTED_AS[type(record)]


def stream_of(record: MarketRecord) -> StreamId:
    """The stream a record belongs to."""
    return record.exchange, _COUNTED_AS[type(record)], record.symbol


def count_channels(records: Sequence[Record]) -> dict[str, int]:
    """How many records of each channel a batch holds; gaps and rejections count apart from the market's."""
    return {_COUNTED_AS[kind]: count for kind, count in Counter(map(type, records)).items()}
