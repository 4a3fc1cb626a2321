"""How often a user called an endpoint, and the latest values of metrics.

A window begins with its first request and ends `window_s` later, by the clock of the server that counts: Redis, or
the table `platform.rate_limits` while Redis is away. In the window in which the one takes over from the other, each
counts what it saw: at most twice the limit passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from ingestd.applications import tables
from ingestd.applications.cache import Cache
from ingestd.clock import iso_text, now_us
from ingestd.errors import LiveServerError
from ingestd.storage.database import Database

METRIC_TTL_S = 300
LONGEST_NAME = 200
LONGEST_WINDOW_S = 86_400.0

# Each request removes a few rows of windows that ended long ago, so that their number stays bounded.
_COUNT = """
WITH old AS (
    DELETE FROM platform.rate_limits WHERE (user_id, endpoint) IN (
        SELECT user_id, endpoint FROM platform.rate_limits
        WHERE reset_time < now() - INTERVAL '1 hour' AND (user_id, endpoint) <> ($1, $2)
        ORDER BY reset_time LIMIT 10 FOR UPDATE SKIP LOCKED))
INSERT INTO platform.rate_limits AS known (user_id, endpoint, count, reset_time)
VALUES ($1, $2, 1, clock_timestamp() + $3)
ON CONFLICT (user_id, endpoint) DO UPDATE
SET count = CASE WHEN known.reset_time <= clock_timestamp() THEN 1 ELSE known.count + 1 END,
    reset_time = CASE WHEN known.reset_time <= clock_timestamp() OR known.reset_time > clock_timestamp() + $3
                      THEN clock_timestamp() + $3 ELSE known.reset_time END
RETURNING count, reset_time"""


@dataclass(frozen=True, slots=True)
class Rate:
    """The outcome of one request: whether it is within the limit, how many the window has, and when it ends."""

    allowed: bool
    count: int
    reset_time: datetime


@dataclass(frozen=True, slots=True)
class Metric:
    """The latest value of a metric, and its time."""

    value: Decimal
    timestamp: datetime


def rate_limit_key(user_id: int, endpoint: str) -> str:
    """The key of a user's count. Raises ValueError for a name that no endpoint has."""
    return f"rate_limit:{user_id}:{_require_name(endpoint, 'endpoint')}"


async def count_request(
    cache: Cache, db: Database, user_id: int, endpoint: str, *, limit: int, window_s: float
) -> Rate:
    """Count a request, and say whether it is one of the first `limit` of its window.

    Of any number of concurrent requests exactly `limit` are allowed. Raises ValueError for a window that is not between
    a millisecond and a day.
    """
    if not 0.001 <= window_s <= LONGEST_WINDOW_S:
        raise ValueError(f"a window of {window_s:g} s: it lasts from 0.001 to {LONGEST_WINDOW_S:g} s")
    key = rate_limit_key(user_id, endpoint)
    try:
        count, left_ms = await _counted(cache, key, round(window_s * 1000))
        reset_time = datetime.now(UTC) + timedelta(milliseconds=left_ms)
    except LiveServerError:
        (row,) = await tables.fetch(db, _COUNT, user_id, endpoint, timedelta(seconds=window_s))
        count, reset_time = row["count"], row["reset_time"]
    return Rate(count <= limit, count, reset_time)


async def put_metric(cache: Cache, component: str, name: str, value: Decimal | float) -> bool:
    """Show the latest value of a metric for five minutes, as the daemon shows its own. False: Redis is away.

    Metrics have no table; what must be kept belongs into `platform.performance_metrics`.
    """
    key = _metric_key(component, name)
    fields = [b"value", str(value).encode(), b"timestamp", iso_text(now_us()).encode()]
    commands = [b"HSET", key.encode(), *fields], [b"EXPIRE", key.encode(), b"%d" % METRIC_TTL_S]
    try:
        replies = await cache.call(key, [b"MULTI"], *commands, [b"EXEC"])
    except LiveServerError:
        return False
    return not any(isinstance(reply, Exception) for reply in [*replies, *_results(replies)])


async def find_metric(cache: Cache, component: str, name: str) -> Metric | None:
    """The latest value of a metric; None if there is none, it is spoiled, or Redis is away."""
    key = _metric_key(component, name)
    try:
        (found,) = await cache.call(key, [b"HMGET", key.encode(), b"value", b"timestamp"])
        value, time = (field.decode() for field in found)
        return Metric(Decimal(value), datetime.fromisoformat(time))
    except (LiveServerError, TypeError, AttributeError, ValueError, InvalidOperation):
        return None


async def _counted(cache: Cache, key: str, window_ms: int) -> tuple[int, int]:
    """How many requests the window has with this one, and the milliseconds to its end.

    MULTI lets nothing come between: the window begins if there is none, and then the request counts.
    """
    name, window = key.encode(), b"%d" % window_ms
    begin = [b"SET", name, b"0", b"PX", window, b"NX"]
    replies = await cache.call(key, [b"MULTI"], begin, [b"INCR", name], [b"PTTL", name], [b"EXEC"])
    for reply in replies:
        if isinstance(reply, LiveServerError):
            raise reply
    _, count, left_ms = _results(replies)
    if not isinstance(count, int) or count < 1:  # spoiled: no number, or none that counting gives
        await _require_done(cache, key, [b"SET", name, b"1", b"PX", window])
        return 1, window_ms
    if not 0 <= left_ms <= window_ms:
        # No end: it ended between SET and INCR, which servers before Redis 7 may do. Or the window is shorter now.
        await _require_done(cache, key, [b"PEXPIRE", name, window])
        left_ms = window_ms
    return count, left_ms


async def _require_done(cache: Cache, key: str, command: list[bytes]) -> None:
    (reply,) = await cache.call(key, command)
    if isinstance(reply, LiveServerError):
        raise reply


def _results(replies: list[Any]) -> list[Any]:
    """What the commands of a transaction answered; the replies before it only say that each was queued."""
    return replies[-1] if isinstance(replies[-1], list) else []


def _metric_key(component: str, name: str) -> str:
    if ":" in component:  # else it would not be clear where the metric's name begins
        raise ValueError("the name of the component must have no colon")
    return f"metrics:{_require_name(component, 'component')}:{_require_name(name, 'metric')}"


def _require_name(name: str, what: str) -> str:
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise ValueError(f"the name of the {what} must have 1 to {LONGEST_NAME} printable characters")
    return name
