"""The real process with indicators: from stored trades and live ones to rows, to Redis and to InfluxDB."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from ingestd.lab.sim.synthetic.venue import synthetic_venue
from ingestd.storage import engine as engines
from ingestd.storage import rollups
from tests.support.daemon import running, write_config
from tests.support.influx_servers import Influx1
from tests.support.postgres import DatabaseForTest
from tests.support.redis_servers import reader

Make = Callable[..., EmbeddedValkey]


async def test_values_reach_the_database_redis_and_influxdb(
    postgres_database: DatabaseForTest, make_server: Make, influx1: Influx1, tmp_path: Path
) -> None:
    bucket = influx1.database()
    server, db = make_server(), await postgres_database.connect()
    async with synthetic_venue(symbols=1, rate=200.0) as venue:
        [symbol] = [symbol for symbol in venue.symbols if ":" not in symbol]
        now = datetime.now(UTC).replace(second=30, microsecond=0)
        await db.execute(
            "INSERT INTO trades (time, exchange, symbol, trade_id, seq, side, price, quantity, received_at)"
            " SELECT time, 'binance', $2, time::text, 1, 'buy', 7, 1, now() FROM unnest($1::timestamptz[]) AS time",
            [now - timedelta(minutes=minute) for minute in range(2, 12)],
            symbol,
        )
        await rollups.refresh(db, await engines.detect(db))
        feed = {"exchange": "binance", "symbols": [symbol], "channels": ["trades"], "url_map": venue.url_map}
        rule = {"names": ["sma_5"], "timeframes": ["1m"], "symbols": ["*/USDT"]}
        config_file = write_config(
            tmp_path,
            {
                "database": {"dsn": postgres_database.dsn},
                "redis": {"url": server.url, "symbol_style": "unified"},
                "influx": {"url": bucket.url, "bucket": bucket.name, "symbol_style": "unified"},
                "indicators": {"rules": [rule]},
                "feeds": [feed],
            },
        )
        key = f"indicator:binance:{symbol}:sma_5@1m"
        with reader(server.url) as client:
            async with running(config_file) as daemon, asyncio.timeout(60):
                while not client.exists(key):
                    await asyncio.sleep(0.05)
                value, opened_at = client.hmget(key, "value", "timestamp")
                assert 280 <= client.ttl(key) <= 300
                while not bucket.values("indicator", "value"):
                    await asyncio.sleep(0.05)
                assert await daemon.stop() == 0
    rows = await db.fetch("SELECT value::float8 AS value FROM indicators_cache WHERE symbol = $1 ORDER BY time", symbol)
    assert [row["value"] for row in rows][:10] == [None] * 4 + [7] * 6
    shown = "SELECT value::float8 FROM indicators_cache WHERE symbol = $1 AND time = $2"
    assert float(value) == await db.fetchval(shown, symbol, datetime.fromisoformat(opened_at))
    stored = await db.fetch(
        "SELECT (extract(epoch FROM time) * 1e9)::bigint AS opened, value::float8 AS value FROM indicators_cache"
        " WHERE value IS NOT NULL ORDER BY time"
    )
    points = bucket.query('SELECT "value" FROM "indicator" GROUP BY *')
    assert [(row["time"], row["value"]) for row in points] == [
        (row["opened"] + 60 * 10**9, row["value"]) for row in stored
    ]
    assert {(row["exchange"], row["symbol"], row["indicator_name"]) for row in points} == {
        ("binance", symbol, "sma_5@1m")
    }
    await db.close()
