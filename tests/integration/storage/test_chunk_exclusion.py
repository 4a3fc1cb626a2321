"""A read of all symbols in a short time touches the chunks of that time, without an index by time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingestd.storage.database import Database
from tests.support.postgres import DatabaseForTest


@pytest.mark.parametrize("table", ["market_ticks", "trades", "order_book", "oi_snapshots", "funding", "ohlcv_data"])
async def test_without_one_only_the_chunks_of_the_time_are_read(
    timescaledb_database: DatabaseForTest, table: str
) -> None:
    db = await timescaledb_database.connect()
    try:
        await a_row_each_hundred_days(db, table)
        plan = json.loads(
            await db.fetchval(
                f"EXPLAIN (FORMAT json) SELECT * FROM {table} WHERE time >= '2026-04-01' AND time < '2026-04-20'"
            )
        )
        read = set(relations(plan[0]["Plan"]))
        chunks = await db.fetch(
            "SELECT chunk_name::text AS name, tstzrange(range_start, range_end) @> '2026-04-11 12:00Z'::timestamptz"
            " AS of_the_time FROM timescaledb_information.chunks WHERE hypertable_name = $1",
            table,
        )
        assert len(chunks) == 4
        assert read == {chunk["name"] for chunk in chunks if chunk["of_the_time"]}
    finally:
        await db.close()


async def a_row_each_hundred_days(db: Database, table: str) -> None:
    """On 2026-01-01, 2026-04-11 and so on: each in a chunk of its own."""
    columns = await db.fetch(
        "SELECT column_name::text AS name, data_type FROM information_schema.columns WHERE table_schema = 'public'"
        " AND table_name = $1 AND is_nullable = 'NO' AND column_default IS NULL AND column_name <> 'time'",
        table,
    )
    samples = {"text": "'BTC'", "jsonb": "'[]'::jsonb", "boolean": "true", "timestamp with time zone": "now()"}
    names = ", ".join(column["name"] for column in columns)
    values = ", ".join(samples.get(column["data_type"], "1") for column in columns)
    extra = (", open_interest", ", 1") if table == "oi_snapshots" else ("", "")
    await db.execute(
        f"INSERT INTO {table} (time, {names}{extra[0]})"
        f" SELECT TIMESTAMPTZ '2026-01-01 12:00Z' + n * INTERVAL '100 days', {values}{extra[1]}"
        " FROM generate_series(0, 3) AS n"
    )


def relations(node: dict[str, Any]) -> list[str]:
    own = [node["Relation Name"]] if "Relation Name" in node else []
    return own + [name for part in node.get("Plans", ()) for name in relations(part)]
