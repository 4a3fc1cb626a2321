"""Stores and reads candles, trades, open interest and funding from other programs, in transactions of theirs.

    from ingestd.repository import CandlePayload, fetch_candles, session_scope, upsert_candles

    with session_scope() as session:  # the database of DATABASE_URL
        upsert_candles(session, [CandlePayload(symbol="BTCUSDT", bucket_start=minute, open="64000.12", ...)])
        candles = fetch_candles(session, symbol="BTCUSDT", start=minute, end=minute)

The functions here take any SQLAlchemy `Session` on psycopg; those of `ingestd.repository.aio` do the same on asyncpg.
None of them commits. `arrow_candles` and its like read into Arrow tables, from which polars and pandas are made.

In: payloads, and a session of the caller.
Out: rows of `ohlcv_data`, `trades`, `oi_snapshots` and `funding`, under the symbols of the database's style.
"""

from ingestd.repository.payloads import (
    DEFAULT_EXCHANGE,
    CandlePayload,
    FundingPayload,
    OpenInterestPayload,
    StoredCandle,
    StoredFunding,
    StoredOpenInterest,
    StoredTrade,
    TradePayload,
)
from ingestd.repository.session import (
    arrow_candles,
    arrow_funding,
    arrow_open_interest,
    arrow_trades,
    dispose_engines,
    fetch_candles,
    latest_funding,
    latest_open_interest,
    make_engine,
    recent_trades,
    session_scope,
    upsert_candles,
    upsert_funding,
    upsert_open_interest,
    upsert_trades,
)

__all__ = [
    "DEFAULT_EXCHANGE",
    "CandlePayload",
    "FundingPayload",
    "OpenInterestPayload",
    "StoredCandle",
    "StoredFunding",
    "StoredOpenInterest",
    "StoredTrade",
    "TradePayload",
    "arrow_candles",
    "arrow_funding",
    "arrow_open_interest",
    "arrow_trades",
    "dispose_engines",
    "fetch_candles",
    "latest_funding",
    "latest_open_interest",
    "make_engine",
    "recent_trades",
    "session_scope",
    "upsert_candles",
    "upsert_funding",
    "upsert_open_interest",
    "upsert_trades",
]
