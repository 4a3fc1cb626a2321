"""The table of channels, one row each. Every other list of channels or their tables is derived from it.

To add a channel: add its record and its name to `records.py`, a row here, a migration for its table, and the
exchanges that deliver it.
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
from ingestd.records import Channel as Channel  # re-exported for config, which may not import records

_MARKED = ("kind", "in_candles", "contract_size", "contract_currency")


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """The properties of one channel.

    The Kafka topic is `{prefix}.market.{name}`, the message key `exchange:symbol`. `key` lists the columns of the
    table's unique key; on a duplicate the stored row stays, unless the channel `replaces` it.
    """

    name: Channel
    record: type[MarketRecord]
    table: str
    event_type: str  # in the Kafka message
    drop_rank: int  # a full journal drops the channel with the lowest rank first
    chunk_days: int
    compress_after_days: int
    retention_days: int | None  # None: depends on the timeframe and has its own options
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
    def table_columns(self) -> tuple[str, ...]:
        """The columns that ingestd writes."""
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
        columns=("time", "exchange", "symbol", *Candle.__struct_fields__[4:]),  # without received_at
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
    """The channel under which a record is counted."""
    return _COUNTED_AS[type(record)]


def stream_of(record: MarketRecord) -> StreamId:
    """The stream that a record belongs to."""
    return record.exchange, _COUNTED_AS[type(record)], record.symbol


def count_channels(records: Sequence[Record]) -> dict[str, int]:
    """Count a batch's records by channel; gaps and rejections are counted separately."""
    return {_COUNTED_AS[kind]: count for kind, count in Counter(map(type, records)).items()}
