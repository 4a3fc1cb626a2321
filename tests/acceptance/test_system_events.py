"""The real process in `audit.system_events`: what it did, and what it met, each once."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ingestd.storage.database import Database
from tests.acceptance.test_process import feed, market
from tests.support.daemon import running, write_config
from tests.support.postgres import DatabaseForTest

REFUSED = "ETH/USDT"


async def told(db: Database, event_type: str) -> list[dict[str, Any]]:
    rows = await db.fetch(
        "SELECT severity, component, message, metadata FROM audit.system_events WHERE event_type = $1"
        " ORDER BY timestamp",
        event_type,
    )
    return [{**row, "metadata": json.loads(row["metadata"])} for row in rows]


async def until_told(db: Database, event_type: str, holds: Callable[[list[dict[str, Any]]], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds(await told(db, event_type)):
            await asyncio.sleep(0.05)


async def test_a_start_a_stop_a_gap_a_rejection_and_a_change_each_have_a_row(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    db = await postgres_database.connect()
    await db.execute(f"ALTER TABLE trades ADD CONSTRAINT of_a_test CHECK (symbol <> '{REFUSED}')")
    async with market() as venue:
        document = {
            "instance": {"name": "desk"},
            "database": {"dsn": postgres_database.dsn},
            "feeds": [feed(venue, channels=["trades"])],
        }
        config_file = write_config(tmp_path, document)
        text = config_file.read_text(encoding="utf-8")
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 300)
            await until_told(db, "START", lambda rows: len(rows) == 1)
            config_file.write_text(text + "\n[journal]\nmax_bytes = '2GiB'\n", encoding="utf-8")
            daemon.signal(signal.SIGHUP)
            await until_told(db, "CONFIG_CHANGED", lambda rows: len(rows) == 1)
            config_file.write_text(text + "\n[jurnal]\n", encoding="utf-8")
            daemon.signal(signal.SIGHUP)
            await until_told(db, "CONFIG_REFUSED", lambda rows: len(rows) == 1)
            assert await daemon.stop() == 0
        config_file.write_text(text, encoding="utf-8")
        async with running(config_file) as daemon:  # killed: it has a start, and no stop
            await daemon.until(lambda received: received.get("trades", 0) > 300)
            await until_told(db, "START", lambda rows: len(rows) == 2)
            await until_told(db, "GAP", bool)
            daemon.signal(signal.SIGKILL)
            await daemon.ended()
        symbols = sorted(symbol for symbol in venue.symbols if ":" not in symbol)

    starts, stops = await told(db, "START"), await told(db, "STOP")
    assert [(row["severity"], row["component"], row["metadata"]["feeds"]) for row in starts] == [
        ("INFO", "desk", ["0-binance"])
    ] * 2
    assert [(row["severity"], row["component"], row["message"]) for row in stops] == [
        ("INFO", "desk", "ingestd stops: SIGTERM")
    ]
    (changed,) = await told(db, "CONFIG_CHANGED")
    assert changed["metadata"] == {"changed": ["journal"], "need_restart": ["journal"]}
    (refused,) = await told(db, "CONFIG_REFUSED")
    assert refused["severity"] == "WARNING"
    assert "jurnal" in json.dumps(refused["metadata"])

    gaps = await told(db, "GAP")  # those that a restart leaves; a minute may have passed between two of them
    assert {(row["component"], row["metadata"]["cause"]) for row in gaps} == {("binance", "restart")}
    ledger = await db.fetch("SELECT symbol FROM feed_gaps WHERE cause = 'restart' ORDER BY symbol")
    assert [row["symbol"] for row in ledger] == symbols
    assert sum(row["metadata"]["count"] for row in gaps) == len(symbols)

    rejected = await told(db, "REJECTED")
    aside = await db.fetchval("SELECT count(*) FROM rejected_records WHERE record->>'symbol' = $1", REFUSED)
    assert aside > 0
    assert {(row["severity"], row["component"]) for row in rejected} == {("WARNING", "trades")}
    assert sum(row["metadata"]["count"] for row in rejected) == aside
    everything = await db.fetchval("SELECT count(*) FROM audit.system_events")
    assert everything == len([*starts, *stops, changed, refused, *gaps, *rejected])
    await db.close()
