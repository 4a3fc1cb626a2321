"""The candle relations as data: the source of each, and its refresh policy on TimescaleDB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ingestd.config.models import Config, RefreshRule, RetentionConfig
from ingestd.errors import ConfigError, Problem

FOR_EVER = 0
_EVERYTHING_DAYS = 3650  # stands for "for ever", which a policy cannot say

_MONDAY = datetime(2000, 1, 3, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Level:
    """One candle relation.

    `width` is None for calendar months. `settled_after` and `every` are the policy's end offset and schedule, written
    as PostgreSQL prints intervals. `minimum_days` is the least retention (its own and its source's) that still leaves
    room for a refresh.
    """

    relation: str
    source: str
    width: timedelta | None
    settled_after: str
    every: str
    minimum_days: int

    @property
    def retention_keys(self) -> tuple[str, str]:
        """The options that say how long the source is kept, and how long this relation."""
        source, own = (f"{name.replace('_1M', '_1month')}_days" for name in (self.source, self.relation))
        return source, own

    @property
    def identifier(self) -> str:
        """The name as an SQL identifier: `"candles_1M"` needs its quotes."""
        return f'"{self.relation}"'

    def start_of_bucket(self, instant: datetime) -> datetime:
        """The start of the bucket that contains `instant`: UTC, weeks on Monday, months on the first."""
        instant = instant.astimezone(UTC)
        if self.width is None:
            return datetime(instant.year, instant.month, 1, tzinfo=UTC)
        return instant - (instant - _MONDAY) % self.width

    def next_bucket(self, start: datetime) -> datetime:
        """The start of the bucket after the one that starts at `start`."""
        if self.width is not None:
            return start + self.width
        return datetime(start.year + start.month // 12, start.month % 12 + 1, 1, tzinfo=UTC)

    def refresh(self, config: Config) -> tuple[str, str, str]:
        """The policy's start and end offset and schedule, as PostgreSQL writes them."""
        rule: RefreshRule = getattr(config.refresh, self.relation)
        return (
            self.lookback(config.retention) if rule.back_days is None else interval_days(rule.back_days),
            self.settled_after if rule.settled_minutes is None else interval_minutes(rule.settled_minutes),
            self.every if rule.every_minutes is None else interval_minutes(rule.every_minutes),
        )

    def lookback(self, retention: RetentionConfig) -> str:
        """How far back the policy refreshes: as far as both the source and the candles are kept.

        Only buckets with new rows are computed again, so a long window costs nothing and late trades reach their
        candles. A refresh over dropped rows would delete their candles.
        """
        kept_days = [days for key in self.retention_keys if (days := getattr(retention, key)) != FOR_EVER]
        if kept_days and min(kept_days) <= 1:
            return "12:00:00"
        return interval_days(min([_EVERYTHING_DAYS, *(days - 1 for days in kept_days)]))


def interval_days(days: int) -> str:
    """A number of days as PostgreSQL writes it: `1 day`, `30 days`."""
    return "1 day" if days == 1 else f"{days} days"


def interval_minutes(minutes: int) -> str:
    """A number of minutes as PostgreSQL writes it: `00:05:00`."""
    return f"{minutes // 60:02d}:{minutes % 60:02d}:00"


def require_room(config: Config) -> None:
    """Raise ConfigError, naming every setting under which a rollup would be refreshed over dropped rows, or never."""
    found: dict[str, Problem] = {}
    retention = config.retention
    for level in AGGREGATES:
        for key in level.retention_keys:
            days = getattr(retention, key)
            if days != FOR_EVER and days < level.minimum_days:
                hint = f"use at least {level.minimum_days}, or 0 to keep for ever"
                found[key] = Problem(f"retention.{key}", f"is too short to build {level.relation}", str(days), hint)
        assert level.width is not None
        rule = _of_rule(level.relation, config, level.retention_keys, level.width, _minutes(level.settled_after))
        if rule is not None:
            found[rule.path] = rule
    for own in OF_PACKS:
        if (rule := _of_rule(own.option, config, (own.kept,), own.width, _PACK_MINUTES)) is not None:
            found[rule.path] = rule
    if found:
        raise ConfigError(list(found.values()))


def _of_rule(
    relation: str, config: Config, keys: Sequence[str], width: timedelta, settled_minutes: int
) -> Problem | None:
    """What is wrong with how far back a relation is to be refreshed: rows are dropped there, or it has no two buckets.

    `keys`: the options that say how long its source and its own rows are kept.
    """
    rule: RefreshRule = getattr(config.refresh, relation)
    if rule.back_days is None:
        return None
    path, found = f"refresh.{relation}.back_days", str(rule.back_days)
    kept = [days for key in keys if (days := getattr(config.retention, key)) != FOR_EVER]
    if kept and rule.back_days >= min(kept):
        hint = f"use less than {min(kept)}, see {' and '.join(f'retention.{key}' for key in keys)}"
        return Problem(path, "looks back over rows that are dropped", found, hint)
    needed = 2 * width + timedelta(minutes=rule.settled_minutes or settled_minutes)
    if timedelta(days=rule.back_days) < needed:
        hint = f"use at least {-(-needed // timedelta(days=1))}"
        return Problem(path, "is less than two buckets and the time until they are settled", found, hint)
    return None


def _minutes(interval: str) -> int:
    hours, minutes, _ = map(int, interval.split(":"))
    return 60 * hours + minutes


# Each but the first is computed from one before it.
LEVELS: tuple[Level, ...] = (
    Level("candles_1m", "trades", timedelta(minutes=1), "00:01:00", "00:01:00", 1),
    Level("candles_5m", "candles_1m", timedelta(minutes=5), "00:05:00", "00:05:00", 1),
    Level("candles_15m", "candles_1m", timedelta(minutes=15), "00:05:00", "00:05:00", 1),
    Level("candles_30m", "candles_1m", timedelta(minutes=30), "00:05:00", "00:05:00", 1),
    Level("candles_1h", "candles_1m", timedelta(hours=1), "01:00:00", "00:15:00", 1),
    Level("candles_4h", "candles_1h", timedelta(hours=4), "01:00:00", "00:30:00", 2),
    Level("candles_1d", "candles_1h", timedelta(days=1), "01:00:00", "01:00:00", 4),
    Level("candles_1w", "candles_1d", timedelta(days=7), "01:00:00", "06:00:00", 22),
    Level("candles_1M", "candles_1d", None, "01:00:00", "06:00:00", 94),
)
TICK_HOURS = Level("ohlcv_1h", "market_ticks", timedelta(hours=1), "01:00:00", "00:15:00", 1)

_PACK_DAYS, _PACK_MINUTES = 3, 60  # as their migration has it: back, settled, every


@dataclass(frozen=True, slots=True)
class OwnAggregate:
    """An aggregate of a pack. `kept`: the option that says how long its source is kept."""

    pack: str
    relation: str
    width: timedelta
    kept: str

    @property
    def option(self) -> str:
        return f"{self.pack}_{self.relation}"

    def refresh(self, config: Config) -> tuple[str, str, str]:
        """As that of a `Level`."""
        rule: RefreshRule = getattr(config.refresh, self.option)
        return (
            interval_days(rule.back_days or _PACK_DAYS),
            interval_minutes(rule.settled_minutes or _PACK_MINUTES),
            interval_minutes(rule.every_minutes or _PACK_MINUTES),
        )


OF_PACKS: tuple[OwnAggregate, ...] = (
    OwnAggregate("fks", "daily_account_performance", timedelta(days=1), "fks_trades_days"),
    OwnAggregate("fks", "hourly_exchange_ohlcv", timedelta(hours=1), "ohlcv_data_minutes_days"),
)

# What TimescaleDB materialises: its monthly aggregates go stale (see sql/timescaledb/0002_candles.sql), so months are
# a view of days there.
AGGREGATES: tuple[Level, ...] = (*(level for level in LEVELS if level.width is not None), TICK_HOURS)
