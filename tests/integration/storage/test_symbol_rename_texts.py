"""The conversion of symbols that other programs wrote into tables of packs: renamed where a market is known."""

from __future__ import annotations

import pytest

from ingestd.config.models import Config
from ingestd.status import MarketInfo
from ingestd.storage import symbols
from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate, plan
from ingestd.venues.market_names import Names
from tests.support.postgres import DatabaseForTest, default_config

PACKS = ["kairos", "wolfinch", "fks", "platform", "ingestion"]
LISTED = [
    MarketInfo("binance", "BTC/USDT", "BTCUSDT", "BTC", "USDT", "spot", True),
    MarketInfo("binance", "ETH/USDT", "ETHUSDT", "ETH", "USDT", "spot", True),
    # BTCUSDT on a venue without spot, so the text alone does not say which market it means.
    MarketInfo("binanceusdm", "BTC/USDT:USDT", "BTCUSDT", "BTC", "USDT", "swap", True, linear=True),
]
ROWS = """
INSERT INTO fks.accounts (id, name, exchange) VALUES (1, 'one', 'binance'), (2, 'two', 'binanceusdm'),
    (3, 'three', 'nobody');
INSERT INTO fks.trades (time, account_id, symbol, trade_type, quantity, price)
SELECT now() - days * INTERVAL '20 days', account, symbol, 'BUY', 1, 1
FROM (VALUES (1, 'BTCUSDT'), (2, 'BTCUSDT'), (3, 'BTCUSDT'), (1, 'of nobody')) AS made (account, symbol),
     generate_series(0, 1) AS days;
INSERT INTO fks.positions (account_id, symbol, side, quantity, entry_price)
VALUES (1, 'BTCUSDT', 'LONG', 1, 1), (2, 'BTCUSDT', 'LONG', 1, 1), (3, 'BTCUSDT', 'LONG', 1, 1);
INSERT INTO fks.sync_status (symbol, timeframe)
VALUES ('BTCUSDT', '1m'), ('BTCUSDT', '1h'), ('BTC-USDT', '1h'), ('ETHUSDT', '1m'), ('of nobody', '1m');
INSERT INTO platform.executed_orders (time, order_id, symbol, exchange, filled_quantity, status)
VALUES (now(), 'a', 'BTCUSDT', 'binance', 1, 'FILLED'), (now(), 'b', 'BTCUSDT', 'binanceusdm', 1, 'FILLED'),
       (now(), 'c', 'BTCUSDT', NULL, 1, 'FILLED'), (now(), 'd', 'ETHUSDT', NULL, 1, 'FILLED');
INSERT INTO platform.positions (position_id, symbol, exchange, entry_price)
VALUES ('a', 'BTCUSDT', 'binance', 1), ('b', 'BTCUSDT', 'binanceusdm', 1), ('c', 'BTCUSDT', NULL, 1),
       ('d', 'ETHUSDT', NULL, 1);
INSERT INTO analytics.performance_metrics (timestamp, strategy, symbol)
VALUES (now(), 's', 'BTCUSDT'), (now(), 's', 'ETHUSDT'), (now(), 's', 'of nobody');
INSERT INTO kairos.orders (id, symbol, exchange, status)
VALUES (gen_random_uuid(), 'BTCUSDT', 'binance', 'FILLED'), (gen_random_uuid(), 'BTCUSDT', 'binanceusdm', 'FILLED'),
       (gen_random_uuid(), 'ETHUSDT', 'unknown', 'FILLED'), (gen_random_uuid(), 'BTCUSDT', 'unknown', 'FILLED');
"""
# The contract is BTC-USDT there too, as its venue has no spot.
DASHED = {
    "fks.trades": ["BTC-USDT"] * 4 + ["BTCUSDT"] * 2 + ["of nobody"] * 2,
    "fks.positions": ["BTC-USDT"] * 2 + ["BTCUSDT"],
    "fks.sync_status": ["BTC-USDT"] * 2 + ["ETH-USDT", "of nobody"],
    "platform.executed_orders": ["BTC-USDT"] * 3 + ["ETH-USDT"],
    "platform.positions": ["BTC-USDT"] * 3 + ["ETH-USDT"],
    "analytics.performance_metrics": ["BTC-USDT", "ETH-USDT", "of nobody"],
    "kairos.orders": ["BTC-USDT"] * 3 + ["ETH-USDT"],
}
UNIFIED = {
    # Whether an order of no exchange means the spot market or the contract, nobody can say.
    "fks.trades": ["BTC/USDT"] * 2 + ["BTC/USDT:USDT"] * 2 + ["BTCUSDT"] * 2 + ["of nobody"] * 2,
    "fks.positions": ["BTC/USDT", "BTC/USDT:USDT", "BTCUSDT"],
    "fks.sync_status": ["BTC/USDT"] * 2 + ["ETH/USDT", "of nobody"],
    "platform.executed_orders": ["BTC-USDT", "BTC/USDT", "BTC/USDT:USDT", "ETH/USDT"],
    "platform.positions": ["BTC-USDT", "BTC/USDT", "BTC/USDT:USDT", "ETH/USDT"],
    "analytics.performance_metrics": ["BTC-USDT", "ETH/USDT", "of nobody"],
    "kairos.orders": ["BTC-USDT", "BTC/USDT", "BTC/USDT:USDT", "ETH/USDT"],
}


def config_of(style: str) -> Config:
    return default_config(
        database={"dsn": "postgresql://x/y", "symbol_style": style, "packs": PACKS},
        feeds=[{"exchange": "binance", "symbols": ["BTC/USDT"]}],
        packs={"fks": {"exchange": "binance"}, "ingestion": {"exchange": "binance"}},
    )


async def stored(db: Database) -> dict[str, list[str]]:
    return {
        table: [row["symbol"] for row in await db.fetch(f'SELECT symbol FROM {table} ORDER BY symbol COLLATE "C"')]
        for table in DASHED
    }


@pytest.mark.one_server
async def test_what_applications_wrote_into_packs_is_renamed(database: DatabaseForTest) -> None:
    db = await database.connect(application_name="test", names=Names("compact"))
    await migrate(db, config_of("compact"), rename_symbols=True)
    await symbols.store_lists(db, LISTED)
    await db.script(ROWS)
    db.names = Names("dash")
    told = await plan(db, config_of("dash"), rename_symbols=True)
    assert {f"--   {table}, of known markets" for table in DASHED} <= set(told.splitlines())
    await migrate(db, config_of("dash"), rename_symbols=True)
    assert await stored(db) == DASHED
    db.names = Names()
    await migrate(db, config_of("unified"), rename_symbols=True)
    assert await stored(db) == UNIFIED
    await db.close()
