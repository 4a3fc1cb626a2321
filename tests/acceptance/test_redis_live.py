"""The real process with a live sink: what a subscriber hears, a Redis that freezes, and one that never was."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingestd.lab.bench import live_sink, rig
from ingestd.lab.bench.figures import Figures
from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from ingestd.lab.sim.synthetic.venue import SyntheticVenue, synthetic_venue
from tests.support.daemon import Daemon, running, write_config
from tests.support.postgres import DatabaseForTest
from tests.support.redis_servers import reader

Make = Callable[..., EmbeddedValkey]


def document(venue: SyntheticVenue, dsn: str, url: str) -> dict[str, Any]:
    feed = {
        "exchange": "binance",
        "symbols": [symbol for symbol in venue.symbols if ":" not in symbol],
        "channels": ["ticks", "trades", "order_book"],
        "url_map": venue.url_map,
    }
    return {"database": {"dsn": dsn}, "redis": {"url": url}, "feeds": [feed]}


async def degraded(daemon: Daemon) -> str:
    status, body = await daemon.get("/readyz")
    assert status == 200, body
    return str(json.loads(body)["degraded"])


async def until_degraded(daemon: Daemon, holds: Callable[[str], bool]) -> None:
    async with asyncio.timeout(60):
        while True:
            if holds(await degraded(daemon)):
                return
            await asyncio.sleep(0.05)


@pytest.mark.one_server
async def test_a_subscriber_hears_every_trade_the_venue_sent(
    postgres_database: DatabaseForTest, make_server: Make, tmp_path: Path
) -> None:
    server = make_server(client_output_buffer_limit="pubsub 0 0 0")
    async with synthetic_venue(symbols=3, rate=600.0) as venue:
        config_file = write_config(tmp_path, document(venue, postgres_database.dsn, server.url))
        with reader(server.url) as client, client.pubsub() as listener:
            listener.psubscribe("trades:*")
            assert listener.get_message(timeout=2)
            async with running(config_file) as daemon:
                await daemon.until(lambda received: received.get("trades", 0) > 500)
                await until_degraded(daemon, lambda text: "redis" not in text)
                os.kill(server.pid or 0, signal.SIGSTOP)
                await until_degraded(daemon, lambda text: "The sink redis is down" in text)
                os.kill(server.pid or 0, signal.SIGCONT)
                await until_degraded(daemon, lambda text: "redis" not in text)
                await venue.stop()
                await daemon.quiet()
                dropped = await daemon.total("ingestd_live_dropped_total", "reason")
                published = await daemon.total("ingestd_live_published_total")
                received = await daemon.received()
                assert await daemon.stop() == 0
            heard = []
            while message := listener.get_message(timeout=1):
                heard.append((message["channel"], json.loads(message["data"])["tradeId"]))
        lines = [json.loads(line) for line in venue.ledger.trade_lines()]
        sent = {(f"trades:binance:{line['symbol'].replace('/', '')}", line["trade_id"]) for line in lines}
        assert len(heard) == len(set(heard))
        assert set(heard) <= sent
        assert sum(published.values()) + sum(dropped.values()) == received["trades"] + received["ticks"]
        assert published["trades"] <= len(heard) <= published["trades"] + dropped.get("unconfirmed", 0)
        counts = daemon.counts()
        assert counts["stored"]["trades"] == len(lines)
        assert counts["dropped"] == {}


async def test_without_redis_everything_is_stored_and_health_says_so(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    async with synthetic_venue(symbols=2, rate=300.0) as venue:
        config_file = write_config(tmp_path, document(venue, postgres_database.dsn, "redis://127.0.0.1:1"))
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 200)
            assert "The sink redis is down: redis://127.0.0.1:1" in await degraded(daemon)
            await venue.stop()
            await daemon.quiet()
            assert await daemon.stop() == 0
        assert daemon.counts()["stored"]["trades"] == len(list(venue.ledger.trade_lines()))


async def test_a_frozen_redis_does_not_move_the_database() -> None:
    """The short form of `ingestd bench --part redis-frozen`: seconds on a shared machine show an order of magnitude."""
    figures = Figures()
    async with rig.server(None, lambda _: None) as server:
        await live_sink.frozen(rig.Plan(rounds=1), server, figures, seconds_frozen=3.0, rate=2000)
    answering, stopped = figures.value("frozen.answering_p50"), figures.value("frozen.stopped_p50")
    assert answering is not None
    assert stopped is not None
    assert stopped < 2 * answering + 5
