"""Strategies and risk limits: rows of `platform.strategies` and `platform.risk_limits`, with copies in Redis."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from ingestd.applications import tables
from ingestd.applications.cache import Cache
from ingestd.storage.database import Database

ACTIVE_TTL_S = 60.0
STRATEGY_TTL_S = 300.0
RISK_LIMITS_TTL_S = 60.0

ACTIVE_KEY = "strategies:active"


class Strategy(msgspec.Struct, frozen=True):
    """A strategy. `config` is what its JSON holds; None if it has none."""

    config: Any
    is_active: bool


class RiskLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a user, in the units that the platform gives them; None: no limit."""

    max_position_value: Decimal | None = None
    max_daily_loss: Decimal | None = None
    max_drawdown: Decimal | None = None
    max_orders_per_hour: int | None = None


_ACTIVE = "SELECT coalesce(jsonb_agg(id ORDER BY id), '[]')::text FROM platform.strategies WHERE is_active"
_STRATEGY = """
SELECT jsonb_build_object('config', config, 'is_active', coalesce(is_active, false))::text
FROM platform.strategies WHERE id = $1"""
# Nothing keeps a user from having several rows: the latest counts.
_RISK_LIMITS = """
SELECT jsonb_build_object('max_position_value', max_position_value, 'max_daily_loss', max_daily_loss,
                          'max_drawdown', max_drawdown, 'max_orders_per_hour', max_orders_per_hour)::text
FROM platform.risk_limits WHERE user_id = $1 ORDER BY updated_at DESC NULLS LAST, id DESC LIMIT 1"""
_ADD_LIMITS = """
INSERT INTO platform.risk_limits
    (user_id, max_position_value, max_daily_loss, max_drawdown, max_orders_per_hour, updated_at)
VALUES ($1, $2, $3, $4, $5, clock_timestamp())"""


def strategy_key(strategy_id: int) -> str:
    """The key of a strategy, for `Cache.forget` after SQL of your own."""
    return f"strategy:{strategy_id}"


def risk_limits_key(user_id: int) -> str:
    """The key of a user's limits, as `strategy_key`."""
    return f"risk_limits:{user_id}"


async def active_strategies(cache: Cache, db: Database) -> list[int]:
    """The ids of all active strategies, in order."""

    async def from_table() -> str | None:
        text: str = await tables.value(db, _ACTIVE)
        return text

    return await cache.read(ACTIVE_KEY, list[int], db, from_table, lambda _: ACTIVE_TTL_S) or []


async def find_strategy(cache: Cache, db: Database, strategy_id: int) -> Strategy | None:
    """A strategy; None if there is none of this id."""

    async def from_table() -> str | None:
        text: str | None = await tables.value(db, _STRATEGY, strategy_id)
        return text

    return await cache.read(strategy_key(strategy_id), Strategy, db, from_table, lambda _: STRATEGY_TTL_S)


async def change_strategy(
    cache: Cache, db: Database, strategy_id: int, *, config: Any = msgspec.UNSET, is_active: bool | None = None
) -> bool:
    """Change a strategy; what is not given stays. Whether there is one of this id."""
    text = None if config is msgspec.UNSET else msgspec.json.encode(config).decode()
    changed = await tables.write(
        db,
        "UPDATE platform.strategies SET config = coalesce($2::jsonb, config), is_active = coalesce($3, is_active),"
        " updated_at = now() WHERE id = $1 RETURNING id",
        strategy_id,
        text,
        is_active,
    )
    await cache.forget(strategy_key(strategy_id), ACTIVE_KEY)
    return bool(changed)


async def find_risk_limits(cache: Cache, db: Database, user_id: int) -> RiskLimits | None:
    """The limits of a user; None if none were set."""

    async def from_table() -> str | None:
        text: str | None = await tables.value(db, _RISK_LIMITS, user_id)
        return text

    return await cache.read(risk_limits_key(user_id), RiskLimits, db, from_table, lambda _: RISK_LIMITS_TTL_S)


async def set_risk_limits(cache: Cache, db: Database, user_id: int, limits: RiskLimits) -> None:
    """Replace the limits of a user.

    Raises ValueError for a limit that is not finite (no value exceeds NaN), DatabaseError if there is no such user.
    """
    for name in ("max_position_value", "max_daily_loss", "max_drawdown"):
        if (limit := getattr(limits, name)) is not None and not limit.is_finite():
            raise ValueError(f"{name} is {limit}: give a finite number, or None for no limit")
    tables.require_no_transaction(db)
    async with db.transaction():
        await tables.fetch(db, "SELECT FROM platform.users WHERE id = $1 FOR NO KEY UPDATE", user_id)
        await tables.fetch(db, "DELETE FROM platform.risk_limits WHERE user_id = $1", user_id)
        await tables.fetch(
            db,
            _ADD_LIMITS,
            user_id,
            limits.max_position_value,
            limits.max_daily_loss,
            limits.max_drawdown,
            limits.max_orders_per_hour,
        )
    await cache.forget(risk_limits_key(user_id))
