"""On TimescaleDB a trade that comes months late reaches its candles by the policies alone, as it does on PostgreSQL."""

from __future__ import annotations

from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate
from tests.support.postgres import DatabaseForTest, default_config

_INSERT = (
    "INSERT INTO trades (time, exchange, symbol, trade_id, seq, side, price, quantity, received_at) "
    "VALUES (now() - $1::interval, 'x', 'A/B', $2, 1, 'buy', 1.5, 2, now())"
)


async def run_policies(db: Database) -> None:
    jobs = await db.fetch(
        "SELECT job_id FROM timescaledb_information.jobs "
        "WHERE proc_name = 'policy_refresh_continuous_aggregate' ORDER BY job_id"
    )
    for job in jobs:
        await db.script(f"CALL run_job({job['job_id']})")


async def test_a_trade_months_late_reaches_its_candles(timescaledb_database: DatabaseForTest) -> None:
    db = await timescaledb_database.connect()
    await migrate(db, default_config(retention={"trades_days": 0, "candles_1m_days": 0}))
    await db.script(_INSERT.replace("$1", "'10 minutes'").replace("$2", "'1'"))
    await run_policies(db)
    for days, number in ((60, 2), (300, 3), (700, 4)):
        await db.script(_INSERT.replace("$1", f"'{days} days'").replace("$2", f"'{number}'"))
    await run_policies(db)
    for relation in ("candles_1m", "candles_1h", "candles_1d"):
        assert await db.fetchval(f"SELECT sum(trades_count) FROM {relation}") == 4, relation
    await db.close()
