"""The live sink into Redis."""

from __future__ import annotations

import pytest
import redis

from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from ingestd.ops.metrics import Metrics
from ingestd.sinks.base import LiveSink
from ingestd.sinks.redis.options import RedisConfig
from ingestd.sinks.redis.sink import RedisLive
from tests.support.redis_servers import SERVERS as SERVERS
from tests.support.redis_servers import server_binary


def harness(request: pytest.FixtureRequest, server: str) -> RedisHarness:
    started = EmbeddedValkey(binary=server_binary(server))
    started.start()
    request.addfinalizer(started.stop)
    return RedisHarness(started.url)


class RedisHarness:
    def __init__(self, url: str) -> None:
        self.url = url
        self._client: redis.Redis = redis.Redis.from_url(url, decode_responses=True)

    def make(self, metrics: Metrics) -> LiveSink:
        return self._made(self.url, metrics)

    def make_without_server(self, metrics: Metrics) -> LiveSink:
        return self._made("redis://127.0.0.1:1/0", metrics)

    def last_price(self) -> str | None:
        price: str | None = self._client.hget("price:binance:BTCUSDT", "price")  # type: ignore[assignment] # no coroutine here
        return price

    def _made(self, url: str, metrics: Metrics) -> LiveSink:
        return RedisLive(RedisConfig(url=url, cache_flush_ms=5), metrics, instance="contract")
