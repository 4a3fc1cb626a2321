"""Publishes events of a trading program to the topics that ingestd stores, with one call each.

    async with EventPublisher(["localhost:9092"]) as publisher:
        await publisher.order_submitted(
            order_id="12345", symbol="BTC-USD", side="buy", quantity="0.1", price="50000", order_type="LIMIT"
        )
        await publisher.order_executed(
            order_id="12345", symbol="BTC-USD", executed_price="50000", executed_quantity="0.1"
        )
        await publisher.trade_completed(
            trade_id="67890", symbol="BTC-USD", entry_price="50000", exit_price="51000", pnl="100", strategy="momentum"
        )

From a program without an event loop:

    publish(["localhost:9092"], "ORDER_SUBMITTED", order_id="12345", symbol="BTC-USD", side="buy", quantity="0.1")

A call returns when every in-sync replica has the event, and raises KafkaError or ConnectionLost when that is not known.
Then repeat it with the same `event_id`: the event is stored once. Without an `event_id` each call is a new event. Pass
numbers as text or Decimal: a float does not keep your digits.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Self, TypeAlias

import msgspec

from ingestd.config.models import KafkaConfig
from ingestd.errors import EnvelopeError
from ingestd.events.messages import EVENT_ID_HEADER, EVENT_TYPES, NUMBER_FIELDS, Headers, read_event
from ingestd.kafka.producer import Producer, partition_for

Number: TypeAlias = str | int | Decimal | float

_LARGEST_EXPONENT = 100  # beyond that, writing out the digits would take too long


class EventPublisher:
    """One connection to the brokers, opened at the first event. After a failure the next event opens a new one."""

    def __init__(
        self,
        bootstrap_servers: Sequence[str] = ("localhost:9092",),
        *,
        topic_prefix: str = "wolfinch",
        config: KafkaConfig | None = None,
    ) -> None:
        """`config` replaces the other arguments and has every option of `[kafka]`: TLS, SASL, timeouts, topics."""
        self._config = config or KafkaConfig(bootstrap_servers=list(bootstrap_servers), topic_prefix=topic_prefix)
        self._producer: Producer | None = None
        self._alone = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. Never raises."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.close()

    async def order_submitted(
        self,
        *,
        order_id: str,
        symbol: str,
        side: str,
        quantity: Number,
        price: Number | None = None,
        order_type: str = "MARKET",
        event_id: str | None = None,
        timestamp: datetime | None = None,
        **more: Any,
    ) -> None:
        """Publish that an order was sent to an exchange. `more`: exchange, strategy, client_id, and so on."""
        data = {"order_id": order_id, "symbol": symbol, "side": side, "quantity": quantity, "price": price}
        await self.publish(
            "ORDER_SUBMITTED", event_id=event_id, timestamp=timestamp, **data, order_type=order_type, **more
        )

    async def order_executed(
        self,
        *,
        order_id: str,
        symbol: str,
        executed_price: Number,
        executed_quantity: Number,
        event_id: str | None = None,
        timestamp: datetime | None = None,
        **more: Any,
    ) -> None:
        """Publish that an order was executed, partly or fully. `more`: exchange, side, fee, strategy, and so on."""
        data = {"executed_price": executed_price, "executed_quantity": executed_quantity, "symbol": symbol}
        await self.publish("ORDER_EXECUTED", event_id=event_id, timestamp=timestamp, order_id=order_id, **data, **more)

    async def order_rejected(
        self,
        *,
        order_id: str,
        symbol: str,
        reason: str | None = None,
        event_id: str | None = None,
        timestamp: datetime | None = None,
        **more: Any,
    ) -> None:
        """Publish that the exchange did not accept an order. `more`: exchange, side, quantity, strategy, and so on."""
        data = {"order_id": order_id, "symbol": symbol, "reason": reason}
        await self.publish("ORDER_REJECTED", event_id=event_id, timestamp=timestamp, **data, **more)

    async def order_cancelled(
        self,
        *,
        order_id: str,
        symbol: str,
        reason: str | None = None,
        event_id: str | None = None,
        timestamp: datetime | None = None,
        **more: Any,
    ) -> None:
        """Publish that an order was cancelled, or that it expired (`status="EXPIRED"`). `more`: exchange, and so on."""
        data = {"order_id": order_id, "symbol": symbol, "reason": reason}
        await self.publish("ORDER_CANCELLED", event_id=event_id, timestamp=timestamp, **data, **more)

    async def balance_snapshot(
        self,
        *,
        balances: Sequence[Mapping[str, str | Number]],
        exchange: str | None = None,
        event_id: str | None = None,
        timestamp: datetime | None = None,
        **more: Any,
    ) -> None:
        """Publish what an account holds, as the exchange reports it; `timestamp` is when it did.

        `balances` has a row for each asset: `{"asset": "BTC", "available": "1.5", "locked": "0.2"}`. Assets that are
        left out did not change.
        """
        await self.publish(
            "BALANCE_SNAPSHOT",
            event_id=event_id,
            timestamp=timestamp,
            balances=[dict(balance) for balance in balances],
            exchange=exchange,
            **more,
        )

    async def trade_completed(
        self,
        *,
        trade_id: str,
        symbol: str,
        entry_price: Number,
        exit_price: Number,
        pnl: Number,
        strategy: str | None = None,
        event_id: str | None = None,
        timestamp: datetime | None = None,
        **more: Any,
    ) -> None:
        """Publish that a trade was closed. `more`: exchange, side (of the entry), quantity, and so on."""
        data = {"entry_price": entry_price, "exit_price": exit_price, "pnl": pnl, "strategy": strategy}
        await self.publish(
            "TRADE_COMPLETED", event_id=event_id, timestamp=timestamp, trade_id=trade_id, symbol=symbol, **data, **more
        )

    async def publish(
        self, event_type: str, *, event_id: str | None = None, timestamp: datetime | None = None, **data: Any
    ) -> None:
        """Send one event. Raises EnvelopeError, before anything is sent, if ingestd would not store the event."""
        now = datetime.now(UTC)
        given = str(uuid.uuid4()) if event_id is None else event_id
        headers = [(EVENT_ID_HEADER, given.encode("utf-8", "surrogatepass"))]
        key, value = envelope(event_type, timestamp or now, data, headers)
        topic = f"{self._config.topic_prefix}.{EVENT_TYPES[event_type].topic}"
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        async with self._alone:
            if self._producer is None:
                topics = [f"{self._config.topic_prefix}.{event.topic}" for event in EVENT_TYPES.values()]
                self._producer = await Producer.connect(self._config, "ingestd events", topics)
            try:
                partition = partition_for(key, await self._producer.partitions(topic))
                await self._producer.send(topic, partition, [(now_ms, key, value, headers)])
            except BaseException:
                await self.close()
                raise


def publish(
    bootstrap_servers: Sequence[str],
    event_type: str,
    *,
    topic_prefix: str = "wolfinch",
    config: KafkaConfig | None = None,
    **data: Any,
) -> None:
    """Send one event from a program without an event loop, over its own connection. Otherwise as EventPublisher."""

    async def once() -> None:
        async with EventPublisher(bootstrap_servers, topic_prefix=topic_prefix, config=config) as publisher:
            await publisher.publish(event_type, **data)

    asyncio.run(once())


def envelope(event_type: str, timestamp: datetime, data: dict[str, Any], headers: Headers = ()) -> tuple[bytes, bytes]:
    """The message's key and value. Fields that are None are left out; numbers keep their digits as JSON numbers.

    Raises EnvelopeError for an event that the consumer would refuse.
    """
    if event_type not in EVENT_TYPES:
        raise EnvelopeError(f"{event_type!r} is no event type: use one of {', '.join(EVENT_TYPES)}")
    if timestamp.tzinfo is None:
        raise EnvelopeError("timestamp has no time zone: use datetime.now(UTC)")
    given = {name: value for name, value in data.items() if value is not None}
    for name in EVENT_TYPES[event_type].needs:
        if name not in given or given[name] == "":
            raise EnvelopeError(f"{event_type} needs {name}")
    written = {name: _number(name, value) if name in NUMBER_FIELDS else value for name, value in given.items()}
    at = timestamp.astimezone(UTC).isoformat().replace("+00:00", "Z")
    try:
        value = msgspec.json.encode({"event_type": event_type, "timestamp": at, "data": written})
    except (TypeError, ValueError, RecursionError) as error:
        raise EnvelopeError(f"{event_type} holds a value that JSON has no form for: {error}") from error
    read_event(event_type, value, headers, datetime.now(UTC))
    return str(given.get("symbol") or given.get("exchange") or "").encode(), value


def _number(name: str, value: Any) -> msgspec.Raw:
    try:
        number = Decimal(str(value))
    except ArithmeticError as error:
        raise EnvelopeError(f"{name} is not a number (found {value!r})") from error
    if isinstance(value, bool) or not number.is_finite() or abs(number.adjusted()) > _LARGEST_EXPONENT:
        raise EnvelopeError(f"{name} is not a number that it may be (found {value!r})")
    return msgspec.Raw(format(number, "f").encode())
