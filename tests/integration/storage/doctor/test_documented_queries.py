"""docs/operations.md: every monitoring query runs on its engines, and the table names every check."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ingestd.errors import DatabaseError
from ingestd.storage.database import Database
from ingestd.storage.doctor.checks import CHECKS
from tests.support.postgres import DatabaseForTest

PAGE = (Path(__file__).parents[4] / "docs" / "operations.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## The doctor\n")[2].partition("\n## ")[0]
QUERIES = re.findall(r"```sql\n(.*?)```", SECTION.partition("### Monitoring queries")[2], re.DOTALL)

ROWS = (
    "INSERT INTO ohlcv_data (time, exchange, symbol, timeframe, open, high, low, close, volume)"
    " VALUES (now(), 'binance', 'BTC/USDT', '1h', 1, 2, 1, 2, 5)"
)
CHUNK = "SELECT show_chunks('ohlcv_data')::text"
FAILED = (
    "INSERT INTO _timescaledb_internal.bgw_job_stat SELECT job_id, now(), now(), now(), now(), false, 3, '0', '0',"
    " 0, 3, 0, 3, 0, 0 FROM timescaledb_information.jobs WHERE hypertable_name = 'candles_1m'"
    " AND proc_name = 'policy_refresh_continuous_aggregate'"
)
MAY_BE_EMPTY = ("job_errors",)  # no job runs on the servers of the tests


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: " ".join(re.findall(r"\w+", query)[:6]))
async def test_each_query_runs_and_returns_rows(db: Database, database: DatabaseForTest, query: str) -> None:
    is_timescaledb = database.engine == "timescaledb"
    if query.startswith("-- TimescaleDB") and not is_timescaledb:
        with pytest.raises(Exception, match="does not exist"):
            await db.fetch(query)
        return
    await db.execute(ROWS)
    if is_timescaledb:
        await db.execute(FAILED)
    rows = await db.fetch(query)
    assert rows or any(name in query for name in MAY_BE_EMPTY)
    if "saved_percent" in query:
        await db.execute(f"CALL convert_to_columnstore('{await db.fetchval(CHUNK)}')")
        (row,) = [row for row in await db.fetch(query) if row["hypertable_name"] == "ohlcv_data"]
        assert row["number_compressed_chunks"] == 1
        assert row["saved_percent"] is not None


async def test_the_index_of_a_chunk_can_be_built_again(timescaledb_database: DatabaseForTest) -> None:
    db = await timescaledb_database.connect()
    try:
        await db.execute(ROWS)
        chunk = await db.fetchval(CHUNK)
        index = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = $1::text::regclass"
        await db.execute(f"REINDEX INDEX CONCURRENTLY {await db.fetchval(index, chunk)}")
        with pytest.raises(DatabaseError, match="hypertable"):
            await db.execute(f"REINDEX INDEX CONCURRENTLY {await db.fetchval(index, 'ohlcv_data')}")
    finally:
        await db.close()


def test_there_are_as_many_queries_as_the_page_shows() -> None:
    assert len(QUERIES) == SECTION.count("```sql") > 5


def test_the_page_names_every_check() -> None:
    named = re.findall(r"^\| `([a-z ]+)` \|", SECTION, re.MULTILINE)
    assert named == ["server", *(check.name for check in CHECKS)]
