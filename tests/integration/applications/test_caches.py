"""Sessions, strategies and limits: the table is the truth, whatever Redis holds and whether it is there."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ingestd import applications as apps
from ingestd.applications import Cache, RiskLimits, Strategy
from ingestd.errors import DatabaseError, SchemaError
from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from ingestd.storage.database import Database
from tests.support.postgres import DatabaseForTest
from tests.support.redis_servers import reader

pytestmark = pytest.mark.one_server

Make = Callable[..., EmbeddedValkey]

PAGE = (Path(__file__).parents[3] / "docs" / "applications.md").read_text(encoding="utf-8")
TOKEN = "a-token-of-a-user-that-nobody-can-guess"
HASH = hashlib.sha256(TOKEN.encode()).hexdigest()
LATER = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)


async def holds_over(redis: Any, key: str) -> None:
    """End a hold at once, as its time would, unless the time has."""
    assert redis.get(key) in ("null", None)
    assert redis.ttl(key) in (-2, *range(11))
    redis.delete(key)


async def test_a_session_from_its_beginning_to_its_end(make_server: Make, db: Database) -> None:
    server = make_server()
    redis = reader(server.url)
    async with Cache.at(server.url, reply_timeout_s=10) as cache, Cache.at(server.url, reply_timeout_s=10) as other:
        assert await apps.find_session(cache, db, TOKEN) is None
        assert redis.keys() == []  # nobody fills Redis with tokens that he invents
        await apps.open_session(cache, db, 7, TOKEN, LATER)
        assert await db.fetchval("SELECT session_token FROM platform.user_sessions") == HASH
        await holds_over(redis, f"session:{HASH}")
        found = await apps.find_session(cache, db, TOKEN)
        assert found is not None
        assert (found.user_id, found.expires_at) == (7, LATER)
        copy = json.loads(redis.get(f"session:{HASH}"))
        assert set(copy) == {"user_id", "expires_at", "last_accessed"}
        assert 0 < redis.ttl(f"session:{HASH}") <= 60
        assert not any(TOKEN in key for key in redis.scan_iter())
        # The copy answers: what other SQL did is seen by who asks for it, and by all when the copy has expired.
        await db.execute("DELETE FROM platform.user_sessions")
        assert await apps.find_session(other, db, TOKEN) == found
        assert await apps.find_session(other, db, TOKEN, fresh=True) is None
        redis.delete(f"session:{HASH}")
        assert await apps.find_session(cache, db, TOKEN) is None
        # The module's own end is seen at once, by every program.
        await apps.open_session(cache, db, 7, TOKEN, LATER)
        redis.delete(f"session:{HASH}")
        assert await apps.find_session(other, db, TOKEN) is not None
        assert await apps.end_session(cache, db, TOKEN)
        assert await apps.find_session(other, db, TOKEN) is None
        assert not await apps.end_session(cache, db, TOKEN)


async def test_whose_session_is_valid(cache: Cache, db: Database) -> None:
    async def found() -> bool:
        return await apps.find_session(cache, db, TOKEN) is not None

    await apps.open_session(cache, db, 7, TOKEN, LATER)
    assert await found()
    for change, back in (
        ("UPDATE platform.users SET is_active = false", "UPDATE platform.users SET is_active = true"),
        (
            "UPDATE platform.user_sessions SET expires_at = now()",
            "UPDATE platform.user_sessions SET expires_at = 'infinity'",
        ),
        ("UPDATE platform.user_sessions SET user_id = NULL", "UPDATE platform.user_sessions SET user_id = 7"),
    ):
        for sql, is_valid in ((change, False), (back, True)):
            await db.execute(sql)
            await cache.forget(apps.session_key(HASH))
            assert await found() is is_valid, sql
    await db.execute("UPDATE platform.user_sessions SET last_accessed = '2026-01-01'")
    await apps.touch_session(db, TOKEN)
    touched = await db.fetchval("SELECT last_accessed FROM platform.user_sessions")
    assert touched > LATER - timedelta(days=31)
    await apps.touch_session(db, TOKEN)
    assert await db.fetchval("SELECT last_accessed FROM platform.user_sessions") == touched
    for token in ("short", "x" * 5000):
        with pytest.raises(ValueError, match="a token has 22 to 4096 characters"):
            await apps.open_session(cache, db, 7, token, LATER)
        assert await apps.find_session(cache, db, token) is None
    with pytest.raises(DatabaseError):
        await apps.open_session(cache, db, 99, apps.new_token(), LATER)


async def test_times_that_other_sql_wrote_and_times_without_a_zone(cache: Cache, db: Database) -> None:
    await apps.open_session(cache, db, 7, TOKEN, LATER.replace(tzinfo=None))
    assert await db.fetchval("SELECT expires_at FROM platform.user_sessions") == LATER
    for time in ("infinity", "-infinity", "20000-01-01", "0044-03-15 BC"):
        await db.execute(f"UPDATE platform.user_sessions SET last_accessed = '{time}'")
        found = await apps.find_session(cache, db, TOKEN, fresh=True)
        assert found is not None
        assert (found.user_id, found.expires_at) == (7, LATER)
    refresh_token = apps.new_token()
    await apps.store_refresh_token(cache, db, 7, refresh_token, LATER.replace(tzinfo=None))
    assert await db.fetchval("SELECT expires_at FROM platform.refresh_tokens") == LATER


async def test_what_no_token_is_gets_an_answer(cache: Cache, db: Database) -> None:
    for text in ("", "\0", "\ud800" * 30, "\u00e9" * 5000):
        assert await apps.find_session(cache, db, text) is None
        assert await apps.find_refresh_token(cache, db, text) is None
        assert not await apps.revoke_refresh_token(cache, db, text)
        assert not await apps.end_session(cache, db, text)
        await apps.touch_session(db, text)


@pytest.mark.parametrize("limit", ["NaN", "Infinity", "-Infinity"])
async def test_a_limit_is_finite(cache: Cache, db: Database, limit: str) -> None:
    kept = RiskLimits(max_daily_loss=Decimal(5))
    await apps.set_risk_limits(cache, db, 7, kept)
    with pytest.raises(ValueError, match=r"max_daily_loss is .*: give a finite number, or None for no limit"):
        await apps.set_risk_limits(cache, db, 7, RiskLimits(max_daily_loss=Decimal(limit)))
    assert await apps.find_risk_limits(cache, db, 7) == kept


async def test_an_expired_copy_is_no_session(make_server: Make, db: Database) -> None:
    server = make_server()
    redis = reader(server.url)
    soon = {"user_id": 7, "expires_at": "2026-01-01T00:00:00+00:00", "last_accessed": "2026-01-01T00:00:00+00:00"}
    redis.set(f"session:{HASH}", json.dumps(soon))
    async with Cache.at(server.url, reply_timeout_s=10) as cache:
        assert await apps.find_session(cache, db, TOKEN) is None


async def test_refresh_tokens_are_exchanged_once(cache: Cache, db: Database, platform: DatabaseForTest) -> None:
    await apps.store_refresh_token(cache, db, 7, TOKEN, LATER)
    found = await apps.find_refresh_token(cache, db, TOKEN)
    assert found is not None
    assert (found.user_id, found.expires_at) == (7, LATER)
    second = await platform.connect()
    both = await asyncio.gather(
        apps.revoke_refresh_token(cache, db, TOKEN), apps.revoke_refresh_token(cache, second, TOKEN)
    )
    await second.close()
    assert sorted(both) == [False, True]
    assert await apps.find_refresh_token(cache, db, TOKEN) is None
    # A new password ends everything of this user, and nothing of another.
    tokens = [apps.new_token() for _ in range(4)]
    await apps.store_refresh_token(cache, db, 7, tokens[0], LATER)
    for token, user in zip(tokens[1:], (7, 7, 8), strict=True):
        await apps.open_session(cache, db, user, token, LATER)
        assert await apps.find_session(cache, db, token) is not None
    assert await apps.end_sessions_of(cache, db, 7) == 2
    assert await apps.find_refresh_token(cache, db, tokens[0]) is None
    assert [await apps.find_session(cache, db, token) is not None for token in tokens[1:]] == [False, False, True]


async def test_strategies_and_limits(make_server: Make, db: Database) -> None:
    server = make_server()
    redis = reader(server.url)
    await db.execute(
        "INSERT INTO platform.strategies (id, user_id, name, config, is_active)"
        """ VALUES (1, 7, 'a', '{"fast": 12, "weight": 0.5}', true), (2, 7, 'b', NULL, true),"""
        " (3, 7, 'c', '[]', false)"
    )
    async with Cache.at(server.url, reply_timeout_s=10) as cache:
        for _ in range(2):  # from the table, then from the copy
            assert await apps.active_strategies(cache, db) == [1, 2]
            assert await apps.find_strategy(cache, db, 1) == Strategy({"fast": 12, "weight": 0.5}, True)
            assert await apps.find_strategy(cache, db, 2) == Strategy(None, True)
            assert await apps.find_strategy(cache, db, 4) is None
            assert await apps.find_risk_limits(cache, db, 7) is None
        assert json.loads(redis.get("strategies:active")) == [1, 2]
        assert json.loads(redis.get("strategy:1")) == {"config": {"fast": 12, "weight": 0.5}, "is_active": True}
        assert 60 < redis.ttl("strategy:1") <= 300
        assert redis.exists("strategy:4") == 0
        assert await apps.change_strategy(cache, db, 1, is_active=False)
        assert await apps.active_strategies(cache, db) == [2]
        assert await apps.change_strategy(cache, db, 1, config={"fast": 9})
        assert await apps.find_strategy(cache, db, 1) == Strategy({"fast": 9}, False)
        assert not await apps.change_strategy(cache, db, 4, is_active=True)

        exact = RiskLimits(max_position_value=Decimal("123456789012345678.123456789012345678"), max_orders_per_hour=60)
        await apps.set_risk_limits(cache, db, 7, RiskLimits(max_daily_loss=Decimal(5)))
        await apps.set_risk_limits(cache, db, 7, exact)
        redis.delete("risk_limits:7")
        for _ in range(2):
            assert await apps.find_risk_limits(cache, db, 7) == exact
        assert await db.fetchval("SELECT count(*) FROM platform.risk_limits") == 1
        assert b"123456789012345678.123456789012345678" in redis.get("risk_limits:7").encode()
        with pytest.raises(DatabaseError):
            await apps.set_risk_limits(cache, db, 99, exact)


@pytest.mark.parametrize("spoil", ["text", "other", "list"])
async def test_a_spoiled_value_is_read_from_the_table(make_server: Make, db: Database, spoil: str) -> None:
    server = make_server()
    redis = reader(server.url)
    await apps.set_risk_limits(Cache.at("redis://127.0.0.1:1/0"), db, 7, RiskLimits(max_daily_loss=Decimal(5)))
    async with Cache.at(server.url, reply_timeout_s=10) as cache:
        key = "risk_limits:7"
        if spoil == "list":
            redis.rpush(key, "x")
        else:
            redis.set(key, {"text": b"\xff{", "other": '{"max_daily_loss": true}'}[spoil])
        assert await apps.find_risk_limits(cache, db, 7) == RiskLimits(max_daily_loss=Decimal(5))
        await holds_over(redis, key)  # mended
        assert await apps.find_risk_limits(cache, db, 7) == RiskLimits(max_daily_loss=Decimal(5))
        assert json.loads(redis.get(key))["max_daily_loss"] == 5


async def test_without_redis_every_answer_is_the_table_s(make_server: Make, db: Database) -> None:
    server = make_server()
    async with Cache.at(server.url, connect_timeout_s=2, reply_timeout_s=2) as cache:
        await apps.open_session(cache, db, 7, TOKEN, LATER)
        reader(server.url).flushall()
        assert await apps.find_session(cache, db, TOKEN) is not None
        server.kill()
        assert await apps.find_session(cache, db, TOKEN) is not None
        assert await apps.end_session(cache, db, TOKEN)
        assert await apps.find_session(cache, db, TOKEN) is None
        await apps.set_risk_limits(cache, db, 7, RiskLimits(max_drawdown=Decimal("0.2")))
        assert await apps.find_risk_limits(cache, db, 7) == RiskLimits(max_drawdown=Decimal("0.2"))
        assert await apps.active_strategies(cache, db) == []
        assert not await apps.put_metric(cache, "risk", "exposure", 1)
        assert await apps.find_metric(cache, "risk", "exposure") is None
        server.start()
        await until_it_answers(cache)
        # What could not be said while it was away is said before anything is believed.
        stale = {"user_id": 7, "expires_at": LATER.isoformat(), "last_accessed": LATER.isoformat()}
        reader(server.url).set(f"session:{HASH}", json.dumps(stale))
        assert await apps.find_session(cache, db, TOKEN) is None
        await holds_over(reader(server.url), f"session:{HASH}")


async def test_the_documented_rights_are_enough(make_server: Make, db: Database) -> None:
    server = make_server()
    (rule,) = re.findall(r"ACL (SETUSER platform .*?)\n\n", PAGE, re.DOTALL)
    reader(server.url).execute_command("ACL", *rule.replace("\\\n", " ").split())
    async with Cache.at(server.url.replace("//", "//platform:secret@"), reply_timeout_s=10) as cache:
        await apps.open_session(cache, db, 7, TOKEN, LATER)
        reader(server.url).flushall()
        assert await apps.find_session(cache, db, TOKEN) is not None
        assert await apps.active_strategies(cache, db) == []
        assert (await apps.count_request(cache, db, 7, "/orders", limit=1, window_s=3600)).allowed
        assert await apps.put_metric(cache, "risk", "exposure", 1)
        assert await apps.find_metric(cache, "risk", "exposure") is not None
    left = {f"session:{HASH}", "strategies:active", "rate_limit:7:/orders", "metrics:risk:exposure"}
    assert set(reader(server.url).scan_iter()) == left
    assert await db.fetchval("SELECT count(*) FROM platform.rate_limits") == 0


async def until_it_answers(cache: Cache) -> None:
    async with asyncio.timeout(60):
        while not await apps.put_metric(cache, "test", "is_there", 1):
            await asyncio.sleep(0.05)


async def test_a_full_server_costs_time_alone(make_server: Make, db: Database) -> None:
    server = make_server(maxmemory="1", maxmemory_policy="noeviction")
    async with Cache.at(server.url, reply_timeout_s=10) as cache:
        await apps.open_session(cache, db, 7, TOKEN, LATER)
        assert await apps.find_session(cache, db, TOKEN) is not None
        assert await apps.end_session(cache, db, TOKEN)
        assert await apps.find_session(cache, db, TOKEN) is None
        assert (await apps.count_request(cache, db, 7, "/orders", limit=1, window_s=3600)).allowed
        assert not (await apps.count_request(cache, db, 7, "/orders", limit=1, window_s=3600)).allowed


async def test_in_a_transaction_the_table_is_read_and_nothing_is_written(cache: Cache, db: Database) -> None:
    await apps.set_risk_limits(cache, db, 7, RiskLimits(max_daily_loss=Decimal(5)))
    async with db.transaction():
        await db.execute("UPDATE platform.risk_limits SET max_daily_loss = 9")
        found = await apps.find_risk_limits(cache, db, 7)
        assert found is not None
        assert found.max_daily_loss == 9
        for work in (
            apps.end_session(cache, db, TOKEN),
            apps.set_risk_limits(cache, db, 7, RiskLimits()),
            apps.change_strategy(cache, db, 1, is_active=True),
        ):
            with pytest.raises(RuntimeError, match="a transaction is open"):
                await work


async def test_without_the_pack_the_message_says_what_to_do(cache: Cache, postgres_database: DatabaseForTest) -> None:
    db = await postgres_database.connect()
    with pytest.raises(SchemaError, match=r'packs = \["platform"\] into \[database\], and run `ingestd migrate -c'):
        await apps.find_session(cache, db, TOKEN)
    await db.close()
