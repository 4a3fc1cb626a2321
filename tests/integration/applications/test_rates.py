"""Rate limits count exactly, under concurrency and at the end of a window; metrics have the form of the daemon's."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from ingestd import applications as apps
from ingestd.applications import Cache
from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from ingestd.storage.database import Database
from tests.support.postgres import DatabaseForTest
from tests.support.redis_servers import reader

Make = Callable[..., EmbeddedValkey]
NOWHERE = "redis://127.0.0.1:1/0"
KEY = "rate_limit:7:/orders"


async def counted(cache: Cache, db: Database, limit: int = 5, window_s: float = 3600) -> tuple[bool, int]:
    rate = await apps.count_request(cache, db, 7, "/orders", limit=limit, window_s=window_s)
    assert datetime.now(UTC) - timedelta(seconds=60) < rate.reset_time
    assert rate.reset_time <= datetime.now(UTC) + timedelta(seconds=window_s + 60)
    return rate.allowed, rate.count


async def test_of_concurrent_requests_exactly_the_limit_passes(make_server: Make, db: Database) -> None:
    server = make_server()
    redis = reader(server.url)
    caches = [Cache.at(server.url, reply_timeout_s=30) for _ in range(5)]  # as many programs
    for _ in range(3):  # windows
        rates = await asyncio.gather(*(counted(cache, db, limit=23) for cache in caches for _ in range(20)))
        assert sorted(count for _, count in rates) == list(range(1, 101))
        assert all(allowed == (count <= 23) for allowed, count in rates)
        assert 0 < redis.pttl(KEY) <= 3_600_000
        redis.delete(KEY)  # the window ends
    # Another user and another endpoint have counts of their own.
    assert (await apps.count_request(caches[0], db, 8, "/orders", limit=1, window_s=60)).count == 1
    assert (await apps.count_request(caches[0], db, 7, "/books", limit=1, window_s=60)).count == 1
    for cache in caches:
        await cache.close()


async def test_windows_that_end_while_requests_come_lose_none(make_server: Make, db: Database) -> None:
    """Many short windows: in each the counts go up by one from 1, so none is lost, counted twice or in no window."""
    server = make_server()
    async with Cache.at(server.url, reply_timeout_s=30) as cache:
        counts = [(await counted(cache, db, window_s=0.02))[1] for _ in range(600)]
        assert counts[0] == 1
        assert all(after in (before + 1, 1) for before, after in itertools.pairwise(counts))
        assert counts.count(1) > 1
        assert reader(server.url).pttl(KEY) != -1  # it ends


@pytest.mark.one_server
@pytest.mark.parametrize("spoil", ["word", "negative", "list", "endless", "too long"])
async def test_a_spoiled_count_begins_anew_and_ends(make_server: Make, db: Database, spoil: str) -> None:
    server = make_server()
    redis = reader(server.url)
    if spoil == "list":
        redis.rpush(KEY, "x")
    else:
        redis.set(KEY, {"word": "x", "negative": "-1000"}.get(spoil, "2"), ex=99_999 if spoil == "too long" else None)
    async with Cache.at(server.url, reply_timeout_s=10) as cache:
        begun = 2 if spoil in ("endless", "too long") else 0
        assert await counted(cache, db) == (True, begun + 1)
        assert 0 < redis.pttl(KEY) <= 3_600_000
        assert await counted(cache, db) == (True, begun + 2)


async def test_without_redis_the_table_counts(platform: DatabaseForTest, db: Database) -> None:
    connections = [await platform.connect() for _ in range(4)]
    async with Cache.at(NOWHERE) as cache:

        async def twenty(connection: Database) -> list[tuple[bool, int]]:
            return [await counted(cache, connection, limit=23) for _ in range(20)]

        rates = [rate for of_one in await asyncio.gather(*map(twenty, connections)) for rate in of_one]
        assert sorted(count for _, count in rates) == list(range(1, 81))
        assert sum(allowed for allowed, _ in rates) == 23
        await db.execute("UPDATE platform.rate_limits SET reset_time = now()")
        assert await counted(cache, db) == (True, 1)
        await db.execute("UPDATE platform.rate_limits SET reset_time = now() + INTERVAL '9 days'")
        assert await counted(cache, db) == (True, 2)  # and the window is as long as it is said to be
        # Rows of old windows go.
        await db.execute(
            "INSERT INTO platform.rate_limits"
            " SELECT n, 'old', 1, now() - INTERVAL '2 hours' FROM generate_series(1, 25) AS n"
        )
        for _ in range(3):
            await counted(cache, db)
        assert await db.fetchval("SELECT array_agg(endpoint) FROM platform.rate_limits") == ["/orders"]
    for connection in connections:
        await connection.close()


async def test_what_cannot_be_counted_is_refused(db: Database) -> None:
    async with Cache.at(NOWHERE) as cache:
        for window_s in (0, -1, 0.0001, 86_401, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="a window of"):
                await apps.count_request(cache, db, 7, "/orders", limit=1, window_s=window_s)
        for endpoint in ("", "x" * 201, "a\nb"):
            with pytest.raises(ValueError, match="the name of the endpoint"):
                await apps.count_request(cache, db, 7, endpoint, limit=1, window_s=1)
        with pytest.raises(ValueError, match="no colon"):
            await apps.put_metric(cache, "a:b", "c", 1)


@pytest.mark.one_server
async def test_metrics_have_the_form_of_the_daemon_s(make_server: Make, db: Database) -> None:
    server = make_server()
    redis = reader(server.url)
    async with Cache.at(server.url, reply_timeout_s=10) as cache:
        assert await apps.find_metric(cache, "risk", "exposure") is None
        assert await apps.put_metric(cache, "risk", "exposure", Decimal("12.50"))
        found = redis.hgetall("metrics:risk:exposure")
        assert found["value"] == "12.50"
        assert datetime.now(UTC) - datetime.fromisoformat(found["timestamp"]) < timedelta(seconds=60)
        assert 0 < redis.ttl("metrics:risk:exposure") <= 300
        metric = await apps.find_metric(cache, "risk", "exposure")
        assert metric is not None
        assert (metric.value, metric.timestamp) == (Decimal("12.50"), datetime.fromisoformat(found["timestamp"]))
        redis.hset("metrics:risk:exposure", "value", "many")
        assert await apps.find_metric(cache, "risk", "exposure") is None
        redis.set("metrics:risk:drawdown", "x")
        assert await apps.find_metric(cache, "risk", "drawdown") is None
        assert not await apps.put_metric(cache, "risk", "drawdown", 1)
