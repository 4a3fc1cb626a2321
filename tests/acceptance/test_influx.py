"""The real process with InfluxDB as its only sink: every trade is a point, also after kills."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingestd.events.tables import store_events
from ingestd.lab.sim.synthetic.venue import synthetic_venue
from tests.fault.oracle import imbalances
from tests.support.daemon import ingestd, running, write_config
from tests.support.influx_reports import event
from tests.support.influx_servers import Bucket, Influx1
from tests.support.postgres import DatabaseForTest


def section(bucket: Bucket) -> dict[str, Any]:
    return {"url": bucket.url, "bucket": bucket.name, "trades": True, "flush_ms": 20, "symbol_style": "compact"}


async def test_every_trade_that_was_sent_is_a_point(influx1: Influx1, tmp_path: Path) -> None:
    bucket = influx1.database()
    async with synthetic_venue(symbols=3, rate=400.0) as venue:
        feed = {
            "exchange": "binance",
            "symbols": list(venue.symbols),
            "channels": ["trades", "ticks"],
            "url_map": venue.url_map,
        }
        config_file = write_config(tmp_path, {"influx": section(bucket), "feeds": [feed]})
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 300)
            await venue.stop()
            await daemon.quiet()
            assert await daemon.stop() == 0
            counts = daemon.counts()
        lines = [json.loads(line) for line in venue.ledger.trade_lines()]
    assert counts["stored"]["trades"] == len(lines)
    assert counts["left_out"]["ticks"] == counts["received"]["ticks"] > 0
    assert imbalances(with_left_out(counts)) == []
    rows = bucket.query('SELECT "trade_id", "price" FROM "trade" GROUP BY "symbol"')
    found = sorted((row["symbol"], row["trade_id"], float(row["price"])) for row in rows)
    assert found == sorted((compact(line["symbol"]), line["trade_id"], float(line["price"])) for line in lines)


async def test_kills_lose_and_double_nothing_of_what_is_journaled_or_in_the_database(
    postgres_database: DatabaseForTest, influx1: Influx1, tmp_path: Path
) -> None:
    bucket, db = influx1.database(), await postgres_database.connect()
    ids: list[str] = []

    async def report() -> None:
        """As the consumer of Kafka's event topics stores them."""
        for _ in range(30):
            ids.append(str(len(ids)))
            said = {"trade_id": ids[-1], "symbol": "BTC-USD", "entry_price": "1", "exit_price": "1", "pnl": ids[-1]}
            async with db.transaction():
                await store_events(db, [event("TRADE_COMPLETED", datetime.now(UTC), **said)])

    async with synthetic_venue(symbols=2, rate=300.0) as venue:
        feed = {
            "exchange": "binance",
            "symbols": list(venue.symbols),
            "channels": ["trades"],
            "url_map": venue.url_map,
        }
        sections = {"influx": section(bucket), "database": {"dsn": postgres_database.dsn}, "feeds": [feed]}
        sections["backfill"] = {"enabled": False}  # of what was missed, the venue's ledger says nothing
        config_file = write_config(tmp_path, sections)
        for _ in range(3):
            async with running(config_file) as daemon:
                reporting = asyncio.create_task(report())
                await daemon.until(lambda received: received.get("trades", 0) > 100)
                daemon.signal(signal.SIGKILL)
                await daemon.ended()
                await reporting
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 50)
            async with asyncio.timeout(60):
                while len(bucket.values("trade_event", "pnl")) < len(ids):
                    await asyncio.sleep(0.05)
            await venue.stop()
            await daemon.quiet()
            assert await daemon.stop() == 0
            counts = daemon.counts()
        sent = {(compact(line["symbol"]), line["trade_id"]) for line in map(json.loads, venue.ledger.trade_lines())}
    assert imbalances(counts) == []
    rows = await asyncio.to_thread(bucket.query, 'SELECT "trade_id" FROM "trade" GROUP BY "symbol"')
    found = [(row["symbol"], row["trade_id"]) for row in rows]
    assert len(found) == len(set(found)) > 300
    assert set(found) <= sent
    assert sorted(bucket.values("trade_event", "pnl")) == sorted(map(int, ids))
    metrics = bucket.query('SELECT "value" FROM "metric" GROUP BY *')
    assert {(row["component"], row["metric_type"]) for row in metrics} >= {("ingestd-1", "records_stored")}
    await db.close()


async def test_check_says_whether_the_server_would_take_points(influx1: Influx1, tmp_path: Path) -> None:
    bucket = influx1.database()
    async with synthetic_venue(symbols=2, rate=1.0) as venue:
        feed = {"exchange": "binance", "symbols": list(venue.symbols), "url_map": venue.url_map}
        config_file = write_config(tmp_path, {"influx": section(bucket), "feeds": [feed]})
        code, out, _ = await ingestd("check", "--connect", "--json", "-c", str(config_file))
        answers = {answer["who"]: answer for answer in json.loads(out)["answers"]}
        assert code == 0
        assert f"bucket {bucket.name}: answered" in answers["influx"]["said"]
        bucket.query(f'DROP DATABASE "{bucket.name}"')
        code, out, err = await ingestd("check", "--connect", "-c", str(config_file))
    assert code == 1
    assert "create it (docs/influx.md)" in out + err


def compact(symbol: str) -> str:
    return symbol.partition(":")[0].replace("/", "") + (".P" if ":" in symbol else "")


def with_left_out(counts: dict[str, Any]) -> dict[str, Any]:
    """For the judge, which knows sinks that take everything."""
    stored = {**counts["stored"]}
    for channel, count in counts["left_out"].items():
        stored[channel] = stored.get(channel, 0) + count
    return {**counts, "stored": stored}
