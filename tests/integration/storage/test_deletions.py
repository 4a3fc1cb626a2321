"""`ingestd migrate` asks before a retention deletes rows that are there, with their number."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from ingestd import cli
from ingestd.config.models import Config
from ingestd.ops.metrics import Metrics
from ingestd.storage import deletions, retention, rollups
from ingestd.storage import engine as engines
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate
from ingestd.storage.upkeep import Upkeep
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


async def test_what_became_too_old_today_is_counted_and_not_asked_about(postgres_database: DatabaseForTest) -> None:
    config = default_config(retention={"trades_days": 30})
    db = await postgres_database.connect()
    add = (
        "INSERT INTO trades (time, exchange, symbol, trade_id, seq, price, quantity, received_at)"
        " SELECT now() - INTERVAL '30 days 12 hours', 'a', 'B', 'late', 1, 1, 1, now()"
    )
    await db.execute(add)
    assert await deletions.find(db, config) == []
    await store_trades(db)
    doomed = [str(deletion) for deletion in await deletions.find(db, config) if deletion.relation == "trades"]
    assert doomed == [f"trades: {OLD_TRADES + 1} rows older than 30 days"]
    await db.close()


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
    planned = await run("--dry-run")
    assert planned.exit_code == 0
    assert f"-- deleted by the configured retention: trades: {OLD_TRADES} rows older than 30 days" in planned.output
    assert await db.fetchval("SELECT count(*) FROM trades") == OLD_TRADES + 3
    for words, answer in (((), "y\n"), (("--yes",), None)):
        assert (await run(*words, answer=answer)).exit_code == 0
    await db.close()


def with_packs(*packs: str, **sections: Any) -> Config:
    database = {"dsn": "postgresql://unused", "packs": list(packs)}
    return default_config(database=database, packs={"fks": {"exchange": "a"}}, **sections)


async def store_in_packs(db: Database) -> None:
    """In each table: rows of 100 days ago, and rows of today; of sessions and positions also some that must stay."""
    await db.script(
        "INSERT INTO platform.user_sessions (session_token, created_at, expires_at) VALUES"
        " ('old', now() - INTERVAL '100 days', now() - INTERVAL '99 days'),"
        " ('alive', now() - INTERVAL '100 days', now() + INTERVAL '1 day'), ('new', now(), now() + INTERVAL '1 day');"
        "INSERT INTO platform.positions (position_id, symbol, entry_price, opened_at, closed_at) VALUES"
        " ('old', 'B', 1, now() - INTERVAL '101 days', now() - INTERVAL '100 days'),"
        " ('open', 'B', 1, now() - INTERVAL '101 days', NULL), ('new', 'B', 1, now(), now());"
        "INSERT INTO platform.risk_events (event_type, severity, triggered_at) VALUES"
        " ('a', 'b', now() - INTERVAL '100 days'), ('a', 'b', now());"
        "INSERT INTO fks.accounts (id, name) VALUES (1, 'one');"
        "INSERT INTO fks.trades (time, account_id, symbol, trade_type, quantity, price) VALUES"
        " (now() - INTERVAL '100 days', 1, 'B', 'BUY', 1, 1), (now(), 1, 'B', 'BUY', 1, 1)"
    )


async def test_rows_of_packs_go_when_the_configuration_says_so_and_are_asked_about(database: DatabaseForTest) -> None:
    db = await database.connect()
    engine = await engines.detect(db)
    await migrate(db, with_packs("platform", "fks"))
    await store_in_packs(db)
    keys = ("platform_user_sessions_days", "platform_positions_days", "platform_risk_events_days", "fks_trades_days")
    short = dict.fromkeys(keys, 30)
    assert await deletions.find(db, with_packs("platform", "fks")) == []  # 0: for ever
    assert await deletions.find(db, with_packs(retention=short)) == []  # nobody deletes from packs that are not named
    config = with_packs("platform", "fks", retention=short)
    assert sorted(map(str, await deletions.find(db, config))) == [
        "fks.trades: 1 row older than 30 days",
        "platform.positions: 1 row older than 30 days",
        "platform.risk_events: 1 row older than 30 days",
        "platform.user_sessions: 1 row older than 30 days",
    ]
    assert await retention.purge(db, engine, with_packs("platform", "fks")) == {}
    of_chunks = {} if engine.has_hypertables else {"fks.trades": 1}  # a dropped chunk counts no rows
    assert await retention.purge(db, engine, config) == of_chunks | dict.fromkeys(
        ("platform.positions", "platform.risk_events", "platform.user_sessions"), 1
    )
    left = await db.fetch(
        "SELECT session_token AS what FROM platform.user_sessions UNION ALL SELECT position_id FROM platform.positions"
        " UNION ALL SELECT event_type FROM platform.risk_events UNION ALL SELECT symbol FROM fks.trades"
    )
    assert sorted(row["what"] for row in left) == ["B", "a", "alive", "new", "new", "open"]
    missing = with_packs("wolfinch", retention={"analytics_performance_metrics_days": 1})
    assert await retention.purge(db, engine, missing) == {}  # the pack is not applied yet
    await db.close()


async def test_the_server_refreshes_as_the_configuration_says(timescaledb_database: DatabaseForTest) -> None:
    db = await timescaledb_database.connect()
    await migrate(db, with_packs("fks"))
    rule = {"back_days": 5, "settled_minutes": 30, "every_minutes": 90}
    changed = with_packs("fks", refresh={"candles_1h": rule, "fks_daily_account_performance": rule})
    assert await migrate(db, changed) == [
        "candles_1h: refreshed every 01:30:00, back to 5 days, up to 00:30:00 ago",
        "fks.daily_account_performance: refreshed every 01:30:00, back to 5 days, up to 00:30:00 ago",
    ]
    assert await migrate(db, changed) == []
    offsets = await db.fetch(
        "SELECT hypertable_schema || '.' || hypertable_name AS name, config->>'start_offset' AS start,"
        " config->>'end_offset' AS until, schedule_interval::text AS every FROM timescaledb_information.jobs"
        " WHERE proc_name = 'policy_refresh_continuous_aggregate'"
        " AND hypertable_name IN ('candles_1h', 'daily_account_performance') ORDER BY 1"
    )
    assert [tuple(row.values()) for row in offsets] == [
        ("fks.daily_account_performance", "5 days", "00:30:00", "01:30:00"),
        ("public.candles_1h", "5 days", "00:30:00", "01:30:00"),
    ]
    assert len(await migrate(db, with_packs("fks"))) == 2  # and back
    await db.close()


async def test_a_daemon_deletes_by_no_retention_that_migrate_did_not_set(postgres_database: DatabaseForTest) -> None:
    """On plain PostgreSQL the daemon itself deletes trades; a profile must not cost rows before somebody was asked."""
    db = await postgres_database.connect()
    await migrate(db, default_config(retention={"trades_days": 0}))
    await store_trades(db)

    async def left_after_a_turn(days: int) -> tuple[int, list[str]]:
        config = default_config(database={"dsn": postgres_database.dsn}, retention={"trades_days": days})
        upkeep = Upkeep(DatabaseAccess(config), config, list, Metrics())
        with capture_logs() as logs:
            await upkeep.turn()
            assert upkeep.problems() == []
            await upkeep.close(within_s=20)
        told = [str(line["shorter"]) for line in logs if line["event"] == "retention_is_not_agreed"]
        return await db.fetchval("SELECT count(*) FROM trades"), told

    assert await left_after_a_turn(30) == (OLD_TRADES + 3, ["{'trades_days': '30 days, not for ever'}"])
    await migrate(db, default_config(retention={"trades_days": 120}))
    assert await left_after_a_turn(30) == (OLD_TRADES + 3, ["{'trades_days': '30 days, not 120'}"])
    await migrate(db, default_config(), keep_policies=True)
    assert await left_after_a_turn(365) == (OLD_TRADES + 3, [])
    await migrate(db, default_config(retention={"trades_days": 30}))
    assert await left_after_a_turn(30) == (3, [])
    await db.execute("DELETE FROM ingestd_settings WHERE name = 'retention'")  # as an older program left it
    assert await left_after_a_turn(1) == (3, [])
    await db.close()
