"""The read-through cache: tables are the truth, Redis holds copies for a time.

A copy is never older than its time to live. Within one cache, and for every cache that reaches the same Redis, it is
also never older than the last write through this module, whatever runs at once:

- After a write has committed, its key is *held* for `HOLD_S`: it has the value `null`, which is no copy.
- A copy is stored only where there is no key (`SET NX`), and only within `FILL_WITHIN_S` of the read of the table. So
  who read the table before the write cannot store what he read after it.
- A key that could not be held, because Redis was away, is read from the table until it is held or no copy of it lives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

import msgspec

from ingestd.applications.redis_calls import Calls, RedisCalls
from ingestd.clock import monotonic_s
from ingestd.errors import LiveServerError
from ingestd.sinks.redis.options import RedisConfig
from ingestd.storage.database import Database

CopyT = TypeVar("CopyT")

HOLD_S = 10
FILL_WITHIN_S = 5.0
LONGEST_TTL_S = 300.0
LARGEST_BYTES = 2**20
"""A longer copy is not stored."""

_HELD = b"null"
_MAX_UNTOLD = 10_000


class Cache:
    """Copies of rows in Redis. Tasks of one event loop may share it. Close it at the end, or use `async with`."""

    def __init__(self, config: RedisConfig, calls: Calls | None = None) -> None:
        """`calls` replaces the connection to `config.url`."""
        self._calls: Calls = RedisCalls(config) if calls is None else calls
        self._untold: dict[str, float] = {}  # keys that could not be held, and until when copies of them may live
        self._unused_until_s = float("-inf")

    @classmethod
    def at(cls, url: str, **options: Any) -> Self:
        """A cache at this URL; further options as in the section `[redis]`, such as `password_file`."""
        return cls(RedisConfig(url=url, **options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up."""
        await self._calls.close()

    async def call(self, key: str, *commands: list[bytes]) -> list[Any]:
        """Replies of Redis for what has no table. Raises LiveServerError; a refused command's reply is one."""
        return await self._calls.call(key, *commands)

    async def read(
        self,
        key: str,
        kind: type[CopyT],
        db: Database,
        from_table: Callable[[], Awaitable[str | None]],
        ttl_s: Callable[[CopyT], float],
    ) -> CopyT | None:
        """The copy under a key, or what the table has: JSON text of this kind, or None.

        In an open transaction of `db` the table is read, since it may hold what only this transaction sees.
        """
        if db.in_transaction or not await self._is_usable(key):
            return _decoded(kind, await from_table())
        try:
            (found,) = await self._calls.call(key, [b"GET", key.encode()])
        except LiveServerError:
            return _decoded(kind, await from_table())
        if found is not None and found != _HELD:
            try:
                return msgspec.json.decode(found, type=kind)
            except (msgspec.DecodeError, TypeError, UnicodeDecodeError):  # spoiled: no JSON of this kind, or no text
                await self.forget(key)
        began_s = monotonic_s()
        text = await from_table()
        value = _decoded(kind, text)
        if found is None and value is not None and text is not None and monotonic_s() - began_s < FILL_WITHIN_S:
            await self._store(key, text.encode(), ttl_s(value))
        return value

    async def forget(self, *keys: str) -> None:
        """Let no copy of what was written be read any more. Call it after the commit; never raises for Redis."""
        for key in keys:
            if not await self._hold(key):
                self._untold[key] = monotonic_s() + LONGEST_TTL_S + HOLD_S
        if len(self._untold) > _MAX_UNTOLD:
            self._unused_until_s = max(self._untold.values())
            self._untold.clear()

    async def _store(self, key: str, text: bytes, ttl_s: float) -> None:
        ttl_ms = int(min(ttl_s, LONGEST_TTL_S) * 1000)
        if ttl_ms <= 0 or len(text) > LARGEST_BYTES:
            return
        try:
            await self._calls.call(key, [b"SET", key.encode(), text, b"PX", b"%d" % ttl_ms, b"NX"])
        except LiveServerError:
            return  # the next reader stores it

    async def _hold(self, key: str) -> bool:
        try:
            (reply,) = await self._calls.call(key, [b"SET", key.encode(), _HELD, b"EX", b"%d" % HOLD_S])
            if isinstance(reply, LiveServerError):  # out of memory: then nobody else can store a copy
                (reply,) = await self._calls.call(key, [b"DEL", key.encode()])
        except LiveServerError:
            return False
        return not isinstance(reply, LiveServerError)

    async def _is_usable(self, key: str) -> bool:
        """Hold what could not be held before. False: a copy of this key may be too old."""
        now_s = monotonic_s()
        for untold, until_s in list(self._untold.items()):
            if until_s > now_s and not await self._hold(untold):
                break
            if self._untold.get(untold) == until_s:  # not written again meanwhile
                del self._untold[untold]
        return key not in self._untold and now_s >= self._unused_until_s


def _decoded(kind: type[CopyT], text: str | None) -> CopyT | None:
    return None if text is None else msgspec.json.decode(text, type=kind)
