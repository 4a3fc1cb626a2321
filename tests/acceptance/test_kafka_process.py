"""The real process with Kafka: instead of the database, beside it, and killed in the middle."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ingestd.records import Trade
from tests.acceptance.test_process import assert_conserved, feed, market, sent_trades, stop_venue, stored_trades
from tests.support.brokers import Broker, config_for
from tests.support.daemon import ingestd, running, write_config
from tests.support.postgres import DatabaseForTest
from tests.support.topics import read_everything, without_replays


def section(broker: Broker) -> dict[str, Any]:
    return config_for(broker).model_dump(mode="json", exclude_none=True)


async def trades_in(kafka: dict[str, Any]) -> Counter[tuple[Any, ...]]:
    """The trades of the topic without what was sent twice."""
    prefix = kafka["topic_prefix"]
    found = await asyncio.to_thread(read_everything, kafka["bootstrap_servers"][0], prefix)
    records = [message.record(prefix) for messages in found.values() for message in without_replays(messages)]
    return Counter(
        (record.symbol, record.trade_id, record.price, record.quantity, record.side)
        for record in records
        if isinstance(record, Trade)
    )


async def test_the_role_feed_stores_in_kafka_alone(kafka: Broker, tmp_path: Path) -> None:
    """Also with a file that names the database for the role sink."""
    settings = section(kafka)
    async with market() as venue:
        document = {
            "instance": {"role": "feed"},
            "kafka": settings,
            "database": {"dsn": "postgresql://nobody@127.0.0.1:1/none"},
            "feeds": [feed(venue)],
        }
        async with running(write_config(tmp_path, document)) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 500)
            assert (await daemon.get("/readyz"))[0] == 200
            assert await daemon.total("ingestd_sink_up", "sink") == {"kafka": 1}
            await stop_venue(venue, daemon)
            sent = sent_trades(venue)
            assert await daemon.stop() == 0
    assert await trades_in(settings) == sent
    assert_conserved(daemon.counts())
    assert daemon.counts()["in_journal"] == {}


async def test_both_sinks_store_everything(
    apache_kafka: Broker, postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    settings = section(apache_kafka)
    async with market() as venue:
        document = {"database": {"dsn": postgres_database.dsn}, "kafka": settings, "feeds": [feed(venue)]}
        async with running(write_config(tmp_path, document)) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 500)
            await stop_venue(venue, daemon)
            sent = sent_trades(venue)
            assert await daemon.stop() == 0
    assert await stored_trades(postgres_database.dsn) == sent
    assert await trades_in(settings) == sent
    counts: dict[str, Any] = daemon.counts()
    for name in ("timescale", "kafka"):
        assert_conserved({**counts, **counts["sinks"][name]})
        assert counts["sinks"][name]["stored"]["trades"] == sent.total()


@pytest.mark.campaign
async def test_killed_under_load_every_journaled_trade_is_in_the_topic(apache_kafka: Broker, tmp_path: Path) -> None:
    settings = section(apache_kafka)
    async with market(rate=2000.0) as venue:
        document = {"instance": {"role": "feed"}, "kafka": settings, "feeds": [feed(venue)]}
        config_file = write_config(tmp_path, document)
        for _ in range(2):
            async with running(config_file) as daemon:
                await daemon.until(lambda received: received.get("trades", 0) > 1000)
                daemon.signal(signal.SIGKILL)
                await daemon.ended()
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 500)
            await stop_venue(venue, daemon)
            assert await daemon.stop() == 0
        sent = sent_trades(venue)
    stored = await trades_in(settings)
    assert not stored - sent, "nothing was invented or is there twice"
    assert stored.total() > 2000
    assert_conserved(daemon.counts())


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"instance": {"role": "feed"}}, "kafka: the role feed stores in Kafka only"),
        ({}, "database: there is nowhere to store"),
    ],
)
async def test_a_role_without_its_sink_is_refused(tmp_path: Path, document: dict[str, Any], says: str) -> None:
    feeds = [{"exchange": "binance", "symbols": ["BTC/USDT"]}]
    code, _, err = await ingestd("run", "-c", str(write_config(tmp_path, {**document, "feeds": feeds})))
    assert code == 2
    assert says in err
