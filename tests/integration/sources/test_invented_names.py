"""Whatever names messages bear, what the daemon shows and remembers of them is bounded."""

from __future__ import annotations

import json
import re

import pytest
from structlog.testing import capture_logs

from ingestd.kafka import envelope
from ingestd.ops.health import Snapshot, readiness
from ingestd.sources.market_topics import MarketStore
from tests.support.exposed import exposed
from tests.support.postgres import DatabaseForTest
from tests.support.reader_rig import Topics
from tests.support.records import trade

TRADES = "wolfinch.market.trades"
INVENTED = 2000


def series(topics: Topics) -> list[str]:
    return re.findall(r"^ingestd_\w+\{.*", exposed(topics.metrics), re.MULTILINE)


@pytest.mark.parametrize("events", [False, True], ids=["market", "events"])
async def test_invented_exchanges_do_not_flood_the_metrics(postgres_database: DatabaseForTest, events: bool) -> None:
    topics = Topics(postgres_database.dsn)
    with capture_logs() as logs:
        async with topics.reading(events=events):
            for number in range(INVENTED):
                if events:
                    data = {
                        "order_id": str(number),
                        "symbol": "A",
                        "side": "buy",
                        "quantity": "1",
                        "exchange": f"x{number}",
                    }
                    event = {"event_type": "ORDER_SUBMITTED", "timestamp": "2026-09-21T10:00:00Z", "data": data}
                    topics.broker.append("wolfinch.orders.submitted", b"k", json.dumps(event).encode())
                else:
                    topics.send(trade(number, exchange=f"invented{number}"), f"journal{number}", 1)
    table, channel = ("orders", "orders_submitted") if events else ("trades", "trades")
    assert await topics.ask(f"SELECT count(DISTINCT exchange) FROM {table}") == INVENTED, "stored as they are"
    received = [line for line in series(topics) if line.startswith("ingestd_records_received_total")]
    assert len(received) == 201
    [others] = [line for line in received if 'exchange="other"' in line]
    assert float(others.split()[-1]) == INVENTED - 200
    assert topics.metrics.totals(topics.metrics.received) == {channel: INVENTED}
    assert topics.metrics.totals(topics.metrics.stored) == {channel: INVENTED}
    assert len(series(topics)) < 1000
    assert sum(line["event"] == "label_values_limited" for line in logs) == 1
    assert await topics.ask("SELECT count(*) FROM ingest_positions WHERE source LIKE 'kafka-replay:%'") <= 100


async def test_exchanges_of_the_configuration_are_shown_whatever_came_before(
    postgres_database: DatabaseForTest,
) -> None:
    topics = Topics(postgres_database.dsn, exchanges=["kraken"])
    async with topics.reading():
        for number in range(300):
            topics.send(trade(number, exchange=f"invented{number}"), "feed", number + 1)
        topics.send(trade(1, exchange="kraken"), "feed", 1000)
    [line] = [line for line in series(topics) if "received_total" in line and "kraken" in line]
    assert float(line.split()[-1]) == 1


async def test_refused_streams_with_invented_names_flood_neither_log_nor_memory(
    postgres_database: DatabaseForTest,
) -> None:
    """A genuine stream that is refused at the same time is still told of."""
    topics = Topics(postgres_database.dsn)
    long = b"x" * 300_000
    with capture_logs() as logs:
        async with topics.reading():
            for number in range(200):
                value = envelope.encode(trade(number, price="-1")).replace(b"BTC/USDT", b"x%d/USDT" % number)
                for _ in range(3):
                    topics.broker.append(TRADES, b"k", value)
                topics.broker.append(TRADES, b"k", value.replace(b"-1", b"1"))
            for name in (long, b"\\u0000", b"\\u001b[31m", b"\\n"):
                for exchange in (b'"binance"', b'"' + name + b'"'):
                    value = envelope.encode(trade(1, price="-1"))
                    value = value.replace(b"BTC/USDT", name).replace(b'"binance"', exchange)
                    topics.broker.append(TRADES, b"k", value)
            for number in range(3):
                topics.broker.append(TRADES, b"k", envelope.encode(trade(number, price="-1", symbol="GENUINE/USDT")))
    told = [line for line in logs if line["event"] in ("stream_rejected", "stream_accepted_again")]
    assert 0 < len(told) <= 20
    assert all(len(json.dumps(line)) < 1000 for line in logs)
    assert isinstance(topics.store, MarketStore)
    rejected = topics.store.rejections.all()
    verdict = readiness(Snapshot(now_us=0, started=True, rejected=rejected))
    assert any("trades GENUINE/USDT of binance (price)" in reason for reason in verdict.reasons)
    assert f"the topic {TRADES}" in str(rejected)
    assert all(name.isprintable() and len(name) <= 128 for stream in rejected for name in stream)
