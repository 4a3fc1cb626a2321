"""The real process, a venue that goes on while nobody listens, and what is in the database afterwards."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingestd.clock import monotonic_s
from ingestd.lab.sim.faults import Fault
from ingestd.lab.sim.synthetic.venue import SyntheticVenue, synthetic_venue
from ingestd.storage.database import Database
from tests.support.candles import BUCKETS, COLUMNS, TradeRow, expected_candles
from tests.support.daemon import Daemon, running, write_config
from tests.support.postgres import DatabaseForTest

pytestmark = pytest.mark.one_server

Trades = Counter[tuple[Any, ...]]


def trades_of(venue: SyntheticVenue, *, stream: str = "trade") -> Trades:
    """Everything that happened, also what was sent to nobody."""
    lines = (json.loads(line) for withheld in (False, True) for line in venue.ledger.trade_lines(withheld=withheld))
    return Counter(
        (line["symbol"], line["trade_id"], line["price"], line["quantity"], line["side"], line["time_ms"])
        for line in lines
        if line["stream"].endswith(f"@{stream}")
    )


async def stored_trades(db: Database) -> Trades:
    rows = await db.fetch(
        "SELECT symbol, trade_id, price::text, quantity::text, side, (extract(epoch FROM time) * 1000)::bigint AS ms"
        " FROM trades"
    )
    return Counter(tuple(row.values()) for row in rows)


def document(venue: SyntheticVenue, database: DatabaseForTest, **sections: Any) -> dict[str, Any]:
    feed = {
        "exchange": "binance",
        "symbols": list(venue.symbols),
        "channels": ["trades"],
        "url_map": venue.url_map,
        **sections.pop("feed", {}),
    }
    backfill = {"interval_s": 0.3, "rate_share": 1.0, "audit_interval_s": 0, **sections.pop("backfill", {})}
    return {"database": {"dsn": database.dsn, "flush_ms": 50}, "backfill": backfill, "feeds": [feed], **sections}


async def gaps(db: Database, *, status: str | None = None) -> list[Any]:
    rows = await db.fetch("SELECT * FROM feed_gaps WHERE channel = 'trades' ORDER BY id")
    return [row for row in rows if status in (None, row["status"])]


async def until_settled(db: Database, count: int, daemon: Daemon) -> list[Any]:
    """Until so many gaps are there and none is open or waiting."""
    deadline = monotonic_s() + 120
    while True:
        found = await gaps(db)
        if len(found) >= count and all(row["status"] in ("filled", "unfillable") for row in found):
            return found
        assert daemon.process.returncode is None, daemon.log()
        assert monotonic_s() < deadline, f"{found}\n{daemon.log()}"
        await asyncio.sleep(0.1)


@asynccontextmanager
async def connected(database: DatabaseForTest) -> AsyncIterator[Database]:
    db = await database.connect()
    try:
        yield db
    finally:
        await db.close()


async def assert_candles(db: Database, trades: Trades) -> None:
    rows = [
        TradeRow(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms), symbol, trade_id, int(trade_id),
                 side, price, quantity)
        for symbol, trade_id, price, quantity, side, ms in trades
    ]  # fmt: skip
    for relation in ("candles_1m", "candles_1h"):
        found = await db.fetch(f"SELECT * FROM (SELECT {COLUMNS} FROM {relation}) c ORDER BY bucket_start, symbol")
        got = [
            (f"{row['bucket_start']:%Y-%m-%d %H:%M:%S}+00", row["exchange"], row["symbol"],
             *(None if value is None else f"{value:f}" if not isinstance(value, int) else str(value)
               for value in list(row.values())[3:]))
            for row in found
        ]  # fmt: skip
        assert got == expected_candles(rows, BUCKETS[relation]), relation


@pytest.mark.parametrize("stream", ["trade", "aggTrade"])
async def test_a_cut_connection_is_filled_digit_for_digit(
    database: DatabaseForTest, tmp_path: Path, stream: str
) -> None:
    """The socket is cut twice while the market goes on; afterwards the table is what the venue did."""
    async with synthetic_venue(symbols=2, rate=400.0) as venue, connected(database) as db:
        options = {} if stream == "trade" else {"watchTradesForSymbols": {"name": "aggTrade"}}
        feed = {"options": options}
        async with running(write_config(tmp_path, document(venue, database, feed=feed))) as daemon:
            for cut in (1, 2):
                seen = (await daemon.received()).get("trades", 0)
                await daemon.until(lambda received, seen=seen: received.get("trades", 0) > seen + 300)  # type: ignore[misc]
                await venue.apply(Fault("drop"))
                settled = await until_settled(db, cut * 2, daemon)
            await venue.stop()
            await daemon.quiet()
            assert await daemon.stop() == 0, daemon.log()
        happened = trades_of(venue, stream=stream)
        assert venue.ledger.withheld_trades > 0
        assert await stored_trades(db) == happened
        assert {row["status"] for row in settled} == {"filled"}
        assert sum(row["recovered_rows"] for row in await gaps(db)) == venue.ledger.withheld_trades
        assert all("complete: the venue's ids are consecutive" in row["detail"] for row in settled)
        await assert_candles(db, happened)
        unmarked = (
            "SELECT id FROM feed_gaps gap WHERE recovered_rows > 0 AND NOT EXISTS (SELECT FROM indicator_marks mark"
        )
        unmarked += (
            " WHERE mark.symbol = gap.symbol AND mark.started_at < gap.ended_at AND mark.ended_at > gap.started_at)"
        )
        assert await db.fetch(unmarked) == [], "indicators would not be computed again"


async def test_killed_and_started_again_the_hole_is_filled(database: DatabaseForTest, tmp_path: Path) -> None:
    """Killed with the market going on: the restart is a gap like any other."""
    async with synthetic_venue(symbols=2, rate=400.0) as venue, connected(database) as db:
        config_file = write_config(tmp_path, document(venue, database))
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 400)
            daemon.process.kill()
            await daemon.ended()
        sent_before = venue.ledger.distinct_trades + venue.ledger.withheld_trades
        async with asyncio.timeout(60):
            while venue.ledger.distinct_trades + venue.ledger.withheld_trades < sent_before + 1500:
                await asyncio.sleep(0.05)
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 200)
            settled = await until_settled(db, 2, daemon)
            await venue.stop()
            await daemon.quiet()
            assert await daemon.stop() == 0, daemon.log()
        happened = trades_of(venue)
        assert await stored_trades(db) == happened
        assert [(row["cause"], row["status"]) for row in settled] == [("restart", "filled")] * 2, settled
        assert sum(row["recovered_rows"] for row in settled) >= 1500
        await assert_candles(db, happened)


async def test_without_a_key_the_newest_trades_of_a_future_fill_a_short_gap_and_a_long_one_is_refused(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    async with synthetic_venue(symbols=0, futures_symbols=1, rate=300.0) as venue, connected(postgres_database) as db:
        config_file = write_config(tmp_path, document(venue, postgres_database))
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 100)
            await venue.apply(Fault("drop"))
            short = await until_settled(db, 1, daemon)
            assert short[0]["status"] == "filled"
            # More than the 1000 that Binance's endpoint goes back.
            async with venue.source.switch.turn:
                await venue.source.misbehave(Fault("id_jump", n=2500), None, venue.hub)
            await venue.apply(Fault("drop"))
            both = await until_settled(db, 2, daemon)
            await venue.stop()
            await daemon.quiet()
            assert await daemon.stop() == 0, daemon.log()
        assert both[1]["status"] == "unfillable"
        assert "do not reach back" in both[1]["detail"]
        happened = trades_of(venue)
        stored = await stored_trades(db)
        assert not stored - happened
        assert (happened - stored).total() >= 2500


async def test_ids_of_another_series_are_refused_and_nothing_is_doubled(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    """What is stored came from @aggTrade; the configuration now says @trade."""
    async with synthetic_venue(symbols=1, rate=300.0) as venue, connected(postgres_database) as db:
        options = {"watchTradesForSymbols": {"name": "aggTrade"}}
        feed = {"options": options}
        document_before = document(venue, postgres_database, feed=feed, backfill={"enabled": False})
        async with running(write_config(tmp_path, document_before)) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 100)
            await venue.apply(Fault("drop"))
            seen = (await daemon.received())["trades"]
            await daemon.until(lambda received: received["trades"] > seen + 100)
            await venue.stop()
            await daemon.quiet()
            assert await daemon.stop() == 0, daemon.log()
        before = await stored_trades(db)
        (waiting,) = await gaps(db)
        assert waiting["status"] == "closed"
        config_file = write_config(tmp_path, document(venue, postgres_database))
        async with running(config_file) as daemon:
            async with asyncio.timeout(60):
                while (settled := (await gaps(db))[0])["status"] == "closed":
                    await asyncio.sleep(0.05)
            assert await daemon.stop() == 0, daemon.log()
        assert settled["status"] == "unfillable"
        assert "another series" in settled["detail"]
        assert await stored_trades(db) == before


async def test_a_ban_is_respected_and_outlives_the_process(postgres_database: DatabaseForTest, tmp_path: Path) -> None:
    async with synthetic_venue(symbols=1, rate=300.0) as venue, connected(postgres_database) as db:
        config_file = write_config(tmp_path, document(venue, postgres_database))
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 100)
            await venue.apply(Fault("rate_limit", n=1, status=418, retry_after_s=4))
            await venue.apply(Fault("drop"))
            async with asyncio.timeout(60):
                while (until := await db.fetchval("SELECT until FROM venue_pauses WHERE exchange = 'binance'")) is None:
                    await asyncio.sleep(0.05)
            daemon.process.kill()
            await daemon.ended()
        assert until >= await db.fetchval("SELECT now() + interval '2 seconds'")
        async with running(config_file) as daemon:
            settled = await until_settled(db, 2, daemon)  # the disconnect, and the restart
            assert {row["status"] for row in settled} == {"filled"}
            assert await db.fetchval("SELECT now()") >= until
            assert await daemon.stop() == 0, daemon.log()
