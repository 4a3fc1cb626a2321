"""The real process with everything on: each destination has every trade, and a bot's orders are stored and shown."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ingestd.config.models import KafkaConfig
from ingestd.events.publisher import publish
from ingestd.lab.sim.embedded_kafka import EmbeddedKafka
from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from tests.acceptance.test_kafka_process import section, trades_in
from tests.acceptance.test_process import assert_conserved, feed, market, sent_trades, stop_venue, stored_trades
from tests.support.brokers import Broker
from tests.support.daemon import Daemon, running, write_config
from tests.support.group import until
from tests.support.postgres import DatabaseForTest
from tests.support.redis_servers import reader


async def test_one_daemon_feeds_the_database_redis_and_kafka(
    kafka: Broker, postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    settings = section(kafka)
    with EmbeddedValkey() as server:
        async with market() as venue:
            document = {
                "database": {"dsn": postgres_database.dsn},
                "redis": {"url": server.url},
                "kafka": settings,
                "feeds": [feed(venue)],
            }
            with reader(server.url) as client, client.pubsub() as listener:
                listener.psubscribe("trades:*")
                assert listener.get_message(timeout=2)
                async with running(write_config(tmp_path, document)) as daemon:
                    await daemon.until(lambda received: received.get("trades", 0) > 500)
                    await submit_an_order(daemon, kafka, settings, postgres_database, client)
                    await stop_venue(venue, daemon)
                    sent = sent_trades(venue)
                    assert await daemon.stop() == 0
                heard = 0
                while message := listener.get_message(timeout=0.5):
                    heard += message["type"] == "pmessage"
    assert heard == sent.total()
    assert await stored_trades(postgres_database.dsn) == sent
    assert await trades_in(settings) == sent
    counts = daemon.counts()
    assert_conserved(counts)
    assert counts["stored"]["orders_submitted"] == 1
    assert list(counts["sinks"]) == ["timescale", "kafka"]


@pytest.mark.one_server
async def test_the_role_sink_shows_orders_too(
    kafka: Broker, postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    settings = section(kafka)
    with EmbeddedValkey() as server:
        document = {
            "instance": {"role": "sink"},
            "database": {"dsn": postgres_database.dsn},
            "redis": {"url": server.url},
            "kafka": settings,
        }
        with reader(server.url) as client:
            async with running(write_config(tmp_path, document)) as daemon:
                await submit_an_order(daemon, kafka, settings, postgres_database, client)
                assert await daemon.stop() == 0
    assert daemon.counts()["stored"] == {"orders_submitted": 1}


async def submit_an_order(
    daemon: Daemon, kafka: Broker, settings: dict[str, Any], database: DatabaseForTest, client: Any
) -> None:
    """In one line, as a bot does; wait until it is a row and a cached hash."""
    # Where two groups join at once, the embedded broker has let the second one wait for 28 s.
    async with asyncio.timeout(90 if isinstance(kafka, EmbeddedKafka) else 30):
        while (await daemon.get("/readyz"))[0] != 200:
            await asyncio.sleep(0.05)
    config = KafkaConfig.model_validate(settings)
    order: dict[str, Any] = {"order_id": "12345", "symbol": "BTC-USD", "side": "buy", "quantity": "0.10"}
    await asyncio.to_thread(publish, config.bootstrap_servers, "ORDER_SUBMITTED", config=config, **order)
    db = await database.connect()
    await until(db, "SELECT quantity::text FROM orders WHERE order_id = '12345'", "0.10")
    await db.close()
    async with asyncio.timeout(60):
        while not (shown := client.hgetall("order:12345")):
            await asyncio.sleep(0.05)
    assert shown["symbol"] == "BTC-USD"
    assert shown["status"] == "PENDING"
    assert shown["quantity"] == "0.10"
