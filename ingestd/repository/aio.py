"""The repository on asyncpg: the functions of `ingestd.repository`, awaited, with a `Database` in place of the session.

    from ingestd.repository import CandlePayload, aio

    async with aio.session_scope() as db:  # the database of DATABASE_URL
        await aio.upsert_candles(db, [CandlePayload(...)])

What writes needs an open transaction: that of `session_scope`, or of `db.transaction()`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from ingestd.repository import arrow, operations
from ingestd.repository.addresses import APPLICATION_NAME, dsn_of
from ingestd.repository.operations import Operation, ResultT
from ingestd.repository.payloads import (
    DEFAULT_EXCHANGE,
    CandlePayload,
    CandleSource,
    FundingPayload,
    OpenInterestPayload,
    StoredCandle,
    StoredFunding,
    StoredOpenInterest,
    StoredTrade,
    TradePayload,
)
from ingestd.storage.database import Database


async def connect(
    dsn: str | None = None, *, connect_timeout_s: float = 5.0, call_timeout_s: float | None = 30.0
) -> Database:
    """Open a connection, which the caller closes. `dsn` None: that of the variable DATABASE_URL.

    `call_timeout_s` bounds each statement; None: no limit.
    """
    return await Database.connect(
        dsn_of(dsn),
        dsn_from="DATABASE_URL" if dsn is None else "dsn",
        application_name=APPLICATION_NAME,
        connect_timeout_s=connect_timeout_s,
        call_timeout_s=call_timeout_s,
    )


@asynccontextmanager
async def session_scope(dsn: str | None = None, *, call_timeout_s: float | None = 30.0) -> AsyncIterator[Database]:
    """A connection with a transaction: committed when the block ends, rolled back when it raises."""
    db = await connect(dsn, call_timeout_s=call_timeout_s)
    try:
        async with db.transaction():
            yield db
    finally:
        await db.close()


async def upsert_candles(db: Database, payloads: Iterable[CandlePayload]) -> int:
    """Store candles of one minute in `ohlcv_data`; a candle that is there is replaced. Return how many changed.

    As every function here that writes: it needs an open transaction and does not commit it.
    """
    return await _write(db, operations.upsert_candles(payloads))


async def upsert_trades(db: Database, payloads: Iterable[TradePayload]) -> int:
    """Store trades; one that is there stays as it is. Return how many are new."""
    return await _write(db, operations.upsert_trades(payloads))


async def upsert_open_interest(db: Database, payloads: Iterable[OpenInterestPayload]) -> int:
    """Store open interest; a snapshot that is there is replaced. Return how many changed."""
    return await _write(db, operations.upsert_open_interest(payloads))


async def upsert_funding(db: Database, payloads: Iterable[FundingPayload]) -> int:
    """Store funding rates; one that is there is replaced. Return how many changed."""
    return await _write(db, operations.upsert_funding(payloads))


async def fetch_candles(
    db: Database,
    symbol: str,
    start: datetime,
    end: datetime,
    *,
    exchange: str = DEFAULT_EXCHANGE,
    prefer: CandleSource = "trades",
) -> list[StoredCandle]:
    """Candles of one minute that begin from `start` to `end`, both included, the oldest first."""
    return await _run(db, operations.fetch_candles(symbol, start, end, exchange, prefer))


async def recent_trades(
    db: Database, symbol: str, limit: int = 100, *, exchange: str = DEFAULT_EXCHANGE
) -> list[StoredTrade]:
    """The last trades, the newest first."""
    return await _run(db, operations.recent_trades(symbol, limit, exchange))


async def latest_open_interest(
    db: Database, symbol: str, *, exchange: str = DEFAULT_EXCHANGE
) -> StoredOpenInterest | None:
    """The newest open interest of a market; None if there is none."""
    return await _run(db, operations.latest_open_interest(symbol, exchange))


async def latest_funding(db: Database, symbol: str, *, exchange: str = DEFAULT_EXCHANGE) -> StoredFunding | None:
    """The newest funding rate of a market; None if there is none."""
    return await _run(db, operations.latest_funding(symbol, exchange))


async def arrow_candles(
    db: Database,
    symbol: str,
    start: datetime,
    end: datetime,
    *,
    exchange: str = DEFAULT_EXCHANGE,
    prefer: CandleSource = "trades",
) -> Any:
    """As `fetch_candles`, as a `pyarrow.Table` with exact decimals. Needs the extra `arrow`."""
    return await _arrow(db, StoredCandle, symbol, start, end, exchange, prefer)


async def arrow_trades(
    db: Database, symbol: str, start: datetime, end: datetime, *, exchange: str = DEFAULT_EXCHANGE
) -> Any:
    """The trades from `start` to `end`, both included, the oldest first, as `arrow_candles` gives candles."""
    return await _arrow(db, StoredTrade, symbol, start, end, exchange)


async def arrow_open_interest(
    db: Database, symbol: str, start: datetime, end: datetime, *, exchange: str = DEFAULT_EXCHANGE
) -> Any:
    """The open interest from `start` to `end`, both included, the oldest first, as `arrow_candles` gives candles."""
    return await _arrow(db, StoredOpenInterest, symbol, start, end, exchange)


async def arrow_funding(
    db: Database, symbol: str, start: datetime, end: datetime, *, exchange: str = DEFAULT_EXCHANGE
) -> Any:
    """The funding rates from `start` to `end`, both included, the oldest first, as `arrow_candles` gives candles."""
    return await _arrow(db, StoredFunding, symbol, start, end, exchange)


async def _write(db: Database, operation: Operation[ResultT]) -> ResultT:
    if not db.in_transaction:
        operation.close()
        raise RuntimeError("no transaction is open: use aio.session_scope(), or `async with db.transaction()`")
    return await _run(db, operation)


async def _run(db: Database, operation: Operation[ResultT]) -> ResultT:
    """Send each query of an operation."""
    try:
        query = next(operation)
        while True:
            query = operation.send(await db.fetch(query.sql, *query.values))
    except StopIteration as end:
        value: ResultT = end.value
        return value


async def _arrow(
    db: Database,
    kind: type,
    symbol: str,
    start: datetime,
    end: datetime,
    exchange: str,
    prefer: CandleSource = "trades",
) -> Any:
    market = await _run(db, operations.located(exchange, symbol))
    query = operations.between(kind, market, start, end, prefer)
    text = await db.copy_csv(arrow.as_texts(kind, query.sql), *query.values)
    return await asyncio.to_thread(arrow.table, kind, exchange, symbol, text)
