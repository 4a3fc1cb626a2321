"""The real process with InfluxDB as its only sink: every trade is a point, also after kills."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

from ingestd.lab.sim.synthetic.venue import synthetic_venue
from tests.fault.oracle import imbalances
from tests.support.daemon import ingestd, running, write_config
from tests.support.influx_servers import Bucket, Influx1


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


async def test_kills_lose_and_double_nothing_of_what_is_journaled(influx1: Influx1, tmp_path: Path) -> None:
    bucket = influx1.database()
    async with synthetic_venue(symbols=2, rate=300.0) as venue:
        feed = {
            "exchange": "binance",
            "symbols": list(venue.symbols),
            "channels": ["trades"],
            "url_map": venue.url_map,
        }
        config_file = write_config(tmp_path, {"influx": section(bucket), "feeds": [feed]})
        for _ in range(3):
            async with running(config_file) as daemon:
                await daemon.until(lambda received: received.get("trades", 0) > 100)
                daemon.signal(signal.SIGKILL)
                await daemon.ended()
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 50)
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
