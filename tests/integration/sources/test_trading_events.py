"""A bot publishes, the consumer stores: over a real broker, with repetitions, poison and a failing cache."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from ingestd.config.models import KafkaConfig
from ingestd.events.messages import EVENT_ID_HEADER
from ingestd.events.publisher import EventPublisher, envelope, publish
from ingestd.ops.metrics import Metrics
from ingestd.sources.base import Store
from ingestd.sources.trading_events import EventTopics
from ingestd.status import MarketInfo
from ingestd.storage.database import Database
from ingestd.storage.symbols import upsert_symbols
from tests.support import group
from tests.support.brokers import Broker, config_for
from tests.support.group import member, until
from tests.support.postgres import DatabaseForTest

ORDER: dict[str, Any] = {"symbol": "ETH-USD", "side": "sell", "quantity": "2"}


@pytest.mark.one_server
async def test_a_bots_day(db: Database, database: DatabaseForTest, kafka_config: KafkaConfig) -> None:
    shown: dict[str, Mapping[str, str]] = {}

    class Cache:
        def order_update(self, order_id: str, fields: Mapping[str, str], market: tuple[str, str] | None = None) -> None:
            shown[order_id] = {**fields, "market": str(market)}

        def forget_orders(self) -> None: ...

    def make_store(config: KafkaConfig, metrics: Metrics) -> Store:
        return EventTopics(config.topic_prefix, metrics, [Cache()])

    async with member(kafka_config, database.dsn, make_store) as made, EventPublisher(config=kafka_config) as bot:
        # The execution comes first, and twice.
        for _ in range(2):
            await bot.order_executed(
                order_id="7", symbol="BTC-USD", executed_price="50000.10", executed_quantity="0.060", event_id="e1"
            )
        await bot.order_submitted(
            order_id="7", symbol="BTC-USD", side="buy", quantity=Decimal("0.10"), price=50000, order_type="LIMIT"
        )
        await bot.order_executed(
            order_id="7", symbol="BTC-USD", executed_price="50000.10", executed_quantity="0.040", fee="-0.01"
        )
        await bot.trade_completed(
            trade_id="t1", symbol="BTC-USD", entry_price=50000, exit_price=51000, pnl=100, strategy="momentum"
        )
        await until(db, "SELECT count(*) FROM audit.trade_logs", 4)
        await until(db, "SELECT status FROM orders", "FILLED")
    order = await db.fetchrow("SELECT side, quantity::text, filled_quantity::text, avg_price FROM orders")
    assert order is not None
    assert tuple(order.values()) == ("buy", "0.10", "0.100", Decimal("50000.10"))
    assert await db.fetchval("SELECT count(*) FROM executions") == 2
    assert await db.fetchval("SELECT pnl FROM completed_trades WHERE strategy = 'momentum'") == 100
    logs = await db.fetch("SELECT action, status FROM audit.trade_logs ORDER BY timestamp")
    assert sorted(tuple(row.values()) for row in logs) == [
        ("ORDER_BUY", "filled"),
        ("ORDER_BUY", "filled"),
        ("ORDER_BUY", "pending"),
        ("SELL", "filled"),
    ]
    # The query that the audit log's documentation prints.
    rate = await db.fetchval(
        "SELECT COUNT(*) FILTER (WHERE metadata->>'pnl' > '0') * 100.0 / COUNT(*) AS win_rate "
        "FROM audit.trade_logs WHERE action = 'SELL' GROUP BY strategy"
    )
    assert rate == 100
    assert shown["7"]["status"] == "FILLED"
    assert shown["7"]["filledQuantity"] == "0.100"
    assert (shown["7"]["symbol"], shown["7"]["market"]) == ("BTC-USD", "None")
    assert made.total("duplicate") == {"orders_executed": 1}
    assert made.balance() == 0


async def test_endings_balances_and_names(postgres_database: DatabaseForTest, apache_kafka: Broker) -> None:
    config = config_for(apache_kafka)
    db = await postgres_database.connect()
    await upsert_symbols(db, [MarketInfo("kraken", "ETH/USD", "XETHZUSD", "ETH", "USD", "spot", True)])

    def make_store(config: KafkaConfig, metrics: Metrics) -> Store:
        return EventTopics(config.topic_prefix, metrics, default_exchange="kraken")

    async with member(config, postgres_database.dsn, make_store) as made, EventPublisher(config=config) as bot:
        for order_id, symbol in (("1", "ETH-USD"), ("2", "ETHUSD"), ("3", "XETHZUSD"), ("4", "DOGE-USD")):
            await bot.order_submitted(order_id=order_id, symbol=symbol, side="sell", quantity=2)
        await bot.order_rejected(order_id="1", symbol="ETH-USD", reason="insufficient funds")
        await bot.order_cancelled(order_id="2", symbol="ETH-USD")
        await bot.order_cancelled(order_id="3", symbol="ETH-USD", status="expired", exchange="kraken")
        await bot.balance_snapshot(
            balances=[{"asset": "ETH", "available": "1.50", "locked": "2"}, {"asset": "USD", "available": 9}]
        )
        await until(db, "SELECT count(*) FROM audit.trade_logs", 7)
        await until(db, "SELECT count(*) FROM balance_snapshots", 2)
    orders = await db.fetch("SELECT order_id, exchange, symbol, status, error_message FROM orders ORDER BY order_id")
    assert [tuple(row.values()) for row in orders] == [
        ("1", "kraken", "ETH/USD", "REJECTED", "insufficient funds"),
        ("2", "kraken", "ETH/USD", "CANCELLED", None),
        ("3", "kraken", "ETH/USD", "EXPIRED", None),
        ("4", "kraken", "DOGE-USD", "PENDING", None),
    ]
    logs = await db.fetch("SELECT symbol, metadata->>'symbol' AS said, status FROM audit.trade_logs")
    assert sorted(tuple(row.values()) for row in logs) == [
        ("DOGE-USD", "DOGE-USD", "pending"),
        ("ETH/USD", "ETH-USD", "cancelled"),
        ("ETH/USD", "ETH-USD", "expired"),
        ("ETH/USD", "ETH-USD", "pending"),
        ("ETH/USD", "ETH-USD", "rejected"),
        ("ETH/USD", "ETHUSD", "pending"),
        ("ETH/USD", "XETHZUSD", "pending"),
    ]
    held = await db.fetch("SELECT exchange, asset, available::text, locked::text FROM balance_snapshots ORDER BY asset")
    assert [tuple(row.values()) for row in held] == [("kraken", "ETH", "1.50", "2"), ("kraken", "USD", "9", "0")]
    assert made.balance() == 0
    await db.close()


async def test_balances_of_no_exchange_are_put_aside(postgres_database: DatabaseForTest, apache_kafka: Broker) -> None:
    config = config_for(apache_kafka)
    db = await postgres_database.connect()

    def make_store(config: KafkaConfig, metrics: Metrics) -> Store:
        return EventTopics(config.topic_prefix, metrics)

    async with member(config, postgres_database.dsn, make_store) as made, EventPublisher(config=config) as bot:
        await bot.balance_snapshot(balances=[{"asset": "ETH", "available": "1"}])
        await until(db, "SELECT count(*) FROM rejected_records", 1)
    row = await db.fetchrow("SELECT table_name, reason, record->>'error' AS error FROM rejected_records")
    assert row is not None
    assert (row["table_name"], row["reason"]) == ("balance_snapshots", "poison")
    assert "events.default_exchange" in row["error"]
    assert made.total("rejected") == {"balances_snapshot": 1}
    await db.close()


async def test_poison_is_put_aside(postgres_database: DatabaseForTest, apache_kafka: Broker) -> None:
    config = config_for(apache_kafka)
    db = await postgres_database.connect()

    def make_store(config: KafkaConfig, metrics: Metrics) -> Store:
        return EventTopics(config.topic_prefix, metrics)

    async with member(config, postgres_database.dsn, make_store) as made:
        topic = f"{config.topic_prefix}.orders.submitted"
        await group.publish(config, [(topic, (0, b"k", value, [])) for value in (b"{", b"{}", b"\xff")])
        nothing: Any = None  # Kafka knows headers without a value
        _, good = envelope("ORDER_SUBMITTED", datetime.now(UTC), {**ORDER, "order_id": "2"})
        await group.publish(config, [(topic, (0, b"k", good, [(EVENT_ID_HEADER, nothing)]))])
        # Without an event loop of one's own, as a thread of a bot would.
        arguments = {**ORDER, "order_id": "1"}
        await asyncio.to_thread(
            publish, config.bootstrap_servers, "ORDER_SUBMITTED", topic_prefix=config.topic_prefix, **arguments
        )
        await until(db, "SELECT count(*) FROM rejected_records", 4)
        await until(db, "SELECT status FROM orders", "PENDING")
    row = await db.fetchrow("SELECT table_name, reason, record->>'topic' AS topic FROM rejected_records LIMIT 1")
    assert row is not None
    assert tuple(row.values()) == ("orders", "poison", topic)
    assert made.total("rejected") == {"orders_submitted": 4}
    assert made.balance() == 0
    await db.close()


async def test_what_the_server_refuses_is_put_aside_alone(
    postgres_database: DatabaseForTest, apache_kafka: Broker
) -> None:
    config = config_for(apache_kafka)
    db = await postgres_database.connect()
    await db.execute("ALTER TABLE orders ADD CONSTRAINT small CHECK (quantity < 100)")

    def make_store(config: KafkaConfig, metrics: Metrics) -> Store:
        return EventTopics(config.topic_prefix, metrics)

    async with member(config, postgres_database.dsn, make_store) as made, EventPublisher(config=config) as bot:
        for number, quantity in enumerate(["1", "1000", "2"]):
            await bot.order_submitted(order_id=str(number), symbol="BTC-USD", side="buy", quantity=quantity)
        await until(db, "SELECT count(*) FROM orders", 2)
        await until(db, "SELECT count(*) FROM rejected_records", 1)
    row = await db.fetchrow("SELECT sqlstate, record->>'order_id' AS id, error FROM rejected_records")
    assert row is not None
    assert (row["sqlstate"], row["id"]) == ("23514", "1")
    assert f"{config.topic_prefix}.orders.submitted, partition" in row["error"]
    assert made.total("rejected") == {"orders_submitted": 1}
    assert made.balance() == 0
    await db.close()
