"""Indexes by time alone: made while others store, found half made and made again, dropped when no longer named."""

from __future__ import annotations

import asyncio

import pytest

from ingestd import failpoints
from ingestd.config.models import Config
from ingestd.storage import migrate
from ingestd.storage.database import Database
from tests.support.postgres import DatabaseForTest, default_config

DAYS = 3


def named(*tables: str) -> Config:
    return default_config(database={"dsn": "postgresql://unused", "time_indexes": list(tables)})


async def fill(db: Database, engine: str) -> None:
    await db.execute(
        "INSERT INTO trades (time, exchange, symbol, trade_id, seq, price, quantity, received_at)"
        " SELECT now() - n * INTERVAL '1 day' / 100, 'a', 'B', n::text, n, 1, 1, now()"
        " FROM generate_series(1, $1) AS n",
        DAYS * 100,
    )
    if engine == "timescaledb":
        await db.fetch("SELECT compress_chunk(c)::text FROM show_chunks('trades', older_than => INTERVAL '1 day') AS c")


async def valid_indexes(db: Database) -> dict[str, bool]:
    """By table or chunk: whether its index by time alone is valid."""
    rows = await db.fetch(
        "SELECT indrelid::regclass::text AS part, indisvalid AS valid FROM pg_index"
        " WHERE pg_get_indexdef(indexrelid) ~ 'USING btree \\(\"time\" DESC\\)'"
        " AND indexrelid::regclass::text ~ 'by_time'"
    )
    return {row["part"]: row["valid"] for row in rows}


async def parts(db: Database, engine: str) -> set[str]:
    if engine == "postgres":
        return {"trades"}
    return {"trades", *(row["chunk"] for row in await db.fetch("SELECT show_chunks('trades')::text AS chunk"))}


async def test_made_while_others_store_and_dropped_again(database: DatabaseForTest) -> None:
    db, other = await database.connect(), await database.connect(call_timeout_s=30)
    await fill(db, database.engine)
    assert "trades_by_time" in await migrate.plan(db, named("trades"))
    assert await valid_indexes(db) == {}
    inserted = 0

    async def store() -> None:
        nonlocal inserted
        while True:
            await other.execute(
                "INSERT INTO trades (time, exchange, symbol, trade_id, seq, price, quantity, received_at)"
                " VALUES (now(), 'a', 'new', $1, 1, 1, 1, now())",
                str(inserted),
            )
            inserted += 1

    task = asyncio.create_task(store())
    assert await migrate.migrate(db, named("trades")) == ["made the index trades_by_time of trades"]
    assert await migrate.migrate(db, named("trades")) == []
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
    assert inserted
    assert await valid_indexes(db) == dict.fromkeys(await parts(db, database.engine), True)
    later = "INSERT INTO trades (time, exchange, symbol, trade_id, seq, price, quantity, received_at)"
    await db.execute(f"{later} VALUES (now() + INTERVAL '3 days', 'a', 'B', 'x', 1, 1, 1, now())")
    assert await valid_indexes(db) == dict.fromkeys(await parts(db, database.engine), True)
    assert await migrate.migrate(db, named()) == ["dropped the index trades_by_time of trades"]
    assert await valid_indexes(db) == {}
    await db.close()
    other.terminate()


@pytest.mark.parametrize("broken", ["a part", "all"])
async def test_what_an_interruption_left_is_made_again(database: DatabaseForTest, broken: str) -> None:
    db = await database.connect()
    await fill(db, database.engine)
    failpoints.arm({failpoints.VARIABLE: "migrate.indexed:1:raise", failpoints.TEST_FLAG: "1"})
    with pytest.raises(OSError, match=r"migrate\.indexed"):
        await migrate.migrate(db, named("trades"))
    failpoints.arm({})
    if database.engine == "timescaledb":
        assert await valid_indexes(db) == {"trades": True}  # the chunks have none yet
        if broken == "a part":
            await migrate.migrate(db, named("trades"))
    which = "indrelid <> 'trades'::regclass" if database.engine == "timescaledb" and broken == "a part" else "true"
    changed = await db.execute(
        "UPDATE pg_index SET indisvalid = false"  # of the two above
        f" WHERE indexrelid::regclass::text ~ 'by_time' AND {which}"
    )
    assert changed
    assert await migrate.migrate(db, named("trades")) == ["made the index trades_by_time of trades"]
    assert await valid_indexes(db) == dict.fromkeys(await parts(db, database.engine), True)
    await db.close()
