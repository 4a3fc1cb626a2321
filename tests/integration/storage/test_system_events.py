"""The audit of the system: gaps, rejected records, failovers, and what the daemon reports of itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingestd.errors import ConfigError, DatabaseError, Problem
from ingestd.lifecycle import Lifecycle
from ingestd.ops.metrics import Metrics
from ingestd.records import FeedGap, Rejected
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database
from ingestd.storage.system_events import SystemEvents
from ingestd.storage.upkeep import Upkeep
from ingestd.storage.writer.writer import prepare, write
from tests.support.postgres import DatabaseForTest, default_config
from tests.support.records import NOW_US, trade


def gap(symbol: str, cause: str = "disconnect", started_at: int = NOW_US) -> FeedGap:
    return FeedGap("binance", symbol, started_at, started_at, "trades", None, cause, None)


async def told(db: Database) -> list[tuple[str, str, Any]]:
    rows = await db.fetch("SELECT event_type, component, metadata FROM audit.system_events ORDER BY 1, message")
    return [(row["event_type"], row["component"], json.loads(row["metadata"])) for row in rows]


async def test_gaps_and_rejections_are_told_with_their_number(db: Database) -> None:
    rejected = [Rejected("binance", "BTC/USDT", NOW_US, NOW_US, "trades", "of a test", "{}") for _ in range(3)]
    begun = [gap("BTC/USDT"), gap("ETH/USDT"), gap("BTC/USDT", "restart", NOW_US + 9)]
    await write(db, prepare([], [trade(1), *begun, *rejected], db.names))
    # Stored again, a gap is the same one.
    await write(db, prepare([], [gap("BTC/USDT"), gap("ETH/USDT")], db.names))
    counts: dict[tuple[str, str, str], int] = {}
    for event_type, component, metadata in await told(db):  # a minute may have passed
        key = (event_type, component, metadata.get("cause") or metadata["reason"])
        counts[key] = counts.get(key, 0) + metadata["count"]
    assert counts == {
        ("GAP", "binance", "disconnect"): 2,
        ("GAP", "binance", "restart"): 1,
        ("REJECTED", "trades", "of a test"): 3,
    }


async def test_a_flood_of_one_kind_is_a_row_a_minute(db: Database) -> None:
    async with db.transaction():  # in one transaction the time stands still
        for number in range(50):
            await db.execute(
                "INSERT INTO rejected_records (table_name, reason, record) VALUES ('trades', $1, '{}')",
                f"reason {number % 2}",
            )
    assert [(each[2]["reason"], each[2]["count"]) for each in await told(db)] == [("reason 0", 25), ("reason 1", 25)]


async def test_a_failover_is_told_and_a_restart_is_not(db: Database) -> None:
    for holder in ("one", "one", "two"):
        epoch = await db.fetchval("SELECT max(epoch) FROM ingest_leases WHERE lease = 'desk'")
        await db.execute(
            "INSERT INTO ingest_leases (lease, epoch, holder, taken_at, renewed_at, expires_at)"
            " VALUES ('desk', $1, $2, now(), now(), now())",
            (epoch or 0) + 1,
            holder,
        )
    (only,) = await told(db)
    assert only == ("FAILOVER", "desk", {"lease": "desk", "epoch": 3, "holder": "two", "before": "one"})


async def test_what_the_daemon_reports_is_stored_once(postgres_database: DatabaseForTest) -> None:
    config = default_config(database={"dsn": postgres_database.dsn})
    life = Lifecycle(config, lambda: life.snapshot(), lambda: None)
    upkeep = Upkeep(DatabaseAccess(config), config, list, Metrics(), life.events)
    life.started("2 feeds", feeds=["binance"])
    with life.reloading(default_config(database={"dsn": "postgresql://x/y"}), applied=("feeds",)):
        pass
    life.refuse_reload(ConfigError([Problem("feeds[0]", "is wrong")]))
    life.request_stop("SIGTERM")
    life.begin_stop("closing")
    await upkeep.turn()
    await upkeep.close(within_s=5)
    db = await postgres_database.connect()
    rows = await db.fetch("SELECT event_type, severity, component, message FROM audit.system_events ORDER BY timestamp")
    assert [tuple(row.values())[:3] for row in rows] == [
        ("START", "INFO", config.instance.name),
        ("CONFIG_CHANGED", "INFO", config.instance.name),
        ("CONFIG_REFUSED", "WARNING", config.instance.name),
        ("STOP", "INFO", config.instance.name),
    ]
    assert rows[3]["message"] == "ingestd stops: SIGTERM"
    assert [each[2] for each in await told(db) if each[0] == "CONFIG_CHANGED"] == [
        {"changed": ["database"], "need_restart": ["database"]}
    ]
    await db.close()


async def test_an_event_waits_for_the_database_and_is_not_stored_twice(postgres_database: DatabaseForTest) -> None:
    db = await postgres_database.connect()
    events = SystemEvents("one")
    events.note("START", "INFO", "hello", at_port=9108)
    event = events.waiting[0]
    await db.execute("ALTER TABLE audit.system_events RENAME TO away")
    with pytest.raises(DatabaseError):
        await events.store(db)
    assert list(events.waiting) == [event]
    await db.execute("ALTER TABLE audit.away RENAME TO system_events")
    await events.store(db)
    assert not events.waiting
    events.waiting.append(event)  # as after a reply that was lost
    await events.store(db)
    assert await told(db) == [("START", "one", {"at_port": 9108})]
    await db.close()
