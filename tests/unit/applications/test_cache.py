"""What the cache stores, and when it does not ask Redis; time is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from ingestd.applications.cache import FILL_WITHIN_S, HOLD_S, LARGEST_BYTES, LONGEST_TTL_S, Cache
from ingestd.applications.redis_calls import RedisCalls
from ingestd.errors import LiveServerError
from ingestd.sinks.redis.options import RedisConfig
from ingestd.storage.database import Database


class NoTransaction:
    in_transaction = False


@dataclass
class Rig:
    """A Redis without times to live, a table of one text, and a clock."""

    away: bool = False
    kept: dict[bytes, bytes] = field(default_factory=dict)
    asked: list[tuple[bytes, ...]] = field(default_factory=list)
    now_s: float = 1000.0
    table: str | None = "7"
    table_takes_s: float = 0.0

    async def call(self, key: str, *commands: Sequence[bytes]) -> list[Any]:
        if self.away:
            raise LiveServerError("away")
        self.asked += [tuple(command) for command in commands]
        return [self.answer(*command) for command in commands]

    def answer(self, name: bytes, key: bytes, *arguments: bytes) -> Any:
        if name == b"GET":
            return self.kept.get(key)
        if b"NX" not in arguments or key not in self.kept:
            self.kept[key] = arguments[0]
        return b"OK"

    async def close(self) -> None:
        """Nothing is open."""

    async def from_table(self) -> str | None:
        self.now_s += self.table_takes_s
        return self.table


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    rig = Rig()
    monkeypatch.setattr("ingestd.applications.cache.monotonic_s", lambda: rig.now_s)
    return rig


async def read(cache: Cache, rig: Rig, key: str = "k", ttl_s: float = 60.0) -> int | None:
    return await cache.read(key, int, cast(Database, NoTransaction()), rig.from_table, lambda _: ttl_s)


async def test_a_copy_lives_for_its_time(rig: Rig) -> None:
    cache = Cache(RedisConfig(), rig)
    assert [await read(cache, rig), await read(cache, rig)] == [7, 7]
    assert rig.asked == [(b"GET", b"k"), (b"SET", b"k", b"7", b"PX", b"60000", b"NX"), (b"GET", b"k")]
    assert await read(cache, rig, "other", ttl_s=9e9) == 7
    assert (b"SET", b"other", b"7", b"PX", b"%d" % (1000 * LONGEST_TTL_S), b"NX") in rig.asked


@pytest.mark.parametrize(
    ("changes", "ttl_s"),
    [
        ({"table_takes_s": FILL_WITHIN_S}, 60.0),
        ({"table": " " * LARGEST_BYTES + "7"}, 60.0),
        ({"table": None}, 60.0),
        ({}, 0.0),
        ({}, -5.0),
    ],
)
async def test_what_is_not_stored(rig: Rig, changes: dict[str, Any], ttl_s: float) -> None:
    for name, value in changes.items():
        setattr(rig, name, value)
    assert await read(Cache(RedisConfig(), rig), rig, ttl_s=ttl_s) == (None if rig.table is None else 7)
    assert rig.asked == [(b"GET", b"k")]


async def test_what_could_not_be_held_is_held_first(rig: Rig) -> None:
    cache = Cache(RedisConfig(), rig)
    rig.kept = {b"a": b"1", b"b": b"1", b"c": b"1"}
    rig.away = True
    await cache.forget("a", "b")
    rig.away = False
    assert await read(cache, rig, "c") == 1
    hold = (b"null", b"EX", b"%d" % HOLD_S)
    assert rig.asked == [(b"SET", b"a", *hold), (b"SET", b"b", *hold), (b"GET", b"c")]
    assert [await read(cache, rig, "a"), await read(cache, rig, "b")] == [7, 7]


async def test_of_what_could_not_be_held_no_copy_lives_after_its_time(rig: Rig) -> None:
    cache = Cache(RedisConfig(), rig)
    rig.away = True
    await cache.forget("a")
    rig.now_s += LONGEST_TTL_S + HOLD_S
    rig.away = False
    assert await read(cache, rig, "a") == 7
    assert rig.asked[0] == (b"GET", b"a")


async def test_after_too_many_it_uses_no_copy_for_the_longest_time(rig: Rig) -> None:
    cache = Cache(RedisConfig(), rig)
    rig.away = True
    await cache.forget(*(f"key {number}" for number in range(10_001)))
    rig.away = False
    rig.kept = {b"key 5": b"1", b"other": b"1"}
    for key in ("key 5", "other"):
        assert await read(cache, rig, key) == 7
    assert rig.asked == []
    rig.now_s += LONGEST_TTL_S + HOLD_S
    assert await read(cache, rig, "other") == 1


async def test_a_server_that_is_away_is_left_alone_and_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, dialled = 1000.0, 0

    async def count_and_close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dialled
        dialled += 1
        writer.close()
        await writer.wait_closed()

    monkeypatch.setattr("ingestd.applications.redis_calls.monotonic_s", lambda: now_s)
    server = await asyncio.start_server(count_and_close, "127.0.0.1", 0)
    calls = RedisCalls(RedisConfig(url=f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"))
    for known in (1, 2):
        waiting = [calls.call("k", [b"GET", b"k"]) for _ in range(50)]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(outcome, LiveServerError) for outcome in outcomes)
        assert dialled == known
        now_s += 1.5
    await calls.close()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("url", ["http://user:4711Zx9q@host", "redis://:4711Zx9q@:99999/0"])
def test_a_wrong_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="Value error") as caught:
        Cache.at(url)
    assert "4711Zx9q" not in str(caught.value)
