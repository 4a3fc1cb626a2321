"""Migrations on real servers: up, down, again, and every way a database can contradict the files."""

from __future__ import annotations

from ingestd.storage import migrate
from ingestd.storage.engine import Engine

from tests.support.postgres import DatabaseForTest, default_config


async def test_up_down_up(empty_database: DatabaseForTest) -> None:
    db = await empty_database.connect()
    try:
        assert await migrate.migrate(db, default_config())
        assert await migrate.check_schema(db) is Engine(empty_database.engine)
        assert await migrate.migrate(db, default_config()) == []
        assert await migrate.down(db, 0)
        assert await migrate.migrate(db, default_config())
    finally:
        await db.close()


async def test_copy(database: DatabaseForTest) -> None:
    db = await database.connect()
    columns = ("time", "exchange", "symbol", "trade_id", "seq", "side", "price", "quantity", "received_at")
    row = b"2026-11-20 00:00:00+00\tbinance\tBTC/USDT\t%d\t1\tbuy\t1.10\t2\t2026-11-20 00:00:00+00\n"
    assert await db.copy_text("trades", columns, b"".join(row % i for i in range(100)), timeout_s=5) == 100
    assert str(await db.fetchval("SELECT price FROM trades LIMIT 1")) == "1.10"
    await db.close()
