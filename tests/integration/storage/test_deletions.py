"""`ingestd migrate` asks before a retention deletes rows that are there, with their number."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ingestd import cli
from ingestd.storage import deletions, rollups
from ingestd.storage import engine as engines
from ingestd.storage.database import Database
from tests.support.postgres import DatabaseForTest, default_config

OLD_DAYS, OLD_TRADES = 90, 7


async def store_trades(db: Database) -> None:
    """Seven old trades and three of today."""
    await db.execute(
        "INSERT INTO trades (time, exchange, symbol, trade_id, seq, price, quantity, received_at)"
        " SELECT now() - CASE WHEN n <= $1 THEN $2 ELSE 0 END * INTERVAL '1 day', 'a', 'B', n::text, n, 1, 1, now()"
        " FROM generate_series(1, $1 + 3) AS n",
        OLD_TRADES,
        OLD_DAYS,
    )
    await rollups.refresh(db, await engines.detect(db))


@pytest.mark.parametrize(("days", "found"), [(OLD_DAYS + 30, False), (OLD_DAYS - 30, True), (0, False)])
async def test_what_is_older_is_counted(db: Database, days: int, found: bool) -> None:
    await store_trades(db)
    doomed = await deletions.find(db, default_config(retention={"trades_days": days}))
    assert [str(deletion) for deletion in doomed if deletion.relation == "trades"] == (
        [f"trades: {OLD_TRADES} rows older than {days} days"] if found else []
    )


async def test_nothing_of_an_empty_server(empty_database: DatabaseForTest) -> None:
    connection = await empty_database.connect()
    assert await deletions.find(connection, default_config(retention={"trades_days": 2})) == []
    await connection.close()


async def test_the_command_asks_once(database: DatabaseForTest, tmp_path: Path) -> None:
    db = await database.connect()
    await store_trades(db)
    file = tmp_path / "ingestd.toml"
    (tmp_path / "profile.toml").write_text("[retention]\ntrades_days = 30\n", encoding="utf-8")
    file.write_text(f'include = ["profile.toml"]\n[database]\ndsn = "{database.dsn}"\n', encoding="utf-8")

    async def run(*words: str, answer: str | None = None) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, cli.cli, ["migrate", "-c", str(file), *words], answer)

    for answer in (None, "n\n"):  # nobody there, and somebody who says no
        refused = await run(answer=answer)
        assert refused.exit_code == 1, refused.output
        assert f"trades: {OLD_TRADES} rows older than 30 days" in refused.output
    assert "trades: dropped" not in refused.output
    assert await db.fetchval("SELECT count(*) FROM trades") == OLD_TRADES + 3
    for words, answer in (((), "y\n"), (("--yes",), None)):
        assert (await run(*words, answer=answer)).exit_code == 0
    await db.close()
