"""A venue that sends twenty times as much while nothing can be stored: memory stays, trades stay, drops are counted.

`INGESTD_FLOOD_SECONDS=30` runs the long form.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ingestd.lab.sim.synthetic.venue import synthetic_venue
from ingestd.storage.database import Database
from tests.support.daemon import Daemon, running, write_config
from tests.support.postgres import DatabaseForTest

SECONDS = float(os.environ.get("INGESTD_FLOOD_SECONDS", "6"))
QUIET_RATE, FLOOD_RATE = 400.0, 8000.0
GROWTH_LIMIT_BYTES = 64 * 2**20


def resident_bytes(daemon: Daemon) -> int:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


async def stored_trades(dsn: str) -> Counter[tuple[Any, ...]]:
    db = await Database.connect(dsn)
    try:
        return Counter(tuple(row.values()) for row in await db.fetch("SELECT symbol, trade_id FROM trades"))
    finally:
        await db.close()


@pytest.mark.campaign
async def test_a_flood_that_cannot_be_stored(postgres_database: DatabaseForTest, tmp_path: Path) -> None:
    """The tables are locked and the journal is small, so the intake fills within a second of the flood."""
    async with synthetic_venue(symbols=5, rate=QUIET_RATE) as venue:
        document = {
            "intake": {
                "max_open_records": 5000,
                "max_batch_records": 500,
                "when_full": {"ticks": "drop_oldest", "order_book": "conflate"},
            },
            "journal": {"max_bytes": "4MiB", "memory_bytes": "1MiB"},
            "database": {"dsn": postgres_database.dsn, "flush_timeout_s": 2.0},
            "feeds": [
                {
                    "exchange": "binance",
                    "symbols": [symbol for symbol in venue.symbols if ":" not in symbol],
                    "channels": ["ticks", "trades", "order_book"],
                    "order_book_interval_ms": 0,
                    "stale_after_s": 600,
                    "url_map": venue.url_map,
                }
            ],
        }
        async with running(write_config(tmp_path, document)) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 1000)
            before = resident_bytes(daemon)
            db = await postgres_database.connect(lock_timeout_s=None)
            async with db.transaction():
                await db.execute("LOCK TABLE market_ticks, trades, order_book IN ACCESS EXCLUSIVE MODE")
                venue.source.rate = FLOOD_RATE
                most = await highest_resident_bytes(daemon, SECONDS)
                assert (await daemon.get("/livez"))[0] == 200
                venue.source.rate = QUIET_RATE
            await db.close()
            await venue.stop()
            await daemon.quiet()
            assert await daemon.stop() == 0, daemon.log()
        sent = Counter((line["symbol"], line["trade_id"]) for line in map(json.loads, venue.ledger.trade_lines()))
        counts = daemon.counts()
        print(f"grew by {(most - before) / 2**20:.1f} MiB; received {counts['received']}, dropped {counts['dropped']}")
        assert most - before <= GROWTH_LIMIT_BYTES
        assert await stored_trades(postgres_database.dsn) == sent
        assert counts["dropped"].keys() <= {"ticks", "order_book"}
        assert counts["dropped"]["ticks"] > 0
        for channel, received in counts["received"].items():
            kept = sum(counts[term].get(channel, 0) for term in ("stored", "duplicate", "rejected", "dropped"))
            assert received == kept, channel
        assert counts["in_journal"] == {}


async def highest_resident_bytes(daemon: Daemon, during_s: float) -> int:
    most = 0
    async with asyncio.timeout(during_s + 30):
        deadline_s = asyncio.get_running_loop().time() + during_s
        while asyncio.get_running_loop().time() < deadline_s:
            most = max(most, resident_bytes(daemon))
            await asyncio.sleep(0.1)
    return most
