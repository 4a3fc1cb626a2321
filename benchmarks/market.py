"""Market data of many symbols for benchmarks of reads: made on the server, stored as a daemon's would be."""

from __future__ import annotations

from ingestd.storage import engine as engines
from ingestd.storage.candles import AGGREGATES
from ingestd.storage.database import Database
from ingestd.storage.policies import HYPERTABLES

CONFIG = {
    "database": {
        "dsn": "postgresql://u@h/db",
        "packs": ["fks", "ingestion", "kairos", "platform", "wolfinch"],
        "symbol_style": "compact",
    },
    "packs": {
        "fks": {"exchange": "binance"},
        "ingestion": {"exchange": "binance"},
        "platform": {"interval": "1h"},
    },
    "feeds": [{"exchange": "binance", "symbols": ["BTC/USDT"]}],
}

# 8,000 rows a symbol: each minute of the last four days, then every quarter of an hour of 23 days.
_AGES = (
    "(SELECT n AS minutes FROM generate_series(1, 5760) AS n UNION ALL"
    " SELECT 5760 + n * 15 FROM generate_series(1, 2240) AS n) AS ages"
)
_AT = "date_trunc('minute', now()) - minutes * INTERVAL '1 minute'"
_PRICE = "60000 + (random() * 1000)::numeric(9, 2)"
_QUANTITY = "(random() * 10)::numeric(9, 5) + 0.001"
# Of exchanges: 6,000 minutes, 1,600 hours and 400 days of each symbol.
_BUCKETS = (
    "(SELECT '1m' AS timeframe, date_trunc('minute', now()) - n * INTERVAL '1 minute' AS at"
    " FROM generate_series(1, 6000) AS n UNION ALL"
    " SELECT '1h', date_trunc('hour', now()) - n * INTERVAL '1 hour' FROM generate_series(1, 1600) AS n UNION ALL"
    " SELECT '1d', date_trunc('day', now(), 'UTC') - n * INTERVAL '24 hours' FROM generate_series(1, 400) AS n) AS at"
)
_ROWS = {
    "trades (time, exchange, symbol, trade_id, seq, side, price, quantity, received_at)": (
        f"{_AT}, 'binance', symbol, minutes::text, -minutes, CASE minutes % 2 WHEN 0 THEN 'buy' ELSE 'sell' END,"
        f" {_PRICE}, {_QUANTITY}, {_AT} FROM {_AGES}"
    ),
    "market_ticks (time, exchange, symbol, bid_price, bid_volume, ask_price, ask_volume, received_at)": (
        f"{_AT}, 'binance', symbol, {_PRICE}, {_QUANTITY}, 1000 + {_PRICE}, {_QUANTITY}, {_AT} FROM {_AGES}"
    ),
    "order_book (time, exchange, symbol, bids, asks, sequence, valid, received_at)": (
        f"{_AT}, 'binance', symbol, jsonb_build_array(jsonb_build_object('price', {_PRICE}, 'amount', 1)),"
        f" jsonb_build_array(jsonb_build_object('price', 1000 + {_PRICE}, 'amount', 2)), minutes, true, {_AT}"
        f" FROM {_AGES}"
    ),
    "oi_snapshots (time, exchange, symbol, open_interest, open_interest_usd, received_at)": (
        f"{_AT}, 'binance', symbol, minutes, minutes * 10, {_AT} FROM {_AGES}"
    ),
    "funding (time, exchange, symbol, funding_rate, annualised_rate, received_at)": (
        "date_trunc('hour', now()) - n * INTERVAL '8 hours', 'binance', symbol, n * 0.0001, n * 0.1, now()"
        " FROM generate_series(1, 1000) AS n"
    ),
    "ohlcv_data (time, exchange, symbol, timeframe, open, high, low, close, volume, quote_volume, trades_count)": (
        f"at, 'binance', symbol, timeframe, {_PRICE}, 61000, 60000, {_PRICE}, {_QUANTITY}, 60000 * {_QUANTITY}, 7"
        f" FROM {_BUCKETS}"
    ),
    "indicators_cache (time, exchange, symbol, timeframe, indicator_name, value)": (
        "date_trunc('hour', now()) - n * INTERVAL '1 hour', 'binance', symbol, '1h', 'sma_20@1h', n"
        " FROM generate_series(1, 2000) AS n"
    ),
    "symbols (exchange, symbol, compact, dash, venue_name)": (
        "'binance', symbol || '/USDT', symbol || 'USDT', symbol || '-USDT', symbol || 'USDT' FROM (SELECT 1) AS once"
    ),
    "balances (asset, exchange, available, locked)": "symbol, 'binance', 1, 0 FROM (SELECT 1) AS once",
}
_MARKS_AT_ONCE = 100_000


async def load(db: Database, symbols: int) -> None:
    """Store 8,000 rows a symbol in each market table, and make the candles of everything but the last hour.

    On TimescaleDB chunks that began more than a day ago become columnar.
    """
    await db.execute("UPDATE ingestd_settings SET value = 'compact' WHERE name = 'symbol_style'")
    await db.execute("SELECT platform.options_changed()")  # which follows the style
    for table, rows in _ROWS.items():
        name = "symbol" if table.startswith(("symbols", "balances")) else "symbol || 'USDT' AS symbol"
        await db.execute(
            f"INSERT INTO {table} SELECT {rows}, (SELECT {name} FROM (SELECT CASE n WHEN 0 THEN 'BTC'"  # noqa: S608 - ours
            f" ELSE format('S%s', n) END AS symbol FROM generate_series(0, {symbols - 1}) AS n) AS assets) AS names"
        )
    engine = await engines.detect(db)
    if engine.has_continuous_aggregates:
        await _materialise(db)
    else:
        for function in ("ingestd_refresh_candles", "ingestd_refresh_ohlcv_1h"):
            while await db.fetchval(f"SELECT {function}({_MARKS_AT_ONCE})"):
                pass
    await db.execute("VACUUM ANALYZE")


async def _materialise(db: Database) -> None:
    for aggregate in (*(level.identifier for level in AGGREGATES), "fks.hourly_exchange_ohlcv"):
        await db.execute(f"CALL refresh_continuous_aggregate('{aggregate}', NULL, now() - INTERVAL '1 hour')")
    await db.fetch(
        "SELECT compress_chunk(format('%I.%I', chunk_schema, chunk_name)::regclass)"
        " FROM timescaledb_information.chunks WHERE hypertable_schema = 'public' AND hypertable_name = ANY ($1::text[])"
        " AND range_start < now() - INTERVAL '1 day'",
        list(HYPERTABLES),
    )
