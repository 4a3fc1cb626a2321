"""Each function of the repository as a generator: it yields queries and is sent their rows. Pure.

So the same code runs on a SQLAlchemy session (`session`) and on asyncpg (`aio`). Each query has one SQL text.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, TypeAlias, TypeVar

from ingestd.clock import to_datetime
from ingestd.records import Header
from ingestd.repository.markets import Market, market_of
from ingestd.repository.payloads import (
    CandlePayload,
    CandleSource,
    FundingPayload,
    OpenInterestPayload,
    StoredCandle,
    StoredFunding,
    StoredOpenInterest,
    StoredTrade,
    TradePayload,
    candle_record,
    funding_record,
    in_utc,
    open_interest_record,
    trade_record,
)
from ingestd.storage.migrations import read_sql

Row: TypeAlias = Mapping[str, Any]
ResultT = TypeVar("ResultT")
StoredT = TypeVar("StoredT")
RecordT = TypeVar("RecordT", bound=Header)


@dataclass(frozen=True, slots=True)
class Query:
    """One statement: a file of `sql/queries/repository`, and the values of its parameters `$1`, `$2`, …"""

    name: str
    values: tuple[object, ...]

    @property
    def sql(self) -> str:
        return _sql(self.name)


Operation: TypeAlias = Generator[Query, Sequence[Row], ResultT]


@cache
def _sql(name: str) -> str:
    return read_sql(f"queries/repository/{name}.sql")


def upsert_candles(payloads: Iterable[CandlePayload]) -> Operation[int]:
    """Store candles of one minute in `ohlcv_data`; a candle that is there is replaced. Return how many changed."""
    records = [candle_record(payload) for payload in payloads]
    return _upsert(
        "upsert_candles",
        records,
        lambda candle, _: (
            Decimal(candle.open), Decimal(candle.high), Decimal(candle.low), Decimal(candle.close),
            Decimal(candle.volume), _decimal(candle.quote_volume), candle.trades_count,
            _decimal(candle.taker_buy_base_volume), _decimal(candle.taker_buy_quote_volume),
        ),
    )  # fmt: skip


def upsert_trades(payloads: Iterable[TradePayload]) -> Operation[int]:
    """Store trades; one that is there stays. Return how many are new."""
    records = [trade_record(payload) for payload in payloads]
    return _upsert(
        "upsert_trades",
        records,
        lambda trade, market: (
            trade.trade_id, trade.seq, trade.side, Decimal(trade.price), Decimal(trade.quantity),
            market.contract_size, market.contract_currency,
        ),
    )  # fmt: skip


def upsert_open_interest(payloads: Iterable[OpenInterestPayload]) -> Operation[int]:
    """Store snapshots; one that is there is replaced. Return how many changed."""
    records = [open_interest_record(payload) for payload in payloads]
    return _upsert(
        "upsert_open_interest",
        records,
        lambda snapshot, market: (
            _decimal(snapshot.open_interest), _decimal(snapshot.open_interest_usd), _decimal(snapshot.basis),
            market.open_interest_unit,
        ),
    )  # fmt: skip


def upsert_funding(payloads: Iterable[FundingPayload]) -> Operation[int]:
    """Store funding rates; one that is there is replaced. Return how many changed."""
    records = [funding_record(payload) for payload in payloads]
    return _upsert(
        "upsert_funding",
        records,
        lambda rate, _: (Decimal(rate.funding_rate), _decimal(rate.annualised_rate), _decimal(rate.payment)),
    )


def fetch_candles(
    symbol: str, start: datetime, end: datetime, exchange: str, prefer: CandleSource
) -> Operation[list[StoredCandle]]:
    """Candles of one minute whose start is from `start` to `end`, both included, the oldest first."""
    market = yield from located(exchange, symbol)
    rows = yield between(StoredCandle, market, start, end, prefer)
    return _read(StoredCandle, exchange, symbol, rows)


def recent_trades(symbol: str, limit: int, exchange: str) -> Operation[list[StoredTrade]]:
    """The last trades, the newest first."""
    market = yield from located(exchange, symbol)
    rows = yield Query("recent_trades", (exchange, market.stored, limit))
    return _read(StoredTrade, exchange, symbol, rows)


def latest_open_interest(symbol: str, exchange: str) -> Operation[StoredOpenInterest | None]:
    """The newest snapshot; None if there is none."""
    market = yield from located(exchange, symbol)
    rows = yield Query("latest_open_interest", (exchange, market.stored))
    return next(iter(_read(StoredOpenInterest, exchange, symbol, rows)), None)


def latest_funding(symbol: str, exchange: str) -> Operation[StoredFunding | None]:
    """The newest funding rate; None if there is none."""
    market = yield from located(exchange, symbol)
    rows = yield Query("latest_funding", (exchange, market.stored))
    return next(iter(_read(StoredFunding, exchange, symbol, rows)), None)


def located(exchange: str, symbol: str) -> Operation[Market]:
    """The market with this name. Raises MarketUnknown."""
    markets = yield from _markets([(exchange, symbol)])
    return markets[exchange, symbol]


_RANGES: Mapping[type, str] = {
    StoredCandle: "candles",
    StoredTrade: "trades",
    StoredOpenInterest: "open_interest",
    StoredFunding: "funding",
}


def between(kind: type, market: Market, start: datetime, end: datetime, prefer: CandleSource = "trades") -> Query:
    """The query of a market's rows of one kind whose time is from `start` to `end`, both included, the oldest first."""
    values = market.exchange, market.stored, in_utc(start), in_utc(end)
    return Query(_RANGES[kind], (*values, prefer) if kind is StoredCandle else values)


def _upsert(
    name: str, records: Sequence[RecordT], values: Callable[[RecordT, Market], tuple[object, ...]]
) -> Operation[int]:
    """Send all records in one statement. A statement without records is not sent."""
    if not records:
        return 0
    markets = yield from _markets((record.exchange, record.symbol) for record in records)
    rows = []
    for record in records:
        market = markets[record.exchange, record.symbol]
        rows.append((record.exchange, market.stored, to_datetime(record.time), *values(record, market)))
    (row,) = yield Query(name, tuple(list(column) for column in zip(*rows, strict=True)))
    return int(row["stored"])


def _markets(wanted: Iterable[tuple[str, str]]) -> Operation[dict[tuple[str, str], Market]]:
    """The markets with these exchanges and names. Asked anew at each call, in the caller's transaction: symbols may
    have been renamed."""
    exchanges, names = zip(*sorted(set(wanted)), strict=True)
    rows = yield Query("names", (list(exchanges), list(names)))
    return {(row["exchange"], row["name"]): market_of(row) for row in rows}


def _read(kind: Callable[..., StoredT], exchange: str, symbol: str, rows: Iterable[Row]) -> list[StoredT]:
    return [
        kind(
            exchange,
            symbol,
            **{name: in_utc(value) if isinstance(value, datetime) else value for name, value in row.items()},
        )
        for row in rows
    ]


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
