"""`ingestd run --role sink`, as a user runs it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ingestd.events.publisher import EventPublisher
from tests.support.brokers import Broker, config_for
from tests.support.daemon import ingestd, running, write_config
from tests.support.group import market_messages, publish, until
from tests.support.influx_servers import Influx1
from tests.support.postgres import DatabaseForTest
from tests.support.records import trade


async def test_it_is_ready_stores_and_stops(
    postgres_database: DatabaseForTest, apache_kafka: Broker, influx1: Influx1, tmp_path: Path
) -> None:
    bucket = influx1.database()
    kafka = config_for(apache_kafka)
    section = kafka.model_dump(include={"bootstrap_servers", "topic_prefix", "partitions", "retention_hours"})
    config_file = write_config(
        tmp_path,
        {
            "instance": {"role": "sink"},
            "database": {"dsn": postgres_database.dsn},
            "kafka": {**section, "group_id": kafka.topic_prefix},
            "retention": {"trades_days": 0},
            "influx": {"url": bucket.url, "bucket": bucket.name},
            "events": {"default_exchange": "kraken"},
        },
    )
    db = await postgres_database.connect()
    async with running(config_file) as daemon:
        async with asyncio.timeout(60):
            while (await daemon.get("/readyz"))[0] != 200:
                await asyncio.sleep(0.05)
        await publish(kafka, market_messages(kafka, "j", 1, [trade(number) for number in range(100)]))
        await until(db, "SELECT count(*) FROM trades", 100)
        await asyncio.sleep(0.7)  # a heartbeat later the gauges have it
        _, metrics = await daemon.get("/metrics")
        assert 'ingestd_source_partitions{source="market"} 30.0' in metrics
        assert 'ingestd_source_lag_messages{source="market"} 0.0' in metrics
        async with EventPublisher(config=kafka) as bot:
            await bot.trade_completed(
                trade_id="1", symbol="BTC-USD", entry_price="1", exit_price="2", pnl="0.5", quantity="0.5", duration=60
            )
        async with asyncio.timeout(60):
            while not (points := bucket.query('SELECT * FROM "trade_event" GROUP BY *')):
                await asyncio.sleep(0.05)
        assert await daemon.stop() == 0
    counts = daemon.counts()
    assert counts["received"] == counts["stored"] == {"trades": 100, "trades_completed": 1}
    (point,) = points
    assert (point["event_type"], point["exchange"], point["product"]) == ("position_closed", "kraken", "BTC-USD")
    assert (point["pnl"], point["size"], point["duration"]) == (0.5, 0.5, 60)
    figures = {row["metric_type"] for row in bucket.query('SELECT "value" FROM "metric" GROUP BY *')}
    assert figures == {"records_stored", "records_rejected", "messages_waiting"}
    await db.close()


async def test_without_kafka_it_says_what_is_missing(tmp_path: Path) -> None:
    config_file = write_config(tmp_path, {"database": {"dsn": "postgresql://nobody@127.0.0.1:1/x"}})
    code, _, err = await ingestd("run", "-c", str(config_file), "--role", "sink")
    assert code == 2
    assert "kafka: is missing: the role sink reads Kafka and writes the database" in err
