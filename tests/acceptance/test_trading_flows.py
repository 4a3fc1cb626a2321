"""The flows of wolfinch and kairos end to end: a daemon reads what bots publish, in any order and with repeats, through
a restart; each table, view and cache is that of a plain replay of the events in their own order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import signal
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from ingestd.config.models import KafkaConfig
from ingestd.kafka.producer import Message
from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from ingestd.status import MarketInfo
from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate
from ingestd.storage.symbols import upsert_symbols
from tests.acceptance.test_kafka_process import section
from tests.support.brokers import Broker
from tests.support.daemon import Daemon, running, write_config
from tests.support.group import publish
from tests.support.influx_servers import Bucket, Influx1
from tests.support.postgres import DatabaseForTest, default_config
from tests.support.redis_servers import reader

BEGIN = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=25)
NAMESPACE = uuid.UUID("8b0d3bd5-6a3c-5f0b-9c53-2f1f0f3f7f6a")
TOPICS = {
    "ORDER_SUBMITTED": "orders.submitted",
    "ORDER_EXECUTED": "orders.executed",
    "ORDER_REJECTED": "orders.rejected",
    "ORDER_CANCELLED": "orders.cancelled",
    "TRADE_COMPLETED": "trades.completed",
    "BALANCE_SNAPSHOT": "balances.snapshot",
}
MARKETS = [
    MarketInfo("binance", "BTC/USDT", "BTCUSDT", "BTC", "USDT", "spot", True),
    MarketInfo("binance", "BTC/USDT:USDT", "BTCUSDT_PERP", "BTC", "USDT", "swap", True, linear=True),
    MarketInfo("kraken", "ETH/USDT", "XETHUSDT", "ETH", "USDT", "spot", True),
]


@dataclass(frozen=True)
class Market:
    """`texts`: what bots call it. `stored`: its compact name, or the text if `symbols` does not know it."""

    exchange: str
    texts: tuple[str, ...]
    stored: str
    base: str | None = None
    quote: str | None = None
    dash: str | None = None  # its name in InfluxDB; None: `symbols` does not know it


POINT_FIELDS = ("price", "size", "fee", "pnl")
PLACES = (
    Market("binance", ("BTC-USDT", "BTC/USDT", "BTCUSDT"), "BTCUSDT", "BTC", "USDT", dash="BTC-USDT"),
    Market("binance", ("BTCUSDT.P", "BTC/USDT:USDT"), "BTCUSDT.P", dash="BTC-USDT.P"),
    Market("kraken", ("XETHUSDT", "ETH-USDT"), "ETHUSDT", "ETH", "USDT", dash="ETH-USDT"),
    Market("kraken", ("DOGE-USDT",), "DOGE-USDT", "DOGE", "USDT"),
)


@dataclass
class Order:
    """An order as its events leave it."""

    order_id: str
    market: Market
    side: str
    order_type: str
    quantity: Decimal
    price: Decimal
    strategy: str | None
    status: str = "PENDING"
    filled: Decimal = Decimal(0)
    value: Decimal = Decimal(0)
    fees: Decimal | None = None
    reason: str | None = None

    def lock(self) -> tuple[str | None, Decimal]:
        """The currency of which it locks an amount for each of its quantity."""
        if self.order_type != "LIMIT":
            return None, Decimal(0)
        return (self.market.quote, self.price) if self.side == "buy" else (self.market.base, Decimal(1))


@dataclass
class Position:
    """What executions of a market and strategy leave."""

    quantity: Fraction = Fraction(0)
    cost: Fraction = Fraction(0)

    def move(self, by: Fraction, price: Fraction) -> None:
        if self.quantity * by >= 0:
            self.cost += abs(by) * price
        elif abs(by) < abs(self.quantity):
            self.cost -= self.cost * abs(by) / abs(self.quantity)
        else:
            self.cost = abs(self.quantity + by) * price
        self.quantity += by


@dataclass
class Replay:
    """What is true after the events, one after the other in their own order."""

    orders: dict[str, Order] = field(default_factory=dict)
    trades: list[dict[str, Any]] = field(default_factory=list)
    logs: Counter[tuple[str | None, ...]] = field(default_factory=Counter)
    executions: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    available: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    locked: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    positions: dict[tuple[str, str, str | None], Position] = field(default_factory=dict)
    history: list[tuple[str, datetime, Decimal, Decimal]] = field(default_factory=list)
    points: Counter[tuple[Any, ...]] = field(default_factory=Counter)

    def pay(self, exchange: str, asset: str | None, available: Decimal, locked: Decimal = Decimal(0)) -> None:
        if asset is not None:
            key = exchange, asset
            self.available[key] = self.available.get(key, Decimal(0)) + available
            self.locked[key] = self.locked.get(key, Decimal(0)) + locked

    def submit(self, order: Order) -> None:
        self.orders[order.order_id] = order
        asset, each = order.lock()
        self.pay(order.market.exchange, asset, -each * order.quantity, each * order.quantity)

    def execute(self, order: Order, quantity: Decimal, price: Decimal, fee: Decimal | None) -> None:
        exchange, sign = order.market.exchange, 1 if order.side == "buy" else -1
        asset, each = order.lock()
        self.pay(exchange, asset, each * quantity, -each * quantity)
        if order.market.base is not None:
            self.pay(exchange, order.market.base, sign * quantity)
            self.pay(exchange, order.market.quote, -sign * quantity * price - (fee or Decimal(0)))
        order.filled += quantity
        order.value += quantity * price
        order.fees = order.fees if fee is None else (order.fees or Decimal(0)) + fee
        order.status = "FILLED" if order.filled >= order.quantity else "PARTIALLY_FILLED"
        key = exchange, order.market.stored, order.strategy
        self.positions.setdefault(key, Position()).move(Fraction(sign * quantity), Fraction(price))

    def end(self, order: Order, status: str, reason: str | None) -> None:
        asset, each = order.lock()
        left = each * (order.quantity - order.filled)
        self.pay(order.market.exchange, asset, left, -left)
        order.status, order.reason = status, reason

    def snapshot(self, exchange: str, at: datetime, held: dict[str, tuple[str, str]]) -> None:
        for asset, (available, locked) in held.items():
            self.available[exchange, asset], self.locked[exchange, asset] = Decimal(available), Decimal(locked)
        gained = sum((Decimal(trade["pnl"]) for trade in self.trades if trade["exchange"] == exchange), Decimal(0))
        if "USDT" in held:
            self.history.append((exchange, at, sum(map(Decimal, held["USDT"]), Decimal(0)), gained))


@dataclass(frozen=True)
class Sent:
    """An event as it is published."""

    event_type: str
    value: bytes

    @property
    def topic(self) -> str:
        return TOPICS[self.event_type]


class Bots:
    """Draws a few days of trading: the events that bots publish, and their replay."""

    def __init__(self, seed: int, orders: int) -> None:
        self.draw = random.Random(seed)
        self.sent: list[Sent] = []
        self.is_true = Replay()
        self._at = BEGIN
        self._live: list[Order] = []
        for exchange in ("binance", "kraken"):
            self.report(exchange)
        for number in range(orders):
            self.place(number)
            while self._live and self.draw.random() < 0.6:
                self.go_on(self.draw.choice(self._live))
            if self.draw.random() < 0.3:
                self.complete(number)
            if self.draw.random() < 0.05:
                self.report(self.draw.choice(["binance", "kraken"]))

    def say(self, event_type: str, **data: Any) -> None:
        """Time goes on, and this happens. The exchange binance is the default, and is not said."""
        given = {name: value for name, value in data.items() if value is not None and value != "binance"}
        value = {"event_type": event_type, "timestamp": self._at.isoformat(), "data": given}
        self.sent.append(Sent(event_type, json.dumps(value).encode()))
        self._at += timedelta(seconds=self.draw.randrange(1, 900))

    def log(self, action: str, status: str, market: Market, text: str, order_id: str | None) -> None:
        self.is_true.logs[action, status, market.exchange, market.stored, text, order_id] += 1

    def point(self, event_type: str, status: str, market: Market, said: dict[str, Any], **numbers: Any) -> None:
        """What InfluxDB is sent: only what the event says of itself, and the default exchange."""
        exchange = said.get("exchange") or "binance"
        product = market.dash if market.dash is not None and exchange == market.exchange else said["symbol"]
        tags = event_type, exchange, product, said.get("order_id"), said.get("side"), status
        fields = (None if numbers.get(name) is None else float(numbers[name]) for name in POINT_FIELDS)
        self.is_true.points[*tags, *fields] += 1

    def amount(self, most: int) -> Decimal:
        return Decimal(self.draw.randrange(1, most)) / 100

    def report(self, exchange: str) -> None:
        held = {asset: (str(self.amount(9000)), str(self.amount(50))) for asset in self.draw.sample(["BTC", "ETH"], 1)}
        held["USDT"] = (str(self.amount(90000)), str(self.amount(500)))
        self.is_true.snapshot(exchange, self._at, held)
        rows = [{"asset": asset, "available": row[0], "locked": row[1]} for asset, row in held.items()]
        self.say("BALANCE_SNAPSHOT", exchange=exchange, balances=rows)

    def place(self, number: int) -> None:
        market = self.draw.choice(PLACES)
        order_id = str(uuid.UUID(int=number)) if number % 2 else f"order {number}"
        side, order_type = self.draw.choice(["buy", "sell"]), self.draw.choice(["LIMIT", "LIMIT", "MARKET"])
        strategy = self.draw.choice(["momentum", "mean", None])
        order = Order(order_id, market, side, order_type, self.amount(500), self.amount(9000), strategy)
        self.is_true.submit(order)
        text = self.draw.choice(market.texts)
        self.log(f"ORDER_{side.upper()}", "pending", market, text, order_id)
        numbers = {"quantity": str(order.quantity), "price": str(order.price)}
        named = {"order_id": order_id, "symbol": text, "exchange": market.exchange, "side": side}
        self.point("order_submitted", "pending", market, named, price=order.price, size=order.quantity)
        self.say("ORDER_SUBMITTED", **named, **numbers, order_type=order_type, strategy=strategy)
        self._live.append(order)

    def go_on(self, order: Order) -> None:
        """The order is executed, at least in part, or ends otherwise."""
        market, kind = order.market, self.draw.random()
        text = self.draw.choice(market.texts)
        named = {"order_id": order.order_id, "symbol": text, "exchange": self.draw.choice([market.exchange, None])}
        action = f"ORDER_{order.side.upper()}"
        if kind < 0.25:
            status = "REJECTED" if not order.filled and kind < 0.1 else self.draw.choice(["CANCELLED", "EXPIRED"])
            reason = self.draw.choice([None, "too late"])
            self.is_true.end(order, status, reason)
            self.log(action, status.lower(), market, text, order.order_id)
            said = None if status != "EXPIRED" else "expired"
            event_type = "order_rejected" if status == "REJECTED" else "order_cancelled"
            self.point(event_type, status.lower(), market, named)
            self.say(f"ORDER_{status.replace('EXPIRED', 'CANCELLED')}", **named, reason=reason, status=said)
        else:
            left = order.quantity - order.filled
            quantity = left if kind < 0.6 else min(left, self.amount(300))
            price = order.price + self.draw.randrange(-3, 4) * Decimal("0.01")
            fee = None if kind > 0.8 or market.base is None else self.amount(9)
            self.is_true.execute(order, quantity, price, fee)
            self.is_true.executions[order.order_id, market.exchange, market.stored, quantity, price, fee] += 1
            self.log(action, "filled", market, text, order.order_id)
            numbers = {"executed_quantity": str(quantity), "executed_price": str(price)}
            self.point("order_executed", "filled", market, named, price=price, size=quantity, fee=fee)
            self.say("ORDER_EXECUTED", **named, **numbers, fee=None if fee is None else str(fee))
        if order.status != "PARTIALLY_FILLED":
            self._live.remove(order)

    def complete(self, number: int) -> None:
        market, side = self.draw.choice(PLACES), self.draw.choice(["buy", "sell"])
        text = self.draw.choice(market.texts)
        trade = {"strategy": self.draw.choice(["momentum", "mean", None]), "pnl": str(self.amount(900) - 4)}
        self.is_true.trades.append({**trade, "at": self._at, "exchange": market.exchange, "symbol": market.stored,
                                    "trade_id": str(number), "side": side})  # fmt: skip
        self.log("SELL" if side == "buy" else "BUY", "filled", market, text, None)
        named = {"trade_id": str(number), "symbol": text, "exchange": market.exchange, "side": side}
        self.point("position_closed", "filled", market, named, price=60, size=2, pnl=trade["pnl"])
        self.say("TRADE_COMPLETED", **named, **trade, quantity="2", entry_price="50", exit_price="60")

    def deliveries(self) -> list[list[Sent]]:
        """In two parts: everything shuffled, and a third of it once or twice again."""
        everything = [*self.sent, *self.draw.choices(self.sent, k=len(self.sent) // 3)]
        self.draw.shuffle(everything)
        return [everything[: len(everything) // 2], everything[len(everything) // 2 :]]


async def send(config: KafkaConfig, events: Sequence[Sent], draw: random.Random) -> None:
    messages: list[tuple[str, Message]] = [
        (f"{config.topic_prefix}.{event.topic}", (0, str(draw.randrange(9)).encode(), event.value, []))
        for event in events
    ]
    await publish(config, messages)


async def until_read(daemon: Daemon, db: Database, messages: int) -> None:
    """Until the daemon has stored the offsets behind so many messages of all topics."""
    read = "SELECT coalesce(sum(position), 0)::bigint FROM ingest_positions WHERE starts_with(source, 'kafka:')"
    async with asyncio.timeout(120):
        while await db.fetchval(read) != messages:
            assert daemon.process.returncode is None, daemon.log()
            await asyncio.sleep(0.05)


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> Bucket | None:
    """A database of InfluxDB, if this machine has one. The rest is tried without it, too."""
    if shutil.which("influxd") is None:
        return None
    server: Influx1 = request.getfixturevalue("influx1")
    return server.database()


async def require_points(bucket: Bucket, is_true: Replay) -> None:
    """Each event is a point, once."""
    tags = "event_type", "exchange", "product", "order_id", "side", "status"
    named = ", ".join(f'"{name}"' for name in POINT_FIELDS)
    grouped = ", ".join(f'"{name}"' for name in tags)
    # InfluxQL leaves out rows in which every field that is asked for is missing.
    query = f'SELECT "event_id", {named} FROM "trade_event" GROUP BY {grouped}'
    found: Counter[tuple[Any, ...]] = Counter()
    with contextlib.suppress(TimeoutError):  # then what is compared tells what is missing
        async with asyncio.timeout(60):
            while found.total() < is_true.points.total():
                rows = await asyncio.to_thread(bucket.query, query)
                found = Counter(
                    (*(row.get(name) or None for name in tags), *(row[name] for name in POINT_FIELDS)) for row in rows
                )
                await asyncio.sleep(0.2)
    assert found == is_true.points


PACKS = ["kairos", "wolfinch", "fks", "platform"]


@pytest.mark.parametrize(("orders", "is_killed"), [(60, False), pytest.param(600, True, marks=pytest.mark.campaign)])
async def test_events_leave_what_happened(
    postgres_database: DatabaseForTest,
    apache_kafka: Broker,
    bucket: Bucket | None,
    tmp_path: Path,
    orders: int,
    is_killed: bool,
) -> None:
    bots = Bots(seed=orders, orders=orders)
    settings = section(apache_kafka)
    kafka = KafkaConfig.model_validate(settings)
    db = await postgres_database.connect()
    with EmbeddedValkey() as server:
        document = {
            "instance": {"role": "sink"},
            "database": {"dsn": postgres_database.dsn, "packs": PACKS, "symbol_style": "compact"},
            "packs": {"fks": {"exchange": "binance"}},
            "events": {"default_exchange": "binance"},
            "redis": {"url": server.url},
            "kafka": settings,
        }
        if bucket is not None:
            document["influx"] = {"url": bucket.url, "bucket": bucket.name}
        await set_up(db, document)
        read = 0
        for number, part in enumerate(bots.deliveries()):
            async with running(write_config(tmp_path, document)) as daemon:
                await send(kafka, part, bots.draw)
                read += len(part)
                if is_killed and not number:
                    await asyncio.sleep(1)
                    daemon.signal(signal.SIGKILL)
                    await daemon.ended()
                    continue
                await until_read(daemon, db, read)
                if number and bucket is not None:
                    await require_points(bucket, bots.is_true)
                assert await daemon.stop() == 0
        with reader(server.url) as client:
            shown = {order_id: client.hgetall(f"order:{order_id}") for order_id in bots.is_true.orders}
    await require_audit(db, bots.is_true)
    # What a killed daemon had not shown yet is shown when the order changes again.
    await require_orders(db, bots.is_true, {} if is_killed else shown)
    await require_balances(db, bots.is_true)
    await require_performance(db, bots.is_true)
    await db.close()


async def set_up(db: Database, document: dict[str, Any]) -> None:
    await migrate(db, default_config(database={"dsn": "postgresql://u@h/db", "packs": PACKS}, packs=document["packs"]))
    await db.execute("UPDATE ingestd_settings SET value = 'compact' WHERE name = 'symbol_style'")
    await upsert_symbols(db, MARKETS)


async def rows_of(db: Database, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in await db.fetch(sql)]


async def require_audit(db: Database, is_true: Replay) -> None:
    logs = await rows_of(
        db, "SELECT action, status, exchange, symbol, metadata->>'symbol', order_id FROM audit.trade_logs"
    )
    assert Counter(logs) == is_true.logs
    assert await db.fetchval("SELECT count(*) FROM rejected_records") == 0
    told = await rows_of(db, "SELECT DISTINCT event_type FROM audit.system_events ORDER BY 1")
    assert {row[0] for row in told} <= {"START", "STOP", "BALANCE_NEGATIVE"}


async def require_orders(db: Database, is_true: Replay, shown: dict[str, dict[str, str]]) -> None:
    """The tables, the table of kairos, and the cache."""
    found = await rows_of(
        db,
        "SELECT order_id, exchange, symbol, side, order_type, quantity, price, filled_quantity, round(avg_price, 9),"
        " status, error_message, strategy FROM orders",
    )
    wanted = {order_id: facts(order) for order_id, order in is_true.orders.items()}
    assert {row[0]: row[1:] for row in found} == wanted
    executions = await rows_of(db, "SELECT order_id, exchange, symbol, quantity, price, fee FROM executions")
    assert Counter(executions) == is_true.executions

    kairos = await rows_of(
        db,
        "SELECT id, exchange, symbol, lower(side), order_type, quantity, price, filled_quantity, round(avg_price, 9),"
        " status, error_message FROM kairos.orders",
    )
    assert {str(row[0]): row[1:] for row in kairos} == {kairos_id(key): row[:-1] for key, row in wanted.items()}
    executed = await rows_of(
        db,
        "SELECT order_id, round(price, 9), filled_quantity, fees, status, strategies.name FROM platform.executed_orders"
        " LEFT JOIN platform.strategies ON strategies.id = strategy_id",
    )
    assert {row[0]: row[1:] for row in executed} == {
        key: (average(order), order.filled, order.fees, order.status, order.strategy)
        for key, order in is_true.orders.items()
        if order.filled
    }
    for order_id, cached in shown.items():
        order = is_true.orders[order_id]
        assert (cached["symbol"], cached["exchange"], cached["status"]) == (
            order.market.stored,
            order.market.exchange,
            order.status,
        )
        assert Decimal(cached["filledQuantity"]) == order.filled


def facts(order: Order) -> tuple[Any, ...]:
    market = order.market
    numbers = order.quantity, order.price, order.filled, average(order)
    return market.exchange, market.stored, order.side, order.order_type, *numbers, *ending(order), order.strategy


def ending(order: Order) -> tuple[str, str | None]:
    return order.status, order.reason


def average(order: Order) -> Decimal | None:
    return round(order.value / order.filled, 9) if order.filled else None


def kairos_id(order_id: str) -> str:
    return order_id if "order" not in order_id else str(uuid.uuid5(NAMESPACE, order_id))


async def require_balances(db: Database, is_true: Replay) -> None:
    wanted = {
        key: (amount, is_true.locked[key]) for key, amount in is_true.available.items() if amount or is_true.locked[key]
    }
    for schema in ("public", "kairos"):
        rows = await rows_of(db, f"SELECT exchange, asset, available, locked FROM {schema}.balances")
        assert {row[:2]: row[2:] for row in rows if any(row[2:])} == wanted, schema
    negative = {key for key, row in wanted.items() if min(row) < 0}
    told = await rows_of(
        db,
        "SELECT metadata->>'exchange', metadata->>'asset' FROM audit.system_events"
        " WHERE event_type = 'BALANCE_NEGATIVE'",
    )
    assert negative <= set(told)
    history = await rows_of(
        db,
        "SELECT accounts.exchange, time, balance, cumulative_pnl FROM fks.balance_history"
        " JOIN fks.accounts ON accounts.id = account_id ORDER BY 2",
    )
    assert history == is_true.history
    open_ones = await rows_of(
        db,
        "SELECT positions.exchange, symbol, name, side, quantity, round(entry_price, 9) FROM platform.positions"
        " LEFT JOIN platform.strategies ON strategies.id = strategy_id WHERE closed_at IS NULL",
    )
    assert {row[:3]: row[3:] for row in open_ones} == dict(positions(is_true))


def positions(is_true: Replay) -> Iterator[tuple[tuple[str, str, str | None], tuple[Any, ...]]]:
    for key, position in is_true.positions.items():
        if position.quantity:
            entry = position.cost / abs(position.quantity)
            side = "buy" if position.quantity > 0 else "sell"
            yield key, (side, decimal(abs(position.quantity)), decimal(entry))


def decimal(number: Fraction) -> Decimal:
    return round(Decimal(number.numerator) / number.denominator, 9)


async def require_performance(db: Database, is_true: Replay) -> None:
    trades = await rows_of(
        db, "SELECT trade_id, exchange, symbol, side, pnl, strategy, completed_at FROM completed_trades"
    )
    assert sorted(trades) == sorted(
        (
            each["trade_id"],
            each["exchange"],
            each["symbol"],
            each["side"],
            Decimal(each["pnl"]),
            each["strategy"],
            each["at"],
        )
        for each in is_true.trades
    )
    days: dict[tuple[Any, ...], list[Decimal]] = {}
    markets: dict[tuple[Any, ...], list[Decimal]] = {}
    rates: dict[str | None, list[Decimal]] = {}
    for each in is_true.trades:
        gain, day = Decimal(each["pnl"]), each["at"].date()
        days.setdefault((day, each["strategy"]), []).append(gain)
        markets.setdefault((day, each["strategy"] or "unknown", each["symbol"]), []).append(gain)
        rates.setdefault(each["strategy"], []).append(gain)
    daily = await rows_of(db, "SELECT date, strategy, daily_pnl, trades FROM audit.daily_pnl")
    assert {row[:2]: row[2:] for row in daily} == {key: (sum(rows), len(rows)) for key, rows in days.items()}
    rated = await rows_of(db, "SELECT strategy, round(win_rate, 9) FROM audit.win_rate")
    assert dict(rated) == {key: rate(rows) for key, rows in rates.items()}
    measured = await rows_of(
        db,
        "SELECT timestamp::date, strategy, symbol, pnl, total_trades, round(win_rate, 9)"
        " FROM analytics.performance_metrics",
    )
    assert {row[:3]: row[3:] for row in measured} == {
        key: (sum(rows), len(rows), rate(rows)) for key, rows in markets.items()
    }
    platform = await rows_of(
        db,
        "SELECT time::date, name, value FROM platform.performance_metrics"
        " JOIN platform.strategies ON strategies.id = strategy_id WHERE metric_name = 'pnl'",
    )
    assert {row[:2]: row[2] for row in platform} == {key: sum(rows) for key, rows in days.items() if key[1]}


def rate(gains: Sequence[Decimal]) -> Decimal:
    return decimal(Fraction(100 * sum(gain > 0 for gain in gains), len(gains)))
