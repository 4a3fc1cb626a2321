"""The demo's Redis and Kafka: embedded servers, each with an independent client that records what arrives."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ingestd.config.models import KafkaConfig
from ingestd.kafka import envelope
from ingestd.kafka.consumer import read_to_end
from ingestd.lab.demo.processes import Say
from ingestd.lab.sim.embedded_kafka import EmbeddedKafka
from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from ingestd.lab.sim.subscriber import command

PATTERNS = ("market_data:*", "trades:*")
_CHANNEL_OF_TOPIC = {"rejected": "rejections"}
_CHANNELS = {b"market_data": "ticks", b"trades": "trades"}
_ANSWER_S = 10.0
_READ_S = 60.0

# (trade id, price, quantity, side), digits exactly as written
ShownTrade: TypeAlias = tuple[str, str, str, str | None]


@dataclass(slots=True)
class Arrivals:
    """Messages by channel or topic, and the trades in them."""

    counts: Counter[str] = field(default_factory=Counter)
    trades: Counter[ShownTrade] = field(default_factory=Counter)


@dataclass(slots=True)
class Fanout:
    """The two servers and what their subscribers received."""

    redis_url: str
    kafka: dict[str, Any]
    subscriber: Subscriber
    redis: Arrivals = field(default_factory=Arrivals)
    topics: Arrivals = field(default_factory=Arrivals)
    cached_keys: int = 0

    def sections(self, primary_exchange: str) -> dict[str, Any]:
        """The daemon's configuration sections for both servers."""
        return {"redis": {"url": self.redis_url, "primary_exchange": primary_exchange}, "kafka": self.kafka}

    async def collect(self) -> None:
        """Record everything that arrived; call it after the daemon has ended."""
        self.redis = await self.subscriber.finish()
        self.cached_keys = await self.subscriber.count_keys()
        self.topics = await _read_topics(KafkaConfig.model_validate(self.kafka))


@contextlib.asynccontextmanager
async def fanout(say: Say) -> AsyncIterator[Fanout]:
    """Run both servers, with a subscriber connected before the first message."""
    say("starting an embedded Valkey and a Kafka-compatible broker")
    async with EmbeddedValkey() as valkey, EmbeddedKafka() as broker:
        subscriber = Subscriber(valkey.port)
        await subscriber.start()
        try:
            yield Fanout(valkey.url, broker.settings(), subscriber)
        finally:
            await subscriber.close()


class Subscriber:
    """Reads the live channels over a plain socket, independently of the daemon's client library."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._arrivals = Arrivals()
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def start(self) -> None:
        """Subscribe; every later message is recorded."""
        async with asyncio.timeout(_ANSWER_S):
            reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
            self._writer.write(command("PSUBSCRIBE", *PATTERNS))
            for _ in PATTERNS:
                await _reply(reader)
        self._task = asyncio.create_task(self._read(reader), name="demo-subscriber")

    async def finish(self) -> Arrivals:
        """Wait until everything published so far has been read."""
        assert self._writer is not None, "it was started"
        assert self._task is not None, "it was started"
        self._writer.write(command("PING"))  # the reply comes after all earlier messages
        async with asyncio.timeout(_READ_S):
            await self._task
        return self._arrivals

    async def count_keys(self) -> int:
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(command("DBSIZE"))
            count = await _reply(reader)
        writer.close()
        return int(count)

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            kind, *content = await _reply(reader)
            if kind == b"pong":
                return
            if kind == b"pmessage":
                self._note(content[1], content[2])

    def _note(self, channel: bytes, payload: bytes) -> None:
        name = _CHANNELS[channel.partition(b":")[0]]
        self._arrivals.counts[name] += 1
        if name == "trades":
            # Keep numbers as text: a float would hide a lost digit.
            trade = json.loads(payload, parse_float=str, parse_int=str)
            self._arrivals.trades[trade["tradeId"], trade["price"], trade["quantity"], trade["side"]] += 1


async def _reply(reader: asyncio.StreamReader) -> Any:
    """Read one value of RESP, version 2."""
    line = await reader.readuntil(b"\r\n")
    kind, text = line[:1], line[1:-2]
    if kind == b"*":
        return [await _reply(reader) for _ in range(int(text))]
    if kind == b"$":
        return (await reader.readexactly(int(text) + 2))[:-2]
    return text


async def _read_topics(config: KafkaConfig) -> Arrivals:
    arrivals = Arrivals()
    topics = envelope.topics(config.topic_prefix)
    async with asyncio.timeout(_READ_S):
        async for message in read_to_end(config, "ingestd demo", list(topics)):
            name = _CHANNEL_OF_TOPIC.get(kind := topics[message.topic], kind)
            arrivals.counts[name] += 1
            if name == "trades":
                trade = json.loads(message.value or b"")["data"]
                arrivals.trades[trade["trade_id"], trade["price"], trade["quantity"], trade["side"]] += 1
    return arrivals
